//! Evidence as columns.
