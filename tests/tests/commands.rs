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
        &GOOD.replace("tag: {}", "tga: {}").replace("[tag]", "[tga]"),
        1,
        &["a.yaml:3:15: unknown processor type `tga` (did you mean \"tag\"?)"],
    )
    .await;
    check(&GOOD.replace("grpc:", "gprc:"), 1, &["a.yaml:2:34: unknown key `gprc` (did you mean \"grpc\"?)"])
        .await;
    check(&GOOD.replace("127.0.0.1:0", "0.0.0.0:0"), 1, &["insecure: true"]).await;
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
