//! `file` records telemetry in a running pipeline, and `homeostat replay` finds in the recording what the pipeline found.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use homeostat_pipeline::finding::{Finding, Transition};
use homeostat_pipeline::ledger::{LedgerItem, LedgerReader};
use homeostat_tests::client::{LOGS, Sender, TRACES};
use homeostat_tests::homeostat::{Homeostat, command, write};
use homeostat_tests::process::{Process, eventually};
use homeostat_tests::telemetry::{Spans, gzip, logs, now, traces};
use homeostat_tests::world::latency_model;

const CONFIG: &str = "
receivers: { otlp: { protocols: { grpc: { endpoint: 127.0.0.1:0 }, http: { endpoint: 127.0.0.1:0 } } } }
processors:
  tag: {}
  homeostasis: { model: model.yml }
exporters:
  file/json: { of: telemetry, path: telemetry.jsonl }
  file/json_zstd: { of: telemetry, path: json.zst, compression: zstd }
  file/proto: { of: telemetry, path: telemetry.otlp, format: proto }
  file/proto_zstd: { of: telemetry, path: otlp.zst, format: proto, compression: zstd }
service:
  storage: { directory: data }
  telemetry: { metrics: { endpoint: 127.0.0.1:0 } }
  pipelines:
    feedback:
      receivers: [otlp]
      processors: [tag, homeostasis]
      exporters: [file/json, file/json_zstd, file/proto, file/proto_zstd]
";
const RECORDINGS: [&str; 4] = ["telemetry.jsonl", "json.zst", "telemetry.otlp", "otlp.zst"];
const KEYS: usize = 6;

fn key(number: usize) -> String {
    format!("REQ-NFR-REC-{number:03}")
}

/// Uid, requirement and severity: what a deviation is, whenever it was judged.
type Opened = BTreeSet<(String, String, String)>;

/// The deviations that the pipeline opened.
fn opened(folder: &Path) -> Opened {
    let reader = LedgerReader::open(&folder.join("data/ledger")).expect("there is a ledger");
    let entries = reader.read_from(1).map(|item| match item.expect("the ledger can be read") {
        LedgerItem::Entry(entry) => entry.finding,
        LedgerItem::Pruned { .. } | LedgerItem::Gap { .. } => panic!("the ledger is not whole"),
    });
    let detected = entries.filter_map(|finding| match finding {
        Finding::Deviation(one) if one.transition == Transition::Detected => {
            Some((one.uid, one.req_id, one.severity.name().to_owned()))
        }
        _ => None,
    });
    detected.collect()
}

/// The deviations that a replay of the recording opens, and how many records it read.
async fn replayed(folder: &Path, recording: &str) -> (Opened, u64) {
    let arguments = ["replay", "--model", "model.yml", "--format", "json", recording];
    let mut process = Process::spawn("homeostat", command(folder, &arguments));
    let status = process.exit().await;
    let output = process.all_output().await;
    assert_eq!(status.code(), Some(1), "{recording}: something fires\n{output}");
    let line = output.lines().find(|line| line.starts_with('{')).expect("a report");
    let report: serde_json::Value = serde_json::from_str(line).expect("a report is JSON");
    assert_eq!(report["unreadable"]["count"], 0, "{recording}: {report}");
    let text = |value: &serde_json::Value| value.as_str().expect("it is text").to_owned();
    let steps = report["steps"].as_array().expect("steps").iter().map(|step| &step["deviation"]);
    let detected = steps.filter(|deviation| deviation["transition"] == "detected");
    let opened = detected.map(|one| (text(&one["uid"]), text(&one["req_id"]), text(&one["severity"])));
    (opened.collect(), report["records"].as_u64().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_replayed_opens_the_deviations_that_the_pipeline_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    write(path, "model.yml", &latency_model((0..KEYS).map(key), "1h"));
    write(path, "config.yaml", CONFIG);
    let sender = Sender::default();
    let mut sent = 0;
    // The second process goes on with the files of the first, which was killed.
    for round in 0..2 {
        let homeostat = Homeostat::start(path).await;
        let keys = (0..KEYS).filter(|number| number % 2 == round);
        for number in keys.clone() {
            let duration = Duration::from_millis(900);
            let node = ("shop", "Work");
            let body = traces(&Spans { count: 3, req: key(number), node, duration, is_error: false }, now());
            let answer =
                sender.grpc(homeostat.grpc, TRACES.0, "gzip", gzip(&body)).await.expect("it answers");
            assert!(answer.is_ok(), "{answer:?}");
            let body = logs(&key(number), 2, false, now());
            let answer = sender.http(homeostat.http, LOGS.1, "identity", body).await.expect("it answers");
            assert!(answer.is_ok(), "{answer:?}");
            sent += 5;
        }
        let expected: BTreeSet<String> = (0..KEYS).filter(|number| number % 2 <= round).map(key).collect();
        eventually("every key deviates", async || {
            let keys: BTreeSet<String> = opened(path).into_iter().map(|(_, req, _)| req).collect();
            (keys == expected).then_some(())
        })
        .await;
        homeostat.kill();
    }
    let live = opened(path);
    assert_eq!(live.len(), KEYS, "one deviation a key: {live:?}");
    for recording in RECORDINGS {
        assert_eq!(replayed(path, recording).await, (live.clone(), sent), "{recording}");
    }
}

#[tokio::test]
async fn settings_of_telemetry_on_a_file_of_findings_are_a_mistake_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "model.yml", &latency_model([key(0)], "1h"));
    write(
        folder.path(),
        "config.yaml",
        &CONFIG.replace("of: telemetry, path: telemetry.otlp", "path: x.otlp"),
    );
    let mut process =
        Process::spawn("homeostat", command(folder.path(), &["validate", "--config", "config.yaml"]));
    assert_eq!(process.exit().await.code(), Some(1));
    let output = process.all_output().await;
    assert!(output.contains("config.yaml:9:") && output.contains("add `of: telemetry`"), "{output}");
}
