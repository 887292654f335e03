//! What a running homeostat says of itself: its metrics by name, and a reason for everything that it did not process.

mod audit;
mod traces;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use homeostat_tests::backend::Backend;
use homeostat_tests::client::{LOGS, Sender, TRACES, get};
use homeostat_tests::homeostat::{Homeostat, write};
use homeostat_tests::process::eventually;
use homeostat_tests::telemetry::{Spans, logs, now, traces};
use homeostat_tests::world::latency_model;
use serde_json::Value;

const KNOWN: &str = "REQ-NFR-PERF-001";
const DAY: u64 = 86_400_000_000_000;
const HOUR: u64 = 3_600_000_000_000;

fn spans(count: usize, req: &str, end: u64) -> Bytes {
    let (req, duration) = (req.to_owned(), Duration::from_millis(10));
    traces(&Spans { count, req, node: ("", ""), duration, is_error: false }, end)
}

/// What [`send`] leaves out, by place and reason.
const STRUCK: [(&str, f64); 11] = [
    ("exporter/unavailable", 6.0),
    ("fold/ahead", 4.0),
    ("fold/late", 5.0),
    ("fold/repeat", 1.0),
    ("fold/unwanted", 3.0),
    ("receiver/malformed", 1.0),
    ("receiver/refused", 6.0),
    ("receiver/too_large", 1.0),
    ("receiver/unavailable", 1.0),
    ("receiver/unknown", 1.0),
    ("receiver/unsupported", 1.0),
];

async fn started(folder: &Path, backend: &Backend) -> Homeostat {
    write(folder, "model.yml", &latency_model([KNOWN.to_owned()], "2s"));
    let configuration = format!(
        r#"
receivers:
  otlp: {{ protocols: {{ grpc: {{ endpoint: 127.0.0.1:0 }}, http: {{ endpoint: 127.0.0.1:0 }} }} }}
processors: {{ tag: {{}}, homeostasis: {{ model: model.yml }} }}
exporters:
  otlp/backend: {{ endpoint: "http://{}", timeout: 1s }}
  file: {{ path: findings.jsonl }}
service:
  storage: {{ directory: data }}
  telemetry: {{ metrics: {{ endpoint: 127.0.0.1:0 }} }}
  pipelines:
    feedback: {{ receivers: [otlp], processors: [tag, homeostasis], exporters: [otlp/backend, file] }}
"#,
        backend.address
    );
    write(folder, "config.yaml", &configuration);
    let homeostat = Homeostat::start(folder).await;
    homeostat.is_ready().await;
    homeostat
}

/// A load with something of everything; says how many spans and log records it holds.
async fn send(homeostat: &Homeostat, backend: &Backend) -> f64 {
    let sender = Sender::default();
    let repeated = spans(20, KNOWN, now());
    for (body, is_taken) in [
        (spans(7, "", now()), true),
        (repeated.clone(), true),
        (repeated, true),
        (spans(5, KNOWN, now() - DAY), true),
        (spans(4, KNOWN, now() + HOUR), true),
        (spans(3, "REQ-NFR-OTHER-009", now()), true),
        (Bytes::from_static(b"\xff\xff\xff"), false),
        (Bytes::from(vec![0; (4 << 20) + 1]), false),
    ] {
        let answer = sender.grpc(homeostat.grpc, TRACES.0, "identity", body).await.expect("it answers");
        assert_eq!(answer.is_ok(), is_taken, "{answer:?}");
    }
    let body = logs(KNOWN, 2, false, now());
    assert!(sender.http(homeostat.http, LOGS.1, "identity", body).await.expect("it answers").is_ok());
    for (path, encoding) in [("/v1/nowhere", "identity"), (TRACES.1, "br")] {
        let answer = sender.http(homeostat.http, path, encoding, spans(1, "", now())).await;
        assert!(!answer.expect("it answers").is_ok());
    }
    backend.refuse(true);
    let refused = sender.http(homeostat.http, TRACES.1, "identity", spans(6, "", now())).await;
    let refused = refused.expect("it answers");
    assert_eq!((refused.status, refused.has_retry), (503, true));
    let told = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(told.contains("otlp/backend") && !told.contains(&backend.address.to_string()), "{told}");
    backend.refuse(false);
    7.0 + 20.0 + 20.0 + 5.0 + 4.0 + 3.0 + 2.0 + 6.0
}

