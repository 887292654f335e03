//! Thresholds that people adjust: from a date on, for the model whose number they name.

use homeostat_pipeline::finding::{AdjustmentChange, ThresholdAdjusted, Transition};

use super::life::{minutes, ticks};
use super::*;

const REQ: &str = "REQ-NFR-PERF-001";

fn adjust(second: f64, level: &str, value: &str, effective: Option<f64>) -> Entry {
    let date = effective.map(|effective| at(effective).to_string());
    let mut subject = vec![
        ("req", REQ),
        ("measure", "p95_latency_ms"),
        ("level", level),
        ("value", value),
        ("reason", "tighter after the optimization"),
    ];
    subject.extend(date.as_deref().map(|date| ("effective_date", date)));
    decision(second, "adjust_threshold", &subject)
}

fn updates(findings: &[Finding]) -> Vec<&ThresholdAdjusted> {
    let updates = findings.iter().filter_map(|finding| match finding {
        Finding::Threshold(adjusted) => Some(adjusted),
        Finding::Behaviors { .. }
        | Finding::Deviation(_)
        | Finding::Model(_)
        | Finding::Silence(_)
        | Finding::Notice(_) => None,
    });
    updates.collect()
}

/// Every minute at 350 ms: inside the warning of 400.
fn journal(more: Vec<Entry>, until: u32) -> Vec<Entry> {
    let mut entries = vec![epoch(0.0, MODEL)];
    let near = Seen { millis: 350.0, ..Seen::default() };
    entries.extend(minutes(0, &vec![near; (until / 60) as usize]));
    entries.extend(more);
    entries.sort_by_key(|entry| entry.time);
    entries
}

#[test]
fn windows_are_judged_by_the_threshold_that_holds_at_their_end() {
    let findings = run(&mut fresh(10), &journal(vec![adjust(1.5, "warning", "300", Some(180.0))], 300));
    let all = deviations(&findings);
    assert_eq!(all.len(), 1);
    assert_eq!(
        (all[0].transition, all[0].started_at, all[0].at),
        (Transition::Detected, at(120.0), at(180.0))
    );
    assert_eq!(all[0].threshold_value, Some(300.0));
    assert!(all[0].reason.contains("warning 300 ms"), "{}", all[0].reason);
    let told = updates(&findings);
    let steps: Vec<_> = told.iter().map(|one| (one.change, one.version, one.at)).collect();
    assert_eq!(
        steps,
        [(AdjustmentChange::Approved, 1, at(1.5)), (AdjustmentChange::Effective, 2, at(180.0))]
    );
    let first = told[0];
    assert_eq!((first.update_id.as_str(), first.approved_by.as_str()), ("HM-20251124-001", "ada"));
    assert_eq!((first.old, first.new, first.unit.as_str()), (400.0, 300.0, "ms"));
    assert_eq!((first.effective_date, first.reason.as_str()), (at(180.0), "tighter after the optimization"));
    assert_eq!(first.id, homeostat_pipeline::finding::adjustment_id(Offset(0), at(1.5)));
}

#[test]
fn without_a_date_it_holds_at_once_and_one_names_what_the_one_before_left() {
    let entries =
        journal(vec![adjust(70.5, "warning", "300", None), adjust(190.5, "warning", "360", None)], 400);
    let findings = run(&mut fresh(10), &entries);
    let told: Vec<(&str, f64, f64)> = updates(&findings)
        .iter()
        .filter(|one| one.change == AdjustmentChange::Approved)
        .map(|one| (one.update_id.as_str(), one.old, one.new))
        .collect();
    assert_eq!(told, [("HM-20251124-001", 400.0, 300.0), ("HM-20251124-002", 300.0, 360.0)]);
    let steps: Vec<(Transition, Timestamp)> =
        deviations(&findings).iter().map(|one| (one.transition, one.at)).collect();
    assert_eq!(steps[..2], [(Transition::Detected, at(120.0)), (Transition::Recovering, at(240.0))]);
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let later = adjust(1.5, "critical", "600", Some(9_000.0));
    for (others, wrong) in [
        (vec![], adjust(70.5, "critical", "300", None)),
        (vec![], adjust(70.5, "warning", "400", None)),
        (vec![], adjust(70.5, "upper", "400", None)),
        (vec![], adjust(70.5, "warning", "fast", None)),
        (vec![later], adjust(70.5, "warning", "300", None)),
    ] {
        let without = run(&mut fresh(10), &journal(others.clone(), 200));
        let mut more = others;
        more.push(wrong);
        assert_eq!(run(&mut fresh(10), &journal(more, 200)), without);
    }
}

#[test]
fn a_model_that_states_another_number_voids_it_and_says_why() {
    let of = |from: &str, to: &str| {
        let other = epoch(130.5, &MODEL.replace(from, to));
        let entries = journal(vec![adjust(1.5, "warning", "300", Some(60.0)), other], 300);
        let findings = run(&mut fresh(10), &entries);
        let last = (*updates(&findings).last().expect("it was approved")).clone();
        (last.change, last.void_because)
    };
    assert_eq!(of("version: \"7\"", "version: \"8\""), (AdjustmentChange::Effective, None));
    let void = |reason: &str| (AdjustmentChange::Void, Some(reason.to_owned()));
    assert_eq!(
        of("warning: 400", "warning: 450"),
        void("it changes 400 ms, and without it 450 ms would hold")
    );
    assert_eq!(of("warning: 400", "warning: 300"), void("the model states 300 ms itself"));
    assert_eq!(
        of("target: 250, warning: 400, critical: 500", "target: 250, critical: 500").0,
        AdjustmentChange::Effective,
        "a model with a rule on a threshold that is not stated is refused, and the one before holds on"
    );
    assert_eq!(
        of(REQ, "REQ-NFR-PERF-002"),
        void("the model has no p95_latency_ms of REQ-NFR-PERF-001 any more")
    );
}

#[test]
fn a_checkpoint_anywhere_changes_nothing_of_what_was_adjusted() {
    let more = vec![
        adjust(30.5, "warning", "300", Some(120.0)),
        adjust(100.5, "critical", "310", Some(180.0)),
        epoch(250.5, &MODEL.replace("critical: 500", "critical: 520")),
    ];
    let mut entries = journal(more, 360);
    entries.extend(ticks(360, 400));
    let whole = serde_json::to_string(&run(&mut fresh(10), &entries)).unwrap();
    for split in (0..entries.len()).step_by(11) {
        let mut first = fresh(10);
        let mut findings = run(&mut first, &entries[..split]);
        let mut state = Memory::default();
        first.checkpoint(&mut state).unwrap();
        let mut second = fresh(10);
        second.restore(&state).unwrap();
        findings.extend(run(&mut second, &entries[split..]));
        assert_eq!(serde_json::to_string(&findings).unwrap(), whole, "after {split}");
    }
}
