//! One test: its telemetry through the model, and what is expected held against what is known then.

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::Deviation;
use homeostat_pipeline::interest::Selection;
use homeostat_pipeline::selector::Selector;
use homeostat_pipeline::settings::{Period, Position, Problem, did_you_mean};
use homeostat_processors::homeostasis::fold::Account;

use super::file::{Expected, Series, Steps, Test};
use super::telemetry::message;
use crate::rehearsal::{ModelFile, Rehearsal};
use crate::why;

/// An expectation that was not met.
#[derive(Debug)]
pub struct Failure {
    /// Where it is written.
    pub at: Position,
    /// When, and of what.
    pub what: String,
    /// What should have been.
    pub expected: String,
    /// What was.
    pub was: String,
    /// Why, a line each.
    pub why: Vec<String>,
}

/// Runs a test; empty when everything is as expected.
///
/// # Errors
/// The model or the telemetry cannot be used.
pub fn run(test: &Test, model: &ModelFile) -> anyhow::Result<Vec<Failure>> {
    known_to(test, model)?;
    let selections = test.input.iter().filter_map(selection).collect::<Result<_, _>>()?;
    let mut rehearsal = Rehearsal::open(model, selections)?;
    let start = test.start()?;
    let series = test.input.iter().map(Series::steps).collect::<Result<Vec<_>, _>>()?;
    let mut expected: Vec<&Expected> = test.expect.iter().collect();
    // Stable, so that failures of one instant come in the order written.
    expected.sort_by_key(|expected| expected.at.value.0);
    let mut known = Known::default();
    let mut failures = Vec::new();
    let mut step = 0;
    for expected in expected {
        let until = expected.at.value.0;
        let interval = test.interval.0;
        while interval.saturating_mul(step) <= until && (step as usize) < longest(&series) {
            send(&mut rehearsal, &series, step, start + interval * step)?;
            step += 1;
        }
        rehearsal.tick_to(start + until);
        known.learn(&mut rehearsal);
        failures.extend(known.compare(expected, start));
    }
    Ok(failures)
}

/// That the model has the requirements that are expected and the measures that are fed.
fn known_to(test: &Test, file: &ModelFile) -> Result<(), Problem> {
    let all = &file.model.requirements;
    let unknown = |at: &Position, req: &str| {
        let near = did_you_mean(req, all.keys().map(String::as_str));
        Problem::error(at, format!("the model has no requirement `{req}`{near}"))
    };
    for series in &test.input {
        let (Some(measure), Some(req)) = (&series.measure, &series.req) else { continue };
        let known = all.get(req).ok_or_else(|| unknown(&measure.at, req))?;
        if !known.expectations.contains_key(&measure.value) {
            let near = did_you_mean(&measure.value, known.expectations.keys().map(String::as_str));
            let message = format!("{req} has no measure `{}`{near}", measure.value);
            return Err(Problem::error(&measure.at, message));
        }
    }
    for expected in &test.expect {
        let known = all.get(&expected.req).ok_or_else(|| unknown(&expected.at.at, &expected.req))?;
        let measure = expected.measure.as_ref().filter(|measure| !known.expectations.contains_key(*measure));
        if let Some(measure) = measure {
            let near = did_you_mean(measure, known.expectations.keys().map(String::as_str));
            let message = format!("{} has no measure `{measure}`{near}", expected.req);
            return Err(Problem::error(&expected.at.at, message));
        }
    }
    Ok(())
}

/// The value of a measure is the point of a gauge of that name, which no selector of the model need know.
fn selection(series: &Series) -> Option<Result<Selection, Problem>> {
    let (measure, req) = (series.measure.as_ref()?, series.req.clone()?);
    let selector = Selector::parse(&format!("name == \"{}\"", measure.value));
    let selection = |selector| Selection {
        signal: Signal::Metrics,
        req,
        measure: measure.value.clone(),
        selector,
        takes_keyed: false,
    };
    Some(selector.map(selection).map_err(|fault| Problem::error(&measure.at, fault.to_string())))
}

