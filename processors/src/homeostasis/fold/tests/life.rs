//! Steps in the life of deviations that need entries of several kinds.

use homeostat_pipeline::finding::{Severity, Status, Transition};

use super::*;

/// `count` observations in the window that starts at `second`, spread over it.
fn window(second: f64, count: u32, like: &Seen) -> Vec<Seen> {
    (0..count)
        .map(|number| Seen { second: second + 50.0 * f64::from(number) / f64::from(count), ..like.clone() })
        .collect()
}

pub fn ticks(from: u32, to: u32) -> Vec<Entry> {
    (from..to).map(|second| tick(f64::from(second))).collect()
}

/// Evidence of each minute as it passes, with ticks.
pub fn minutes(first: u32, each: &[Seen]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (minute, like) in (first..).zip(each) {
        let start = minute * 60;
        entries.extend(ticks(start, start + 55));
        if like.count > 0 {
            entries.push(evidence(f64::from(start) + 55.0, &window(f64::from(start), 10, like)));
        }
        entries.extend(ticks(start + 55, start + 60));
    }
    entries
}

fn slow() -> Seen {
    Seen { millis: 450.0, trace: 9, ..Seen::default() }
}

fn silent() -> Seen {
    Seen { count: 0, ..Seen::default() }
}

fn steps(findings: &[Finding]) -> Vec<(Transition, Status)> {
    deviations(findings).iter().map(|deviation| (deviation.transition, deviation.status)).collect()
}

#[test]
fn a_deviation_carries_its_numbers_its_rule_and_its_evidence() {
    let mut entries = vec![epoch(0.0, MODEL)];
    entries.extend(minutes(0, &[Seen { millis: 450.0, trace: 9, count: 2, ..Seen::default() }]));
    entries.extend(ticks(60, 91));
    let findings = run(&mut fresh(10), &entries);
    let all = deviations(&findings);
    assert_eq!(all.len(), 1);
    let deviation = all[0];
    assert_eq!(deviation.deviation_id, "DEV-20251124-001");
    assert_eq!(
        (deviation.status, deviation.transition, deviation.version),
        (Status::Open, Transition::Detected, 1)
    );
    assert_eq!((deviation.severity, deviation.rule.id.as_str()), (Severity::High, "p95_latency_ms-high"));
    assert_eq!((deviation.current_value, deviation.worst_value), (Some(450.0), Some(450.0)));
    assert_eq!((deviation.threshold_value, deviation.baseline_value), (Some(400.0), Some(235.0)));
    assert_eq!(deviation.deviation_percentage, Some(91.5));
    assert_eq!((deviation.started_at, deviation.at), (at(0.0), at(60.0)));
    assert_eq!((deviation.window.samples, deviation.evidence.counts.total), (20, 20));
    assert_eq!(deviation.evidence.trace_ids, ["09".repeat(16)]);
    assert_eq!(deviation.context.service.as_deref(), Some("auth"));
    assert_eq!(deviation.context.labels["service.name"], "auth");
    assert_eq!(deviation.spec_node_id.as_deref(), Some("sea:auth:Login"));
    assert_eq!(deviation.source.receiver, "otlp");
    assert_eq!((deviation.correlation.status.as_str(), deviation.correlation.confidence), ("matched", 1.0));
    assert_eq!(
        deviation.reason,
        "p95_latency_ms is 450 ms: rule p95_latency_ms-high (`value > threshold.warning`, warning 400 ms) fires"
    );
    let labels = deviation.context.labels.clone();
    let print = homeostat_pipeline::finding::fingerprint("", "REQ-NFR-PERF-001", "p95_latency_ms", &labels);
    assert_eq!(deviation.uid, homeostat_pipeline::finding::deviation_uid(&print, at(0.0)));
}

#[test]
fn silence_expires_a_live_deviation_and_is_never_recovery() {
    let mut entries = vec![epoch(0.0, MODEL)];
    entries.extend(minutes(0, &[slow(), silent(), silent(), silent(), silent(), silent(), silent()]));
    let findings = run(&mut fresh(10), &entries);
    assert_eq!(
        steps(&findings),
        [(Transition::Detected, Status::Open), (Transition::Expired, Status::Expired)]
    );
    let expired = deviations(&findings)[1];
    assert_eq!(expired.at, at(301.0), "four minutes after the last window with data, by the next tick");
    assert_eq!(expired.current_value, None);
    assert_eq!(expired.reason, "no data for 240 s");
}

