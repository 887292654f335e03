//! Checkpoints of analyzers and cursors of exporters, in redb: one file, one transaction per checkpoint.
//!
//! A checkpoint is the touched keys of each analyzer, the next journal offset and the ledger's head, and it counts whole or not
//! at all. Every value carries a CRC32C over table, key and value, beside redb's own checksums. A file that is damaged is moved
//! aside: a checkpoint can always be had again from the journal.

mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use metrics::counter;
use redb::{ReadableDatabase as _, Table, TableDefinition};

use crate::crash;
use crate::entry::Offset;
use crate::ledger::Head;
use store::{Store, seal, unseal};

/// Called with key and value.
pub type Visit<'a> = &'a mut (dyn FnMut(&[u8], &[u8]) -> anyhow::Result<()> + 'a);

/// A key-value view of one analyzer's part of the checkpoint.
pub trait KeyedState {
    /// The value of `key`.
    ///
    /// # Errors
    /// The store is damaged.
    fn get(&self, key: &[u8]) -> anyhow::Result<Option<Vec<u8>>>;

    /// Writes `key`, within the checkpoint's transaction.
    ///
    /// # Errors
    /// The store cannot be written.
    fn put(&mut self, key: &[u8], value: &[u8]) -> anyhow::Result<()>;

    /// Removes `key`.
    ///
    /// # Errors
    /// The store cannot be written.
    fn remove(&mut self, key: &[u8]) -> anyhow::Result<()>;

    /// Calls `visit` with every key that starts with `prefix`, in order.
    ///
    /// # Errors
    /// The store is damaged, or `visit` failed.
    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> anyhow::Result<()>;
}

/// How far the fold has come: what a checkpoint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The first journal entry that the state does not hold yet.
    pub next: Offset,
    /// The end of the ledger at that point.
    pub ledger: Head,
}

/// What opening found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// No checkpoint yet.
    Fresh,
    /// The last one, whole.
    Recovered(Position),
    /// The file was damaged and moved aside; the fold starts over.
    Damaged {
        /// Where it lies now.
        moved_to: PathBuf,
        /// What was wrong.
        reason: String,
    },
}

/// The store of checkpoints and cursors. Blocking; cheap to clone.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    store: Arc<Store>,
    cursors: Arc<Mutex<Cursors>>,
}

#[derive(Debug, Default)]
struct Cursors {
    sequences: BTreeMap<String, u64>,
    /// Moved since they were last durable.
    is_dirty: bool,
}

/// One checkpoint being written: all of it counts once [`Transaction::commit`] returns, or none.
pub struct Transaction {
    transaction: redb::WriteTransaction,
    checkpoints: Checkpoints,
}

/// One analyzer's part.
pub struct State<'a> {
    table: Table<'a, &'static [u8], &'static [u8]>,
    name: String,
}

const META: &str = "meta";
const POSITION: &[u8] = b"position";
const CURSORS: &str = "cursors";

fn definition(name: &str) -> TableDefinition<'_, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

fn table_of(analyzer: &str) -> String {
    format!("state/{analyzer}")
}

impl Checkpoints {
    /// Opens or creates the store at `path`, checking every page and every value.
    ///
    /// # Errors
    /// The file cannot be created; damage is no error.
    pub fn open(path: &Path) -> anyhow::Result<(Checkpoints, Recovery)> {
        let reason = match Checkpoints::on(Store::file(path)) {
            Ok(found) => return Ok(found),
            Err(error) if !is_damage(&error) => return Err(error.context(cannot_open(path))),
            Err(error) => format!("{error:#}"),
        };
        let moved_to = (1..)
            .map(|number| path.with_extension(format!("damaged-{number}")))
            .find(|free| !free.exists())
            .context("there is no free name")?;
        std::fs::rename(path, &moved_to).with_context(|| cannot_open(path))?;
        counter!("homeostat_checkpoint_damaged_total").increment(1);
        tracing::error!(
            path = %path.display(),
            moved_to = %moved_to.display(),
            reason,
            "the checkpoint file is damaged and was moved aside; the journal is judged again from its start"
        );
        let (checkpoints, _) = Checkpoints::on(Store::file(path)).with_context(|| cannot_open(path))?;
        Ok((checkpoints, Recovery::Damaged { moved_to, reason }))
    }

