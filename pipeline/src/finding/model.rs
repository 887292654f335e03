//! The model that holds from an epoch on, as far as the graph and the tables need it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::deviation::RequirementSource;
use crate::clock::Timestamp;

/// `homeostasis_model_changed`: which model holds from here on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelChanged {
    /// SHA-256 of the model's text, hex.
    pub model_hash: String,
    /// `version:` of the model; empty when it has none.
    pub version: String,
    /// When it began to hold, by the entry that said so.
    pub at: Timestamp,
    /// The hash of the model before; none for the first.
    pub previous_hash: Option<String>,
    /// Sorted by key.
    pub requirements: Vec<Requirement>,
}

/// One requirement of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Requirement {
    /// The canonical key.
    pub req_id: String,
    /// When the model has one.
    pub title: Option<String>,
    /// `performance` …; free text.
    pub requirement_type: Option<String>,
    /// `sea:{context}:{flow}`.
    pub spec_node_id: Option<String>,
    /// `adr`, `prd`, `sds` → ids.
    pub traces_to: BTreeMap<String, Vec<String>>,
    /// Measure → thresholds.
    pub thresholds: BTreeMap<String, Threshold>,
}

/// The thresholds of one measure, in `unit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Threshold {
    /// `ms`, `ratio` …
    pub unit: String,
    /// `lower_is_better` or `higher_is_better`.
    pub direction: String,
    /// `target`, `warning`, `critical`, `lower`, `upper` → value; only those stated.
    pub levels: BTreeMap<String, f64>,
    /// Where the requirement states it.
    pub source: Option<RequirementSource>,
}
