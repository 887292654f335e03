//! The same journal gives the same ledger, byte for byte, wherever a process dies that folds it; and the same recording gives the
//! same report, however its records are cut into requests.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt as _;
use homeostat_pipeline::entry::{Entry, Offset};
use homeostat_pipeline::journal::{Journal, Retention};
use homeostat_pipeline::ledger::{LedgerEntry, LedgerItem, LedgerReader};
use homeostat_tests::homeostat::{Homeostat, command, write};
use homeostat_tests::process::Process;
use homeostat_tests::scenario::{Bench, load};
use homeostat_tests::world::latency_model;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

const KILLS: u64 = 20;
/// Processes at the same time.
const WIDTH: usize = 3;
/// Corrections, two models, two severities, points that are differenced.
const SCENARIOS: [&str; 4] = [
    "out_of_order_late_and_corrected",
    "no_data_and_another_model",
    "warning_then_critical",
    "metric_sum_cumulative",
];
const CONFIG: &str = "
receivers: { otlp: { protocols: { grpc: { endpoint: 127.0.0.1:0 }, http: { endpoint: 127.0.0.1:0 } } } }
processors:
  tag: {}
  homeostasis: { model: model.yml }
exporters:
  file: { path: findings.jsonl }
service:
  # The scenarios are years old: nothing is to be forgotten for that.
  storage: { directory: data, keep_behaviors: 30000d }
  telemetry: { metrics: { endpoint: 127.0.0.1:0 } }
  pipelines: { feedback: { receivers: [otlp], processors: [tag, homeostasis], exporters: [file] } }
";

/// A journal on disk and nothing else: no checkpoint, no ledger.
struct Recorded {
    model: String,
    entries: Vec<Entry>,
}

impl Recorded {
    async fn of(name: &str) -> Recorded {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scenarios/{name}.yaml"));
        let scenario = load(&path).unwrap_or_else(|error| panic!("{error:#}"));
        let bench = Bench::open(scenario.model()).await.unwrap_or_else(|error| panic!("{error:#}"));
        let entries = bench.journal(&scenario).unwrap_or_else(|error| panic!("{error:#}"));
        Recorded { model: scenario.model().to_owned(), entries }
    }

    fn write(&self, folder: &Path) {
        write(folder, "model.yml", &self.model);
        write(folder, "config.yaml", CONFIG);
        let day = Duration::from_secs(86_400);
        let retention = Retention { age_max: day * 30_000, bytes_max: 1 << 30, free_bytes_min: 0 };
        let journal = Journal::open(&folder.join("data/journal"), retention);
        let (mut journal, _) = journal.expect("the folder is new");
        for entry in &self.entries {
            let logged = journal.append(&entry.event, entry.time).expect("the disk takes it");
            assert_eq!((logged.offset, logged.time), (entry.offset, entry.time));
        }
        journal.sync().expect("the disk takes it");
    }

    /// What the ledger holds of the journal's entries; what came of the process's own ticks is of another day.
    fn found(&self, folder: &Path) -> Vec<LedgerEntry> {
        let end = Offset(self.entries.len() as u64);
        let reader = LedgerReader::open(&folder.join("data/ledger")).expect("there is a ledger");
        let entries = reader.read_from(1).map(|item| match item.expect("the ledger can be read") {
            LedgerItem::Entry(entry) => *entry,
            LedgerItem::Pruned { .. } | LedgerItem::Gap { .. } => panic!("the ledger is not whole"),
        });
        entries.take_while(|entry| entry.cause < end).collect()
    }

    /// Folds the journal in a process that dies at `points`, one after the other, and in one that lives.
    async fn fold(&self, points: &[String]) -> Vec<LedgerEntry> {
        let folder = tempfile::tempdir().expect("a folder");
        self.write(folder.path());
        for point in points {
            let mut run = command(folder.path(), &["run", "--config", "config.yaml"]);
            run.env("HOMEOSTAT_CRASH_AT", point);
            let mut process = Process::spawn("homeostat", run);
            let status = process.exit().await;
            assert_eq!(status.code(), None, "it dies at {point}: {status}\n{}", process.output());
        }
        let homeostat = Homeostat::start(folder.path()).await;
        homeostat.is_ready().await;
        homeostat.kill();
        self.found(folder.path())
    }
}

