//! Flows, intents, and what measures are called elsewhere; what is shown of a model, and how two differ.

use super::*;

pub const FLOWS: &str = r##"
homeostasis_model:
  defaults: { intent: { auto_approve: critical } }
  requirements:
    REQ-A-001: { thresholds: { error_rate: { critical: 0.1 } } }
  flows:
    "sea:auth:Login":
      steps:
        - { id: http, match: 'kind == SERVER and name == "POST /login"' }
        - { id: db, match: 'attributes["db.system.name"] != null', max: 5, missing_severity: medium }
        - { id: audit, match: 'name == "audit.write"', missing_severity: warning }
      order: ["http < db < audit"]
      allow_unknown: false
      complete_after: 1m
      capture: trace
"##;

#[test]
fn flows_are_read_and_what_judges_by_them_is_said() {
    let model = good(FLOWS);
    assert_eq!(model.defaults.auto_approve, AutoApprove::Critical);
    let flow = &model.flows["sea:auth:Login"];
    let steps: Vec<_> =
        flow.steps.iter().map(|step| (step.id.as_str(), step.min, step.max, step.missing_severity)).collect();
    assert_eq!(
        steps,
        [
            ("http", 1, None, Severity::Medium),
            ("db", 1, Some(5), Severity::Medium),
            ("audit", 1, None, Severity::High)
        ]
    );
    let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
    assert_eq!(flow.order, [pair("http", "db"), pair("db", "audit")]);
    assert!(!flow.allow_unknown && flow.capture == Capture::Trace);
    assert_eq!(flow.complete_after, Duration::from_secs(60));
    let found = warnings(FLOWS);
    assert!(found.len() == 1 && found[0].contains("nothing judges by it yet"), "{found:#?}");
}

#[test]
fn what_is_wrong_with_a_flow_is_named() {
    for (from, to, says) in [
        ("sea:auth:Login", "auth.Login", "`auth.Login` is no flow (write `sea:context:flow`"),
        ("id: audit", "id: http", "two steps of sea:auth:Login have the id `http`"),
        ("< db < audit", "< dbs", "`dbs` is no step of the flow (did you mean \"db\"?)"),
        ("< db < audit", "< db < http", "contradicts the order: `http` comes before `db`"),
        ("http < db < audit", "http, db", "`http, db` is no order (write `first < second`)"),
        ("name == \"audit.write\"", "kind == SERVER", "holds no text to look for"),
        ("name == \"audit.write\"", "nam == \"x\"", "unknown"),
        ("max: 5", "max: 0", "`max` is below `min` 1"),
        ("missing_severity: warning", "missing_severity: wrning", "(did you mean \"warning\"?)"),
        ("allow_unknown: false", "allow_unknwon: false", "(did you mean \"allow_unknown\"?)"),
        ("auto_approve: critical", "auto_approve: always", "`always` is none of"),
    ] {
        let found = errors(&FLOWS.replace(from, to));
        assert!(found.iter().any(|error| error.contains(says)), "{to}\n{found:#?}");
    }
}

