//! The messages of OTLP 1.x by the names that OTLP/JSON gives their fields: lowerCamelCase, and no others.

use self::Kind::{
    Base64, Bool, Double, Enum, Fixed32, Fixed64, Hex, Int32, Int64, Message as Of, Sfixed64, Sint32, Text,
    Uint32, Uint64,
};
use crate::batch::Signal;

/// How a value is written in protobuf, and so what JSON may say it with.
#[derive(Clone, Copy)]
pub enum Kind {
    /// `bool`.
    Bool,
    /// `int32`.
    Int32,
    /// `int64`.
    Int64,
    /// `uint32`.
    Uint32,
    /// `uint64`.
    Uint64,
    /// `sint32`.
    Sint32,
    /// `fixed32`.
    Fixed32,
    /// `fixed64`.
    Fixed64,
    /// `sfixed64`.
    Sfixed64,
    /// `double`.
    Double,
    /// `string`.
    Text,
    /// `bytes` of an id, which OTLP/JSON writes as hexadecimal digits.
    Hex,
    /// Other `bytes`.
    Base64,
    /// An enumeration: the names of its numbers from 0.
    Enum(&'static [&'static str]),
    /// A message.
    Message(&'static Message),
}

/// One field.
pub struct Field {
    /// In JSON.
    pub name: &'static str,
    /// In protobuf.
    pub tag: u32,
    /// What it holds.
    pub kind: Kind,
    /// Whether it holds a list of them.
    pub is_list: bool,
}

/// A message: its fields.
pub struct Message(&'static [Field]);

impl Message {
    /// The field with this name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.0.iter().find(|field| field.name == name)
    }

    /// The field with this number, by its place among the fields.
    pub(super) fn tagged(&self, tag: u32) -> Option<usize> {
        self.0.iter().position(|field| field.tag == tag)
    }

    /// The field at a place that [`Message::tagged`] gave.
    pub(super) fn at(&self, place: usize) -> &'static Field {
        &self.0[place]
    }
}

/// The export request of a signal.
pub fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Traces => &TRACES,
        Signal::Metrics => &METRICS,
        Signal::Logs => &LOGS,
    }
}

const fn one(name: &'static str, tag: u32, kind: Kind) -> Field {
    Field { name, tag, kind, is_list: false }
}

const fn list(name: &'static str, tag: u32, kind: Kind) -> Field {
    Field { name, tag, kind, is_list: true }
}

// common and resource

static ANY: Message = Message(&[
    one("stringValue", 1, Text),
    one("boolValue", 2, Bool),
    one("intValue", 3, Int64),
    one("doubleValue", 4, Double),
    one("arrayValue", 5, Of(&ARRAY)),
    one("kvlistValue", 6, Of(&MAP)),
    one("bytesValue", 7, Base64),
    one("stringValueStrindex", 8, Int32),
]);
static ARRAY: Message = Message(&[list("values", 1, Of(&ANY))]);
static MAP: Message = Message(&[list("values", 1, Of(&PAIR))]);
static PAIR: Message =
    Message(&[one("key", 1, Text), one("value", 2, Of(&ANY)), one("keyStrindex", 3, Int32)]);
static SCOPE: Message = Message(&[
    one("name", 1, Text),
    one("version", 2, Text),
    list("attributes", 3, Of(&PAIR)),
    one("droppedAttributesCount", 4, Uint32),
]);
static RESOURCE: Message = Message(&[
    list("attributes", 1, Of(&PAIR)),
    one("droppedAttributesCount", 2, Uint32),
    list("entityRefs", 3, Of(&ENTITY)),
]);
static ENTITY: Message = Message(&[
    one("schemaUrl", 1, Text),
    one("type", 2, Text),
    list("idKeys", 3, Text),
    list("descriptionKeys", 4, Text),
]);

// traces

static TRACES: Message = Message(&[list("resourceSpans", 1, Of(&RESOURCE_SPANS))]);
static RESOURCE_SPANS: Message = Message(&[
    one("resource", 1, Of(&RESOURCE)),
    list("scopeSpans", 2, Of(&SCOPE_SPANS)),
    one("schemaUrl", 3, Text),
]);
static SCOPE_SPANS: Message =
    Message(&[one("scope", 1, Of(&SCOPE)), list("spans", 2, Of(&SPAN)), one("schemaUrl", 3, Text)]);
