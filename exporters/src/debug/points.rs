//! Metrics and their data points as text.

use std::fmt::Write as _;

use homeostat_pipeline::otlp::{DataKind, MetricView, Number, PointView, Temporality, resource_metrics};

use super::page::{Page, Pairs, id, time};

/// A line for each data point.
pub(super) fn normal(body: &[u8], page: &mut Page) {
    for metric in
        resource_metrics(body).flat_map(|resource| resource.scopes()).flat_map(|scope| scope.metrics())
    {
        for point in metric.points() {
            if page.is_full() {
                return;
            }
            page.line(format_args!(
                "{}{{{}}}{}",
                metric.name(),
                Pairs(point.attributes(), ","),
                values(&point)
            ));
        }
    }
}

/// What a point says, each with a space before it.
fn values(point: &PointView<'_>) -> String {
    let mut text = String::new();
    let mut say = |name: &str, value: f64| {
        // Writing to a string cannot fail.
        let _ = write!(text, " {name}{value}");
    };
    match point.kind() {
        DataKind::Gauge | DataKind::Sum => match point.value() {
            Some(Number::Int(value)) => return format!(" {value}"),
            Some(Number::Double(value)) => say("", value),
            None => {}
        },
        DataKind::Histogram | DataKind::ExponentialHistogram | DataKind::Summary => {
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            say("count=", point.count() as f64);
            for (name, value) in [("sum=", point.sum()), ("min=", point.min()), ("max=", point.max())] {
                if let Some(value) = value {
                    say(name, value);
                }
            }
            let mut bounds = point.explicit_bounds();
            for count in point.bucket_counts() {
                let bound = bounds.next().map_or_else(String::new, |bound| format!("le{bound}="));
                #[expect(clippy::cast_precision_loss, reason = "for people")]
                say(&bound, count as f64);
            }
            for (quantile, value) in point.quantiles() {
                say(&format!("q{quantile}="), value);
            }
        }
        DataKind::Empty => {}
    }
    text
}

/// All that metrics say.
pub(super) fn detailed(body: &[u8], page: &mut Page) {
    for (index, resource) in resource_metrics(body).enumerate() {
        page.resource("ResourceMetrics", index, resource.schema_url(), &resource.resource());
        for (index, scope) in resource.scopes().enumerate() {
            page.scope("Metrics", index, scope.schema_url(), &scope.scope());
            for (index, metric) in scope.metrics().enumerate() {
                descriptor(index, &metric, page);
                for (index, point) in metric.points().enumerate() {
                    if page.is_full() {
                        return;
                    }
                    show(index, &point, page);
                }
            }
        }
    }
}

fn descriptor(index: usize, metric: &MetricView<'_>, page: &mut Page) {
    page.line(format_args!("Metric #{index}"));
    page.line(format_args!("Descriptor:"));
    page.line(format_args!("     -> Name: {}", metric.name()));
    page.line(format_args!("     -> Description: {}", metric.description()));
    page.line(format_args!("     -> Unit: {}", metric.unit()));
    page.line(format_args!("     -> DataType: {:?}", metric.kind()));
    if metric.kind() == DataKind::Sum {
        page.line(format_args!("     -> IsMonotonic: {}", metric.is_monotonic()));
    }
    if matches!(metric.kind(), DataKind::Sum | DataKind::Histogram | DataKind::ExponentialHistogram) {
        let temporality = match metric.temporality() {
            Temporality::Unspecified => "Unspecified",
            Temporality::Delta => "Delta",
            Temporality::Cumulative => "Cumulative",
        };
        page.line(format_args!("     -> AggregationTemporality: {temporality}"));
    }
}

fn show(index: usize, point: &PointView<'_>, page: &mut Page) {
    let title = match point.kind() {
        DataKind::Gauge | DataKind::Sum | DataKind::Empty => "NumberDataPoints",
        DataKind::Histogram => "HistogramDataPoints",
        DataKind::ExponentialHistogram => "ExponentialHistogramDataPoints",
        DataKind::Summary => "SummaryDataPoints",
    };
    page.line(format_args!("{title} #{index}"));
    page.attributes("", "Data point attributes", point.attributes());
    page.line(format_args!("StartTimestamp: {}", time(point.start())));
    page.line(format_args!("Timestamp: {}", time(point.time())));
    match point.value() {
        Some(Number::Int(value)) => page.line(format_args!("Value: {value}")),
        Some(Number::Double(value)) => page.line(format_args!("Value: {value:.6}")),
        None => {}
    }
    if matches!(point.kind(), DataKind::Histogram | DataKind::ExponentialHistogram | DataKind::Summary) {
        page.line(format_args!("Count: {}", point.count()));
    }
    for (name, value) in [("Sum", point.sum()), ("Min", point.min()), ("Max", point.max())] {
        if let Some(value) = value {
            page.line(format_args!("{name}: {value:.6}"));
        }
    }
    for (index, bound) in point.explicit_bounds().enumerate() {
        page.line(format_args!("ExplicitBounds #{index}: {bound:.6}"));
    }
    for (index, count) in point.bucket_counts().enumerate() {
        page.line(format_args!("Buckets #{index}, Count: {count}"));
    }
    if point.kind() == DataKind::ExponentialHistogram {
        exponential(point, page);
    }
    for (index, (quantile, value)) in point.quantiles().enumerate() {
        page.line(format_args!("QuantileValue #{index}: Quantile {quantile:.6}, Value {value:.6}"));
    }
    exemplars(point, page);
}

/// Buckets from the most negative to the most positive; a bound is base^index, base = 2^(2^-scale).
fn exponential(point: &PointView<'_>, page: &mut Page) {
    let factor = std::f64::consts::LN_2 * 2f64.powi(point.scale().saturating_neg());
    let bound = |index: i64| {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let index = index as f64;
        (index * factor).exp()
    };
    let negative: Vec<u64> = point.negative().counts().collect();
    for (at, count) in (0i64..).zip(&negative).collect::<Vec<_>>().into_iter().rev() {
        let index = i64::from(point.negative().offset()) + at;
        page.line(format_args!("Bucket [{:.6}, {:.6}), Count: {count}", -bound(index + 1), -bound(index)));
    }
    if point.zero_count() > 0 {
        page.line(format_args!("Bucket [0, 0], Count: {}", point.zero_count()));
    }
    for (at, count) in (0i64..).zip(point.positive().counts()) {
        let index = i64::from(point.positive().offset()) + at;
        page.line(format_args!("Bucket ({:.6}, {:.6}], Count: {count}", bound(index), bound(index + 1)));
    }
}

fn exemplars(point: &PointView<'_>, page: &mut Page) {
    for (index, exemplar) in point.exemplars().enumerate() {
        if index == 0 {
            page.line(format_args!("Exemplars:"));
        }
        page.line(format_args!("Exemplar #{index}"));
        page.line(format_args!("     -> Trace ID: {}", id(&exemplar.trace_id())));
        page.line(format_args!("     -> Span ID: {}", id(&exemplar.span_id())));
        page.line(format_args!("     -> Timestamp: {}", time(exemplar.time())));
        match exemplar.value() {
            Some(Number::Int(value)) => page.line(format_args!("     -> Value: {value}")),
            Some(Number::Double(value)) => page.line(format_args!("     -> Value: {value:.6}")),
            None => {}
        }
        page.attributes("     ", "     -> FilteredAttributes", exemplar.attributes());
    }
}
