//! What many subjects cost: memory, rows, ticks, windows that close, checkpoints; and what happens beyond the limit of subjects.
//!
//! `cargo bench --workspace --bench scale [-- SUBJECTS [KEYS]]` prints one table; docs/scale.md keeps the last.
//! Memory is the process's resident set under the allocator that homeostat runs with.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::cast_precision_loss, reason = "measured numbers are far below 2^53")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::time::{Duration, Instant};

use homeostat_pipeline::batch::{RequestHash, Signal};
use homeostat_pipeline::checkpoint::{Checkpoints, Position};
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::contract::Analyzer as _;
use homeostat_pipeline::entry::{Entry, Epoch, Event, EvidenceEvent, Offset, Request};
use homeostat_pipeline::evidence::{Blob, Correlation, Kind, Method, Row, Rows, Text, schema};
use homeostat_pipeline::finding::Finding;
use homeostat_pipeline::ledger::Head;
use homeostat_processors::homeostasis::fold::{Fold, FoldSettings};
use homeostat_processors::homeostasis::model::Model;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SUBJECTS: u64 = 100_000;
const KEYS: u64 = 1_000_000;
/// Rows of one entry, as a busy journal commits them.
const BATCH: u64 = 5_000;
/// Rows of each subject in a window: what `min_samples` wants by default.
const SAMPLES: u64 = 20;
const START: i64 = 1_764_770_400_000_000_000;
const SECOND: i64 = 1_000_000_000;
const WINDOW: i64 = 300 * SECOND;

/// The defaults: windows of five minutes, corrected for fifteen.
const MODEL: &str = r#"
homeostasis_model:
  requirements:
    REQ-NFR-PERF-001:
      thresholds: { p95_latency_ms: { target: 250, warning: 400, critical: 500 } }
      deviation_rules:
        - { metric: p95_latency_ms, condition: "value > threshold.critical", severity: critical, group_by: [service.name, environment] }
        - { metric: p95_latency_ms, condition: "value > threshold.warning", severity: warning, group_by: [service.name, environment] }
"#;

