//! From rows to columns: what one commit costs the journal's writer, by how many rows it holds.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::evidence::{Blob, Correlation, Kind, Method, Row, Rows, Text, kept, schema};

/// The rows of a request as `tag` makes them: texts of the resource once, texts of the record each time.
fn rows(count: u32) -> Rows {
    let mut rows = Rows::new();
    let [service, environment, context, flow, node, source] =
        ["checkout", "production", "cart", "AddItem", "sea:cart:AddItem", "otlp"]
            .map(|text| rows.intern(text));
    for number in 0..count {
        let noise = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let req = rows.intern(&format!("REQ-NFR-PERF-{:03}", noise % 7));
        let name = rows.intern(&format!("POST /api/v1/cart/{}", noise % 97));
        let unit = rows.intern("ns");
        let mut trace_id = [0; 16];
        trace_id[..8].copy_from_slice(&noise.to_be_bytes());
        rows.push(Row {
            time: Timestamp::from_millis(1_700_000_000_000 + i64::from(number)),
            signal: Signal::Traces,
            is_primary: true,
            is_error: noise.is_multiple_of(50),
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
            service,
            environment,
            name,
            measure: Text::NONE,
            value: (noise % 90_000_000) as f64,
            unit,
            count: 1,
            sketch: Blob::NONE,
            trace_id,
            span_id: noise.to_be_bytes(),
            spec_node: node,
            confidence: 1.0,
            status: Correlation::Matched,
            method: Method::Attribute,
            labels: Text::NONE,
            source,
        });
    }
    rows
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("evidence/build");
    for count in [1, 100, 10_000] {
        let rows = rows(count);
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_with_input(BenchmarkId::from_parameter(count), &rows, |bencher, rows| {
            bencher.iter(|| schema::build(black_box(&[rows])));
        });
    }
    group.finish();
}

/// What the journal does to a batch before it writes it, and back.
fn keep(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("evidence/keep");
    for count in [100, 10_000] {
        let batch = schema::build(&[&rows(count)]).expect("rows of the schema");
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_with_input(BenchmarkId::new("shorten", count), &batch, |bencher, batch| {
            bencher.iter(|| kept::shorten(black_box(batch)));
        });
        let short = kept::shorten(&batch).expect("rows of the schema");
        group.bench_with_input(BenchmarkId::new("complete", count), &short, |bencher, short| {
            bencher.iter(|| kept::complete(black_box(short.clone())));
        });
    }
    group.finish();
}

criterion_group!(benches, build, keep);
criterion_main!(benches);
