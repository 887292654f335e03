//! The model read: the seed's, its extensions, and every mistake with its place.

mod documented;
mod inhibition;
mod keys;
mod severity;
mod windows;

use std::time::Duration;

use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::finding::{Level, Severity};

use super::*;

/// The seed's, unchanged.
const SEED: &str = include_str!("../../../../config/homeostasis_model.yml");

fn read(text: &str) -> Result<(Model, Vec<Problem>), Vec<Problem>> {
    let node =
        homeostat_config::parse("model.yml", text).unwrap_or_else(|problem| panic!("{problem}\n{text}"));
    Model::read(&node, &Model::hash_of(text))
}

fn good(text: &str) -> Model {
    let (model, _) = read(text).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
    model
}

/// A model of one requirement whose body is `body`.
fn one(body: &str) -> String {
    let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
    format!("homeostasis_model:\n  requirements:\n   REQ-NFR-PERF-001:\n{body}")
}

fn errors(text: &str) -> Vec<String> {
    read(text)
        .expect_err(text)
        .iter()
        .filter(|problem| !problem.is_warning)
        .map(ToString::to_string)
        .collect()
}

#[track_caller]
fn check_error(body: &str, says: &str) {
    let found = errors(&one(body));
    assert!(found.len() == 1 && found[0].contains(says), "{body}\n{found:#?}");
}

fn warnings(text: &str) -> Vec<String> {
    let (_, problems) = read(text).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
    assert!(problems.iter().all(|problem| problem.is_warning));
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_seeds_model_loads_unchanged_and_without_a_warning() {
    let (model, warnings) = read(SEED).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(model.version, "1.0");
    assert_eq!(model.hash.len(), 64);
    assert_eq!(model.defaults, Defaults::default());
    let keys: Vec<&str> = model.requirements.keys().map(String::as_str).collect();
    assert_eq!(keys, ["REQ-F-AUTH-001", "REQ-NFR-AVAIL-001", "REQ-NFR-PERF-001"]);

    let login = &model.requirements["REQ-NFR-PERF-001"];
    assert_eq!(login.title.as_deref(), Some("Login response time < 500ms"));
    assert_eq!(login.requirement_type.as_deref(), Some("performance"));
    let p95 = &login.expectations["p95_latency_ms"];
    assert_eq!(p95.unit, Unit::MILLISECONDS);
    assert_eq!(p95.direction, Direction::LowerIsBetter);
    assert_eq!(p95.thresholds.get(Level::Critical), Some(500.0));
    assert_eq!(p95.baseline.and_then(|baseline| baseline.center), Some(235.0));
    let (implicit, written): (Vec<&Rule>, Vec<&Rule>) = login.rules.iter().partition(|rule| rule.is_implicit);
    let ids: Vec<&str> = written.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids, ["p95_latency_ms-critical", "p95_latency_ms-high", "p50_latency_ms-high"]);
    assert!(implicit.len() == 3 && implicit.iter().all(|rule| rule.measure == "p99_latency_ms"));
    assert_eq!(login.rules[0].severity, Severity::Critical);
    assert_eq!(login.rules[0].cooldown, Duration::from_secs(3_600));
    assert_eq!(login.rules[0].holds_for, Duration::ZERO);
    assert_eq!(login.rules[0].actions, ["generate_intent"]);
    assert_eq!(login.rules[0].condition.text(), "value > threshold.critical");
    assert_eq!(login.rules[1].condition.threshold_level(), Some(Level::Warning));
    assert_eq!(login.rules_of("p95_latency_ms").count(), 2);

    let auth = &model.requirements["REQ-F-AUTH-001"];
    assert_eq!(auth.expectations["success_rate"].direction, Direction::HigherIsBetter);
    assert_eq!(auth.expectations["success_rate"].unit, Unit::RATIO);
    assert_eq!(auth.rules[1].cooldown, Duration::from_secs(1_800));

    let available = &model.requirements["REQ-NFR-AVAIL-001"];
    let uptime = &available.expectations["uptime_percentage"];
    assert_eq!((uptime.unit, uptime.direction), (Unit::PERCENT, Direction::HigherIsBetter));
    assert_eq!(uptime.baseline, None);
    let downtime = &available.expectations["max_downtime_minutes_per_month"];
    assert_eq!((downtime.unit.name(), downtime.direction), ("min", Direction::LowerIsBetter));
}

