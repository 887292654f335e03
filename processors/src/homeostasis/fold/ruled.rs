//! The model as the fold needs it: per requirement the groups of labels that its rules judge by, and per group its measures.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::model::{Direction, Expectation, Model, Requirement, Rule, Statistic};
use super::super::sketch;
use super::super::units::Unit;
use super::pane::{Dist, EXEMPLARS_MAX, Exemplars, Pane, TraceId};

/// A model and what is derived from it.
#[derive(Debug)]
pub struct Ruled {
    /// The model.
    pub model: Model,
    /// Requirement key → its groups; only requirements with rules.
    pub groups: BTreeMap<String, Vec<Group>>,
}

/// The rules of one requirement that group by the same labels: they share subjects.
#[derive(Clone, Debug)]
pub struct Group {
    /// Label names, sorted.
    pub labels: Vec<String>,
    /// By name.
    pub measures: Vec<Judged>,
}

/// A measure and the rules on it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Its place among all of the model's.
    pub number: usize,
    /// Unit, direction, thresholds, baseline.
    pub expected: Expectation,
    /// In the order written; never empty.
    pub rules: Vec<Rule>,
}

/// What one slot of a pane holds: the rows of this `measure` column (empty: ordinary observations) with values in this unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The row's `measure`; empty for ordinary observations.
    pub measure: String,
    /// The row's `unit`; empty when it says none.
    pub unit: String,
}

impl Ruled {
    /// Derives what the fold needs.
    pub fn new(model: Model) -> Ruled {
        let mut groups: BTreeMap<String, Vec<Group>> = model
            .requirements
            .iter()
            .filter(|(_, requirement)| !requirement.rules.is_empty())
            .map(|(key, requirement)| (key.clone(), groups_of(requirement)))
            .collect();
        let all = groups.values_mut().flatten().flat_map(|group| &mut group.measures);
        for (number, judged) in all.enumerate() {
            judged.number = number;
        }
        Ruled { model, groups }
    }

    /// The group of a requirement that judges by exactly these labels.
    pub fn group<'a>(&self, req: &str, labels: impl Iterator<Item = &'a String> + Clone) -> Option<&Group> {
        self.groups.get(req)?.iter().find(|group| group.labels.iter().eq(labels.clone()))
    }

    /// How long after its end a window is kept: late rows correct it.
    pub fn kept_for(&self) -> Duration {
        let window = &self.model.defaults.window;
        window.correction.max(window.allowed_lateness)
    }

    /// The longest time for which an ended episode can still matter.
    pub fn memory(&self) -> Duration {
        let rules = self.model.requirements.values().flat_map(|requirement| &requirement.rules);
        let cooldown = rules.map(|rule| rule.cooldown).max().unwrap_or_default();
        cooldown.max(self.model.defaults.verify_for).max(Duration::from_secs(86_400))
    }
}

fn groups_of(requirement: &Requirement) -> Vec<Group> {
    let labels: BTreeSet<&Vec<String>> = requirement.rules.iter().map(|rule| &rule.group_by).collect();
    let group = |labels: &Vec<String>| {
        let judged = requirement.expectations.iter().filter_map(|(name, expected)| {
            let rules: Vec<Rule> =
                requirement.rules_of(name).filter(|rule| rule.group_by == *labels).cloned().collect();
            (!rules.is_empty()).then(|| Judged { number: 0, expected: expected.clone(), rules })
        });
        Group { labels: labels.clone(), measures: judged.collect() }
    };
    labels.into_iter().map(group).collect()
}

impl Group {
    /// Whether any of its measures reads rows with this `measure` column.
    pub fn takes(&self, measure: &str) -> bool {
        self.measures.iter().any(|judged| judged.takes(measure))
    }

    /// Whether the lowest values of such rows are the ones to look at.
    pub fn wants_low(&self, measure: &str) -> bool {
        self.measures.iter().any(|judged| {
            judged.takes(measure)
                && !judged.expected.measure.statistic.is_counted()
                && judged.expected.direction == Direction::HigherIsBetter
        })
    }
}

