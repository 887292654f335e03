//! A data directory in which a login was slow, without the process that wrote it.

use std::time::Duration;

use homeostat_pipeline::batch::{RequestHash, Signal};
use homeostat_pipeline::entry::{Epoch, EvidenceEvent, Request};
use homeostat_pipeline::evidence::schema;
use homeostat_pipeline::journal::{Journal, Retention};
use homeostat_pipeline::ledger::Ledger;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

use super::*;
use crate::rehearsal::{ModelFile, Rehearsal};

const START_MILLIS: i64 = 1_767_571_200_000;

fn at(minute: u64) -> Timestamp {
    Timestamp::from_millis(START_MILLIS) + Duration::from_secs(minute * 60)
}

fn body(count: u64, millis: u64, req: &str, end: Timestamp) -> bytes::Bytes {
    let end = u64::try_from(end.as_nanos()).expect("after 1970");
    let value = Some(AnyValue { value: Some(Value::StringValue(req.to_owned())) });
    let span = |number: u64| Span {
        trace_id: (u128::from(end) << 8 | u128::from(number + 1)).to_be_bytes().to_vec(),
        span_id: (number + 1).to_be_bytes().to_vec(),
        name: "login".to_owned(),
        kind: 2,
        start_time_unix_nano: end - millis * 1_000_000,
        end_time_unix_nano: end,
        attributes: vec![KeyValue { key: "req".to_owned(), value: value.clone(), ..KeyValue::default() }],
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: (0..count).map(span).collect(), ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

/// Ten minutes at 100 ms, then at 900 ms; from the 20th on one span a minute. Each request comes twice and is folded once.
fn events(model: &ModelFile) -> Vec<(Timestamp, Event)> {
    let rehearsal = Rehearsal::open(model, Vec::new()).expect("it opens");
    let epoch = Epoch {
        component: "homeostasis/main".to_owned(),
        hash: model.model.hash.clone(),
        content: homeostat_config::MODEL.to_owned(),
    };
    let mut events = vec![(at(0), Event::Epoch(epoch))];
    for minute in 0..30_u64 {
        let (count, millis) = match minute {
            0..10 => (30, 100),
            10..20 => (30, 900),
            _ => (1, 900),
        };
        let now = at(minute);
        let request = body(count, millis, "REQ-NFR-PERF-001", now);
        for (number, body) in [request.clone(), request, body(1, 1, "REQ-X-007", now)].into_iter().enumerate()
        {
            let rows = rehearsal.tag(Signal::Traces, body).expect("it is OTLP");
            let hash = [u8::try_from(minute).expect("small"), u8::from(number == 2), 1, 1].repeat(4);
            let hash = RequestHash(hash.try_into().expect("16 bytes"));
            let requests = vec![Request { hash, rows: u32::try_from(rows.len()).expect("few") }];
            let batch = schema::build(&[&rows]).expect("rows are columns");
            events.push((now, Event::Evidence(EvidenceEvent { requests, batch })));
        }
        events.extend((0..6).map(|tick| (now + Duration::from_secs(tick * 10), Event::Tick)));
    }
    events
}

/// A data directory with these events and what comes of them.
fn directory() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.yml");
    std::fs::write(&path, homeostat_config::MODEL).expect("written");
    let model = ModelFile::read(&path, None, None).expect("the model is right");
    let retention = Retention { age_max: Duration::from_secs(86_400), bytes_max: 1 << 30, free_bytes_min: 0 };
    let (mut journal, _) = Journal::open(&folder.path().join("journal"), retention).expect("it opens");
    for (time, event) in events(&model) {
        journal.append(&event, time).expect("written");
    }
    journal.sync().expect("synced");
    drop(journal);
    let found = Found::default();
    let keeper =
        Keeper { fold: Shared { fold: Arc::default(), subjects_max: 100_000 }, found: Arc::clone(&found) };
    refold(folder.path(), Box::new(keeper), &mut |_| true).expect("it folds");
    let (mut ledger, _) = Ledger::open(&folder.path().join("ledger")).expect("it opens");
    for (time, offset, findings) in found.lock().expect("alone").drain(..) {
        ledger.append(&findings, time, offset).expect("written");
    }
    folder
}

type Found = Arc<Mutex<Vec<(Timestamp, homeostat_pipeline::entry::Offset, Vec<Finding>)>>>;

/// Keeps what the fold finds, as the engine would.
struct Keeper {
    fold: Shared,
    found: Found,
}

impl Analyzer for Keeper {
    fn apply(&mut self, entry: &Entry, out: &mut Vec<Finding>) {
        let before = out.len();
        self.fold.apply(entry, out);
        let found = out[before..].to_vec();
        if !found.is_empty() {
            self.found.lock().expect("alone").push((entry.time, entry.offset, found));
        }
    }
    fn checkpoint(&mut self, _: &mut dyn KeyedState) -> anyhow::Result<()> {
        Ok(())
    }
    fn restore(&mut self, _: &dyn KeyedState) -> anyhow::Result<()> {
        Ok(())
    }
}

fn told(past: &Past, req: &str, minute: u64) -> String {
    let mut lines = reasons(req, at(minute), past, &BTreeMap::new());
    if let Some(account) = past.accounts.iter().rev().find(|account| account.measure == "p95_latency_ms") {
        lines.extend(why::lines(account));
    }
    lines.join("\n")
}

fn check(folder: &Path, req: &str, minute: u64, expected: &[&str]) {
    let past = past((folder, 100_000), req, at(minute)).expect("it folds");
    let told = told(&past, req, minute);
    for words in expected {
        assert!(told.contains(words), "at {minute}: `{words}` is not in:\n{told}");
    }
}

#[test]
fn why_nothing_fired_is_told_with_the_numbers_of_the_time() {
    let folder = directory();
    let folder = folder.path();
    check(folder, "REQ-NFR-PERF-001", 3, &["evidence: ", "no window with a value", "lateness"]);
    check(folder, "REQ-NFR-PERF-001", 8, &["100 ms of 150 samples", "is false", "threshold.critical 500"]);
    check(folder, "REQ-NFR-PERF-001", 28, &["unknown of 5 samples", "unknown: 5 samples, 20 are needed"]);
    check(folder, "REQ-F-AUTH-001", 8, &["no evidence", "REQ-NFR-PERF-001 (", "REQ-X-007 ("]);
    check(folder, "REQ-NFR-PERF-002", 8, &["has no requirement", "did you mean \"REQ-NFR-PERF-001\"?"]);
}

#[test]
fn a_deviation_is_told_with_the_windows_that_made_it() {
    let folder = directory();
    let steps = recorded(folder.path(), |_| true).expect("the ledger is there");
    let slow = |(_, step): &&(Timestamp, Deviation)| step.metric_name == "p95_latency_ms";
    let (_, first) = steps.iter().find(slow).expect("the login was slow");
    assert_eq!((first.req_id.as_str(), first.severity.name()), ("REQ-NFR-PERF-001", "critical"));
    let past = past((folder.path(), 100_000), &first.req_id, at(30)).expect("it folds");
    let is_it = |account: &&Account| {
        account.measure == first.metric_name
            && (account.start, account.end) == (first.window.start, first.window.end)
    };
    let account = past.accounts.iter().find(is_it).expect("its window was judged");
    assert_eq!((account.value, account.samples), (first.current_value, first.window.samples));
    assert!(account.rules.iter().any(|rule| rule.id == first.rule.id && rule.fires), "{account:?}");
    let arguments = |deviation: &str, format| cli::Explain {
        subjects_max: 100_000,
        deviation: Some(deviation.to_owned()),
        not: None,
        at: None,
        directory: folder.path().to_owned(),
        format,
    };
    assert_eq!(command(&arguments(&first.uid, Format::Text)).expect("it is there"), GOOD);
    assert_eq!(command(&arguments(&first.deviation_id, Format::Json)).expect("it is there"), GOOD);
    let error = command(&arguments("DEV-20260105-999", Format::Text)).expect_err("it is not there");
    assert!(error.to_string().contains("has no deviation"), "{error}");
}
