//! The severity table, what overrides it, and the rules that are made of it.

use super::*;

/// The seed's, as printed there.
const RULES: &str = r#"
severity_rules:
  critical:
    conditions:
      - "value >= threshold.critical"
      - "duration > 5 minutes"
    actions:
      - generate_intent_immediate
      - notify_oncall
      - create_incident
    response_sla: "15 minutes"

  high:
    conditions:
      - "value >= threshold.warning"
      - "value < threshold.critical"
      - "duration > 10 minutes"
    actions:
      - generate_intent_after_review
      - notify_team
    response_sla: "1 hour"

  medium:
    conditions:
      - "deviation > 50% from baseline"
      - "value < threshold.warning"
    actions:
      - alert_only
      - log_to_deviation_history
    response_sla: "4 hours"

  low:
    conditions:
      - "deviation <= 50% from baseline"
      - "value < threshold.warning"
    actions:
      - log_only
    response_sla: "none"
"#;

/// A model with a file of severity rules beside it.
fn with(model: &str, rules: &str) -> Result<Model, Vec<String>> {
    let rules = Some(Text { name: "severity_rules.yml".to_owned(), text: rules.to_owned() });
    let sources = Sources { severity_rules: rules, ..Sources::alone("model.yml", model) };
    match sources.read(homeostat_config::parse) {
        Ok((model, _)) => Ok(model),
        Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
    }
}

/// Rules as `severity condition for`.
fn rules(model: &Model, measure: &str) -> Vec<String> {
    let requirement = model.requirements.values().next().expect("there is one");
    let told = requirement.rules_of(measure).map(|rule| {
        let seconds = rule.holds_for.as_secs();
        format!("{} {} {seconds}", rule.severity.name(), rule.condition.text())
    });
    told.collect()
}

const UPTIME: &str = "thresholds: { uptime_percentage: { target: 99.99, warning: 99.9, critical: 99.0 } }";

#[test]
fn a_measure_with_thresholds_and_no_rule_is_judged_by_them() {
    let body =
        "thresholds: { p95_latency_ms: { warning: 400, critical: 500 } }\nbaseline: { p95_latency_ms: 235 }";
    let model = good(&one(body));
    assert_eq!(
        rules(&model, "p95_latency_ms"),
        [
            "critical value >= threshold.critical and duration > 5 minutes 300",
            "high value >= threshold.warning and duration > 10 minutes 600",
            "medium deviation > 50% from baseline 0",
        ]
    );
    let critical = &model.requirements["REQ-NFR-PERF-001"].rules[0];
    assert!(critical.is_implicit);
    assert_eq!(critical.id, "p95_latency_ms-critical");
    assert_eq!(critical.actions, ["generate_intent_immediate", "notify_oncall", "create_incident"]);
    assert_eq!(critical.recipients, ["@oncall", "@slack-incidents"]);
    assert_eq!(critical.answer_within, Some(Duration::from_secs(900)));
    let only = "thresholds: { p95_latency_ms: { critical: 500 } }";
    assert_eq!(rules(&good(&one(only)), "p95_latency_ms").len(), 1);
}

#[test]
fn uptime_is_judged_in_its_own_direction() {
    let expected = [
        "critical value <= threshold.critical and duration > 5 minutes 300",
        "high value <= threshold.warning and duration > 10 minutes 600",
    ];
    let model = good(&one(UPTIME));
    assert_eq!(rules(&model, "uptime_percentage"), expected);
    let rule = &model.requirements["REQ-NFR-PERF-001"].rules[0];
    let expected = &model.requirements["REQ-NFR-PERF-001"].expectations["uptime_percentage"];
    let holds = |value: f64| {
        rule.condition.holds(&crate::homeostasis::condition::Facts {
            value: Some(value),
            count: 100,
            expected,
            lookbacks: &[],
        })
    };
    assert_eq!([holds(99.995), holds(99.0), holds(0.0)], [Some(false), Some(true), Some(true)]);
}

#[test]
fn rules_and_a_word_keep_the_table_away() {
    let stated = format!(
        "{UPTIME}\ndeviation_rules: [{{ condition: \"value < threshold.warning\", severity: low, group_by: [region] }}]"
    );
    assert_eq!(rules(&good(&one(&stated)), "uptime_percentage"), ["low value < threshold.warning 0"]);
    for body in [
        format!("judge_by_thresholds: false\n{UPTIME}"),
        UPTIME.replace("critical: 99.0", "critical: 99.0, judge_by_thresholds: false"),
    ] {
        assert_eq!(rules(&good(&one(&body)), "uptime_percentage"), Vec::<String>::new());
    }
    let all = one(UPTIME).replacen(
        "homeostasis_model:\n",
        "homeostasis_model:\n  defaults: { judge_by_thresholds: false }\n",
        1,
    );
    assert_eq!(rules(&good(&all), "uptime_percentage"), Vec::<String>::new());
    let again = one(&format!("judge_by_thresholds: true\n{UPTIME}")).replacen(
        "homeostasis_model:\n",
        "homeostasis_model:\n  defaults: { judge_by_thresholds: false }\n",
        1,
    );
    assert_eq!(rules(&good(&again), "uptime_percentage").len(), 2);
}

