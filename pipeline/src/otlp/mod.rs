//! OTLP read in place.

pub mod status;
