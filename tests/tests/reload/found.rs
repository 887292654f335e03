//! What journal and ledger hold after reloads.

use std::collections::BTreeMap;
use std::path::Path;

use homeostat_pipeline::entry::{Event, Offset};
use homeostat_pipeline::finding::Finding;
use homeostat_pipeline::journal::{JournalItem, JournalReader};
use homeostat_pipeline::ledger::{LedgerItem, LedgerReader};
use homeostat_tests::homeostat::command;
use homeostat_tests::process::Process;

/// What the ledger came to.
#[derive(Default)]
pub struct Found {
    /// Window and node → version and spans of the last version.
    pub windows: BTreeMap<String, (u32, u64)>,
    /// Uid → its transitions, in order.
    pub deviations: BTreeMap<String, Vec<(u32, String)>>,
    /// Journal offset and hash of each model that was taken over, with the hash of the one before.
    pub models: Vec<(Offset, String, Option<String>)>,
}

impl Found {
    /// Reads the ledger of a homeostat that ran in `folder`.
    pub fn read(folder: &Path) -> Found {
        let reader = LedgerReader::open(&folder.join("data/ledger")).expect("there is a ledger");
        let mut found = Found::default();
        for item in reader.read_from(1) {
            let LedgerItem::Entry(entry) = item.expect("the ledger can be read") else {
                panic!("the ledger is not whole")
            };
            match entry.finding {
                Finding::Behaviors { behaviors } => {
                    for behavior in behaviors {
                        let known = found.windows.entry(behavior.uid.clone()).or_default();
                        assert_eq!(
                            known.0 + 1,
                            behavior.version,
                            "each version of a window once: {behavior:?}"
                        );
                        *known = (behavior.version, behavior.count);
                    }
                }
                Finding::Deviation(one) => {
                    found.deviations.entry(one.uid).or_default().push((one.version, entry.kind));
                }
                Finding::Model(model) => {
                    found.models.push((entry.cause, model.model_hash, model.previous_hash));
                }
                _ => {}
            }
        }
        found
    }

    /// There is one deviation, opened once, and each of its versions once.
    pub fn has_one_deviation(&self) {
        assert_eq!(self.deviations.len(), 1, "one deviation: {:?}", self.deviations);
        for steps in self.deviations.values() {
            let versions: Vec<u32> = steps.iter().map(|(version, _)| *version).collect();
            let expected: Vec<u32> = (1..).take(steps.len()).collect();
            assert_eq!(versions, expected, "{steps:?}");
            let opened = steps.iter().filter(|(_, kind)| kind == "deviation_detected").count();
            assert_eq!(opened, 1, "it was opened once: {steps:?}");
        }
    }

    /// Each epoch of the journal was told once, by the entry that brought it, and after the one before it.
    pub fn has_each(&self, epochs: &[(Offset, String)]) {
        let told: Vec<(Offset, String)> =
            self.models.iter().map(|(cause, hash, _)| (*cause, hash.clone())).collect();
        assert_eq!(told, epochs, "each epoch is in the ledger, with the entry that brought it");
        let before = self.models.iter().map(|(_, _, before)| before.as_deref());
        let hashes = epochs.iter().map(|(_, hash)| Some(hash.as_str()));
        assert!(before.eq([None].into_iter().chain(hashes).take(epochs.len())), "{:?}", self.models);
    }

    /// Spans in all windows.
    pub fn spans(&self) -> u64 {
        self.windows.values().map(|(_, count)| count).sum()
    }
}

/// The epochs in the journal, in order, with their hashes.
pub fn epochs(folder: &Path) -> Vec<(Offset, String)> {
    let reader = JournalReader::open(&folder.join("data/journal")).expect("there is a journal");
    let epochs =
        reader.read_from(Offset(0)).filter_map(|item| match item.expect("the journal can be read") {
            JournalItem::Entry(entry) => match entry.event {
                Event::Epoch(epoch) => Some((entry.offset, epoch.hash)),
                _ => None,
            },
            JournalItem::Gap { .. } => panic!("the journal has a gap"),
        });
    epochs.collect()
}

/// The chain verifies, and the journal replayed gives the same findings byte for byte.
pub async fn trail_is_whole(path: &Path) {
    for arguments in [
        ["ledger", "verify", "data"].as_slice(),
        ["ledger", "replay", "data", "--config", "config.yaml"].as_slice(),
    ] {
        let mut process = Process::spawn("homeostat", command(path, arguments));
        let status = process.exit().await;
        assert!(status.success(), "{arguments:?}: {status}\n{}", process.output());
    }
}

/// The sequence of a line that `file` wrote.
pub fn sequence(line: &str) -> u64 {
    let line: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
    line["sequence"].as_str().and_then(|text| text.parse().ok()).expect("a line has its sequence")
}
