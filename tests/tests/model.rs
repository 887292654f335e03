//! `homeostat model` as a person runs it: what it prints, and its exit codes.

use std::path::Path;

use homeostat_tests::homeostat::{command, write};
use homeostat_tests::process::Process;

const MODEL: &str = r#"
homeostasis_model:
  requirements:
    REQ-NFR-PERF-001:
      title: "Login response time < 500ms"
      thresholds: { p95_latency_ms: { target: 250, warning: 400, critical: 500 } }
      deviation_rules:
        - { condition: "value > threshold.critical", for: 5m, severity: critical }
"#;

/// Runs `homeostat model` in `folder`; says its exit code and all it printed.
async fn run(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let arguments: Vec<&str> = std::iter::once("model").chain(arguments.iter().copied()).collect();
    let mut process = Process::spawn("homeostat", command(folder, &arguments));
    let status = process.exit().await;
    // The exit may be noticed before the last line was read.
    let output = process.all_output().await;
    (status.code().unwrap_or(-1), output)
}

async fn check(arguments: &[&str], code: i32, expected: &[&str]) {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    write(folder.path(), "a.yml", MODEL);
    write(folder.path(), "b.yml", &MODEL.replace("warning: 400", "warning: 350"));
    write(folder.path(), "bad.yml", &MODEL.replace("value > threshold", "vlaue > threshold"));
    let (got, output) = run(folder.path(), arguments).await;
    assert_eq!(got, code, "{arguments:?}\n{output}");
    for expected in expected {
        assert!(output.contains(expected), "`{expected}` is not in:\n{output}");
    }
}

#[tokio::test]
async fn validate_says_every_mistake_with_its_place() {
    let place = "bad.yml:8:24: column 1 of the condition: unknown word `vlaue` (did you mean \"value\"?)";
    check(&["validate", "a.yml", "b.yml"], 0, &["all 2 models are valid"]).await;
    check(&["validate", "a.yml", "bad.yml"], 1, &[&format!("error: {place}"), "1 of 2 models are not valid"])
        .await;
    check(
        &["validate", "bad.yml", "--format", "github"],
        1,
        &["::error file=bad.yml,line=8,col=24::column 1"],
    )
    .await;
    check(
        &["validate", "bad.yml", "--format", "json"],
        1,
        &["\"valid\":false", "\"line\":8", "\"severity\":\"error\""],
    )
    .await;
    check(&["validate", "gone.yml"], 2, &["cannot read the model `gone.yml`"]).await;
}

#[tokio::test]
async fn diff_says_what_changes_and_whether_something_does() {
    check(&["diff", "a.yml", "a.yml"], 0, &["the models say the same"]).await;
    let change = "p95_latency_ms: threshold warning: 400 ms → 350 ms (stricter)";
    check(&["diff", "a.yml", "b.yml"], 1, &["REQ-NFR-PERF-001", change]).await;
    check(&["diff", "a.yml", "b.yml", "--format", "json"], 1, &["\"same\":false", "\"effect\":\"stricter\""])
        .await;
    check(&["diff", "a.yml", "bad.yml"], 2, &["unknown word `vlaue`", "is not valid"]).await;
    check(&["diff", "a.yml", "b.yml", "--data", "gone"], 2, &["cannot read the ledger of `gone`"]).await;
}

#[tokio::test]
async fn show_prints_what_holds() {
    let fed = "durations of spans that carry REQ-NFR-PERF-001";
    check(
        &["show", "a.yml"],
        0,
        &["window.size", "p95_latency_ms: the 95 % quantile, in ms, lower_is_better, over 5m", fed],
    )
    .await;
    check(
        &["show", "a.yml", "--format", "yaml"],
        0,
        &["req_id: REQ-NFR-PERF-001", "for: 5m", "compiled: \"value@0 > threshold.critical@12\""],
    )
    .await;
    check(&["show", "a.yml", "--format", "json"], 0, &["\"req_id\":\"REQ-NFR-PERF-001\""]).await;
    check(
        &["show", "a.yml", "--req", "REQ-NFR-PERF-002"],
        2,
        &["no requirement `REQ-NFR-PERF-002` (did you mean \"REQ-NFR-PERF-001\"?)"],
    )
    .await;
}

/// The page is the list; a test that is renamed or gone is missed here.
#[test]
fn each_mistake_that_is_not_inherited_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/model.md")).expect("the page is there");
    let table = page.split("| mistake of the sketch |").nth(1).expect("the page has the table");
    let rows: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 13);
    let mut sources = String::new();
    let mut folders: Vec<_> = ["processors/src", "receivers/src"].map(|name| root.join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                sources.push_str(&std::fs::read_to_string(&path).expect("it can be read"));
            }
        }
    }
    for row in rows {
        let held_by = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let names: Vec<&str> = held_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{row}");
        for name in names {
            let is_there = match name.strip_suffix(".yaml") {
                Some(_) => root.join("tests/scenarios").join(name).is_file(),
                None => sources.contains(&format!("fn {name}(")),
            };
            assert!(is_there, "there is no test `{name}`: {row}");
        }
    }
}
