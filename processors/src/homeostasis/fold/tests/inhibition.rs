//! Rules that give way to others, and what is unknown while a deviation is live.

use homeostat_pipeline::finding::{Quiet, Status, Transition};

use super::life::{minutes, ticks};
use super::*;

/// Latencies of each service give way to the errors of all, and, of two, to the same service's worst.
const MODEL: &str = r#"
homeostasis_model:
  defaults:
    window: { size: 60s, allowed_lateness: 30s, correction: 5m, min_samples: 3 }
    cooldown: 0s
    keep_firing_for: 60s
    verify_for: 120s
    no_data: { after: 4m, as: expired }
  requirements:
    REQ-NFR-PERF-001:
      thresholds: { p95_latency_ms: { target: 250, warning: 400, critical: 500 } }
      deviation_rules:
        - { id: slow, condition: "value > threshold.warning", severity: high, group_by: [service.name], inhibited_by: [REQ-F-AUTH-001/down] }
    REQ-F-AUTH-001:
      thresholds: { error_rate: { target: 0.001, warning: 0.01, critical: 0.05 } }
      deviation_rules:
        - { id: down, condition: "value > threshold.critical", severity: critical, group_by: [service.name, environment] }
"#;

type Step = (String, Transition, Option<Quiet>, f64);

fn steps(findings: &[Finding]) -> Vec<Step> {
    let step = |one: &&Deviation| {
        let service = one.context.labels.get("service.name").cloned().unwrap_or_default();
        let of = if one.req_id == "REQ-F-AUTH-001" { "errors" } else { "latency" };
        (format!("{of} of {service}"), one.transition, one.quiet, one.at.since(at(0.0)).as_secs_f64())
    };
    deviations(findings).iter().map(step).collect()
}

fn step(of: &str, transition: Transition, quiet: Option<Quiet>, at: f64) -> Step {
    (of.to_owned(), transition, quiet, at)
}

/// A minute of ten observations of both requirements.
fn minute(number: u32, service: &'static str, millis: f64, is_error: bool) -> Entry {
    let start = f64::from(number * 60);
    let seen = |req: &'static str| {
        (0..10).map(move |one| Seen {
            second: start + f64::from(one),
            req,
            service,
            millis,
            is_error,
            ..Seen::default()
        })
    };
    let all: Vec<Seen> = seen("REQ-NFR-PERF-001").chain(seen("REQ-F-AUTH-001")).collect();
    evidence(start + 55.0, &all)
}

fn journal(model: &str, mut entries: Vec<Entry>, until: u32) -> Vec<Entry> {
    entries.insert(0, epoch(0.0, model));
    entries.extend(ticks(0, until));
    entries.sort_by_key(|entry| entry.time);
    entries
}

/// Auth is slow and fails in the first three minutes, and slow from there on; the web is slow alone.
fn story() -> Vec<Entry> {
    let mut entries: Vec<Entry> = (0..6).map(|number| minute(number, "auth", 450.0, number < 3)).collect();
    entries.extend((0..6).map(|number| minute(number, "web", 450.0, false)));
    journal(MODEL, entries, 400)
}

#[test]
fn a_rule_is_kept_quiet_while_its_cause_fires_for_a_subject_whose_labels_agree() {
    use Transition::{Detected, Recovering, Resolved, Suppressed};
    let findings = run(&mut fresh(10), &story());
    assert_eq!(
        steps(&findings),
        [
            step("errors of auth", Detected, None, 60.0),
            step("latency of auth", Suppressed, Some(Quiet::Inhibited), 60.0),
            step("latency of web", Detected, None, 60.0),
            step("errors of auth", Recovering, None, 240.0),
            step("latency of auth", Detected, None, 240.0),
            step("errors of auth", Resolved, None, 300.0),
        ]
    );
    let all = deviations(&findings);
    assert!(
        all[1].reason.ends_with("fires, but rule down of REQ-F-AUTH-001 keeps it quiet"),
        "{}",
        all[1].reason
    );
    assert!(
        all[4].reason.ends_with("and the rule that kept it quiet does not any more"),
        "{}",
        all[4].reason
    );
    assert_eq!(all[4].status, Status::Open);
}

#[test]
fn what_inhibits_is_judged_first_whatever_the_keys_are_called() {
    let turned = MODEL.replace("REQ-F-AUTH-001", "REQ-X-LAST-001");
    let mut entries = story();
    entries[0] = epoch(0.0, &turned);
    for entry in &mut entries {
        if let Event::Evidence(_) = &entry.event {
            let second = entry.time.since(at(0.0)).as_secs_f64() - 55.0;
            let all: Vec<Seen> = ["REQ-NFR-PERF-001", "REQ-X-LAST-001"]
                .into_iter()
                .flat_map(|req| (0..10).map(move |one| (req, second + f64::from(one))))
                .map(|(req, second)| Seen { second, req, millis: 450.0, is_error: true, ..Seen::default() })
                .collect();
            *entry = evidence(second + 55.0, &all);
        }
    }
    let findings = run(&mut fresh(10), &entries);
    let first: Vec<(&str, Transition)> =
        deviations(&findings).iter().take(2).map(|one| (one.req_id.as_str(), one.transition)).collect();
    assert_eq!(
        first,
        [("REQ-X-LAST-001", Transition::Detected), ("REQ-NFR-PERF-001", Transition::Suppressed)]
    );
}

