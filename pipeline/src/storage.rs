//! The folder that holds journal, ledger and checkpoints, and the lock that keeps a second process out of it.

use std::path::PathBuf;
use std::time::Duration;

use crate::checkpoint::{Checkpoints, Recovery};
use crate::journal::Journal;
use crate::ledger::Ledger;

/// `service.storage`, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    /// The folder; none runs without disk.
    pub directory: Option<PathBuf>,
    /// The journal keeps entries this long: 24 h.
    pub journal_age_max: Duration,
    /// The journal's size on disk: 1 GiB.
    pub journal_bytes_max: u64,
    /// Free space that is left to others: 512 MiB.
    pub free_bytes_min: u64,
    /// The ledger keeps the bodies of behaviors this long: 30 days.
    pub behavior_age_max: Duration,
}

/// All that is durable, opened. The engine takes it apart; `lock` must live as long as any part.
#[derive(Debug)]
pub struct Store {
    /// What came in.
    pub journal: Journal,
    /// What was found.
    pub ledger: Ledger,
    /// How far the fold has come.
    pub checkpoints: Checkpoints,
    /// What the checkpoint file said.
    pub recovery: Recovery,
    /// A folder for each component: `components/{id}`; none without disk.
    pub components: Option<PathBuf>,
    /// Keeps other processes out.
    pub lock: Option<std::fs::File>,
}

impl Store {
    /// Opens the folder, or memory.
    ///
    /// # Errors
    /// Another process holds the folder, or it cannot be written. Damage is no error: it is logged and counted.
    pub fn open(_settings: &StorageSettings) -> anyhow::Result<Store> {
        unimplemented!()
    }
}
