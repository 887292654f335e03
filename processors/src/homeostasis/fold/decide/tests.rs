//! Every step, each with its reason.

use super::*;
use Severity::{Critical, High, Medium};

const PATIENCE: Patience =
    Patience { keep_firing_for: Duration::from_secs(300), verify_for: Duration::from_secs(900) };

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1_000)
}

/// Where it stands: the letter of the phase, severity high, `~` kept quiet by a cooldown, `$` by a silence, `%` by an inhibition,
/// `t` somebody was told, `a` acknowledged. Recovering and inside its target since 0 s.
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
        quiet: quiet_of(&text[1..]),
        is_told: text[1..].contains('t'),
        acknowledged: text[1..].contains('a').then_some(High),
        recovering_since: at(0),
        inside_since: (phase == Phase::Resolved).then(|| at(0)),
        ended_at: None,
    }
}

fn quiet_of(text: &str) -> Option<Quiet> {
    let of = |(letter, quiet)| text.contains(letter).then_some(quiet);
    [('~', Quiet::Cooldown), ('$', Quiet::Silenced), ('%', Quiet::Inhibited)].into_iter().find_map(of)
}

/// What is seen: nothing violated and inside the target (`in`), inside no target (`out`), unknown, pending, or a rule that fires
/// (`medium`, `high`, `critical`), `~`, `$`, `%` when it is kept quiet, `+` when a worse threshold is passed.
fn seen(cause: Cause, text: &str) -> Conditions {
    let words = [("critical", Critical), ("high", High), ("medium", Medium)];
    let severity = words.into_iter().find_map(|(word, severity)| text.starts_with(word).then_some(severity));
    Conditions {
        cause,
        firing: severity.map(|severity| Firing { severity, quiet: quiet_of(text) }),
        is_violated: severity.is_some() || text == "pending",
        is_inside_target: text == "in",
        passes_level: text.ends_with('+'),
        is_unknown: text == "unknown",
    }
}

#[track_caller]
fn check(from: &str, cause: Cause, what: &str, second: i64, expected: (Option<Transition>, Phase, Reason)) {
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
    check("ot", window, "high+", 9, (Some(Updated), Phase::Open, PassedLevel));
    check("ot", window, "critical", 9, (Some(Updated), Phase::Open, Escalated));
    check("ot", window, "critical~", 9, (Some(Updated), Phase::Open, Escalated));
    check("ot", window, "medium", 9, (Some(Updated), Phase::Open, Reason::Eased));
}

