//! Reading the ledger while it is written.

use std::io;
use std::path::Path;

use metrics::counter;

use super::format::Record;
use super::{Damage, LedgerEntry, LedgerItem, Replay};
use crate::log::{Frame, Frames, Item, Reader};

/// Reads concurrently with appends; cheap to clone. Blocking.
#[derive(Clone, Debug)]
pub struct LedgerReader {
    log: Reader,
    damage: Option<Damage>,
}

/// The entries from a sequence on. `None` means "none yet": it may be asked again after more were appended.
#[derive(Debug)]
pub struct LedgerEntries {
    frames: Frames,
    damage: Option<Damage>,
}

impl LedgerReader {
    pub(super) fn new(log: Reader, damage: Option<Damage>) -> LedgerReader {
        LedgerReader { log, damage }
    }

    /// Reads the ledger in `dir` as it is, without writing: for commands.
    ///
    /// # Errors
    /// There is no ledger, or it cannot be read.
    pub fn open(dir: &Path) -> io::Result<LedgerReader> {
        let no_ledger = || {
            let message = format!("there is no ledger in `{}`", dir.display());
            io::Error::new(io::ErrorKind::NotFound, message)
        };
        if !dir.is_dir() {
            return Err(no_ledger());
        }
        let reader = Reader::open(dir, "ledger", 1)?;
        if reader.first() == reader.next() && super::head::recorded(dir)?.is_none() {
            return Err(no_ledger());
        }
        Ok(LedgerReader { log: reader, damage: None })
    }

    /// The first sequence that is kept.
    pub fn first(&self) -> u64 {
        self.log.first()
    }

    /// The sequence of the last entry; 0 when there is none.
    pub fn last(&self) -> u64 {
        self.log.next() - 1
    }

    /// Entries from `sequence` on; 0 is the same as 1.
    pub fn read_from(&self, sequence: u64) -> LedgerEntries {
        LedgerEntries { frames: self.log.read_from(sequence.max(1)), damage: self.damage.clone() }
    }

    pub(super) fn frames(&self) -> Frames {
        self.log.read_from(1)
    }
}

fn item(frame: &Frame) -> LedgerItem {
    let sequence = frame.index;
    let record = Record::read(&frame.bytes);
    match record.map(|record| (record.is_pruned(), record)) {
        Some((true, _)) => return LedgerItem::Pruned { sequence },
        Some((false, record)) => match record.entry(sequence) {
            Ok(entry) => return LedgerItem::Entry(Box::new(entry)),
            Err(error) => tracing::error!(sequence, %error, "the body of a ledger entry cannot be read"),
        },
        None => tracing::error!(sequence, "a ledger entry is of no known format"),
    }
    counter!("homeostat_ledger_unreadable_total").increment(1);
    crate::drops::LEDGER_UNREADABLE.count(1);
    LedgerItem::Gap { from: sequence, to: sequence + 1 }
}

impl Iterator for LedgerEntries {
    type Item = io::Result<LedgerItem>;

    fn next(&mut self) -> Option<io::Result<LedgerItem>> {
        let found = self.frames.next()?.map(|found| match found {
            Item::Frame(frame) => item(&frame),
            Item::Gap(gap) => LedgerItem::Gap { from: gap.from, to: gap.to },
        });
        if let (Ok(LedgerItem::Gap { from, to }), Some(damage)) = (&found, &self.damage) {
            damage.note(*from, *to);
        }
        Some(found)
    }
}

impl Replay for LedgerReader {
    fn replay(
        &self,
        through: u64,
        visit: &mut dyn FnMut(LedgerEntry) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for item in self.read_from(1) {
            match item? {
                LedgerItem::Entry(entry) if entry.sequence <= through => visit(*entry)?,
                LedgerItem::Entry(_) => break,
                // The body is gone on purpose, or the damage was said by whoever read it.
                LedgerItem::Pruned { .. } | LedgerItem::Gap { .. } => {}
            }
        }
        Ok(())
    }
}
