//! When a tick closes windows: their panes are read, the rules evaluated over all of them at once, and each episode takes its step
//! in the order of time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{Deviation, Finding, Transition};
use metrics::{counter, gauge};

use super::super::condition::{Facts, Subjects as Facted};
use super::super::model::WithoutData;
use super::Fold;
use super::account::{self, Account, Judgement};
use super::cumulative;
use super::decide::{Cause, Phase};
use super::episode::Episode;
use super::epoch::judged_of;
use super::gather::{Case, Gather};
use super::long::Sums;
use super::pane::Pane;
use super::past;
use super::provenance::Provenance;
use super::reading::Reading;
use super::record::Scene;
use super::ruled::{Ruled, Slot};
use super::subject::{Identity, Subjects};
use super::window::{self, Due, Span, Windows, is_closed};

/// A case without what it borrows, so that episodes may change while it is told.
struct Verdict {
    span: Span,
    /// How many may inhibit it: they come first.
    depth: u32,
    subject: u64,
    identity: Arc<Identity>,
    measure: String,
    reading: Reading,
    verdicts: Vec<Option<bool>>,
    /// What each rule's condition names; only where somebody asks.
    numbers: Vec<Vec<(String, Option<f64>)>>,
}

/// What judging makes of one pane with new rows.
struct Settled {
    span: Span,
    subject: u64,
    version: u32,
    sums: Vec<(String, Sums)>,
}

/// Evaluates every rule over the rows of its measure, all windows and subjects together; then in the order in which episodes
/// take their steps: windows, what inhibits before what it inhibits, requirements and labels, measures.
fn evaluate(mut cases: Vec<Case<'_>>, is_asked: bool) -> Vec<Verdict> {
    cases.sort_by_key(|case| case.judged.number);
    let facts: Vec<Facts<'_>> = cases
        .iter()
        .map(|case| Facts {
            value: case.reading.value,
            count: case.reading.samples,
            expected: case.judged.expected_at(case.span.end),
            lookbacks: &case.lookbacks,
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
            depth: case.judged.depth,
            subject: case.subject,
            identity: Arc::clone(case.identity),
            measure: case.judged.expected.measure.name.clone(),
            numbers: if is_asked { account::numbers(&case) } else { Vec::new() },
            reading: case.reading,
            verdicts,
        })
        .collect();
    told.sort_by(|a, b| {
        (a.span, a.depth, &a.identity, &a.measure).cmp(&(b.span, b.depth, &b.identity, &b.measure))
    });
    told
}

/// What a pane adds to the measures that look back further than panes are kept, or that may be missing.
fn sums_of(
    ruled: &Ruled,
    slots: &[Slot],
    subjects: &Subjects,
    windows: &Windows,
    (span, number, pane): (Span, u64, &Pane),
) -> Vec<(String, Sums)> {
    let Some(Identity::Requirement { req, labels }) = subjects.get(number).map(|subject| &*subject.identity)
    else {
        return Vec::new();
    };
    let Some(group) = ruled.group(req, labels.keys()).filter(|group| group.is_remembered()) else {
        return Vec::new();
    };
    // Longer windows than any between two points get all that was added.
    let lengths = (ruled.model.defaults.window.size, Duration::MAX);
    let resolved = cumulative::resolved(windows, span, number, pane, lengths);
    let pane = resolved.as_ref().unwrap_or(pane);
    let remembered = group.measures.iter().filter(|judged| judged.is_remembered());
    remembered.map(|judged| (judged.expected.measure.name.clone(), judged.sums(pane, slots))).collect()
}

/// What the rows of a window say beside their numbers; none when there are none.
fn provenance(windows: &Windows, subject: u64, span: Span) -> Option<Provenance> {
    let mut panes = past::panes(windows, subject, span);
    let mut whole = panes.next()?.1.provenance.clone();
    panes.for_each(|(_, pane)| whole.merge(&pane.provenance));
    Some(whole)
}

/// Whether silence moves an episode: one without a known window for `patience`, or one that was over for `memory`.
fn is_due(
    episode: &Episode,
    becomes: WithoutData,
    now: Timestamp,
    (patience, memory): (Duration, Duration),
) -> bool {
    match (becomes, episode.phase()) {
        (WithoutData::Expired, Phase::Open | Phase::Recovering)
        | (WithoutData::Breach, Phase::Quiet | Phase::Recovering | Phase::Resolved) => {
            now > episode.known_through() + patience
        }
        (WithoutData::Expired | WithoutData::Keep, Phase::Quiet | Phase::Resolved) => {
            now > episode.judged_through() + memory
        }
        (WithoutData::Breach, Phase::Open) | (WithoutData::Keep, Phase::Open | Phase::Recovering) => false,
    }
}