#[test]
fn silence_can_count_as_kept_or_as_a_violation() {
    let story = [slow(), Seen::default(), silent(), silent(), silent(), silent(), silent(), silent()];
    let of = |word: &str| {
        let model = MODEL.replace("as: expired", &format!("as: {word}"));
        let mut entries = vec![epoch(0.0, &model)];
        entries.extend(minutes(0, &story));
        steps(&run(&mut fresh(10), &entries))
    };
    let (detected, recovering) =
        ((Transition::Detected, Status::Open), (Transition::Recovering, Status::Recovering));
    assert_eq!(of("keep"), [detected, recovering]);
    assert_eq!(
        of("breach"),
        [detected, recovering, detected],
        "the recovering deviation relapses into silence"
    );
    assert_eq!(of("expired"), [detected, recovering, (Transition::Expired, Status::Expired)]);
}

#[test]
fn a_relapse_before_it_is_verified_reopens_it_and_a_later_one_is_new_and_names_it() {
    let good = Seen::default;
    let story = [slow(), good(), good(), slow(), good(), good(), good(), good(), slow(), good(), good()];
    let mut entries = vec![epoch(0.0, MODEL)];
    entries.extend(minutes(0, &story));
    let findings = run(&mut fresh(10), &entries);
    let all = deviations(&findings);
    assert_eq!(
        all.iter().map(|deviation| (deviation.transition, deviation.version)).collect::<Vec<_>>(),
        [
            (Transition::Detected, 1),
            (Transition::Recovering, 2),
            (Transition::Resolved, 3),
            (Transition::Detected, 4),
            (Transition::Recovering, 5),
            (Transition::Resolved, 6),
            (Transition::Verified, 7),
            (Transition::Detected, 1),
            (Transition::Recovering, 2),
        ]
    );
    assert_eq!(all[3].resolved_at, None);
    assert_eq!(all[6].resolved_at, Some(at(360.0)));
    assert_eq!((all[6].verified_at, all[6].duration_seconds), (Some(at(480.0)), 360.0));
    assert_ne!(all[7].uid, all[6].uid);
    assert_eq!(all[7].previous_uid.as_deref(), Some(all[6].uid.as_str()));
    assert_eq!(all[7].deviation_id, "DEV-20251124-002");
}

#[test]
fn a_model_without_the_rule_expires_its_deviation_and_one_with_other_windows_keeps_it() {
    let mut entries = vec![epoch(0.0, MODEL)];
    entries.extend(minutes(0, &[slow(), slow()]));
    entries.push(epoch(120.0, &MODEL.replace("size: 60s", "size: 30s")));
    entries.extend(minutes(2, &[slow(), slow()]));
    entries.push(epoch(240.0, &MODEL.replace("REQ-NFR-PERF-001", "REQ-NFR-PERF-002")));
    let findings = run(&mut fresh(10), &entries);
    assert_eq!(
        steps(&findings),
        [(Transition::Detected, Status::Open), (Transition::Expired, Status::Expired)]
    );
    let expired = deviations(&findings)[1];
    assert_eq!((expired.at, expired.version), (at(240.0), 2));
    assert!(expired.reason.starts_with("model_changed"), "{}", expired.reason);
    let models: Vec<_> = findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Model(model) => Some((model.version.as_str(), model.previous_hash.is_some())),
            Finding::Behaviors { .. }
            | Finding::Deviation(_)
            | Finding::Silence(_)
            | Finding::Threshold(_)
            | Finding::Notice(_) => None,
        })
        .collect();
    assert_eq!(models, [("7", false), ("7", true), ("7", true)]);
}

#[test]
fn an_unreadable_model_is_told_and_changes_nothing() {
    let mut entries = vec![epoch(0.0, MODEL), epoch(1.0, "homeostasis_model: { requirements: 5 }")];
    entries.extend(minutes(0, &[slow(), slow()]));
    let findings = run(&mut fresh(10), &entries);
    assert!(matches!(&findings[1], Finding::Notice(notice) if notice.kind == "model_unreadable"));
    assert_eq!(steps(&findings), [(Transition::Detected, Status::Open)]);
}

#[test]
fn rows_before_there_is_a_model_are_not_folded() {
    let unstruck = drops::unstruck(&[&drops::FOLD_NO_MODEL]);
    let mut fold = fresh(10);
    assert!(run(&mut fold, &[evidence(30.0, &[slow()])]).is_empty());
    assert!(fold.windows.is_empty());
    assert_eq!(unstruck(), [""; 0]);
}

