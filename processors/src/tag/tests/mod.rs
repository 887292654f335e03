//! Tests of `tag` on requests that `opentelemetry-proto` encodes.

mod logs;
mod points;
mod property;
mod settings;
mod spans;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use prost::Message;

use homeostat_pipeline::evidence::{Row, Rows};
use homeostat_pipeline::interest::Selection;
use homeostat_pipeline::selector::Selector;
use homeostat_pipeline::settings::read;

use super::*;

fn settings(yaml: &str) -> Tag {
    read(&homeostat_config::parse("tag.yaml", yaml).unwrap()).unwrap()
}

fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) }
}

fn list(values: Vec<AnyValue>) -> AnyValue {
    AnyValue { value: Some(any_value::Value::ArrayValue(ArrayValue { values })) }
}

fn map(values: Vec<KeyValue>) -> AnyValue {
    AnyValue { value: Some(any_value::Value::KvlistValue(KeyValueList { values })) }
}

fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn texts(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs.iter().map(|(key, value)| pair(key, text(value))).collect()
}

fn number(key: &str, value: i64) -> KeyValue {
    pair(key, AnyValue { value: Some(any_value::Value::IntValue(value)) })
}

/// A span of 250 ms.
fn span() -> Span {
    Span {
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        name: "POST /login".to_owned(),
        kind: 2,
        start_time_unix_nano: 1_000_000_000,
        end_time_unix_nano: 1_250_000_000,
        ..Span::default()
    }
}

fn traces(resource: Vec<KeyValue>, scope: Vec<KeyValue>, spans: Vec<Span>) -> Vec<u8> {
    let resource = Resource { attributes: resource, ..Resource::default() };
    let scope = InstrumentationScope { name: "lib".to_owned(), attributes: scope, ..Default::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource_spans =
        vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn logs(resource: Vec<KeyValue>, records: Vec<LogRecord>) -> Vec<u8> {
    let resource = Resource { attributes: resource, ..Resource::default() };
    let scope_logs = vec![ScopeLogs { log_records: records, ..ScopeLogs::default() }];
    let resource_logs =
        vec![ResourceLogs { resource: Some(resource), scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

fn log(body: AnyValue) -> LogRecord {
    LogRecord { time_unix_nano: 5, body: Some(body), ..LogRecord::default() }
}

fn tag_with(tag: &Tag, interest: &Interest, signal: Signal, body: &[u8]) -> Rows {
    let tagger = tag.tagger(interest).unwrap();
    let (plan, _) = &tagger.plans[signal as usize];
    assert_eq!(plan.signal, signal);
    plan.rows(body).unwrap().0
}

fn tag_traces(body: &[u8]) -> Rows {
    tag_with(&Tag::default(), &Interest::default(), Signal::Traces, body)
}

fn tag_logs(body: &[u8]) -> Rows {
    tag_with(&Tag::default(), &Interest::default(), Signal::Logs, body)
}

/// `key@version method`, with a star where the row is the primary one.
fn keys(rows: &Rows) -> Vec<String> {
    let show = |row: &Row| {
        let version = rows.text(row.req_version);
        let at = if version.is_empty() { "" } else { "@" };
        let star = if row.is_primary { "*" } else { "" };
        format!("{}{at}{version} {}{star}", rows.text(row.req), row.method.name())
    };
    rows.rows().iter().map(show).collect()
}

/// Everything that a row says.
fn shown(rows: &Rows) -> Vec<String> {
    let show = |row: &Row| {
        let all = [
            row.req,
            row.req_version,
            row.also,
            row.flow,
            row.context,
            row.domain,
            row.concept,
            row.regime,
            row.policy,
            row.service,
            row.environment,
            row.name,
            row.measure,
            row.unit,
            row.spec_node,
            row.labels,
        ];
        let texts: Vec<_> = all.into_iter().map(|text| rows.text(text)).collect();
        format!(
            "{texts:?} {:?} {:?} {} {} {:?} {} {} {} {:?} {:?}",
            row.time,
            row.signal,
            row.is_primary,
            row.is_error,
            row.kind,
            row.value,
            row.count,
            row.confidence,
            row.status,
            row.method,
        )
    };
    rows.rows().iter().map(show).collect()
}

fn wanted() -> Interest {
    Interest {
        log_fields: ["latency_ms".to_owned(), "retries".to_owned()].into(),
        labels: ["tier".to_owned(), "user_id".to_owned()].into(),
        ..Interest::default()
    }
}

fn selection(signal: Signal, req: &str, measure: &str, selector: &str) -> Selection {
    let selector = Selector::parse(selector).unwrap();
    Selection { signal, req: req.to_owned(), measure: measure.to_owned(), selector, takes_keyed: false }
}