/// The measures of subjects that silence moves: what inhibits before what it inhibits, then by subject and measure.
fn silent(
    subjects: &Subjects,
    ruled: &Ruled,
    is_due: impl Fn(&Episode) -> bool,
) -> BTreeSet<(u32, u64, String)> {
    let watched = subjects.watched().into_iter().filter_map(|number| Some((number, subjects.get(number)?)));
    watched
        .flat_map(|(number, subject)| {
            let due = subject.episodes.iter().filter(|(_, episode)| is_due(episode));
            due.map(move |(measure, _)| {
                let depth = judged_of(ruled, &subject.identity, measure).map_or(0, |judged| judged.depth);
                (depth, number, measure.to_owned())
            })
        })
        .collect()
}

impl Fold {
    /// Judges the windows that the time closes or that were corrected.
    pub(super) fn judge_due(&mut self, out: &mut Vec<Finding>) {
        let Some(ruled) = &self.ruled else { return };
        let window = &ruled.model.defaults.window;
        let (mut due, through) = window::due(&self.windows, self.now, self.closed_through, window);
        let is_told = due.last().is_some_and(|last| last.span.end == through);
        if self.subjects.awaits() && through > self.closed_through && !is_told {
            due.push(Due { span: Span::before(through, window.size), corrected: None });
        }
        let before = std::mem::replace(&mut self.closed_through, through);
        if due.is_empty() {
            return;
        }
        counter!("homeostat_windows_judged_total").increment(due.len() as u64);
        self.settle_panes(before);
        let is_asked = self.is_asked();
        let Some(ruled) = &self.ruled else { return };
        let mut gather = Gather {
            ruled,
            slots: &self.slots,
            subjects: &self.subjects,
            windows: &self.windows,
            sliders: &mut self.sliders,
        };
        let (behaviors, cases) = gather.all(&due);
        if !behaviors.is_empty() {
            out.push(Finding::Behaviors { behaviors });
        }
        let verdicts = evaluate(cases, is_asked);
        self.step(&verdicts, out);
    }

    /// Marks the panes with new rows in windows that are closed as judged, and works out what they add to longer windows.
    pub(super) fn settle_panes(&mut self, closed_before: Timestamp) {
        let Some(ruled) = &self.ruled else { return };
        let window = &ruled.model.defaults.window;
        let closed = |span: &Span| is_closed(*span, self.closed_through, window.every);
        let fresh = self.windows.iter().filter(|(span, window)| window.is_fresh && closed(span));
        let mut all = Vec::new();
        for (span, panes) in fresh {
            let is_late = is_closed(*span, closed_before, window.every);
            for (subject, pane) in panes.fresh() {
                let is_new = pane.version == 0;
                let was_told = || {
                    let whole = Span::around(span.start, window.size);
                    past::panes(&self.windows, subject, whole).any(|(_, pane)| pane.version > 0)
                };
                let version = if is_new && is_late && was_told() { 2 } else { pane.version + 1 };
                let sums = sums_of(ruled, &self.slots, &self.subjects, &self.windows, (*span, subject, pane));
                all.push(Settled { span: *span, subject, version, sums });
            }
        }
        for Settled { span, subject, version, sums } in all {
            if let Some(long) = self.subjects.get(subject).filter(|known| !known.long.is_empty()) {
                let names: Vec<String> = long.long.keys().map(str::to_owned).collect();
                self.see(subject, span.end, &names, &sums);
            }
            let Some(window) = self.windows.get_mut(&span) else { continue };
            window.settle(subject, version, sums);
        }
    }

    /// Remembers when each of the measures was seen last.
    fn see(&mut self, subject: u64, at: Timestamp, measures: &[String], sums: &[(String, Sums)]) {
        let Some(subject) = self.subjects.get_mut(subject) else { return };
        for name in measures {
            let is_seen = sums.iter().any(|(measure, sums)| measure == name && sums.samples > 0);
            if let Some(long) = subject.long.get_mut(name).filter(|_| is_seen) {
                long.seen = long.seen.max(Some(at));
            }
        }
    }