/// The measure that `telemetry` finds for its only foreign metric among the named ones.
fn found(measures: &[&str], telemetry: &str) -> Result<Option<String>, Vec<String>> {
    let stated: Vec<String> = measures.iter().map(|name| format!("{name}: 1")).collect();
    let text = one(&format!("baseline: {{ {} }}\ntelemetry: {{ {telemetry} }}", stated.join(", ")));
    match read(&text) {
        Ok((model, _)) => Ok(model.requirements["REQ-NFR-PERF-001"].foreign[0].measure.clone()),
        Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn an_aggregation_finds_the_measure_whose_statistic_and_class_fit() {
    let latencies = ["p50_latency_ms", "p95_latency_ms", "error_rate"];
    for (measures, telemetry, expected) in [
        (&latencies[..], "datadog: { metric: auth.login.latency, aggregation: p95 }", Some("p95_latency_ms")),
        (
            &latencies[..],
            "prometheus: { metric: auth_login_latency_seconds, quantile: 0.5 }",
            Some("p50_latency_ms"),
        ),
        (
            &["error_rate", "success_rate"][..],
            "datadog: { metric: auth.login.errors, aggregation: rate }",
            Some("error_rate"),
        ),
        (&latencies[..], "datadog: { metric: auth.login.latency, aggregation: p99 }", None),
        (&["p95_latency_ms"][..], "datadog: { metric: auth.login.latency }", Some("p95_latency_ms")),
        (&latencies[..], "datadog: { metric: odd.name, as: error_rate }", Some("error_rate")),
        (&["uptime_percentage"][..], "datadog: { metric: up, aggregation: avg }", Some("uptime_percentage")),
    ] {
        assert_eq!(found(measures, telemetry), Ok(expected.map(str::to_owned)), "{telemetry}");
    }
    for (measures, telemetry, says) in [
        (
            &["p95_latency_ms", "p95_duration_ms"][..],
            "datadog: { metric: auth.login.latency, aggregation: p95 }",
            "may be several measures of the requirement (say which by `as`: p95_duration_ms, p95_latency_ms)",
        ),
        (&latencies[..], "datadog: { metric: x, as: eror_rate }", "(did you mean \"error_rate\"?)"),
        (&latencies[..], "datadog: { metric: x, aggregation: median }", "unknown aggregation `median`"),
        (
            &latencies[..],
            "prometheus: { metric: x, quantile: 0.9, aggregation: p95 }",
            "`aggregation` and `quantile` differ",
        ),
    ] {
        let errors = found(measures, telemetry).expect_err(telemetry);
        assert!(errors.iter().any(|error| error.contains(says)), "{telemetry}\n{errors:#?}");
    }
}

#[test]
fn the_seeds_metrics_elsewhere_are_its_measures() {
    let model = good(SEED);
    let foreign = |req: &str| -> Vec<Option<String>> {
        model.requirements[req].foreign.iter().map(|foreign| foreign.measure.clone()).collect()
    };
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(foreign("REQ-NFR-PERF-001"), [some("p95_latency_ms"), some("p95_latency_ms")]);
    assert_eq!(foreign("REQ-F-AUTH-001"), [some("error_rate")]);
}

#[test]
fn a_measure_that_nothing_feeds_is_a_warning() {
    let body = "thresholds: { sum_bytes_per_month: { critical: 5, direction: lower_is_better } }";
    let found = warnings(&one(body));
    assert!(found.iter().any(|warning| warning.contains("nothing feeds sum_bytes_per_month")), "{found:#?}");
    let fed = format!("{body}\ntelemetry: {{ otlp: [{{ signal: metric, name: traffic }}] }}");
    let found = warnings(&one(&fed));
    assert!(!found.iter().any(|warning| warning.contains("nothing feeds")), "{found:#?}");
}

#[test]
fn a_model_is_shown_as_it_holds() {
    let view = View::of(&good(SEED));
    assert_eq!(view.defaults["window.size"], "5m");
    assert_eq!(view.pane, "5m");
    let first = &view.requirements[1];
    assert_eq!(first.req_id, "REQ-NFR-AVAIL-001");
    let uptime = first.measures.iter().find(|one| one.measure == "uptime_percentage").unwrap();
    assert_eq!((uptime.unit, uptime.direction), ("percent", "higher_is_better"));
    assert_eq!(uptime.thresholds["critical"], 99.0);
    let rule = first.rules.iter().find(|rule| rule.id == "uptime_percentage-critical").unwrap();
    assert_eq!(rule.compiled, "value@0 < threshold.critical@12");
    let latency = view.requirements[2].measures.iter().find(|one| one.measure == "p95_latency_ms").unwrap();
    assert_eq!(latency.is, "the 95 % quantile");
    assert_eq!(latency.fed_by[0], "durations of spans that carry REQ-NFR-PERF-001");
    assert_eq!(latency.baseline["baseline"], 235.0);
}

#[test]
fn two_models_differ_in_what_people_would_notice() {
    let before = good(SEED);
    assert_eq!(differences(&before, &good(&format!("# another comment\n{SEED}"))), []);
    let after = SEED
        .replacen("warning: 400", "warning: 350", 1)
        .replacen("warning: 99.9", "warning: 99.5", 1)
        .replacen("cooldown: \"1 hour\"", "cooldown: \"2 hours\"", 1)
        .replacen("condition: \"value > baseline * 2\"", "condition: \"value > baseline * 3\"", 1)
        .replace("REQ-F-AUTH-001", "REQ-F-AUTH-002");
    let found: Vec<String> = differences(&before, &good(&after))
        .iter()
        .map(|one| format!("{} {one}", one.req_id.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!(
        found,
        [
            "REQ-F-AUTH-001 requirement removed: User login functionality, 2 measures, 2 rules",
            "REQ-F-AUTH-002 requirement added: User login functionality, 2 measures, 2 rules",
            "REQ-NFR-AVAIL-001 uptime_percentage: threshold warning: 99.9 percent → 99.5 percent (looser)",
            "REQ-NFR-PERF-001 rule p50_latency_ms-high: `value > baseline * 2`, high, for 0s → `value > baseline * 3`, high, for 0s",
            "REQ-NFR-PERF-001 p95_latency_ms: threshold warning: 400 ms → 350 ms (stricter)",
            "REQ-NFR-PERF-001 rule p95_latency_ms-critical: cooldown: 1h → 2h",
        ]
    );
}

#[test]
fn what_is_new_as_a_whole_is_one_difference() {
    let before = good(&one("judge_by_thresholds: false\nthresholds: { error_rate: { critical: 0.1 } }"));
    let after = good(&one(
        "judge_by_thresholds: false\nthresholds: { error_rate: { critical: 0.1 }, p95_latency_ms: { warning: 1, critical: 2 } }\ndeviation_rules:\n\
         - { metric: error_rate, condition: \"value > 3%\", severity: low }",
    ));
    let found: Vec<String> = differences(&before, &after).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "rule error_rate-low added: `value > 3%`, low, for 0s",
            "p95_latency_ms added: the 95 % quantile, in ms, lower_is_better",
        ]
    );
}