#[test]
fn a_cause_that_is_itself_kept_quiet_or_acknowledged_inhibits_and_one_that_is_pending_does_not() {
    let of = |model: &str, more: Vec<Entry>| {
        let mut entries: Vec<Entry> = (0..3).map(|number| minute(number, "auth", 450.0, true)).collect();
        entries.extend(more);
        let findings = run(&mut fresh(10), &journal(model, entries, 200));
        let all = steps(&findings);
        all.iter().find(|step| step.0 == "latency of auth").map(|step| step.1)
    };
    let ends_at = at(9_000.0).to_string();
    let silence = decision(1.5, "silence", &[("matchers", "severity=critical"), ("ends_at", &ends_at)]);
    assert_eq!(of(MODEL, vec![silence]), Some(Transition::Suppressed));
    let pending = MODEL.replace("severity: critical, group_by", "severity: critical, for: 10m, group_by");
    assert_eq!(of(&pending, Vec::new()), Some(Transition::Detected));
}

#[test]
fn a_milder_rule_of_the_same_measure_may_give_way_to_a_worse_one() {
    let model = MODEL.replace(
        "deviation_rules:\n        - { id: slow,",
        "deviation_rules:\n        - { id: crawls, condition: \"value > threshold.critical\", severity: critical, group_by: [service.name] }\n        \
         - { id: slow,",
    );
    let model = model.replace("REQ-F-AUTH-001/down", "REQ-NFR-PERF-001/crawls");
    let entries = vec![minute(0, "web", 900.0, false), minute(1, "web", 450.0, false)];
    let findings = run(&mut fresh(10), &journal(&model, entries, 200));
    let all: Vec<(Transition, &str)> =
        deviations(&findings).iter().map(|one| (one.transition, one.rule.id.as_str())).collect();
    assert_eq!(all, [(Transition::Detected, "crawls"), (Transition::Updated, "slow")]);
}

#[test]
fn a_checkpoint_anywhere_changes_nothing_of_what_is_inhibited() {
    let entries = story();
    let whole = serde_json::to_string(&run(&mut fresh(10), &entries)).unwrap();
    for split in (0..entries.len()).step_by(13) {
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

/// Ten slow observations, then `few` of them a minute.
fn starved(unknown_is: &str, first: f64, then: f64) -> Vec<Step> {
    let model = MODEL.replace("    cooldown: 0s", &format!("    cooldown: 0s\n    unknown_is: {unknown_is}"));
    let mut entries = vec![minute(0, "web", first, false)];
    for number in 1..8 {
        let start = f64::from(number * 60);
        let few: Vec<Seen> = (0..2)
            .map(|one| Seen {
                second: start + f64::from(one),
                service: "web",
                millis: then,
                ..Seen::default()
            })
            .collect();
        entries.push(evidence(start + 55.0, &few));
    }
    steps(&run(&mut fresh(10), &journal(&model, entries, 520)))
}

#[test]
fn too_few_samples_never_move_an_open_deviation_toward_recovery() {
    use Transition::{Detected, Expired};
    let detected = step("latency of web", Detected, None, 60.0);
    let expired = step("latency of web", Expired, None, 301.0);
    for unknown_is in ["ok", "no_data"] {
        assert_eq!(starved(unknown_is, 450.0, 100.0), [detected.clone(), expired.clone()], "{unknown_is}");
    }
    assert_eq!(starved("breach", 450.0, 100.0), [detected], "it counts as violated");
}

#[test]
fn unknown_is_says_what_too_few_samples_count_as_where_nothing_is_open() {
    assert_eq!(starved("ok", 100.0, 900.0), []);
    assert_eq!(starved("no_data", 100.0, 900.0), []);
    assert_eq!(starved("breach", 100.0, 100.0), [step("latency of web", Transition::Detected, None, 120.0)]);
}

#[test]
fn time_of_which_nothing_is_known_does_not_count_as_recovery() {
    let model = MODEL.replace("keep_firing_for: 60s", "keep_firing_for: 120s");
    let silent = || Seen { count: 0, ..Seen::default() };
    let slow = || Seen { millis: 450.0, ..Seen::default() };
    let story =
        [slow(), Seen::default(), silent(), silent(), Seen::default(), Seen::default(), Seen::default()];
    let mut entries = vec![epoch(0.0, &model)];
    entries.extend(minutes(0, &story));
    entries.extend(ticks(420, 460));
    let all = steps(&run(&mut fresh(10), &entries));
    assert_eq!(
        all.iter().map(|step| (step.1, step.3)).collect::<Vec<_>>(),
        [
            (Transition::Detected, 60.0),
            (Transition::Recovering, 120.0),
            // Two good minutes after the one that began it; the two between them were silent.
            (Transition::Resolved, 360.0),
        ]
    );
}
