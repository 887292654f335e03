//! More keys than there may be subjects: the first are judged as ever, all others are one, and none is lost or counted twice.

use homeostat_pipeline::evidence::Text;

use super::super::Account;
use super::*;

/// Windows of a minute, judged after one sample; everything over half a second is critical.
const MODEL: &str = r#"
homeostasis_model:
  defaults:
    window: { size: 60s, allowed_lateness: 30s, correction: 60s, min_samples: 1 }
    cooldown: 0s
  requirements:
    REQ-NFR-PERF-001:
      thresholds: { p95_latency_ms: { target: 250, warning: 400, critical: 500 } }
      deviation_rules:
        - { metric: p95_latency_ms, condition: "value > threshold.critical", severity: critical, group_by: [service.name] }
"#;
const ROWS: u64 = 5_000;

/// A row for each key, whose service is its number.
fn crowd(second: f64, keys: std::ops::Range<u64>, millis: impl Fn(u64) -> f64) -> Entry {
    let mut rows = rows(&[Seen { second, ..Seen::default() }]);
    let first = Row { spec_node: Text::NONE, flow: Text::NONE, ..rows.rows()[0] };
    for key in keys.clone() {
        let row = Row { service: rows.intern(&format!("service-{key}")), value: millis(key) * 1e6, ..first };
        if key == keys.start {
            rows.rows_mut()[0] = row;
        } else {
            rows.push(row);
        }
    }
    let batch = schema::build(&[&rows]).expect("the rows are in the schema");
    let request = Request { hash: RequestHash([0; 16]), rows: u32::try_from(rows.len()).unwrap() };
    let event = Event::Evidence(EvidenceEvent { requests: vec![request], batch });
    Entry { offset: Offset(0), time: at(second), event }
}

/// Service → samples of each deviation.
fn samples(findings: &[Finding]) -> BTreeMap<String, u64> {
    let deviations = deviations(findings);
    deviations
        .into_iter()
        .map(|one| (one.context.labels["service.name"].clone(), one.window.samples))
        .collect()
}

fn overflows(findings: &[Finding]) -> usize {
    let is_told =
        |finding: &&Finding| matches!(finding, Finding::Notice(notice) if notice.kind == "subjects_overflow");
    findings.iter().filter(is_told).count()
}

/// `keys` keys where `max` may be subjects, in two windows and in another order in the second.
fn check(max: u64, keys: u64) {
    let mut fold = fresh(usize::try_from(max).expect("it is small"));
    fold.keep_accounts();
    let mut findings = run(&mut fold, &[epoch(0.0, MODEL), tick(1.0)]);
    // Of the first only the first and the last are slow, of the others all.
    let millis = |key: u64| if key == 0 || key + 1 >= max { 900.0 } else { 100.0 };
    let expected = BTreeMap::from([
        ("service-0".to_owned(), 1),
        (format!("service-{}", max - 1), 1),
        ("other".to_owned(), keys - max),
    ]);
    for start in (0..keys).step_by(ROWS as usize) {
        let entry = crowd(2.0, start..(start + ROWS).min(keys), millis);
        fold.apply(&entry, &mut findings);
    }
    findings.extend(run(&mut fold, &[tick(91.0)]));
    assert_eq!(samples(&findings), expected, "each of the first by itself, the others together");
    assert_eq!(overflows(&findings), 1, "it is said once");
    assert_eq!((fold.tally().folded, fold.tally().overflowed), (keys, 0), "each row is somebody's");
    let judged: u64 = fold.take_accounts().iter().map(|account| account.samples).sum();
    assert_eq!(judged, keys, "each row is judged once");
    assert_eq!(fold.subjects.len() as u64, max + 1, "memory is bounded");

    // In the next window the last of the keys come first, and the limit has no room for them still.
    let next = [crowd(92.0, keys - 10..keys, millis), crowd(93.0, max.saturating_sub(500)..max, millis)];
    let mut findings = run(&mut fold, &next);
    findings.extend(run(&mut fold, &[tick(151.0)]));
    let judged = fold.take_accounts();
    let of = |service: &str| -> u64 {
        let is_of = |account: &&Account| account.labels["service.name"] == service;
        judged.iter().filter(is_of).map(|account| account.samples).sum()
    };
    assert_eq!((of("other"), of(&format!("service-{}", max - 1))), (10, 1));
    assert_eq!(of(&format!("service-{}", keys - 1)), 0);
    assert_eq!(overflows(&findings), 0);
}

#[test]
fn beyond_the_limit_the_first_are_still_judged_and_the_others_are_one_subject_with_an_exact_count() {
    check(50, 500);
    check(1, 10_500);
}

/// The limit that holds when none is set; `benches/scale.rs` does the same with a million keys.
#[test]
fn a_hundred_thousand_subjects_are_judged_each_by_itself_and_all_further_ones_together() {
    check(100_000, 115_000);
}

#[test]
fn spec_nodes_beyond_the_limit_are_counted_row_by_row() {
    // Nodes have half of the room.
    let mut fold = fresh(20);
    fold.keep_accounts();
    let nodes = |second: f64| {
        let mut rows = rows(&[Seen { second, count: 3, ..Seen::default() }]);
        let first = Row { req: Text::NONE, ..rows.rows()[0] };
        rows.rows_mut()[0] = Row { spec_node: rows.intern("sea:shop:Flow0"), ..first };
        for number in 1..100 {
            let row = Row { spec_node: rows.intern(&format!("sea:shop:Flow{number}")), ..first };
            rows.push(row);
        }
        let batch = schema::build(&[&rows]).expect("the rows are in the schema");
        let event = Event::Evidence(EvidenceEvent { requests: Vec::new(), batch });
        Entry { offset: Offset(0), time: at(second), event }
    };
    let entries = [epoch(0.0, MODEL), nodes(1.0), nodes(2.0), tick(91.0)];
    let findings = run(&mut fold, &entries);
    let tally = fold.tally();
    assert_eq!((tally.folded, tally.overflowed), (2 * 10 * 3, 2 * 90 * 3));
    let behaviors = findings.iter().find_map(|finding| match finding {
        Finding::Behaviors { behaviors } => Some(behaviors),
        _ => None,
    });
    let counts: Vec<u64> = behaviors.expect("ten behaviors").iter().map(|behavior| behavior.count).collect();
    assert_eq!(counts, [6; 10]);
}
