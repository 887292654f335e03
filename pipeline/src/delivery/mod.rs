//! Delivery to finding exporters: one task for each reads the ledger from its own cursor, so that one that is down delays
//! nobody and catches up when it is back.
//!
//! The cursor moves after the exporter has written. What a sink refuses for good goes to its dead letters and blocks nothing.

mod letters;
mod retry;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::Checkpoints;
use crate::contract::{FindingExporter, Reject};
use crate::crash;
use crate::ledger::{LedgerEntries, LedgerEntry, LedgerItem, LedgerReader};

pub use letters::LetterFile;

use letters::Letters;
use retry::Edge;

const BATCH_ENTRIES: usize = 500;
const BATCH_BYTES: usize = 1024 * 1024;
/// How long to wait before a ledger that cannot be read is read again.
const REREAD: Duration = Duration::from_secs(5);

/// One finding exporter and what belongs to it.
pub struct Sink {
    /// The component id; names its cursor.
    pub id: String,
    /// The exporter itself.
    pub exporter: Arc<dyn FindingExporter>,
    /// The folder of the dead letters; none: they are only counted and logged.
    pub dead_letters: Option<PathBuf>,
    /// One attempt may take this long.
    pub timeout: Duration,
}

/// The task of one finding exporter.
pub struct Delivery {
    id: String,
    edge: Edge,
    ledger: LedgerReader,
    checkpoints: Checkpoints,
    head: watch::Receiver<u64>,
    closing: CancellationToken,
    /// Cancelled with `closing` too.
    leaving: CancellationToken,
    letters: Letters,
    meters: Meters,
}

struct Meters {
    sent: metrics::Counter,
    lag: metrics::Gauge,
}

/// A place in the ledger, kept between batches; an entry that did not fit is the first of the next batch.
struct Source {
    entries: LedgerEntries,
    next: Option<LedgerEntry>,
}

/// What was read.
#[derive(Default)]
struct Batch {
    entries: Vec<LedgerEntry>,
    /// The cursor once they are written; beyond the last entry where pruned or damaged ones follow.
    through: u64,
    lost: u64,
}

impl Delivery {
    /// Reads `ledger` up to what `head` says; ends after `closing` when it has caught up, or fails.
    pub fn new(
        sink: Sink,
        ledger: LedgerReader,
        checkpoints: Checkpoints,
        head: watch::Receiver<u64>,
        closing: CancellationToken,
    ) -> Delivery {
        let label = || sink.id.clone();
        let meters = Meters {
            sent: metrics::counter!("homeostat_delivery_sent_findings_total", "exporter" => label()),
            lag: metrics::gauge!("homeostat_delivery_lag_findings", "exporter" => label()),
        };
        let letters = Letters::new(sink.id.clone(), sink.dead_letters);
        let leaving = closing.child_token();
        let edge = Edge::new(sink.id.clone(), sink.exporter, sink.timeout, leaving.clone());
        Delivery { id: sink.id, edge, ledger, checkpoints, head, closing, leaving, letters, meters }
    }

    /// Cancelled, it ends after the attempt that is under way, and another delivery may go on from its cursor.
    pub fn leaving(&self) -> CancellationToken {
        self.leaving.clone()
    }

