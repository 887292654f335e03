//! The engine with real stores in a temporary folder, and components that do as they are told.

mod delivery;
mod outcomes;
mod recovery;
mod reload;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::batch::{Batch, Compression, Content, Frame, Signal, Telemetry};
use crate::checkpoint::KeyedState;
use crate::clock::{ManualClock, Timestamp};
use crate::contract::{Analyzer, FindingExporter, Processor, Reject, Taken, TelemetryExporter};
use crate::drops;
use crate::entry::{Alert, Entry, Epoch};
use crate::evidence::columns::Columns;
use crate::evidence::{Blob, Correlation, Kind, Method, Row, Rows, Text};
use crate::finding::{Behavior, Finding, Notice};
use crate::ledger::{LedgerEntry, LedgerItem, LedgerReader};
use crate::refusal::Refusal;
use crate::storage::{StorageSettings, Store};

/// Longer than any machine needs: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A request whose records are the words of `text`; each word is the requirement of one row.
fn telemetry(text: &str) -> Telemetry {
    let body = Bytes::copy_from_slice(text.as_bytes());
    let frame = Frame { content: Content::Protobuf, compression: Compression::None, bytes: body.clone() };
    Telemetry { signal: Signal::Traces, frame, body, records: text.split_whitespace().count() as u64 }
}

fn alert(fingerprint: &str) -> Alert {
    Alert {
        source: "hook".to_owned(),
        fingerprint: fingerprint.to_owned(),
        is_firing: true,
        starts_at: Timestamp::from_millis(1),
        ends_at: None,
        reqs: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        value: None,
        threshold: None,
        links: Vec::new(),
    }
}

/// Finds a row for each word that begins with `REQ-`; panics at `BREAK`.
struct Tag;

impl Processor for Tag {
    fn process(&self, batch: Batch, out: &mut Vec<Batch>) -> Result<(), Refusal> {
        let mut rows = Rows::new();
        if let Batch::Telemetry(telemetry) = &batch {
            let text = std::str::from_utf8(&telemetry.body).map_err(|_| Refusal::malformed("not text"))?;
            assert!(text != "BREAK", "a secret of the text");
            for word in text.split_whitespace().filter(|word| word.starts_with("REQ-")) {
                let req = rows.intern(word);
                rows.push(row(req));
            }
        }
        out.push(batch);
        if !rows.is_empty() {
            out.push(Batch::Evidence(rows));
        }
        Ok(())
    }
}

pub(super) fn row(req: Text) -> Row {
    Row {
        time: Timestamp::from_millis(1),
        signal: Signal::Traces,
        is_primary: true,
        is_error: false,
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
        service: Text::NONE,
        environment: Text::NONE,
        name: Text::NONE,
        measure: Text::NONE,
        value: 1.0,
        unit: Text::NONE,
        count: 1,
        sketch: Blob::NONE,
        trace_id: [1; 16],
        span_id: [1; 8],
        spec_node: Text::NONE,
        confidence: 1.0,
        status: Correlation::Matched,
        method: Method::Attribute,
        labels: Text::NONE,
        source: Text::NONE,
    }
}

/// Counts rows per requirement and, at a tick, says the counts that changed. Panics at `REQ-PANIC`.
#[derive(Default)]
struct Count {
    counts: BTreeMap<String, u64>,
    touched: BTreeMap<String, u64>,
    fresh: BTreeMap<String, u64>,
    /// Begins every message; another prefix is another program.
    prefix: &'static str,
    applied: Arc<AtomicU64>,
    /// Checkpoints that are still to fail.
    failures: Arc<AtomicU64>,
}

/// A finding that no JSON can hold.
fn not_finite(at: Timestamp) -> Finding {
    let behavior = Behavior {
        uid: String::new(),
        version: 1,
        spec_node_id: String::new(),
        context: String::new(),
        flow: String::new(),
        window_start: at,
        window_end: at,
        count: 0,
        errors: 0,
        measures: BTreeMap::new(),
        req_ids: Vec::new(),
        trace_ids: Vec::new(),
        confidence: f64::INFINITY,
    };
    Finding::Behaviors { behaviors: vec![behavior] }
}

fn note(kind: &str, at: Timestamp, message: String) -> Finding {
    Finding::Notice(Notice { kind: kind.to_owned(), at, message })
}

