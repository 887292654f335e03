//! `homeostat model` as a person runs it: what it prints, and its exit codes.

use std::path::Path;

use homeostat_tests::client::post_json;
use homeostat_tests::homeostat::{Homeostat, command, write};
use homeostat_tests::process::{Process, eventually};

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
    write(folder.path(), "standard.yml", "severity_rules: {}\n");
    write(
        folder.path(),
        "rules.yml",
        "severity_rules: { critical: { actions: [notify_oncall], response_sla: none } }\n",
    );
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
    assert_eq!(rows.len(), 14);
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

#[tokio::test]
async fn a_difference_of_the_severity_rules_alone_is_one() {
    let said = [
        "rule p95_latency_ms-critical: actions: generate_intent_immediate",
        "→ notify_oncall",
        "response_sla: 15m → none",
    ];
    check(&["diff", "a.yml", "a.yml", "--severity-rules", "rules.yml"], 0, &["say the same"]).await;
    let empty = ["--severity-rules-before", "rules.yml"];
    check(
        &[&["diff", "b.yml", "b.yml"][..], &empty].concat(),
        1,
        &["notify_oncall → generate_intent_immediate"],
    )
    .await;
    let both = [
        "diff",
        "a.yml",
        "a.yml",
        "--severity-rules-before",
        "standard.yml",
        "--severity-rules",
        "rules.yml",
    ];
    check(&both, 1, &said).await;
}

/// The blocks of one language on a page, in their order.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// `homeostat …` of the page, in `folder`.
async fn homeostat(folder: &Path, line: &str, more: &[&str]) -> (i32, String) {
    let words: Vec<&str> = line.split_whitespace().skip(1).chain(more.iter().copied()).collect();
    let mut process = Process::spawn("homeostat", command(folder, &words));
    let status = process.exit().await;
    (status.code().unwrap_or(-1), process.all_output().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_for_the_first_requirement_leads_from_nothing_to_a_deviation() {
    let page = include_str!("../../docs/first-requirement.md");
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let folder = folder.path();
    let [model, test, config] = blocks(page, "yaml")[..] else { panic!("the page has three files in YAML") };
    let [slow] = blocks(page, "json")[..] else { panic!("the page has one message") };
    write(folder, "model.yml", model);
    write(folder, "model_test.yml", test);
    write(
        folder,
        "config.yaml",
        &config.replace(":4317", ":0").replace(":4318", ":0").replace(":8888", ":0"),
    );
    let commands: Vec<&str> = blocks(page, "sh").into_iter().flat_map(str::lines).collect();
    let [validate, show, test, check, run, curl, list, explain] = commands[..] else {
        panic!("the page has other commands: {commands:?}")
    };
    for (line, says) in [
        (validate, "the model is valid"),
        (show, "p95_latency_ms: the 95 % quantile, in ms, lower_is_better"),
        (test, ""),
        (check, ""),
    ] {
        let (code, output) = homeostat(folder, line, &[]).await;
        assert!(code == 0 && output.contains(says), "{line}: {code} {output}");
    }
    assert_eq!(run, "homeostat run --config config.yaml");
    let running = Homeostat::start(folder).await;
    assert_eq!(
        curl,
        "curl -s http://127.0.0.1:4318/v1/logs -H \"content-type: application/json\" --data @slow.json"
    );
    let admin = format!("http://{}", running.admin);
    assert_eq!(post_json(running.http, "/v1/logs", slow).await, 200);
    let listed = eventually("the deviation is listed", async || {
        let (code, output) = homeostat(folder, list, &["--admin", &admin]).await;
        (code == 0 && output.contains("REQ-NFR-PERF-001")).then_some(output)
    })
    .await;
    let id = listed.split_whitespace().find(|word| word.starts_with("DEV-")).expect("it has an id");
    let explain = explain.replace("DEV-20260105-001", id);
    let (code, output) = homeostat(folder, &explain, &[]).await;
    assert_eq!(code, 0, "{output}");
    for says in ["Login response time < 500ms", "rule slow", "(value 900", "threshold.critical 500"] {
        assert!(output.contains(says), "`{says}` is not in:\n{output}");
    }
    running.stop().await;
}
