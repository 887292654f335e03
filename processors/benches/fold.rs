//! What the fold costs per row of evidence, by how varied the rows are; and what it costs to close a window of many subjects.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use homeostat_pipeline::batch::{RequestHash, Signal};
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::contract::Analyzer;
use homeostat_pipeline::entry::{Entry, Epoch, Event, EvidenceEvent, Offset, Request};
use homeostat_pipeline::evidence::{Blob, Correlation, Kind, Method, Row, Rows, Text, schema};
use homeostat_processors::homeostasis::fold::{Fold, FoldSettings};
use homeostat_processors::homeostasis::model::Model;

const ROWS: u64 = 5_000;
const START: i64 = 1_764_770_400_000_000_000;
const SECOND: i64 = 1_000_000_000;

const MODEL: &str = r#"
homeostasis_model:
  requirements:
    REQ-NFR-PERF-001:
      thresholds: { p95_latency_ms: { target: 250, warning: 400, critical: 500 } }
      deviation_rules:
        - { metric: p95_latency_ms, condition: "value > threshold.critical", severity: critical, group_by: [service.name] }
        - { metric: p95_latency_ms, condition: "value > threshold.warning", severity: warning, group_by: [service.name] }
"#;

/// A number that looks random and is the same every time.
fn mixed(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

/// Rows of `services` services in turn, spread over the last second, with latencies from 1 ms to 1 s.
fn evidence(services: u64) -> Entry {
    let mut rows = Rows::new();
    let (req, ns, context, flow, node) = (
        rows.intern("REQ-NFR-PERF-001"),
        rows.intern("ns"),
        rows.intern("auth"),
        rows.intern("Login"),
        rows.intern("sea:auth:Login"),
    );
    let names: Vec<Text> = (0..services).map(|number| rows.intern(&format!("service-{number}"))).collect();
    for index in 0..ROWS {
        let random = mixed(index);
        let id = random.to_be_bytes();
        let row = Row {
            time: Timestamp::from_nanos(START + (random % 1_000_000_000) as i64),
            signal: Signal::Traces,
            is_primary: true,
            is_error: random.is_multiple_of(100),
            kind: Kind::Server,
            req,
            req_version: Text::NONE,
            also: Text::NONE,
            flow,
            context,
            domain: Text::NONE,
            concept: Text::NONE,
            regime: Text::NONE,
            policy: Text::NONE,
            service: names[(random % services) as usize],
            environment: Text::NONE,
            name: Text::NONE,
            measure: Text::NONE,
            value: 1e6 * 10_f64.powf((random % 3_000) as f64 / 1_000.0),
            unit: ns,
            count: 1,
            sketch: Blob::NONE,
            trace_id: [id, id].concat().try_into().expect("sixteen bytes"),
            span_id: id,
            spec_node: node,
            confidence: 1.0,
            status: Correlation::Matched,
            method: Method::Attribute,
            labels: Text::NONE,
            source: Text::NONE,
        };
        rows.push(row);
    }
    let batch = schema::build(&[&rows]).expect("the rows are in the schema");
    let requests = vec![Request { hash: RequestHash([0; 16]), rows: ROWS as u32 }];
    entry(START + SECOND, Event::Evidence(EvidenceEvent { requests, batch }))
}

fn entry(nanos: i64, event: Event) -> Entry {
    Entry { offset: Offset(0), time: Timestamp::from_nanos(nanos), event }
}

fn fold() -> Fold {
    let mut fold = Fold::new(FoldSettings {
        id: "homeostasis".to_owned(),
        tenant: String::new(),
        subjects_max: 100_000,
        parse: homeostat_config::parse,
    });
    let epoch =
        Epoch { component: "homeostasis".to_owned(), hash: Model::hash_of(MODEL), content: MODEL.to_owned() };
    fold.apply(&entry(START, Event::Epoch(epoch)), &mut Vec::new());
    fold
}

fn rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fold");
    group.throughput(Throughput::Elements(ROWS));
    for services in [1, 50, 1_000] {
        let evidence = evidence(services);
        let mut fold = fold();
        let mut out = Vec::new();
        group.bench_function(format!("rows_of_{services}_subjects"), |bencher| {
            bencher.iter(|| fold.apply(black_box(&evidence), &mut out));
        });
        assert!(out.is_empty(), "evidence alone closes no window");
    }
    group.finish();
}

fn windows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("close");
    for subjects in [10, 1_000] {
        let evidence = evidence(subjects);
        group.throughput(Throughput::Elements(subjects));
        let filled = || {
            let mut fold = fold();
            fold.apply(&evidence, &mut Vec::new());
            fold
        };
        let tick = entry(START + 331 * SECOND, Event::Tick);
        group.bench_function(format!("window_of_{subjects}_subjects"), |bencher| {
            let close = |mut fold: Fold| {
                let mut out = Vec::new();
                fold.apply(&tick, &mut out);
                (fold, out)
            };
            bencher.iter_batched(filled, close, BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, rows, windows);
criterion_main!(benches);
