//! How many records were judged, read from the ledger while homeostat writes it.

use std::collections::BTreeMap;
use std::path::Path;

use homeostat_pipeline::finding::Finding;
use homeostat_pipeline::ledger::{LedgerItem, LedgerReader};

/// Records in behaviors, the last version of each counted, as the ledger in this data directory has them.
pub fn records_judged(data: &Path) -> u64 {
    let reader = LedgerReader::open(&data.join("ledger")).expect("there is a ledger");
    let mut counts: BTreeMap<String, (u32, u64)> = BTreeMap::new();
    for item in reader.read_from(1) {
        let LedgerItem::Entry(entry) = item.expect("the ledger can be read") else { continue };
        let Finding::Behaviors { behaviors } = entry.finding else { continue };
        for behavior in behaviors {
            let count = counts.entry(behavior.uid).or_default();
            if behavior.version >= count.0 {
                *count = (behavior.version, behavior.count);
            }
        }
    }
    counts.values().map(|(_, count)| count).sum()
}