impl Analyzer for Count {
    fn apply(&mut self, entry: &Entry, out: &mut Vec<Finding>) {
        self.applied.fetch_add(1, Ordering::SeqCst);
        match &entry.event {
            Event::Evidence(evidence) => {
                let columns = Columns::new(&evidence.batch).unwrap();
                for row in 0..columns.len() {
                    let req = columns.req(row).unwrap();
                    assert_ne!(req, "REQ-PANIC", "this requirement cannot be judged");
                    assert_eq!(
                        columns.texts(crate::evidence::schema::TextColumn::Source).get(row),
                        Some("in")
                    );
                    let count = self.counts.entry(req.to_owned()).or_default();
                    *count += 1;
                    self.fresh.insert(req.to_owned(), *count);
                    self.touched.insert(req.to_owned(), *count);
                }
            }
            Event::Tick => {
                for (req, count) in std::mem::take(&mut self.fresh) {
                    if req == "REQ-NAN" {
                        out.push(not_finite(entry.time));
                    }
                    out.push(note("count", entry.time, format!("{}{req}={count}", self.prefix)));
                }
            }
            Event::Alerts(alerts) => {
                out.extend(alerts.iter().map(|one| note("alert", entry.time, one.fingerprint.clone())));
            }
            Event::Epoch(epoch) => out.push(note("epoch", entry.time, epoch.hash.clone())),
            Event::Decision(_) | Event::Skip { .. } => {}
        }
    }

    fn checkpoint(&mut self, state: &mut dyn KeyedState) -> anyhow::Result<()> {
        for (req, count) in std::mem::take(&mut self.touched) {
            state.put(req.as_bytes(), &count.to_be_bytes())?;
        }
        let fails = |left: u64| left.checked_sub(1);
        anyhow::ensure!(
            self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_err(),
            "this checkpoint was told to fail"
        );
        let fresh = serde_json::to_vec(&self.fresh)?;
        state.put(b"@fresh", &fresh)
    }

    fn restore(&mut self, state: &dyn KeyedState) -> anyhow::Result<()> {
        let counts = &mut self.counts;
        state.scan(b"REQ-", &mut |req, count| {
            counts.insert(String::from_utf8(req.to_vec())?, u64::from_be_bytes(count.try_into()?));
            Ok(())
        })?;
        if let Some(fresh) = state.get(b"@fresh")? {
            self.fresh = serde_json::from_slice(&fresh)?;
        }
        Ok(())
    }
}

/// Answers as scripted, then OK; waits at its gate first.
struct Backend {
    script: Mutex<VecDeque<Result<Taken, Refusal>>>,
    seen: watch::Sender<u64>,
    open: watch::Sender<bool>,
}

impl Backend {
    fn new(script: impl IntoIterator<Item = Result<Taken, Refusal>>) -> Arc<Backend> {
        Arc::new(Backend {
            script: Mutex::new(script.into_iter().collect()),
            seen: watch::Sender::new(0),
            open: watch::Sender::new(true),
        })
    }

    fn closed() -> Arc<Backend> {
        let backend = Backend::new([]);
        backend.open.send_replace(false);
        backend
    }

    fn calls(&self) -> u64 {
        *self.seen.borrow()
    }
}

#[async_trait]
impl TelemetryExporter for Backend {
    async fn export(&self, _telemetry: &Telemetry, deadline: Instant) -> Result<Taken, Refusal> {
        self.seen.send_modify(|seen| *seen += 1);
        let mut open = self.open.subscribe();
        if tokio::time::timeout_at(deadline, open.wait_for(|open| *open)).await.is_err() {
            return Err(Refusal::busy("the backend hangs"));
        }
        self.script.lock().unwrap().pop_front().unwrap_or(Ok(Taken::default()))
    }

    fn is_queued(&self) -> bool {
        false
    }
}

/// Keeps what it gets; refuses while it is down.
struct Journalist {
    got: watch::Sender<Vec<LedgerEntry>>,
    down: AtomicBool,
    attempts: AtomicU64,
    rejects: Option<u64>,
}

impl Journalist {
    fn new() -> Arc<Journalist> {
        Journalist::rejecting(None)
    }

    fn rejecting(rejects: Option<u64>) -> Arc<Journalist> {
        let got = watch::Sender::new(Vec::new());
        Arc::new(Journalist { got, down: AtomicBool::new(false), attempts: AtomicU64::new(0), rejects })
    }

    async fn has(&self, count: usize) -> Vec<LedgerEntry> {
        let mut got = self.got.subscribe();
        let entries = tokio::time::timeout(PATIENCE, got.wait_for(|got| got.len() >= count)).await;
        entries.expect("the exporter never got its entries").unwrap().clone()
    }
}

#[async_trait]
impl FindingExporter for Journalist {
    async fn export(&self, entries: &[LedgerEntry]) -> Result<Vec<Reject>, Refusal> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        if self.down.load(Ordering::SeqCst) {
            return Err(Refusal::busy("the sink is down"));
        }
        self.got.send_modify(|got| got.extend_from_slice(entries));
        let rejected = entries.iter().filter(|entry| Some(entry.sequence) == self.rejects);
        Ok(rejected.map(|entry| Reject { sequence: entry.sequence, reason: "no".to_owned() }).collect())
    }
}

