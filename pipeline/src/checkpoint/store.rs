//! The redb database: opened with every page checked, opened again after a failed commit, its values sealed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use redb::backends::InMemoryBackend;
use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, TableHandle as _};

use super::definition;

/// redb's default is 1 GiB; an idle sidecar has 24 MiB in all.
const CACHE_BYTES: usize = 1 << 20;

/// Calls with table, key and value.
pub(super) type Visit<'a> = dyn FnMut(&str, &[u8], &[u8]) -> anyhow::Result<()> + 'a;

#[derive(Debug)]
pub(super) struct Store {
    /// None without disk.
    path: Option<PathBuf>,
    /// None after a failed commit, which leaves redb unusable until the file is opened again.
    database: Mutex<Option<Arc<Database>>>,
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// redb panics at some damage that it does not expect; here that is damage like any other.
fn guarded<T>(act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no words");
        Err(anyhow::anyhow!("redb panicked: {words}"))
    })
}

fn open(path: &Path) -> anyhow::Result<Database> {
    guarded(|| Ok(builder().create(path)?))
}

impl Store {
    pub fn file(path: &Path) -> anyhow::Result<Store> {
        let database = open(path)?;
        Ok(Store { path: Some(path.to_owned()), database: Mutex::new(Some(Arc::new(database))) })
    }

    pub fn memory() -> anyhow::Result<Store> {
        let database = builder().create_with_backend(InMemoryBackend::new())?;
        Ok(Store { path: None, database: Mutex::new(Some(Arc::new(database))) })
    }

    pub fn database(&self) -> anyhow::Result<Arc<Database>> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*database {
            return Ok(Arc::clone(database));
        }
        let path = self.path.as_deref().context("the checkpoints in memory failed")?;
        let opened = Arc::new(open(path)?);
        *database = Some(Arc::clone(&opened));
        Ok(opened)
    }

    pub fn begin(&self) -> anyhow::Result<redb::WriteTransaction> {
        self.database()?.begin_write().map_err(|error| {
            self.reopen_later();
            anyhow::Error::new(error).context("no checkpoint can be begun")
        })
    }

    /// The database is unusable; the next use opens it anew.
    pub fn reopen_later(&self) {
        if self.path.is_some() {
            *self.database.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Reads everything, and calls `visit` with it.
    pub fn check(&self, visit: &mut Visit<'_>) -> anyhow::Result<()> {
        let database = self.database()?;
        guarded(|| {
            let transaction = database.begin_read()?;
            for table in transaction.list_tables()? {
                let name = table.name();
                for entry in transaction.open_table(definition(name))?.iter()? {
                    let (key, value) = entry?;
                    visit(name, key.value(), unseal(name, key.value(), value.value())?)?;
                }
            }
            Ok(())
        })
    }
}

fn crc(table: &str, key: &[u8], value: &[u8]) -> [u8; 4] {
    let crc = crc32c::crc32c_append(crc32c::crc32c(table.as_bytes()), key);
    crc32c::crc32c_append(crc, value).to_le_bytes()
}

/// A value as it is stored: CRC32C of table, key and value, then the value.
pub(super) fn seal(table: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(4 + value.len());
    sealed.extend_from_slice(&crc(table, key, value));
    sealed.extend_from_slice(value);
    sealed
}

/// The value that was sealed.
pub(super) fn unseal<'a>(table: &str, key: &[u8], sealed: &'a [u8]) -> anyhow::Result<&'a [u8]> {
    sealed
        .split_first_chunk::<4>()
        .filter(|(stored, value)| **stored == crc(table, key, value))
        .map(|(_, value)| value)
        .with_context(|| format!("a value of `{table}` in the checkpoint is damaged"))
}
