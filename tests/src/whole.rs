//! Requests in which every field of OTLP is set, and every kind of value, point and edge occurs: what passes through homeostat
//! and a Collector must come out as these. No message is filled up with defaults, so a field that is new in the protocol is a
//! compile error here.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

const TRACE: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xff];
const SPAN: [u8; 8] = [0xf1, 2, 3, 4, 5, 6, 7, 0];
const AT: u64 = 1_760_000_000_123_456_789;

fn value(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn pair(key: &str, of: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(of), key_strindex: 0 }
}

/// Every kind of value with its edges, nested and empty ones too.
fn attributes() -> Vec<KeyValue> {
    let list = |values: Vec<AnyValue>| value(Value::ArrayValue(ArrayValue { values }));
    let map = |values: Vec<KeyValue>| value(Value::KvlistValue(KeyValueList { values }));
    vec![
        pair("string", value(Value::StringValue("text ünï 🦀 \u{0} \" \\ \n".to_owned()))),
        pair("string.empty", value(Value::StringValue(String::new()))),
        pair("bool", value(Value::BoolValue(true))),
        pair("bool.false", value(Value::BoolValue(false))),
        pair("int", value(Value::IntValue(i64::MIN))),
        pair("int.max", value(Value::IntValue(i64::MAX))),
        pair("int.zero", value(Value::IntValue(0))),
        pair("double", value(Value::DoubleValue(-1.5e-300))),
        pair("double.zero", value(Value::DoubleValue(0.0))),
        pair("double.infinite", value(Value::DoubleValue(f64::NEG_INFINITY))),
        pair("bytes", value(Value::BytesValue(vec![0, 0xff, 0x80, 10]))),
        pair("bytes.empty", value(Value::BytesValue(Vec::new()))),
        pair("list.empty", list(Vec::new())),
        pair("list", list(vec![value(Value::IntValue(1)), list(vec![value(Value::BoolValue(false))])])),
        pair("map.empty", map(Vec::new())),
        pair("map", map(vec![pair("deep", map(vec![pair("x", value(Value::StringValue("y".to_owned())))]))])),
        pair("nothing", AnyValue { value: None }),
    ]
}

fn resource() -> Option<Resource> {
    Some(Resource {
        attributes: attributes(),
        dropped_attributes_count: 3,
        entity_refs: vec![EntityRef {
            schema_url: "https://opentelemetry.io/schemas/1.40.0".to_owned(),
            r#type: "service".to_owned(),
            id_keys: vec!["string".to_owned()],
            description_keys: vec!["bool".to_owned(), "int".to_owned()],
        }],
    })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "whole".to_owned(),
        version: "1.2.3".to_owned(),
        attributes: attributes(),
        dropped_attributes_count: 4,
    })
}

fn schema() -> String {
    "https://opentelemetry.io/schemas/1.38.0".to_owned()
}

/// Spans with events, links, state, flags and status; one of each kind.
pub fn traces() -> ExportTraceServiceRequest {
    let link = |flags| Link {
        trace_id: TRACE.to_vec(),
        span_id: SPAN.to_vec(),
        trace_state: "vendor=1".to_owned(),
        attributes: attributes(),
        dropped_attributes_count: 5,
        flags,
    };
    let event = |name: &str| Event {
        time_unix_nano: AT,
        name: name.to_owned(),
        attributes: attributes(),
        dropped_attributes_count: 6,
    };
    let span = |kind: i32| Span {
        trace_id: TRACE.to_vec(),
        span_id: SPAN.to_vec(),
        trace_state: "a=1,b=2".to_owned(),
        parent_span_id: SPAN.to_vec(),
        flags: 0x301,
        name: format!("span of kind {kind}"),
        kind,
        start_time_unix_nano: AT,
        end_time_unix_nano: AT + 1,
        attributes: attributes(),
        dropped_attributes_count: 7,
        events: vec![event("one"), event("")],
        dropped_events_count: 8,
        links: vec![link(0x101), link(0)],
        dropped_links_count: 9,
        status: Some(Status { message: "what went wrong".to_owned(), code: kind % 3 }),
    };
    let scope_spans = ScopeSpans { scope: scope(), spans: (0..6).map(span).collect(), schema_url: schema() };
    let resource_spans = || ResourceSpans {
        resource: resource(),
        scope_spans: vec![scope_spans.clone(), scope_spans.clone()],
        schema_url: schema(),
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans(), resource_spans()] }
}

/// Records with every kind of body, and one whose times are the largest.
pub fn logs() -> ExportLogsServiceRequest {
    let record = |body: Option<AnyValue>, severity: i32| LogRecord {
        time_unix_nano: AT,
        observed_time_unix_nano: AT + 2,
        severity_number: severity,
        severity_text: "WARN2".to_owned(),
        body,
        attributes: attributes(),
        dropped_attributes_count: 10,
        flags: 1,
        trace_id: TRACE.to_vec(),
        span_id: SPAN.to_vec(),
        event_name: "it.happened".to_owned(),
    };
    let bodies = attributes().into_iter().map(|pair| pair.value);
    let mut log_records: Vec<LogRecord> =
        bodies.zip(1..).map(|(body, number)| record(body, number)).collect();
    log_records.push(LogRecord { time_unix_nano: u64::MAX, ..record(Some(AnyValue { value: None }), 0) });
    let scope_logs = vec![ScopeLogs { scope: scope(), log_records, schema_url: schema() }];
    let resource_logs = vec![ResourceLogs { resource: resource(), scope_logs, schema_url: schema() }];
    ExportLogsServiceRequest { resource_logs }
}

