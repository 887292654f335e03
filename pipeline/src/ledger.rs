//! The ledger: the append-only, hash-chained log of findings and decisions, and the source of truth.
//!
//! entry hash = SHA-256(previous ‖ chain ‖ sequence ‖ kind ‖ SHA-256(body)), the body in RFC 8785 form.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::entry::Offset;
use crate::finding::Finding;

/// One entry of the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerEntry {
    /// The chain: `local` on one machine.
    pub chain: Arc<str>,
    /// From 1, without gaps.
    pub sequence: u64,
    /// When the journal entry that caused it was logged.
    pub time: Timestamp,
    /// The journal entry that caused it.
    pub cause: Offset,
    /// `deviation_detected`, `behavior_observed` …
    pub kind: String,
    /// RFC 8785 JSON; what the hash covers.
    pub body: String,
    /// The hash of the entry before; zeros for the first.
    pub previous: [u8; 32],
    /// This entry's.
    pub hash: [u8; 32],
    /// The body, decoded.
    pub finding: Finding,
}

/// Reads the ledger from its start.
pub trait Replay: Send + Sync {
    /// Calls `visit` with every entry that still has its body, in order, up to the sequence `through`.
    ///
    /// # Errors
    /// The ledger cannot be read, or `visit` failed.
    fn replay(
        &self,
        through: u64,
        visit: &mut dyn FnMut(LedgerEntry) -> anyhow::Result<()>,
    ) -> anyhow::Result<()>;
}

/// The end of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Head {
    /// Of the last entry; 0 when there is none.
    pub sequence: u64,
    /// The last entry's hash; zeros when there is none.
    pub hash: [u8; 32],
}

/// The writer; there is one. Blocking.
#[derive(Debug)]
pub struct Ledger {}

/// Reads concurrently with appends; cheap to clone. Blocking.
#[derive(Clone, Debug)]
pub struct LedgerReader {}

/// The entries from a sequence on. `None` means "none yet": it may be asked again after more were appended.
#[derive(Debug)]
pub struct LedgerEntries {}

/// What stands at a place of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub enum LedgerItem {
    /// An entry with its body (boxed, for it is large).
    Entry(Box<LedgerEntry>),
    /// An entry whose body was pruned; its hash still stands in the chain.
    Pruned {
        /// Its sequence.
        sequence: u64,
    },
    /// Entries that damage made unreadable: `from` up to, not including, `to`.
    Gap {
        /// The first that is missing.
        from: u64,
        /// The first that is there again.
        to: u64,
    },
}

impl Ledger {
    /// Opens or creates the ledger in `dir`.
    ///
    /// # Errors
    /// The directory cannot be read or written; damage is no error.
    pub fn open(_dir: &std::path::Path) -> std::io::Result<(Ledger, crate::log::Opened)> {
        unimplemented!()
    }

    /// A ledger without disk: it keeps the last 4,096 entries or 16 MiB.
    pub fn memory() -> Ledger {
        unimplemented!()
    }

    /// Appends `findings`, durable when it returns (one `fdatasync`).
    ///
    /// # Errors
    /// The disk does not take them; then none was appended and the same call may be made again.
    pub fn append(
        &mut self,
        _findings: &[Finding],
        _time: Timestamp,
        _cause: Offset,
    ) -> anyhow::Result<Vec<LedgerEntry>> {
        unimplemented!()
    }

    /// The end of the chain.
    pub fn head(&self) -> Head {
        unimplemented!()
    }

    /// A reader of what was appended; it implements [`Replay`].
    pub fn reader(&self) -> LedgerReader {
        unimplemented!()
    }

    /// Removes the bodies of behaviors logged before `before` in segments whose entries all lie at or before `passed`
    /// (the lowest cursor). Their hashes stay, so the chain still verifies.
    ///
    /// # Errors
    /// A segment cannot be rewritten; the old one stays.
    pub fn prune(&mut self, _before: Timestamp, _passed: u64) -> std::io::Result<u64> {
        unimplemented!()
    }
}

impl LedgerReader {
    /// Reads the ledger in `dir` as it is, without writing: for commands.
    ///
    /// # Errors
    /// There is no ledger, or it cannot be read.
    pub fn open(_dir: &std::path::Path) -> std::io::Result<LedgerReader> {
        unimplemented!()
    }

    /// The sequence of the last entry; 0 when there is none.
    pub fn last(&self) -> u64 {
        unimplemented!()
    }

    /// Entries from `sequence` on.
    pub fn read_from(&self, _sequence: u64) -> LedgerEntries {
        unimplemented!()
    }
}

impl Iterator for LedgerEntries {
    type Item = std::io::Result<LedgerItem>;
    fn next(&mut self) -> Option<std::io::Result<LedgerItem>> {
        unimplemented!()
    }
}

impl Replay for LedgerReader {
    fn replay(
        &self,
        _through: u64,
        _visit: &mut dyn FnMut(LedgerEntry) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        unimplemented!()
    }
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Verification {
    /// Entries whose hash was recomputed and is right.
    pub entries: u64,
    /// Of these, entries whose body was pruned (the hash of the body stands for it).
    pub pruned: u64,
    /// The end of the chain as far as it is whole.
    pub head: Head,
    /// The first sequence at which the chain is broken, and why; none when it is whole.
    pub broken: Option<(u64, String)>,
}

/// Recomputes every hash of the ledger in `dir`.
///
/// # Errors
/// There is no ledger in `dir`, or it cannot be read.
pub fn verify(_dir: &std::path::Path) -> std::io::Result<Verification> {
    unimplemented!()
}

/// The hash of an entry: SHA-256 of `previous` (32 bytes), `chain` (UTF-8), `sequence` (8 bytes, big-endian), `kind` (UTF-8) and
/// `body_hash` (SHA-256 of the body's UTF-8, 32 bytes), one after the other. In SQL:
/// `sha256(previous || chain::bytea || int8send(sequence) || kind::bytea || sha256(convert_to(body, 'UTF8')))`.
pub fn entry_hash(
    _previous: &[u8; 32],
    _chain: &str,
    _sequence: u64,
    _kind: &str,
    _body_hash: &[u8; 32],
) -> [u8; 32] {
    unimplemented!()
}
