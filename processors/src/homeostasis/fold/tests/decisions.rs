//! What people decide, and what becomes of deviations by it.

use homeostat_pipeline::finding::{Quiet, Silence, SilenceChange, Status, Transition};

use super::life::{minutes, ticks};
use super::*;

const REQ: &str = "REQ-NFR-PERF-001";

fn slow() -> Seen {
    Seen { millis: 450.0, ..Seen::default() }
}

fn silence(second: f64, matchers: &str, until: f64) -> Entry {
    let ends_at = at(until).to_string();
    decision(second, "silence", &[("matchers", matchers), ("ends_at", &ends_at), ("comment", "deploying")])
}

fn silences(findings: &[Finding]) -> Vec<&Silence> {
    let silences = findings.iter().filter_map(|finding| match finding {
        Finding::Silence(silence) => Some(silence),
        Finding::Behaviors { .. }
        | Finding::Deviation(_)
        | Finding::Model(_)
        | Finding::Threshold(_)
        | Finding::Notice(_) => None,
    });
    silences.collect()
}

/// The story of so many bad minutes, with more entries at their times.
fn story(bad: usize, more: Vec<Entry>) -> Vec<Finding> {
    let mut entries = vec![epoch(0.0, MODEL)];
    entries.extend(minutes(0, &vec![slow(); bad]));
    entries.extend(more);
    entries.sort_by_key(|entry| entry.time);
    run(&mut fresh(10), &entries)
}

fn steps(findings: &[Finding]) -> Vec<(Transition, Status, Option<Quiet>)> {
    let step = |one: &&Deviation| (one.transition, one.status, one.quiet);
    deviations(findings).iter().map(step).collect()
}

#[test]
fn a_silence_that_begins_while_it_is_open_marks_it_and_its_end_tells_it_again() {
    let findings = story(8, vec![silence(150.5, &format!("req={REQ},severity=high"), 330.0)]);
    assert_eq!(
        steps(&findings),
        [
            (Transition::Detected, Status::Open, None),
            (Transition::Suppressed, Status::Open, Some(Quiet::Silenced)),
            (Transition::Updated, Status::Open, None),
        ]
    );
    let all = deviations(&findings);
    assert!(all.iter().all(|one| one.uid == all[0].uid));
    let told = silences(&findings);
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].change, told[1].change), (SilenceChange::Created, SilenceChange::Expired));
    assert_eq!((told[0].author.as_str(), told[0].comment.as_str()), ("ada", "deploying"));
    assert_eq!(told[0].matchers, [format!("req=\"{REQ}\""), "severity=\"high\"".to_owned()]);
    assert_eq!((told[0].starts_at, told[0].ends_at, told[1].at), (at(150.5), at(330.0), at(330.0)));
    let by = format!("but silence {} of ada until {} keeps it quiet", told[0].id, at(330.0));
    assert!(all[1].reason.ends_with(&by), "{}", all[1].reason);
    assert!(all[2].reason.ends_with("still fires after its silence"), "{}", all[2].reason);
}

#[test]
fn what_opens_under_a_silence_is_detected_when_a_person_ends_it() {
    let made = silence(1.5, "service.name=~\"au.*\"", 9_000.0);
    let id = homeostat_pipeline::finding::silence_id(Offset(0), at(1.5));
    let findings = story(6, vec![made, decision(200.5, "silence_expire", &[("id", &id)])]);
    assert_eq!(
        steps(&findings),
        [
            (Transition::Suppressed, Status::Open, Some(Quiet::Silenced)),
            (Transition::Detected, Status::Open, None),
        ]
    );
    let told = silences(&findings);
    assert_eq!((told[1].expired_by.as_deref(), told[1].ends_at), (Some("ada"), at(200.5)));
}

#[test]
fn a_silence_of_others_or_in_the_future_changes_nothing() {
    let later = decision(
        1.5,
        "silence",
        &[
            ("matchers", "req=~\"REQ.*\""),
            ("starts_at", &at(5_000.0).to_string()),
            ("ends_at", &at(9_000.0).to_string()),
        ],
    );
    for other in
        [silence(1.5, "service.name=web", 9_000.0), silence(1.5, "severity=critical", 9_000.0), later]
    {
        assert_eq!(steps(&story(3, vec![other])), [(Transition::Detected, Status::Open, None)]);
    }
}

