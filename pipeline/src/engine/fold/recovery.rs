//! A new beginning: after a start, and after an analyzer panicked. Restores the checkpoint and replays the journal from there.

use std::collections::BTreeMap;

use anyhow::Context as _;

use super::recorded::Recorded;
use super::{Core, ENGINE, Fold, Halt, Trouble};
use crate::checkpoint::KeyedState;
use crate::crash;
use crate::entry::{Event, Offset};
use crate::journal::{JournalItem, JournalReader};
use crate::ledger::LedgerItem;

/// New beginnings that may fail in a row before the fold gives up.
const MAX_FAILURES: u32 = 5;
const EPOCH: &[u8] = b"epoch/";

/// What has to be known of the journal before it is replayed.
#[derive(Debug, Default)]
pub(in crate::engine) struct Scan {
    /// Entries to pass over, and why.
    pub(in crate::engine) skips: BTreeMap<Offset, String>,
    /// Component id → hash journalled last.
    pub(in crate::engine) epochs: BTreeMap<String, String>,
}

/// Reads the journal from `from` on for skips and epochs.
pub(in crate::engine) fn scan(entries: &JournalReader, from: Offset) -> anyhow::Result<Scan> {
    let mut scan = Scan::default();
    for item in entries.read_from(from) {
        match item? {
            JournalItem::Gap { .. } => {}
            JournalItem::Entry(entry) => match entry.event {
                Event::Skip { skipped, reason } => {
                    scan.skips.insert(skipped, reason);
                }
                Event::Epoch(epoch) => {
                    scan.epochs.insert(epoch.component, epoch.hash);
                }
                Event::Evidence(_) | Event::Alerts(_) | Event::Tick | Event::Decision(_) => {}
            },
        }
    }
    Ok(scan)
}

/// The epochs that held at the checkpoint.
pub(in crate::engine) fn kept_epochs(own: &dyn KeyedState) -> anyhow::Result<BTreeMap<String, String>> {
    let mut epochs = BTreeMap::new();
    own.scan(EPOCH, &mut |key, hash| {
        let component = key.get(EPOCH.len()..).unwrap_or_default();
        epochs.insert(String::from_utf8(component.to_vec())?, String::from_utf8(hash.to_vec())?);
        Ok(())
    })?;
    Ok(epochs)
}

pub(super) fn keep_epochs(own: &mut dyn KeyedState, epochs: &BTreeMap<String, String>) -> anyhow::Result<()> {
    for (component, hash) in epochs {
        own.put(&[EPOCH, component.as_bytes()].concat(), hash.as_bytes())?;
    }
    Ok(())
}

impl Fold {
    /// Begins anew because of `halt`.
    pub(super) fn begin_anew(&mut self, halt: Halt) -> Result<(), Halt> {
        self.prepare(halt)?;
        self.recover()
    }

    /// Makes sure that the next beginning has a chance.
    fn prepare(&mut self, halt: Halt) -> Result<(), Halt> {
        match halt {
            Halt::Panicked(offset, reason) => self.blame(offset, reason),
            Halt::Failed(error) => {
                self.complain(format!("the fold begins anew from its checkpoint: {error:#}"));
                self.wait()
            }
            Halt::Stopping => Err(Halt::Stopping),
        }
    }

    /// Restores the checkpoint and replays what came after it.
    pub(super) fn recover(&mut self) -> Result<(), Halt> {
        self.status.set(Trouble::Recovering, "the journal is being replayed");
        let mut failures = 0;
        loop {
            let end = self.entries.next();
            match self.begin().map_err(Halt::Failed).and_then(|()| self.replay(end)) {
                Ok(()) => break,
                Err(halt) => {
                    failures = if matches!(halt, Halt::Failed(_)) { failures + 1 } else { 0 };
                    if failures > MAX_FAILURES {
                        return Err(halt);
                    }
                    self.prepare(halt)?;
                }
            }
        }
        self.end_recorded()?;
        self.publish();
        self.status.clear(Trouble::Recovering);
        Ok(())
    }

