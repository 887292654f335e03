//! What feeds a measure, in words; and the lint of those that nothing feeds.

use std::collections::BTreeMap;

use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::interest::Selection;

use super::place::Reader;
use super::requirement::Measures;
use super::{Expectation, Measure, Requirement, Statistic};

/// What feeds a measure of a requirement, for people; empty when nothing does.
pub fn feeders(requirement: &Requirement, measure: &Measure) -> Vec<String> {
    let mut all = Vec::new();
    if measure.takes_spans {
        all.push(format!("durations of spans that carry {}", requirement.key));
    } else if measure.takes_ordinary() {
        all.push(format!("spans and log records that carry {}", requirement.key));
    }
    let fields: Vec<String> = measure.fields().into_iter().map(|(field, _)| format!("`{field}`")).collect();
    if let Some((own, others)) = fields.split_first() {
        let others = if others.is_empty() { "" } else { " (or another unit of time)" };
        all.push(format!("log field {own}{others}, data points of that name"));
    }
    for selection in selections_of(&requirement.selections, measure) {
        all.push(format!("{} where {}", records(selection.signal), selection.selector));
    }
    for foreign in
        requirement.foreign.iter().filter(|foreign| foreign.measure.as_ref() == Some(&measure.name))
    {
        all.push(format!("alerts about {} `{}`", foreign.system, foreign.metric));
    }
    all
}

/// Warns of measures with rules or thresholds that no telemetry can reach.
pub(super) fn check(
    measures: &Measures,
    expectations: &BTreeMap<String, Expectation>,
    selections: &[Selection],
    reader: &mut Reader,
) {
    for (name, expected) in expectations {
        let measure = &expected.measure;
        let is_fed = measure.takes_ordinary()
            || measure.statistic == Statistic::Ratio
            || !measure.fields().is_empty()
            || selections_of(selections, measure).next().is_some();
        if let Some(stated) = measures.get(name).filter(|_| !is_fed) {
            let message = format!(
                "nothing feeds {name}: no span, no log field and no selector says it (add `telemetry: {{ otlp: [{{ signal: …, \
                 name: …, as: {name} }}] }}`)"
            );
            reader.warning(&stated.at, message);
        }
    }
}

fn selections_of<'a>(all: &'a [Selection], measure: &'a Measure) -> impl Iterator<Item = &'a Selection> {
    let parts = Measure::ratio_rows(&measure.name);
    all.iter().filter(move |one| one.measure == measure.name || parts.contains(&one.measure))
}

const fn records(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "spans",
        Signal::Logs => "log records",
        Signal::Metrics => "data points",
    }
}
