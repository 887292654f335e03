//! OTLP read in place.
