//! A silence: a person's word that deviations of some labels are not to be told for a while. The trail shows who said so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::id::NAMESPACE;
use crate::clock::Timestamp;
use crate::entry::Offset;

/// What became of a silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SilenceChange {
    /// A person made it; it holds from `starts_at` on.
    Created,
    /// Its time came, or a person ended it early.
    Expired,
}

impl SilenceChange {
    /// Both.
    pub const ALL: [SilenceChange; 2] = [SilenceChange::Created, SilenceChange::Expired];

    /// The event's name: `silence_created`, `silence_expired`.
    pub const fn event(self) -> &'static str {
        match self {
            SilenceChange::Created => "silence_created",
            SilenceChange::Expired => "silence_expired",
        }
    }
}

/// `silence_created`, `silence_expired`: a silence as it is after one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Silence {
    /// UUIDv5 of the journal entry that made it (offset and time).
    pub id: String,
    /// 1 when it is made, 2 when it has ended.
    pub version: u32,
    /// The step that this finding records.
    pub change: SilenceChange,
    /// When the step was taken, by the entry that caused it.
    pub at: Timestamp,
    /// All of them have to match, in Alertmanager's syntax: `req="REQ-NFR-PERF-001"`, `service.name=~"auth|web"`.
    pub matchers: Vec<String>,
    /// From when on it holds.
    pub starts_at: Timestamp,
    /// The first instant at which it does not hold any more.
    pub ends_at: Timestamp,
    /// Who made it.
    pub author: String,
    /// Why, in the author's words; may be empty.
    pub comment: String,
    /// Who ended it early; none while it holds, and when its time came.
    pub expired_by: Option<String>,
}

impl Silence {
    /// Whether it holds at `at`.
    pub fn holds(&self, at: Timestamp) -> bool {
        self.starts_at <= at && at < self.ends_at
    }
}

/// The id of a silence: UUIDv5 of `silence|offset|time in nanoseconds` of its entry.
pub fn silence_id(offset: Offset, time: Timestamp) -> String {
    Uuid::new_v5(&NAMESPACE, format!("silence|{}|{}", offset.0, time.as_nanos()).as_bytes()).to_string()
}