    /// Each episode takes its verdict, in their order.
    fn step(&mut self, verdicts: &[Verdict], out: &mut Vec<Finding>) {
        let Some(ruled) = &self.ruled else { return };
        let mut deviations: Vec<Deviation> = Vec::new();
        let mut accounts: Vec<Account> = Vec::new();
        for verdict in verdicts {
            let Identity::Requirement { req, labels } = &*verdict.identity else { continue };
            let (Some(judged), Some(requirement), Some(subject)) = (
                judged_of(ruled, &verdict.identity, &verdict.measure),
                ruled.model.requirements.get(req),
                self.subjects.get_mut(verdict.subject),
            ) else {
                continue;
            };
            let window = judged.window(verdict.span);
            let provenance = || provenance(&self.windows, verdict.subject, window);
            let mut scene = Scene {
                at: verdict.span.end,
                now: self.now,
                span: verdict.span,
                tenant: &self.settings.tenant,
                model_hash: &ruled.model.hash,
                defaults: &ruled.model.defaults,
                requirement,
                judged,
                reading: &verdict.reading,
                provenance: &provenance,
                window_kind: judged.window_kind(&ruled.model.defaults.window),
                labels,
                rule: None,
                hushed_by: None,
                acknowledgement: None,
                started_at: verdict.span.start,
                days: &mut self.days,
                silences: &self.silences,
                inhibition: &self.inhibition,
                hushes: Vec::new(),
            };
            subject.is_silent &= verdict.reading.samples == 0;
            let episode = subject.episodes.or_default(&verdict.measure);
            let is_correction = verdict.span.end <= episode.judged_through();
            episode.judge(&verdict.verdicts, &mut scene, &mut deviations);
            let hushes = scene.hushes;
            self.inhibition.note(verdict.subject, (req, labels), judged, Some(episode));
            if self.accounts.is_some() {
                let numbers = verdict.numbers.clone();
                let judgement =
                    Judgement { now: self.now, ruled, who: (req, labels), judged, numbers, is_correction };
                let read = (verdict.reading.value, verdict.reading.samples);
                let span = (window.start, window.end);
                accounts.push(judgement.account(span, read, &verdict.verdicts, (episode, &hushes)));
            }
            self.subjects.watch(verdict.subject);
        }
        out.extend(deviations.into_iter().map(|deviation| Finding::Deviation(Box::new(deviation))));
        gauge!("homeostat_deviations_live").set(self.subjects.live() as f64);
        self.put_accounts(accounts);
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
        for (_, number, measure) in silent(&self.subjects, ruled, |episode| {
            is_due(episode, defaults.no_data.becomes, self.now, (patience, memory))
        }) {
            let Some(subject) = self.subjects.get_mut(number) else { continue };
            let identity = Arc::clone(&subject.identity);
            let Identity::Requirement { req, labels } = &*identity else { continue };
            let told = deviations.len();
            let (Some(judged), Some(requirement), Some(episode)) = (
                judged_of(ruled, &identity, &measure),
                ruled.model.requirements.get(req),
                subject.episodes.get_mut(&measure),
            ) else {
                subject.episodes.remove(&measure);
                self.subjects.settle(number);
                continue;
            };
            let mut scene = Scene {
                at: self.now,
                now: self.now,
                span: Span { start: self.now, end: self.now },
                tenant: &self.settings.tenant,
                model_hash: &ruled.model.hash,
                defaults,
                requirement,
                judged,
                reading: &Reading::default(),
                provenance: &|| None,
                window_kind: judged.window_kind(window),
                labels,
                rule: None,
                hushed_by: None,
                acknowledgement: None,
                started_at: self.now,
                days: &mut self.days,
                silences: &self.silences,
                inhibition: &self.inhibition,
                hushes: Vec::new(),
            };
            match (defaults.no_data.becomes, episode.is_live()) {
                (WithoutData::Breach, _) => episode.breach_by_silence(&mut scene, &mut deviations),
                (WithoutData::Expired, true) => episode.end(Cause::NoData, &mut scene, &mut deviations),
                (WithoutData::Expired | WithoutData::Keep, _) => {
                    subject.episodes.remove(&measure);
                }
            }
            self.inhibition.note(number, (req, labels), judged, subject.episodes.get(&measure));
            if deviations[told..].iter().any(|one| one.transition == Transition::Expired) {
                self.subjects.fall_silent(number);
            }
            self.subjects.settle(number);
        }
        out.extend(deviations.into_iter().map(|deviation| Finding::Deviation(Box::new(deviation))));
    }
}
