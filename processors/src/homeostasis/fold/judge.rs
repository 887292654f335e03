//! When a tick closes windows: their panes are read, the rules evaluated over all of them at once, and each episode takes its step
//! in the order of time.

use std::collections::BTreeMap;

use homeostat_pipeline::finding::{Behavior, Deviation, Finding};
use metrics::{counter, gauge};

use super::super::condition::{Facts, Subjects as Facted};
use super::super::model::WithoutData;
use super::Fold;
use super::behavior::{behavior_of, sort_key};
use super::cumulative;
use super::decide::{Cause, Phase};
use super::epoch::judged_of;
use super::pane::Pane;
use super::reading::Reading;
use super::record::Scene;
use super::ruled::{Judged, Ruled, Slot};
use super::subject::{Identity, Subjects};
use super::window::{self, Span, Windows};

/// One measure of one subject in one window that is to be judged.
struct Case<'a> {
    span: Span,
    subject: u64,
    /// Of the pane in the window.
    place: usize,
    identity: &'a Identity,
    judged: &'a Judged,
    reading: Reading,
}

impl Case<'_> {
    fn measure(&self) -> &str {
        &self.judged.expected.measure.name
    }
}

/// A case without what it borrows, so that episodes may change while it is told.
struct Verdict {
    span: Span,
    subject: u64,
    place: usize,
    identity: Identity,
    measure: String,
    reading: Reading,
    verdicts: Vec<Option<bool>>,
}

/// What the due windows hold: behaviors, and cases for the rules.
fn gather<'a>(
    ruled: &'a Ruled,
    slots: &[Slot],
    subjects: &'a Subjects,
    windows: &mut Windows,
    due: &[Span],
) -> (Vec<Behavior>, Vec<Case<'a>>) {
    let mut behaviors = Vec::new();
    let mut cases = Vec::new();
    let min_samples = ruled.model.defaults.window.min_samples;
    let resolved = resolve(windows, due);
    for span in due {
        let Some(window) = windows.get_mut(span) else { continue };
        for (place, (number, pane)) in window.panes_mut().iter_mut().enumerate() {
            let Some(subject) = subjects.get(*number).filter(|_| pane.is_fresh) else { continue };
            pane.is_fresh = false;
            pane.is_touched = true;
            pane.version += 1;
            let (req, labels) = match &subject.identity {
                Identity::Node { node, context, flow } => {
                    behaviors.push(behavior_of(node, context, flow, *span, pane));
                    continue;
                }
                Identity::Requirement { req, labels } => (req, labels),
            };
            let Some(group) = ruled.group(req, labels.keys()).filter(|_| is_effective(ruled, req, *span))
            else {
                continue;
            };
            cases.extend(group.measures.iter().filter_map(|judged| {
                let pane = resolved.get(&(*span, *number)).unwrap_or(pane);
                let reading = judged.read(pane, slots, span.size(), min_samples);
                // Rows that do not feed this measure are no data for it.
                let identity = &subject.identity;
                (reading.samples > 0).then_some(Case {
                    span: *span,
                    subject: *number,
                    place,
                    identity,
                    judged,
                    reading,
                })
            }));
        }
    }
    behaviors.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
    (behaviors, cases)
}

/// Of the panes to be judged those with cumulative points, which mean something only beside the windows before.
fn resolve(windows: &Windows, due: &[Span]) -> BTreeMap<(Span, u64), Pane> {
    let mut resolved = BTreeMap::new();
    for span in due {
        let Some(window) = windows.get(span).filter(|window| window.has_raw) else { continue };
        for (subject, pane) in window.panes().iter().filter(|(_, pane)| pane.is_fresh) {
            if let Some(pane) = cumulative::resolved(windows, *span, *subject, pane) {
                resolved.insert((*span, *subject), pane);
            }
        }
    }
    resolved
}

/// Whether the requirement holds yet in this window.
fn is_effective(ruled: &Ruled, req: &str, span: Span) -> bool {
    let from = ruled.model.requirements.get(req).and_then(|requirement| requirement.effective_from);
    from.is_none_or(|from| span.end >= from)
}

/// Evaluates every rule over the rows of its measure, all windows and subjects together; then in the order in which episodes
/// take their steps: windows, requirements and labels, measures.
fn evaluate(mut cases: Vec<Case<'_>>) -> Vec<Verdict> {
    cases.sort_by_key(|case| case.judged.number);
    let facts: Vec<Facts<'_>> = cases
        .iter()
        .map(|case| Facts {
            value: case.reading.value,
            count: case.reading.samples,
            expected: &case.judged.expected,
        })
        .collect();
    let facts = Facted::new(&facts);
    let mut verdicts: Vec<Vec<Option<bool>>> = vec![Vec::new(); cases.len()];
    let mut start = 0;
    for chunk in cases.chunk_by(|a, b| a.judged.number == b.judged.number) {
        let end = start + chunk.len();
        for rule in &chunk[0].judged.rules {
            for (of, verdict) in verdicts[start..end].iter_mut().zip(facts.judge(&rule.condition, start..end))
            {
                of.push(verdict);
            }
        }
        start = end;
    }
    let mut told: Vec<Verdict> = cases
        .into_iter()
        .zip(verdicts)
        .map(|(case, verdicts)| Verdict {
            span: case.span,
            subject: case.subject,
            place: case.place,
            identity: case.identity.clone(),
            measure: case.measure().to_owned(),
            reading: case.reading,
            verdicts,
        })
        .collect();
    told.sort_by(|a, b| (a.span, &a.identity, &a.measure).cmp(&(b.span, &b.identity, &b.measure)));
    told
}

