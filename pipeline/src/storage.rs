//! The folder that holds journal, ledger and checkpoints, and the lock that keeps a second process out of it.
//!
//! ```text
//! homeostat-data/
//!   lock                    held while a process runs
//!   journal/  ledger/       segments; ledger/head
//!   checkpoint.redb         analyzers' state, position, cursors
//!   components/{id}/        what a component keeps for itself
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::checkpoint::{Checkpoints, Recovery};
use crate::entry::Offset;
use crate::journal::{Journal, Retention};
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

impl Default for StorageSettings {
    fn default() -> StorageSettings {
        StorageSettings {
            directory: None,
            journal_age_max: Duration::from_hours(24),
            journal_bytes_max: 1 << 30,
            free_bytes_min: 512 << 20,
            behavior_age_max: Duration::from_hours(30 * 24),
        }
    }
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
    pub lock: Option<File>,
}

impl Store {
    /// Opens the folder, or memory.
    ///
    /// # Errors
    /// Another process holds the folder, or it cannot be written. Damage is no error: it is logged and counted.
    pub fn open(settings: &StorageSettings) -> anyhow::Result<Store> {
        let Some(directory) = &settings.directory else {
            return Ok(Store {
                journal: Journal::memory(),
                ledger: Ledger::memory(),
                checkpoints: Checkpoints::memory()?,
                recovery: Recovery::Fresh,
                components: None,
                lock: None,
            });
        };
        let cannot_use = || {
            format!(
                "cannot use the storage directory `{}` (set `service.storage.directory` to a folder that this user can write)",
                directory.display()
            )
        };
        fs::create_dir_all(directory).with_context(cannot_use)?;
        let lock = lock(directory)?;
        let retention = Retention {
            age_max: settings.journal_age_max,
            bytes_max: settings.journal_bytes_max,
            free_bytes_min: settings.free_bytes_min,
        };
        let (mut journal, _) =
            Journal::open(&directory.join("journal"), retention).with_context(cannot_use)?;
        let (mut ledger, _) = Ledger::open(&directory.join("ledger")).with_context(cannot_use)?;
        let (checkpoints, recovery) = Checkpoints::open(&directory.join("checkpoint.redb"))?;
        if let Recovery::Recovered(position) = &recovery {
            ledger.expect(position.ledger).with_context(cannot_use)?;
            expect(&mut journal, position.next).with_context(cannot_use)?;
        }
        let components = directory.join("components");
        fs::create_dir_all(&components).with_context(cannot_use)?;
        Ok(Store { journal, ledger, checkpoints, recovery, components: Some(components), lock: Some(lock) })
    }
}

/// The checkpoint holds entries up to `next`; offsets below it are never given again.
fn expect(journal: &mut Journal, next: Offset) -> std::io::Result<()> {
    let (from, to) = (journal.next().0, next.0);
    if from >= to {
        return Ok(());
    }
    tracing::error!(from, to, "the journal's last entries are lost; the checkpoint holds them already");
    journal.skip_to(next)
}

fn lock(directory: &Path) -> anyhow::Result<File> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| {
            format!(
                "cannot write to the storage directory `{}` (set `service.storage.directory` to a folder that this user can write)",
                directory.display()
            )
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => anyhow::bail!(
            "another homeostat uses the storage directory `{}` (stop it, or give this one its own `service.storage.directory`)",
            directory.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock `{}`", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Position;
    use crate::clock::Timestamp;
    use crate::entry::Event;
    use crate::finding::{Finding, Notice};
    use crate::ledger::LedgerItem;

    fn settings(directory: &Path) -> StorageSettings {
        StorageSettings {
            directory: Some(directory.to_owned()),
            free_bytes_min: 0,
            ..StorageSettings::default()
        }
    }

    fn notice() -> Finding {
        Finding::Notice(Notice { kind: "x".into(), at: Timestamp::ZERO, message: String::new() })
    }

    fn filled(directory: &Path) -> Position {
        let mut store = Store::open(&settings(directory)).expect("opens");
        for _ in 0..3 {
            store.journal.append(&Event::Tick, Timestamp::ZERO).expect("taken");
        }
        store.journal.sync().expect("durable");
        store.ledger.append(&[notice(), notice()], Timestamp::ZERO, Offset(2)).expect("appended");
        let position = Position { next: store.journal.next(), ledger: store.ledger.head() };
        store.checkpoints.begin().expect("begun").commit(position).expect("committed");
        position
    }

    #[test]
    fn two_processes_cannot_share_a_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&settings(dir.path())).expect("opens");
        let error = Store::open(&settings(dir.path())).expect_err("held").to_string();
        assert!(
            error.contains("another homeostat uses") && error.contains("service.storage.directory"),
            "{error}"
        );
        drop(store);
        Store::open(&settings(dir.path())).expect("free again");
    }

    #[test]
    fn everything_comes_back_after_reopening() {
        let dir = tempfile::tempdir().expect("a folder");
        let position = filled(dir.path());
        let store = Store::open(&settings(dir.path())).expect("opens");
        assert_eq!(store.recovery, Recovery::Recovered(position));
        assert_eq!((store.journal.next(), store.ledger.head()), (position.next, position.ledger));
    }

    #[test]
    fn what_the_checkpoint_knows_of_is_not_given_again_when_the_logs_are_lost() {
        let dir = tempfile::tempdir().expect("a folder");
        let position = filled(dir.path());
        for log in ["journal", "ledger"] {
            fs::remove_dir_all(dir.path().join(log)).expect("removed");
        }
        let mut store = Store::open(&settings(dir.path())).expect("opens");
        let items: Vec<LedgerItem> =
            store.ledger.reader().read_from(1).map(|item| item.expect("readable")).collect();
        assert_eq!(items, [LedgerItem::Gap { from: 1, to: 3 }]);
        let logged = store.journal.append(&Event::Tick, Timestamp::ZERO).expect("taken");
        assert_eq!(logged.offset, Offset(3));
        let entry = store.ledger.append(&[notice()], Timestamp::ZERO, Offset(3)).expect("appended").remove(0);
        assert_eq!((entry.sequence, entry.previous), (3, position.ledger.hash));
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_named_with_the_remedy() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("file");
        fs::write(&file, b"").expect("written");
        let error = format!("{:#}", Store::open(&settings(&file)).expect_err("a file is no folder"));
        assert!(error.contains("service.storage.directory") && error.contains("file"), "{error}");
    }

    #[test]
    fn without_disk_nothing_is_opened() {
        let store = Store::open(&StorageSettings::default()).expect("opens");
        assert!(store.lock.is_none() && store.components.is_none());
        assert_eq!(store.recovery, Recovery::Fresh);
    }
}
