//! Recordings of a login that is slow for a while.

use std::path::Path;
use std::time::Duration;

use homeostat_pipeline::finding::Transition;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

use super::*;

const START_NANOS: u64 = 1_767_571_200_000_000_000;

/// Two spans a second for fifty minutes, out of order by up to twenty seconds; from the 15th to the 30th minute they take 900 ms.
fn spans() -> Vec<Span> {
    (0..6_000_u64)
        .map(|number| {
            let millis = (number * 500).saturating_sub((number * 7_919) % 20_000);
            let took = if (900_000..1_800_000).contains(&millis) { 900 } else { 100 };
            let end = START_NANOS + millis * 1_000_000;
            let req = if number % 100 == 0 { "REQ-NOBODY-007" } else { "REQ-NFR-PERF-001" };
            let value = Some(AnyValue { value: Some(Value::StringValue(req.to_owned())) });
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

fn model(folder: &Path, name: &str, text: &str) -> ModelFile {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    ModelFile::read(&path, None, None).unwrap_or_else(|error| panic!("{error:#}"))
}

fn run(recordings: &[Vec<u8>], is_merged: bool, models: &[&str]) -> (Read, Vec<Side>) {
    run_on(1, recordings, is_merged, models)
}

fn run_on(threads: usize, recordings: &[Vec<u8>], is_merged: bool, models: &[&str]) -> (Read, Vec<Side>) {
    let folder = tempfile::tempdir().expect("a folder");
    let side = |(number, text): (usize, &&str)| {
        Side::new(model(folder.path(), &format!("{number}.yml"), text), Duration::ZERO).expect("it opens")
    };
    let mut sides: Vec<Side> = models.iter().enumerate().map(side).collect();
    let paths: Vec<PathBuf> =
        (0..recordings.len()).map(|number| folder.path().join(number.to_string())).collect();
    for (path, bytes) in paths.iter().zip(recordings) {
        std::fs::write(path, bytes).expect("written");
    }
    let read =
        replay(&paths, None, is_merged, threads, &mut sides).unwrap_or_else(|error| panic!("{error:#}"));
    (read, sides)
}

/// The report without what depends on how records are cut into requests, and on the folder of the model.
fn told(read: &Read, side: &Side) -> serde_json::Value {
    let mut told = report::json(read, side);
    let all = told.as_object_mut().expect("a report");
    all.remove("messages");
    all.remove("model");
    told
}

#[test]
fn the_same_recording_in_requests_of_any_size_gives_the_same_report() {
    let spans = spans();
    let (read, sides) = run(&[framed(&spans, 1)], false, &[homeostat_config::MODEL]);
    let whole = told(&read, &sides[0]);
    let transitions: Vec<Transition> =
        sides[0].rehearsal.steps.iter().map(|(_, deviation)| deviation.transition).collect();
    assert!(
        transitions.contains(&Transition::Detected) && transitions.contains(&Transition::Resolved),
        "{transitions:?}"
    );
    for size in [7, 1_000, 6_000] {
        let (read, sides) = run(&[framed(&spans, size)], false, &[homeostat_config::MODEL]);
        assert_eq!(told(&read, &sides[0]), whole, "{size} records a request");
    }
    assert_eq!(whole["unrouted"]["REQ-NOBODY-007"], 60);
    assert_eq!(whole["fired"], true);
}

#[test]
fn however_many_threads_read_the_report_is_the_same() {
    let spans = spans();
    let mut torn = framed(&spans[3_000..], 3);
    // A frame that is no OTLP stands in between, and keeps its place.
    torn.splice(0..0, [0, 0, 0, 3, 0xff, 0xff, 0xff]);
    let recordings = [framed(&spans[..3_000], 3), torn];
    let (read, sides) = run_on(1, &recordings, false, &[homeostat_config::MODEL]);
    let whole = told(&read, &sides[0]);
    assert_eq!((read.records, read.unreadable), (6_000, 1));
    assert!(read.examples[0].contains("frame 1: it is no OTLP request"), "{:?}", read.examples);
    for threads in [2, 3, 8] {
        let (read, sides) = run_on(threads, &recordings, false, &[homeostat_config::MODEL]);
        let told = told(&read, &sides[0]);
        assert_eq!(without_examples(&told), without_examples(&whole), "{threads} threads");
    }
    // A file that breaks off fails the whole, after what came before it.
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("0"), &recordings[0][..1_000]).expect("written");
    for threads in [1, 4] {
        let side = Side::new(model(folder.path(), "model.yml", homeostat_config::MODEL), Duration::ZERO);
        let mut sides = [side.expect("it opens")];
        let error = replay(&[folder.path().join("0")], None, false, threads, &mut sides).map(|_| ());
        assert!(error.expect_err("it is torn").to_string().contains("cannot read on"), "{threads} threads");
    }
}

/// The examples name the folder.
fn without_examples(told: &serde_json::Value) -> serde_json::Value {
    let mut told = told.clone();
    told["unreadable"]["first"].take();
    told
}

#[test]
fn halves_of_a_recording_merged_by_time_are_the_whole() {
    let spans = spans();
    let (read, sides) = run(&[framed(&spans, 1)], false, &[homeostat_config::MODEL]);
    let whole = told(&read, &sides[0]);
    let half = |odd: usize| -> Vec<Span> { spans.iter().skip(odd).step_by(2).cloned().collect() };
    let halves = [framed(&half(0), 3), framed(&half(1), 5)];
    let (read, sides) = run(&halves, true, &[homeostat_config::MODEL]);
    assert_eq!(
        told(&read, &sides[0])["steps"].as_array().map(Vec::len),
        whole["steps"].as_array().map(Vec::len)
    );
    assert_eq!(told(&read, &sides[0])["observations"], whole["observations"]);
    // One after the other the second half is late by up to fifty minutes.
    let (read, sides) = run(&halves, false, &[homeostat_config::MODEL]);
    assert_ne!(told(&read, &sides[0])["observations"], whole["observations"]);
}

#[test]
fn why_not_is_counted_per_rule() {
    let text = "
homeostasis_model:
  requirements:
    REQ-NFR-PERF-001:
      thresholds: { p95_latency_ms: { critical: 500 } }
      deviation_rules:
        - { id: long, metric: p95_latency_ms, condition: value > threshold.critical, for: 30m, severity: critical }
        - { id: learned, metric: p95_latency_ms, condition: value > baseline * 2, severity: warning }
    REQ-F-SILENT-001:
      thresholds: { error_rate: { critical: 0.1 } }
      deviation_rules: [{ id: silent, condition: value > threshold.critical, severity: critical }]
";
    let (_, sides) = run(&[framed(&spans(), 50)], false, &[text]);
    let rule = |id: &str| {
        let found = sides[0].rules.all.iter().find(|((_, _, rule), _)| rule == id);
        found.map(|(_, tally)| tally.clone()).expect("the rule is told of")
    };
    let long = rule("long");
    assert_eq!((long.windows, long.fired, long.never_served, long.subjects), (10, 0, 1, 1), "{long:?}");
    assert_eq!((long.violated, long.held), (3, 7), "{long:?}");
    let learned = rule("learned");
    assert_eq!(learned.unknown.get("no baseline"), Some(&10), "{learned:?}");
    assert_eq!(rule("silent").windows, 0);
    assert!(!report::fired(&sides[0]));
}

#[test]
fn two_models_differ_by_the_steps_that_only_one_takes() {
    let stricter = homeostat_config::MODEL
        .replace("critical: 500", "critical: 5000")
        .replace("critical: 800", "critical: 8000");
    let (_, sides) = run(&[framed(&spans(), 50)], false, &[homeostat_config::MODEL, &stricter]);
    let (gone, new) = report::difference(&sides[0], &sides[1]);
    assert!(gone.iter().any(|step| step.contains("critical")), "{gone:?}");
    assert!(!new.iter().any(|step| step.contains("detected critical")), "{new:?}");
    let same = homeostat_config::MODEL;
    let (_, sides) = run(&[framed(&spans(), 50)], false, &[same, same]);
    assert_eq!(report::difference(&sides[0], &sides[1]), (Vec::new(), Vec::new()));
}