#[test]
fn the_seeds_model_asks_for_its_log_fields_and_sums_up_its_thresholds() {
    let model = good(SEED);
    let interest = model.interest();
    for field in ["latency_ms", "latency_seconds", "uptime_percentage"] {
        assert!(interest.log_fields.contains(field), "{:?}", interest.log_fields);
    }
    assert!(interest.selections.is_empty() && interest.labels.is_empty());
    let summary = model.summary();
    assert_eq!(summary.len(), 3);
    let p95 = &summary[2].thresholds["p95_latency_ms"];
    assert_eq!((p95.unit.as_str(), p95.direction.as_str()), ("ms", "lower_is_better"));
    let levels: Vec<(&str, f64)> = p95.levels.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(levels, [("critical", 500.0), ("target", 250.0), ("warning", 400.0)]);
}

#[test]
fn the_seeds_short_example_loads() {
    let model = good(
        "REQ-NFR-PERF-001:\n  thresholds:\n    p95_latency_ms:\n      critical: 500\n      warning: 400\n  baseline:\n    \
         p95_latency_ms: 235\n  deviation_rules:\n    - condition: \"value > 500\"\n      severity: \"critical\"\n      \
         action: \"generate_intent\"\n",
    );
    let login = &model.requirements["REQ-NFR-PERF-001"];
    assert_eq!(login.title, None);
    assert_eq!(login.rules[0].measure, "p95_latency_ms");
    assert_eq!(login.expectations["p95_latency_ms"].unit, Unit::MILLISECONDS);
    assert_eq!(login.rules[0].cooldown, Duration::from_secs(3_600));
}

const EXTENDED: &str = r##"
homeostasis_model:
  version: 2.0
  defaults:
    window: { kind: tumbling, size: 10s, allowed_lateness: 1s, correction: 20s, min_samples: 5 }
    cooldown: 2m
    keep_firing_for: 15s
    verify_for: 30s
    no_data: { after: 1m, as: breach }
    unknown_is: no_data
    intent: { auto_approve: never }
  severity_map: { warning: medium, page: critical }
  requirements:
    REQ_NFR_PERF_001:
      spec_node: "sea:auth:Login"
      traces_to: { sds: [SDS-030], prd: PRD-010 }
      effective_from: "2025-12-04T00:00:00Z"
      thresholds:
        p95_latency_ms: { target: 0.25, critical: 0.5, unit: "seconds", direction: lower_is_better,
                          source: { doc: docs/req/auth.md, line: 42, text: "< 500ms (P95)" } }
        queue_depth: { upper: 100, lower: 10, direction: lower_is_better }
      baseline:
        p95_latency_ms: { median: 0.38, mad: 0.022, p95: 0.4, mean: 0.3, stddev: 0.1, seasonality: weekly }
        learn: { algorithm: robust }
      deviation_rules:
        - id: slow
          metric: p95_latency_ms
          condition: "value > threshold.critical and duration > 5 minutes"
          severity: page
          action: [generate_intent, notify_oncall]
          group_by: [service.name, tenant.id, environment, environment]
          inhibited_by: [REQ-NFR-AVAIL-001/uptime-critical]
          runbook: "https://runbooks.example/login"
        - { metric: p95_latency_ms, condition: "value > 0.3 s", severity: warning, for: 30s }
        - { metric: p95_latency_ms, condition: "value > 0.2 s", severity: warning }
        - { metric: queue_depth, condition: "value outside [threshold.lower, threshold.upper]", severity: low }
      objective: { target: 0.999, window: 30d }
      telemetry:
        prometheus: { metric: "auth_login_latency_seconds", labels: { "req": "REQ-NFR-PERF-001" }, quantile: 0.95 }
        otlp:
          - { signal: span, where: 'kind == SERVER', name: "POST /login", as: p95_latency_ms }
          - { signal: log, name: queue.sampled, as: queue_depth }
    REQ-NFR-AVAIL-001:
      thresholds: { uptime_percentage: { critical: 99 } }
      deviation_rules:
        - { id: uptime-critical, condition: "value < threshold.critical", severity: page }
  flows: {}