async fn drops(homeostat: &Homeostat) -> BTreeMap<String, Value> {
    let (status, text) = get(homeostat.admin, "/debug/drops?format=json").await;
    assert_eq!(status, 200, "{text}");
    let page: Value = serde_json::from_str(&text).expect("JSON");
    let lines = page["drops"].as_array().expect("a list").clone();
    lines
        .into_iter()
        .map(|line| {
            let name = |key: &str| line[key].as_str().expect("a name").to_owned();
            (format!("{}/{}", name("place"), name("reason")), line)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_was_processed_or_has_a_reason_and_every_metric_is_known() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let backend = Backend::start().await;
    let homeostat = started(folder.path(), &backend).await;
    let sent = send(&homeostat, &backend).await;
    eventually("everything is folded, judged and in a checkpoint", async || {
        let folded = homeostat.metric("homeostat_fold_evidence_rows_total").await;
        let journalled = homeostat.metric("homeostat_journal_rows_total").await;
        let judged = homeostat.metric("homeostat_windows_judged_total").await;
        let kept = homeostat.metric("homeostat_fold_checkpoints_total").await;
        (folded + 20.0 == journalled && judged > 0.0 && kept > 0.0).then_some(())
    })
    .await;
    let drops = drops(&homeostat).await;
    let count = |name: &str| drops[name]["count"].as_f64().expect("a number");
    let struck: Vec<(&str, f64)> =
        drops.keys().map(|name| (name.as_str(), count(name))).filter(|(_, count)| *count > 0.0).collect();
    assert_eq!(struck, STRUCK);
    for (name, _) in STRUCK {
        assert!(drops[name]["last"].is_string(), "{}", drops[name]);
    }
    assert_eq!(drops["exporter/unavailable"]["example"].as_str().map(str::len), Some(32));

    let accepted = homeostat.metric("otelcol_receiver_accepted_spans").await
        + homeostat.metric("otelcol_receiver_accepted_log_records").await;
    assert_eq!(accepted + count("receiver/refused"), sent, "what came in");
    let tagged = homeostat.metric("homeostat_tag_rows_total").await;
    let rows = homeostat.metric("homeostat_journal_rows_total").await;
    assert_eq!(tagged, rows, "no evidence was lost before the journal");
    let given = homeostat.metric("homeostat_fold_evidence_rows_total").await;
    let folded = homeostat.metric("homeostat_fold_rows_total").await;
    let left_out: f64 = drops
        .iter()
        .filter(|(name, line)| name.starts_with("fold/") && line["unit"] == "observations")
        .map(|(name, _)| count(name))
        .sum();
    assert_eq!(folded + left_out, given, "what the fold got");

    let (status, text) = get(homeostat.admin, "/debug/drops").await;
    assert!(status == 200 && text.contains("receiver/too_large"), "{text}");
    check_names(&homeostat.metrics().await);
    homeostat.stop().await;
}

/// Name, type and labels of everything on the page, compared with the list; `HOMEOSTAT_UPDATE=1` writes the list anew.
fn check_names(page: &str) {
    let mut kinds = BTreeMap::new();
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name.to_owned(), kind.to_owned());
        } else if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        {
            assert!(!help.trim().is_empty(), "{name} has no help");
            helped.insert(name.to_owned());
        } else if let Some((name, rest)) = line.split_once('{') {
            let rest = rest.rsplit_once('}').map_or("", |(labels, _)| labels);
            let names = rest.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            labels.entry(name.to_owned()).or_default().extend(names.map(ToOwned::to_owned));
        }
    }
    let mut text = String::new();
    for (name, kind) in &kinds {
        assert!(helped.contains(name), "{name} has no HELP line");
        let own = labels.get(name).into_iter().flatten().filter(|label| *label != "quantile");
        let own: Vec<&str> = own.map(String::as_str).collect();
        text.push_str(format!("{name} {kind} {}", own.join(",")).trim_end());
        text.push('\n');
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/metrics.txt");
    if std::env::var_os("HOMEOSTAT_UPDATE").is_some() {
        std::fs::write(&path, &text).expect("the list can be written");
    }
    let known = std::fs::read_to_string(&path).expect("the list is there (HOMEOSTAT_UPDATE=1 writes it)");
    assert_eq!(text, known, "run this test with HOMEOSTAT_UPDATE=1 and review the difference");
}