    /// Fresh analyzers with the state of the checkpoint.
    fn begin(&mut self) -> anyhow::Result<()> {
        let mut analyzers = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let mut analyzer = (slot.open)().with_context(|| format!("cannot open `{}`", slot.id))?;
            if self.position.is_some() {
                let state = self.checkpoints.load(&slot.id)?;
                analyzer
                    .restore(&*state)
                    .with_context(|| format!("cannot restore `{}` from its checkpoint", slot.id))?;
            }
            analyzers.push(analyzer);
        }
        let next = self.position.map_or(Offset(0), |position| position.next);
        self.core = match self.position {
            Some(_) => Core::restore(analyzers, &*self.checkpoints.load(ENGINE)?, next)?,
            None => Core::fresh(analyzers),
        };
        self.checkpoint_at = None;
        let from = self.position.map_or(0, |position| position.ledger.sequence);
        let head = self.ledger.head().sequence;
        self.recorded = (head > from).then(|| Recorded::new(self.ledger_entries.read_from(from + 1), head));
        self.check_head()
    }

    /// The ledger must still end, or go on, where the checkpoint says it did.
    fn check_head(&mut self) -> anyhow::Result<()> {
        let Some(position) = self.position.filter(|position| position.ledger.sequence > 0) else {
            return Ok(());
        };
        let head = position.ledger;
        let is_there = match self.ledger_entries.read_from(head.sequence).next().transpose()? {
            Some(LedgerItem::Entry(entry)) => entry.sequence == head.sequence && entry.hash == head.hash,
            Some(LedgerItem::Pruned { .. } | LedgerItem::Gap { .. }) => true,
            None => false,
        };
        if !is_there {
            let text =
                format!("the checkpoint rests on a ledger of {} entries, which is gone", head.sequence);
            self.mismatch(&text);
        }
        Ok(())
    }

    /// Folds what the journal has from here up to, not including, `end`.
    pub(super) fn replay(&mut self, end: Offset) -> Result<(), Halt> {
        let mut entries = self.entries.read_from(self.core.next);
        while self.core.next < end {
            let Some(item) = entries.next() else { break };
            match item.map_err(|error| Halt::Failed(error.into()))? {
                JournalItem::Gap { from, to } => {
                    self.core.miss(from, to);
                    if from < to
                        && let Some(recorded) = &mut self.recorded
                    {
                        recorded.expect_differences();
                    }
                }
                JournalItem::Entry(entry) => {
                    crash::point("recovery.replaying");
                    self.fold(entry)?;
                    self.end_recorded_when_passed()?;
                    self.checkpoint_when_due()?;
                }
            }
        }
        Ok(())
    }

    fn end_recorded_when_passed(&mut self) -> Result<(), Halt> {
        let Some(recorded) = &mut self.recorded else { return Ok(()) };
        let is_passed = recorded.is_passed().map_err(|error| Halt::Failed(error.into()))?;
        if is_passed { self.end_recorded() } else { Ok(()) }
    }

    /// From here on findings are new.
    fn end_recorded(&mut self) -> Result<(), Halt> {
        let Some(mut recorded) = self.recorded.take() else { return Ok(()) };
        if let Some(left) = recorded.left().map_err(|error| Halt::Failed(error.into()))? {
            self.mismatch(&format!("the ledger has {left}, but the journal ends before"));
        }
        let cause = Offset(self.core.next.0.saturating_sub(1));
        self.append(&recorded.unrecorded, self.core.now, cause)
    }

    pub(super) fn report_mismatches(&mut self) {
        let Some(recorded) = &mut self.recorded else { return };
        for text in std::mem::take(&mut recorded.mismatches) {
            self.mismatch(&text);
        }
    }

    fn mismatch(&self, text: &str) {
        metrics::counter!("homeostat_ledger_mismatches_total").increment(1);
        tracing::error!("{text}");
        let reason = format!("the replay of the journal does not give what the ledger holds: {text}");
        self.status.set(Trouble::Mismatch, reason);
    }

    /// The first panic at an entry may be the fault of what came before; at the second the entry is passed over.
    fn blame(&mut self, offset: Offset, reason: String) -> Result<(), Halt> {
        self.meters.panics.increment(1);
        tracing::error!(offset = offset.0, reason, "an analyzer panicked");
        if self.panics.insert(offset, reason.clone()).is_none() {
            return Ok(());
        }
        let event = Event::Skip { skipped: offset, reason: reason.clone() };
        loop {
            let mut journal = self.journal.lock();
            let appended = journal.append(&event, self.core.now);
            let synced = appended.and_then(|_| self.journal.sync(&mut journal));
            drop(journal);
            match synced {
                Ok(()) => break,
                Err(error) => {
                    self.complain(format!("the skip of entry {} cannot be written: {error}", offset.0));
                    self.wait()?;
                }
            }
        }
        tracing::error!(offset = offset.0, "the entry is passed over");
        self.skips.insert(offset, reason);
        Ok(())
    }
}
