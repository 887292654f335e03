//! The commands as a person runs them: what they print, and their exit codes.

use std::path::Path;

use homeostat_tests::homeostat::{command, write};
use homeostat_tests::process::Process;

/// Runs `homeostat` in `folder`; says its exit code and all it printed.
async fn run(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let mut process = Process::spawn("homeostat", command(folder, arguments));
    let status = process.exit().await;
    // The exit may be noticed before the last line was read.
    let output = process.all_output().await;
    (status.code().unwrap_or(-1), output)
}

const GOOD: &str = r#"
receivers: { otlp: { protocols: { grpc: { endpoint: 127.0.0.1:0 } } } }
processors: { tag: {} }
exporters: { otlp/backend: { endpoint: "http://127.0.0.1:1" } }
service:
  storage: none
  pipelines: { traces: { receivers: [otlp], processors: [tag], exporters: [otlp/backend] } }
"#;

async fn check(text: &str, code: i32, expected: &[&str]) {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    write(folder.path(), "a.yaml", text);
    let (got, output) = run(folder.path(), &["validate", "--config", "a.yaml"]).await;
    assert_eq!(got, code, "{output}");
    for expected in expected {
        assert!(output.contains(expected), "`{expected}` is not in:\n{output}");
    }
}

#[tokio::test]
async fn validate_says_everything_that_is_wrong_with_its_place() {
    check(GOOD, 0, &["the configuration is valid"]).await;
    check(
        &GOOD.replace("storage: none", "storage: none\n  memory_mib: 4"),
        0,
        &["warning", "reads requests of up to 4096 KiB", "half of the memory budget, 2048 KiB"],
    )
    .await;
    check(
        &GOOD.replace("tag: {}", "tga: {}").replace("[tag]", "[tga]"),
        1,
        &["a.yaml:3:15: unknown processor type `tga` (did you mean \"tag\"?)"],
    )
    .await;
    check(&GOOD.replace("grpc:", "gprc:"), 1, &["a.yaml:2:35: unknown key `gprc` (did you mean \"grpc\"?)"])
        .await;
    check(&GOOD.replace("127.0.0.1:0", "0.0.0.0:0"), 1, &["insecure: true"]).await;
    check(
        &GOOD.replace("tag: {}", "tag: {}, tag/more: {}").replace("[tag]", "[tag, tag/more]"),
        1,
        &["processor `tag/more` comes after `tag`: a pipeline is tagged once"],
    )
    .await;
    check(
        &GOOD.replace("exporters: [otlp/backend]", "exporters: [nats]"),
        1,
        &["exporter `nats` is not declared under `exporters:`"],
    )
    .await;
    check(
        &GOOD
            .replace("[tag]", "[tag, homeostasis]")
            .replace("tag: {}", "tag: {}, homeostasis: { model: nope.yml }"),
        1,
        &["nope.yml"],
    )
    .await;
}

/// A configuration with one mistake in each part.
const WRONG: &str = r#"
receivers: { otlp: { protocols: { gprc: {} } } }
processors: { tga: {}, homeostasis: { model: nope.yml } }
exporters: { otlp/backend: { endpoint: "${env:HOMEOSTAT_TEST_NOT_SET}" }, kg: { endpont: x } }
service:
  storage: { directroy: x }
  shutdown: 0s
  telemetry: { metrics: { endpoint: "0.0.0.0:8888" }, logs: { level: loud, encoding: xml } }
  pipelines: { feedback: { receivers: [otlp], processors: [tag, homeostasis], exporters: [otlp/backend] } }
"#;

#[tokio::test]
async fn no_mistake_hides_another() {
    check(
        WRONG,
        1,
        &[
            "a.yaml:2:35: unknown key `gprc`",
            "a.yaml:3:15: unknown processor type `tga`",
            "a.yaml:3:46: cannot read `nope.yml`",
            "a.yaml:4:40: the environment variable `HOMEOSTAT_TEST_NOT_SET` is not set",
            "a.yaml:4:81: unknown key `endpont`",
            "a.yaml:6:14: unknown key `directroy`",
            "a.yaml:7:13: `shutdown` must be more than 0",
            "a.yaml:8:37: `0.0.0.0:8888` can be reached from other machines",
            "a.yaml:8:70: `loud` is no level",
            "a.yaml:8:86: `xml` is neither `console` nor `json`",
            "a.yaml:9:60: processor `tag` is not declared",
        ],
    )
    .await;
}