/// A number that looks random and is the same every time.
fn mixed(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

/// A row for each of `subjects`, in the window that starts at `window`; one subject in a hundred is slow.
fn evidence(window: i64, subjects: std::ops::Range<u64>) -> Entry {
    let mut rows = Rows::new();
    let (req, ns, test) = (rows.intern("REQ-NFR-PERF-001"), rows.intern("ns"), rows.intern("production"));
    let count = subjects.end - subjects.start;
    for subject in subjects {
        let random = mixed(subject ^ mixed(window.cast_unsigned()));
        let slow = if subject.is_multiple_of(100) { 20.0 } else { 1.0 };
        let service = rows.intern(&format!("checkout-service-{subject:07}"));
        rows.push(Row {
            time: Timestamp::from_nanos(window + (random % 200_000_000_000).cast_signed()),
            signal: Signal::Traces,
            is_primary: true,
            is_error: random.is_multiple_of(100),
            kind: Kind::Server,
            req,
            req_version: Text::NONE,
            also: Text::NONE,
            flow: Text::NONE,
            context: Text::NONE,
            domain: Text::NONE,
            concept: Text::NONE,
            regime: Text::NONE,
            policy: Text::NONE,
            service,
            environment: test,
            name: Text::NONE,
            measure: Text::NONE,
            value: slow * 5e7 * (1.0 + (random % 1_000) as f64 / 1_000.0),
            unit: ns,
            count: 1,
            sketch: Blob::NONE,
            trace_id: (u128::from(random) + 1).to_be_bytes(),
            span_id: random.to_be_bytes(),
            spec_node: Text::NONE,
            confidence: 1.0,
            status: Correlation::Matched,
            method: Method::Attribute,
            labels: Text::NONE,
            source: Text::NONE,
        });
    }
    let batch = schema::build(&[&rows]).expect("the rows are in the schema");
    let requests = vec![Request { hash: RequestHash([0; 16]), rows: count as u32 }];
    entry(window + 250 * SECOND, Event::Evidence(EvidenceEvent { requests, batch }))
}

fn entry(nanos: i64, event: Event) -> Entry {
    Entry { offset: Offset(0), time: Timestamp::from_nanos(nanos), event }
}

fn fold() -> Fold {
    let mut fold = Fold::new(FoldSettings {
        id: "homeostasis".to_owned(),
        tenant: String::new(),
        subjects_max: SUBJECTS as usize,
        parse: homeostat_config::parse,
    });
    let epoch =
        Epoch { component: "homeostasis".to_owned(), hash: Model::hash_of(MODEL), content: MODEL.to_owned() };
    fold.apply(&entry(START, Event::Epoch(epoch)), &mut Vec::new());
    fold
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is there");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

fn say(what: &str, number: f64, unit: &str) {
    println!("{what:<62} {number:>12.1} {unit}");
}

fn micros(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6
}

/// Applies entries that are made one at a time, so that their memory is not counted; the time is that of the fold alone.
fn apply(fold: &mut Fold, entries: impl Iterator<Item = Entry>, out: &mut Vec<Finding>) -> Duration {
    let mut took = Duration::ZERO;
    for entry in entries {
        let began = Instant::now();
        fold.apply(&entry, out);
        took += began.elapsed();
    }
    took
}

fn batches(window: i64, subjects: u64) -> impl Iterator<Item = Entry> {
    (0..subjects.div_ceil(BATCH))
        .map(move |number| evidence(window, number * BATCH..((number + 1) * BATCH).min(subjects)))
}

fn checkpoint(fold: &mut Fold, store: &Checkpoints) -> Duration {
    let began = Instant::now();
    let mut transaction = store.begin().expect("begun");
    fold.checkpoint(&mut transaction.state("homeostasis").expect("a part")).expect("written");
    transaction.commit(Position { next: Offset(1), ledger: Head::default() }).expect("committed");
    began.elapsed()
}

fn many_subjects(subjects: u64) {
    println!("\n{subjects} subjects, each with {SAMPLES} rows in each window of five minutes\n");
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = Checkpoints::open(&folder.path().join("checkpoint.redb")).expect("opens");
    let mut fold = fold();
    let mut out = Vec::new();
    let before = resident();
    let new = apply(&mut fold, batches(START, subjects), &mut out);
    say("a row of a subject that is new", micros(new) / subjects as f64, "µs");
    let mut again = Duration::ZERO;
    for _ in 1..SAMPLES {
        again += apply(&mut fold, batches(START, subjects), &mut out);
    }
    say("a row of a subject that is known", micros(again) / (subjects * (SAMPLES - 1)) as f64, "µs");
    say("memory of a subject in its first window", (resident() - before) as f64 / subjects as f64, "bytes");
    let idle = apply(&mut fold, (251..=350).map(|second| tick(START, second)), &mut out) / 100;
    say("a tick at which no window closes", micros(idle), "µs");
    say("a checkpoint in which everything is new", checkpoint(&mut fold, &store).as_secs_f64() * 1e3, "ms");
    apply(&mut fold, std::iter::once(evidence(START, 0..1_000)), &mut out);
    say("a checkpoint after rows of 1,000 subjects", checkpoint(&mut fold, &store).as_secs_f64() * 1e3, "ms");
    say("a checkpoint after nothing", checkpoint(&mut fold, &store).as_secs_f64() * 1e3, "ms");
    let mut close = Duration::ZERO;
    for number in 0..6 {
        let window = START + number * WINDOW;
        if number > 0 {
            for _ in 0..SAMPLES {
                apply(&mut fold, batches(window, subjects), &mut out);
            }
        }
        out.clear();
        close = apply(&mut fold, std::iter::once(tick(window, 331)), &mut out);
    }
    say("a tick that closes a window, for each subject in it", micros(close) / subjects as f64, "µs");
    say("a checkpoint after it", checkpoint(&mut fold, &store).as_secs_f64() * 1e3, "ms");
    let window = START + 5 * WINDOW;
    let idle = apply(&mut fold, (332..=431).map(|second| tick(window, second)), &mut out) / 100;
    say("a tick at which no window closes, a subject in 100 deviating", micros(idle), "µs");
    let late = apply(&mut fold, std::iter::once(evidence(window, 0..100)), &mut out)
        + apply(&mut fold, std::iter::once(tick(window, 432)), &mut out);
    say("100 late rows and the tick that corrects their window", micros(late), "µs");
    say(
        "memory of a subject with the windows kept for correction",
        (resident() - before) as f64 / subjects as f64,
        "bytes",
    );
}

fn tick(window: i64, second: i64) -> Entry {
    entry(window + second * SECOND, Event::Tick)
}

fn many_keys(keys: u64) {
    println!("\n{keys} distinct keys, a limit of {SUBJECTS} subjects\n");
    let mut fold = fold();
    let mut out = Vec::new();
    let took = apply(&mut fold, batches(START, keys), &mut out);
    say("a row", micros(took) / keys as f64, "µs");
    say("resident memory of the process", resident() as f64 / f64::from(1 << 20), "MiB");
    let took = apply(&mut fold, batches(START, keys), &mut out);
    say("a row, the second time", micros(took) / keys as f64, "µs");
    say("resident memory of the process", resident() as f64 / f64::from(1 << 20), "MiB");
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    many_subjects(numbers.next().unwrap_or(SUBJECTS));
    many_keys(numbers.next().unwrap_or(KEYS));
}
