//! One fingerprint: the rules' memory, the state of [`decide`], and the deviation as it was last recorded.

use std::collections::BTreeMap;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{Deviation, Level, Quiet, Severity, Transition};
use serde::{Deserialize, Serialize};

use super::super::model::{Expectation, Inhibitor, Rule, Unknown, WithoutData};
use super::decide::{Cause, Conditions, Decision, EpisodeState, Firing, Patience, Phase, Reason, decide};
use super::few::Few;
use super::hold::Hold;
use super::record::{Hush, Scene, record};
use super::ruled::Judged;
use super::window::Span;

/// Before every window.
const NEVER: Timestamp = Timestamp::from_nanos(i64::MIN);

/// The life of one measure of one subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    state: EpisodeState,
    /// Rule id → what it remembers.
    holds: Few<Hold>,
    /// The end of the latest window that was judged.
    judged_through: Timestamp,
    /// The end of the latest window whose conditions were known.
    known_through: Timestamp,
    /// The most adverse value since it opened.
    pub(super) worst: Option<f64>,
    /// The worst severity since it opened.
    pub(super) worst_severity: Severity,
    /// The worst threshold passed since it opened: 0 none … 3 critical.
    rank: u8,
    /// Whether the model counts silence as a violation, so that silence has to be watched for.
    awaits_data: bool,
    /// As last recorded; of the episode before while a new one has not opened.
    pub(super) deviation: Option<Box<Deviation>>,
}

impl Default for Episode {
    fn default() -> Episode {
        Episode {
            state: EpisodeState::default(),
            holds: Few::default(),
            judged_through: NEVER,
            known_through: NEVER,
            worst: None,
            worst_severity: Severity::Low,
            rank: 0,
            awaits_data: false,
            deviation: None,
        }
    }
}

/// What a rule's verdict counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    Violated,
    Fine,
    /// It fires by the last window that told, and this one does not tell.
    AsBefore,
}

/// A rule and whether it fires now.
struct Outcome<'a> {
    rule: &'a Rule,
    is_violated: bool,
    fires: bool,
    /// What keeps it from being told, beside its cooldown; only looked for when it fires.
    hush: Option<Hush>,
}

impl Episode {
    /// Whether a deviation is open or recovering.
    pub fn is_live(&self) -> bool {
        match self.state.phase {
            Phase::Open | Phase::Recovering => true,
            Phase::Quiet | Phase::Resolved => false,
        }
    }

    /// Whether it holds more than the panes could tell again.
    pub fn is_kept(&self) -> bool {
        self.deviation.is_some() || self.awaits_data
    }

    /// Whether its deviation has this uid, or this id for people.
    pub fn is_named(&self, name: &str) -> bool {
        self.deviation.as_ref().is_some_and(|known| known.uid == name || known.deviation_id == name)
    }

    /// Whether its deviation is open, told or not, and this rule fires in it by the last window that told.
    pub fn fires(&self, rule: &str) -> bool {
        self.state.phase == Phase::Open && self.holds.get(rule).is_some_and(Hold::is_firing)
    }

    /// What a rule remembers.
    pub fn hold(&self, rule: &str) -> Option<&Hold> {
        self.holds.get(rule)
    }

    /// What the next decision depends on.
    pub fn state(&self) -> &EpisodeState {
        &self.state
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.state.phase
    }

    /// The end of the latest window that was judged.
    pub fn judged_through(&self) -> Timestamp {
        self.judged_through
    }

    /// The end of the latest window whose conditions were known.
    pub fn known_through(&self) -> Timestamp {
        self.known_through
    }

    /// Judges one window. `verdicts` are those of `scene.judged.rules`, in their order.
    pub fn judge(&mut self, verdicts: &[Option<bool>], scene: &mut Scene<'_>, out: &mut Vec<Deviation>) {
        let span = scene.span;
        // Silence is counted from the first window on.
        if self.known_through == NEVER {
            self.known_through = span.start;
        }
        self.awaits_data = scene.defaults.no_data.becomes == WithoutData::Breach;
        // A window without data is judged for those rules that ask for what is missing; of all others it says nothing.
        if scene.reading.samples == 0 && !verdicts.contains(&Some(true)) {
            return;
        }
        let is_correction = span.end <= self.judged_through;
        self.judged_through = self.judged_through.max(span.end);
        let unknown_is = scene.defaults.unknown_is;
        if unknown_is == Unknown::NoData && verdicts.iter().all(Option::is_none) {
            return;
        }
        let counted = self.counted(verdicts, scene);
        let cause = if is_correction { Cause::Correction } else { Cause::Window };
        if is_unknown(&counted, verdicts) {
            // Of what lives nothing is known then: it waits for data, and expires without.
            if !is_correction && !self.is_live() {
                self.know_nothing_until(span.end);
            }
        } else {
            if !is_correction {
                self.know_nothing_until(span.start);
            }
            self.known_through = self.known_through.max(span.end);
        }
        self.advance(&counted, is_unknown(&counted, verdicts), cause, scene, out);
    }

