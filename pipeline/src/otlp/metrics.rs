//! Views of `ExportMetricsServiceRequest`: resources, scopes and metrics. Their points are in [`super::point`].

use std::ops::Range;

use super::point::PointView;
use super::resource::{Resource, Run, Scope, last_text, message, resources};
use super::value::{Attributes, Parts, text};
use super::wire::{self, Field};

/// The resources of a metrics request.
pub fn resource_metrics(body: &[u8]) -> impl Iterator<Item = ResourceMetrics<'_>> + Clone {
    resources(body).map(move |range| ResourceMetrics::at(body, range))
}

/// The metrics of one resource.
#[derive(Clone, Copy, Debug)]
pub struct ResourceMetrics<'a> {
    message: &'a [u8],
    start: usize,
    end: usize,
}

impl<'a> ResourceMetrics<'a> {
    /// The one at a range that [`resources`] gave; empty at any other.
    pub fn at(body: &'a [u8], range: Range<usize>) -> ResourceMetrics<'a> {
        ResourceMetrics { message: message(body, &range), start: range.start, end: range.end }
    }

    /// Where it lies in the body, its key and length included.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// What produced the metrics.
    pub fn resource(&self) -> Resource<'a> {
        Resource::of(self.message)
    }

    /// Its metrics, by scope.
    pub fn scopes(&self) -> impl Iterator<Item = ScopeMetrics<'a>> + Clone + use<'a> {
        Parts::of(self.message, 2).iter().map(|message| ScopeMetrics { message })
    }

    /// The schema of the resource.
    pub fn schema_url(&self) -> &'a str {
        last_text(self.message, 3)
    }
}

/// The metrics of one scope.
#[derive(Clone, Copy, Debug)]
pub struct ScopeMetrics<'a> {
    message: &'a [u8],
}

impl<'a> ScopeMetrics<'a> {
    /// The library that produced the metrics.
    pub fn scope(&self) -> Scope<'a> {
        Scope::of(self.message)
    }

    /// The metrics in order.
    pub fn metrics(&self) -> impl Iterator<Item = MetricView<'a>> + Clone + use<'a> {
        Parts::of(self.message, 2).iter().map(MetricView::read)
    }

    /// The same metrics as they are encoded; [`MetricView::read`] reads one.
    pub fn messages(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        Parts::of(self.message, 2).iter()
    }

    /// The schema of the metrics.
    pub fn schema_url(&self) -> &'a str {
        last_text(self.message, 3)
    }
}

/// What kind of points a metric has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataKind {
    /// None, or one that OTLP did not have when this was written.
    #[default]
    Empty,
    /// Values as they are at an instant.
    Gauge,
    /// Sums of increments.
    Sum,
    /// Counts in buckets with explicit bounds.
    Histogram,
    /// Counts in buckets whose bounds grow by a factor.
    ExponentialHistogram,
    /// Quantiles that the sender worked out.
    Summary,
}

impl DataKind {
    /// The kind of the oneof's member `tag`.
    const fn of(tag: u32) -> DataKind {
        match tag {
            5 => DataKind::Gauge,
            7 => DataKind::Sum,
            9 => DataKind::Histogram,
            10 => DataKind::ExponentialHistogram,
            11 => DataKind::Summary,
            _ => DataKind::Empty,
        }
    }
}

/// Over what time a point counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temporality {
    /// Not stated, or by a number that OTLP does not have.
    #[default]
    Unspecified,
    /// Since the point before.
    Delta,
    /// Since `start`, which stays until a reset.
    Cumulative,
}

/// One metric.
#[derive(Clone, Copy)]
pub struct MetricView<'a> {
    name: &'a [u8],
    description: &'a [u8],
    unit: &'a [u8],
    metadata: &'a [u8],
    points: Parts<'a>,
    kind: DataKind,
    temporality: i32,
    is_monotonic: bool,
}

impl<'a> MetricView<'a> {
    /// One pass over the metric's own fields.
    pub fn read(message: &'a [u8]) -> MetricView<'a> {
        let mut metric = MetricView {
            name: &[],
            description: &[],
            unit: &[],
            metadata: &[],
            points: Parts::of(&[], 1),
            kind: DataKind::Empty,
            temporality: 0,
            is_monotonic: false,
        };
        let mut metadata = Run::default();
        let mut rest = message;
        loop {
            let start = message.len() - rest.len();
            let Some((tag, field)) = wire::next(&mut rest) else { break };
            match (tag, field) {
                (1, field) => metric.name = field.bytes(),
                (2, field) => metric.description = field.bytes(),
                (3, field) => metric.unit = field.bytes(),
                (5 | 7 | 9 | 10 | 11, Field::Bytes(data)) => metric.merge(message, tag, data),
                (12, _) => metadata.extend(start, message.len() - rest.len()),
                _ => {}
            }
        }
        metric.metadata = metadata.of(message);
        metric
    }

    /// The last member of the oneof wins; one that follows its like is joined to it.
    fn merge(&mut self, message: &'a [u8], tag: u32, data: &'a [u8]) {
        if DataKind::of(tag) != self.kind {
            self.kind = DataKind::of(tag);
            self.points = Parts::since(message, tag, 1, data);
            (self.temporality, self.is_monotonic) = (0, false);
        }
        let mut rest = data;
        while let Some((tag, field)) = wire::next(&mut rest) {
            match (tag, field) {
                (2, Field::Varint(number)) => self.temporality = number as i32,
                (3, Field::Varint(number)) => self.is_monotonic = number != 0,
                _ => {}
            }
        }
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        text(self.name)
    }

    /// What it measures, in words.
    pub fn description(&self) -> &'a str {
        text(self.description)
    }

    /// The unit of its values, in UCUM.
    pub fn unit(&self) -> &'a str {
        text(self.unit)
    }

    /// What translation from another format needs.
    pub fn metadata(&self) -> Attributes<'a> {
        Attributes::new(Parts::of(self.metadata, 12))
    }

    /// What its points are.
    pub fn kind(&self) -> DataKind {
        self.kind
    }

    /// Over what time its points count; meaningless for gauges and summaries.
    pub fn temporality(&self) -> Temporality {
        match self.temporality {
            1 => Temporality::Delta,
            2 => Temporality::Cumulative,
            _ => Temporality::Unspecified,
        }
    }

    /// The same as it came.
    pub fn temporality_number(&self) -> i32 {
        self.temporality
    }

    /// Whether a sum only grows.
    pub fn is_monotonic(&self) -> bool {
        self.is_monotonic
    }

    /// Its points in order.
    pub fn points(&self) -> impl Iterator<Item = PointView<'a>> + Clone + use<'a> {
        let kind = self.kind;
        self.points.iter().map(move |message| PointView::read(kind, message))
    }

    /// The same points as they are encoded; [`PointView::read`] reads one.
    pub fn messages(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.points.iter()
    }
}
