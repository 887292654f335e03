//! The life of a deviation as a pure function: where it stands and what was seen give the next step and the reason for it.
//!
//! `(none) → open → recovering → resolved → verified`, with `expired` wherever data or rule are gone. `pending` is not a phase of
//! the episode but of each rule ([`super::hold`]), for each rule keeps its own `for`.

use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{Quiet, Severity, Status, Transition};
use serde::{Deserialize, Serialize};

/// Where an episode stands. `Quiet`: there is none, or the last one is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No rule fires, and nothing is waited for.
    #[default]
    Quiet,
    /// A rule fires.
    Open,
    /// No rule fires, not yet for `keep_firing_for`.
    Recovering,
    /// Over, but a relapse would reopen it.
    Resolved,
}

/// What of an episode the decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpisodeState {
    /// Where it stands.
    pub phase: Phase,
    /// Of the worst rule firing; `Low` while quiet.
    pub severity: Severity,
    /// What keeps it quiet while it is open.
    pub quiet: Option<Quiet>,
    /// Whether anybody was told that it is open, since it opened or relapsed.
    pub is_told: bool,
    /// How bad it was when a person said to have seen it; none when nobody has, or when it became worse.
    pub acknowledged: Option<Severity>,
    /// When the first window without a violation ended.
    pub recovering_since: Timestamp,
    /// Since when its windows are inside the target without a gap; none while they are not.
    pub inside_since: Option<Timestamp>,
    /// When the last episode was verified or expired: corrections of windows before this change nothing.
    pub ended_at: Option<Timestamp>,
}

impl Default for EpisodeState {
    fn default() -> EpisodeState {
        EpisodeState {
            phase: Phase::Quiet,
            severity: Severity::Low,
            quiet: None,
            is_told: false,
            acknowledged: None,
            recovering_since: Timestamp::ZERO,
            inside_since: None,
            ended_at: None,
        }
    }
}

/// What brings a decision about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A window later than all that were judged before.
    Window,
    /// Late rows changed a window that was judged already, or made one before it: it may open or worsen, never better.
    Correction,
    /// No known window for as long as the model waits, and the model says that it then expires.
    NoData,
    /// The model holds no rule for it any more.
    RuleGone,
    /// A person says to have seen it.
    Acknowledgement,
}

/// The rules that fire together: `for` is served, or they fired before in this episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firing {
    /// Of the worst of them.
    pub severity: Severity,
    /// What keeps them from being told, when something keeps every one of them.
    pub quiet: Option<Quiet>,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Of what.
    pub cause: Cause,
    /// None when no rule fires.
    pub firing: Option<Firing>,
    /// Whether a rule is violated, its `for` served or not.
    pub is_violated: bool,
    /// Whether the value is inside the target; without a target, whether nothing is violated.
    pub is_inside_target: bool,
    /// Whether the value passed a worse threshold than any before in this episode.
    pub passes_level: bool,
    /// Whether the window does not tell if what was violated still is: nothing fires then, and nothing gets better by it.
    pub is_unknown: bool,
}

/// How long the model waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From recovering to resolved.
    pub keep_firing_for: Duration,
    /// From resolved to verified.
    pub verify_for: Duration,
}

/// Why the decision is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing is violated, and nothing was.
    Healthy,
    /// The conditions are unknown: whatever is live stays as it is.
    Unknown,
    /// A rule is violated, not yet for long enough.
    Pending,
    /// A rule fires.
    Violated,
    /// A rule fires again before the deviation was verified.
    Relapsed,
    /// A rule fires, but its cooldown runs.
    CoolingDown,
    /// A rule still fires, and its cooldown is over.
    CooldownOver,
    /// A rule fires, but a person silenced it.
    Silenced,
    /// A rule still fires, and the silence is over.
    SilenceOver,
    /// A rule fires, but so does one that the model says is the cause.
    Inhibited,
    /// A rule still fires, and the one that is the cause does not any more.
    InhibitionOver,
    /// A person has seen it.
    Acknowledged,
    /// There is nothing live to be acknowledged.
    NotLive,
    /// A worse rule fires.
    Escalated,
    /// Only a milder rule fires.
    Eased,
    /// The value is beyond a worse threshold.
    PassedLevel,
    /// The same rules fire as before.
    StillViolated,
    /// No rule is violated any more.
    BackInside,
    /// No rule is violated, not yet for `keep_firing_for`.
    StillRecovering,
    /// No rule was violated for `keep_firing_for`.
    HeldInside,
    /// Resolved, but not inside the target for `verify_for`.
    NotYetVerified,
    /// Inside the target for `verify_for`.
    HeldTarget,
    /// No data for as long as the model waits.
    NoData,
    /// The model holds no rule for it any more.
    ModelChanged,
    /// A correction cannot better, reopen or redo what was judged.
    TooLateToMatter,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is recorded; none when nothing is.
    pub transition: Option<Transition>,
    /// Where the episode stands after it.
    pub phase: Phase,
    /// Why.
    pub reason: Reason,
}

