//! The fold: one thread feeds every analyzer with every entry, in order, and writes what they find into the ledger.
//!
//! What must stay true: an entry's findings are on disk before anybody sees them; the ledger never depends on an entry that is
//! not on disk; a checkpoint holds analyzers, repeats, offset and ledger head of one and the same moment. The fold reads no
//! wall clock: intervals are of logged time.

mod core;
mod recorded;
mod recovery;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::deliveries::Ids;
use super::plan::{AnalyzerSlot, EngineSettings};
use super::status::{Status, Trouble};
use super::writer::{SharedJournal, Verdict, Work};
use crate::checkpoint::{Checkpoints, Position};
use crate::clock::Timestamp;
use crate::crash;
use crate::drops;
use crate::entry::{Entry, Epoch, Event, Offset};
use crate::finding::Finding;
use crate::journal::JournalReader;
use crate::ledger::{Ledger, LedgerReader};

pub(super) use self::core::Core;
pub(super) use self::recorded::Recorded;
pub(super) use self::recovery::{kept_epochs, scan};

use self::recorded::admissible;

/// The engine's own part of a checkpoint; no component id looks like it.
pub(super) const ENGINE: &str = "@engine";
/// A checkpoint that took a second is followed by none for this many.
const CHECKPOINT_SHARE: u32 = 19;
/// How long to wait at least after a checkpoint that failed.
const CHECKPOINT_RETRY: Duration = Duration::from_secs(10);
/// How long to wait before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often old behaviors are pruned.
const PRUNE: Duration = Duration::from_secs(3600);

/// The fold's state.
pub(super) struct Fold {
    slots: Vec<AnalyzerSlot>,
    settings: EngineSettings,
    journal: Arc<SharedJournal>,
    entries: JournalReader,
    ledger: Ledger,
    ledger_entries: LedgerReader,
    checkpoints: Checkpoints,
    exporters: Arc<Ids>,
    status: Arc<Status>,
    runtime: Handle,
    /// The process ends: what fails now is not tried again.
    stopping: CancellationToken,
    /// The end of the ledger that exporters may read.
    visible: watch::Sender<u64>,
    /// Entries that panicked an analyzer twice, and what the panic said.
    skips: BTreeMap<Offset, String>,
    /// Entries that panicked an analyzer once.
    panics: BTreeMap<Offset, String>,
    /// The last checkpoint; none before the first.
    position: Option<Position>,
    meters: Meters,
    core: Core,
    /// What the ledger says was found after the checkpoint, while that is found again.
    recorded: Option<Recorded>,
    /// The logged time of the last checkpoint, or of the first entry after a start.
    checkpoint_at: Option<Timestamp>,
    pruned_at: Option<Timestamp>,
    not_before: Option<Instant>,
    /// Entries before this one are in the metrics.
    counted: Offset,
    /// Component id → the epoch that holds, and where it stands in the journal; at its beginning, where that is not known.
    epochs: BTreeMap<String, (Offset, Epoch)>,
    /// What failed last and was said; empty once it went well again.
    said: String,
}

struct Meters {
    entries: metrics::Counter,
    rows: metrics::Counter,
    repeats: metrics::Counter,
    findings: metrics::Counter,
    panics: metrics::Counter,
    failures: metrics::Counter,
    checkpoints: metrics::Counter,
    checkpoint: metrics::Histogram,
    offset: metrics::Gauge,
    sequence: metrics::Gauge,
}

/// Why folding stops where it is.
#[derive(Debug)]
enum Halt {
    /// An analyzer panicked at this entry: begin anew from the checkpoint.
    Panicked(Offset, String),
    /// Something else went wrong that a new beginning may cure.
    Failed(anyhow::Error),
    /// The process ends.
    Stopping,
}

/// What the fold needs from the engine.
pub(super) struct Parts {
    pub(super) slots: Vec<AnalyzerSlot>,
    pub(super) settings: EngineSettings,
    pub(super) journal: Arc<SharedJournal>,
    pub(super) entries: JournalReader,
    pub(super) ledger: Ledger,
    pub(super) checkpoints: Checkpoints,
    pub(super) exporters: Arc<Ids>,
    pub(super) status: Arc<Status>,
    pub(super) runtime: Handle,
    pub(super) stopping: CancellationToken,
    pub(super) visible: watch::Sender<u64>,
    pub(super) skips: BTreeMap<Offset, String>,
    pub(super) position: Option<Position>,
}