#[test]
fn observations_of_flows_beyond_the_subjects_are_left_out() {
    let unstruck = drops::unstruck(&[&drops::FOLD_SUBJECTS]);
    let seen = ["A", "B", "C"].map(|flow| Seen { req: "REQ-F-OTHER-001", flow, ..Seen::default() });
    // Nodes have half of the room.
    let mut fold = fresh(4);
    run(&mut fold, &[epoch(0.0, MODEL), evidence(30.0, &seen)]);
    assert_eq!(fold.subjects.len(), 2);
    assert_eq!(unstruck(), [""; 0]);
}

#[test]
fn too_many_subjects_are_told_once_and_share_one() {
    let services = ["a", "b", "c", "d", "e"];
    let each = |second: f64| -> Vec<Seen> {
        let seen = services.iter().flat_map(|service| window(second, 5, &Seen { service, ..slow() }));
        seen.collect()
    };
    let mut entries = vec![epoch(0.0, MODEL), evidence(30.0, &each(0.0)), evidence(80.0, &each(60.0))];
    entries.extend(ticks(90, 160));
    let findings = run(&mut fresh(3), &entries);
    let notices = findings.iter().filter(|finding| matches!(finding, Finding::Notice(_)));
    assert_eq!(notices.count(), 1);
    let labels: Vec<&str> = deviations(&findings)
        .iter()
        .map(|deviation| deviation.context.labels["service.name"].as_str())
        .collect();
    assert_eq!(labels, ["a", "b", "other"], "the node of the flow is the third subject");
}

#[test]
fn what_can_no_longer_matter_is_forgotten_by_memory_and_checkpoint() {
    let mut fold = fresh(10);
    let mut state = Memory::default();
    let mut entries = vec![epoch(0.0, MODEL)];
    entries.extend(minutes(0, &[slow(), Seen::default()]));
    run(&mut fold, &entries);
    fold.checkpoint(&mut state).unwrap();
    assert!(state.0.len() > 5);
    run(&mut fold, &ticks(120, 600));
    assert!(fold.windows.is_empty());
    assert_eq!(fold.subjects.len(), 1, "the subject with a deviation is kept, for a relapse must name it");
    run(&mut fold, &[tick(100_000.0), tick(200_000.0)]);
    assert_eq!(fold.subjects.len(), 0);
    fold.checkpoint(&mut state).unwrap();
    assert_eq!(state.0.keys().map(|key| key[0]).collect::<Vec<_>>(), *b"fm");
}

#[test]
fn rows_too_late_and_too_far_ahead_are_not_folded() {
    let mut fold = fresh(10);
    let early = Seen { second: 3_000.0, ..slow() };
    let late = Seen { second: 1_679.0, ..slow() };
    run(&mut fold, &[epoch(0.0, MODEL), evidence(2_000.0, &[early.clone(), late.clone()])]);
    assert!(fold.windows.is_empty());
    let ahead = Seen { second: 2_599.0, ..slow() };
    let correctable = Seen { second: 1_681.0, ..slow() };
    run(&mut fold, &[evidence(2_000.0, &[ahead, correctable])]);
    assert_eq!(fold.windows.len(), 2);
}

#[test]
fn late_rows_correct_a_window_and_may_open_a_deviation_but_end_none() {
    let mut entries = vec![epoch(0.0, MODEL)];
    entries.extend(minutes(0, &[Seen::default(), Seen::default()]));
    entries.extend(ticks(120, 160));
    entries.push(evidence(160.0, &window(0.0, 10, &slow())));
    entries.push(tick(161.0));
    entries.push(evidence(162.0, &window(0.0, 1_000, &Seen::default())));
    entries.push(tick(163.0));
    let mut fold = fresh(10);
    let findings = run(&mut fold, &entries);
    assert_eq!(steps(&findings), [(Transition::Detected, Status::Open)]);
    assert_eq!(deviations(&findings)[0].started_at, at(0.0));
    let versions: Vec<(u32, u64)> = findings
        .iter()
        .flat_map(|finding| match finding {
            Finding::Behaviors { behaviors } => behaviors.clone(),
            Finding::Deviation(_)
            | Finding::Model(_)
            | Finding::Silence(_)
            | Finding::Threshold(_)
            | Finding::Notice(_) => Vec::new(),
        })
        .map(|behavior| (behavior.version, behavior.count))
        .collect();
    assert_eq!(versions, [(1, 10), (1, 10), (2, 20), (3, 1_020)]);
}