/// Decides one step. `at` is the end of the window, or the time of the tick or the epoch. A window may bring about two steps
/// (recovering, then resolved at once where `keep_firing_for` is zero): the caller asks again until nothing is recorded.
pub fn decide(state: &EpisodeState, seen: &Conditions, at: Timestamp, patience: &Patience) -> Decision {
    let stay = |reason| Decision { transition: None, phase: state.phase, reason };
    let step = |transition, phase, reason| Decision { transition: Some(transition), phase, reason };
    match seen.cause {
        Cause::NoData | Cause::RuleGone => {
            let reason = if seen.cause == Cause::NoData { Reason::NoData } else { Reason::ModelChanged };
            match state.phase {
                Phase::Open | Phase::Recovering => step(Transition::Expired, Phase::Quiet, reason),
                Phase::Quiet | Phase::Resolved => stay(reason),
            }
        }
        Cause::Acknowledgement => match state.phase {
            Phase::Open | Phase::Recovering => {
                step(Transition::Acknowledged, state.phase, Reason::Acknowledged)
            }
            Phase::Quiet | Phase::Resolved => stay(Reason::NotLive),
        },
        Cause::Window => match state.phase {
            Phase::Quiet => opens(seen, Reason::Violated, stay(waiting(seen, Reason::Healthy))),
            Phase::Open | Phase::Recovering | Phase::Resolved if seen.is_unknown => stay(Reason::Unknown),
            Phase::Open => while_open(state, seen),
            Phase::Recovering | Phase::Resolved if seen.firing.is_some() => relapses(state, seen),
            Phase::Recovering if seen.is_violated => stay(Reason::Pending),
            Phase::Recovering if at.since(state.recovering_since) >= patience.keep_firing_for => {
                step(Transition::Resolved, Phase::Resolved, Reason::HeldInside)
            }
            Phase::Recovering => stay(Reason::StillRecovering),
            Phase::Resolved => match state.inside_since {
                Some(since) if seen.is_inside_target && at.since(since) >= patience.verify_for => {
                    step(Transition::Verified, Phase::Quiet, Reason::HeldTarget)
                }
                Some(_) | None => stay(waiting(seen, Reason::NotYetVerified)),
            },
        },
        Cause::Correction => match state.phase {
            Phase::Quiet if state.ended_at.is_some_and(|ended| at <= ended) => stay(Reason::TooLateToMatter),
            Phase::Quiet => opens(seen, Reason::Violated, stay(waiting(seen, Reason::Healthy))),
            Phase::Open if seen.firing.is_some_and(|firing| firing.severity > state.severity) => {
                while_open(state, seen)
            }
            Phase::Open | Phase::Recovering | Phase::Resolved => stay(Reason::TooLateToMatter),
        },
    }
}

/// Why nothing is recorded while no rule fires.
fn waiting(seen: &Conditions, otherwise: Reason) -> Reason {
    match (seen.is_unknown, seen.is_violated) {
        (true, _) => Reason::Unknown,
        (false, true) => Reason::Pending,
        (false, false) => otherwise,
    }
}

/// Why a rule that fires is not told.
fn hushed(quiet: Quiet) -> Reason {
    match quiet {
        Quiet::Cooldown => Reason::CoolingDown,
        Quiet::Silenced => Reason::Silenced,
        Quiet::Inhibited => Reason::Inhibited,
    }
}

fn opens(seen: &Conditions, reason: Reason, otherwise: Decision) -> Decision {
    let open = |transition, reason| Decision { transition: Some(transition), phase: Phase::Open, reason };
    match seen.firing {
        None => otherwise,
        Some(Firing { quiet: Some(quiet), .. }) => open(Transition::Suppressed, hushed(quiet)),
        Some(Firing { quiet: None, .. }) => open(Transition::Detected, reason),
    }
}

/// As where it is open, a worse severity than the last passes a cooldown, though neither a silence nor an inhibition.
fn relapses(state: &EpisodeState, seen: &Conditions) -> Decision {
    let is_worse = seen
        .firing
        .is_some_and(|firing| firing.quiet == Some(Quiet::Cooldown) && firing.severity > state.severity);
    if is_worse {
        let transition = Some(Transition::Detected);
        return Decision { transition, phase: Phase::Open, reason: Reason::Escalated };
    }
    let otherwise = Decision { transition: None, phase: state.phase, reason: Reason::Pending };
    opens(seen, Reason::Relapsed, otherwise)
}

