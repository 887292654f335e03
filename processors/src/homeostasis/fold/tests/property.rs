//! Whatever comes in whatever order and however it is cut: the same findings, and those of brute force.

use std::collections::BTreeMap;

use homeostat_pipeline::finding::Behavior;
use proptest::prelude::*;

use super::*;

fn seen() -> impl Strategy<Value = Seen> {
    (
        0.0..600.0_f64,
        prop::sample::select(vec!["REQ-NFR-PERF-001", "REQ-F-AUTH-001", "REQ-X-001"]),
        prop::sample::select(vec!["auth", "web"]),
        prop::sample::select(vec!["Login", "Logout"]),
        prop_oneof![3 => 50.0..300.0_f64, 2 => 350.0..900.0_f64],
        prop::bool::weighted(0.1),
        1_u64..4,
        1_u8..60,
    )
        .prop_map(|(second, req, service, flow, millis, is_error, count, trace)| Seen {
            second,
            req,
            service,
            flow,
            millis,
            is_error,
            count,
            trace,
        })
}

/// Observations with how long they take to arrive, at most the allowed lateness less the second that a tick takes.
fn timely() -> impl Strategy<Value = Vec<(Seen, f64)>> {
    prop::collection::vec((seen(), 0.0..29.0_f64), 1..150)
}

/// One entry of evidence a second, cut again after every `cut` rows, in the order of `turn`; and a tick.
fn entries(timely: &[(Seen, f64)], cut: usize, turn: usize) -> Vec<Entry> {
    let mut by_second: BTreeMap<u64, Vec<Seen>> = BTreeMap::new();
    for (seen, delay) in timely {
        by_second.entry((seen.second + delay).ceil() as u64).or_default().push(seen.clone());
    }
    let mut entries = vec![epoch(0.0, MODEL)];
    for second in 0..760 {
        if let Some(seen) = by_second.get_mut(&second) {
            let length = seen.len();
            seen.rotate_left(turn % length);
            entries.extend(seen.chunks(cut).map(|chunk| evidence(second as f64, chunk)));
        }
        entries.push(tick(second as f64));
    }
    entries
}

fn behaviors(findings: &[Finding]) -> Vec<Behavior> {
    findings
        .iter()
        .flat_map(|finding| match finding {
            Finding::Behaviors { behaviors } => behaviors.clone(),
            Finding::Deviation(_)
            | Finding::Model(_)
            | Finding::Silence(_)
            | Finding::Threshold(_)
            | Finding::Notice(_) => Vec::new(),
        })
        .collect()
}

fn check_oracle(timely: &[(Seen, f64)], behaviors: &[Behavior]) {
    let mut expected: BTreeMap<(i64, &str), Vec<&Seen>> = BTreeMap::new();
    for (seen, _) in timely {
        // The origin of `at` is a whole minute, so windows are those of the seconds too.
        expected.entry(((seen.second / 60.0).floor() as i64, seen.flow)).or_default().push(seen);
    }
    assert_eq!(behaviors.len(), expected.len(), "one behavior for each node and window");
    for behavior in behaviors {
        let number = behavior.window_start.since(at(0.0)).as_secs() / 60;
        let seen = &expected[&(number as i64, behavior.flow.as_str())];
        assert_eq!(behavior.version, 1);
        assert_eq!(behavior.count, seen.iter().map(|seen| seen.count).sum::<u64>());
        let errors: u64 = seen.iter().filter(|seen| seen.is_error).map(|seen| seen.count).sum();
        assert_eq!(behavior.errors, errors);
        let mut values: Vec<f64> =
            seen.iter().flat_map(|seen| std::iter::repeat_n(seen.millis, seen.count as usize)).collect();
        values.sort_by(f64::total_cmp);
        let exact = values[(values.len() * 95).div_ceil(100) - 1];
        let p95 = behavior.measures["p95_latency_ms"].value;
        assert!((p95 - exact).abs() <= exact * 0.01, "{p95} is not near {exact}");
        let rate = behavior.measures["rate_per_second"].value;
        assert!((rate - values.len() as f64 / 60.0).abs() < 1e-9);
    }
}

