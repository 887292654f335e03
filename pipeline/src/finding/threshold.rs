//! A threshold that a person adjusted: another number from a date on. The trail shows who said so, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::deviation::Level;
use super::id::NAMESPACE;
use crate::clock::Timestamp;
use crate::entry::Offset;

/// What became of an adjustment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdjustmentChange {
    /// A person approved it; it holds from `effective_date` on.
    Approved,
    /// That date came.
    Effective,
    /// It does not hold, and will not: the model does not state the number any more that it changes.
    Void,
}

/// `threshold_adjusted`: an adjustment as it is after one of these steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThresholdAdjusted {
    /// UUIDv5 of the journal entry that made it (offset and time).
    pub id: String,
    /// `HM-20251203-001`, for people: counted per day of approval.
    pub update_id: String,
    /// 1 when it is approved, one more with each step.
    pub version: u32,
    /// The step that this finding records.
    pub change: AdjustmentChange,
    /// When the step was taken, by the entry that caused it.
    pub at: Timestamp,
    /// When it was approved.
    pub approved_at: Timestamp,
    /// The canonical key.
    pub req_id: String,
    /// `p95_latency_ms`.
    pub measure: String,
    /// Which threshold.
    pub level: Level,
    /// What held before it.
    pub old: f64,
    /// What holds instead.
    pub new: f64,
    /// Of both.
    pub unit: String,
    /// Why, in the approver's words.
    pub reason: String,
    /// Who approved it.
    pub approved_by: String,
    /// Windows that end at this instant or later are judged by it.
    pub effective_date: Timestamp,
    /// The model under which the step was taken.
    pub model_hash: String,
    /// Why it is void; none while it is not.
    pub void_because: Option<String>,
}

impl ThresholdAdjusted {
    /// The event's name, whatever the step.
    pub const EVENT: &str = "threshold_adjusted";

    /// Whether windows that end at `end` are judged by it.
    pub fn holds(&self, end: Timestamp) -> bool {
        self.change != AdjustmentChange::Void && self.effective_date <= end
    }
}

/// The id of an adjustment: UUIDv5 of `adjustment|offset|time in nanoseconds` of its entry.
pub fn adjustment_id(offset: Offset, time: Timestamp) -> String {
    Uuid::new_v5(&NAMESPACE, format!("adjustment|{}|{}", offset.0, time.as_nanos()).as_bytes()).to_string()
}
