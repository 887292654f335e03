//! What the journal holds: everything that can change a verdict, in one order.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::batch::RequestHash;
use crate::clock::Timestamp;

/// The position of an entry in the journal, counted from 0, without gaps but those that damage made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

/// One journal record.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it stands.
    pub offset: Offset,
    /// When it was logged, by the clock of the process that did; monotonic within a journal.
    pub time: Timestamp,
    /// What happened.
    pub event: Event,
}

/// What an entry says happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Rows of one group commit.
    Evidence(EvidenceEvent),
    /// Alerts of one webhook call.
    Alerts(Vec<Alert>),
    /// A second passed. Windows close by these.
    Tick,
    /// The model or the configuration that holds from here on.
    Epoch(Epoch),
    /// A person's or a program's decision: an approval, an acknowledgement, a silence.
    Decision(Decision),
    /// The entry at this offset panicked an analyzer twice and is passed over.
    Skip {
        /// Which entry.
        skipped: Offset,
        /// What the panic said.
        reason: String,
    },
}

/// The evidence of one group commit.
#[derive(Clone, Debug)]
pub struct EvidenceEvent {
    /// The requests it came from, in the order of their rows.
    pub requests: Vec<Request>,
    /// The rows, in [`crate::evidence::schema`].
    pub batch: RecordBatch,
}

/// One request of a group commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its identity.
    pub hash: RequestHash,
    /// How many of the batch's rows are its own; they follow one another.
    pub rows: u32,
}

/// One alert of a webhook, normalised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The component id of the receiver.
    pub source: String,
    /// The sender's identity of the alert.
    pub fingerprint: String,
    /// Firing or resolved.
    pub is_firing: bool,
    /// When it began.
    pub starts_at: Timestamp,
    /// When it ended or will end; none when the sender does not say.
    pub ends_at: Option<Timestamp>,
    /// The canonical requirement keys, nearest first.
    pub reqs: Vec<String>,
    /// Labels and tags.
    pub labels: BTreeMap<String, String>,
    /// Annotations and other text.
    pub annotations: BTreeMap<String, String>,
    /// The value it fired at, when it says one.
    pub value: Option<f64>,
    /// The threshold it fired against, when it says one.
    pub threshold: Option<f64>,
    /// Links to the sender's pages; http and https only.
    pub links: Vec<String>,
}

/// What holds from an entry on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// The component id whose settings these are.
    pub component: String,
    /// SHA-256 of the content, in hex: the identity of the model.
    pub hash: String,
    /// The content itself (the model's YAML), so that a replay needs no file.
    pub content: String,
}

/// A decision that enters from outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What is decided: `acknowledge`, `silence` …
    pub kind: String,
    /// Who decided.
    pub author: String,
    /// About what, and how: by kind.
    pub subject: BTreeMap<String, String>,
}

impl Decision {
    /// A live deviation was seen: `deviation` is its uid or its id for people, `comment` is free text.
    pub const ACKNOWLEDGE: &str = "acknowledge";
    /// Deviations are not to be told: `matchers` in Alertmanager's syntax, `starts_at` (now, when it is missing or past), `ends_at`,
    /// `comment`. The silence's id is [`crate::finding::silence_id`] of the entry.
    pub const SILENCE: &str = "silence";
    /// A silence ends now: `id`.
    pub const SILENCE_EXPIRE: &str = "silence_expire";
    /// A threshold is another number: `req`, `measure`, `level`, `value`, `unit` (the measure's, when it is missing), `reason`,
    /// `effective_date` (now, when it is missing or past). Its id is [`crate::finding::adjustment_id`] of the entry.
    pub const ADJUST_THRESHOLD: &str = "adjust_threshold";
}
