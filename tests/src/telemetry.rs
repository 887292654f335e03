//! OTLP requests as tests make them: real messages, encoded by the SDK's own types.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use rand::Rng;

/// Spans alike.
#[derive(Clone, Debug)]
pub struct Spans {
    /// How many.
    pub count: usize,
    /// The requirement key on each; none when empty.
    pub req: String,
    /// `sea.context` and `sea.flow`.
    pub node: (&'static str, &'static str),
    /// Each span's.
    pub duration: Duration,
    /// Whether their status is ERROR.
    pub is_error: bool,
}

/// Now, in nanoseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "tests of real processes send real times")]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(0)
}

/// An attribute with text.
pub fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn resource() -> Option<Resource> {
    Some(Resource { attributes: vec![text("service.name", "tests")], ..Resource::default() })
}

fn id(bytes: usize) -> Vec<u8> {
    let mut id = vec![0; bytes];
    rand::rng().fill_bytes(&mut id);
    id
}

/// An encoded traces request whose spans end at `end`; every request is distinct.
pub fn traces(spans: &Spans, end: u64) -> Bytes {
    let duration = u64::try_from(spans.duration.as_nanos()).unwrap_or(0);
    let one = || Span {
        trace_id: id(16),
        span_id: id(8),
        name: "work".to_owned(),
        kind: 2,
        start_time_unix_nano: end.saturating_sub(duration),
        end_time_unix_nano: end,
        attributes: [("req", spans.req.as_str()), ("sea.context", spans.node.0), ("sea.flow", spans.node.1)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| text(key, value))
            .collect(),
        status: spans.is_error.then(|| Status { code: 2, message: "it failed".to_owned() }),
        ..Span::default()
    };
    let spans = (0..spans.count).map(|_| one()).collect();
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans =
        vec![ResourceSpans { resource: resource(), scope_spans, ..ResourceSpans::default() }];
    Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec())
}

/// An encoded logs request of `count` records with the key `req`, of severity ERROR or INFO, at `at`.
pub fn logs(req: &str, count: usize, is_error: bool, at: u64) -> Bytes {
    let one = || LogRecord {
        time_unix_nano: at,
        severity_number: if is_error { 17 } else { 9 },
        body: Some(AnyValue { value: Some(Value::StringValue("it happened".to_owned())) }),
        attributes: vec![text("req", req)],
        trace_id: id(16),
        span_id: id(8),
        ..LogRecord::default()
    };
    let log_records = (0..count).map(|_| one()).collect();
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { resource: resource(), scope_logs, ..ResourceLogs::default() }];
    Bytes::from(ExportLogsServiceRequest { resource_logs }.encode_to_vec())
}

/// `body` in gzip.
pub fn gzip(body: &[u8]) -> Bytes {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).map(Bytes::from).expect("memory takes everything")
}

/// `body` in zstd.
pub fn zstd(body: &[u8]) -> Bytes {
    zstd::bulk::compress(body, 1).map(Bytes::from).expect("memory takes everything")
}
