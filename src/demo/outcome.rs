//! What the demo must show, and whether it did: each expected deviation opened and resolved.

use std::collections::BTreeMap;

use homeostat_pipeline::finding::{Deviation, Transition};

/// Requirement and measure of the deviations that the story leads to.
pub const EXPECTED: [(&str, &str); 2] =
    [("REQ-NFR-PERF-001", "p95_latency_ms"), ("REQ-NFR-REL-002", "error_rate")];

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Outcome {
    seen: BTreeMap<(String, String), Vec<Transition>>,
}

impl Outcome {
    /// Takes note of one step of a deviation's life.
    pub fn note(&mut self, deviation: &Deviation) {
        let key = (deviation.req_id.clone(), deviation.metric_name.clone());
        self.seen.entry(key).or_default().push(deviation.transition);
    }

    fn has(&self, (req, measure): (&str, &str), transition: Transition) -> bool {
        self.seen.get(&(req.to_owned(), measure.to_owned())).is_some_and(|seen| seen.contains(&transition))
    }

    /// Whether every expected deviation opened.
    pub fn all_opened(&self) -> bool {
        EXPECTED.into_iter().all(|expected| self.has(expected, Transition::Detected))
    }

    /// What is missing, for people; empty when the demo showed what it should.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (req, measure) in EXPECTED {
            for (transition, word) in [(Transition::Detected, "open"), (Transition::Resolved, "resolve")] {
                if !self.has((req, measure), transition) {
                    missing.push(format!("the deviation of {req} by {measure} did not {word}"));
                }
            }
        }
        missing
    }
}