impl Fold {
    /// Judges the windows that the time closes or that were corrected.
    pub(super) fn judge_due(&mut self, out: &mut Vec<Finding>) {
        let Some(ruled) = &self.ruled else { return };
        let due = window::due(&mut self.windows, self.now, ruled.model.defaults.window.allowed_lateness);
        if due.is_empty() {
            return;
        }
        counter!("homeostat_windows_judged_total").increment(due.len() as u64);
        let (behaviors, cases) = gather(ruled, &self.slots, &self.subjects, &mut self.windows, &due);
        if !behaviors.is_empty() {
            out.push(Finding::Behaviors { behaviors });
        }
        let verdicts = evaluate(cases);
        self.step(&verdicts, out);
    }

    /// Each episode takes its verdict, in the order of windows, requirements, labels and measures.
    fn step(&mut self, verdicts: &[Verdict], out: &mut Vec<Finding>) {
        let Some(ruled) = &self.ruled else { return };
        let mut deviations: Vec<Deviation> = Vec::new();
        for verdict in verdicts {
            let Identity::Requirement { req, labels } = &verdict.identity else { continue };
            let (Some(judged), Some(requirement), Some(subject)) = (
                judged_of(ruled, &verdict.identity, &verdict.measure),
                ruled.model.requirements.get(req),
                self.subjects.get_mut(verdict.subject),
            ) else {
                continue;
            };
            let pane = self.windows.get(&verdict.span).and_then(|window| window.panes().get(verdict.place));
            let mut scene = Scene {
                at: verdict.span.end,
                span: verdict.span,
                tenant: &self.settings.tenant,
                model_hash: &ruled.model.hash,
                defaults: &ruled.model.defaults,
                requirement,
                judged,
                reading: &verdict.reading,
                provenance: pane.map(|(_, pane)| &pane.provenance),
                labels,
                rule: None,
                started_at: verdict.span.start,
                days: &mut self.days,
            };
            let episode = subject.episodes.entry(verdict.measure.clone()).or_default();
            episode.judge(&verdict.verdicts, &mut scene, &mut deviations);
            self.subjects.watch(verdict.subject);
        }
        out.extend(deviations.into_iter().map(|deviation| Finding::Deviation(Box::new(deviation))));
        gauge!("homeostat_deviations_live").set(self.subjects.live() as f64);
    }

    /// Live episodes without a known window for too long end or stay, as the model says; ended ones are forgotten in time.
    pub(super) fn judge_silence(&mut self, out: &mut Vec<Finding>) {
        let Some(ruled) = &self.ruled else { return };
        let defaults = &ruled.model.defaults;
        let window = &defaults.window;
        // A window that is still open, or may still be late, is no silence.
        let patience = defaults.no_data.after.max(window.size + window.allowed_lateness);
        let memory = ruled.memory();
        let mut deviations: Vec<Deviation> = Vec::new();
        for number in self.subjects.watched() {
            let Some(subject) = self.subjects.get(number) else { continue };
            let silent = subject.episodes.iter().filter(|(_, episode)| {
                match (defaults.no_data.becomes, episode.phase()) {
                    (WithoutData::Expired, Phase::Open | Phase::Recovering)
                    | (WithoutData::Breach, Phase::Quiet | Phase::Recovering | Phase::Resolved) => {
                        self.now > episode.known_through() + patience
                    }
                    (WithoutData::Expired | WithoutData::Keep, Phase::Quiet | Phase::Resolved) => {
                        self.now > episode.judged_through() + memory
                    }
                    (WithoutData::Breach, Phase::Open)
                    | (WithoutData::Keep, Phase::Open | Phase::Recovering) => false,
                }
            });
            let silent: Vec<String> = silent.map(|(measure, _)| measure.clone()).collect();
            if silent.is_empty() {
                continue;
            }
            let identity = subject.identity.clone();
            let Identity::Requirement { req, labels } = &identity else { continue };
            let Some(subject) = self.subjects.get_mut(number) else { continue };
            for measure in silent {
                let (Some(judged), Some(requirement), Some(episode)) = (
                    judged_of(ruled, &identity, &measure),
                    ruled.model.requirements.get(req),
                    subject.episodes.get_mut(&measure),
                ) else {
                    subject.episodes.remove(&measure);
                    continue;
                };
                let mut scene = Scene {
                    at: self.now,
                    span: Span { start: self.now, end: self.now },
                    tenant: &self.settings.tenant,
                    model_hash: &ruled.model.hash,
                    defaults,
                    requirement,
                    judged,
                    reading: &Reading::default(),
                    provenance: None,
                    labels,
                    rule: None,
                    started_at: self.now,
                    days: &mut self.days,
                };
                match (defaults.no_data.becomes, episode.is_live()) {
                    (WithoutData::Breach, _) => episode.breach_by_silence(&mut scene, &mut deviations),
                    (WithoutData::Expired, true) => episode.end(Cause::NoData, &mut scene, &mut deviations),
                    (WithoutData::Expired | WithoutData::Keep, _) => {
                        subject.episodes.remove(&measure);
                    }
                }
            }
            self.subjects.settle(number);
        }
        out.extend(deviations.into_iter().map(|deviation| Finding::Deviation(Box::new(deviation))));
    }
}
