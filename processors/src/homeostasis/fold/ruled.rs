//! The model as the fold needs it: per requirement the groups of labels that its rules judge by, and per group its measures.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;

use super::super::condition::{Aggregate, COUNTS_MAX, Lookback, VALUES_MAX};
use super::super::model::{
    Direction, Expectation, Model, Requirement, Rule, Statistic, Window, order, pane_of,
};
use super::super::units::{Dimension, Unit};
use super::adjust::Adjustments;
use super::long::{Long, Sums};
use super::pane::Pane;
use super::points::Take;
use super::reading::{self, Part, Question, Reading};
use super::route::ORDINARY_UNIT;
use super::subject::Identity;
use super::window::Span;

/// A model and what is derived from it.
#[derive(Debug)]
pub struct Ruled {
    /// The model.
    pub model: Model,
    /// The length of a pane.
    pub pane: Duration,
    /// Requirement key → its groups; only requirements with rules.
    pub groups: BTreeMap<String, Vec<Group>>,
    /// The quantiles, in millionths, that any measure or function of a window asks for.
    pub quantiles: BTreeSet<u32>,
}

/// The rules of one requirement that group by the same labels: they share subjects.
#[derive(Clone, Debug)]
pub struct Group {
    /// Label names, sorted.
    pub labels: Vec<String>,
    /// By name.
    pub measures: Vec<Judged>,
}

/// What a ratio's rows that are good end in.
const GOOD_ROWS: &str = "#good";

