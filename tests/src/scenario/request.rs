//! Sendings as OTLP requests.

use std::collections::BTreeMap;

use bytes::Bytes;
use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::clock::Timestamp;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar, metric,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

use super::file::{Logs, MetricKind, Metrics, Scalar, Sending, Spans};

/// The requests of a sending; `number` makes its trace ids its own.
pub fn requests(sending: &Sending, when: Timestamp, number: usize) -> Vec<(Signal, Bytes)> {
    let end = when + sending.ahead - sending.late;
    let spans = sending.spans.as_ref().map(|spans| (Signal::Traces, traces(spans, end, number)));
    let logs = sending.logs.as_ref().map(|records| (Signal::Logs, logs(records, end, number)));
    let metrics = sending.metrics.as_ref();
    let metrics = metrics.map(|point| (Signal::Metrics, points(point, end, number, sending.repetition)));
    spans.into_iter().chain(logs).chain(metrics).collect()
}

fn value(scalar: &Scalar) -> AnyValue {
    let value = match scalar {
        Scalar::Bool(value) => Value::BoolValue(*value),
        Scalar::Integer(value) => Value::IntValue(*value),
        Scalar::Float(value) => Value::DoubleValue(*value),
        Scalar::Text(text) => Value::StringValue(text.clone()),
        Scalar::List(list) => Value::ArrayValue(ArrayValue { values: list.iter().map(value).collect() }),
        Scalar::Map(map) => Value::KvlistValue(KeyValueList { values: attributes(map) }),
    };
    AnyValue { value: Some(value) }
}

fn attribute(key: &str, scalar: &Scalar) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value(scalar)), ..KeyValue::default() }
}

fn attributes(map: &BTreeMap<String, Scalar>) -> Vec<KeyValue> {
    map.iter().map(|(key, scalar)| attribute(key, scalar)).collect()
}

fn text(key: &str, text: &str) -> KeyValue {
    attribute(key, &Scalar::Text(text.to_owned()))
}

fn flow(flow: Option<&String>) -> Vec<KeyValue> {
    let Some((context, flow)) = flow.and_then(|flow| flow.split_once('/')) else { return Vec::new() };
    vec![text("sea.context", context), text("sea.flow", flow)]
}

fn resource(service: Option<&String>, others: &BTreeMap<String, Scalar>) -> Option<Resource> {
    let mut all = attributes(others);
    all.extend(service.map(|name| text("service.name", name)));
    Some(Resource { attributes: all, ..Resource::default() })
}

/// The id of one record of one sending.
fn id(number: usize, record: u32) -> [u8; 16] {
    ((number as u128 + 1) << 32 | (u128::from(record) + 1)).to_be_bytes()
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(0)
}

fn traces(spans: &Spans, end: Timestamp, number: usize) -> Bytes {
    let one = |record: u32| {
        let mut all = attributes(&spans.attributes);
        all.extend(spans.req.iter().map(|req| attribute("req", req)));
        all.extend(flow(spans.flow.as_ref()));
        let time = |at| if spans.timeless { 0 } else { nanos(at) };
        Span {
            trace_id: id(number, record).to_vec(),
            span_id: id(number, record)[8..].to_vec(),
            name: spans.name.clone().unwrap_or_else(|| "work".to_owned()),
            kind: 2,
            start_time_unix_nano: time(end - spans.duration.0),
            end_time_unix_nano: time(end),
            attributes: all,
            status: (record < spans.errors).then(|| Status { code: 2, message: "it failed".to_owned() }),
            ..Span::default()
        }
    };
    let scope_spans =
        vec![ScopeSpans { spans: (0..spans.count).map(one).collect(), ..ScopeSpans::default() }];
    let resource = resource(spans.service.as_ref(), &spans.resource);
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec())
}