    /// A store without disk.
    ///
    /// # Errors
    /// Never in practice.
    pub fn memory() -> anyhow::Result<Checkpoints> {
        Ok(Checkpoints::on(Store::memory())?.0)
    }

    fn on(store: anyhow::Result<Store>) -> anyhow::Result<(Checkpoints, Recovery)> {
        let store = store?;
        let mut cursors = Cursors::default();
        let mut position = None;
        store.check(&mut |table, key, value| {
            if table == META && key == POSITION {
                position = Some(read_position(value).context("the position has not its length")?);
            }
            if table == CURSORS {
                let exporter = std::str::from_utf8(key)?.to_owned();
                let sequence = u64::from_le_bytes(value.try_into().context("a cursor has not its length")?);
                cursors.sequences.insert(exporter, sequence);
            }
            Ok(())
        })?;
        let recovery = position.map_or(Recovery::Fresh, Recovery::Recovered);
        let cursors = Arc::new(Mutex::new(cursors));
        Ok((Checkpoints { store: Arc::new(store), cursors }, recovery))
    }

    /// Begins a checkpoint. There is one at a time: a second waits.
    ///
    /// # Errors
    /// Those of the store.
    pub fn begin(&self) -> anyhow::Result<Transaction> {
        Ok(Transaction { transaction: self.store.begin()?, checkpoints: self.clone() })
    }

    /// The committed state of `analyzer`, to restore from. Writing to it is an error.
    ///
    /// # Errors
    /// Those of the store.
    pub fn load(&self, analyzer: &str) -> anyhow::Result<Box<dyn KeyedState>> {
        let name = table_of(analyzer);
        let table = match self.store.database()?.begin_read()?.open_table(definition(&name)) {
            Ok(table) => Some(table),
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Box::new(Saved { table, name }))
    }

    fn cursors(&self) -> MutexGuard<'_, Cursors> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last entry of the ledger that `exporter` has written; 0 at first.
    pub fn cursor(&self, exporter: &str) -> u64 {
        self.cursors().sequences.get(exporter).copied().unwrap_or(0)
    }

    /// Remembers a cursor. It becomes durable with the next checkpoint or [`Checkpoints::save_cursors`]; after a crash before
    /// that, entries are exported again, which changes nothing.
    pub fn set_cursor(&self, exporter: &str, sequence: u64) {
        let mut cursors = self.cursors();
        if cursors.sequences.insert(exporter.to_owned(), sequence) != Some(sequence) {
            cursors.is_dirty = true;
        }
    }

    /// Makes the cursors durable, when one has moved.
    ///
    /// # Errors
    /// Those of the store; the cursors stay to be saved.
    pub fn save_cursors(&self) -> anyhow::Result<()> {
        if !self.cursors().is_dirty {
            return Ok(());
        }
        let transaction = self.begin()?;
        let Some(_) = transaction.write_cursors()? else { return Ok(()) };
        transaction.finish()
    }
}

/// Whether the file is to blame, rather than the disk, its permissions, or a process that has it open.
fn is_damage(error: &anyhow::Error) -> bool {
    use redb::{DatabaseError, StorageError};
    let is_damaged_storage = |error: &StorageError| match error {
        StorageError::Io(error) => {
            matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
        }
        _ => true,
    };
    match (error.downcast_ref::<DatabaseError>(), error.downcast_ref::<StorageError>()) {
        (Some(DatabaseError::Storage(error)), _) | (None, Some(error)) => is_damaged_storage(error),
        (Some(DatabaseError::DatabaseAlreadyOpen), _) => false,
        (Some(_) | None, _) => true,
    }
}

fn cannot_open(path: &Path) -> String {
    format!("cannot open the checkpoints `{}`", path.display())
}

