//! Data points: which become rows, under which form, and of which series they are.

use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::evidence::point::{Form, Point, Series};
use homeostat_pipeline::evidence::{Kind, Method, Row};
use homeostat_pipeline::otlp::{Attributes, DataKind, MetricView, Number, PointView, Temporality, Value};
use homeostat_pipeline::selector::{Fields, Scalar, Status};

use super::emit::blank;
use super::level::{ATTRIBUTES_MAX, Cut, VALUE_BYTES_MAX};
use super::record::{Around, get};
use super::session::Session;

/// Exemplars beyond so many are not looked at.
const EXEMPLARS_SEEN_MAX: usize = 64;

/// A data point and what is around it.
pub struct PointRecord<'r, 'a> {
    /// Its metric.
    pub metric: &'r MetricView<'a>,
    /// The point.
    pub point: &'r PointView<'a>,
    /// What is around it.
    pub around: Around<'a>,
}

impl Fields for PointRecord<'_, '_> {
    fn kind(&self) -> Kind {
        Kind::Unspecified
    }
    fn name(&self) -> &str {
        self.metric.name()
    }
    fn status(&self) -> Option<Status> {
        None
    }
    fn severity(&self) -> u8 {
        0
    }
    fn severity_text(&self) -> &str {
        ""
    }
    fn body(&self, _path: &[String]) -> Option<Scalar<'_>> {
        None
    }
    fn attribute(&self, key: &str) -> Option<Scalar<'_>> {
        get(self.point.attributes(), key)
    }
    fn resource(&self, key: &str) -> Option<Scalar<'_>> {
        get(self.around.resource, key)
    }
    fn scope(&self, key: &str) -> Option<Scalar<'_>> {
        self.around.scope_attribute(key)
    }
    fn scope_name(&self) -> &str {
        self.around.scope_name()
    }
    fn scope_version(&self) -> &str {
        self.around.scope_version()
    }
}

/// What a point is; none, with the reason counted, where nothing can be made of it.
fn form(metric: &MetricView<'_>, point: &PointView<'_>, cut: &mut Cut) -> Option<Form> {
    if point.has_no_recorded_value() {
        cut.unrecorded += 1;
        return None;
    }
    let form = match (metric.kind(), metric.temporality()) {
        (DataKind::Gauge, _) => Some(Form::Gauge),
        // A level that rises and falls is what it is at an instant.
        (DataKind::Sum, Temporality::Cumulative) if !metric.is_monotonic() => Some(Form::Gauge),
        (DataKind::Sum, Temporality::Cumulative) => Some(Form::CumulativeSum),
        (DataKind::Sum, Temporality::Delta) => Some(Form::Sum),
        (DataKind::Histogram, Temporality::Cumulative) => Some(Form::CumulativeHistogram),
        (DataKind::Histogram, Temporality::Delta) => Some(Form::Histogram),
        (DataKind::ExponentialHistogram, Temporality::Cumulative) => Some(Form::CumulativeExponential),
        (DataKind::ExponentialHistogram, Temporality::Delta) => Some(Form::Exponential),
        (DataKind::Summary, _) => Some(Form::Summary),
        (DataKind::Sum | DataKind::Histogram | DataKind::ExponentialHistogram, Temporality::Unspecified)
        | (DataKind::Empty, _) => None,
    };
    let is_number = matches!(metric.kind(), DataKind::Gauge | DataKind::Sum);
    let form = form.filter(|_| !is_number || point.value().is_some());
    cut.unusable += u64::from(form.is_none());
    form
}

/// Whether the observations that the point stands for failed, by the conventions for attributes.
fn is_failure(attributes: Attributes<'_>) -> bool {
    let is = |key: &str, words: &[&str]| {
        attributes.get(key).and_then(Value::as_str).is_some_and(|text| words.contains(&text))
    };
    attributes.get("error.type").is_some_and(|value| !matches!(value, Value::Empty | Value::Str("")))
        || is("otel.status_code", &["ERROR"])
        || is("status.code", &["STATUS_CODE_ERROR", "ERROR"])
}