fn logs(logs: &Logs, at: Timestamp, number: usize) -> Bytes {
    let severity = match logs.severity.as_deref() {
        None => 0,
        Some("DEBUG") => 5,
        Some("INFO") => 9,
        Some("WARN") => 13,
        Some("ERROR") => 17,
        Some("FATAL") => 21,
        Some(other) => panic!("a scenario knows no severity {other}"),
    };
    let one = |record: u32| {
        let mut all = attributes(&logs.attributes);
        all.extend(logs.req.iter().map(|req| text("req", req)));
        all.extend(flow(logs.flow.as_ref()));
        LogRecord {
            time_unix_nano: nanos(at),
            severity_number: severity,
            body: logs.body.as_ref().map(value),
            attributes: all,
            trace_id: id(number, record).to_vec(),
            ..LogRecord::default()
        }
    };
    let scope_logs =
        vec![ScopeLogs { log_records: (0..logs.count).map(one).collect(), ..ScopeLogs::default() }];
    let resource = resource(logs.service.as_ref(), &BTreeMap::new());
    let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
    Bytes::from(ExportLogsServiceRequest { resource_logs }.encode_to_vec())
}

/// A point of a metric, at its `repetition`.
fn points(point: &Metrics, at: Timestamp, number: usize, repetition: u32) -> Bytes {
    let times = if point.cumulative { repetition } else { 1 };
    let data = Some(data(point, common(point, at, number, times), times));
    let metric = Metric { name: point.name.clone(), unit: point.unit.clone(), data, ..Metric::default() };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    let resource = resource(point.service.as_ref(), &BTreeMap::new());
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
    Bytes::from(ExportMetricsServiceRequest { resource_metrics }.encode_to_vec())
}

/// What points of every kind say, as the point of a gauge or sum, whose value is the `times`-fold.
fn common(point: &Metrics, at: Timestamp, number: usize, times: u32) -> NumberDataPoint {
    let mut attributes = attributes(&point.attributes);
    attributes.extend(point.req.iter().map(|req| text("req", req)));
    let exemplar = || Exemplar {
        trace_id: id(number, 0).to_vec(),
        value: Some(exemplar::Value::AsDouble(point.value)),
        ..Exemplar::default()
    };
    NumberDataPoint {
        attributes,
        start_time_unix_nano: point.start.map_or(0, |start| nanos(super::at(start.0))),
        time_unix_nano: nanos(at),
        exemplars: point.exemplar.then(exemplar).into_iter().collect(),
        flags: u32::from(point.no_recorded_value),
        value: Some(number_data_point::Value::AsDouble(point.base + point.value * f64::from(times))),
    }
}

/// The point in its kind's own form.
fn data(point: &Metrics, common: NumberDataPoint, times: u32) -> metric::Data {
    let counts: Vec<u64> = point.counts.iter().map(|count| count * u64::from(times)).collect();
    let count = counts.iter().sum();
    let aggregation_temporality = if point.cumulative { 2 } else { 1 };
    let NumberDataPoint { attributes, start_time_unix_nano, time_unix_nano, exemplars, flags, .. } =
        common.clone();
    match point.kind {
        MetricKind::Gauge => metric::Data::Gauge(Gauge { data_points: vec![common] }),
        MetricKind::Sum => {
            metric::Data::Sum(Sum { data_points: vec![common], aggregation_temporality, is_monotonic: true })
        }
        MetricKind::Histogram => {
            let point = HistogramDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                count,
                bucket_counts: counts,
                explicit_bounds: point.bounds.clone(),
                exemplars,
                flags,
                ..HistogramDataPoint::default()
            };
            metric::Data::Histogram(Histogram { data_points: vec![point], aggregation_temporality })
        }
        MetricKind::Exponential => {
            let point = ExponentialHistogramDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                count,
                scale: point.scale,
                positive: Some(Buckets { offset: point.offset, bucket_counts: counts }),
                exemplars,
                flags,
                ..ExponentialHistogramDataPoint::default()
            };
            metric::Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![point],
                aggregation_temporality,
            })
        }
        MetricKind::Summary => {
            let quantile =
                |(quantile, value): &(f64, f64)| ValueAtQuantile { quantile: *quantile, value: *value };
            let point = SummaryDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                count: 100,
                quantile_values: point.quantiles.iter().map(quantile).collect(),
                flags,
                ..SummaryDataPoint::default()
            };
            metric::Data::Summary(Summary { data_points: vec![point] })
        }
    }
}
