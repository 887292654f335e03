//! The pure part of the fold: entries in, findings out. Live, in recovery and in a replay it is the same, so that the same
//! journal gives the same ledger.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::checkpoint::KeyedState;
use crate::clock::Timestamp;
use crate::contract::Analyzer;
use crate::drops;
use crate::engine::repeats::Repeats;
use crate::engine::stage::said;
use crate::entry::{Entry, Event, Offset};
use crate::finding::{Finding, Notice};

/// Everything that decides what the next entry leads to.
#[derive(Default)]
pub(in crate::engine) struct Core {
    pub(super) analyzers: Vec<Box<dyn Analyzer>>,
    repeats: Repeats,
    /// Component id → hash of what holds for it.
    pub(super) epochs: BTreeMap<String, String>,
    /// The entry that comes next.
    pub(super) next: Offset,
    /// The time of the last entry.
    pub(super) now: Timestamp,
    /// Entries that are missing right before the next one.
    gap: Option<(Offset, Offset)>,
    pub(super) totals: Totals,
    /// Rows since the last checkpoint.
    pub(super) rows: u64,
    /// Whether anything but ticks came since the last checkpoint.
    pub(super) is_busy: bool,
}

/// What was folded since the start, for the metrics.
#[derive(Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) rows: u64,
    pub(super) repeats: u64,
}

pub(super) fn notice(kind: &str, at: Timestamp, message: String) -> Finding {
    Finding::Notice(Notice { kind: kind.to_owned(), at, message })
}

impl Core {
    /// The beginning of everything.
    pub(in crate::engine) fn fresh(analyzers: Vec<Box<dyn Analyzer>>) -> Core {
        Core { analyzers, ..Core::default() }
    }

    /// The state at `next`: fresh analyzers, already restored, and the engine's own part.
    pub(super) fn restore(
        analyzers: Vec<Box<dyn Analyzer>>,
        own: &dyn KeyedState,
        next: Offset,
    ) -> anyhow::Result<Core> {
        let repeats = Repeats::restore(own)?;
        let epochs = super::recovery::kept_epochs(own)?;
        Ok(Core { analyzers, repeats, epochs, next, ..Core::default() })
    }

    /// The engine's own part of a checkpoint.
    pub(super) fn checkpoint(&mut self, own: &mut dyn KeyedState) -> anyhow::Result<()> {
        self.repeats.checkpoint(own)?;
        super::recovery::keep_epochs(own, &self.epochs)?;
        self.rows = 0;
        self.is_busy = false;
        Ok(())
    }

    /// Entries from `from` up to `to` are unreadable; the next entry's findings begin with saying so.
    pub(in crate::engine) fn miss(&mut self, from: Offset, to: Offset) {
        let from = self.gap.map_or(from.max(self.next), |(first, _)| first);
        if from < to {
            self.gap = Some((from, to));
            self.next = to;
        }
    }

    /// Folds one entry. A panic of an analyzer is its text; then the state is worthless.
    pub(in crate::engine) fn apply(
        &mut self,
        entry: Entry,
        skips: &BTreeMap<Offset, String>,
    ) -> Result<Vec<Finding>, String> {
        let (offset, time) = (entry.offset, entry.time);
        let mut found = Vec::new();
        if let Some((from, to)) = self.gap.take() {
            let message = format!("journal entries {} to {} cannot be read", from.0, to.0 - 1);
            found.push(notice("journal_gap", time, message));
        }
        match skips.get(&offset) {
            Some(reason) => {
                drops::FOLD_SKIPPED.count_at(1, || time);
                let message = format!("journal entry {} was passed over: {reason}", offset.0);
                found.push(notice("entry_skipped", time, message));
            }
            None => self.feed(entry, &mut found)?,
        }
        self.next = Offset(offset.0 + 1);
        self.now = time;
        Ok(found)
    }

    fn feed(&mut self, entry: Entry, found: &mut Vec<Finding>) -> Result<(), String> {
        match &entry.event {
            Event::Tick => {}
            Event::Epoch(epoch) => {
                self.epochs.insert(epoch.component.clone(), epoch.hash.clone());
                self.is_busy = true;
            }
            // It says something about another entry and is told of there.
            Event::Skip { .. } => return Ok(()),
            Event::Evidence(_) | Event::Alerts(_) | Event::Decision(_) => self.is_busy = true,
        }
        let (entry, repeats) = self.repeats.filter(entry).map_err(|error| format!("{error:#}"))?;
        self.totals.repeats += repeats;
        drops::FOLD_REPEAT.count_at(repeats, || self.now);
        let Some(entry) = entry else { return Ok(()) };
        if let Event::Evidence(evidence) = &entry.event {
            let rows = evidence.batch.num_rows() as u64;
            self.totals.rows += rows;
            self.rows += rows;
        }
        let analyzers = &mut self.analyzers;
        let applied = catch_unwind(AssertUnwindSafe(|| {
            for analyzer in analyzers {
                analyzer.apply(&entry, found);
            }
        }));
        applied.map_err(|panic| said(&*panic).unwrap_or("an analyzer panicked").to_owned())
    }
}
