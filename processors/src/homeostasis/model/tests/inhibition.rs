//! `inhibited_by`: names of rules that there are, and no circles.

use super::*;

/// Two requirements; `of_a` and `of_b` is what `inhibited_by` of their rules `a` and `b` holds.
fn two(of_a: &str, of_b: &str) -> String {
    format!(
        "REQ-A-001:\n  thresholds: {{ error_rate: {{ critical: 0.1 }} }}\n  deviation_rules:\n    \
         - {{ id: a, condition: \"value > threshold.critical\", severity: high, inhibited_by: [{of_a}] }}\n    \
         - {{ id: worse, condition: \"value > 0.5\", severity: critical }}\n\
         REQ-B-001:\n  thresholds: {{ p95_latency_ms: {{ critical: 500 }} }}\n  deviation_rules:\n    \
         - {{ id: b, condition: \"value > threshold.critical\", severity: high, inhibited_by: [{of_b}] }}\n"
    )
}

#[track_caller]
fn check(of_a: &str, of_b: &str, says: &[&str]) {
    let found = errors(&two(of_a, of_b));
    assert_eq!(found, says, "a by {of_a}, b by {of_b}");
}

#[test]
fn a_rule_names_the_rules_that_inhibit_it_by_requirement_and_id() {
    let model = good(&two("", "REQ_A_001.1.0.0/a, REQ-A-001/worse"));
    let names: Vec<String> =
        model.requirements["REQ-B-001"].rules[0].inhibited_by.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["REQ-A-001/a", "REQ-A-001/worse"]);
    assert_eq!(View::of(&model).requirements[1].rules[0].inhibited_by, names);
    let order = order(&model.requirements).expect("there is no circle");
    let after = ("REQ-B-001".to_owned(), Vec::new(), "p95_latency_ms".to_owned());
    assert_eq!(order, BTreeMap::from([(after, 1)]));
    let found = differences(&good(&two("", "")), &model);
    let said: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["rule b: inhibited_by added: REQ-A-001/a, REQ-A-001/worse"]);
}

#[test]
fn names_of_what_is_not_there_are_errors_with_their_place_and_what_to_write() {
    check(
        "worse",
        "",
        &[
            "model.yml:4:88: `worse` names no rule (write `REQ-NFR-AVAIL-001/uptime-critical`: the requirement, `/`, the rule's `id`)",
        ],
    );
    check(
        "REQ-C-001/b",
        "",
        &[
            "model.yml:4:88: `REQ-C-001/b`: the model has no requirement `REQ-C-001` (did you mean \"REQ-A-001\"?)",
        ],
    );
    check(
        "",
        "REQ-A-001/wors",
        &[
            "model.yml:9:88: `REQ-A-001/wors`: REQ-A-001 has no rule `wors` (did you mean \"worse\"?); known: a, worse",
        ],
    );
    check("REQ-A-001/a", "", &["model.yml:4:88: rule a inhibits itself (take it out of `inhibited_by`)"]);
}

#[test]
fn circles_are_errors_that_name_their_rules() {
    check(
        "REQ-B-001/b",
        "REQ-A-001/a",
        &[
            "model.yml:4:88: rules inhibit each other in a circle: REQ-A-001/a by REQ-B-001/b by REQ-A-001/a (take one `inhibited_by` out)",
        ],
    );
    check(
        "REQ-B-001/b",
        "REQ-A-001/worse",
        &[
            "model.yml:4:88: deviations inhibit each other in a circle, by different rules: error_rate of REQ-A-001 by p95_latency_ms of REQ-B-001 by error_rate of REQ-A-001 (take one `inhibited_by` out)",
        ],
    );
    good(&two("REQ-A-001/worse", ""));
}
