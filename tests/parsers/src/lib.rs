//! What every parser of homeostat must hold for any bytes. Each function takes what a fuzzer made up, and panics when a promise
//! is broken; that the parser itself does not panic, overflow or eat memory is the first promise of all.
//!
//! `fuzz/` drives these with libFuzzer; `tests/corpus.rs` drives them over the same corpus with mutations of a fixed seed.

mod language;
mod oracle;
// The exporters as a whole would bring their sinks into the fuzzers.
#[path = "../../../exporters/src/otlp/retry_after.rs"]
mod retry_after;
mod stored;
mod wire;

// `oracle` includes files of `pipeline`, which look for the views two modules above themselves.
#[allow(unused_imports)]
use homeostat_pipeline::otlp::*;

/// A target's name, and what it does with its bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, in the order of the data's path.
pub const TARGETS: &[Target] = &[
    ("otlp", wire::otlp),
    ("json", wire::json),
    ("inflate", wire::inflate),
    ("grpc_frame", wire::grpc_frame),
    ("status", wire::status),
    ("headers", wire::headers),
    ("times", language::times),
    ("selector", language::selector),
    ("condition", language::condition),
    ("model", language::model),
    ("configuration", language::configuration),
    ("journal_entry", stored::journal_entry),
    ("ledger_entry", stored::ledger_entry),
    ("segment", stored::segment),
    ("checkpoint", stored::checkpoint),
];

/// The target `name`. Panics where there is none: then a fuzz target and this list disagree.
pub fn run(name: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    let (_, target) = found.unwrap_or_else(|| panic!("`{name}` is no target of homeostat-parsers"));
    target(data);
}
