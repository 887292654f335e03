//! The summary of a spec node's evidence in one window.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// What one spec node did in one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Behavior {
    /// UUIDv5 of (spec node, window start, window end); the same for every version.
    pub uid: String,
    /// 1, then one more for each correction by late rows.
    pub version: u32,
    /// `sea:{context}:{flow}`.
    pub spec_node_id: String,
    /// `sea.context`.
    pub context: String,
    /// `sea.flow`.
    pub flow: String,
    /// First instant of the window.
    pub window_start: Timestamp,
    /// First instant after it.
    pub window_end: Timestamp,
    /// Observations in it.
    #[serde(with = "super::id::text")]
    #[schemars(with = "super::id::Digits")]
    pub count: u64,
    /// Those that failed.
    #[serde(with = "super::id::text")]
    #[schemars(with = "super::id::Digits")]
    pub errors: u64,
    /// Measure → value: `p50_latency_ms`, `p95_latency_ms`, `p99_latency_ms`, `error_rate`, `rate_per_second` …; only what is known.
    pub measures: BTreeMap<String, MeasureValue>,
    /// Requirement keys that the evidence named, sorted.
    pub req_ids: Vec<String>,
    /// The slowest and the failed traces, hex, at most eight.
    pub trace_ids: Vec<String>,
    /// What the correlation rests on, the least of the rows', 0 … 1.
    pub confidence: f64,
}

/// A number with its unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeasureValue {
    /// Finite.
    pub value: f64,
    /// `ms`, `ratio`, `per_second` …
    pub unit: String,
}