    /// What each verdict counts as. An unknown one counts as the model says where it could open a deviation, and never as the
    /// end of one.
    fn counted(&self, verdicts: &[Option<bool>], scene: &Scene<'_>) -> Vec<Counted> {
        let counted = |(rule, verdict): (&Rule, &Option<bool>)| match verdict {
            Some(true) => Counted::Violated,
            Some(false) => Counted::Fine,
            None if scene.defaults.unknown_is == Unknown::Breach => Counted::Violated,
            None if self.fires(&rule.id) => Counted::AsBefore,
            None => Counted::Fine,
        };
        scene.judged.rules.iter().zip(verdicts).map(counted).collect()
    }

    /// The time since the last known window counts neither toward recovery nor toward verification.
    fn know_nothing_until(&mut self, at: Timestamp) {
        self.state = self.state.after_unknown(at.since(self.known_through));
        self.known_through = self.known_through.max(at);
    }

    /// The model counts silence as a violation: every rule is violated from the last known window until now.
    pub fn breach_by_silence(&mut self, scene: &mut Scene<'_>, out: &mut Vec<Deviation>) {
        scene.span = Span { start: self.known_through, end: scene.at };
        let all = vec![Counted::Violated; scene.judged.rules.len()];
        self.advance(&all, false, Cause::Window, scene, out);
    }

    fn advance(
        &mut self,
        counted: &[Counted],
        is_unknown: bool,
        cause: Cause,
        scene: &mut Scene<'_>,
        out: &mut Vec<Deviation>,
    ) {
        let outcomes = self.observe(counted, cause, scene);
        let patience = Patience {
            keep_firing_for: scene.defaults.keep_firing_for,
            verify_for: scene.defaults.verify_for,
        };
        let rank = scene.reading.value.map_or(0, |value| rank_of(scene.expected(), value));
        let is_violated = outcomes.iter().any(|outcome| outcome.is_violated);
        let at = scene.at.max(self.deviation.as_ref().map_or(scene.at, |known| known.at));
        // Recovering, resolved and verified may fall on one instant when nothing is to be waited for.
        for step in 0..3 {
            let seen = Conditions {
                cause,
                firing: self.firing(&outcomes, at).filter(|_| !is_unknown),
                is_violated,
                is_inside_target: is_inside_target(scene.expected(), scene.reading.value, is_violated),
                passes_level: rank > self.rank && rank >= 2,
                is_unknown,
            };
            let decision = decide(&self.state, &seen, at, &patience);
            if step == 0 {
                self.heed(&decision, &seen, &outcomes, scene.span);
            }
            let before = self.state.phase;
            self.state = self.state.after(&decision, &seen, at);
            let Some(transition) = decision.transition else { break };
            self.note(before, transition, &seen, scene, rank);
            self.tell(transition, &outcomes, at);
            let worst = worst_of(&outcomes);
            scene.rule = worst.map(|outcome| outcome.rule);
            scene.hushed_by = worst.and_then(|outcome| Some(outcome.hush.as_ref()?.by.clone()));
            scene.started_at = self.started_at(&outcomes, scene.span);
            scene.at = at;
            self.write(transition, decision.reason, before == Phase::Quiet, scene, out);
        }
        self.follow_worst(scene);
        scene.hushes = outcomes.into_iter().map(|outcome| outcome.hush).collect();
    }