#[tokio::test]
async fn what_may_be_a_secret_is_never_printed() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    write(folder.path(), "a.yaml", GOOD);
    for set in [
        "exporters.nats.servers=nats://user:c4nary@host",
        "exporters.nats.servers=[\"nats://user:c4nary@host:port\"]",
        "exporters.nats.auth.password=[c4nary]",
        "exporters.nats.auth.nkey=c4nary",
        "exporters.nats.auth=c4nary",
        "exporters.postgres.url=mysql://user:c4nary@host/db",
        "exporters.postgres.url=[\"postgres://user:c4nary@host/db\"]",
        "exporters.postgres=postgres://user:c4nary@host/db",
        "exporters.kg.endpoint=http://user:c4nary@host/",
        "exporters.otlp/backend.endpoint=http://user:c4nary@host:1",
        "exporters.otlp/backend.headers=c4nary",
        "exporters.otlp/backend.headers.authorization=[c4nary]",
        "exporters=c4nary",
        "exporters.nats.auth.password=[c4nary",
        "exporters.postgres.url=pa${c4nary!}ss",
        "c4nary",
    ] {
        for command in ["validate", "run"] {
            let (code, output) = run(folder.path(), &[command, "--config", "a.yaml", "--set", set]).await;
            assert_eq!(code, if command == "run" { 2 } else { 1 }, "{set}: {output}");
            assert!(!output.contains("c4nary"), "{set}: {output}");
        }
    }
}

#[tokio::test]
async fn a_requirement_that_can_never_be_fed_is_warned_of() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    write(
        folder.path(),
        "model.yml",
        r#"
homeostasis_model:
  requirements:
    REQ-NFR-REL-001:
      title: "Checkout works"
      type: reliability
      thresholds: { error_rate: { target: 0.1, warning: 1, critical: 5, unit: percent } }
      telemetry: { otlp: [ { signal: log, where: 'body == "checkout"', as: error_rate } ] }
      deviation_rules:
        - { metric: error_rate, condition: "value > threshold.critical", severity: critical, action: generate_intent }
"#,
    );
    let judging = GOOD
        .replace("tag: {}", "tag: {}, homeostasis: { model: model.yml }")
        .replace("[tag]", "[tag, homeostasis]");
    for (name, is_warned) in [("traces", true), ("logs", false), ("feedback", false)] {
        write(folder.path(), "a.yaml", &judging.replace("traces:", &format!("{name}:")));
        let (code, output) = run(folder.path(), &["validate", "--config", "a.yaml"]).await;
        assert_eq!(code, 0, "{name}: {output}");
        assert_eq!(
            output.contains("takes no logs, and `REQ-NFR-REL-001` select"),
            is_warned,
            "{name}: {output}"
        );
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_be_run_is_said_before_anything_is_bound() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    write(folder.path(), "a.yaml", &GOOD.replace("storage: none", "storage: { directroy: x }"));
    let (code, output) = run(folder.path(), &["run", "--config", "a.yaml"]).await;
    assert_eq!(code, 2, "{output}");
    assert!(output.contains("unknown key `directroy` (did you mean \"directory\"?)"), "{output}");
    let (code, output) = run(folder.path(), &["run", "--config", "missing.yaml"]).await;
    assert_eq!(code, 2, "{output}");
    assert!(output.contains("cannot read the configuration `missing.yaml`"), "{output}");
}

#[tokio::test]
async fn every_shipped_configuration_is_valid() {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the workspace");
    for name in ["quickstart.yaml", "gateway.yaml", "sidecar.yaml", "demo.yaml"] {
        let (code, output) = run(root, &["validate", "--config", &format!("config/{name}")]).await;
        assert_eq!(code, 0, "{name}: {output}");
    }
}

#[tokio::test]
async fn the_components_are_listed_for_people_and_programs() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let (code, output) = run(folder.path(), &["components"]).await;
    assert_eq!(code, 0, "{output}");
    for kind in ["otlp", "tag", "homeostasis", "nats", "kg", "postgres", "file"] {
        assert!(output.contains(&format!("\n  {kind} ")), "{kind} is not in:\n{output}");
    }
    let (code, output) = run(folder.path(), &["components", "--format", "json"]).await;
    assert_eq!(code, 0);
    let listed: serde_json::Value = serde_json::from_str(&output).expect("it is JSON");
    assert!(listed["exporters"].as_array().is_some_and(|exporters| exporters.len() >= 5), "{listed}");
}

#[tokio::test]
async fn a_folder_without_a_ledger_is_no_whole_ledger() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let (code, output) = run(folder.path(), &["ledger", "verify", "nowhere"]).await;
    assert_eq!(code, 2, "{output}");
    assert!(output.contains("service.storage.directory"), "{output}");
}

#[tokio::test]
async fn the_demo_shows_both_deviations_open_and_resolve() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let (code, output) = run(folder.path(), &["demo", "--for", "30s", "--data-dir", "data"]).await;
    assert_eq!(code, 0, "{output}");
    for expected in [
        "REQ-NFR-PERF-001 critical",
        "REQ-NFR-REL-002 critical",
        "is whole",
        "both deviations opened and resolved",
    ] {
        assert!(output.contains(expected), "`{expected}` is not in:\n{output}");
    }
    let (code, output) = run(folder.path(), &["ledger", "verify", "data"]).await;
    assert_eq!(code, 0, "{output}");
}

