//! What is not there: silence, windows that come too late, rules that go. None of it may look like a recovery.

use homeostat_pipeline::finding::Transition;
use proptest::prelude::*;

use super::life::{minutes, ticks};
use super::*;

use Transition::{Detected, Expired, Recovering, Resolved, Updated, Verified};

const DAY: f64 = 86_400.0;
const WARNING: &str = r#"        - { metric: p95_latency_ms, condition: "value > threshold.warning", severity: warning, group_by: [service.name] }"#;
const CRITICAL: &str = r#"        - { metric: p95_latency_ms, condition: "value > threshold.critical", severity: critical, for: 1m, group_by: [service.name] }"#;

/// Ten observations in the minute that starts at `second`: `s` slow, `w` worse, `.` good, `_` none.
fn minute(letter: char, second: f64) -> Vec<Seen> {
    let like = like(letter);
    let number = if like.count == 0 { 0 } else { 10 };
    (0..number).map(|number| Seen { second: second + f64::from(number), ..like.clone() }).collect()
}

fn like(letter: char) -> Seen {
    match letter {
        's' => Seen { millis: 450.0, ..Seen::default() },
        'w' => Seen { millis: 900.0, ..Seen::default() },
        '.' => Seen::default(),
        _ => Seen { count: 0, ..Seen::default() },
    }
}

/// Minutes of evidence as they pass, and what comes between.
fn story(model: &str, letters: &str, more: Vec<Entry>) -> Vec<Finding> {
    let each: Vec<Seen> = letters.chars().map(like).collect();
    let mut entries = vec![epoch(0.0, model)];
    entries.extend(minutes(0, &each));
    entries.extend(more);
    let last = u32::try_from(letters.len()).unwrap() * 60;
    entries.extend(ticks(last, last + 40));
    entries.sort_by_key(|entry| entry.time);
    run(&mut fresh(100), &entries)
}

fn steps(findings: &[Finding]) -> Vec<(Transition, u64)> {
    deviations(findings).iter().map(|one| (one.transition, one.at.since(at(0.0)).as_secs())).collect()
}

/// With one more rule on the first measure.
fn with(condition: &str, more: &str) -> String {
    let rule =
        format!("        - {{ metric: p95_latency_ms, condition: \"{condition}\", severity: high, {more} }}");
    MODEL.replace(CRITICAL, &format!("{CRITICAL}\n{rule}"))
}

#[test]
fn silence_is_no_recovery_where_a_rule_asks_for_what_is_missing() {
    for group_by in ["group_by: [service.name]", "group_by: []"] {
        let told = story(&with("missing(1h)", group_by), &format!("ss{}", "_".repeat(10)), Vec::new());
        assert_eq!(steps(&told), [(Detected, 60), (Expired, 361)], "{group_by}");
        assert_eq!(deviations(&told)[1].reason, "no data for 240 s");
    }
}

#[test]
fn what_is_missing_for_days_is_found_before_its_subject_is_forgotten() {
    let model = with("missing(2d)", "group_by: [service.name]");
    let hours = (1..80_u32).map(|hour| tick(f64::from(hour) * 3_600.0));
    let mut entries = vec![epoch(0.0, &model), evidence(30.0, &minute('.', 0.0))];
    entries.extend(hours);
    let whole = run(&mut fresh(10), &entries);
    // Seen until 60 s: two days later the first tick is that of the next hour.
    let last_hour = (2.0 * DAY + 3_600.0) as u64;
    assert_eq!(steps(&whole).len(), 1, "{:?}", steps(&whole));
    assert!(steps(&whole)[0].1 <= last_hour, "{:?}", steps(&whole));
    let mut fold = fresh(10);
    let mut parts = run(&mut fold, &entries[..38]);
    let mut state = Memory::default();
    fold.checkpoint(&mut state).unwrap();
    let mut fold = fresh(10);
    fold.restore(&state).unwrap();
    parts.extend(run(&mut fold, &entries[38..]));
    assert_eq!(serde_json::to_string(&parts).unwrap(), serde_json::to_string(&whole).unwrap());
}

#[test]
fn silence_counts_toward_nothing_that_is_waited_for() {
    let keep = MODEL.replace("as: expired", "as: keep");
    let silence = "_".repeat(30);
    let of = |letters: &str| steps(&story(&keep, letters, Vec::new()));
    let before = [(Detected, 60), (Recovering, 120)];
    assert_eq!(of(&format!("s.{silence}")), before);
    assert_eq!(of(&format!("s.{silence}.")), [&before[..], &[(Resolved, 33 * 60)]].concat());
    let before = [&before[..], &[(Resolved, 180)]].concat();
    assert_eq!(of(&format!("s..{silence}.")), before);
    assert_eq!(of(&format!("s..{silence}..")), [&before[..], &[(Verified, 35 * 60)]].concat());
}

