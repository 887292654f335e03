//! Evidence: one row per (observation, requirement or flow or selection), the unit that analyzers fold.
//!
//! In a receiver's task it is plain [`Rows`]; the journal's writer builds one Arrow batch of each group commit
//! ([`schema::build`]), and from there on it is columns ([`columns::Columns`]).

pub mod columns;
pub mod kept;
pub mod point;
pub mod schema;

use crate::batch::{RequestHash, Signal};
use crate::clock::Timestamp;

/// A piece of the text arena of the [`Rows`] it belongs to. The empty one means absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Text {
    start: u32,
    len: u32,
}

impl Text {
    /// Absent.
    pub const NONE: Text = Text { start: 0, len: 0 };

    /// Whether it is absent.
    pub const fn is_none(self) -> bool {
        self.len == 0
    }
}

/// A piece of the byte arena of the [`Rows`] it belongs to. The empty one means absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Blob {
    start: u32,
    len: u32,
}

impl Blob {
    /// Absent.
    pub const NONE: Blob = Blob { start: 0, len: 0 };

    /// Whether they are absent.
    pub const fn is_none(self) -> bool {
        self.len == 0
    }
}

/// What a record says of the work it stands for: OTLP's span kinds, or none for logs and points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Kind {
    /// Not a span, or a span that does not say.
    #[default]
    Unspecified,
    /// SPAN_KIND_INTERNAL.
    Internal,
    /// SPAN_KIND_SERVER.
    Server,
    /// SPAN_KIND_CLIENT.
    Client,
    /// SPAN_KIND_PRODUCER.
    Producer,
    /// SPAN_KIND_CONSUMER.
    Consumer,
}

impl Kind {
    /// The word in selectors and columns: `SERVER` …; empty when unspecified.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Unspecified => "",
            Kind::Internal => "INTERNAL",
            Kind::Server => "SERVER",
            Kind::Client => "CLIENT",
            Kind::Producer => "PRODUCER",
            Kind::Consumer => "CONSUMER",
        }
    }

    /// From OTLP's number; unknown numbers are unspecified.
    pub const fn from_otlp(number: i32) -> Kind {
        match number {
            1 => Kind::Internal,
            2 => Kind::Server,
            3 => Kind::Client,
            4 => Kind::Producer,
            5 => Kind::Consumer,
            _ => Kind::Unspecified,
        }
    }
}

/// How the row's requirement or flow was found; its name is the `method` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Method {
    /// An attribute `req` or `requirement` of the record itself.
    #[default]
    Attribute,
    /// One of a span event, link or exemplar.
    Nested,
    /// One of the scope.
    Scope,
    /// One of the resource.
    Resource,
    /// Free text of name, message or body.
    Text,
    /// A selector of the model.
    Selector,
    /// No requirement: `sea.flow` only.
    Flow,
}

impl Method {
    /// The word in the `method` column.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Attribute => "attribute",
            Method::Nested => "nested",
            Method::Scope => "scope",
            Method::Resource => "resource",
            Method::Text => "text",
            Method::Selector => "selector",
            Method::Flow => "flow",
        }
    }
}

/// Whether the `sea.*` attributes that its signal is expected to carry are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Correlation {
    /// All of them.
    Matched,
    /// An optional one is missing.
    #[default]
    Partial,
    /// A required one is missing.
    Failed,
}

impl Correlation {
    /// The word in the `status` column.
    pub const fn name(self) -> &'static str {
        match self {
            Correlation::Matched => "matched",
            Correlation::Partial => "partial",
            Correlation::Failed => "failed",
        }
    }
}