impl<'a> Session<'_, 'a> {
    /// Reads a data point of a metric.
    pub fn point(&mut self, metric: &MetricView<'a>, message: &'a [u8]) {
        let vocabulary = &self.plan.vocabulary;
        let point = PointView::read(metric.kind(), message);
        let Some(form) = form(metric, &point, &mut self.cut) else { return };
        self.record.read(vocabulary, point.attributes(), Method::Attribute, &mut self.cut);
        self.begin_keys();
        for exemplar in point.exemplars().take(EXEMPLARS_SEEN_MAX) {
            let attributes = exemplar.attributes();
            self.keys.search_attributes(vocabulary, attributes, Method::Nested, &mut self.cut);
            // What the point lost when it was aggregated.
            for (name, value) in attributes.into_iter().take(ATTRIBUTES_MAX) {
                let sea = vocabulary.get(name.as_bytes()).and_then(|target| target.sea);
                if let (Some((sea, is_alias)), Value::Str(text)) = (sea, value)
                    && self.record.sea[sea as usize].is_none()
                {
                    self.record.take_sea(sea as usize, text, is_alias);
                }
            }
        }
        self.add_outer_keys();
        self.keys.scan(&vocabulary.grammar, metric.name(), VALUE_BYTES_MAX, Method::Text, &mut self.cut);
        let count = match form {
            Form::Histogram | Form::Exponential => point.count(),
            Form::Gauge
            | Form::Sum
            | Form::CumulativeSum
            | Form::CumulativeHistogram
            | Form::CumulativeExponential
            | Form::Summary => 1,
        };
        let base = Row {
            time: Timestamp::from_unix_nanos(point.time()),
            is_error: is_failure(point.attributes()),
            value: point.value().map_or(f64::NAN, Number::as_f64),
            count,
            ..blank(Signal::Metrics)
        };
        let first = self.rows.len();
        let record = PointRecord { metric, point: &point, around: self.around };
        self.emit(base, metric.name(), metric.unit(), &record);
        if self.rows.len() > first {
            self.sketch(first, metric, &point, form);
        }
    }

    /// Gives the rows from `first` on what the point says beside its value: one copy for all of them.
    fn sketch(&mut self, first: usize, metric: &MetricView<'a>, point: &PointView<'a>, form: Form) {
        let id = if form.is_cumulative() { self.series(metric, point) } else { [0; 16] };
        let sketch = Point::of(point, form, Series { id, start: point.start() });
        let trace = sketch.exemplars.first().map_or([0; 16], |(_, trace)| *trace);
        let sketch = self.rows.write(|bytes| sketch.encode(bytes));
        for row in &mut self.rows.rows_mut()[first..] {
            (row.sketch, row.trace_id) = (sketch, trace);
        }
    }

    /// Who reports the point: resource, scope, metric and attributes, whatever their order.
    fn series(&mut self, metric: &MetricView<'a>, point: &PointView<'a>) -> [u8; 16] {
        let origin = *self.origin.get_or_insert_with(|| {
            let mut bytes = canonical(self.around.resource);
            if let Some(scope) = self.around.scope {
                put(scope.name().as_bytes(), &mut bytes);
                put(scope.version().as_bytes(), &mut bytes);
                put(&canonical(scope.attributes()), &mut bytes);
            }
            Series::id(&bytes)
        });
        let mut bytes = origin.to_vec();
        put(metric.name().as_bytes(), &mut bytes);
        put(metric.unit().as_bytes(), &mut bytes);
        bytes.push(metric.kind() as u8);
        bytes.extend(canonical(point.attributes()));
        Series::id(&bytes)
    }
}

fn put(part: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(part.len() as u64).to_le_bytes());
    out.extend_from_slice(part);
}

/// The same bytes for the same attributes in any order.
fn canonical(attributes: Attributes<'_>) -> Vec<u8> {
    let mut pairs: Vec<Vec<u8>> = attributes
        .into_iter()
        .map(|(key, value)| {
            let mut pair = Vec::new();
            put(key.as_bytes(), &mut pair);
            put_value(value, &mut pair);
            pair
        })
        .collect();
    pairs.sort_unstable();
    let mut out = Vec::new();
    pairs.iter().for_each(|pair| put(pair, &mut out));
    out
}

fn put_value(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Empty => out.push(0),
        Value::Str(text) => {
            out.push(1);
            put(text.as_bytes(), out);
        }
        Value::Bool(truth) => out.extend([2, u8::from(truth)]),
        Value::Int(number) => {
            out.push(3);
            out.extend(number.to_le_bytes());
        }
        Value::Double(number) => {
            out.push(4);
            out.extend(number.to_bits().to_le_bytes());
        }
        Value::Bytes(bytes) => {
            out.push(5);
            put(bytes, out);
        }
        Value::Array(list) => {
            let mut items = Vec::new();
            list.into_iter().for_each(|item| put_value(item, &mut items));
            out.push(6);
            put(&items, out);
        }
        Value::Map(map) => {
            out.push(7);
            put(&canonical(map), out);
        }
    }
}
