//! Windows of several panes: what they come to, against brute force over the rows themselves.

use std::time::Duration;

use homeostat_pipeline::finding::Transition;
use proptest::prelude::*;

use super::super::gather::Gather;
use super::super::past::Sliders;
use super::super::window::{Due, Span};
use super::*;

const SIZE: u32 = 60;

/// A model with windows of a minute that end every `slide` seconds, and a rule with these functions of windows.
fn sliding(slide: u32, functions: &str) -> String {
    format!(
        r#"
homeostasis_model:
  defaults:
    window: {{ kind: sliding, size: {SIZE}s, slide: {slide}s, allowed_lateness: 30s, correction: 5m, min_samples: 1 }}
  requirements:
    REQ-NFR-PERF-001:
      thresholds: {{ p95_latency_ms: {{ critical: 500 }}, error_rate: {{ critical: 0.5 }} }}
      deviation_rules:
        - {{ metric: p95_latency_ms, condition: "value > threshold.critical and ({functions})", severity: high, group_by: [service.name] }}
        - {{ metric: error_rate, condition: "value > avg(40s) and count(2m) > 1", severity: high }}
"#
    )
}

const FUNCTIONS: &str =
    "p50(20s) > 1 or avg(2m) > 1 or rate(80s) > 1 or changed(1m) or value > previous or missing(40s)";

fn seen() -> impl Strategy<Value = Seen> {
    (
        0.0..400.0_f64,
        prop::sample::select(vec!["auth", "web"]),
        1_u32..900,
        prop::bool::weighted(0.3),
        1_u64..3,
    )
        .prop_map(|(second, service, millis, is_error, count)| Seen {
            second,
            service,
            millis: f64::from(millis),
            is_error,
            count,
            ..Seen::default()
        })
}

/// The values of what lies in the last `length` seconds before `end`, in milliseconds and each as often as it counts.
fn values(all: &[Seen], service: Option<&str>, end: f64, length: f64) -> Vec<(f64, bool)> {
    let mut values: Vec<(f64, bool)> = all
        .iter()
        .filter(|seen| service.is_none_or(|service| seen.service == service))
        .filter(|seen| seen.second >= end - length && seen.second < end)
        .flat_map(|seen| std::iter::repeat_n((seen.millis, seen.is_error), seen.count as usize))
        .collect();
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    values
}

fn quantile(values: &[(f64, bool)], quantile: f64) -> Option<f64> {
    let rank = (values.len() as f64 * quantile).ceil() as usize;
    values.get(rank.max(1) - 1).map(|(value, _)| *value)
}

fn mean(values: &[(f64, bool)]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().map(|(value, _)| value).sum::<f64>() / values.len() as f64)
}

fn share(values: &[(f64, bool)]) -> Option<f64> {
    let failed = values.iter().filter(|(_, is_error)| *is_error).count();
    (!values.is_empty()).then(|| failed as f64 / values.len() as f64)
}

#[track_caller]
fn near(found: Option<f64>, expected: Option<f64>, what: &str) {
    match (found, expected) {
        (Some(found), Some(expected)) => {
            assert!(
                (found - expected).abs() <= expected.abs() * 0.011 + 1e-9,
                "{what}: {found}, not {expected}"
            );
        }
        (found, expected) => assert_eq!(found, expected, "{what}"),
    }
}