/// A measure and the rules on it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Its place among all of the model's.
    pub number: usize,
    /// How many judgements go before it in a window, for they may inhibit it.
    pub depth: u32,
    /// The functions of windows that its rules name, by their columns.
    pub lookbacks: Vec<Lookback>,
    /// Unit, direction, thresholds, baseline, as the model's file states them.
    pub expected: Expectation,
    /// The same from a time on: thresholds that people adjusted, the latest last.
    pub versions: Vec<(Timestamp, Expectation)>,
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

    /// Of nothing: ordinary observations have a unit.
    pub fn vacant() -> Slot {
        Slot::ordinary(String::new(), String::new())
    }

    /// Whether it is there for whoever needs one.
    pub fn is_vacant(&self) -> bool {
        *self == Slot::vacant()
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
        // A circle is refused when the model is read.
        let order = order(&model.requirements).unwrap_or_default();
        let all =
            groups.iter_mut().flat_map(|(req, groups)| groups.iter_mut().map(move |group| (req, group)));
        let all = all.flat_map(|(req, group)| {
            let labels = &group.labels;
            group.measures.iter_mut().map(move |judged| (req, labels, judged))
        });
        for (number, (req, labels, judged)) in all.enumerate() {
            let name = (req.clone(), labels.clone(), judged.expected.measure.name.clone());
            (judged.number, judged.depth) = (number, order.get(&name).copied().unwrap_or_default());
        }
        let pane = pane_of(&model.defaults.window, &model.requirements);
        let all = groups.values().flatten().flat_map(|group| &group.measures);
        let quantiles = all.flat_map(Judged::quantiles).collect();
        Ruled { pane, model, groups, quantiles }
    }

    /// From here on windows are judged by the thresholds that people adjusted, each by those that hold at its end.
    pub fn adjust(&mut self, adjustments: &Adjustments) {
        for (req, groups) in &mut self.groups {
            for judged in groups.iter_mut().flat_map(|group| &mut group.measures) {
                judged.versions = adjustments.versions(req, &judged.expected);
            }
        }
    }

    /// All measures with rules.
    pub fn judged(&self) -> impl Iterator<Item = &Judged> {
        self.groups.values().flatten().flat_map(|group| &group.measures)
    }

    /// Whether the requirement holds yet in windows that end at `end`.
    pub fn holds(&self, req: &str, end: Timestamp) -> bool {
        let from = self.model.requirements.get(req).and_then(|requirement| requirement.effective_from);
        from.is_none_or(|from| end >= from)
    }

    /// Whether windows are single panes.
    pub fn is_plain(&self) -> bool {
        self.model.defaults.window.size == self.pane
    }

    /// The group of a requirement that judges by exactly these labels.
    pub fn group<'a>(&self, req: &str, labels: impl Iterator<Item = &'a String> + Clone) -> Option<&Group> {
        self.groups.get(req)?.iter().find(|group| group.labels.iter().eq(labels.clone()))
    }

    /// The group of a subject.
    pub fn group_of(&self, identity: &Identity) -> Option<&Group> {
        match identity {
            Identity::Requirement { req, labels } => self.group(req, labels.keys()),
            Identity::Node { .. } => None,
        }
    }

    /// How long after its end a window is corrected by late rows.
    pub fn corrected_for(&self) -> Duration {
        let window = &self.model.defaults.window;
        window.correction.max(window.allowed_lateness)
    }

    /// How long after its end a pane is kept: as long as a window that it is in may be corrected.
    pub fn kept_for(&self) -> Duration {
        let window = &self.model.defaults.window;
        let back = |lookback: &Lookback| match lookback.aggregate {
            Aggregate::Previous => window.size + window.every,
            Aggregate::Missing => Duration::ZERO,
            _ if is_long(lookback) => Duration::ZERO,
            _ => lookback.window,
        };
        let longest = self.judged().flat_map(|judged| &judged.lookbacks).map(back).max().unwrap_or_default();
        self.corrected_for() + longest.max(window.size).saturating_sub(self.pane)
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

/// Whether it looks back further than panes are kept.
pub fn is_long(lookback: &Lookback) -> bool {
    lookback.window > VALUES_MAX && lookback.aggregate != Aggregate::Missing
}

fn groups_of(requirement: &Requirement) -> Vec<Group> {
    let labels: BTreeSet<&Vec<String>> = requirement.rules.iter().map(|rule| &rule.group_by).collect();
    let group = |labels: &Vec<String>| {
        let judged = requirement.expectations.iter().filter_map(|(name, expected)| {
            let rules: Vec<Rule> =
                requirement.rules_of(name).filter(|rule| rule.group_by == *labels).cloned().collect();
            let lookbacks = requirement.lookbacks.get(name).cloned().unwrap_or_default();
            (!rules.is_empty()).then(|| Judged {
                number: 0,
                depth: 0,
                lookbacks,
                expected: expected.clone(),
                versions: Vec::new(),
                rules,
            })
        });
        Group { labels: labels.clone(), measures: judged.collect() }
    };
    labels.into_iter().map(group).collect()
}

impl Group {
    /// Whether its subjects are judged without data too: a rule asks whether something is missing.
    pub fn awaits(&self) -> bool {
        self.measures.iter().any(Judged::awaits)
    }

    /// The longest time for which a rule waits before it says that something is missing.
    pub fn waits(&self) -> Duration {
        let lookbacks = self.measures.iter().flat_map(|judged| &judged.lookbacks);
        let missing = lookbacks.filter(|lookback| lookback.aggregate == Aggregate::Missing);
        missing.map(|lookback| lookback.window).max().unwrap_or_default()
    }

    /// Whether more is remembered of its subjects than panes.
    pub fn is_remembered(&self) -> bool {
        self.measures.iter().any(Judged::is_remembered)
    }

    /// Whether minutes of rows with this `measure` column are told apart as up and down.
    pub fn needs_minutes(&self, measure: &str) -> bool {
        self.measures.iter().any(|judged| judged.expected.measure.needs_minutes() && judged.takes(measure))
    }

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
    /// What windows that end at `end` are judged by.
    pub fn expected_at(&self, end: Timestamp) -> &Expectation {
        let holds = self.versions.iter().rev().find(|(from, _)| *from <= end);
        holds.map_or(&self.expected, |(_, expected)| expected)
    }

    /// Whether a rule asks whether something is missing.
    pub fn awaits(&self) -> bool {
        self.lookbacks.iter().any(|lookback| lookback.aggregate == Aggregate::Missing)
    }

    /// The length of the buckets that it is remembered by beyond its panes; none where it is not.
    pub fn bucket(&self) -> Option<Duration> {
        let longest =
            self.lookbacks.iter().filter(|lookback| is_long(lookback)).map(|lookback| lookback.window).max();
        if self.expected.measure.is_monthly {
            Some(Long::bucket(COUNTS_MAX))
        } else {
            longest.map(Long::bucket)
        }
    }

    /// The kind of its windows, as findings name it.
    pub fn window_kind(&self, window: &Window) -> &'static str {
        if self.expected.measure.is_monthly { "calendar_month" } else { window.kind() }
    }

    /// The window that was judged at the end of `step`: of a measure by the month that month so far, of any other the step itself.
    pub fn window(&self, step: Span) -> Span {
        if !self.expected.measure.is_monthly {
            return step;
        }
        let last = Timestamp::from_nanos(step.end.as_nanos().saturating_sub(1));
        Span { end: step.end, start: last.month_start() }
    }

    /// Whether more is remembered of it than panes.
    pub fn is_remembered(&self) -> bool {
        self.awaits() || self.bucket().is_some()
    }

    /// The quantiles, in millionths, that it or a function of a window in its rules asks for.
    fn quantiles(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.expected.measure.statistic.millionths().into_iter().collect();
        for lookback in &self.lookbacks {
            match lookback.aggregate {
                Aggregate::Quantile(millionths) => all.push(millionths),
                Aggregate::Changed => {
                    all.extend(
                        [Statistic::Min, Statistic::Max].into_iter().filter_map(Statistic::millionths),
                    );
                }
                Aggregate::Mean
                | Aggregate::Count
                | Aggregate::Rate
                | Aggregate::Missing
                | Aggregate::Previous => {}
            }
        }
        all
    }

    fn takes(&self, measure: &str) -> bool {
        if measure.is_empty() {
            self.expected.measure.takes_ordinary()
        } else {
            self.expected.measure.field_unit(measure).is_some()
        }
    }

    /// Whether the values of a slot are the measure itself: uptime that somebody else worked out.
    fn is_report(&self, slot: &Slot) -> bool {
        let is_span = slot.unit == ORDINARY_UNIT && slot.take == Take::Observations;
        self.expected.measure.needs_minutes() && !slot.measure.is_empty() && !is_span
    }

    /// The unit in which the values of a slot come; none when the slot does not feed `statistic` of this measure.
    fn unit_of(&self, statistic: Statistic, slot: &Slot) -> Option<Unit> {
        let is_counted = statistic.is_counted() && !self.is_report(slot);
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

    /// What feeds `statistic` of the measure's observations in a pane.
    pub fn parts<'p>(&self, statistic: Statistic, pane: &'p Pane, slots: &[Slot]) -> Vec<Part<'p>> {
        let mut parts: Vec<(&Slot, Part<'p>)> = pane
            .dists()
            .filter_map(|(number, dist)| {
                let slot = slots.get(usize::try_from(number).ok()?)?;
                let unit = self.unit_of(statistic, slot)?;
                let is_named = self.is_report(slot);
                let is_good = slot.measure.ends_with(GOOD_ROWS);
                Some((slot, Part { take: slot.take, dist, unit, is_named, is_good }))
            })
            .collect();
        // Slots are numbered as they come; sums of floats must not show it.
        parts.sort_by_key(|(slot, _)| *slot);
        parts.into_iter().map(|(_, part)| part).collect()
    }

    /// Reads the measure from a pane whose window is `size` long.
    pub fn read(&self, pane: &Pane, slots: &[Slot], size: Duration, min_samples: u64) -> Reading {
        self.read_as(self.expected.measure.statistic, pane, slots, size, min_samples)
    }

    /// Reads another statistic of the same observations.
    pub fn read_as(
        &self,
        statistic: Statistic,
        pane: &Pane,
        slots: &[Slot],
        size: Duration,
        min_samples: u64,
    ) -> Reading {
        let question = Question { expected: &self.expected, statistic, size, min_samples };
        reading::read(&question, &self.parts(statistic, pane, slots))
    }

    /// What the measure adds to windows that are longer than panes are kept.
    pub fn sums(&self, pane: &Pane, slots: &[Slot]) -> Sums {
        let statistic = self.expected.measure.statistic;
        let statistic = if statistic.is_counted() || self.expected.measure.is_monthly {
            statistic
        } else {
            Statistic::Count
        };
        reading::sums(&self.expected, statistic, &self.parts(statistic, pane, slots))
    }
}

#[cfg(test)]
mod tests {
    use super::super::dist::Observation;
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
