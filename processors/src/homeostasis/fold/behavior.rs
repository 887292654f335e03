//! What one spec node did in one window.

use std::collections::BTreeMap;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{Behavior, MeasureValue, behavior_uid, hex};

use super::super::units::Unit;
use super::dist::{Dist, EXEMPLARS_MAX};
use super::pane::Pane;
use super::window::Span;

/// Failed traces come first, but leave half of the room to the slowest.
const FAILED_FIRST: usize = EXEMPLARS_MAX / 2;

/// The order of behaviors in their finding.
pub fn sort_key(behavior: &Behavior) -> (Timestamp, &str, &str) {
    (behavior.window_start, &behavior.spec_node_id, &behavior.uid)
}

/// The behavior that a node's pane tells.
pub fn behavior_of(node: &str, context: &str, flow: &str, span: Span, pane: &Pane, version: u32) -> Behavior {
    let none = Dist::default();
    let dist = pane.dist(0).unwrap_or(&none);
    Behavior {
        uid: behavior_uid(node, span.start, span.end),
        version,
        spec_node_id: node.to_owned(),
        context: context.to_owned(),
        flow: flow.to_owned(),
        window_start: span.start,
        window_end: span.end,
        count: dist.count,
        errors: dist.errors,
        measures: measures(dist, span),
        req_ids: pane.provenance.also.iter().cloned().collect(),
        trace_ids: traces(dist),
        confidence: pane.provenance.confidence(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a window are far below 2^53")]
fn measures(dist: &Dist, span: Span) -> BTreeMap<String, MeasureValue> {
    let (count, errors) = (dist.count as f64, dist.errors as f64);
    let latency = |quantile| {
        let nanos = dist.sketch.quantile(quantile)?.clamp(dist.min, dist.max);
        Unit::NANOSECONDS.convert(nanos, Unit::MILLISECONDS)
    };
    [
        ("p50_latency_ms", latency(0.5), Unit::MILLISECONDS),
        ("p95_latency_ms", latency(0.95), Unit::MILLISECONDS),
        ("p99_latency_ms", latency(0.99), Unit::MILLISECONDS),
        ("error_rate", Some(errors / count), Unit::RATIO),
        ("rate_per_second", Some(count / span.size().as_secs_f64()), Unit::PER_SECOND),
    ]
    .into_iter()
    .filter_map(|(name, value, unit)| {
        let value = value.filter(|value| value.is_finite())?;
        Some((name.to_owned(), MeasureValue { value, unit: unit.name().to_owned() }))
    })
    .collect()
}

fn traces(dist: &Dist) -> Vec<String> {
    let failed = || dist.failed.traces().map(|(_, trace)| trace);
    let slow = dist.high.traces().map(|(_, trace)| trace);
    let mut traces = Vec::new();
    for trace in failed().take(FAILED_FIRST).chain(slow).chain(failed().skip(FAILED_FIRST)) {
        if traces.len() < EXEMPLARS_MAX && !traces.contains(&trace) {
            traces.push(trace);
        }
    }
    traces.iter().map(|trace| hex(trace)).collect()
}