fn life() -> impl Strategy<Value = Vec<Entry>> {
    let step = prop_oneof![
        6 => (prop::collection::vec(seen(), 1..12), -400.0..20.0_f64).prop_map(|(seen, shift)| (seen, shift, 0_u8)),
        4 => Just((Vec::new(), 0.0, 1)),
        1 => Just((Vec::new(), 0.0, 2)),
        2 => Just((Vec::new(), 0.0, 3)),
    ];
    prop::collection::vec((step, 1.0..50.0_f64), 5..70).prop_map(|steps| {
        let mut entries = vec![epoch(0.0, MODEL)];
        let (mut now, mut epochs) = (0.0, 0);
        for ((mut seen, shift, kind), pause) in steps {
            now += pause;
            // Mostly now, some late, some too late, some ahead.
            for (number, seen) in seen.iter_mut().enumerate() {
                seen.second = now - seen.second / 20.0 + if number % 5 == 4 { shift } else { 0.0 };
            }
            match kind {
                0 => entries.push(evidence(now, &seen)),
                1 => entries.push(tick(now)),
                3 => entries.push(decided(now)),
                _ => {
                    epochs += 1;
                    entries.push(epoch(now, &other_model(epochs)));
                }
            }
            entries.push(tick(now));
        }
        entries
    })
}

/// A silence of some kind, its end, or an acknowledgement, by the time.
fn decided(now: f64) -> Entry {
    let until = at(now + 90.0).to_string();
    match now as u64 % 4 {
        0 => decision(now, "acknowledge", &[("deviation", "DEV-20251124-001")]),
        1 => decision(now, "acknowledge", &[("deviation", "DEV-20251124-002")]),
        2 => decision(now, "silence", &[("matchers", "severity=high"), ("ends_at", &until)]),
        _ => decision(now, "silence", &[("matchers", "req=~\"REQ-.*\""), ("ends_at", &until)]),
    }
}

/// Another window, other rules, one that asks for what is missing, the first model again.
fn other_model(number: usize) -> String {
    match number % 4 {
        0 => MODEL.to_owned(),
        1 => MODEL.replace("size: 60s", "size: 20s"),
        2 => MODEL.replace(
            "value > threshold.critical\", severity: critical, for",
            "missing(4m)\", severity: critical, for",
        ),
        _ => MODEL
            .replace("metric: error_rate", "metric: success_rate")
            .replace(
                "error_rate: { target: 0.001, warning: 0.01, critical: 0.05 }",
                "success_rate: { target: 0.999, warning: 0.99, critical: 0.95 }",
            )
            .replace(
                "value > threshold.critical\", severity: critical, cooldown",
                "value < threshold.critical\", severity: critical, cooldown",
            ),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_order_and_any_cut_within_lateness_give_the_windows_of_brute_force(
        timely in timely(),
        cut in 1_usize..20,
        turn in 0_usize..20,
    ) {
        let one = run(&mut fresh(1_000), &entries(&timely, 1_000, 0));
        check_oracle(&timely, &behaviors(&one));
        let two = run(&mut fresh(1_000), &entries(&timely, cut, turn));
        prop_assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&two).unwrap());
    }

    #[test]
    fn a_checkpoint_anywhere_changes_no_finding(
        entries in life(),
        splits in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..4),
        subjects_max in prop::sample::select(vec![3_usize, 1_000]),
    ) {
        let whole = run(&mut fresh(subjects_max), &entries);
        let mut splits: Vec<(usize, bool)> =
            splits.into_iter().map(|(index, restarts)| (index.index(entries.len() + 1), restarts)).collect();
        splits.sort_unstable();
        let mut fold = fresh(subjects_max);
        let mut state = Memory::default();
        let (mut parts, mut done) = (Vec::new(), 0);
        for (split, restarts) in splits {
            parts.extend(run(&mut fold, &entries[done..split]));
            done = split;
            fold.checkpoint(&mut state).unwrap();
            if restarts {
                fold = fresh(subjects_max);
                fold.restore(&state).unwrap();
                // What was just read is what is written: nothing is touched, nothing is lost.
                let mut again = Memory::default();
                fold.checkpoint(&mut again).unwrap();
                prop_assert!(again.0.iter().all(|(key, value)| state.0.get(key) == Some(value)));
            }
        }
        parts.extend(run(&mut fold, &entries[done..]));
        prop_assert_eq!(serde_json::to_string(&parts).unwrap(), serde_json::to_string(&whole).unwrap());
    }
}
