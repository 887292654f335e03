//! The alert rules and the dashboard: every expression reads metrics and labels that `docs/metrics.md` explains, by functions that
//! Prometheus has.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{list, read, text, yaml};

/// Metric → its kind and its labels, from the page.
fn metrics() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let page = read("docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [name, kind, labels, ..] = cells.as_slice() else { panic!("{row}") };
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (name.trim_end_matches('`').to_owned(), ((*kind).to_owned(), labels))
    })
    .collect()
}

/// Functions and aggregations that the shipped expressions may call.
const FUNCTIONS: [&str; 9] =
    ["sum", "min", "max", "count", "rate", "increase", "predict_linear", "vector", "clamp_min"];
/// Words of the language before brackets that hold labels.
const GROUPING: [&str; 5] = ["by", "without", "on", "ignoring", "group_left"];
const OPERATORS: [&str; 3] = ["and", "or", "unless"];
/// Labels that Prometheus gives to whatever it scrapes.
const TARGET: [&str; 2] = ["job", "instance"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `{…}`, `[…]`, `"…"`: what is inside.
    Matchers(String),
    Range(String),
    Sign(char),
}

fn tokens(expression: &str) -> Vec<Token> {
    let letters: Vec<char> = expression.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    let until = |from: usize, end: char| {
        let mut is_quoted = false;
        let found = (from..letters.len()).find(|place| {
            is_quoted ^= letters[*place] == '"';
            !is_quoted && letters[*place] == end
        });
        found.unwrap_or_else(|| panic!("`{end}` is missing in {expression}"))
    };
    while at < letters.len() {
        match letters[at] {
            '{' | '[' => {
                let is_range = letters[at] == '[';
                let end = until(at + 1, if is_range { ']' } else { '}' });
                let inside: String = letters[at + 1..end].iter().collect();
                tokens.push(if is_range { Token::Range(inside) } else { Token::Matchers(inside) });
                at = end + 1;
            }
            letter if letter.is_ascii_alphanumeric() || letter == '_' => {
                let is_part =
                    |letter: &char| letter.is_ascii_alphanumeric() || ['_', '.', ':'].contains(letter);
                let word: String = letters[at..].iter().take_while(|letter| is_part(letter)).collect();
                at += word.len();
                tokens.push(Token::Word(word));
            }
            letter => {
                if !letter.is_whitespace() {
                    tokens.push(Token::Sign(letter));
                }
                at += 1;
            }
        }
    }
    tokens
}

/// The labels between a grouping word's brackets, and how many tokens they take.
fn grouped(tokens: &[Token]) -> (BTreeSet<String>, usize) {
    assert_eq!(tokens.first(), Some(&Token::Sign('(')), "a grouping has brackets");
    let end = tokens.iter().position(|token| token == &Token::Sign(')')).expect("brackets close");
    let labels = tokens[1..end].iter().filter_map(|token| match token {
        Token::Word(label) => Some(label.clone()),
        Token::Sign(',') => None,
        Token::Sign(_) | Token::Matchers(_) | Token::Range(_) => panic!("{token:?} is no label"),
    });
    (labels.collect(), end + 1)
}

/// The labels that matchers name.
fn matched(matchers: &str) -> BTreeSet<String> {
    let parts = matchers.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (label, value) = part.split_once('=').unwrap_or_else(|| panic!("{part} matches nothing"));
            let value = value.trim_start_matches('~');
            assert!(value.len() >= 2 && value.starts_with('"') && value.ends_with('"'), "{part}");
            label.trim_end_matches('!').trim().to_owned()
        })
        .collect()
}

/// The metrics of an expression. Panics at what is no PromQL, no function, no metric of ours, or no label of it.
fn check_expression(what: &str, expression: &str) -> BTreeSet<String> {
    let known = metrics();
    let tokens = tokens(expression);
    let depth = tokens.iter().fold(0_i32, |depth, token| match token {
        Token::Sign('(') => depth + 1,
        Token::Sign(')') => {
            assert!(depth > 0, "{what}: brackets in {expression}");
            depth - 1
        }
        Token::Sign(_) | Token::Word(_) | Token::Matchers(_) | Token::Range(_) => depth,
    });
    assert_eq!(depth, 0, "{what}: brackets in {expression}");
    let (mut used, mut asked) = (BTreeSet::new(), BTreeSet::new());
    let mut available: BTreeSet<String> = TARGET.map(str::to_owned).into();
    let mut at = 0;
    while at < tokens.len() {
        let Token::Word(word) = &tokens[at] else {
            at += 1;
            continue;
        };
        let next = tokens.get(at + 1);
        at += 1;
        if GROUPING.contains(&word.as_str()) {
            let (labels, taken) = grouped(&tokens[at..]);
            asked.extend(labels);
            at += taken;
        } else if next == Some(&Token::Sign('(')) && !OPERATORS.contains(&word.as_str()) {
            let is_aggregation = FUNCTIONS.contains(&word.as_str());
            assert!(is_aggregation, "{what}: no function {word} in {expression}");
        } else if FUNCTIONS.contains(&word.as_str()) {
            let is_grouped = matches!(next, Some(Token::Word(word)) if GROUPING.contains(&word.as_str()));
            assert!(is_grouped, "{what}: {word} of nothing in {expression}");
        } else if !OPERATORS.contains(&word.as_str()) && word.parse::<f64>().is_err() {
            let mut matchers = BTreeSet::new();
            if let Some(Token::Matchers(inside)) = next {
                matchers = matched(inside);
            }
            if word != "up" {
                let (kind, labels) =
                    known.get(word).unwrap_or_else(|| panic!("{what}: docs/metrics.md explains no {word}"));
                let mut labels = labels.clone();
                if kind == "histogram" {
                    labels.insert("quantile".to_owned());
                }
                available.extend(labels);
            }
            for label in matchers {
                assert!(available.contains(&label), "{what}: {word} has no label {label}");
            }
            used.insert(word.clone());
        }
    }
    for label in asked {
        assert!(available.contains(&label), "{what}: nothing in {expression} has the label {label}");
    }
    assert!(!used.is_empty(), "{what}: {expression} reads no metric");
    used
}

