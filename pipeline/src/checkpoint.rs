//! Checkpoints of analyzers and cursors of exporters, in redb.

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
    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()>;
}

/// How far the fold has come: what a checkpoint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The first journal entry that the state does not hold yet.
    pub next: crate::entry::Offset,
    /// The end of the ledger at that point.
    pub ledger: crate::ledger::Head,
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
        moved_to: std::path::PathBuf,
        /// What was wrong.
        reason: String,
    },
}

/// The store of checkpoints and cursors. Blocking; cheap to clone.
#[derive(Clone, Debug)]
pub struct Checkpoints {}

/// One checkpoint being written: all of it counts once [`Transaction::commit`] returns, or none.
pub struct Transaction {}

/// One analyzer's part.
pub struct State<'a>(std::marker::PhantomData<&'a ()>);

impl Checkpoints {
    /// Opens or creates the store at `path`.
    ///
    /// # Errors
    /// The file cannot be created; damage is no error.
    pub fn open(_path: &std::path::Path) -> anyhow::Result<(Checkpoints, Recovery)> {
        unimplemented!()
    }

    /// A store without disk.
    ///
    /// # Errors
    /// Never in practice.
    pub fn memory() -> anyhow::Result<Checkpoints> {
        unimplemented!()
    }

    /// Begins a checkpoint. There is one at a time.
    ///
    /// # Errors
    /// Those of the store.
    pub fn begin(&self) -> anyhow::Result<Transaction> {
        unimplemented!()
    }

    /// The committed state of `analyzer`, to restore from. Writing to it is an error.
    ///
    /// # Errors
    /// Those of the store.
    pub fn load(&self, _analyzer: &str) -> anyhow::Result<Box<dyn KeyedState>> {
        unimplemented!()
    }

    /// The last entry of the ledger that `exporter` has written; 0 at first.
    pub fn cursor(&self, _exporter: &str) -> u64 {
        unimplemented!()
    }

    /// Remembers a cursor. It becomes durable with the next checkpoint or [`Checkpoints::save_cursors`]; after a crash before
    /// that, entries are exported again, which changes nothing.
    pub fn set_cursor(&self, _exporter: &str, _sequence: u64) {
        unimplemented!()
    }

    /// Makes the cursors durable, when one has moved.
    ///
    /// # Errors
    /// Those of the store.
    pub fn save_cursors(&self) -> anyhow::Result<()> {
        unimplemented!()
    }
}

impl Transaction {
    /// The part of `analyzer`, with what earlier checkpoints wrote.
    ///
    /// # Errors
    /// Those of the store.
    pub fn state(&mut self, _analyzer: &str) -> anyhow::Result<State<'_>> {
        unimplemented!()
    }

    /// Commits all parts, the position and the cursors, durably.
    ///
    /// # Errors
    /// Those of the store; then the checkpoint before still holds.
    pub fn commit(self, _position: Position) -> anyhow::Result<()> {
        unimplemented!()
    }
}

impl KeyedState for State<'_> {
    fn get(&self, _key: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        unimplemented!()
    }
    fn put(&mut self, _key: &[u8], _value: &[u8]) -> anyhow::Result<()> {
        unimplemented!()
    }
    fn remove(&mut self, _key: &[u8]) -> anyhow::Result<()> {
        unimplemented!()
    }
    fn scan(
        &self,
        _prefix: &[u8],
        _visit: &mut dyn FnMut(&[u8], &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        unimplemented!()
    }
}
