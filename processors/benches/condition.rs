//! What one rule costs when windows close: the columns are built once, then each rule is evaluated over its subjects.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use homeostat_processors::homeostasis::condition::{Facts, Subjects};
use homeostat_processors::homeostasis::model::Model;

const MODEL: &str = include_str!("../../config/homeostasis_model.yml");

fn condition(criterion: &mut Criterion) {
    let node = homeostat_config::parse("homeostasis_model.yml", MODEL).expect("the shipped model is YAML");
    let (model, _) = Model::read(&node, &Model::hash_of(MODEL)).expect("the shipped model loads");
    let login = &model.requirements["REQ-NFR-PERF-001"];
    let expected = &login.expectations["p95_latency_ms"];
    let threshold = &login.rules[0].condition;
    let baseline = &login.rules[2].condition;
    let mut group = criterion.benchmark_group("condition");
    for subjects in [1_u32, 100, 10_000] {
        let facts: Vec<Facts<'_>> = (0..subjects)
            .map(|row| Facts {
                value: (row % 10 != 0).then(|| f64::from(row % 1_000)),
                count: 100,
                expected,
                lookbacks: &[],
            })
            .collect();
        group.throughput(Throughput::Elements(u64::from(subjects)));
        group.bench_with_input(BenchmarkId::new("columns", subjects), &facts, |bench, facts| {
            bench.iter(|| Subjects::new(black_box(facts)));
        });
        let built = Subjects::new(&facts);
        for (name, condition) in [("threshold", threshold), ("baseline", baseline)] {
            group.bench_with_input(BenchmarkId::new(name, subjects), &built, |bench, built| {
                bench.iter(|| black_box(built).judge(condition, 0..built.len()));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, condition);
criterion_main!(benches);