/// What a measure came to in one window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// In the expectation's unit; none when it is unknown.
    pub value: Option<f64>,
    /// Observations that it rests on.
    pub samples: u64,
    /// Those that failed.
    pub errors: u64,
    /// Traces to look at, the most adverse first.
    pub traces: Vec<TraceId>,
}

impl Judged {
    fn takes(&self, measure: &str) -> bool {
        if measure.is_empty() {
            self.expected.measure.takes_spans || self.expected.measure.statistic.is_counted()
        } else {
            self.expected.measure.field_unit(measure).is_some()
        }
    }

    /// The unit in which the values of a slot come; none when the slot does not feed this measure.
    fn unit_of(&self, slot: &Slot) -> Option<Unit> {
        if !self.takes(&slot.measure) {
            return None;
        }
        if self.expected.measure.statistic.is_counted() {
            return Some(self.expected.unit);
        }
        let by_name = self.expected.measure.field_unit(&slot.measure).flatten();
        let unit = match slot.unit.as_str() {
            "" => by_name.unwrap_or(self.expected.unit),
            stated => Unit::parse(stated).ok()?,
        };
        (unit.dimension() == self.expected.unit.dimension()).then_some(unit)
    }

    /// Reads the measure from a pane whose window is `size` long.
    pub fn read(&self, pane: &Pane, slots: &[Slot], size: Duration, min_samples: u64) -> Reading {
        let mut parts: Vec<(&Slot, &Dist, Unit)> = (0_u32..)
            .zip(slots)
            .filter_map(|(number, slot)| Some((slot, pane.dist(number)?, self.unit_of(slot)?)))
            .collect();
        // Slots are numbered as they come; sums of floats must not show it.
        parts.sort_by_key(|(slot, _, _)| *slot);
        let parts: Vec<(&Dist, Unit)> = parts.into_iter().map(|(_, dist, unit)| (dist, unit)).collect();
        let is_counted = self.expected.measure.statistic.is_counted();
        let errors = total(&parts, |dist| dist.errors);
        let samples = total(&parts, |dist| if is_counted { dist.count } else { dist.sketch.count() });
        let needed = if needs_samples(self.expected.measure.statistic) { min_samples } else { 0 };
        let value = if samples == 0 || samples < needed { None } else { self.value(&parts, size) };
        let value = value.filter(|value| value.is_finite());
        Reading { value, samples, errors, traces: self.traces(&parts) }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a window are far below 2^53")]
    fn value(&self, parts: &[(&Dist, Unit)], size: Duration) -> Option<f64> {
        let total = |of: fn(&Dist) -> u64| total(parts, of) as f64;
        let count = || total(|dist| dist.count);
        let unit = self.expected.unit;
        let each = |of: fn(&Dist) -> f64| {
            let values = parts.iter().filter(|(dist, _)| dist.sketch.count() > 0);
            values.filter_map(move |(dist, from)| from.convert(of(dist), unit))
        };
        match self.expected.measure.statistic {
            Statistic::Quantile(quantile) => quantile_of(parts, quantile, unit),
            Statistic::Mean => Some(each(Dist::sum).sum::<f64>() / total(|dist| dist.sketch.count())),
            Statistic::Min => each(|dist| dist.min).reduce(f64::min),
            Statistic::Max => each(|dist| dist.max).reduce(f64::max),
            Statistic::Sum => Some(each(Dist::sum).sum()),
            Statistic::ErrorRate => Unit::RATIO.convert(total(|dist| dist.errors) / count(), unit),
            Statistic::SuccessRate => {
                Unit::RATIO.convert((count() - total(|dist| dist.errors)) / count(), unit)
            }
            Statistic::Rate => Unit::PER_SECOND.convert(count() / size.as_secs_f64(), unit),
            Statistic::Count => Some(count()),
            Statistic::ErrorCount => Some(total(|dist| dist.errors)),
        }
    }

    fn traces(&self, parts: &[(&Dist, Unit)]) -> Vec<TraceId> {
        let is_counted = self.expected.measure.statistic.is_counted();
        let best = |of: fn(&Dist) -> &Exemplars| {
            let mut ranked: Vec<(f64, TraceId)> = parts
                .iter()
                .flat_map(|(dist, from)| {
                    let to = if is_counted { *from } else { self.expected.unit };
                    of(dist)
                        .traces()
                        .map(move |(rank, trace)| (from.convert(rank, to).unwrap_or(rank), trace))
                })
                .collect();
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
            ranked.into_iter().map(|(_, trace)| trace).collect::<Vec<_>>()
        };
        let mut traces = match (is_counted, self.expected.direction) {
            (true, _) => best(|dist| &dist.failed),
            (false, Direction::LowerIsBetter) => best(|dist| &dist.high),
            (false, Direction::HigherIsBetter) => best(|dist| &dist.low),
        };
        if traces.is_empty() {
            traces = best(|dist| &dist.high);
        }
        let mut seen = BTreeSet::new();
        traces.retain(|trace| seen.insert(*trace));
        traces.truncate(EXEMPLARS_MAX);
        traces
    }
}

fn total(parts: &[(&Dist, Unit)], of: impl Fn(&Dist) -> u64) -> u64 {
    parts.iter().fold(0, |total, (dist, _)| total.saturating_add(of(dist)))
}

/// Few observations make a share or a quantile unknown; a count or an extreme is what it is.
const fn needs_samples(statistic: Statistic) -> bool {
    match statistic {
        Statistic::Quantile(_) | Statistic::Mean | Statistic::ErrorRate | Statistic::SuccessRate => true,
        Statistic::Min
        | Statistic::Max
        | Statistic::Sum
        | Statistic::Rate
        | Statistic::Count
        | Statistic::ErrorCount => false,
    }
}

/// The quantile over slots whose units differ; with one slot that of its sketch, never beyond what was seen.
fn quantile_of(parts: &[(&Dist, Unit)], quantile: f64, unit: Unit) -> Option<f64> {
    let parts_total = total(parts, |dist| dist.sketch.count());
    let mut parts = parts.iter().filter(|(dist, _)| dist.sketch.count() > 0);
    let (first, from) = parts.next()?;
    let rest: Vec<_> = parts.collect();
    if rest.is_empty() {
        let value = first.sketch.quantile(quantile)?.clamp(first.min, first.max);
        return from.convert(value, unit);
    }
    let mut values = Vec::new();
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    for (dist, from) in std::iter::once(&(*first, *from)).chain(rest) {
        min = min.min(from.convert(dist.min, unit)?);
        max = max.max(from.convert(dist.max, unit)?);
        for (value, count) in dist.sketch.iter() {
            values.push((from.convert(value, unit)?, count));
        }
    }
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let rank = sketch::rank(parts_total, quantile);
    let mut seen = 0_u128;
    let found = values.iter().find(|(_, count)| {
        seen += u128::from(*count);
        seen >= rank
    });
    Some(found?.0.clamp(min, max))
}

#[cfg(test)]
mod tests {
    use super::super::pane::Observation;
    use super::*;