fn while_open(state: &EpisodeState, seen: &Conditions) -> Decision {
    let open = |transition, reason| Decision { transition, phase: Phase::Open, reason };
    let Some(firing) = seen.firing else {
        if seen.is_violated {
            return open(None, Reason::Pending);
        }
        return Decision {
            transition: Some(Transition::Recovering),
            phase: Phase::Recovering,
            reason: Reason::BackInside,
        };
    };
    // What was hidden is detected when it comes to light, not updated: nobody was told of it.
    let told = if state.is_told { Transition::Updated } else { Transition::Detected };
    let is_worse = firing.severity > state.severity;
    match (firing.quiet, state.quiet) {
        // Neither a silence nor an inhibition asks how bad it is: whoever wants that says so in the matchers.
        (Some(quiet @ (Quiet::Silenced | Quiet::Inhibited)), before) => {
            let is_new = before != Some(quiet) || is_worse;
            open(is_new.then_some(Transition::Suppressed), hushed(quiet))
        }
        (None | Some(Quiet::Cooldown), _) if is_worse => open(Some(told), Reason::Escalated),
        (Some(Quiet::Cooldown), Some(_)) => open(None, Reason::CoolingDown),
        (None, Some(Quiet::Cooldown)) => open(Some(told), Reason::CooldownOver),
        (None, Some(Quiet::Silenced)) => open(Some(told), Reason::SilenceOver),
        (None, Some(Quiet::Inhibited)) => open(Some(told), Reason::InhibitionOver),
        (None | Some(Quiet::Cooldown), None) if firing.severity < state.severity => {
            open(Some(told), Reason::Eased)
        }
        (None | Some(Quiet::Cooldown), None) if seen.passes_level => open(Some(told), Reason::PassedLevel),
        (None | Some(Quiet::Cooldown), None) => open(None, Reason::StillViolated),
    }
}

impl EpisodeState {
    /// The state after a decision that was made of it.
    #[must_use]
    pub fn after(self, decision: &Decision, seen: &Conditions, at: Timestamp) -> EpisodeState {
        let mut next = EpisodeState { phase: decision.phase, ..self };
        if let Some(firing) = seen.firing
            && decision.transition.is_some()
        {
            next.severity = firing.severity;
            // What is worse than what was seen was not seen; what came back after people were told of its end neither.
            let is_back = self.phase == Phase::Resolved;
            next.acknowledged = self.acknowledged.filter(|seen| !is_back && firing.severity <= *seen);
        }
        match decision.transition {
            Some(Transition::Detected | Transition::Updated) => {
                (next.quiet, next.is_told) = (None, true);
            }
            Some(Transition::Suppressed) => {
                next.quiet = seen.firing.and_then(|firing| firing.quiet);
                next.is_told = self.is_told && self.phase == Phase::Open;
            }
            Some(Transition::Acknowledged) => next.acknowledged = Some(self.severity),
            Some(Transition::Recovering) => {
                (next.recovering_since, next.quiet) = (at, None);
            }
            Some(Transition::Resolved) => next.inside_since = seen.is_inside_target.then_some(at),
            Some(Transition::Verified | Transition::Expired) => {
                next = EpisodeState { ended_at: Some(at), ..EpisodeState::default() };
            }
            // A silence is over, but the cooldown still runs.
            None if decision.reason == Reason::CoolingDown => next.quiet = Some(Quiet::Cooldown),
            None => {}
        }
        if decision.transition.is_none() && seen.cause == Cause::Window && !seen.is_unknown {
            match self.phase {
                Phase::Recovering if seen.is_violated => next.recovering_since = at,
                Phase::Resolved if !seen.is_inside_target => next.inside_since = None,
                Phase::Resolved => next.inside_since = self.inside_since.or(Some(at)),
                Phase::Quiet | Phase::Open | Phase::Recovering => {}
            }
        }
        next
    }

    /// The state after a time of which nothing is known: it counts neither toward recovery nor toward verification.
    #[must_use]
    pub fn after_unknown(self, length: Duration) -> EpisodeState {
        EpisodeState {
            recovering_since: match self.phase {
                Phase::Recovering => self.recovering_since + length,
                Phase::Quiet | Phase::Open | Phase::Resolved => self.recovering_since,
            },
            inside_since: self.inside_since.map(|since| since + length),
            ..self
        }
    }

    /// What is waited for starts again at `at`.
    #[must_use]
    pub fn interrupted(self, at: Timestamp) -> EpisodeState {
        EpisodeState {
            recovering_since: self.recovering_since.max(at),
            inside_since: self.inside_since.map(|since| since.max(at)),
            ..self
        }
    }

    /// Whether what was seen of a window that ends at `end` is not what this waits for to last: that no rule is violated while it
    /// recovers, that it is inside the target after it is resolved.
    pub fn is_contradicted(&self, seen: &Conditions, end: Timestamp) -> bool {
        match self.phase {
            _ if seen.is_unknown => false,
            Phase::Recovering => seen.is_violated && end >= self.recovering_since,
            Phase::Resolved => !seen.is_inside_target && self.inside_since.is_some_and(|since| end >= since),
            Phase::Quiet | Phase::Open => false,
        }
    }

    /// What findings call it.
    pub fn status(&self, transition: Transition) -> Status {
        match transition {
            Transition::Verified => Status::Verified,
            Transition::Expired => Status::Expired,
            Transition::Detected
            | Transition::Updated
            | Transition::Suppressed
            | Transition::Acknowledged
            | Transition::Recovering
            | Transition::Resolved => match self.phase {
                Phase::Open if self.acknowledged.is_some() => Status::Acknowledged,
                Phase::Open | Phase::Quiet => Status::Open,
                Phase::Recovering => Status::Recovering,
                Phase::Resolved => Status::Resolved,
            },
        }
    }
}

#[cfg(test)]
mod tests;