#[test]
fn recovery_goes_on_under_a_silence() {
    let mut entries = vec![epoch(0.0, MODEL), silence(0.5, "severity=~\".+\"", 9_000.0)];
    let good = Seen::default;
    entries.extend(minutes(0, &[slow(), good(), good(), good(), good(), good(), good()]));
    let of: Vec<Transition> =
        deviations(&run(&mut fresh(10), &entries)).iter().map(|one| one.transition).collect();
    assert_eq!(
        of,
        [Transition::Suppressed, Transition::Recovering, Transition::Resolved, Transition::Verified]
    );
}

#[test]
fn who_acknowledged_is_in_the_deviation_by_either_of_its_names() {
    let first = story(3, Vec::new());
    let known = deviations(&first)[0].clone();
    for name in [&known.uid, &known.deviation_id] {
        let seen = decision(150.5, "acknowledge", &[("deviation", name), ("comment", "on it")]);
        let findings = story(3, vec![seen]);
        let all = deviations(&findings);
        assert_eq!(all.len(), 2);
        assert_eq!((all[1].transition, all[1].status), (Transition::Acknowledged, Status::Acknowledged));
        assert_eq!((all[1].at, all[1].version), (at(150.5), 2));
        assert_eq!(all[1].current_value, all[0].current_value, "nothing was measured anew");
        let by = all[1].acknowledgement.as_ref().expect("somebody has");
        assert_eq!((by.author.as_str(), by.comment.as_str(), by.at), ("ada", "on it", at(150.5)));
        assert_eq!(all[1].reason, "acknowledged by ada: on it");
    }
}

#[test]
fn an_escalation_loses_the_acknowledgement() {
    let worse = Seen { millis: 900.0, ..Seen::default() };
    let mut entries = vec![epoch(0.0, MODEL)];
    entries.extend(minutes(0, &[slow(), slow(), worse.clone(), worse.clone(), worse]));
    entries.push(decision(125.5, "acknowledge", &[("deviation", "DEV-20251124-001")]));
    entries.sort_by_key(|entry| entry.time);
    let findings = run(&mut fresh(10), &entries);
    let last = *deviations(&findings).last().expect("there is one");
    assert_eq!((last.transition, last.status), (Transition::Updated, Status::Open));
    assert_eq!(last.acknowledgement, None);
}

#[test]
fn what_fits_nothing_is_told_nothing() {
    let of = |kind, subject: &[(&str, &str)]| story(2, vec![decision(119.5, kind, subject)]).len();
    let without = story(2, Vec::new()).len();
    assert_eq!(of("acknowledge", &[("deviation", "DEV-20251124-002")]), without);
    assert_eq!(of("acknowledge", &[]), without);
    assert_eq!(of("silence", &[("matchers", "req=X"), ("ends_at", &at(100.0).to_string())]), without);
    assert_eq!(of("silence", &[("matchers", "req=X"), ("ends_at", "tomorrow")]), without);
    assert_eq!(of("silence", &[("matchers", "req"), ("ends_at", &at(900.0).to_string())]), without);
    assert_eq!(of("silence_expire", &[("id", "x")]), without);
    assert_eq!(of("tea", &[]), without);
}

#[test]
fn a_subject_of_which_nothing_comes_any_more_is_told_once() {
    let mut entries = vec![epoch(0.0, MODEL)];
    entries.extend(minutes(0, &[slow()]));
    let web = Seen { service: "web", ..Seen::default() };
    entries.extend(minutes(1, &[web]));
    entries.extend(ticks(120, 1_200));
    let findings = run(&mut fresh(10), &entries);
    let told: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.kind() == "sensor_silent")
        .filter_map(|finding| match finding {
            Finding::Notice(notice) => Some(notice.message.as_str()),
            Finding::Behaviors { .. }
            | Finding::Deviation(_)
            | Finding::Model(_)
            | Finding::Silence(_)
            | Finding::Threshold(_) => None,
        })
        .collect();
    let of = |service: &str| {
        format!(
            "nothing comes of REQ-NFR-PERF-001 any more for 1 of its subjects: {{service.name={service:?}}}"
        )
    };
    assert_eq!(told, [of("auth"), of("web")]);
}
