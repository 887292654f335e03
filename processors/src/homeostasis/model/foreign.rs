//! `telemetry.datadog` and `telemetry.prometheus`: what a measure is called where it is also watched, so that an alert from there
//! and homeostat's own check are about the same thing.

use std::collections::BTreeMap;

use homeostat_pipeline::settings::{Position, did_you_mean};

use super::place::{Block, Reader};
use super::requirement::Measures;
use super::{Class, Measure, Statistic};

/// A measure under another system's name.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreign {
    /// `datadog` or `prometheus`.
    pub system: &'static str,
    /// The metric's name there.
    pub metric: String,
    /// The measure that it is; none when it fits none of the requirement's.
    pub measure: Option<String>,
    /// Datadog's tags, as `key:value`; Prometheus's labels as `key=value`.
    pub tags: Vec<String>,
}

/// What a foreign metric is reduced to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reduced {
    Quantile(f64),
    Average,
    Min,
    Max,
    Sum,
    Count,
    Rate,
}

/// Reads both blocks; `telemetry` is their parent.
pub(super) fn read(telemetry: Block<'_>, measures: &Measures, reader: &mut Reader) -> Vec<Foreign> {
    let mut all = Vec::new();
    if let Some(node) = telemetry.get("datadog") {
        let block = reader.block(node, "`datadog`", &["metric", "tags", "aggregation", "as"], &[]);
        let tags = reader.words(block, "tags").unwrap_or_default();
        let tags = tags.into_iter().map(|(_, tag)| tag).collect();
        all.extend(one(block, "datadog", tags, measures, reader));
    }
    if let Some(node) = telemetry.get("prometheus") {
        let known = ["metric", "labels", "quantile", "aggregation", "as"];
        let block = reader.block(node, "`prometheus`", &known, &[]);
        let labels: BTreeMap<String, String> = reader.take(block, "labels").unwrap_or_default();
        let labels = labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        all.extend(one(block, "prometheus", labels, measures, reader));
    }
    all
}

fn one(
    block: Block<'_>,
    system: &'static str,
    tags: Vec<String>,
    measures: &Measures,
    reader: &mut Reader,
) -> Option<Foreign> {
    let reduced = reduced(block, reader);
    if block.get("metric").is_none() {
        reader.error(block.at, "the metric's name is missing (add `metric`)");
    }
    let metric: String = reader.take(block, "metric")?;
    let measure = match block.get("as") {
        Some(node) => {
            let name: String = reader.read(node)?;
            if !measures.contains_key(&name) {
                let near = did_you_mean(&name, measures.keys().map(String::as_str));
                reader.error(&node.at, format!("`{name}` is no measure of the requirement{near}"));
            }
            Some(name)
        }
        None => fitting(&metric, reduced.ok()?, measures, block.at, reader),
    };
    Some(Foreign { system, metric, measure, tags })
}

/// `aggregation` or `quantile`; an error was reported.
fn reduced(block: Block<'_>, reader: &mut Reader) -> Result<Option<Reduced>, ()> {
    let quantile = match block.get("quantile") {
        Some(node) => {
            let number = reader.number(node).ok_or(())?;
            if !(0.0..=1.0).contains(&number) {
                reader.error(&node.at, format!("`{number}` is no quantile (write for example `0.95`)"));
                return Err(());
            }
            Some(Reduced::Quantile(number))
        }
        None => None,
    };
    let Some(node) = block.get("aggregation") else { return Ok(quantile) };
    let word: String = reader.read(node).ok_or(())?;
    let found = match word.as_str() {
        "avg" => Some(Reduced::Average),
        "min" => Some(Reduced::Min),
        "max" => Some(Reduced::Max),
        "sum" => Some(Reduced::Sum),
        "count" => Some(Reduced::Count),
        "rate" => Some(Reduced::Rate),
        // Named as measures are: `p95`, `p999`.
        other => match Measure::parse(&format!("{other}_x")).statistic {
            Statistic::Quantile(number) if other.starts_with('p') => Some(Reduced::Quantile(number)),
            _ => None,
        },
    };
    match (found, quantile) {
        (None, _) => {
            let message =
                format!("unknown aggregation `{word}`; known: avg, min, max, sum, count, rate, p50 … p99");
            reader.error(&node.at, message);
            Err(())
        }
        (Some(found), Some(quantile)) if found != quantile => {
            reader.error(&node.at, "`aggregation` and `quantile` differ: keep one of them");
            Err(())
        }
        (Some(found), _) => Ok(Some(found)),
    }
}

/// The only measure whose statistic and class fit; several are an error, none is a warning.
fn fitting(
    metric: &str,
    reduced: Option<Reduced>,
    measures: &Measures,
    at: &Position,
    reader: &mut Reader,
) -> Option<String> {
    let said = Measure::parse(&metric.replace(['.', '-'], "_"));
    let fits = |measure: &Measure| {
        let class = said.class == Class::Other || said.class == measure.class;
        let unit = match (said.unit, measure.unit) {
            (Some(one), Some(other)) => one.dimension() == other.dimension(),
            (None, _) | (_, None) => true,
        };
        class && unit && reduced.is_none_or(|reduced| is_reduced(measure.statistic, reduced))
    };
    let names: Vec<&str> = measures.keys().map(String::as_str).collect();
    let found: Vec<&str> = names.iter().copied().filter(|name| fits(&Measure::parse(name))).collect();
    match found.as_slice() {
        [only] => Some((*only).to_owned()),
        [] => {
            let names = names.join(", ");
            let message =
                format!("`{metric}` fits no measure of the requirement (say which it is by `as`: {names})");
            reader.warning(at, message);
            None
        }
        several => {
            let names = several.join(", ");
            let message =
                format!("`{metric}` may be several measures of the requirement (say which by `as`: {names})");
            reader.error(at, message);
            None
        }
    }
}

/// Whether a metric that is reduced so is such a measure.
fn is_reduced(statistic: Statistic, reduced: Reduced) -> bool {
    match statistic {
        Statistic::Quantile(own) => {
            matches!(reduced, Reduced::Quantile(quantile) if (own - quantile).abs() < 1e-9)
        }
        Statistic::Mean => reduced == Reduced::Average,
        Statistic::Min => reduced == Reduced::Min,
        Statistic::Max => reduced == Reduced::Max,
        Statistic::Sum | Statistic::Downtime => reduced == Reduced::Sum,
        Statistic::Count | Statistic::ErrorCount => matches!(reduced, Reduced::Count | Reduced::Sum),
        Statistic::Rate => reduced == Reduced::Rate,
        Statistic::ErrorRate | Statistic::SuccessRate | Statistic::Ratio => {
            matches!(reduced, Reduced::Rate | Reduced::Average)
        }
        Statistic::Uptime => reduced == Reduced::Average,
    }
}
