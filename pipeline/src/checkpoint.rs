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