    /// Somebody else is to go on, while the process lives.
    fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled() && !self.closing.is_cancelled()
    }

    /// The component id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Until the process ends.
    pub async fn run(mut self) {
        let mut cursor = self.checkpoints.cursor(&self.id);
        let mut source = None;
        loop {
            if self.is_leaving() {
                self.meters.lag.set(0.0);
                return;
            }
            let head = *self.head.borrow_and_update();
            self.meters.lag.set(head.saturating_sub(cursor) as f64);
            if cursor >= head {
                tokio::select! {
                    changed = self.head.changed() => if changed.is_ok() { continue },
                    () = self.leaving.cancelled() => {}
                }
                if cursor >= *self.head.borrow() {
                    return;
                }
                continue;
            }
            let at = source.take().unwrap_or_else(|| Source::at(&self.ledger, cursor));
            match spawn_blocking(move || at.read(cursor, head)).await {
                Ok((kept, Ok(batch))) => {
                    source = Some(kept);
                    match self.deliver(batch).await {
                        Some(through) => cursor = through,
                        // The process ends while the sink is down.
                        None => return,
                    }
                }
                Ok((_, Err(error))) => {
                    tracing::error!(exporter = self.id, "the ledger cannot be read: {error}");
                    if self.pause().await {
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(exporter = self.id, "reading the ledger failed: {error}");
                    if self.pause().await {
                        return;
                    }
                }
            }
        }
    }

    /// Says whether the process ends.
    async fn pause(&self) -> bool {
        tokio::select! {
            () = self.leaving.cancelled() => true,
            () = tokio::time::sleep(REREAD) => false,
        }
    }

    /// Writes a batch, however long it takes; none when the process ends first.
    async fn deliver(&mut self, batch: Batch) -> Option<u64> {
        if batch.lost > 0 {
            tracing::error!(
                exporter = self.id,
                entries = batch.lost,
                "ledger entries cannot be read and are left out"
            );
        }
        let count = batch.entries.len() as u64;
        let entries: Arc<[LedgerEntry]> = batch.entries.into();
        if !entries.is_empty() {
            let rejects = self.edge.export(entries.clone()).await?;
            crash::point("delivery.exported");
            self.meters.sent.increment(count.saturating_sub(rejects.len() as u64));
            self.bury(entries, rejects).await;
        }
        self.checkpoints.set_cursor(&self.id, batch.through);
        let checkpoints = self.checkpoints.clone();
        match spawn_blocking(move || checkpoints.save_cursors()).await {
            Ok(Ok(())) => crash::point("delivery.cursor_saved"),
            Ok(Err(error)) => {
                tracing::warn!(
                    exporter = self.id,
                    "the cursor cannot be saved, findings may be exported again: {error:#}"
                );
            }
            Err(error) => tracing::warn!(exporter = self.id, "saving the cursor failed: {error}"),
        }
        Some(batch.through)
    }

    async fn bury(&mut self, entries: Arc<[LedgerEntry]>, rejects: Vec<Reject>) {
        if rejects.is_empty() {
            return;
        }
        let mut letters = self.letters.clone();
        let written = spawn_blocking(move || letters.write(&entries, &rejects)).await;
        if let Err(error) = written {
            tracing::error!(exporter = self.id, "writing the dead letters failed: {error}");
        }
    }
}

impl Source {
    fn at(ledger: &LedgerReader, cursor: u64) -> Source {
        Source { entries: ledger.read_from(cursor + 1), next: None }
    }

    /// The entries after `cursor` up to `head`, as many as fit a batch. After an error the source begins anew.
    fn read(mut self, cursor: u64, head: u64) -> (Source, std::io::Result<Batch>) {
        let mut batch = Batch { through: cursor, ..Batch::default() };
        let mut bytes = 0;
        loop {
            let entry = match self.next.take() {
                Some(entry) => entry,
                None => match self.entries.next() {
                    None => break,
                    Some(Err(error)) => return (self, Err(error)),
                    Some(Ok(LedgerItem::Pruned { sequence })) => {
                        batch.through = sequence;
                        continue;
                    }
                    Some(Ok(LedgerItem::Gap { from, to })) => {
                        batch.lost += to - from;
                        batch.through = batch.through.max(to.saturating_sub(1));
                        continue;
                    }
                    Some(Ok(LedgerItem::Entry(entry))) => *entry,
                },
            };
            let fits = batch.entries.is_empty() || bytes + entry.body.len() <= BATCH_BYTES;
            if entry.sequence > head || batch.entries.len() >= BATCH_ENTRIES || !fits {
                self.next = Some(entry);
                break;
            }
            bytes += entry.body.len();
            batch.through = entry.sequence;
            batch.entries.push(entry);
        }
        if batch.through == cursor && batch.entries.is_empty() {
            let text = format!("entry {} is announced but cannot be found", cursor + 1);
            return (self, Err(std::io::Error::other(text)));
        }
        (self, Ok(batch))
    }
}
