//! What `debug` shows of what, and how much of it.

use bytes::Bytes;
use homeostat_pipeline::batch::{Compression, Content, Frame};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exponential_histogram_data_point::Buckets,
    metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event};
use prost::Message;

use super::*;

const START: u64 = 1_581_452_772_000_000_321;
const END: u64 = 1_581_452_773_000_000_789;

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(value: &str) -> Value {
    Value::StringValue(value.to_owned())
}

fn resource() -> Option<Resource> {
    Some(Resource { attributes: vec![pair("service.name", text("shop"))], ..Resource::default() })
}

fn telemetry(signal: Signal, body: Vec<u8>) -> Telemetry {
    let records = otlp::walk(signal, &body).expect("well-formed");
    let body = Bytes::from(body);
    let frame = Frame { content: Content::Protobuf, compression: Compression::None, bytes: body.clone() };
    Telemetry { signal, frame, body, records }
}

fn traces(spans: Vec<Span>) -> Telemetry {
    let scope =
        InstrumentationScope { name: "lib".to_owned(), version: "1.2".to_owned(), ..Default::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource_spans =
        vec![ResourceSpans { resource: resource(), scope_spans, ..ResourceSpans::default() }];
    telemetry(Signal::Traces, ExportTraceServiceRequest { resource_spans }.encode_to_vec())
}

fn span() -> Span {
    Span {
        trace_id: (1..=16).collect(),
        span_id: (17..=24).collect(),
        name: "GET /".to_owned(),
        kind: 2,
        start_time_unix_nano: START,
        end_time_unix_nano: END,
        attributes: vec![pair("n", Value::IntValue(7)), pair("ok", Value::BoolValue(true))],
        events: vec![Event {
            time_unix_nano: END,
            name: "retry".to_owned(),
            attributes: vec![pair("by", text("x"))],
            ..Event::default()
        }],
        status: Some(Status { code: 2, message: "it failed".to_owned() }),
        ..Span::default()
    }
}

fn logs() -> Telemetry {
    let list = Value::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(text("a")) }] });
    let record = LogRecord {
        time_unix_nano: END,
        severity_number: 14,
        severity_text: "WARNING".to_owned(),
        body: Some(AnyValue { value: Some(text("two\nlines")) }),
        attributes: vec![pair("list", list), pair("bytes", Value::BytesValue(vec![1, 255]))],
        ..LogRecord::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { resource: resource(), scope_logs, ..ResourceLogs::default() }];
    telemetry(Signal::Logs, ExportLogsServiceRequest { resource_logs }.encode_to_vec())
}

fn metrics() -> Telemetry {
    let attributes = vec![pair("state", text("user")), pair("cpu", Value::IntValue(0))];
    let number = NumberDataPoint {
        attributes: attributes.clone(),
        time_unix_nano: END,
        value: Some(number_data_point::Value::AsDouble(1.5)),
        ..NumberDataPoint::default()
    };
    let sum = Sum { data_points: vec![number], aggregation_temporality: 2, is_monotonic: true };
    let histogram = HistogramDataPoint {
        time_unix_nano: END,
        count: 3,
        sum: Some(4.5),
        explicit_bounds: vec![1.0],
        bucket_counts: vec![1, 2],
        ..HistogramDataPoint::default()
    };
    let histogram = Histogram { data_points: vec![histogram], aggregation_temporality: 1 };
    let buckets = |offset, bucket_counts| Some(Buckets { offset, bucket_counts });
    let exponential = ExponentialHistogramDataPoint {
        time_unix_nano: END,
        count: 5,
        scale: 1,
        zero_count: 1,
        negative: buckets(-1, vec![1, 1]),
        positive: buckets(1, vec![1, 1]),
        ..ExponentialHistogramDataPoint::default()
    };
    let exponential = ExponentialHistogram { data_points: vec![exponential], aggregation_temporality: 1 };
    let metric = |name: &str, data| Metric { name: name.to_owned(), data: Some(data), ..Metric::default() };
    let metrics = vec![
        metric("cpu.time", Data::Sum(sum)),
        metric("duration", Data::Histogram(histogram)),
        metric("size", Data::ExponentialHistogram(exponential)),
    ];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics =
        vec![ResourceMetrics { resource: resource(), scope_metrics, ..ResourceMetrics::default() }];
    telemetry(Signal::Metrics, ExportMetricsServiceRequest { resource_metrics }.encode_to_vec())
}

#[track_caller]
fn check(telemetry: &Telemetry, verbosity: Verbosity, expected: &str) {
    assert_eq!(show(telemetry, verbosity, BYTES_MAX), expected);
}

#[test]
fn basic_is_one_line_with_counts() {
    check(&traces(vec![span(), span()]), Verbosity::Basic, "Traces: resource spans 1, spans 2\n");
    check(&logs(), Verbosity::Basic, "Logs: resource logs 1, log records 1\n");
    check(&metrics(), Verbosity::Basic, "Metrics: resource metrics 1, metrics 3, data points 3\n");
}

