//! What the messages of OTLP 1.x are made of, as far as a structural walk must know
//! (github.com/open-telemetry/opentelemetry-proto).

use self::Kind::{Bytes, Fixed32, Fixed64, Fixed64s, Message, Record, Text, Varint, Varints};
use crate::batch::Signal;

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Nothing that this schema knows.
    Unknown,
    /// Integers, booleans, enumerations.
    Varint,
    /// Numbers of 32 bits.
    Fixed32,
    /// Numbers of 64 bits.
    Fixed64,
    /// A string, which must be UTF-8.
    Text,
    /// Any bytes.
    Bytes,
    /// A message.
    Message(&'static Schema),
    /// A message that is one record: a span, a data point, a log record.
    Record(&'static Schema),
    /// Repeated integers, packed or not.
    Varints,
    /// Repeated numbers of 64 bits, packed or not.
    Fixed64s,
}

/// The highest field number in use.
const TAG_MAX: usize = 16;

/// The fields of a message, by number.
pub(super) struct Schema {
    fields: [Kind; TAG_MAX + 1],
}

impl Schema {
    const fn new(fields: &[(usize, Kind)]) -> Schema {
        let mut table = [Kind::Unknown; TAG_MAX + 1];
        let mut index = 0;
        while index < fields.len() {
            let (tag, kind) = fields[index];
            table[tag] = kind;
            index += 1;
        }
        Schema { fields: table }
    }

    /// What the field `tag` holds.
    #[inline(always)]
    pub(super) fn field(&self, tag: u32) -> Kind {
        self.fields.get(tag as usize).copied().unwrap_or(Kind::Unknown)
    }
}

/// The export request of a signal.
pub(super) fn request(signal: Signal) -> &'static Schema {
    match signal {
        Signal::Traces => &TRACES,
        Signal::Metrics => &METRICS,
        Signal::Logs => &LOGS,
    }
}

// common and resource

static ANY: Schema = Schema::new(&[
    (1, Text),
    (2, Varint),
    (3, Varint),
    (4, Fixed64),
    (5, Message(&ARRAY)),
    (6, Message(&MAP)),
    (7, Bytes),
    (8, Varint),
]);
static ARRAY: Schema = Schema::new(&[(1, Message(&ANY))]);
static MAP: Schema = Schema::new(&[(1, Message(&PAIR))]);
pub(super) static PAIR: Schema = Schema::new(&[(1, Text), (2, Message(&ANY)), (3, Varint)]);
static SCOPE: Schema = Schema::new(&[(1, Text), (2, Text), (3, Message(&PAIR)), (4, Varint)]);
static RESOURCE: Schema = Schema::new(&[(1, Message(&PAIR)), (2, Varint), (3, Message(&ENTITY))]);
static ENTITY: Schema = Schema::new(&[(1, Text), (2, Text), (3, Text), (4, Text)]);

// trace

static TRACES: Schema = Schema::new(&[(1, Message(&RESOURCE_SPANS))]);
static RESOURCE_SPANS: Schema =
    Schema::new(&[(1, Message(&RESOURCE)), (2, Message(&SCOPE_SPANS)), (3, Text)]);
static SCOPE_SPANS: Schema = Schema::new(&[(1, Message(&SCOPE)), (2, Record(&SPAN)), (3, Text)]);
static SPAN: Schema = Schema::new(&[
    (1, Bytes),
    (2, Bytes),
    (3, Text),
    (4, Bytes),
    (5, Text),
    (6, Varint),
    (7, Fixed64),
    (8, Fixed64),
    (9, Message(&PAIR)),
    (10, Varint),
    (11, Message(&EVENT)),
    (12, Varint),
    (13, Message(&LINK)),
    (14, Varint),
    (15, Message(&STATUS)),
    (16, Fixed32),
]);
static EVENT: Schema = Schema::new(&[(1, Fixed64), (2, Text), (3, Message(&PAIR)), (4, Varint)]);
static LINK: Schema =
    Schema::new(&[(1, Bytes), (2, Bytes), (3, Text), (4, Message(&PAIR)), (5, Varint), (6, Fixed32)]);