/// Where a process dies, by the seed: at some entry of the journal, or around some write of what came of it.
fn point(dice: &mut SmallRng, entries: usize, writes: usize) -> String {
    match dice.random_range(0..8) {
        0 => format!("ledger.appended:{}", dice.random_range(1..=writes)),
        1 => format!("fold.before_ledger:{}", dice.random_range(1..=writes)),
        2 => "checkpoint.before_commit".to_owned(),
        3 => "checkpoint.after_commit".to_owned(),
        _ => format!("recovery.replaying:{}", dice.random_range(1..=entries)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_folded_twenty_times_with_a_kill_in_between_gives_the_same_ledger() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut dice = SmallRng::seed_from_u64(seed);
    let mut whole = Vec::new();
    for name in SCENARIOS {
        let recorded = Recorded::of(name).await;
        let expected = recorded.fold(&[]).await;
        assert!(expected.iter().any(|entry| entry.kind == "deviation_detected"), "{name}: {expected:?}");
        whole.push((name, recorded, expected));
    }
    let kills: Vec<(usize, String)> = (0..KILLS)
        .map(|number| {
            let at = number as usize % whole.len();
            let (_, recorded, expected) = &whole[at];
            let mut causes: Vec<Offset> = expected.iter().map(|entry| entry.cause).collect();
            causes.dedup();
            (at, point(&mut dice, recorded.entries.len(), causes.len()))
        })
        .collect();
    let runs = kills.into_iter().map(async |(at, point)| {
        let (name, recorded, expected) = &whole[at];
        let found = recorded.fold(std::slice::from_ref(&point)).await;
        // The hash covers the body and all that came before it.
        assert_eq!(&found, expected, "{name} with a kill at {point}, seed {seed}");
    });
    futures::stream::iter(runs).buffer_unordered(WIDTH).collect::<Vec<()>>().await;
}

/// Thirty-five minutes of two spans a second, out of order by up to twenty seconds; for ten minutes they are slow.
fn spans() -> Vec<Span> {
    const START_NANOS: u64 = 1_767_571_200_000_000_000;
    let value = |number: u64| format!("REQ-NFR-CUT-{:03}", number % 3);
    (0..4_200_u64)
        .map(|number| {
            let millis = (number * 500).saturating_sub((number * 7_919) % 20_000);
            let took = if (600_000..1_200_000).contains(&millis) { 900 } else { 100 };
            let end = START_NANOS + millis * 1_000_000;
            let value = Some(AnyValue { value: Some(Value::StringValue(value(number))) });
            Span {
                trace_id: (u128::from(number) + 1).to_be_bytes().to_vec(),
                span_id: (number + 1).to_be_bytes().to_vec(),
                name: "POST /login".to_owned(),
                kind: 2,
                start_time_unix_nano: end - took * 1_000_000,
                end_time_unix_nano: end,
                attributes: vec![KeyValue { key: "req".to_owned(), value, ..KeyValue::default() }],
                ..Span::default()
            }
        })
        .collect()
}

fn framed(spans: &[Span], per_request: usize) -> Vec<u8> {
    let request = |spans: &[Span]| {
        let scope_spans = vec![ScopeSpans { spans: spans.to_vec(), ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        [&u32::try_from(body.len()).expect("short").to_be_bytes()[..], &body].concat()
    };
    spans.chunks(per_request).flat_map(request).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_cut_into_requests_of_any_size_gives_the_same_deviations() {
    let folder = tempfile::tempdir().expect("a folder");
    let spans = spans();
    let keys = (0..3).map(|number| format!("REQ-NFR-CUT-{number:03}"));
    write(folder.path(), "model.yml", &latency_model(keys, "1m").replace("500ms", "25s"));
    let mut reports = Vec::new();
    for size in [1, 7, 1_000] {
        std::fs::write(folder.path().join("recording"), framed(&spans, size)).expect("written");
        let arguments = ["replay", "--model", "model.yml", "--format", "json", "recording"];
        let mut process = Process::spawn("homeostat", command(folder.path(), &arguments));
        let status = process.exit().await;
        let output = process.all_output().await;
        assert_eq!(status.code(), Some(1), "something fires\n{output}");
        let line = output.lines().find(|line| line.starts_with('{')).expect("a report");
        let mut report: serde_json::Value = serde_json::from_str(line).expect("a report is JSON");
        let messages = report["messages"].take().as_u64();
        assert_eq!(messages, Some(spans.len().div_ceil(size) as u64));
        reports.push((size, report));
    }
    let steps = reports[0].1["steps"].as_array().expect("steps").len();
    assert!(steps >= 6, "three deviations open and end: {steps}");
    for (size, report) in &reports[1..] {
        assert_eq!(*report, reports[0].1, "{size} records a request");
    }
}
