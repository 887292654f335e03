//! The relation between walk, views and prost that the property tests of `pipeline` hold: the same files.

#[path = "../../../pipeline/src/otlp/oracle/decoded.rs"]
mod decoded;
#[path = "../../../pipeline/src/otlp/oracle/decoded_metrics.rs"]
mod decoded_metrics;
#[path = "../../../pipeline/src/otlp/oracle/relation.rs"]
mod relation;

use homeostat_pipeline::batch::Signal;

/// Walk, views and prost agree on `body`.
pub fn check(signal: Signal, body: &[u8]) {
    relation::check(signal, body);
}
