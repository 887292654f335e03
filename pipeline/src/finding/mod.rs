//! What analyzers emit, as the ledger keeps it: typed values with stable, versioned JSON forms.
//!
//! Times are RFC 3339 in UTC; 64-bit integers and nanoseconds are strings, for RFC 8785 numbers are doubles. Nothing in a
//! finding comes from a clock: its times are those of the entries and windows that caused it.

mod behavior;
mod deviation;
mod id;
mod model;
mod silence;
mod threshold;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

pub use behavior::{Behavior, MeasureValue};
pub use deviation::{
    Acknowledgement, Actions, Counts, Deviation, DeviationContext, DeviationCorrelation, DeviationEvidence,
    DeviationRule, DeviationSource, DeviationType, DeviationWindow, Level, Quiet, RequirementSource,
    Resolution, Severity, Status, Transition,
};
pub use id::{Digits, NAMESPACE, behavior_uid, deviation_uid, fingerprint, hex, text};
pub use model::{ModelChanged, Requirement, Threshold};
pub use silence::{Silence, SilenceChange, silence_id};
pub use threshold::{AdjustmentChange, ThresholdAdjusted, adjustment_id};

/// One conclusion of an analyzer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// The behaviors of all windows that one entry closed or corrected.
    Behaviors {
        /// Sorted by window start, spec node, uid.
        behaviors: Vec<Behavior>,
    },
    /// A step in the life of a deviation: the deviation as it is from here on.
    Deviation(Box<Deviation>),
    /// The model that holds from here on.
    Model(ModelChanged),
    /// A silence was made or has ended.
    Silence(Silence),
    /// A threshold was adjusted, the adjustment took effect, or it is void.
    Threshold(ThresholdAdjusted),
    /// Something about homeostat itself that the trail must show.
    Notice(Notice),
}

/// Something about homeostat itself: an entry skipped, subjects past the limit, a gap in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// `entry_skipped`, `subjects_overflow`, `journal_gap`, `sensor_silent` …
    pub kind: String,
    /// When, by the entry that caused it.
    pub at: Timestamp,
    /// For people.
    pub message: String,
}

impl Notice {
    /// Nothing comes any more of subjects that were judged.
    pub const SENSOR_SILENT: &str = "sensor_silent";
}

impl Finding {
    /// The ledger kind and, with `sea.event.` and `.v1`, the event type: `behavior_observed`, `deviation_detected` …
    pub fn kind(&self) -> &'static str {
        match self {
            Finding::Behaviors { .. } => "behavior_observed",
            Finding::Deviation(deviation) => deviation.transition.event(),
            Finding::Model(_) => "homeostasis_model_changed",
            Finding::Silence(silence) => silence.change.event(),
            Finding::Threshold(_) => ThresholdAdjusted::EVENT,
            Finding::Notice(notice) if notice.kind == Notice::SENSOR_SILENT => Notice::SENSOR_SILENT,
            Finding::Notice(_) => "coverage_gap",
        }
    }
}