fn exemplars() -> Vec<Exemplar> {
    let one = |value| Exemplar {
        filtered_attributes: attributes(),
        time_unix_nano: AT + 3,
        span_id: SPAN.to_vec(),
        trace_id: TRACE.to_vec(),
        value,
    };
    vec![one(Some(exemplar::Value::AsDouble(2.5))), one(Some(exemplar::Value::AsInt(-7)))]
}

fn numbers() -> Vec<NumberDataPoint> {
    use number_data_point::Value::{AsDouble, AsInt};
    let point = |value, flags| NumberDataPoint {
        attributes: attributes(),
        start_time_unix_nano: AT - 60_000_000_000,
        time_unix_nano: AT,
        exemplars: exemplars(),
        flags,
        value,
    };
    let doubles = [1.5, -0.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE].map(AsDouble);
    let values = doubles.into_iter().chain([AsInt(i64::MIN), AsInt(0)]);
    let mut points: Vec<NumberDataPoint> = values.map(|value| point(Some(value), 0)).collect();
    // No recorded value; and a point without a start.
    points.push(point(None, 1));
    points.push(NumberDataPoint { start_time_unix_nano: 0, ..point(Some(AsInt(3)), 0) });
    points
}

fn histogram(sum: Option<f64>) -> HistogramDataPoint {
    HistogramDataPoint {
        attributes: attributes(),
        start_time_unix_nano: AT - 60_000_000_000,
        time_unix_nano: AT,
        count: 10,
        sum,
        bucket_counts: vec![1, 2, 3, 4],
        explicit_bounds: vec![0.5, 1.0, 10.0],
        exemplars: exemplars(),
        flags: 0,
        min: sum.map(|_| -2.0),
        max: sum.map(|_| 42.0),
    }
}

fn exponential(scale: i32) -> ExponentialHistogramDataPoint {
    ExponentialHistogramDataPoint {
        attributes: attributes(),
        start_time_unix_nano: AT - 60_000_000_000,
        time_unix_nano: AT,
        count: 15,
        sum: Some(99.5),
        scale,
        zero_count: 2,
        positive: Some(Buckets { offset: -3, bucket_counts: vec![1, 0, u64::from(u32::MAX) * 3] }),
        negative: Some(Buckets { offset: 4, bucket_counts: vec![2, 3] }),
        flags: 0,
        exemplars: exemplars(),
        min: Some(0.25),
        max: Some(1e9),
        zero_threshold: 1e-6,
    }
}

fn summary() -> SummaryDataPoint {
    let quantile = |quantile: f64| ValueAtQuantile { quantile, value: quantile * 3.0 + 0.125 };
    SummaryDataPoint {
        attributes: attributes(),
        start_time_unix_nano: AT - 60_000_000_000,
        time_unix_nano: AT,
        count: 100,
        sum: 12.5,
        quantile_values: [0.0, 0.5, 0.99, 1.0].map(quantile).to_vec(),
        flags: 0,
    }
}

/// All five kinds, both temporalities, with exemplars.
pub fn metrics() -> ExportMetricsServiceRequest {
    let metric = |name: &str, data: Data| Metric {
        name: name.to_owned(),
        description: format!("the metric {name}"),
        unit: "By/s".to_owned(),
        metadata: attributes(),
        data: Some(data),
    };
    let sum = |aggregation_temporality, is_monotonic| {
        Data::Sum(Sum { data_points: numbers(), aggregation_temporality, is_monotonic })
    };
    let histogram_of = |aggregation_temporality| {
        let data_points = vec![histogram(Some(33.25)), histogram(None)];
        Data::Histogram(Histogram { data_points, aggregation_temporality })
    };
    let exponential_of = |aggregation_temporality| {
        let data_points = vec![exponential(20), exponential(0), exponential(-10)];
        Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality })
    };
    let metrics = vec![
        metric("gauge", Data::Gauge(Gauge { data_points: numbers() })),
        metric("sum.delta", sum(1, true)),
        metric("sum.cumulative", sum(2, false)),
        metric("histogram.delta", histogram_of(1)),
        metric("histogram.cumulative", histogram_of(2)),
        metric("exponential.delta", exponential_of(1)),
        metric("exponential.cumulative", exponential_of(2)),
        metric("summary", Data::Summary(Summary { data_points: vec![summary(), summary()] })),
    ];
    let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics, schema_url: schema() }];
    let resource_metrics =
        vec![ResourceMetrics { resource: resource(), scope_metrics, schema_url: schema() }];
    ExportMetricsServiceRequest { resource_metrics }
}
