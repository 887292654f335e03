//! What the windows that are due hold: behaviors of spec nodes, and for each measure with rules its value and the functions of
//! windows that the rules name.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::Behavior;

use super::super::condition::{Aggregate, Lookback};
use super::super::model::Statistic;
use super::behavior::{behavior_of, sort_key};
use super::long::{Sums, start_of};
use super::pane::Pane;
use super::past::{Past, Sliders, panes, within};
use super::reading::{Question, Reading, read_sums};
use super::ruled::{Group, Judged, Ruled, Slot, is_long};
use super::subject::{Identity, Subject, Subjects};
use super::window::{Due, Span, Windows};

/// One measure of one subject in one window that is to be judged.
pub struct Case<'a> {
    /// The window; of a measure by the month what that month has become longer by since it was last judged.
    pub span: Span,
    /// Whose.
    pub subject: u64,
    /// Who that is.
    pub identity: &'a Arc<Identity>,
    /// The measure and its rules.
    pub judged: &'a Judged,
    /// What it came to.
    pub reading: Reading,
    /// The functions of windows that its rules name, by their columns.
    pub lookbacks: Vec<Option<f64>>,
}

/// Reads windows.
pub struct Gather<'a> {
    /// By which rules.
    pub ruled: &'a Ruled,
    /// Slots by number.
    pub slots: &'a [Slot],
    /// Of whom.
    pub subjects: &'a Subjects,
    /// The panes.
    pub windows: &'a Windows,
    /// What was merged before.
    pub sliders: &'a mut Sliders,
}

impl<'a> Gather<'a> {
    /// Everything in the windows that are due.
    pub fn all(&mut self, due: &[Due]) -> (Vec<Behavior>, Vec<Case<'a>>) {
        let mut behaviors = Vec::new();
        let mut cases = Vec::new();
        for Due { span, corrected } in due {
            if let Some(corrected) = corrected {
                corrected.iter().for_each(|subject| self.sliders.forget(*subject));
            }
            for number in self.subjects_of(*span, corrected.as_ref()) {
                let Some(subject) = self.subjects.get(number) else { continue };
                match &*subject.identity {
                    Identity::Node { node, context, flow } => {
                        behaviors.extend(self.behavior(number, *span, (node, context, flow)));
                    }
                    Identity::Requirement { req, labels } => {
                        let ruled = self.ruled;
                        let group = ruled.group(req, labels.keys()).filter(|_| ruled.holds(req, span.end));
                        if let Some(group) = group {
                            self.cases(number, subject, *span, (group, corrected.is_none()), &mut cases);
                        }
                    }
                }
            }
        }
        behaviors.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
        (behaviors, cases)
    }

    /// Who may have something in a window: with one pane those in it, else all that have any pane.
    fn subjects_of(&self, span: Span, corrected: Option<&BTreeSet<u64>>) -> Vec<u64> {
        if let Some(corrected) = corrected {
            return corrected.iter().copied().collect();
        }
        let mut subjects: Vec<u64> = if self.ruled.is_plain() {
            // More than one only where a model of shorter windows left panes.
            let windows = within(self.windows, span);
            windows.flat_map(|(_, window)| window.panes().iter().map(|(number, _)| *number)).collect()
        } else {
            self.subjects.with_panes().collect()
        };
        subjects.extend(self.subjects.awaited());
        subjects.sort_unstable();
        subjects.dedup();
        subjects
    }

    /// Behaviors do not overlap: a window that slides is told once it has slid by its whole length.
    fn behavior(&mut self, number: u64, span: Span, name: (&str, &str, &str)) -> Option<Behavior> {
        if span.end.floor(span.size()) != span.end {
            return None;
        }
        let version = version(self.windows, number, span);
        let pane = self.past().whole(number, span, false)?;
        let (node, context, flow) = name;
        Some(behavior_of(node, context, flow, span, &pane, version))
    }

    fn past(&mut self) -> Past<'a, '_> {
        Past { windows: self.windows, sliders: self.sliders, size: self.ruled.model.defaults.window.size }
    }