    /// The only measure of a model that has only this one.
    fn judged(measure: &str) -> Judged {
        let (limit, direction, than) = match measure {
            "success_rate" => ("0.1", "higher_is_better", "<"),
            _ => ("1000000", "lower_is_better", ">"),
        };
        let text = format!(
            "REQ-X-001:\n  thresholds: {{ {measure}: {{ critical: {limit}, direction: {direction} }} }}\n  \
             deviation_rules: [{{ condition: \"value {than} threshold.critical\", severity: critical }}]\n"
        );
        let node = homeostat_config::parse("model.yml", &text).expect("it is YAML");
        let (model, _) = Model::read(&node, "hash").expect("it is a model");
        let mut ruled = Ruled::new(model);
        let mut groups = ruled.groups.remove("REQ-X-001").expect("it has a rule");
        groups.remove(0).measures.remove(0)
    }

    fn slots() -> Vec<Slot> {
        [("", "ns"), ("latency_ms", ""), ("latency_seconds", ""), ("depth", "")]
            .map(|(measure, unit)| Slot { measure: measure.to_owned(), unit: unit.to_owned() })
            .to_vec()
    }

    /// A pane of slot → values, every third of which failed.
    fn pane(of: &[(u32, &[f64])]) -> Pane {
        let mut pane = Pane::default();
        for (slot, values) in of {
            let place = pane.locate(*slot);
            for (number, value) in (0_u8..).zip(*values) {
                let seen = Observation {
                    value: *value,
                    count: 1,
                    is_error: number % 3 == 0,
                    trace: [number + 1; 16],
                };
                pane.at(place).add(&seen, true);
            }
        }
        pane
    }