#[test]
fn while_a_cooldown_keeps_it_quiet() {
    use Reason::{BackInside, CooldownOver, CoolingDown, Escalated};
    use Transition::{Detected, Recovering};
    let window = Cause::Window;
    check("o~", window, "high~", 9, (None, Phase::Open, CoolingDown));
    check("o~", window, "high~+", 9, (None, Phase::Open, CoolingDown));
    check("o~", window, "high", 9, (Some(Detected), Phase::Open, CooldownOver));
    check("o~", window, "critical~", 9, (Some(Detected), Phase::Open, Escalated));
    check("o~", window, "in", 9, (Some(Recovering), Phase::Recovering, BackInside));
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
    check("r", window, "critical~", 10, (Some(Detected), Phase::Open, Reason::Escalated));
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
fn what_is_unknown_moves_nothing_however_long_it_lasts() {
    for cause in [Cause::Window, Cause::Correction] {
        check("q", cause, "unknown", 9_000, (None, Phase::Quiet, Reason::Unknown));
    }
    for from in ["o", "ot", "o~", "o$", "r", "s"] {
        check(from, Cause::Window, "unknown", 9_000, (None, state(from).phase, Reason::Unknown));
        let seen = seen(Cause::Window, "unknown");
        let decision = decide(&state(from), &seen, at(9_000), &PATIENCE);
        assert_eq!(state(from).after(&decision, &seen, at(9_000)), state(from), "{from}");
    }
    let waited = state("r").after_unknown(Duration::from_secs(60));
    assert_eq!(decide(&waited, &seen(Cause::Window, "in"), at(359), &PATIENCE).transition, None);
    assert_eq!(
        decide(&waited, &seen(Cause::Window, "in"), at(360), &PATIENCE).transition,
        Some(Transition::Resolved),
        "the minute of which nothing is known does not count"
    );
    let held = state("s").after_unknown(Duration::from_secs(60));
    assert_eq!(decide(&held, &seen(Cause::Window, "in"), at(959), &PATIENCE).transition, None);
    assert_eq!(
        decide(&held, &seen(Cause::Window, "in"), at(960), &PATIENCE).transition,
        Some(Transition::Verified)
    );
}

#[test]
fn corrections_open_and_worsen_but_never_better() {
    let correction = Cause::Correction;
    for what in ["in", "out", "pending", "high", "high+", "high~"] {
        for from in ["o", "r", "s"] {
            check(from, correction, what, 9_000, (None, state(from).phase, Reason::TooLateToMatter));
        }
    }
    check("ot", correction, "critical", 9, (Some(Transition::Updated), Phase::Open, Reason::Escalated));
    check("r", correction, "critical", 9, (None, Phase::Recovering, Reason::TooLateToMatter));
    let ended = EpisodeState { ended_at: Some(at(100)), ..state("q") };
    let of = |second| decide(&ended, &seen(correction, "high"), at(second), &PATIENCE);
    assert_eq!((of(100).transition, of(100).reason), (None, Reason::TooLateToMatter));
    assert_eq!(of(101).transition, Some(Transition::Detected));
}

#[test]
fn without_data_or_rules_only_what_lives_expires() {
    for (cause, reason) in [(Cause::NoData, Reason::NoData), (Cause::RuleGone, Reason::ModelChanged)] {
        for from in ["o", "o~", "r"] {
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
    // What is waited for never goes back.
    let resumed = state("s").interrupted(at(700));
    assert_eq!((resumed.inside_since, resumed.recovering_since), (Some(at(700)), at(700)));
    assert_eq!(resumed.interrupted(at(600)), resumed);
    assert_eq!(outside.interrupted(at(900)).inside_since, None);
    let verified = after(state("s"), "in", 900);
    assert_eq!((verified.phase, verified.ended_at), (Phase::Quiet, Some(at(900))));
}

/// After these conditions, one after the other, at 1 s, 2 s …
fn story(from: &str, what: &[&str]) -> (EpisodeState, Vec<Option<Transition>>) {
    let mut state = state(from);
    let mut transitions = Vec::new();
    for (what, second) in what.iter().zip(1..) {
        let cause = if *what == "ack" { Cause::Acknowledgement } else { Cause::Window };
        let seen = seen(cause, what);
        let decision = decide(&state, &seen, at(second), &PATIENCE);
        state = state.after(&decision, &seen, at(second));
        transitions.push(decision.transition);
    }
    (state, transitions)
}

#[test]
fn what_was_kept_quiet_comes_to_light_as_detected_or_updated() {
    use Transition::{Detected, Recovering, Suppressed, Updated};
    let of = |what: &[&str]| story("q", what).1;
    assert_eq!(of(&["high$", "high$", "high"]), [Some(Suppressed), None, Some(Detected)]);
    assert_eq!(of(&["high", "high$", "high"]), [Some(Detected), Some(Suppressed), Some(Updated)]);
    assert_eq!(of(&["high%", "critical%", "critical"]), [Some(Suppressed), Some(Suppressed), Some(Detected)]);
    assert_eq!(of(&["high~", "critical~", "high"]), [Some(Suppressed), Some(Detected), Some(Updated)]);
    assert_eq!(
        of(&["high$", "high%", "high~", "high"]),
        [Some(Suppressed), Some(Suppressed), None, Some(Detected)]
    );
    assert_eq!(
        of(&["high", "high$", "high~", "high~", "high"]),
        [Some(Detected), Some(Suppressed), None, None, Some(Updated)]
    );
    assert_eq!(
        of(&["high", "in", "high$", "high"]),
        [Some(Detected), Some(Recovering), Some(Suppressed), Some(Detected)]
    );
    assert_eq!(story("q", &["high$", "high~"]).0.quiet, Some(Quiet::Cooldown));
    assert_eq!(story("q", &["high$", "in"]).0.quiet, None);
}

#[test]
fn an_acknowledgement_lasts_until_it_is_worse_or_back_after_its_end() {
    let of = |what: &[&str]| {
        let state = story("q", what).0;
        (state.status(Transition::Updated), state.acknowledged.is_some())
    };
    assert_eq!(of(&["high", "ack"]), (Status::Acknowledged, true));
    assert_eq!(of(&["high", "ack", "high+"]), (Status::Acknowledged, true));
    assert_eq!(of(&["high", "ack", "medium", "high"]), (Status::Acknowledged, true));
    assert_eq!(of(&["high", "ack", "critical"]), (Status::Open, false));
    assert_eq!(of(&["high", "ack", "critical$"]), (Status::Open, false));
    assert_eq!(of(&["high$", "ack", "high"]), (Status::Acknowledged, true));
    assert_eq!(of(&["high", "ack", "in"]), (Status::Recovering, true));
    assert_eq!(of(&["high", "in", "ack"]), (Status::Recovering, true));
    assert_eq!(of(&["high", "ack", "in", "high"]), (Status::Acknowledged, true));
    assert_eq!(of(&["high", "ack", "in", "critical"]), (Status::Open, false));
    let resolved = state("sa");
    let relapse = seen(Cause::Window, "high");
    let back = resolved.after(&decide(&resolved, &relapse, at(9), &PATIENCE), &relapse, at(9));
    assert_eq!(back.acknowledged, None);
}

/// The whole of it: cause, phases, what was kept quiet and what is, what is seen, whether somebody was told, and what comes of it.
/// `*` is anything. The cause is a letter: window, correction, data are missing, rule gone, acknowledgement.
const TABLE: &str = "
d or * * *                  *  expired      NoData
d qs * * *                  *  -            NoData
g or * * *                  *  expired      ModelChanged
g qs * * *                  *  -            ModelChanged
a or * * *                  *  acknowledged Acknowledged
a qs * * *                  *  -            NotLive
wc q * - medium,high,critical * detected    Violated
wc q * ~ medium,high,critical * suppressed  CoolingDown
wc q * $ medium,high,critical * suppressed  Silenced
wc q * % medium,high,critical * suppressed  Inhibited
wc q * * pending            *  -            Pending
wc q * * in,out             *  -            Healthy
wc q * * unknown            *  -            Unknown
w ors * * unknown           *  -            Unknown
w rs * - medium,high,critical * detected    Relapsed
w rs * ~ medium,high        *  suppressed   CoolingDown
w rs * ~ critical           *  detected     Escalated
w rs * $ medium,high,critical * suppressed  Silenced
w rs * % medium,high,critical * suppressed  Inhibited
w rs * * pending            *  -            Pending
w r  * * in,out             *  -            StillRecovering
w s  * * in,out             *  -            NotYetVerified
c rs * * *                  *  -            TooLateToMatter
c o  * * medium,high,pending,in,out,unknown * - TooLateToMatter
w o  * * pending            *  -            Pending
w o  * * in,out             *  recovering   BackInside
wc o * -~ critical          t  updated      Escalated
wc o * -~ critical          n  detected     Escalated
wc o * $ critical           *  suppressed   Silenced
wc o * % critical           *  suppressed   Inhibited
w o  $ $ medium,high        *  -            Silenced
w o  -~% $ medium,high      *  suppressed   Silenced
w o  % % medium,high        *  -            Inhibited
w o  -~$ % medium,high      *  suppressed   Inhibited
w o  ~$% ~ medium,high      *  -            CoolingDown
w o  ~ - medium,high        t  updated      CooldownOver
w o  ~ - medium,high        n  detected     CooldownOver
w o  $ - medium,high        t  updated      SilenceOver
w o  $ - medium,high        n  detected     SilenceOver
w o  % - medium,high        t  updated      InhibitionOver
w o  % - medium,high        n  detected     InhibitionOver
w o  - -~ medium            t  updated      Eased
w o  - -~ medium            n  detected     Eased
w o  - -~ high              *  -            StillViolated
";

#[test]
fn every_combination_has_one_row_and_is_decided_as_it_says() {
    let rows: Vec<Vec<&str>> = TABLE
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|row: &Vec<_>| !row.is_empty())
        .collect();
    let causes = [
        ("w", Cause::Window),
        ("c", Cause::Correction),
        ("d", Cause::NoData),
        ("g", Cause::RuleGone),
        ("a", Cause::Acknowledgement),
    ];
    let (mut met, mut combinations) = (vec![0; rows.len()], 0);
    for (letter, cause) in causes {
        for (phase, was, is, told) in all_marks() {
            for what in ["in", "out", "unknown", "pending", "medium", "high", "critical"] {
                let fits = |pattern: &str, value: &str| pattern == "*" || pattern.contains(value);
                let is_row = |row: &Vec<&str>| {
                    fits(row[0], letter)
                        && fits(row[1], phase)
                        && fits(row[2], was)
                        && fits(row[3], is)
                        && (row[4] == "*" || row[4].split(',').any(|word| word == what))
                        && fits(row[5], told)
                };
                let found: Vec<usize> = (0..rows.len()).filter(|at| is_row(&rows[*at])).collect();
                let name = format!("{letter} {phase} {was} {is} {what} {told}");
                assert_eq!(found.len(), 1, "{name} has the rows {found:?}");
                met[found[0]] += 1;
                combinations += 1;
                let conditions = match what {
                    "in" | "out" | "unknown" | "pending" => seen(cause, what),
                    _ => seen(cause, &format!("{what}{is}")),
                };
                let decision = decide(&state(&format!("{phase}{was}{told}")), &conditions, at(9), &PATIENCE);
                let transition = decision
                    .transition
                    .map_or("-".to_owned(), |one| one.event()["deviation_".len()..].to_owned());
                let row = &rows[found[0]];
                assert_eq!(
                    (transition.as_str(), format!("{:?}", decision.reason).as_str()),
                    (row[6], row[7]),
                    "{name}"
                );
                let moves = decision.transition.is_some_and(|one| one != Transition::Acknowledged);
                assert!(moves || decision.phase == state(phase).phase, "{name} moves without a word");
            }
        }
    }
    assert_eq!(combinations, 5 * 4 * 4 * 4 * 2 * 7);
    assert!(met.iter().all(|times| *times > 0), "a row is never met: {met:?}");
}

/// Phase, what kept it quiet, what keeps it quiet, whether somebody was told.
fn all_marks() -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static str)> {
    let marks = ["-", "~", "$", "%"];
    ["q", "o", "r", "s"].into_iter().flat_map(move |phase| {
        marks.into_iter().flat_map(move |was| {
            marks
                .into_iter()
                .flat_map(move |is| ["t", "n"].into_iter().map(move |told| (phase, was, is, told)))
        })
    })
}