"##;

#[test]
fn every_extension_is_read() {
    let model = good(EXTENDED);
    assert_eq!(model.version, "2.0");
    assert_eq!(
        model.defaults,
        Defaults {
            window: Window {
                size: Duration::from_secs(10),
                every: Duration::from_secs(10),
                allowed_lateness: Duration::from_secs(1),
                correction: Duration::from_secs(20),
                min_samples: 5,
            },
            cooldown: Duration::from_secs(120),
            keep_firing_for: Duration::from_secs(15),
            verify_for: Duration::from_secs(30),
            no_data: NoData { after: Duration::from_secs(60), becomes: WithoutData::Breach },
            unknown_is: Unknown::NoData,
            auto_approve: AutoApprove::Never,
            judge_by_thresholds: true,
        }
    );
    let login = &model.requirements["REQ-NFR-PERF-001"];
    assert_eq!(login.spec_node.as_deref(), Some("sea:auth:Login"));
    assert_eq!(login.traces_to["sds"], ["SDS-030"]);
    assert_eq!(login.traces_to["prd"], ["PRD-010"]);
    assert_eq!(login.effective_from.map(|at| at.to_string()), Some("2025-12-04T00:00:00Z".to_owned()));
    let slow = &login.rules[0];
    assert_eq!((slow.id.as_str(), slow.severity), ("slow", Severity::Critical));
    assert_eq!(slow.holds_for, Duration::from_secs(300));
    assert_eq!(slow.cooldown, Duration::from_secs(120));
    assert_eq!(slow.group_by, ["environment", "service.name", "tenant.id"]);
    assert_eq!(slow.actions, ["generate_intent", "notify_oncall"]);
    assert_eq!(slow.runbook.as_deref(), Some("https://runbooks.example/login"));
    assert_eq!(
        (login.rules[1].id.as_str(), login.rules[1].severity),
        ("p95_latency_ms-medium", Severity::Medium)
    );
    assert_eq!(login.rules[1].holds_for, Duration::from_secs(30));
    assert_eq!(login.rules[1].actions, ["alert_only", "log_to_deviation_history"]);
    assert_eq!(login.rules[2].id, "p95_latency_ms-medium-2");
    assert_eq!(login.rules[3].condition.threshold_level(), Some(Level::Lower));
    let source = login.expectations["p95_latency_ms"].source.clone().unwrap();
    assert_eq!((source.doc.as_str(), source.line), ("docs/req/auth.md", Some(42)));

    let interest = model.interest();
    assert_eq!(interest.labels.iter().map(String::as_str).collect::<Vec<_>>(), ["tenant.id"]);
    assert_eq!(interest.selections.len(), 2);
    assert_eq!(interest.selections[0].signal, Signal::Traces);
    assert_eq!(interest.selections[0].selector.source(), "name == \"POST /login\" and (kind == SERVER)");
    assert_eq!(interest.selections[1].measure, "queue_depth");
    assert_eq!(interest.selections[1].req, "REQ-NFR-PERF-001");
    assert!(!interest.selections[0].takes_keyed, "a span with the key feeds the latency already");
}

