//! Tests of the fold as a whole.
