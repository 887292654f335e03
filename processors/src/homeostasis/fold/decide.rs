//! The life of a deviation as a pure function: where it stands and what was seen give the next step and the reason for it.
//!
//! `(none) → open → recovering → resolved → verified`, with `expired` wherever data or rule are gone. `pending` is not a phase of
//! the episode but of each rule ([`super::hold`]), for each rule keeps its own `for`.

use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{Severity, Status, Transition};
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
    /// Whether a cooldown keeps it quiet.
    pub is_suppressed: bool,
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
            is_suppressed: false,
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
}

/// The rules that fire together: `for` is served, or they fired before in this episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firing {
    /// Of the worst of them.
    pub severity: Severity,
    /// Whether each of them is within its cooldown.
    pub is_cooling: bool,
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
        Cause::Window => match state.phase {
            Phase::Quiet => opens(seen, Reason::Violated, stay(waiting(seen, Reason::Healthy))),
            Phase::Open => while_open(state, seen),
            Phase::Recovering if seen.firing.is_some() => {
                opens(seen, Reason::Relapsed, stay(Reason::Pending))
            }
            Phase::Recovering if seen.is_violated => stay(Reason::Pending),
            Phase::Recovering if at.since(state.recovering_since) >= patience.keep_firing_for => {
                step(Transition::Resolved, Phase::Resolved, Reason::HeldInside)
            }
            Phase::Recovering => stay(Reason::StillRecovering),
            Phase::Resolved if seen.firing.is_some() => opens(seen, Reason::Relapsed, stay(Reason::Pending)),
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
    if seen.is_violated { Reason::Pending } else { otherwise }
}