#[test]
fn numbers_in_another_unit_are_converted_to_the_measures() {
    let model = good(EXTENDED);
    let p95 = &model.requirements["REQ-NFR-PERF-001"].expectations["p95_latency_ms"];
    assert_eq!(p95.thresholds.critical, Some(500.0));
    let baseline = p95.baseline.unwrap();
    assert_eq!((baseline.center, baseline.median, baseline.mad), (Some(400.0), Some(380.0), Some(22.0)));
    assert_eq!(p95.zscore(500.0), Some(2.0));
    let found = warnings(EXTENDED);
    assert!(
        found.iter().any(|warning| warning.contains("are in `s` and are converted to `ms`")),
        "{found:#?}"
    );
}

#[test]
fn keys_of_later_work_are_named_and_not_silently_ignored() {
    let found = warnings(EXTENDED);
    for key in ["`learn`", "`objective`"] {
        let is_named = |warning: &String| warning.contains(key) && warning.contains("not used yet");
        assert_eq!(found.iter().filter(|warning| is_named(warning)).count(), 1, "{key}: {found:#?}");
    }
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn all_mistakes_are_reported_in_the_order_of_the_file_each_with_its_place() {
    let found = errors(
        "homeostasis_model:\n  verson: 1\n  requirements:\n    REQ-NFR-PERF-001:\n      thresholds:\n        p95_latency_ms: { critical: \"500ms\", warning: .nan }\n      \
         deviation_rules:\n        - { metric: p95_latency_ms, condition: \"vlaue > 3\", severity: critcal, cooldown: soon }\n",
    );
    let starts = [
        ("model.yml:2:3: unknown key `verson` of the model (did you mean \"version\"?)"),
        ("model.yml:6:37: `500ms` is text: write the number alone, and its unit under `unit`"),
        ("model.yml:6:55: `NaN` is no number"),
        ("model.yml:8:48: column 1 of the condition: unknown word `vlaue` (did you mean \"value\"?)"),
        ("model.yml:8:71: unknown severity `critcal` (did you mean \"critical\"?)"),
        ("model.yml:8:90: `soon` is no duration"),
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}\n{start}");
    }
}

#[test]
fn a_direction_is_stated_or_found_or_asked_for() {
    let direction = |body: &str, measure: &str| {
        good(&one(body)).requirements["REQ-NFR-PERF-001"].expectations[measure].direction
    };
    let rule = "\ndeviation_rules:\n- { metric: charge, condition: \"value < 3\", severity: low }";
    assert_eq!(
        direction("thresholds: { charge: { warning: 5, critical: 3 } }", "charge"),
        Direction::HigherIsBetter
    );
    assert_eq!(
        direction("thresholds: { charge: { warning: 3, critical: 5 } }", "charge"),
        Direction::LowerIsBetter
    );
    assert_eq!(
        direction(&format!("thresholds: {{ charge: {{ critical: 3 }} }}{rule}"), "charge"),
        Direction::HigherIsBetter
    );
    assert_eq!(
        direction("thresholds: { queue_depth: { critical: 3 } }", "queue_depth"),
        Direction::LowerIsBetter
    );
    assert_eq!(
        direction("thresholds: { heat: { critical: 3, direction: higher_is_better } }", "heat"),
        Direction::HigherIsBetter
    );
    check_error("thresholds: { heat: { critical: 3 } }", "nothing says which way is adverse for heat");
}