fn longest(series: &[Steps<'_>]) -> usize {
    series.iter().map(|steps| steps.values.len()).max().unwrap_or(0)
}

/// Everything that one step observes, folded when it is.
fn send(rehearsal: &mut Rehearsal, series: &[Steps<'_>], step: u32, at: Timestamp) -> anyhow::Result<()> {
    rehearsal.tick_to(at);
    for (number, steps) in series.iter().enumerate() {
        let number = u64::from(step) * series.len() as u64 + number as u64;
        if let Some((signal, body)) = message(steps, step as usize, at, number) {
            let rows = rehearsal.tag(signal, body)?;
            rehearsal.fold(&[&rows], &mut |_| None)?;
        }
    }
    Ok(())
}

/// What is known so far.
#[derive(Default)]
struct Known {
    /// Fingerprint → its deviation as last recorded.
    deviations: BTreeMap<String, Deviation>,
    /// Requirement, labels, measure → its latest judgement.
    judged: BTreeMap<(String, BTreeMap<String, String>, String), Account>,
}

impl Known {
    fn learn(&mut self, rehearsal: &mut Rehearsal) {
        for (_, deviation) in rehearsal.steps.drain(..) {
            self.deviations.insert(deviation.fingerprint.clone(), deviation);
        }
        for account in rehearsal.accounts() {
            let key = (account.req.clone(), account.labels.clone(), account.measure.clone());
            self.judged.insert(key, account);
        }
    }

    /// Those that an expectation is about.
    fn of<'a>(&'a self, expected: &'a Expected) -> Vec<&'a Deviation> {
        let is_of = |deviation: &&Deviation| {
            deviation.req_id == expected.req
                && expected.measure.as_ref().is_none_or(|measure| *measure == deviation.metric_name)
                && expected
                    .labels
                    .iter()
                    .all(|(name, value)| deviation.context.labels.get(name) == Some(value))
        };
        self.deviations.values().filter(is_of).collect()
    }

    fn compare(&self, expected: &Expected, start: Timestamp) -> Option<Failure> {
        let known = self.of(expected);
        let is_met = if expected.none {
            !known.iter().any(|deviation| deviation.status.is_live())
        } else {
            known.iter().any(|deviation| is_as(expected, deviation))
        };
        if is_met {
            return None;
        }
        let measure = expected.measure.as_ref().map_or_else(String::new, |measure| format!(" {measure}"));
        let was: Vec<String> = known
            .iter()
            .filter(|deviation| !expected.none || deviation.status.is_live())
            .map(|deviation| shown(deviation, start))
            .collect();
        let was = if was.is_empty() { "no deviation".to_owned() } else { was.join("; ") };
        Some(Failure {
            at: expected.at.at.clone(),
            what: format!("at {} {}{measure}", expected.at.value, expected.req),
            expected: wanted(expected),
            was,
            why: self.why(expected),
        })
    }

    fn why(&self, expected: &Expected) -> Vec<String> {
        let of = self.judged.values().filter(|account| {
            account.req == expected.req
                && expected.measure.as_ref().is_none_or(|measure| *measure == account.measure)
                && expected.labels.iter().all(|(name, value)| account.labels.get(name) == Some(value))
        });
        let lines: Vec<String> = of.flat_map(why::lines).collect();
        if !lines.is_empty() {
            return lines;
        }
        let others: std::collections::BTreeSet<&str> =
            self.judged.keys().map(|(req, _, _)| req.as_str()).collect();
        let others: Vec<&str> = others.into_iter().collect();
        vec![if others.is_empty() {
            "no window was judged yet: one closes when its end and `allowed_lateness` are past".to_owned()
        } else {
            format!("no window of it was judged; judged were {}", others.join(", "))
        }]
    }
}

fn is_as(expected: &Expected, deviation: &Deviation) -> bool {
    let near = |value: f64| {
        deviation.current_value.is_some_and(|got| (got - value).abs() <= value.abs() * 0.01 + 1e-12)
    };
    expected.status.is_none_or(|status| status == deviation.status)
        && expected.severity.is_none_or(|severity| severity == deviation.severity)
        && expected.rule.as_ref().is_none_or(|rule| *rule == deviation.rule.id)
        && expected.reason.as_ref().is_none_or(|words| deviation.reason.contains(words))
        && expected.value.is_none_or(near)
}

fn wanted(expected: &Expected) -> String {
    if expected.none {
        return "no deviation that is open or recovering".to_owned();
    }
    let parts = [
        expected.status.map(|status| format!("status {}", status.name())),
        expected.severity.map(|severity| format!("severity {}", severity.name())),
        expected.value.map(|value| format!("value {}", why::number(value))),
        expected.rule.as_ref().map(|rule| format!("rule {rule}")),
        expected.reason.as_ref().map(|reason| format!("a reason with `{reason}`")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn shown(deviation: &Deviation, start: Timestamp) -> String {
    format!(
        "{} {} since {}, severity {}, value {}, rule {}: {}",
        deviation.metric_name,
        deviation.status.name(),
        Period(Duration::from_secs(deviation.at.since(start).as_secs())),
        deviation.severity.name(),
        why::measured(deviation.current_value, &deviation.unit),
        deviation.rule.id,
        deviation.reason
    )
}