#[test]
fn implicit_rules_group_as_the_others_do() {
    let body = "thresholds: { error_rate: { critical: 0.1 }, p95_latency_ms: { critical: 500 } }\n\
                deviation_rules: [{ metric: error_rate, condition: \"value > 0.1\", severity: low, group_by: [region] }]";
    let model = good(&one(body));
    let implicit = model.requirements["REQ-NFR-PERF-001"].rules_of("p95_latency_ms").next().expect("one");
    assert_eq!(implicit.group_by, ["region"]);
}

#[test]
fn the_seeds_severity_rules_load_as_printed_and_fit_each_direction() {
    let model = with(&one(UPTIME), RULES).unwrap();
    assert_eq!(
        rules(&model, "uptime_percentage"),
        [
            "critical value <= threshold.critical and duration > 5 minutes 300",
            "high value <= threshold.warning and value > threshold.critical and duration > 10 minutes 600",
        ]
    );
    let latency = one("thresholds: { p95_latency_ms: { warning: 400 } }\nbaseline: { p95_latency_ms: 235 }");
    assert_eq!(
        rules(&with(&latency, RULES).unwrap(), "p95_latency_ms"),
        [
            "high value >= threshold.warning and duration > 10 minutes 600",
            "medium deviation > 50% from baseline and value < threshold.warning 0",
        ]
    );
    assert_eq!(model.severities[&Severity::Low].answer_within, None);
    assert_eq!(model.severities[&Severity::Medium].answer_within, Some(Duration::from_secs(4 * 3_600)));
    with(SEED, RULES).unwrap();
}

#[test]
fn severity_rules_may_stand_in_the_model_and_override_what_they_state() {
    let rules_of_high =
        "severity_rules: { high: { actions: [notify_team], response_sla: none, recipients: [\"@me\"] } }";
    let body = "thresholds: { error_rate: { warning: 0.1 } }\ndeviation_rules: [{ condition: \"value > 0.3\", severity: high }]";
    let inside =
        one(body).replacen("homeostasis_model:\n", &format!("homeostasis_model:\n  {rules_of_high}\n"), 1);
    for text in [inside.clone(), format!("{}\n{rules_of_high}\n", one(body))] {
        let rule = good(&text).requirements["REQ-NFR-PERF-001"].rules[0].clone();
        assert_eq!(rule.actions, ["notify_team"]);
        assert_eq!((rule.answer_within, rule.recipients), (None, vec!["@me".to_owned()]));
    }
    let both = with(&inside, RULES).expect_err("they are stated twice");
    assert!(both[0].contains("`severity_rules` are stated twice"), "{both:#?}");
    for (rules, says) in [
        ("severity_rules: { hihg: {} }", "(did you mean \"high\"?)"),
        ("severity_rules: { high: { action: x } }", "(did you mean \"actions\"?)"),
        ("severity_rules: { high: { actions: [notify_taem] } }", "(did you mean \"notify_team\"?)"),
        (
            "severity_rules: { high: { response_sla: soon } }",
            "severity_rules.yml:1:41: `soon` is no duration",
        ),
        ("severity_rules: { high: { conditions: [\"vlaue > 3\"] } }", "unknown word `vlaue`"),
        ("severity_rules: { high: { conditions: [\"value > 3 ms\"] } }", "for uptime_percentage: column 9"),
        ("severities: {}", "the file holds no severity rules"),
    ] {
        let found = with(&one(UPTIME), rules).expect_err(rules);
        assert!(found.iter().any(|error| error.contains(says)), "{rules}\n{found:#?}");
    }
}

#[test]
fn the_journal_keeps_all_texts_as_one() {
    let alone = Sources::alone("model.yml", "a: 1");
    assert_eq!(alone.content(), "a: 1");
    assert_eq!(alone.hash(), Model::hash_of("a: 1"));
    let text = Text { name: "x.yml".to_owned(), text: RULES.to_owned() };
    let both = Sources { severity_rules: Some(text), ..Sources::alone("m.yml", SEED) };
    let kept = Sources::of_content("homeostasis", &both.content());
    assert_eq!(kept.model.text, SEED);
    assert_eq!(kept.severity_rules.as_ref().map(|part| part.text.as_str()), Some(RULES));
    assert_eq!(kept.hash(), both.hash());
    assert_ne!(both.hash(), Sources::alone("m.yml", SEED).hash());
}
