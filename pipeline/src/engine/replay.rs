//! A replay: the whole journal through fresh analyzers. It must give what the ledger holds, byte for byte.

use std::path::Path;

use anyhow::Context as _;

use super::fold::{Core, Recorded, scan};
use super::plan::AnalyzerSlot;
use crate::contract::Analyzer;
use crate::entry::{Entry, Offset};
use crate::journal::{JournalItem, JournalReader};
use crate::ledger::LedgerReader;

/// How a replay compares with the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Journal entries folded.
    pub entries: u64,
    /// Findings that the ledger has too, or should have.
    pub compared: u64,
    /// Findings of the journal's end that the ledger does not have yet: a start would append them.
    pub missing: u64,
    /// Journal entries that were trimmed or cannot be read. Where there are any, differences are to be expected after them and
    /// are not told.
    pub lost: u64,
    /// Every difference, in words.
    pub mismatches: Vec<String>,
}

/// Folds everything that the journal in the data `directory` holds and compares what comes of it with the ledger there. Reads
/// only; epochs, skips and ticks come from the journal.
///
/// # Errors
/// Journal or ledger cannot be read, or an analyzer cannot be opened, or panics where no skip was journalled.
pub fn replay(directory: &Path, slots: Vec<AnalyzerSlot>) -> anyhow::Result<Report> {
    let entries = JournalReader::open(&directory.join("journal")).context("cannot read the journal")?;
    let ledger = LedgerReader::open(&directory.join("ledger")).context("cannot read the ledger")?;
    let skips = scan(&entries, Offset(0))?.skips;
    let analyzers = slots.iter().map(|slot| (slot.open)()).collect::<anyhow::Result<_>>()?;
    let mut core = Core::fresh(analyzers);
    let mut recorded = Recorded::new(ledger.read_from(1), ledger.last());
    let mut report = Report::default();
    for item in entries.read_from(Offset(0)) {
        match item? {
            JournalItem::Gap { from, to } if from < to => {
                core.miss(from, to);
                recorded.expect_differences();
                report.lost += to.0 - from.0;
            }
            JournalItem::Gap { .. } => {}
            JournalItem::Entry(entry) => {
                let (offset, time) = (entry.offset, entry.time);
                let found = core.apply(entry, &skips).map_err(|reason| {
                    anyhow::anyhow!("an analyzer panicked at journal entry {}: {reason}", offset.0)
                })?;
                let known = recorded.pass(&found, time, offset)?;
                report.entries += 1;
                report.compared += known as u64;
                report.missing += (found.len() - known) as u64;
            }
        }
    }
    if let Some(left) = recorded.left()? {
        recorded.differ(format!("the ledger has {left}, but the journal ends before"));
    }
    report.mismatches = recorded.mismatches;
    Ok(report)
}

/// Folds everything that the journal in the data `directory` holds through one analyzer, for who wants to look at it between
/// entries: `look` is called before each and says whether to go on. Repeats and skips are passed over as in the running process,
/// findings are dropped. Says how many entries are trimmed or cannot be read.
///
/// # Errors
/// The journal cannot be read, or the analyzer panics where no skip was journalled.
pub fn refold(
    directory: &Path,
    analyzer: Box<dyn Analyzer>,
    look: &mut dyn FnMut(&Entry) -> bool,
) -> anyhow::Result<u64> {
    let entries = JournalReader::open(&directory.join("journal")).context("cannot read the journal")?;
    let skips = scan(&entries, Offset(0))?.skips;
    let mut core = Core::fresh(vec![analyzer]);
    let mut lost = 0;
    for item in entries.read_from(Offset(0)) {
        match item? {
            JournalItem::Gap { from, to } => {
                core.miss(from, to);
                lost += to.0 - from.0;
            }
            JournalItem::Entry(entry) => {
                if !look(&entry) {
                    break;
                }
                let offset = entry.offset;
                core.apply(entry, &skips).map_err(|reason| {
                    anyhow::anyhow!("an analyzer panicked at journal entry {}: {reason}", offset.0)
                })?;
            }
        }
    }
    Ok(lost)
}