#[test]
fn a_window_that_comes_too_late_to_matter_serves_no_for() {
    let model = MODEL.replace(WARNING, "");
    let late = [minute('w', 120.0), minute('w', 180.0)].concat();
    let late: Vec<Seen> = late.into_iter().map(|seen| Seen { count: 1_000, ..seen }).collect();
    let told = story(&model, "ww...w", vec![evidence(271.0, &late)]);
    assert_eq!(steps(&told), [(Detected, 120), (Recovering, 180), (Resolved, 240)]);
    // Where the violation lasts until now, it was served whenever its rows came.
    let told = story(&model, "ww..w", vec![evidence(271.0, &late)]);
    assert_eq!(steps(&told)[3..], [(Detected, 300)]);
}

#[test]
fn what_is_violated_after_all_starts_its_recovery_again() {
    let model = MODEL
        .replace("keep_firing_for: 60s", "keep_firing_for: 3m")
        .replace("verify_for: 120s", "verify_for: 4m");
    let late = |second: f64| {
        let rows = minute('s', second).into_iter().map(|seen| Seen { count: 1_000, ..seen });
        vec![evidence(second + 100.0, &rows.collect::<Vec<_>>()), tick(second + 101.0)]
    };
    let of = |more| steps(&story(&model, "s............", more));
    let (detected, recovering) = ((Detected, 60), (Recovering, 120));
    assert_eq!(of(Vec::new()), [detected, recovering, (Resolved, 300), (Verified, 540)]);
    assert_eq!(of(late(120.0)), [detected, recovering, (Resolved, 360), (Verified, 600)]);
    assert_eq!(of(late(360.0)), [detected, recovering, (Resolved, 300), (Verified, 660)]);
}

#[test]
fn a_deviation_whose_rule_goes_expires_though_others_judge_its_measure() {
    let both = with("value < 10", "id: odd, group_by: [service.name]").replace(WARNING, "");
    let without = both.replace(CRITICAL, "");
    let told = story(&both, "www...", vec![epoch(200.0, &without)]);
    assert_eq!(steps(&told), [(Detected, 120), (Expired, 200)]);
    assert!(deviations(&told)[1].reason.starts_with("model_changed"));
    let told = story(&both, "www...", vec![epoch(200.0, &MODEL.replace(WARNING, ""))]);
    assert_eq!(steps(&told)[1].0, Recovering, "its own rule is still there");
    let told = story(MODEL, "wwwwww", vec![epoch(200.0, &MODEL.replace(CRITICAL, ""))]);
    assert_eq!(steps(&told), [(Detected, 60), (Updated, 120), (Updated, 180)], "another that fired holds on");
}

#[test]
fn a_window_with_data_ends_the_violation_that_silence_counts_as() {
    let model = MODEL.replace("as: expired", "as: breach").replace(WARNING, "").replace("for: 1m", "for: 8m");
    assert_eq!(steps(&story(&model, ".____.wwww", Vec::new())), []);
    assert_eq!(steps(&story(&model, ".__________", Vec::new())), [(Detected, 541)]);
}

#[test]
fn what_came_before_a_model_of_other_windows_is_judged_after_it() {
    let short = MODEL.replace("size: 60s", "size: 20s");
    let rows = |second: f64| evidence(second + 9.0, &minute('w', second));
    for (one, other) in [(MODEL, short.as_str()), (short.as_str(), MODEL)] {
        let mut entries = vec![epoch(0.0, one), rows(40.0), epoch(65.0, other)];
        entries.extend(ticks(1, 200));
        entries.sort_by_key(|entry| entry.time);
        let told = run(&mut fresh(10), &entries);
        assert_eq!(steps(&told)[0], (Detected, 60));
        assert_eq!(deviations(&told)[0].window.samples, 10);
    }
}

/// The good minutes up to `last` that no violation interrupts.
fn held(letters: &[char], last: usize) -> usize {
    let clean = letters[..=last].iter().rev().take_while(|letter| !['s', 'w'].contains(letter));
    clean.filter(|letter| **letter == '.').count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_step_to_the_better_rests_on_silence(
        runs in prop::collection::vec((prop::sample::select(vec!['s', 'w', '.', '_']), 1_usize..9), 1..12),
        becomes in prop::sample::select(vec!["keep", "breach", "expired"]),
        missing in prop::sample::select(vec!["3m", "10m", "1h"]),
        unknown in prop::sample::select(vec!["ok", "no_data"]),
    ) {
        let letters: Vec<char> = runs.into_iter().flat_map(|(letter, length)| std::iter::repeat_n(letter, length)).collect();
        let defaults = format!("as: {becomes} }}\n    unknown_is: {unknown}");
        let model = with(&format!("missing({missing})"), "group_by: [service.name]").replace("as: expired }", &defaults);
        let told = story(&model, &letters.iter().collect::<String>(), Vec::new());
        for (transition, second) in steps(&told) {
            let waited = match transition {
                Recovering => 1,
                Resolved => 2,
                Verified => 4,
                _ => continue,
            };
            let last = usize::try_from(second / 60).unwrap() - 1;
            prop_assert!(letters[last] == '.', "{transition:?} at {second} of a window of {:?}", letters[last]);
            let held = held(&letters, last);
            prop_assert!(held >= waited, "{transition:?} at {second} after {held} good minutes");
        }
    }
}