impl Transaction {
    /// The part of `analyzer`, with what earlier checkpoints wrote.
    ///
    /// # Errors
    /// Those of the store.
    pub fn state(&mut self, analyzer: &str) -> anyhow::Result<State<'_>> {
        let name = table_of(analyzer);
        Ok(State { table: self.transaction.open_table(definition(&name))?, name })
    }

    /// Empties the part of `analyzer`: its state starts over.
    ///
    /// # Errors
    /// Those of the store.
    pub fn clear(&mut self, analyzer: &str) -> anyhow::Result<()> {
        self.transaction.delete_table(definition(&table_of(analyzer)))?;
        Ok(())
    }

    /// Commits all parts, the position and the cursors, durably.
    ///
    /// # Errors
    /// Those of the store; then the checkpoint before still holds.
    pub fn commit(self, position: Position) -> anyhow::Result<()> {
        let mut value = Vec::with_capacity(48);
        value.extend_from_slice(&position.next.0.to_le_bytes());
        value.extend_from_slice(&position.ledger.sequence.to_le_bytes());
        value.extend_from_slice(&position.ledger.hash);
        {
            let mut meta = self.transaction.open_table(definition(META))?;
            meta.insert(POSITION, seal(META, POSITION, &value).as_slice())?;
        }
        self.write_cursors()?;
        crash::point("checkpoint.before_commit");
        self.finish()?;
        crash::point("checkpoint.after_commit");
        Ok(())
    }

    /// Writes the cursors that moved; none when none did.
    fn write_cursors(&self) -> anyhow::Result<Option<()>> {
        let mut cursors = self.checkpoints.cursors();
        if !cursors.is_dirty {
            return Ok(None);
        }
        let mut table = self.transaction.open_table(definition(CURSORS))?;
        for (exporter, sequence) in &cursors.sequences {
            let key = exporter.as_bytes();
            table.insert(key, seal(CURSORS, key, &sequence.to_le_bytes()).as_slice())?;
        }
        cursors.is_dirty = false;
        Ok(Some(()))
    }

    fn finish(self) -> anyhow::Result<()> {
        let Transaction { transaction, checkpoints } = self;
        transaction.commit().map_err(|error| {
            checkpoints.cursors().is_dirty = true;
            checkpoints.store.reopen_later();
            anyhow::Error::new(error).context("a checkpoint could not be committed")
        })
    }
}

fn read_position(value: &[u8]) -> Option<Position> {
    let (next, rest) = value.split_first_chunk::<8>()?;
    let (sequence, hash) = rest.split_first_chunk::<8>()?;
    let ledger = Head { sequence: u64::from_le_bytes(*sequence), hash: hash.try_into().ok()? };
    Some(Position { next: Offset(u64::from_le_bytes(*next)), ledger })
}

fn get(
    table: &impl redb::ReadableTable<&'static [u8], &'static [u8]>,
    name: &str,
    key: &[u8],
) -> anyhow::Result<Option<Vec<u8>>> {
    table.get(key)?.map(|value| Ok(unseal(name, key, value.value())?.to_vec())).transpose()
}

fn scan(
    table: &impl redb::ReadableTable<&'static [u8], &'static [u8]>,
    name: &str,
    prefix: &[u8],
    visit: Visit<'_>,
) -> anyhow::Result<()> {
    for entry in table.range(prefix..)? {
        let (key, value) = entry?;
        if !key.value().starts_with(prefix) {
            break;
        }
        visit(key.value(), unseal(name, key.value(), value.value())?)?;
    }
    Ok(())
}

impl KeyedState for State<'_> {
    fn get(&self, key: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        get(&self.table, &self.name, key)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        self.table.insert(key, seal(&self.name, key, value).as_slice())?;
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> anyhow::Result<()> {
        self.table.remove(key)?;
        Ok(())
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> anyhow::Result<()> {
        scan(&self.table, &self.name, prefix, visit)
    }
}

/// What the last checkpoint holds of one analyzer.
struct Saved {
    table: Option<redb::ReadOnlyTable<&'static [u8], &'static [u8]>>,
    name: String,
}

impl KeyedState for Saved {
    fn get(&self, key: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        self.table.as_ref().map_or(Ok(None), |table| get(table, &self.name, key))
    }

    fn put(&mut self, _key: &[u8], _value: &[u8]) -> anyhow::Result<()> {
        anyhow::bail!("a state that is being restored cannot be written")
    }

    fn remove(&mut self, _key: &[u8]) -> anyhow::Result<()> {
        anyhow::bail!("a state that is being restored cannot be written")
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> anyhow::Result<()> {
        self.table.as_ref().map_or(Ok(()), |table| scan(table, &self.name, prefix, visit))
    }
}