#[tokio::test]
async fn a_demo_that_is_interrupted_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let mut demo = command(folder.path(), &["demo", "--for", "10m"]);
    demo.env("TMPDIR", folder.path());
    let mut process = Process::spawn("homeostat", demo);
    process.line("the shop is healthy").await.expect("the demo begins");
    process.signal("INT");
    let status = process.exit().await;
    let output = process.all_output().await;
    assert_eq!(status.code(), Some(2), "{output}");
    assert!(output.contains("interrupted before the end"), "{output}");
    let left = std::fs::read_dir(folder.path()).expect("the folder is there").count();
    assert_eq!(left, 0, "{output}");
}

/// A span every half minute that takes `millis`, as a line of the Collector's `file` exporter.
fn recorded(minutes: std::ops::Range<u64>, millis: u64) -> String {
    let mut lines = String::new();
    for half in minutes.start * 2..minutes.end * 2 {
        for number in 0..10 {
            let end = 1_767_571_200_000_u64 + half * 30_000 + number;
            lines.push_str(&format!(
                "{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{{\"traceId\":\"{:032x}\",\"spanId\":\"{:016x}\",\"name\":\"login\",\"kind\":2,\"startTimeUnixNano\":\"{}000000\",\"endTimeUnixNano\":\"{end}000000\",\"attributes\":[{{\"key\":\"req\",\"value\":{{\"stringValue\":\"REQ-NFR-PERF-001\"}}}}]}}]}}]}}]}}\n",
                half * 10 + number + 1,
                half * 10 + number + 1,
                end - millis,
            ));
        }
    }
    lines
}

#[tokio::test]
async fn replay_says_what_would_have_fired_and_why_not() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    write(folder.path(), "model.yml", homeostat_config::MODEL);
    let lax = homeostat_config::MODEL.replace("critical: 500", "critical: 5000");
    write(folder.path(), "lax.yml", &lax);
    let slow = recorded(0..10, 100) + &recorded(10..20, 900);
    write(folder.path(), "slow.json", &slow);
    write(folder.path(), "fast.json", &recorded(0..20, 100));
    let arguments = ["replay", "--model", "model.yml", "slow.json"];
    let (code, output) = run(folder.path(), &arguments).await;
    assert_eq!(code, 1, "{output}");
    for words in
        ["400 messages, 400 records", "detected critical REQ-NFR-PERF-001 p95_latency_ms", "false in 2"]
    {
        assert!(output.contains(words), "`{words}` is not in:\n{output}");
    }
    let (code, output) = run(folder.path(), &["replay", "--model", "model.yml", "fast.json"]).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("0 deviations"), "{output}");
    let arguments = ["replay", "--model", "model.yml", "--against", "lax.yml", "slow.json"];
    let (code, output) = run(folder.path(), &arguments).await;
    assert!(code == 1 && output.contains("only in the first"), "{code}: {output}");
    let (code, output) = run(folder.path(), &["replay", "--model", "gone.yml", "slow.json"]).await;
    assert!(code == 2 && output.contains("gone.yml"), "{code}: {output}");
    let (code, output) = run(folder.path(), &["replay", "--model", "model.yml", "model.yml"]).await;
    assert_eq!(code, 2, "{output}");
}

#[tokio::test]
async fn a_model_is_tested_with_a_readable_difference() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    write(folder.path(), "model.yml", homeostat_config::MODEL);
    let test = |severity: &str| {
        format!(
            "model: model.yml\ntests:\n  - name: slow\n    input: [{{ req: REQ-NFR-PERF-001, measure: p95_latency_ms, values: '900x20' }}]\n    expect: [{{ at: 12m, req: REQ-NFR-PERF-001, status: open, severity: {severity} }}]\n"
        )
    };
    write(folder.path(), "good_test.yml", &test("critical"));
    let (code, output) = run(folder.path(), &["test", "."]).await;
    assert!(code == 0 && output.contains("1 tests, 0 failed"), "{code}: {output}");
    write(folder.path(), "bad_test.yml", &test("low"));
    let (code, output) = run(folder.path(), &["test", "."]).await;
    assert_eq!(code, 1, "{output}");
    for words in ["FAIL", "expected: status open, severity low", "severity critical", "because:", "value 900"]
    {
        assert!(output.contains(words), "`{words}` is not in:\n{output}");
    }
    let (code, output) = run(folder.path(), &["test", "--format", "junit", "bad_test.yml"]).await;
    assert!(code == 1 && output.contains("failures=\"1\""), "{code}: {output}");
    write(folder.path(), "bad_test.yml", "model: model.yml\ntests: [{ nmae: x }]");
    let (code, output) = run(folder.path(), &["test", "bad_test.yml"]).await;
    assert!(code == 2 && output.contains("bad_test.yml:2:"), "{code}: {output}");
}