#[test]
fn a_contradiction_about_the_direction_is_an_error() {
    for (body, says) in [
        (
            "thresholds: { p95_latency_ms: { warning: 500, critical: 400 } }",
            "the order of the thresholds of p95_latency_ms says higher_is_better, its name says lower_is_better",
        ),
        (
            "thresholds: { heat: { warning: 500, critical: 400, direction: lower_is_better } }",
            "`direction` of heat says lower_is_better, the order of its thresholds says higher_is_better",
        ),
        (
            "thresholds: { success_rate: { critical: 0.9, direction: lower_is_better } }",
            "`direction` of success_rate says lower_is_better, its name says higher_is_better",
        ),
        (
            "thresholds: { success_rate: { critical: 0.9 } }\ndeviation_rules:\n- { condition: \"value > 0.9\", severity: low }",
            "what the rules compare of success_rate says lower_is_better, its name says higher_is_better",
        ),
        (
            "thresholds: { p95_latency_ms: { target: 100, warning: 500, critical: 400, direction: lower_is_better } }",
            "out of order: target 100, warning 500, critical 400",
        ),
        (
            "thresholds: { heat: { lower: 9, upper: 3, direction: lower_is_better } }",
            "`lower` 9 of heat is above `upper` 3",
        ),
    ] {
        check_error(body, says);
    }
    let backwards = "thresholds: { p95_latency_ms: { warning: 400, critical: 500 } }\ndeviation_rules:\n- { condition: \"value < threshold.critical\", severity: low }";
    let found = warnings(&one(backwards));
    assert!(
        found.len() == 1 && found[0].contains("rule p95_latency_ms-low: the condition fires on good values"),
        "{found:#?}"
    );
}

#[test]
fn units_that_do_not_fit_are_errors() {
    check_error(
        "thresholds: { p95_latency_ms: { critical: 5, unit: percent } }",
        "`percent` is a ratio, but p95_latency_ms is a time",
    );
    check_error(
        "thresholds: { error_rate: { critical: 5, unit: ms } }",
        "`ms` is a time, but error_rate is a ratio",
    );
    check_error("thresholds: { p95_latency_ms: { critical: 5, unit: parsecs } }", "unknown unit `parsecs`");
    check_error("thresholds: { p95_latency: { critical: 5 } }", "p95_latency has no unit");
    let percent = good(&one("thresholds: { error_rate: { critical: 5, unit: percent } }"));
    assert_eq!(percent.requirements["REQ-NFR-PERF-001"].expectations["error_rate"].unit, Unit::PERCENT);
}

#[test]
fn what_a_rule_lacks_or_gets_wrong_is_named() {
    let two = "thresholds: { p95_latency_ms: { critical: 5 }, error_rate: { critical: 0.1 } }\n";
    for (rule, says) in [
        (
            "{ condition: \"value > 3\", severity: low }",
            "the rule does not say which measure it is about (add `metric`: error_rate, p95_latency_ms)",
        ),
        ("{ metric: error_rate, severity: low }", "the rule has no condition"),
        ("{ metric: error_rate, condition: \"value > 3%\" }", "the rule has no severity"),
        (
            "{ metric: error_rate, condition: \"value > 3%\", severity: low, action: page_me }",
            "unknown action `page_me`",
        ),
        (
            "{ metric: error_rate, condition: \"value > 3%\", severity: low, actions: log_only }",
            "unknown key `actions` of the rule (did you mean \"action\"?)",
        ),
        (
            "{ metric: error_rate, condition: \"value > 3 ms\", severity: low }",
            "column 9 of the condition: `3 ms` is a time, but error_rate is a ratio in `ratio`",
        ),
        (
            "{ metric: error_rate, condition: \"value > threshold.warning\", severity: low }",
            "`threshold.warning` is not stated for error_rate",
        ),
        (
            "{ metric: error_rats, condition: \"value > threshold.critical\", severity: low }",
            "(did you mean \"error_rate\"?)",
        ),
        (
            "{ metric: error_rate, condition: \"value > 3% and duration > 5m\", for: 3m, severity: low }",
            "`for` and `duration` in the condition differ",
        ),
        (
            "{ metric: error_rate, condition: \"burn_rate(5m) > 3\", severity: low }",
            "`burn_rate(…)` is not supported yet",
        ),
        (
            "{ metric: error_rate, condition: \"value > 3%\", severity: low, runbook: \"javascript:x\" }",
            "is no link",
        ),
        (
            "{ metric: error_rate, condition: \"value > 3%\", severity: low, id: a }\n- { metric: error_rate, condition: \"value > 3%\", severity: low, id: a }",
            "two rules of the requirement have the id `a`",
        ),
    ] {
        let found = errors(&one(&format!("{two}deviation_rules:\n- {rule}")));
        assert!(found.iter().any(|error| error.contains(says)), "{rule}\n{found:#?}");
    }
}