static SPAN: Message = Message(&[
    one("traceId", 1, Hex),
    one("spanId", 2, Hex),
    one("traceState", 3, Text),
    one("parentSpanId", 4, Hex),
    one("name", 5, Text),
    one("kind", 6, Enum(&SPAN_KINDS)),
    one("startTimeUnixNano", 7, Fixed64),
    one("endTimeUnixNano", 8, Fixed64),
    list("attributes", 9, Of(&PAIR)),
    one("droppedAttributesCount", 10, Uint32),
    list("events", 11, Of(&EVENT)),
    one("droppedEventsCount", 12, Uint32),
    list("links", 13, Of(&LINK)),
    one("droppedLinksCount", 14, Uint32),
    one("status", 15, Of(&STATUS)),
    one("flags", 16, Fixed32),
]);
static SPAN_KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
static EVENT: Message = Message(&[
    one("timeUnixNano", 1, Fixed64),
    one("name", 2, Text),
    list("attributes", 3, Of(&PAIR)),
    one("droppedAttributesCount", 4, Uint32),
]);
static LINK: Message = Message(&[
    one("traceId", 1, Hex),
    one("spanId", 2, Hex),
    one("traceState", 3, Text),
    list("attributes", 4, Of(&PAIR)),
    one("droppedAttributesCount", 5, Uint32),
    one("flags", 6, Fixed32),
]);
static STATUS: Message = Message(&[one("message", 2, Text), one("code", 3, Enum(&STATUS_CODES))]);
static STATUS_CODES: [&str; 3] = ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

// logs

static LOGS: Message = Message(&[list("resourceLogs", 1, Of(&RESOURCE_LOGS))]);
static RESOURCE_LOGS: Message = Message(&[
    one("resource", 1, Of(&RESOURCE)),
    list("scopeLogs", 2, Of(&SCOPE_LOGS)),
    one("schemaUrl", 3, Text),
]);
static SCOPE_LOGS: Message =
    Message(&[one("scope", 1, Of(&SCOPE)), list("logRecords", 2, Of(&LOG)), one("schemaUrl", 3, Text)]);
static LOG: Message = Message(&[
    one("timeUnixNano", 1, Fixed64),
    one("severityNumber", 2, Enum(&SEVERITIES)),
    one("severityText", 3, Text),
    one("body", 5, Of(&ANY)),
    list("attributes", 6, Of(&PAIR)),
    one("droppedAttributesCount", 7, Uint32),
    one("flags", 8, Fixed32),
    one("traceId", 9, Hex),
    one("spanId", 10, Hex),
    one("observedTimeUnixNano", 11, Fixed64),
    one("eventName", 12, Text),
]);
static SEVERITIES: [&str; 25] = [
    "SEVERITY_NUMBER_UNSPECIFIED",
    "SEVERITY_NUMBER_TRACE",
    "SEVERITY_NUMBER_TRACE2",
    "SEVERITY_NUMBER_TRACE3",
    "SEVERITY_NUMBER_TRACE4",
    "SEVERITY_NUMBER_DEBUG",
    "SEVERITY_NUMBER_DEBUG2",
    "SEVERITY_NUMBER_DEBUG3",
    "SEVERITY_NUMBER_DEBUG4",
    "SEVERITY_NUMBER_INFO",
    "SEVERITY_NUMBER_INFO2",
    "SEVERITY_NUMBER_INFO3",
    "SEVERITY_NUMBER_INFO4",
    "SEVERITY_NUMBER_WARN",
    "SEVERITY_NUMBER_WARN2",
    "SEVERITY_NUMBER_WARN3",
    "SEVERITY_NUMBER_WARN4",
    "SEVERITY_NUMBER_ERROR",
    "SEVERITY_NUMBER_ERROR2",
    "SEVERITY_NUMBER_ERROR3",
    "SEVERITY_NUMBER_ERROR4",
    "SEVERITY_NUMBER_FATAL",
    "SEVERITY_NUMBER_FATAL2",
    "SEVERITY_NUMBER_FATAL3",
    "SEVERITY_NUMBER_FATAL4",
];

// metrics