    fn observe<'a>(&mut self, counted: &[Counted], cause: Cause, scene: &Scene<'a>) -> Vec<Outcome<'a>> {
        let judged: &'a Judged = scene.judged;
        let window = (scene.span.start, scene.span.end);
        let observed = judged.rules.iter().zip(counted).map(|(rule, counted)| {
            let hold = self.holds.or_default(&rule.id);
            let is_violated = *counted != Counted::Fine;
            let fires = match counted {
                Counted::AsBefore => true,
                Counted::Violated | Counted::Fine => {
                    hold.observe(is_violated, window, rule.holds_for, cause == Cause::Correction)
                }
            };
            Outcome { rule, is_violated, fires, hush: None }
        });
        let mut outcomes: Vec<Outcome<'a>> = observed.collect();
        let firing: Vec<&str> =
            outcomes.iter().filter(|one| one.fires).map(|one| one.rule.id.as_str()).collect();
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.fires) {
            outcome.hush = hush(outcome.rule, &firing, scene);
        }
        outcomes
    }

    /// What a window says beside the step that it brings about: rules fired, unless it came too late to matter; and what looked
    /// recovered, or inside its target, was not.
    fn heed(&mut self, decision: &Decision, seen: &Conditions, outcomes: &[Outcome<'_>], span: Span) {
        if decision.reason == Reason::TooLateToMatter {
            if self.state.is_contradicted(seen, span.end) {
                self.state = self.state.interrupted(self.judged_through);
            }
            return;
        }
        for outcome in outcomes.iter().filter(|outcome| outcome.fires) {
            if let Some(hold) = self.holds.get_mut(&outcome.rule.id) {
                hold.fire();
            }
        }
    }

    fn firing(&self, outcomes: &[Outcome<'_>], at: Timestamp) -> Option<Firing> {
        let worst = worst_of(outcomes)?;
        let is_cooling =
            |rule: &Rule| self.holds.get(&rule.id).is_some_and(|hold| hold.is_cooling(at, rule.cooldown));
        let quiet = match &worst.hush {
            Some(hush) => Some(hush.quiet),
            None => audible(outcomes).all(|outcome| is_cooling(outcome.rule)).then_some(Quiet::Cooldown),
        };
        Some(Firing { severity: worst.rule.severity, quiet })
    }

    /// What the episode remembers of the worst it saw.
    fn note(
        &mut self,
        before: Phase,
        transition: Transition,
        seen: &Conditions,
        scene: &Scene<'_>,
        rank: u8,
    ) {
        if before == Phase::Quiet && self.state.phase == Phase::Open {
            self.worst = None;
            self.worst_severity = Severity::Low;
            self.rank = 0;
        }
        if let Some(firing) = seen.firing {
            self.worst_severity = self.worst_severity.max(firing.severity);
            self.rank = self.rank.max(rank);
        }
        match transition {
            Transition::Resolved | Transition::Verified | Transition::Expired => {
                self.holds.values_mut().for_each(Hold::rest);
            }
            Transition::Detected
            | Transition::Updated
            | Transition::Suppressed
            | Transition::Acknowledged
            | Transition::Recovering => self.follow_worst(scene),
        }
    }

    fn follow_worst(&mut self, scene: &Scene<'_>) {
        let Some(value) = scene.reading.value.filter(|_| self.is_live()) else { return };
        if self.worst.is_none_or(|worst| scene.judged.expected.direction.is_worse(value, worst)) {
            self.worst = Some(value);
        }
    }

    fn tell(&mut self, transition: Transition, outcomes: &[Outcome<'_>], at: Timestamp) {
        if !matches!(transition, Transition::Detected | Transition::Updated) {
            return;
        }
        for outcome in audible(outcomes) {
            if let Some(hold) = self.holds.get_mut(&outcome.rule.id) {
                hold.tell(at);
            }
        }
    }

    /// Start of the first violating window of the rules that fire.
    fn started_at(&self, outcomes: &[Outcome<'_>], span: Span) -> Timestamp {
        let firing = outcomes.iter().filter(|outcome| outcome.fires);
        let since = firing.filter_map(|outcome| self.holds.get(&outcome.rule.id)?.since());
        since.chain([span.start]).min().unwrap_or(span.start)
    }

    /// Whether it lives, and neither the rule that it names nor another that fired in it is among these.
    pub fn loses_its_rule(&self, rules: &[Rule]) -> bool {
        let named = self.deviation.as_ref().filter(|_| self.is_live()).map(|known| known.rule.id.as_str());
        let is_there = |rule: &Rule| {
            named == Some(rule.id.as_str()) || self.holds.get(&rule.id).is_some_and(Hold::has_fired)
        };
        named.is_some() && !rules.iter().any(is_there)
    }

    /// Forgets rules that the model does not hold any more.
    pub fn keep_rules(&mut self, rules: &[Rule]) {
        self.holds.retain(|id, _| rules.iter().any(|rule| rule.id == *id));
    }

    /// A person says to have seen it.
    pub fn acknowledge(&mut self, scene: &mut Scene<'_>, out: &mut Vec<Deviation>) {
        scene.at = scene.at.max(self.deviation.as_ref().map_or(scene.at, |known| known.at));
        self.step_without_window(Cause::Acknowledgement, scene, out);
    }

    /// Ends a live episode for want of data or of rules.
    pub fn end(&mut self, cause: Cause, scene: &mut Scene<'_>, out: &mut Vec<Deviation>) {
        if self.step_without_window(cause, scene, out) {
            self.holds.values_mut().for_each(Hold::rest);
        }
    }

    /// Whether it was a step.
    fn step_without_window(&mut self, cause: Cause, scene: &mut Scene<'_>, out: &mut Vec<Deviation>) -> bool {
        let seen = Conditions {
            cause,
            firing: None,
            is_violated: false,
            is_inside_target: false,
            passes_level: false,
            is_unknown: false,
        };
        let patience = Patience {
            keep_firing_for: scene.defaults.keep_firing_for,
            verify_for: scene.defaults.verify_for,
        };
        let decision: Decision = decide(&self.state, &seen, scene.at, &patience);
        self.state = self.state.after(&decision, &seen, scene.at);
        let Some(transition) = decision.transition else { return false };
        self.write(transition, decision.reason, false, scene, out);
        true
    }

    fn write(
        &mut self,
        transition: Transition,
        reason: Reason,
        is_new: bool,
        scene: &mut Scene<'_>,
        out: &mut Vec<Deviation>,
    ) {
        let status = self.state.status(transition);
        let severity = match transition {
            Transition::Resolved | Transition::Verified | Transition::Expired => self.worst_severity,
            Transition::Detected
            | Transition::Updated
            | Transition::Suppressed
            | Transition::Acknowledged
            | Transition::Recovering => self.state.severity,
        };
        if let Some(mut deviation) = record(self, scene, transition, status, severity, reason, is_new) {
            deviation.quiet = self.state.quiet;
            let is_over = !self.is_live();
            deviation.acknowledgement.take_if(|_| !is_over && self.state.acknowledged.is_none());
            out.push(deviation.clone());
            self.deviation = Some(Box::new(deviation));
        }
    }
}

/// Whether a window does not tell if what fired still does, or tells nothing at all.
fn is_unknown(counted: &[Counted], verdicts: &[Option<bool>]) -> bool {
    !counted.contains(&Counted::Violated)
        && (counted.contains(&Counted::AsBefore) || verdicts.iter().all(Option::is_none))
}

/// The rules that fire and are kept quiet by nothing but perhaps their cooldown.
fn audible<'a, 'o>(outcomes: &'o [Outcome<'a>]) -> impl Iterator<Item = &'o Outcome<'a>> {
    outcomes.iter().filter(|outcome| outcome.fires && outcome.hush.is_none())
}

/// The worst rule that fires; of equals the first in the model. One that is silenced or inhibited is it only where no other fires.
fn worst_of<'a, 'o>(outcomes: &'o [Outcome<'a>]) -> Option<&'o Outcome<'a>> {
    let worse = |worst: &'o Outcome<'a>, next: &'o Outcome<'a>| {
        if next.rule.severity > worst.rule.severity { next } else { worst }
    };
    audible(outcomes).reduce(worse).or_else(|| outcomes.iter().filter(|outcome| outcome.fires).reduce(worse))
}

/// What keeps a rule of this subject from being told: a silence, or a rule that the model says is the cause and that fires too,
/// be it one of the same deviation.
fn hush(rule: &Rule, firing: &[&str], scene: &Scene<'_>) -> Option<Hush> {
    silenced(rule, scene).or_else(|| {
        let is_own = |by: &Inhibitor| {
            by.req == scene.requirement.key && scene.judged.rules.iter().any(|own| own.id == by.rule)
        };
        let fires = |by: &&Inhibitor| match is_own(by) {
            true => firing.contains(&by.rule.as_str()),
            false => scene.inhibition.fires(by, rule, scene.labels),
        };
        let by = rule.inhibited_by.iter().find(fires)?;
        Some(Hush { quiet: Quiet::Inhibited, by: format!("rule {} of {}", by.rule, by.req) })
    })
}

fn silenced(rule: &Rule, scene: &Scene<'_>) -> Option<Hush> {
    let mut labels: BTreeMap<&str, &str> =
        scene.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    labels.extend([
        ("req", scene.requirement.key.as_str()),
        ("measure", scene.judged.expected.measure.name.as_str()),
        ("rule", rule.id.as_str()),
        ("severity", rule.severity.name()),
    ]);
    let silence = scene.silences.matching(&labels, scene.now)?;
    let by = format!("silence {} of {} until {}", silence.id, silence.author, silence.ends_at);
    Some(Hush { quiet: Quiet::Silenced, by })
}

fn is_inside_target(expected: &Expectation, value: Option<f64>, is_violated: bool) -> bool {
    match (value, expected.thresholds.target) {
        _ if is_violated => false,
        (None, _) => false,
        (Some(value), Some(target)) => !expected.direction.is_worse(value, target),
        (Some(_), None) => true,
    }
}

/// The worst threshold that a value is beyond: 1 target, 2 warning, 3 critical.
fn rank_of(expected: &Expectation, value: f64) -> u8 {
    [(Level::Critical, 3), (Level::Warning, 2), (Level::Target, 1)]
        .into_iter()
        .find(|(level, _)| {
            let limit = expected.thresholds.get(*level);
            limit.is_some_and(|limit| expected.direction.is_worse(value, limit))
        })
        .map_or(0, |(_, rank)| rank)
}