/// Everything that a window that ends at `end` comes to.
fn check(fold: &mut Fold, sliders: &mut Sliders, all: &[Seen], end: f64, slide: f64) {
    fold.closed_through = at(end);
    fold.settle_panes(at(end));
    let span = Span::before(at(end), Duration::from_secs(SIZE.into()));
    let mut gather = Gather {
        ruled: fold.ruled.as_ref().expect("there is a model"),
        slots: &fold.slots,
        subjects: &fold.subjects,
        windows: &fold.windows,
        sliders,
    };
    let (_, cases) = gather.all(&[Due { span, corrected: None }]);
    for case in cases {
        let super::super::subject::Identity::Requirement { labels, .. } = &**case.identity else { continue };
        let service = labels.get("service.name").map(String::as_str);
        let within = |length: f64| values(all, service, end, length);
        let whole = within(SIZE.into());
        let name = format!("{:?} before {end}", case.judged.expected.measure.name);
        assert_eq!(case.reading.samples, whole.len() as u64, "{name}");
        if case.judged.expected.measure.name == "error_rate" {
            near(case.reading.value, share(&whole), &name);
            near(case.lookbacks[0], share(&within(40.0)), "avg(40s)");
            assert_eq!(case.lookbacks[1], Some(within(120.0).len() as f64), "count(2m)");
            continue;
        }
        near(case.reading.value, quantile(&whole, 0.95), &name);
        near(case.lookbacks[0], quantile(&within(20.0), 0.5), "p50(20s)");
        near(case.lookbacks[1], mean(&within(120.0)), "avg(2m)");
        near(case.lookbacks[2], Some(within(80.0).len() as f64 / 80.0), "rate(80s)");
        let minute = within(60.0);
        let changed =
            minute.first().zip(minute.last()).map(|(least, most)| f64::from(u8::from(most.0 > least.0)));
        assert_eq!(case.lookbacks[3], changed, "changed(1m)");
        let before: Vec<(f64, bool)> = values(all, service, end - slide, SIZE.into());
        near(case.lookbacks[4], quantile(&before, 0.95), "previous");
        let seen = !within(40.0).is_empty();
        assert!(case.lookbacks[5].is_none_or(|missing| (missing > 0.0) != seen), "missing(40s) before {end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn windows_and_functions_of_windows_are_what_brute_force_says(
        mut all in prop::collection::vec(seen(), 1..120),
        slide in prop::sample::select(vec![20_u32, 60]),
    ) {
        all.sort_by(|a, b| a.second.total_cmp(&b.second));
        let mut fold = fresh(100);
        run(&mut fold, &[epoch(0.0, &sliding(slide, FUNCTIONS)), evidence(100.0, &all)]);
        let mut sliders = Sliders::default();
        for number in 1..=(420 / slide) {
            check(&mut fold, &mut sliders, &all, f64::from(number * slide), slide.into());
        }
    }
}

fn ticks(from: u32, to: u32) -> Vec<Entry> {
    (from..to).map(|second| tick(f64::from(second))).collect()
}

fn at_times(seconds: &[f64], like: &Seen) -> Vec<Seen> {
    seconds.iter().map(|second| Seen { second: *second, ..like.clone() }).collect()
}

/// The transitions of a model with one rule on one measure, and the values they carry.
fn told(model: &str, entries: Vec<Entry>) -> Vec<(Transition, Option<f64>, Timestamp)> {
    let mut all = vec![epoch(0.0, model)];
    all.extend(entries);
    let findings = run(&mut fresh(100), &all);
    deviations(&findings).iter().map(|one| (one.transition, one.current_value, one.at)).collect()
}

#[test]
fn a_window_that_slides_is_judged_each_time_it_slides() {
    let model = sliding(20, "value > 1");
    let slow = Seen { millis: 800.0, ..Seen::default() };
    let mut entries = vec![evidence(30.0, &at_times(&[25.0], &slow))];
    entries.extend(ticks(30, 130));
    let told = told(&model, entries);
    assert_eq!(told[0], (Transition::Detected, Some(800.0), at(40.0)));
    assert_eq!(told.len(), 1, "the same rows in the windows that end at 60 and 80 change nothing: {told:?}");
}

fn one_rule(measure: &str, condition: &str, more: &str) -> String {
    format!(
        r#"
homeostasis_model:
  defaults: {{ window: {{ size: 60s, allowed_lateness: 0s, correction: 0s, min_samples: 1 }}, keep_firing_for: 0s, no_data: {{ after: 1h }} }}
  requirements:
    REQ-NFR-PERF-001:
      {more}
      thresholds: {{ {measure}: {{ critical: 2, direction: lower_is_better }} }}
      deviation_rules: [{{ metric: {measure}, condition: "{condition}", severity: high, cooldown: 0s }}]
"#
    )
}

#[test]
fn what_is_missing_is_found_even_if_it_never_came() {
    let model = one_rule("request_count", "missing(2m)", "");
    let mut entries = ticks(0, 200);
    entries.push(evidence(200.0, &at_times(&[190.0], &Seen::default())));
    entries.extend(ticks(200, 420));
    let told: Vec<(Transition, Timestamp)> =
        told(&model, entries).into_iter().map(|(transition, _, at)| (transition, at)).collect();
    assert_eq!(
        told,
        [
            (Transition::Detected, at(120.0)),
            (Transition::Recovering, at(240.0)),
            (Transition::Resolved, at(240.0)),
            (Transition::Detected, at(360.0)),
        ]
    );
}

#[test]
fn downtime_adds_up_over_the_month_and_starts_anew_with_the_next() {
    let model = one_rule("max_downtime_minutes_per_month", "value > threshold.critical", "");
    // `at` begins on the 24th of November; the month ends six and a half days later.
    let failed = Seen { is_error: true, ..Seen::default() };
    let mut entries = Vec::new();
    for (minute, is_failed) in [(0, true), (1, false), (2, true), (3, true), (4, false)] {
        let start = f64::from(minute) * 60.0;
        let like = if is_failed { &failed } else { &Seen::default() };
        entries.push(evidence(start + 1.0, &at_times(&[start], like)));
        entries.push(tick(start + 60.0));
    }
    let december = 7.0 * 86_400.0;
    entries.push(tick(december));
    entries.push(evidence(december + 1.0, &at_times(&[december], &failed)));
    entries.push(tick(december + 120.0));
    let told = told(&model, entries);
    assert_eq!(told[0], (Transition::Detected, Some(3.0), at(240.0)));
    assert!(told.iter().skip(1).all(|(transition, ..)| *transition != Transition::Detected), "{told:?}");
}

#[test]
fn uptime_is_the_share_of_minutes_in_which_most_succeeded() {
    let model = one_rule("uptime_percentage", "value < 60%", "")
        .replace("critical: 2, direction: lower_is_better", "critical: 60")
        .replace("size: 60s", "size: 5m");
    let failed = Seen { is_error: true, ..Seen::default() };
    let mut all = at_times(&[0.0, 1.0, 60.0, 61.0, 120.0], &Seen::default());
    all.extend(at_times(&[62.0, 121.0, 122.0, 180.0], &failed));
    let told = told(&model, vec![evidence(200.0, &all), tick(300.0)]);
    assert_eq!(told, [(Transition::Detected, Some(50.0), at(300.0))], "two of four minutes were up");
}

#[test]
fn long_windows_count_what_panes_have_forgotten() {
    let model = one_rule("request_count", "count(12h) > 25", "");
    let mut entries = Vec::new();
    for hour in 0..30_u32 {
        let start = f64::from(hour) * 3_600.0;
        entries.push(evidence(start + 1.0, &at_times(&[start, start + 0.5], &Seen::default())));
        entries.push(tick(start + 120.0));
        entries.push(tick(start + 3_599.0));
    }
    let told = told(&model, entries);
    assert_eq!(told.len(), 1);
    // Twelve hours and the one that is under way hold 26.
    assert_eq!(told[0].2, at(12.0 * 3_600.0 + 60.0));
}

#[test]
fn a_measure_by_the_month_serves_its_for_and_each_of_its_episodes_has_an_id_of_its_own() {
    let monthly = |more: &str| {
        one_rule("error_rate", "value > 0.5", "measures: { error_rate: { window: calendar_month } }")
            .replace("keep_firing_for: 0s", "keep_firing_for: 0s, verify_for: 0s")
            .replace("cooldown: 0s }", &format!("cooldown: 0s{more} }}"))
    };
    let failed = Seen { is_error: true, ..Seen::default() };
    let entries: Vec<Entry> = "xxx....xxxxx"
        .chars()
        .zip(0_u32..)
        .flat_map(|(letter, minute)| {
            let start = f64::from(minute) * 60.0;
            let like = if letter == 'x' { &failed } else { &Seen::default() };
            [evidence(start + 1.0, &at_times(&[start], like)), tick(start + 60.0)]
        })
        .collect();
    let of = |model: &str| {
        let mut all = vec![epoch(0.0, model)];
        all.extend(entries.clone());
        let findings = run(&mut fresh(10), &all);
        deviations(&findings).into_iter().cloned().collect::<Vec<_>>()
    };
    // 3 of 5, 3 of 6: not more than half any more; and again 4 of 8 is not, 5 of 9 is.
    let all = of(&monthly(""));
    let steps: Vec<_> = all.iter().map(|one| (one.transition, one.at, one.version)).collect();
    let ends = [Transition::Recovering, Transition::Resolved, Transition::Verified];
    assert_eq!(steps[0], (Transition::Detected, at(60.0), 1));
    assert_eq!(
        steps[1..4].iter().map(|step| (step.0, step.1)).collect::<Vec<_>>(),
        ends.map(|end| (end, at(360.0)))
    );
    assert_eq!(steps[4], (Transition::Detected, at(540.0), 1));
    assert_ne!(all[4].uid, all[0].uid);
    assert_eq!(all[4].previous_uid.as_ref(), Some(&all[0].uid));
    assert_eq!((all[0].started_at, all[4].started_at), (at(0.0), at(480.0)));
    assert_eq!(all[4].window.start, at(0.0).month_start(), "the window is the month so far");
    let all = of(&monthly(", for: 2m"));
    assert_eq!((all[0].at, all[0].started_at), (at(180.0), at(0.0)), "two minutes are not more than two");
}