#[test]
fn what_a_model_lacks_or_gets_wrong_is_named() {
    for (text, says) in [
        ("{}", "the model states no requirement"),
        ("homeostasis_model: { requirements: {} }", "the model states no requirement"),
        ("[1]", "the model is a mapping, here is a list"),
        (
            "homeostasis_model: { requirements: { REQ-A-001: { tresholds: {} } } }",
            "unknown key `tresholds` of REQ-A-001 (did you mean \"thresholds\"?)",
        ),
        (
            "homeostasis_model: { requirements: { REQ-A-001: {}, REQ_A_001: {} } }",
            "`REQ-A-001` is stated twice",
        ),
        (
            "homeostasis_model: { defaults: { window: { size: 1ms } }, requirements: { REQ-A-001: {} } }",
            "between 100 ms and 1 day",
        ),
        (
            "homeostasis_model: { defaults: { window: { kind: sliding } }, requirements: { REQ-A-001: {} } }",
            "add `slide`",
        ),
        (
            "homeostasis_model: { defaults: { unknown_is: fine }, requirements: { REQ-A-001: {} } }",
            "`fine` is none of",
        ),
        (
            "homeostasis_model: { severity_map: { critical: low }, requirements: { REQ-A-001: {} } }",
            "`critical` is a severity of its own",
        ),
        ("homeostasis_model: { requirements: { REQ-A-001: { spec_node: login } } }", "is no spec node"),
        ("homeostasis_model: { requirements: { REQ-A-001: { effective_from: soon } } }", "is no instant"),
        (
            "homeostasis_model: { requirements: { REQ-A-001: { thresholds: { error_rate: {} } } } }",
            "error_rate has no level",
        ),
        (
            "homeostasis_model: { requirements: { REQ-A-001: { baseline: { error_rate: low } } } }",
            "the baseline of error_rate is a number",
        ),
        (
            "homeostasis_model: { requirements: { REQ-A-001: { telemetry: { otlp: [{ signal: span, where: 'kind = 3', as: x_ms }] } } } }",
            "of the selector",
        ),
        (
            "homeostasis_model: { requirements: { REQ-A-001: { telemetry: { otlp: [{ signal: span, as: x_ms }] } } } }",
            "selects everything",
        ),
        (
            "homeostasis_model: { requirements: { REQ-A-001: { telemetry: { otlp: [{ signal: span, name: x }] } } } }",
            "add `as`",
        ),
        (
            "homeostasis_model: { requirements: { REQ-A-001: { telemetry: { datadog: { metric: x, aggregation: p95th } } } } }",
            "unknown aggregation `p95th`",
        ),
    ] {
        let found = errors(text);
        assert!(found.iter().any(|error| error.contains(says)), "{text}\n{found:#?}");
    }
}

#[test]
fn the_measure_says_what_kind_of_deviation_it_is() {
    let model = good(SEED);
    let kind = |req: &str, measure: &str| model.requirements[req].deviation_type(measure);
    assert_eq!(kind("REQ-NFR-PERF-001", "p95_latency_ms"), DeviationType::PerformanceDegradation);
    assert_eq!(kind("REQ-NFR-PERF-001", "error_rate"), DeviationType::PerformanceDegradation);
    assert_eq!(kind("REQ-F-AUTH-001", "error_rate"), DeviationType::ErrorRateIncrease);
    assert_eq!(kind("REQ-F-AUTH-001", "success_rate"), DeviationType::SlaBreach);
    assert_eq!(kind("REQ-NFR-AVAIL-001", "uptime_percentage"), DeviationType::AvailabilityLoss);
    let errors = one("type: performance\nthresholds: { error_rate: { critical: 0.1 } }");
    let requirement = &good(&errors).requirements["REQ-NFR-PERF-001"];
    assert_eq!(requirement.deviation_type("error_rate"), DeviationType::ErrorRateIncrease);
}