fn opens(seen: &Conditions, reason: Reason, otherwise: Decision) -> Decision {
    match seen.firing {
        None => otherwise,
        Some(firing) if firing.is_cooling => Decision {
            transition: Some(Transition::Suppressed),
            phase: Phase::Open,
            reason: Reason::CoolingDown,
        },
        Some(_) => Decision { transition: Some(Transition::Detected), phase: Phase::Open, reason },
    }
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
    // What a cooldown hid is detected when it comes to light, not updated: nobody was told of it.
    let told = if state.is_suppressed { Transition::Detected } else { Transition::Updated };
    if firing.severity > state.severity {
        open(Some(told), Reason::Escalated)
    } else if state.is_suppressed && !firing.is_cooling {
        open(Some(told), Reason::CooldownOver)
    } else if state.is_suppressed {
        open(None, Reason::CoolingDown)
    } else if firing.severity < state.severity {
        open(Some(told), Reason::Eased)
    } else if seen.passes_level {
        open(Some(told), Reason::PassedLevel)
    } else {
        open(None, Reason::StillViolated)
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
        }
        match decision.transition {
            Some(Transition::Detected | Transition::Updated) => next.is_suppressed = false,
            Some(Transition::Suppressed) => next.is_suppressed = true,
            Some(Transition::Recovering) => next.recovering_since = at,
            Some(Transition::Resolved) => next.inside_since = seen.is_inside_target.then_some(at),
            Some(Transition::Verified | Transition::Expired) => {
                next = EpisodeState { ended_at: Some(at), ..EpisodeState::default() };
            }
            Some(Transition::Acknowledged) | None => {}
        }
        if decision.transition.is_none() && seen.cause == Cause::Window {
            match self.phase {
                Phase::Recovering if seen.is_violated => next.recovering_since = at,
                Phase::Resolved if !seen.is_inside_target => next.inside_since = None,
                Phase::Resolved => next.inside_since = self.inside_since.or(Some(at)),
                Phase::Quiet | Phase::Open | Phase::Recovering => {}
            }
        }
        next
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
                Phase::Open | Phase::Quiet => Status::Open,
                Phase::Recovering => Status::Recovering,
                Phase::Resolved => Status::Resolved,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Severity::{Critical, High};

    const PATIENCE: Patience =
        Patience { keep_firing_for: Duration::from_secs(300), verify_for: Duration::from_secs(900) };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    /// Where it stands: the letter of the phase, `!` for suppressed, severity high. Recovering and inside its target since 0 s.
    fn state(text: &str) -> EpisodeState {
        let phase = match &text[..1] {
            "q" => Phase::Quiet,
            "o" => Phase::Open,
            "r" => Phase::Recovering,
            _ => Phase::Resolved,
        };
        EpisodeState {
            phase,
            severity: if phase == Phase::Quiet { Severity::Low } else { High },
            is_suppressed: text.ends_with('!'),
            recovering_since: at(0),
            inside_since: (phase == Phase::Resolved).then(|| at(0)),
            ended_at: None,
        }
    }

    /// What is seen: nothing violated and inside the target (`in`), inside no target (`out`), pending, or a rule that fires
    /// (`high`, `critical`), `~` when it cools down, `+` when a worse threshold is passed.
    fn seen(cause: Cause, text: &str) -> Conditions {
        let severity = if text.starts_with("critical") { Critical } else { High };
        let fires = text.starts_with("critical") || text.starts_with("high");
        Conditions {
            cause,
            firing: fires.then_some(Firing { severity, is_cooling: text.contains('~') }),
            is_violated: fires || text == "pending",
            is_inside_target: text == "in",
            passes_level: text.ends_with('+'),
        }
    }

    #[track_caller]
    fn check(
        from: &str,
        cause: Cause,
        what: &str,
        second: i64,
        expected: (Option<Transition>, Phase, Reason),
    ) {
        let decision = decide(&state(from), &seen(cause, what), at(second), &PATIENCE);
        let (transition, phase, reason) = expected;
        assert_eq!(decision, Decision { transition, phase, reason }, "{from} {cause:?} {what} at {second}s");
    }

    #[test]
    fn from_quiet() {
        use Reason::{CoolingDown, Healthy, Pending, Violated};
        use Transition::{Detected, Suppressed};
        for cause in [Cause::Window, Cause::Correction] {
            check("q", cause, "in", 0, (None, Phase::Quiet, Healthy));
            check("q", cause, "out", 0, (None, Phase::Quiet, Healthy));
            check("q", cause, "pending", 0, (None, Phase::Quiet, Pending));
            check("q", cause, "high", 0, (Some(Detected), Phase::Open, Violated));
            check("q", cause, "critical+", 0, (Some(Detected), Phase::Open, Violated));
            check("q", cause, "high~", 0, (Some(Suppressed), Phase::Open, CoolingDown));
        }
    }

    #[test]
    fn while_it_is_open() {
        use Reason::{BackInside, Escalated, PassedLevel, Pending, StillViolated};
        use Transition::{Recovering, Updated};
        let window = Cause::Window;
        check("o", window, "in", 9, (Some(Recovering), Phase::Recovering, BackInside));
        check("o", window, "out", 9, (Some(Recovering), Phase::Recovering, BackInside));
        check("o", window, "pending", 9, (None, Phase::Open, Pending));
        check("o", window, "high", 9, (None, Phase::Open, StillViolated));
        check("o", window, "high~", 9, (None, Phase::Open, StillViolated));
        check("o", window, "high+", 9, (Some(Updated), Phase::Open, PassedLevel));
        check("o", window, "critical", 9, (Some(Updated), Phase::Open, Escalated));
        check("o", window, "critical~", 9, (Some(Updated), Phase::Open, Escalated));
        let mut critical = state("o");
        critical.severity = Critical;
        let eased = decide(&critical, &seen(window, "high"), at(9), &PATIENCE);
        assert_eq!((eased.transition, eased.reason), (Some(Updated), Reason::Eased));
    }

    #[test]
    fn while_a_cooldown_keeps_it_quiet() {
        use Reason::{BackInside, CooldownOver, CoolingDown, Escalated};
        use Transition::{Detected, Recovering};
        let window = Cause::Window;
        check("o!", window, "high~", 9, (None, Phase::Open, CoolingDown));
        check("o!", window, "high~+", 9, (None, Phase::Open, CoolingDown));
        check("o!", window, "high", 9, (Some(Detected), Phase::Open, CooldownOver));
        check("o!", window, "critical~", 9, (Some(Detected), Phase::Open, Escalated));
        check("o!", window, "in", 9, (Some(Recovering), Phase::Recovering, BackInside));
    }

    #[test]
    fn while_it_recovers() {
        use Reason::{CoolingDown, HeldInside, Pending, Relapsed, StillRecovering};
        use Transition::{Detected, Resolved, Suppressed};
        let window = Cause::Window;
        check("r", window, "out", 299, (None, Phase::Recovering, StillRecovering));
        check("r", window, "out", 300, (Some(Resolved), Phase::Resolved, HeldInside));
        check("r", window, "in", 300, (Some(Resolved), Phase::Resolved, HeldInside));
        check("r", window, "pending", 300, (None, Phase::Recovering, Pending));
        check("r", window, "high", 300, (Some(Detected), Phase::Open, Relapsed));
        check("r", window, "critical", 10, (Some(Detected), Phase::Open, Relapsed));
        check("r", window, "high~", 10, (Some(Suppressed), Phase::Open, CoolingDown));
    }

    #[test]
    fn after_it_is_resolved() {
        use Reason::{CoolingDown, HeldTarget, NotYetVerified, Pending, Relapsed};
        use Transition::{Detected, Suppressed, Verified};
        let window = Cause::Window;
        check("s", window, "in", 899, (None, Phase::Resolved, NotYetVerified));
        check("s", window, "in", 900, (Some(Verified), Phase::Quiet, HeldTarget));
        check("s", window, "out", 900, (None, Phase::Resolved, NotYetVerified));
        check("s", window, "pending", 900, (None, Phase::Resolved, Pending));
        check("s", window, "high", 900, (Some(Detected), Phase::Open, Relapsed));
        check("s", window, "high~", 900, (Some(Suppressed), Phase::Open, CoolingDown));
    }

    #[test]
    fn corrections_open_and_worsen_but_never_better() {
        let correction = Cause::Correction;
        for what in ["in", "out", "pending", "high", "high+", "high~"] {
            for from in ["o", "r", "s"] {
                check(from, correction, what, 9_000, (None, state(from).phase, Reason::TooLateToMatter));
            }
        }
        check("o", correction, "critical", 9, (Some(Transition::Updated), Phase::Open, Reason::Escalated));
        check("r", correction, "critical", 9, (None, Phase::Recovering, Reason::TooLateToMatter));
        let ended = EpisodeState { ended_at: Some(at(100)), ..state("q") };
        let of = |second| decide(&ended, &seen(correction, "high"), at(second), &PATIENCE);
        assert_eq!((of(100).transition, of(100).reason), (None, Reason::TooLateToMatter));
        assert_eq!(of(101).transition, Some(Transition::Detected));
    }

    #[test]
    fn without_data_or_rules_only_what_lives_expires() {
        for (cause, reason) in [(Cause::NoData, Reason::NoData), (Cause::RuleGone, Reason::ModelChanged)] {
            for from in ["o", "o!", "r"] {
                check(from, cause, "in", 9, (Some(Transition::Expired), Phase::Quiet, reason));
            }
            for from in ["q", "s"] {
                check(from, cause, "in", 9, (None, state(from).phase, reason));
            }
        }
    }

    #[test]
    fn what_is_waited_for_starts_again_when_it_is_interrupted() {
        let after = |from: EpisodeState, what: &str, second: i64| {
            let seen = seen(Cause::Window, what);
            let decision = decide(&from, &seen, at(second), &PATIENCE);
            from.after(&decision, &seen, at(second))
        };
        let recovering = after(state("r"), "pending", 200);
        assert_eq!(recovering.recovering_since, at(200));
        let outside = after(state("s"), "out", 800);
        assert_eq!(outside.inside_since, None);
        assert_eq!(after(outside, "in", 1_000).inside_since, Some(at(1_000)));
        let resolved = after(state("r"), "in", 300);
        assert_eq!((resolved.phase, resolved.inside_since), (Phase::Resolved, Some(at(300))));
        assert_eq!(after(state("r"), "out", 300).inside_since, None);
        let verified = after(state("s"), "in", 900);
        assert_eq!((verified.phase, verified.ended_at), (Phase::Quiet, Some(at(900))));
        let hidden = after(state("q"), "high~", 5);
        assert!(hidden.is_suppressed);
        assert!(!after(hidden, "high", 6).is_suppressed);
    }
}
