//! Pairs of configurations, and what a reload from the one to the other means.

use std::collections::BTreeMap;
use std::path::PathBuf;

use homeostat_config::Source;

use super::*;
use crate::configuration::from_sources;

const MODEL: &str = "
REQ-NFR-PERF-001:
  thresholds: { p95_latency_ms: { critical: 500, warning: 400 } }
  deviation_rules: [{ condition: \"value > 500\", severity: critical, action: generate_intent }]
";

const BASE: &str = r#"
receivers:
  otlp: { protocols: { grpc: { endpoint: 127.0.0.1:0, auth: { authenticator: bearertokenauth } } } }
  otlp/b: { protocols: { http: { endpoint: 127.0.0.1:0 } } }
processors:
  tag: {}
  memory_limiter: { limit_mib: 32 }
  homeostasis: { model: model.yml, tenant: a }
exporters:
  otlp/backend: { endpoint: "http://127.0.0.1:1" }
  file: { path: stdout }
  file/unused: { path: unused }
extensions:
  bearertokenauth: { token: one }
service:
  storage: { directory: data, journal: { max_mib: 5 } }
  telemetry: { metrics: { endpoint: 127.0.0.1:0 } }
  extensions: [bearertokenauth]
  pipelines:
    feedback:
      receivers: [otlp, otlp/b]
      processors: [memory_limiter, tag, homeostasis]
      exporters: [otlp/backend, file]
"#;

fn configuration(text: &str, model: &str) -> Configuration {
    let source = Source { name: "a.yaml".to_owned(), text: text.to_owned() };
    let files = ["model.yml", "other.yml"].map(|name| (name.to_owned(), model.to_owned()));
    match from_sources(&[source], &[], PathBuf::new(), BTreeMap::from(files)) {
        Ok((configuration, _)) => configuration,
        Err(problems) => panic!("{problems:?}"),
    }
}

/// What the log would say; what is in the way begins with the place.
fn said(new: &str, model: &str) -> String {
    let changes = changes(&configuration(BASE, MODEL), &configuration(new, model));
    let problems = changes.restart.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if problems.is_empty() { changes.to_string() } else { problems }
}

fn check(from: &str, to: &str, expected: &str) {
    assert!(BASE.contains(from), "{from}");
    assert_eq!(said(&BASE.replacen(from, to, 1), MODEL), expected, "{from} → {to}");
}

#[test]
fn what_says_the_same_in_other_words_is_no_change() {
    assert!(changes(&configuration(BASE, MODEL), &configuration(BASE, MODEL)).is_empty());
    check("tag: {}", "# a comment\n  tag:", "nothing");
    check("{ model: model.yml, tenant: a }", "{ tenant: \"a\", model: model.yml }", "nothing");
    check("path: unused", "path: elsewhere", "nothing");
    check("  file/unused: { path: unused }\n", "", "nothing");
}

#[test]
fn only_the_component_whose_settings_are_others_has_changed() {
    check("path: stdout", "path: findings.jsonl", "changed file");
    check("127.0.0.1:1", "127.0.0.1:2", "changed otlp/backend");
    check("http: { endpoint: 127.0.0.1:0 }", "http: { endpoint: localhost:0 }", "changed otlp/b");
    check("tag: {}", "tag: { keys: { attributes: [ticket] } }", "changed tag");
}

#[test]
fn a_component_changes_with_the_extension_that_it_names() {
    check("token: one", "token: two", "changed bearertokenauth, changed otlp");
}

#[test]
fn what_pipelines_name_is_added_and_what_none_names_is_removed() {
    check("exporters: [otlp/backend, file]", "exporters: [file]", "removed otlp/backend, service.pipelines");
    check(
        "exporters: [otlp/backend, file]",
        "exporters: [otlp/backend, file, file/unused]",
        "added file/unused, service.pipelines",
    );
    check("receivers: [otlp, otlp/b]", "receivers: [otlp]", "removed otlp/b, service.pipelines");
}

#[test]
fn a_model_is_an_epoch_and_what_looks_for_it_is_opened_anew() {
    assert_eq!(said(BASE, &MODEL.replace("500", "600")), "model of homeostasis");
    let selects = "  telemetry: { otlp: [{ signal: span, where: 'kind == SERVER', name: \"POST /login\", as: p95_latency_ms }] }\n";
    assert_eq!(said(BASE, &format!("{MODEL}{selects}")), "changed tag, model of homeostasis");
    check("tenant: a", "tenant: a, reload_interval: 5s", "model of homeostasis");
}

#[test]
fn limits_of_the_process_are_taken_over() {
    check("limit_mib: 32", "limit_mib: 16", "changed memory_limiter, service.memory_mib");
    check("service:\n", "service:\n  memory_mib: 20\n", "service.memory_mib");
    check("service:\n", "service:\n  shutdown: 20s\n", "service.shutdown");
}

#[test]
fn what_needs_a_restart_says_which_key_and_where() {
    let needs = |place: &str, key: &str| {
        format!("a.yaml:{place}: `{key}` cannot change while homeostat runs and needs a restart")
    };
    check("directory: data", "directory: other", &needs("16:25", "service.storage.directory"));
    check("max_mib: 5", "max_mib: 6", &needs("16:40", "service.storage.journal"));
    check(
        "storage: { directory: data, journal: { max_mib: 5 } }",
        "storage: none",
        &needs("16:12", "service.storage"),
    );
    check(
        "metrics: { endpoint: 127.0.0.1:0 }",
        "metrics: { endpoint: 127.0.0.1:0 }, logs: { level: debug }",
        &needs("17:58", "service.telemetry.logs"),
    );
    check("tenant: a", "tenant: b", &needs("8:44", "processors.homeostasis.tenant"));
    let expected = "a.yaml:20:5: the analyzers are homeostasis and would be none, which cannot change while homeostat runs and needs a restart";
    let without = BASE.replace("tag, homeostasis]", "tag]").replace("[otlp/backend, file]", "[otlp/backend]");
    assert_eq!(said(&without, MODEL), expected);
}