/// `{{ $labels.x }}` of an annotation names a label that the alert has.
fn check_annotation(alert: &str, annotation: &str, expression: &str) {
    for reference in annotation.split("$labels.").skip(1) {
        let label: String =
            reference.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
        let aggregated = expression.contains("sum by");
        let is_there = if aggregated {
            expression.split("by (").skip(1).any(|rest| {
                rest.split(')').next().is_some_and(|by| by.split(',').any(|own| own.trim() == label))
            })
        } else {
            let used = check_expression(alert, expression);
            let known = metrics();
            label == "instance"
                || used.iter().any(|name| known.get(name).is_some_and(|(_, labels)| labels.contains(&label)))
        };
        assert!(is_there, "{alert}: its samples have no label {label}");
    }
}

#[test]
fn every_alert_reads_metrics_that_are_explained() {
    let rules = yaml("rules.yaml", &read("deploy/prometheus/rules.yaml"));
    let mut names = BTreeSet::new();
    let mut groups = BTreeSet::new();
    for group in list(&rules, "/groups") {
        assert!(groups.insert(text(group, "/name")), "{group}");
        for rule in list(group, "/rules") {
            let name = text(rule, "/alert");
            assert!(name.starts_with("Homeostat") && names.insert(name), "{name}");
            let expression = text(rule, "/expr");
            check_expression(name, expression);
            assert!(["critical", "warning", "info"].contains(&text(rule, "/labels/severity")), "{name}");
            for annotation in ["/annotations/summary", "/annotations/description"] {
                check_annotation(name, text(rule, annotation), expression);
            }
            if let Some(period) = rule.get("for") {
                let period = period.as_str().expect("it is a duration");
                assert!(homeostat_pipeline::settings::parse_period(period).is_ok(), "{name}: {period}");
            }
            for key in rule.as_object().expect("a rule is a mapping").keys() {
                assert!(
                    ["alert", "expr", "for", "labels", "annotations"].contains(&key.as_str()),
                    "{name}: {key}"
                );
            }
        }
    }
    assert!(names.len() >= 15, "{names:?}");
    let page = read("docs/deploy.md");
    assert!(page.contains("deploy/prometheus/rules.yaml"));
}

#[test]
fn every_panel_reads_metrics_that_are_explained() {
    let dashboard: Value =
        serde_json::from_str(&read("deploy/grafana/homeostat.json")).expect("the dashboard is JSON");
    assert_eq!(dashboard["uid"], "homeostat");
    let variables: BTreeSet<&str> =
        list(&dashboard, "/templating/list").iter().map(|variable| text(variable, "/name")).collect();
    assert_eq!(variables, BTreeSet::from(["datasource", "instance"]));
    let (mut ids, mut used) = (BTreeSet::new(), BTreeSet::new());
    let mut places: Vec<[u64; 4]> = Vec::new();
    for panel in list(&dashboard, "/panels") {
        let title = text(panel, "/title");
        assert!(ids.insert(panel["id"].as_u64()), "{title}: its id is another's");
        let place = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a place"));
        let [x, y, width, height] = place;
        assert!(x + width <= 24, "{title} is wider than the page");
        for [left, top, wide, high] in &places {
            let is_beside = x + width <= *left || left + wide <= x || y + height <= *top || top + high <= y;
            assert!(is_beside, "{title} lies on another panel");
        }
        places.push(place);
        if panel["type"] == "row" {
            continue;
        }
        assert!(!text(panel, "/description").is_empty(), "{title}");
        for target in list(panel, "/targets") {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = text(target, "/expr");
            assert!(expression.contains("instance=~\"$instance\""), "{title} does not heed the instance");
            // Grafana fills in its interval before Prometheus sees it.
            used.extend(check_expression(title, &expression.replace("$__rate_interval", "5m")));
        }
    }
    assert!(used.len() >= 30, "{used:?}");
}

#[test]
fn an_expression_of_something_else_is_noticed() {
    let check = |expression: &str| {
        let expression = expression.to_owned();
        std::panic::catch_unwind(move || check_expression("here", &expression)).is_ok()
    };
    assert!(check("sum by (receiver) (rate(otelcol_receiver_accepted_spans{transport=\"grpc\"}[5m])) > 0"));
    assert!(!check("rate(otelcol_receiver_accepted_span[5m])"), "no such metric");
    assert!(!check("rates(otelcol_receiver_accepted_spans[5m])"), "no such function");
    assert!(!check("sum by (exporter) (otelcol_receiver_accepted_spans)"), "no such label");
    assert!(!check("otelcol_receiver_accepted_spans{exporter=\"x\"}"), "no such label");
    assert!(!check("sum(otelcol_receiver_accepted_spans"), "brackets");
}
