//! The same for metrics.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{
    self as metrics, exemplar, exponential_histogram_data_point, metric, number_data_point,
    summary_data_point,
};

use super::super::*;
use super::decoded::{pairs_of, plain_id, plain_origin, plain_pairs, resource_of, scope_of};

fn exemplars_of(point: &PointView<'_>) -> Vec<metrics::Exemplar> {
    point
        .exemplars()
        .map(|exemplar| metrics::Exemplar {
            filtered_attributes: pairs_of(exemplar.attributes()),
            time_unix_nano: exemplar.time(),
            span_id: exemplar.span_id().into(),
            trace_id: exemplar.trace_id().into(),
            value: exemplar.value().map(|value| match value {
                Number::Int(value) => exemplar::Value::AsInt(value),
                Number::Double(value) => exemplar::Value::AsDouble(value),
            }),
        })
        .collect()
}

fn number_of(point: PointView<'_>) -> metrics::NumberDataPoint {
    metrics::NumberDataPoint {
        attributes: pairs_of(point.attributes()),
        start_time_unix_nano: point.start(),
        time_unix_nano: point.time(),
        exemplars: exemplars_of(&point),
        flags: point.flags(),
        value: point.value().map(|value| match value {
            Number::Int(value) => number_data_point::Value::AsInt(value),
            Number::Double(value) => number_data_point::Value::AsDouble(value),
        }),
    }
}

fn histogram_of(point: PointView<'_>) -> metrics::HistogramDataPoint {
    metrics::HistogramDataPoint {
        attributes: pairs_of(point.attributes()),
        start_time_unix_nano: point.start(),
        time_unix_nano: point.time(),
        count: point.count(),
        sum: point.sum(),
        bucket_counts: point.bucket_counts().collect(),
        explicit_bounds: point.explicit_bounds().collect(),
        exemplars: exemplars_of(&point),
        flags: point.flags(),
        min: point.min(),
        max: point.max(),
    }
}

fn exponential_of(point: PointView<'_>) -> metrics::ExponentialHistogramDataPoint {
    let buckets = |buckets: Buckets<'_>| {
        let (offset, bucket_counts) = (buckets.offset(), buckets.counts().collect());
        Some(exponential_histogram_data_point::Buckets { offset, bucket_counts })
    };
    metrics::ExponentialHistogramDataPoint {
        attributes: pairs_of(point.attributes()),
        start_time_unix_nano: point.start(),
        time_unix_nano: point.time(),
        count: point.count(),
        sum: point.sum(),
        scale: point.scale(),
        zero_count: point.zero_count(),
        positive: buckets(point.positive()),
        negative: buckets(point.negative()),
        flags: point.flags(),
        exemplars: exemplars_of(&point),
        min: point.min(),
        max: point.max(),
        zero_threshold: point.zero_threshold(),
    }
}

fn summary_of(point: PointView<'_>) -> metrics::SummaryDataPoint {
    metrics::SummaryDataPoint {
        attributes: pairs_of(point.attributes()),
        start_time_unix_nano: point.start(),
        time_unix_nano: point.time(),
        count: point.count(),
        sum: point.sum().unwrap_or_default(),
        quantile_values: point
            .quantiles()
            .map(|(quantile, value)| summary_data_point::ValueAtQuantile { quantile, value })
            .collect(),
        flags: point.flags(),
    }
}

fn metric_of(view: MetricView<'_>) -> metrics::Metric {
    let aggregation_temporality = view.temporality_number();
    let data = match view.kind() {
        DataKind::Empty => None,
        DataKind::Gauge => {
            Some(metric::Data::Gauge(metrics::Gauge { data_points: view.points().map(number_of).collect() }))
        }
        DataKind::Sum => Some(metric::Data::Sum(metrics::Sum {
            data_points: view.points().map(number_of).collect(),
            aggregation_temporality,
            is_monotonic: view.is_monotonic(),
        })),
        DataKind::Histogram => Some(metric::Data::Histogram(metrics::Histogram {
            data_points: view.points().map(histogram_of).collect(),
            aggregation_temporality,
        })),
        DataKind::ExponentialHistogram => {
            Some(metric::Data::ExponentialHistogram(metrics::ExponentialHistogram {
                data_points: view.points().map(exponential_of).collect(),
                aggregation_temporality,
            }))
        }
        DataKind::Summary => Some(metric::Data::Summary(metrics::Summary {
            data_points: view.points().map(summary_of).collect(),
        })),
    };
    metrics::Metric {
        name: view.name().into(),
        description: view.description().into(),
        unit: view.unit().into(),
        metadata: pairs_of(view.metadata()),
        data,
    }
}

pub(super) fn metrics_of(body: &[u8]) -> ExportMetricsServiceRequest {
    let resources = resource_metrics(body).map(|resource| metrics::ResourceMetrics {
        resource: resource_of(resource.resource()),
        scope_metrics: resource
            .scopes()
            .map(|scope| metrics::ScopeMetrics {
                scope: scope_of(scope.scope()),
                metrics: scope.metrics().map(metric_of).collect(),
                schema_url: scope.schema_url().into(),
            })
            .collect(),
        schema_url: resource.schema_url().into(),
    });
    ExportMetricsServiceRequest { resource_metrics: resources.collect() }
}

fn plain_exemplars(exemplars: &mut [metrics::Exemplar]) {
    for exemplar in exemplars {
        plain_id(&mut exemplar.trace_id, 16);
        plain_id(&mut exemplar.span_id, 8);
        plain_pairs(&mut exemplar.filtered_attributes);
    }
}

fn plain_metric(metric: &mut metrics::Metric) {
    plain_pairs(&mut metric.metadata);
    let number = |point: &mut metrics::NumberDataPoint| {
        plain_pairs(&mut point.attributes);
        plain_exemplars(&mut point.exemplars);
    };
    match &mut metric.data {
        None => {}
        Some(metric::Data::Gauge(data)) => data.data_points.iter_mut().for_each(number),
        Some(metric::Data::Sum(data)) => data.data_points.iter_mut().for_each(number),
        Some(metric::Data::Histogram(data)) => {
            for point in &mut data.data_points {
                plain_pairs(&mut point.attributes);
                plain_exemplars(&mut point.exemplars);
            }
        }
        Some(metric::Data::ExponentialHistogram(data)) => {
            for point in &mut data.data_points {
                plain_pairs(&mut point.attributes);
                plain_exemplars(&mut point.exemplars);
                point.positive.get_or_insert_default();
                point.negative.get_or_insert_default();
            }
        }
        Some(metric::Data::Summary(data)) => {
            for point in &mut data.data_points {
                plain_pairs(&mut point.attributes);
            }
        }
    }
}

pub(super) fn plain_metrics(mut request: ExportMetricsServiceRequest) -> ExportMetricsServiceRequest {
    for resource in &mut request.resource_metrics {
        let scopes = resource.scope_metrics.iter().map(|scope| scope.scope.clone());
        let scopes = plain_origin(&mut resource.resource, scopes);
        for (scope, plain) in resource.scope_metrics.iter_mut().zip(scopes) {
            scope.scope = plain;
            scope.metrics.iter_mut().for_each(plain_metric);
        }
    }
    request
}
