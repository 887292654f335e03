//! The model as the fold needs it: per requirement the groups of labels that its rules judge by, and per group its measures.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::model::{Direction, Expectation, Model, Requirement, Rule};
use super::super::units::{Dimension, Unit};
use super::pane::Pane;
use super::points::Take;
use super::reading::{self, Part, Reading};

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
    /// How they are to be read.
    pub take: Take,
}

impl Slot {
    /// Of spans and log records.
    pub fn ordinary(measure: String, unit: String) -> Slot {
        Slot { measure, unit, take: Take::Observations }
    }
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

    /// How much longer one with cumulative points is kept: later windows count on from its last ones.
    pub fn looked_back(&self) -> Duration {
        let window = &self.model.defaults.window;
        window.size * 3 + window.allowed_lateness
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
        let statistic = self.expected.measure.statistic;
        let is_counted = statistic.is_counted();
        let feeds = match slot.take {
            // Spans count what happened; a histogram of the same may be there beside them, and must be selected to count.
            Take::Histograms => !(is_counted && slot.measure.is_empty()),
            Take::Quantile(millionths) => statistic.millionths() == Some(millionths),
            Take::Observations | Take::Values | Take::Sums | Take::FailedSums => true,
        };
        if !feeds || !self.takes(&slot.measure) {
            return None;
        }
        if is_counted && slot.take != Take::Values {
            return Some(self.expected.unit);
        }
        let by_name = self.expected.measure.field_unit(&slot.measure).flatten();
        let unit = match slot.unit.as_str() {
            "" => by_name.unwrap_or(self.expected.unit),
            // UCUM has no other word for a share.
            "1" if self.expected.unit.dimension() == Dimension::Ratio => Unit::RATIO,
            stated => Unit::parse(stated).ok()?,
        };
        (unit.dimension() == self.expected.unit.dimension()).then_some(unit)
    }

    /// Reads the measure from a pane whose window is `size` long.
    pub fn read(&self, pane: &Pane, slots: &[Slot], size: Duration, min_samples: u64) -> Reading {
        let mut parts: Vec<(&Slot, Part<'_>)> = (0_u32..)
            .zip(slots)
            .filter_map(|(number, slot)| {
                let (dist, unit) = (pane.dist(number)?, self.unit_of(slot)?);
                Some((slot, Part { take: slot.take, dist, unit }))
            })
            .collect();
        // Slots are numbered as they come; sums of floats must not show it.
        parts.sort_by_key(|(slot, _)| *slot);
        let parts: Vec<Part<'_>> = parts.into_iter().map(|(_, part)| part).collect();
        reading::read(&self.expected, &parts, size, min_samples)
    }
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
            .map(|(measure, unit)| Slot::ordinary(measure.to_owned(), unit.to_owned()))
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