    /// The measures of a subject in one window.
    fn cases(
        &mut self,
        number: u64,
        subject: &'a Subject,
        span: Span,
        (group, slides): (&'a Group, bool),
        cases: &mut Vec<Case<'a>>,
    ) {
        let min_samples = self.ruled.model.defaults.window.min_samples;
        let (slots, ruled) = (self.slots, self.ruled);
        let is_sliding = slides && ruled.model.defaults.window.every < span.size();
        let mut past =
            Past { windows: self.windows, sliders: self.sliders, size: ruled.model.defaults.window.size };
        let pane = past.whole(number, span, is_sliding);
        let none = Pane::default();
        let pane: Cow<'_, Pane> = pane.unwrap_or(Cow::Borrowed(&none));
        for judged in &group.measures {
            let (span, reading) = if judged.expected.measure.is_monthly {
                let step = Span::before(span.end, ruled.model.defaults.window.every);
                let month = judged.window(step);
                (step, monthly(judged, subject, self.windows, number, month, min_samples))
            } else {
                (span, judged.read(&pane, slots, span.size(), min_samples))
            };
            // Rows that do not feed this measure are no data for it.
            if reading.samples == 0 && !judged.awaits() {
                continue;
            }
            let mut asked = Asked { past: &mut past, slots, ruled, number, subject, judged, slides };
            let lookbacks = judged.lookbacks.iter().map(|lookback| asked.value(lookback, span.end)).collect();
            cases.push(Case {
                span,
                subject: number,
                identity: &subject.identity,
                judged,
                reading,
                lookbacks,
            });
        }
    }
}

/// How often a behavior was told: once for all panes that came in time, once more for each that came late or changed since.
fn version(windows: &Windows, subject: u64, span: Span) -> u32 {
    let (count, sum) = panes(windows, subject, span)
        .fold((0_u32, 0_u32), |(count, sum), (_, pane)| (count + 1, sum.saturating_add(pane.version)));
    sum.saturating_sub(count.saturating_sub(1)).max(1)
}

/// What the panes within `span` add to a measure, as they were last judged.
fn kept(windows: &Windows, subject: u64, span: Span, measure: &str) -> Sums {
    let mut all = Sums::default();
    for (_, pane) in panes(windows, subject, span) {
        pane.sums.iter().filter(|(name, _)| name == measure).for_each(|(_, sums)| all.add(sums));
    }
    all
}

/// Everything from `span.start` on: what is remembered, and the panes that are still kept.
fn remembered(windows: &Windows, number: u64, subject: &Subject, span: Span, measure: &str) -> Sums {
    let mut all = subject.long.get(measure).map(|long| long.from(span.start)).unwrap_or_default();
    all.add(&kept(windows, number, span, measure));
    all
}

fn monthly(
    judged: &Judged,
    subject: &Subject,
    windows: &Windows,
    number: u64,
    month: Span,
    min_samples: u64,
) -> Reading {
    let measure = &judged.expected.measure;
    let sums = remembered(windows, number, subject, month, &measure.name);
    let question = Question {
        expected: &judged.expected,
        statistic: measure.statistic,
        size: month.size(),
        min_samples,
    };
    read_sums(&question, &sums)
}

/// Whom a function of a window is asked of.
struct Asked<'p, 'a, 's> {
    past: &'p mut Past<'a, 's>,
    slots: &'p [Slot],
    ruled: &'p Ruled,
    number: u64,
    subject: &'p Subject,
    judged: &'p Judged,
    slides: bool,
}

impl Asked<'_, '_, '_> {
    /// The function's value, in the measure's unit; a truth is one or zero. None where it is unknown.
    #[expect(clippy::cast_precision_loss, reason = "counts of a month are far below 2^53")]
    fn value(&mut self, lookback: &Lookback, end: Timestamp) -> Option<f64> {
        let truth = |is_so: bool| if is_so { 1.0 } else { 0.0 };
        let own = self.judged.expected.measure.statistic;
        let window = &self.ruled.model.defaults.window;
        match lookback.aggregate {
            Aggregate::Quantile(millionths) => {
                self.read(Statistic::Quantile(f64::from(millionths) / 1e6), end, lookback.window)?.value
            }
            Aggregate::Mean if own.is_counted() => self.read(own, end, lookback.window)?.value,
            Aggregate::Mean => self.read(Statistic::Mean, end, lookback.window)?.value,
            Aggregate::Count => Some(self.samples(lookback, end) as f64),
            Aggregate::Rate => Some(self.samples(lookback, end) as f64 / lookback.window.as_secs_f64()),
            Aggregate::Missing => self.is_missing(lookback.window, end).map(truth),
            Aggregate::Changed => {
                let least = self.read(Statistic::Min, end, lookback.window)?.value?;
                let most = self.read(Statistic::Max, end, lookback.window)?.value?;
                Some(truth(most > least))
            }
            Aggregate::Previous => self.read(own, Span::before(end, window.every).start, window.size)?.value,
        }
    }

    fn read(&mut self, statistic: Statistic, end: Timestamp, length: Duration) -> Option<Reading> {
        let pane = self.past.whole(self.number, Span::before(end, length), self.slides)?;
        let min_samples = self.ruled.model.defaults.window.min_samples;
        Some(self.judged.read_as(statistic, &pane, self.slots, length, min_samples))
    }

    /// Observations of the measure in the window.
    fn samples(&mut self, lookback: &Lookback, end: Timestamp) -> u64 {
        if is_long(lookback) {
            let span = Span { end, start: start_of(end, lookback.window) };
            let measure = &self.judged.expected.measure.name;
            return remembered(self.past.windows, self.number, self.subject, span, measure).samples;
        }
        let own = self.judged.expected.measure.statistic;
        self.read(own, end, lookback.window).map_or(0, |reading| reading.samples)
    }

    /// Whether nothing was seen for `length`; unknown before it is watched for that long.
    fn is_missing(&self, length: Duration, end: Timestamp) -> Option<bool> {
        let long = self.subject.long.get(&self.judged.expected.measure.name)?;
        let span = Span::before(end, length);
        let measure = &self.judged.expected.measure.name;
        let is_seen = long.seen.is_some_and(|seen| seen > span.start && seen <= end)
            || kept(self.past.windows, self.number, span, measure).samples > 0;
        if is_seen {
            return Some(false);
        }
        (long.since.min(long.seen.unwrap_or(Timestamp::MAX)) <= span.start).then_some(true)
    }
}