impl Fold {
    pub(super) fn new(parts: Parts) -> Fold {
        let meters = Meters {
            entries: metrics::counter!("homeostat_fold_entries_total"),
            rows: metrics::counter!("homeostat_fold_evidence_rows_total"),
            repeats: metrics::counter!("homeostat_fold_repeated_requests_total"),
            findings: metrics::counter!("homeostat_ledger_findings_total"),
            panics: metrics::counter!("homeostat_fold_panics_total"),
            failures: metrics::counter!("homeostat_fold_failures_total"),
            checkpoints: metrics::counter!("homeostat_fold_checkpoints_total"),
            checkpoint: metrics::histogram!("homeostat_fold_checkpoint_seconds"),
            offset: metrics::gauge!("homeostat_fold_offset"),
            sequence: metrics::gauge!("homeostat_ledger_sequence"),
        };
        let epochs = parts.slots.iter().filter_map(|slot| slot.epoch.clone());
        let epochs = epochs.map(|epoch| (epoch.component.clone(), (Offset(0), epoch))).collect();
        Fold {
            epochs,
            slots: parts.slots,
            settings: parts.settings,
            journal: parts.journal,
            entries: parts.entries,
            ledger_entries: parts.ledger.reader(),
            ledger: parts.ledger,
            checkpoints: parts.checkpoints,
            exporters: parts.exporters,
            status: parts.status,
            runtime: parts.runtime,
            stopping: parts.stopping,
            visible: parts.visible,
            skips: parts.skips,
            panics: BTreeMap::new(),
            position: parts.position,
            meters,
            core: Core::default(),
            recorded: None,
            checkpoint_at: None,
            pruned_at: None,
            not_before: None,
            counted: Offset(0),
            said: String::new(),
        }
    }

    /// A failure that will be tried again: counted each time, said when it is another one than before.
    fn complain(&mut self, text: String) {
        self.meters.failures.increment(1);
        if self.said != text {
            tracing::error!("{text}");
            self.said = text;
        }
    }

    /// Recovers, then folds until the writer is gone, then leaves a checkpoint.
    pub(super) fn run(mut self, work: Receiver<Work>) {
        let halt = match self.recover() {
            Ok(()) => self.fold_all(&work).err(),
            Err(halt) => Some(halt),
        };
        match halt {
            Some(Halt::Stopping) => {}
            Some(Halt::Panicked(..) | Halt::Failed(_)) => {
                let reason = "the fold cannot recover, see the log; nothing is judged until a restart";
                self.status.set(Trouble::Dead, reason);
            }
            None if self.stopping.is_cancelled() => {}
            None => {
                if let Err(error) = self.checkpoint() {
                    tracing::error!("the final checkpoint failed, the next start replays more: {error:#}");
                }
            }
        }
    }

    fn fold_all(&mut self, work: &Receiver<Work>) -> Result<(), Halt> {
        while let Ok(Work { entry, verdict, charges }) = work.recv() {
            let found = self.take(entry)?;
            drop(charges);
            if let Some(verdict) = verdict {
                // The webhook may not have waited.
                let _ = verdict.send(found);
            }
        }
        Ok(())
    }

    /// Folds an entry that the writer brought, whatever it takes. What it caused is not known when a new beginning read it from the disk.
    fn take(&mut self, entry: Entry) -> Result<Verdict, Halt> {
        let offset = entry.offset;
        let folded = if offset < self.core.next {
            return Ok(None);
        } else if offset == self.core.next {
            self.fold(entry)
        } else {
            // Between them lies what the fold itself appended.
            self.replay(offset).and_then(|()| self.fold(entry))
        };
        match folded {
            Ok(found) => {
                if let Err(halt) = self.checkpoint_when_due() {
                    self.begin_anew(halt)?;
                }
                Ok(Some(found))
            }
            Err(halt) => self.begin_anew(halt).map(|()| None),
        }
    }

    /// One entry: analyzers, then the ledger.
    fn fold(&mut self, entry: Entry) -> Result<Vec<Finding>, Halt> {
        let (offset, time) = (entry.offset, entry.time);
        if let Event::Epoch(epoch) = &entry.event {
            self.epochs.insert(epoch.component.clone(), (offset, epoch.clone()));
        }
        let before = self.core.totals;
        // What is folded once more, after a failure, is not counted twice.
        let is_new = offset >= self.counted;
        let applied = if is_new {
            self.core.apply(entry, &self.skips)
        } else {
            drops::silently(|| self.core.apply(entry, &self.skips))
        };
        let found = match applied {
            Ok(found) => found,
            Err(reason) => return Err(Halt::Panicked(offset, reason)),
        };
        if is_new {
            self.counted = Offset(offset.0 + 1);
            self.meters.entries.increment(1);
            self.meters.rows.increment(self.core.totals.rows - before.rows);
            self.meters.repeats.increment(self.core.totals.repeats - before.repeats);
        }
        self.meters.offset.set(offset.0 as f64);
        self.checkpoint_at.get_or_insert(time);
        let known = match &mut self.recorded {
            None => 0,
            Some(recorded) => {
                recorded.pass(&found, time, offset).map_err(|error| Halt::Failed(error.into()))?
            }
        };
        self.report_mismatches();
        self.append(&found[known..], time, offset)?;
        Ok(found)
    }