    #[track_caller]
    fn check(measure: &str, pane: &Pane, min_samples: u64, expected: Option<f64>, samples: u64) {
        let reading = judged(measure).read(pane, &slots(), Duration::from_secs(10), min_samples);
        assert_eq!((reading.value, reading.samples), (expected, samples), "{measure}");
    }

    #[test]
    fn each_statistic_reads_what_feeds_it() {
        let spans = pane(&[(0, &[1e6, 2e6, 3e6, 4e6]), (3, &[7.0, 9.0, 14.0])]);
        check("p50_latency_ms", &spans, 4, Some(2.007_04), 4);
        check("max_latency_ms", &spans, 4, Some(4.0), 4);
        check("min_latency_ms", &spans, 4, Some(1.0), 4);
        check("avg_latency_ms", &spans, 4, Some(2.5), 4);
        check("error_rate", &spans, 4, Some(0.5), 4);
        check("success_rate", &spans, 4, Some(0.5), 4);
        check("rate_per_second", &spans, 4, Some(0.4), 4);
        check("error_count", &spans, 4, Some(2.0), 4);
        check("depth", &spans, 3, Some(10.0), 3);
        check("max_depth", &spans, 3, Some(14.0), 3);
    }

    #[test]
    fn few_samples_make_shares_and_quantiles_unknown_and_counts_not() {
        let few = pane(&[(0, &[1e6, 2e6, f64::NAN])]);
        check("p95_latency_ms", &few, 3, None, 2);
        check("error_rate", &few, 4, None, 3);
        check("error_rate", &few, 3, Some(1.0 / 3.0), 3);
        check("rate_per_second", &few, 20, Some(0.3), 3);
        check("max_latency_ms", &few, 20, Some(2.0), 2);
        check("max_latency_ms", &pane(&[(3, &[1.0])]), 0, None, 0);
    }

    #[test]
    fn slots_of_other_units_are_read_as_what_they_are() {
        let mixed = pane(&[(0, &[10e6; 90]), (1, &[200.0; 6]), (2, &[0.9; 4])]);
        for (measure, expected) in [
            ("p50_latency_ms", 10.0),
            ("p95_latency_ms", 200.0),
            ("p99_latency_ms", 900.0),
            ("p99_latency_seconds", 0.9),
        ] {
            let reading = judged(measure).read(&mixed, &slots(), Duration::from_secs(10), 20);
            let value = reading.value.expect("there are samples");
            assert!((value - expected).abs() <= expected * 0.01, "{measure} is {value}");
            assert_eq!(reading.samples, 100);
        }
        let slowest = judged("p95_latency_ms").read(&mixed, &slots(), Duration::from_secs(10), 20);
        assert_eq!(slowest.traces.first(), Some(&[4; 16]), "the traces of the slowest slot come first");
    }
}