static STATUS: Schema = Schema::new(&[(2, Text), (3, Varint)]);

// logs

static LOGS: Schema = Schema::new(&[(1, Message(&RESOURCE_LOGS))]);
static RESOURCE_LOGS: Schema = Schema::new(&[(1, Message(&RESOURCE)), (2, Message(&SCOPE_LOGS)), (3, Text)]);
static SCOPE_LOGS: Schema = Schema::new(&[(1, Message(&SCOPE)), (2, Record(&LOG)), (3, Text)]);
static LOG: Schema = Schema::new(&[
    (1, Fixed64),
    (2, Varint),
    (3, Text),
    (5, Message(&ANY)),
    (6, Message(&PAIR)),
    (7, Varint),
    (8, Fixed32),
    (9, Bytes),
    (10, Bytes),
    (11, Fixed64),
    (12, Text),
]);

// metrics

static METRICS: Schema = Schema::new(&[(1, Message(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Schema =
    Schema::new(&[(1, Message(&RESOURCE)), (2, Message(&SCOPE_METRICS)), (3, Text)]);
static SCOPE_METRICS: Schema = Schema::new(&[(1, Message(&SCOPE)), (2, Message(&METRIC)), (3, Text)]);
static METRIC: Schema = Schema::new(&[
    (1, Text),
    (2, Text),
    (3, Text),
    (5, Message(&GAUGE)),
    (7, Message(&SUM)),
    (9, Message(&HISTOGRAM)),
    (10, Message(&EXPONENTIAL)),
    (11, Message(&SUMMARY)),
    (12, Message(&PAIR)),
]);
static GAUGE: Schema = Schema::new(&[(1, Record(&NUMBER))]);
static SUM: Schema = Schema::new(&[(1, Record(&NUMBER)), (2, Varint), (3, Varint)]);
static HISTOGRAM: Schema = Schema::new(&[(1, Record(&HISTOGRAM_POINT)), (2, Varint)]);
static EXPONENTIAL: Schema = Schema::new(&[(1, Record(&EXPONENTIAL_POINT)), (2, Varint)]);
static SUMMARY: Schema = Schema::new(&[(1, Record(&SUMMARY_POINT))]);
static NUMBER: Schema = Schema::new(&[
    (2, Fixed64),
    (3, Fixed64),
    (4, Fixed64),
    (5, Message(&EXEMPLAR)),
    (6, Fixed64),
    (7, Message(&PAIR)),
    (8, Varint),
]);
static HISTOGRAM_POINT: Schema = Schema::new(&[
    (2, Fixed64),
    (3, Fixed64),
    (4, Fixed64),
    (5, Fixed64),
    (6, Fixed64s),
    (7, Fixed64s),
    (8, Message(&EXEMPLAR)),
    (9, Message(&PAIR)),
    (10, Varint),
    (11, Fixed64),
    (12, Fixed64),
]);
static EXPONENTIAL_POINT: Schema = Schema::new(&[
    (1, Message(&PAIR)),
    (2, Fixed64),
    (3, Fixed64),
    (4, Fixed64),
    (5, Fixed64),
    (6, Varint),
    (7, Fixed64),
    (8, Message(&BUCKETS)),
    (9, Message(&BUCKETS)),
    (10, Varint),
    (11, Message(&EXEMPLAR)),
    (12, Fixed64),
    (13, Fixed64),
    (14, Fixed64),
]);
static BUCKETS: Schema = Schema::new(&[(1, Varint), (2, Varints)]);
static SUMMARY_POINT: Schema = Schema::new(&[
    (2, Fixed64),
    (3, Fixed64),
    (4, Fixed64),
    (5, Fixed64),
    (6, Message(&QUANTILE)),
    (7, Message(&PAIR)),
    (8, Varint),
]);
static QUANTILE: Schema = Schema::new(&[(1, Fixed64), (2, Fixed64)]);
static EXEMPLAR: Schema =
    Schema::new(&[(2, Fixed64), (3, Fixed64), (4, Bytes), (5, Bytes), (6, Fixed64), (7, Message(&PAIR))]);
