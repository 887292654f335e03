//! A replay: the whole journal through fresh analyzers. It must give what the ledger holds, byte for byte.

use std::collections::BTreeMap;

use super::fold::{Core, scan};
use super::plan::AnalyzerSlot;
use crate::clock::Timestamp;
use crate::entry::Offset;
use crate::finding::Finding;
use crate::journal::{JournalItem, JournalReader};

/// Folds everything that the journal holds and calls `visit` with each finding, the entry that caused it and that entry's
/// time. Reads only; epochs, skips and ticks come from the journal. A journal that was trimmed begins with a gap.
///
/// # Errors
/// The journal cannot be read, an analyzer cannot be opened or panics, or `visit` failed.
pub fn replay(
    entries: &JournalReader,
    slots: &[AnalyzerSlot],
    visit: &mut dyn FnMut(Offset, Timestamp, Finding) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let skips: BTreeMap<Offset, String> = scan(entries, Offset(0))?.skips;
    let analyzers = slots.iter().map(|slot| (slot.open)()).collect::<anyhow::Result<_>>()?;
    let mut core = Core::fresh(analyzers);
    for item in entries.read_from(Offset(0)) {
        match item? {
            JournalItem::Gap { from, to } => core.miss(from, to),
            JournalItem::Entry(entry) => {
                let (offset, time) = (entry.offset, entry.time);
                let found = core.apply(entry, &skips).map_err(|reason| {
                    anyhow::anyhow!("an analyzer panicked at journal entry {}: {reason}", offset.0)
                })?;
                for finding in found {
                    visit(offset, time, finding)?;
                }
            }
        }
    }
    Ok(())
}