    /// Writes into the ledger what is not there yet; tries until it can.
    fn append(&mut self, findings: &[Finding], time: Timestamp, cause: Offset) -> Result<(), Halt> {
        if findings.is_empty() {
            return Ok(());
        }
        crash::point("fold.before_ledger");
        let mut admitted = None;
        loop {
            let findings = admitted.as_deref().unwrap_or(findings);
            let synced = self.journal.sync_before(self.core.next).map_err(anyhow::Error::from);
            let error = match synced.and_then(|()| self.ledger.append(findings, time, cause)) {
                Ok(_) => break,
                Err(error) => error,
            };
            if admitted.is_none() && error.downcast_ref::<std::io::Error>().is_none() {
                tracing::error!("a finding is left out of the ledger: {error:#}");
                drops::LEDGER_REFUSED.count_at(1, || time);
                admitted = Some(findings.iter().map(|one| admissible(one, time, cause)).collect::<Vec<_>>());
                continue;
            }
            let reason = format!("the ledger cannot be written, nothing is judged until it can: {error:#}");
            self.complain(reason.clone());
            self.status.set(Trouble::Ledger, reason);
            self.wait()?;
        }
        if self.status.clear(Trouble::Ledger) {
            tracing::info!("the ledger takes findings again");
            self.said.clear();
        }
        self.meters.findings.increment(findings.len() as u64);
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        let sequence = self.ledger.head().sequence;
        self.meters.sequence.set(sequence as f64);
        self.visible.send_replace(sequence);
    }

    /// A moment before something is tried again.
    fn wait(&self) -> Result<(), Halt> {
        let moment = async {
            tokio::select! {
                () = self.stopping.cancelled() => Err(Halt::Stopping),
                () = tokio::time::sleep(RETRY) => Ok(()),
            }
        };
        self.runtime.block_on(moment)
    }

    fn checkpoint_when_due(&mut self) -> Result<(), Halt> {
        let Some(at) = self.checkpoint_at else { return Ok(()) };
        let passed = self.core.now.since(at);
        let due = (self.core.is_busy && passed >= self.settings.checkpoint_interval)
            || self.core.rows >= self.settings.checkpoint_rows
            || passed >= self.settings.checkpoint_idle;
        if !due || self.recorded.is_some() || self.not_before.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        self.checkpoint().map_err(|error| {
            // Analyzers may have forgotten what they touched, so their state is begun anew; the next try is not at once.
            self.not_before = Some(Instant::now() + self.settings.checkpoint_interval.max(CHECKPOINT_RETRY));
            Halt::Failed(error.context("the checkpoint cannot be written"))
        })
    }

    /// One transaction: what the analyzers touched, the repeats, the offset, the ledger's head.
    fn checkpoint(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let position = Position { next: self.core.next, ledger: self.ledger.head() };
        self.journal.sync_before(position.next)?;
        let mut transaction = self.checkpoints.begin()?;
        for (slot, analyzer) in self.slots.iter().zip(&mut self.core.analyzers) {
            analyzer.checkpoint(&mut transaction.state(&slot.id)?)?;
        }
        self.core.checkpoint(&mut transaction.state(ENGINE)?)?;
        transaction.commit(position)?;
        if !std::mem::take(&mut self.said).is_empty() {
            tracing::info!("the fold goes on, and its checkpoint is written");
        }
        self.position = Some(position);
        self.checkpoint_at = Some(self.core.now);
        self.not_before = Some(Instant::now() + began.elapsed() * CHECKPOINT_SHARE);
        self.skips = self.skips.split_off(&position.next);
        self.panics = self.panics.split_off(&position.next);
        self.meters.checkpoints.increment(1);
        self.meters.checkpoint.record(began.elapsed().as_secs_f64());
        self.tidy(position.next);
        Ok(())
    }

    /// Removes what nobody needs any more.
    fn tidy(&mut self, checkpoint: Offset) {
        let now = self.core.now;
        if let Err(error) = self.journal.lock().trim(now, checkpoint) {
            tracing::warn!("old journal segments cannot be removed: {error}");
        }
        if let Err(error) = self.repeat_epochs() {
            tracing::warn!("the model cannot be journalled again: {error}");
        }
        if self.pruned_at.is_some_and(|at| now.since(at) < PRUNE) {
            return;
        }
        self.pruned_at = Some(now);
        let passed = self.exporters.all().iter().map(|id| self.checkpoints.cursor(id)).min();
        let passed = passed.unwrap_or(self.ledger.head().sequence);
        if let Err(error) = self.ledger.prune(now - self.settings.behavior_age_max, passed) {
            tracing::warn!("old behaviors cannot be pruned: {error}");
        }
    }

    /// Every segment of the journal says by which models it was judged, so that whoever reads it knows after older ones are gone.
    /// Analyzers pass over an epoch that changes nothing.
    fn repeat_epochs(&mut self) -> std::io::Result<()> {
        let mut journal = self.journal.lock();
        let (since, next) = (journal.last_segment(), journal.next());
        let stale = || self.epochs.values().filter(|(at, _)| *at < since);
        if stale().next().is_none() {
            return Ok(());
        }
        for (_, epoch) in stale() {
            journal.append(&Event::Epoch(epoch.clone()), self.core.now)?;
        }
        self.journal.sync(&mut journal)?;
        drop(journal);
        for (at, _) in self.epochs.values_mut() {
            *at = (*at).max(next);
        }
        Ok(())
    }
}