#[test]
fn normal_is_a_line_for_each_record() {
    check(
        &traces(vec![span()]),
        Verbosity::Normal,
        "Traces: resource spans 1, spans 1\nGET / 0102030405060708090a0b0c0d0e0f10 1112131415161718 n=7 ok=true\n",
    );
    check(
        &logs(),
        Verbosity::Normal,
        "Logs: resource logs 1, log records 1\ntwo\nlines list=[\"a\"] bytes=01ff\n",
    );
    check(
        &metrics(),
        Verbosity::Normal,
        "Metrics: resource metrics 1, metrics 3, data points 3\ncpu.time{state=user,cpu=0} 1.5\nduration{} count=3 sum=4.5 le1=1 2\nsize{} count=5\n",
    );
}

#[test]
fn detailed_is_what_the_collector_writes() {
    let expected = "Traces: resource spans 1, spans 1
ResourceSpans #0
Resource SchemaURL: 
Resource attributes:
     -> service.name: Str(shop)
ScopeSpans #0
ScopeSpans SchemaURL: 
InstrumentationScope lib 1.2
Span #0
    Trace ID       : 0102030405060708090a0b0c0d0e0f10
    Parent ID      : 
    ID             : 1112131415161718
    Name           : GET /
    Kind           : Server
    Start time     : 2020-02-11 20:26:12.000000321 +0000 UTC
    End time       : 2020-02-11 20:26:13.000000789 +0000 UTC
    Status code    : Error
    Status message : it failed
Attributes:
     -> n: Int(7)
     -> ok: Bool(true)
Events:
SpanEvent #0
     -> Name: retry
     -> Timestamp: 2020-02-11 20:26:13.000000789 +0000 UTC
     -> DroppedAttributesCount: 0
     -> Attributes:
          -> by: Str(x)
";
    check(&traces(vec![span()]), Verbosity::Detailed, expected);
    let expected = "Logs: resource logs 1, log records 1
ResourceLog #0
Resource SchemaURL: 
Resource attributes:
     -> service.name: Str(shop)
ScopeLogs #0
ScopeLogs SchemaURL: 
InstrumentationScope  
LogRecord #0
ObservedTimestamp: 1970-01-01 00:00:00 +0000 UTC
Timestamp: 2020-02-11 20:26:13.000000789 +0000 UTC
SeverityText: WARNING
SeverityNumber: Warn2(14)
Body: Str(two
lines)
Attributes:
     -> list: Slice([\"a\"])
     -> bytes: Bytes(01ff)
Trace ID: 
Span ID: 
Flags: 0
";
    check(&logs(), Verbosity::Detailed, expected);
}

#[test]
fn points_of_each_kind_are_shown_with_what_they_have() {
    let page = show(&metrics(), Verbosity::Detailed, BYTES_MAX);
    for part in [
        "Metric #0\nDescriptor:\n     -> Name: cpu.time\n     -> Description: \n     -> Unit: \n     -> DataType: Sum\n     -> IsMonotonic: true\n     -> AggregationTemporality: Cumulative\nNumberDataPoints #0\nData point attributes:\n     -> state: Str(user)\n     -> cpu: Int(0)\nStartTimestamp: 1970-01-01 00:00:00 +0000 UTC\nTimestamp: 2020-02-11 20:26:13.000000789 +0000 UTC\nValue: 1.500000\n",
        "Count: 3\nSum: 4.500000\nExplicitBounds #0: 1.000000\nBuckets #0, Count: 1\nBuckets #1, Count: 2\n",
        "Count: 5\nBucket [-1.414214, -1.000000), Count: 1\nBucket [-1.000000, -0.707107), Count: 1\nBucket [0, 0], Count: 1\nBucket (1.414214, 2.000000], Count: 1\nBucket (2.000000, 2.828427], Count: 1\n",
    ] {
        assert!(page.contains(part), "{part}\nis not in\n{page}");
    }
}

#[test]
fn what_does_not_fit_is_left_out_and_said() {
    let page = show(&traces(vec![span(); 100]), Verbosity::Normal, 200);
    assert!(page.len() < 300, "{page}");
    assert!(page.ends_with("the rest is not shown: too much in one second\n"), "{page}");
}

#[test]
fn sampling_is_as_in_the_collector() {
    let check = |initial, thereafter, expected: &[u64]| {
        let settings =
            Debug { sampling_initial: initial, sampling_thereafter: thereafter, ..Debug::default() };
        let mut shown = Shown::default();
        let now = Instant::now();
        let seen: Vec<u64> = (1..=10).filter(|_| shown.next(&settings, now).is_some()).collect();
        assert_eq!(seen, expected, "{initial} {thereafter}");
        assert!(shown.next(&settings, now + SECOND).is_some() || initial == 0, "a second later");
    };
    check(2, 1, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    check(2, 3, &[1, 2, 5, 8]);
    check(3, 0, &[1, 2, 3]);
    check(0, 5, &[5, 10]);
}

#[test]
fn a_second_shows_so_much_and_the_next_says_what_was_left_out() {
    let mut shown = Shown::default();
    let (settings, now) = (Debug::default(), Instant::now());
    assert_eq!(shown.next(&settings, now), Some((BYTES_MAX, 0)));
    shown.bytes = BYTES_MAX;
    assert_eq!(shown.next(&settings, now), None);
    assert_eq!(shown.next(&settings, now + SECOND / 2), None);
    assert_eq!(shown.next(&settings, now + SECOND), Some((BYTES_MAX, 2)));
}
