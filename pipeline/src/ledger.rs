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