/// A folder, a clock, and how to start an engine on them.
struct World {
    folder: TempDir,
    clock: Arc<ManualClock>,
    prefix: &'static str,
    epoch: Option<&'static str>,
    backends: Vec<Arc<Backend>>,
    /// Those of a second pipeline with the same receiver, which does not judge.
    copies: Vec<Arc<Backend>>,
    exporters: Vec<(String, Arc<dyn FindingExporter>)>,
    budget: Budget,
    storage: StorageSettings,
    settings: EngineSettings,
    /// Entries that analyzers saw, over all starts.
    applied: Arc<AtomicU64>,
    /// Checkpoints that are still to fail.
    failures: Arc<AtomicU64>,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let storage = StorageSettings {
            directory: Some(folder.path().to_owned()),
            journal_age_max: Duration::from_secs(24 * 3600),
            journal_bytes_max: 1 << 30,
            free_bytes_min: 0,
            behavior_age_max: Duration::from_secs(30 * 24 * 3600),
        };
        World {
            clock: Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000))),
            prefix: "",
            epoch: None,
            backends: Vec::new(),
            copies: Vec::new(),
            exporters: Vec::new(),
            budget: Budget::new(64 << 20),
            storage,
            settings: EngineSettings { tick: None, ..EngineSettings::default() },
            applied: Arc::default(),
            failures: Arc::default(),
            folder,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn slot(&self) -> AnalyzerSlot {
        let (prefix, applied, failures) = (self.prefix, self.applied.clone(), self.failures.clone());
        let epoch = self.epoch.map(|hash| Epoch {
            component: "count".to_owned(),
            hash: hash.to_owned(),
            content: "a model".to_owned(),
        });
        let open = move || {
            let (applied, failures) = (applied.clone(), failures.clone());
            Ok(Box::new(Count { prefix, applied, failures, ..Count::default() }) as Box<dyn Analyzer>)
        };
        AnalyzerSlot { id: "count".to_owned(), epoch, open: Box::new(open) }
    }

    fn pipeline(&self, name: &str, backends: &[Arc<Backend>], judges: bool) -> Pipeline {
        let exporters = backends.iter().enumerate().map(|(number, backend)| {
            (format!("{name}/{number}"), backend.clone() as Arc<dyn TelemetryExporter>)
        });
        Pipeline {
            name: name.to_owned(),
            signals: vec![Signal::Traces],
            receivers: vec!["in".to_owned()],
            processors: vec![("tag".to_owned(), Arc::new(Tag))],
            telemetry_exporters: exporters.collect(),
            judges,
        }
    }

    fn start(&self) -> Engine {
        let mut pipelines = vec![self.pipeline("traces", &self.backends, true)];
        if !self.copies.is_empty() {
            pipelines.push(self.pipeline("traces/copy", &self.copies, false));
        }
        Engine::start(Plan {
            store: Store::open(&self.storage).unwrap(),
            clock: self.clock.clone(),
            budget: self.budget.clone(),
            analyzers: vec![self.slot()],
            finding_exporters: self.exporters.clone(),
            pipelines,
            settings: self.settings.clone(),
        })
        .unwrap()
    }

    /// Sets the clock forward and lets the fold pass a tick.
    async fn tick(&self, engine: &Engine) {
        self.clock.set(self.clock.now() + Duration::from_secs(1));
        tokio::time::timeout(PATIENCE, engine.tick()).await.expect("the fold hangs").unwrap();
    }

    /// `kind: message` of everything that the ledger holds.
    fn ledger(&self) -> Vec<String> {
        let reader = LedgerReader::open(&self.path().join("ledger")).unwrap();
        let text = |item: std::io::Result<LedgerItem>| match item.unwrap() {
            LedgerItem::Entry(entry) => match entry.finding {
                Finding::Notice(notice) => format!("{}: {}", notice.kind, notice.message),
                finding => finding.kind().to_owned(),
            },
            other => format!("{other:?}"),
        };
        reader.read_from(1).map(text).collect()
    }

    fn replayed(&self) -> Report {
        replay(self.path(), vec![self.slot()]).unwrap()
    }
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

async fn submit(engine: &Engine, text: &str) -> Result<Receipt, Refusal> {
    engine.inlet("in").submit(Batch::Telemetry(telemetry(text)), deadline()).await
}

/// As a crash: no final checkpoint. Returns when the store is closed.
async fn kill(engine: Engine) {
    engine.stopping.cancel();
    engine.shared.draining.cancel();
    let _ = engine.shared.queue.send(Command::Stop).await;
    tokio::time::timeout(PATIENCE, engine.fold_ended.cancelled()).await.expect("the fold hangs");
    tokio::time::timeout(PATIENCE, engine.writer_ended.cancelled()).await.expect("the writer hangs");
    engine.deliveries.stop(Instant::now()).await;
}

async fn stop(engine: Engine) {
    engine.stop(deadline()).await;
}
