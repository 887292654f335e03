//! Steps of series as the OTLP messages that a service would send.

use bytes::Bytes;
use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::clock::Timestamp;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;

use super::file::{Kind, Steps};

/// Spans and log records that a step has when the series does not say: as many as a window needs to be judged.
const COUNT: u32 = 20;
const OF_RESOURCE: [&str; 3] = ["service.name", "deployment.environment.name", "deployment.environment"];
const ERROR: i32 = 17;
const INFO: i32 = 9;

/// The message of a step; none where the series has no value. `number` makes its trace ids its own.
pub fn message(steps: &Steps<'_>, step: usize, at: Timestamp, number: u64) -> Option<(Signal, Bytes)> {
    let value = steps.values.get(step).copied().flatten()?;
    let failed = steps.errors.get(step).or(steps.errors.last()).copied().flatten().unwrap_or(0.0);
    let made = Made { steps, at, value, failed, number };
    Some(match steps.series.kind() {
        Kind::Span => (Signal::Traces, made.spans()),
        Kind::Log => (Signal::Logs, made.logs()),
        Kind::Metric => (Signal::Metrics, made.point()),
    })
}

struct Made<'a> {
    steps: &'a Steps<'a>,
    at: Timestamp,
    value: f64,
    failed: f64,
    number: u64,
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(0)
}

impl Made<'_> {
    fn resource(&self) -> Option<Resource> {
        let labels = self.steps.series.labels.iter().filter(|(name, _)| OF_RESOURCE.contains(&name.as_str()));
        let attributes = labels.map(|(name, value)| text(name, value)).collect();
        Some(Resource { attributes, ..Resource::default() })
    }

    fn attributes(&self) -> Vec<KeyValue> {
        let series = self.steps.series;
        let labels = series.labels.iter().filter(|(name, _)| !OF_RESOURCE.contains(&name.as_str()));
        let own = labels.map(|(name, value)| text(name, value));
        own.chain(series.req.iter().map(|req| text("req", req))).collect()
    }

    fn count(&self) -> u32 {
        self.steps.series.count.as_ref().map_or(COUNT, |count| count.value)
    }

    fn trace_id(&self, record: u32) -> [u8; 16] {
        ((u128::from(self.number) + 1) << 32 | (u128::from(record) + 1)).to_be_bytes()
    }

    fn spans(&self) -> Bytes {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, as it should"
        )]
        let duration = (self.value.max(0.0) * 1e6) as u64;
        let one = |record: u32| Span {
            trace_id: self.trace_id(record).to_vec(),
            span_id: self.trace_id(record)[8..].to_vec(),
            name: self.steps.series.name.clone().unwrap_or_else(|| "work".to_owned()),
            kind: 2,
            start_time_unix_nano: nanos(self.at).saturating_sub(duration),
            end_time_unix_nano: nanos(self.at),
            attributes: self.attributes(),
            status: (f64::from(record) < self.failed).then(|| Status { code: 2, message: String::new() }),
            ..Span::default()
        };
        let spans = (0..self.count()).map(one).collect();
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        let resource_spans =
            vec![ResourceSpans { resource: self.resource(), scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
    }

    fn logs(&self) -> Bytes {
        let body = || {
            let field = self.steps.series.field.as_ref()?;
            let values = vec![attribute(field, Value::DoubleValue(self.value))];
            Some(AnyValue { value: Some(Value::KvlistValue(KeyValueList { values })) })
        };
        let one = |record: u32| LogRecord {
            time_unix_nano: nanos(self.at),
            severity_number: if f64::from(record) < self.failed { ERROR } else { INFO },
            body: body(),
            attributes: self.attributes(),
            trace_id: self.trace_id(record).to_vec(),
            ..LogRecord::default()
        };
        let log_records = (0..self.count()).map(one).collect();
        let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
        let resource_logs =
            vec![ResourceLogs { resource: self.resource(), scope_logs, ..ResourceLogs::default() }];
        ExportLogsServiceRequest { resource_logs }.encode_to_vec().into()
    }

    /// The value of a measure is a point of the gauge of that name.
    fn point(&self) -> Bytes {
        let series = self.steps.series;
        let measure = series.measure.as_ref().map(|measure| measure.value.clone());
        let point = NumberDataPoint {
            attributes: self.attributes(),
            time_unix_nano: nanos(self.at),
            value: Some(number_data_point::Value::AsDouble(self.value)),
            ..NumberDataPoint::default()
        };
        let metric = Metric {
            name: measure.or_else(|| series.name.clone()).unwrap_or_default(),
            unit: series.unit.clone().unwrap_or_default(),
            data: Some(metric::Data::Gauge(Gauge { data_points: vec![point] })),
            ..Metric::default()
        };
        let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
        let resource_metrics =
            vec![ResourceMetrics { resource: self.resource(), scope_metrics, ..ResourceMetrics::default() }];
        ExportMetricsServiceRequest { resource_metrics }.encode_to_vec().into()
    }
}
