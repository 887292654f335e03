//! What durability costs: a group commit, a ledger append, a checkpoint.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use homeostat_pipeline::checkpoint::{Checkpoints, KeyedState as _, Position};
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::entry::Offset;
use homeostat_pipeline::finding::{Finding, Notice};
use homeostat_pipeline::ledger::{Head, Ledger};
use homeostat_pipeline::log::{Log, Options};

const OPTIONS: Options =
    Options { name: "bench", segment_bytes: 32 << 20, first: 0, partition: 0, synced: None, is_cached: true };

fn group_commits(c: &mut Criterion) {
    let mut group = c.benchmark_group("log");
    group.sample_size(20);
    for (name, frames, bytes) in
        [("64 x 1 KiB, one sync", 64, 1 << 10), ("1 x 64 KiB, one sync", 1, 64 << 10)]
    {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut log, _) = Log::open(dir.path(), OPTIONS).expect("opens");
        let payload = vec![7_u8; bytes];
        group.throughput(Throughput::Bytes((frames * bytes) as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                for _ in 0..frames {
                    log.append(&[&payload]).expect("taken");
                }
                log.sync().expect("durable");
                let next = log.next();
                log.trim_before(next).expect("trimmed");
            });
        });
    }
    group.bench_function("append 1 KiB, no sync", |b| {
        let mut log = Log::memory(0, homeostat_pipeline::log::Limits { frames: 1000, bytes: 1 << 20 });
        let payload = [7_u8; 1 << 10];
        b.iter(|| {
            log.append(&[black_box(&payload)]).expect("taken");
            log.flush().expect("visible");
        });
    });
    group.finish();
}

fn ledger(c: &mut Criterion) {
    let mut group = c.benchmark_group("ledger");
    group.sample_size(20);
    let finding = Finding::Notice(Notice {
        kind: "journal_gap".to_owned(),
        at: Timestamp::ZERO,
        message: "a finding of the usual size".repeat(40),
    });
    let dir = tempfile::tempdir().expect("a folder");
    let (mut on_disk, _) = Ledger::open(dir.path()).expect("opens");
    group.bench_function("append and sync one finding", |b| {
        b.iter(|| {
            on_disk.append(std::slice::from_ref(&finding), Timestamp::ZERO, Offset(1)).expect("appended")
        });
    });
    let mut in_memory = Ledger::memory();
    group.bench_function("canonical body, hashes, one finding", |b| {
        b.iter(|| {
            in_memory.append(std::slice::from_ref(&finding), Timestamp::ZERO, Offset(1)).expect("appended")
        });
    });
    group.finish();
}

fn checkpoints(c: &mut Criterion) {
    let mut group = c.benchmark_group("checkpoint");
    group.sample_size(10);
    for keys in [100_u64, 10_000] {
        let dir = tempfile::tempdir().expect("a folder");
        let (store, _) = Checkpoints::open(&dir.path().join("checkpoint.redb")).expect("opens");
        group.throughput(Throughput::Elements(keys));
        group.bench_function(format!("{keys} keys of 200 bytes"), |b| {
            b.iter_batched(
                || [7_u8; 200],
                |value| {
                    let mut transaction = store.begin().expect("begun");
                    {
                        let mut state = transaction.state("homeostasis").expect("a part");
                        for key in 0..keys {
                            state.put(&key.to_be_bytes(), &value).expect("written");
                        }
                    }
                    transaction
                        .commit(Position { next: Offset(1), ledger: Head::default() })
                        .expect("committed");
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, group_commits, ledger, checkpoints);
criterion_main!(benches);