/// One row. An observation with two requirement keys is two rows, of which the first `is_primary`: what counts observations
/// (the behaviors of a flow) takes primary rows only, what judges a requirement takes all of its rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Event time: a span's end, a point's time, a log record's time, else the time it was observed; zero when it says none.
    pub time: Timestamp,
    /// Whose record it is.
    pub signal: Signal,
    /// Whether it is the first row of its observation.
    pub is_primary: bool,
    /// Whether the observation is a failure: span status ERROR, log severity ERROR and above.
    pub is_error: bool,
    /// Kind of span.
    pub kind: Kind,
    /// The canonical requirement key, without its version.
    pub req: Text,
    /// The version that the key carried, `1.2.0`.
    pub req_version: Text,
    /// The other keys of the same observation, in order of first appearance, separated by commas.
    pub also: Text,
    /// `sea.flow`.
    pub flow: Text,
    /// `sea.context`.
    pub context: Text,
    /// `sea.domain`.
    pub domain: Text,
    /// `sea.concept`.
    pub concept: Text,
    /// `sea.regime_id`.
    pub regime: Text,
    /// `sea.policy`.
    pub policy: Text,
    /// `service.name`.
    pub service: Text,
    /// `deployment.environment.name`, else `deployment.environment`; nothing when neither is there, never "production".
    pub environment: Text,
    /// The span's name, the metric's name, the log record's event name.
    pub name: Text,
    /// The measure that this row feeds and no other: a selection's `as`, a log field's name. None: an ordinary observation,
    /// whose value is a span's duration, and which counts and may be an error.
    pub measure: Text,
    /// The number; NaN when there is none.
    pub value: f64,
    /// The value's unit: `ns` for durations of spans; for log fields none (the measure's name says it).
    pub unit: Text,
    /// How many observations the row stands for.
    pub count: u64,
    /// What a data point says beside its value: [`point::Point`]; none of spans and log records.
    pub sketch: Blob,
    /// The trace; zeros when there is none.
    pub trace_id: [u8; 16],
    /// The span; zeros when there is none.
    pub span_id: [u8; 8],
    /// `sea:{context}:{flow}` when both are there.
    pub spec_node: Text,
    /// What the correlation rests on, 0 … 1.
    pub confidence: f32,
    /// Whether the expected attributes are there.
    pub status: Correlation,
    /// How it was found.
    pub method: Method,
    /// The labels that the model groups by, as a JSON object with sorted keys; none when there are none.
    pub labels: Text,
    /// The component id of the receiver; `tag` leaves it empty and the inlet fills it.
    pub source: Text,
}

/// Rows that share one arena for their texts.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    text: String,
    bytes: Vec<u8>,
    rows: Vec<Row>,
    /// The request they come from; the inlet fills it.
    pub request: Option<RequestHash>,
}

/// More text than one request may bring into evidence (4 GiB of arena); cannot happen under the body limits.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the evidence of one request holds more than 4 GiB of text")]
pub struct TextOverflow;

impl Rows {
    /// None yet.
    pub fn new() -> Rows {
        Rows::default()
    }

    /// Adds `text` to the arena. Call once per value that repeats (a resource's service) and copy the handle.
    pub fn intern(&mut self, text: &str) -> Text {
        if text.is_empty() {
            return Text::NONE;
        }
        let (Ok(start), Ok(len)) = (u32::try_from(self.text.len()), u32::try_from(text.len())) else {
            return Text::NONE;
        };
        self.text.push_str(text);
        Text { start, len }
    }

    /// Adds what `write` appends to the arena of bytes; none where it appends nothing.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Blob {
        let start = self.bytes.len();
        write(&mut self.bytes);
        match (u32::try_from(start), u32::try_from(self.bytes.len() - start)) {
            (Ok(start), Ok(len)) if len > 0 => Blob { start, len },
            (Ok(_) | Err(_), Ok(_) | Err(_)) => Blob::NONE,
        }
    }

    /// The bytes behind a handle of these rows.
    pub fn sketch(&self, bytes: Blob) -> &[u8] {
        let start = bytes.start as usize;
        self.bytes.get(start..start + bytes.len as usize).unwrap_or_default()
    }

    /// The text behind a handle of these rows.
    pub fn text(&self, text: Text) -> &str {
        let start = text.start as usize;
        self.text.get(start..start + text.len as usize).unwrap_or_default()
    }

    /// Adds a row whose handles are of these rows.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// The rows in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows, to be changed in place.
    pub fn rows_mut(&mut self) -> &mut [Row] {
        &mut self.rows
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes that the rows hold: what the budget is charged while they wait for the journal.
    pub fn bytes(&self) -> usize {
        self.text.len() + self.bytes.len() + self.rows.len() * size_of::<Row>()
    }
}