static METRICS: Message = Message(&[list("resourceMetrics", 1, Of(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Message = Message(&[
    one("resource", 1, Of(&RESOURCE)),
    list("scopeMetrics", 2, Of(&SCOPE_METRICS)),
    one("schemaUrl", 3, Text),
]);
static SCOPE_METRICS: Message =
    Message(&[one("scope", 1, Of(&SCOPE)), list("metrics", 2, Of(&METRIC)), one("schemaUrl", 3, Text)]);
static METRIC: Message = Message(&[
    one("name", 1, Text),
    one("description", 2, Text),
    one("unit", 3, Text),
    one("gauge", 5, Of(&GAUGE)),
    one("sum", 7, Of(&SUM)),
    one("histogram", 9, Of(&HISTOGRAM)),
    one("exponentialHistogram", 10, Of(&EXPONENTIAL)),
    one("summary", 11, Of(&SUMMARY)),
    list("metadata", 12, Of(&PAIR)),
]);
static GAUGE: Message = Message(&[list("dataPoints", 1, Of(&NUMBER_POINT))]);
static SUM: Message = Message(&[
    list("dataPoints", 1, Of(&NUMBER_POINT)),
    one("aggregationTemporality", 2, Enum(&TEMPORALITIES)),
    one("isMonotonic", 3, Bool),
]);
static HISTOGRAM: Message = Message(&[
    list("dataPoints", 1, Of(&HISTOGRAM_POINT)),
    one("aggregationTemporality", 2, Enum(&TEMPORALITIES)),
]);
static EXPONENTIAL: Message = Message(&[
    list("dataPoints", 1, Of(&EXPONENTIAL_POINT)),
    one("aggregationTemporality", 2, Enum(&TEMPORALITIES)),
]);
static SUMMARY: Message = Message(&[list("dataPoints", 1, Of(&SUMMARY_POINT))]);
static TEMPORALITIES: [&str; 3] = [
    "AGGREGATION_TEMPORALITY_UNSPECIFIED",
    "AGGREGATION_TEMPORALITY_DELTA",
    "AGGREGATION_TEMPORALITY_CUMULATIVE",
];
static NUMBER_POINT: Message = Message(&[
    one("startTimeUnixNano", 2, Fixed64),
    one("timeUnixNano", 3, Fixed64),
    one("asDouble", 4, Double),
    list("exemplars", 5, Of(&EXEMPLAR)),
    one("asInt", 6, Sfixed64),
    list("attributes", 7, Of(&PAIR)),
    one("flags", 8, Uint32),
]);
static HISTOGRAM_POINT: Message = Message(&[
    one("startTimeUnixNano", 2, Fixed64),
    one("timeUnixNano", 3, Fixed64),
    one("count", 4, Fixed64),
    one("sum", 5, Double),
    list("bucketCounts", 6, Fixed64),
    list("explicitBounds", 7, Double),
    list("exemplars", 8, Of(&EXEMPLAR)),
    list("attributes", 9, Of(&PAIR)),
    one("flags", 10, Uint32),
    one("min", 11, Double),
    one("max", 12, Double),
]);
static EXPONENTIAL_POINT: Message = Message(&[
    list("attributes", 1, Of(&PAIR)),
    one("startTimeUnixNano", 2, Fixed64),
    one("timeUnixNano", 3, Fixed64),
    one("count", 4, Fixed64),
    one("sum", 5, Double),
    one("scale", 6, Sint32),
    one("zeroCount", 7, Fixed64),
    one("positive", 8, Of(&BUCKETS)),
    one("negative", 9, Of(&BUCKETS)),
    one("flags", 10, Uint32),
    list("exemplars", 11, Of(&EXEMPLAR)),
    one("min", 12, Double),
    one("max", 13, Double),
    one("zeroThreshold", 14, Double),
]);
static BUCKETS: Message = Message(&[one("offset", 1, Sint32), list("bucketCounts", 2, Uint64)]);
static SUMMARY_POINT: Message = Message(&[
    one("startTimeUnixNano", 2, Fixed64),
    one("timeUnixNano", 3, Fixed64),
    one("count", 4, Fixed64),
    one("sum", 5, Double),
    list("quantileValues", 6, Of(&QUANTILE)),
    list("attributes", 7, Of(&PAIR)),
    one("flags", 8, Uint32),
]);
static QUANTILE: Message = Message(&[one("quantile", 1, Double), one("value", 2, Double)]);
static EXEMPLAR: Message = Message(&[
    one("timeUnixNano", 2, Fixed64),
    one("asDouble", 3, Double),
    one("spanId", 4, Hex),
    one("traceId", 5, Hex),
    one("asInt", 6, Sfixed64),
    list("filteredAttributes", 7, Of(&PAIR)),
]);
