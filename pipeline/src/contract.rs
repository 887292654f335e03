//! The contracts of the components: what each may rely on and must keep.

use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::batch::{Batch, Telemetry};
use crate::checkpoint::KeyedState;
use crate::engine::Inlet;
use crate::entry::Entry;
use crate::finding::Finding;
use crate::ledger::LedgerEntry;
use crate::refusal::Refusal;

/// Speaks one protocol: turns what it gets into a [`Batch`], submits it, waits, and answers its sender. Keeps nothing.
#[async_trait]
pub trait Receiver: Send {
    /// Where it listens. Bound at open, so tests use port 0.
    fn local_addrs(&self) -> Vec<SocketAddr>;

    /// Runs until `stop`; then refuses new work, finishes what it took, returns.
    async fn run(self: Box<Self>, inlet: Inlet, stop: CancellationToken) -> anyhow::Result<()>;
}

/// Pure: no I/O, no clock, no state that outlives the call (a snapshot swapped from outside is fine).
pub trait Processor: Send + Sync {
    /// Pushes what becomes of `batch`, in order. Telemetry that it does not change it pushes on as it is.
    ///
    /// # Errors
    /// Refuses the batch as a whole; then nothing of it is taken.
    fn process(&self, batch: Batch, out: &mut Vec<Batch>) -> Result<(), Refusal>;
}

/// A deterministic fold: the same entries in the same order give byte-identical findings. It never reads a clock.
pub trait Analyzer: Send {
    /// Folds one entry and pushes what it concludes.
    fn apply(&mut self, entry: &Entry, out: &mut Vec<Finding>);

    /// Writes only the keys touched since the last call.
    ///
    /// # Errors
    /// Those of the state.
    fn checkpoint(&mut self, state: &mut dyn KeyedState) -> anyhow::Result<()>;

    /// Takes the state back, into a fresh analyzer.
    ///
    /// # Errors
    /// What is there is not what [`Analyzer::checkpoint`] writes.
    fn restore(&mut self, state: &dyn KeyedState) -> anyhow::Result<()>;
}

/// What a telemetry exporter's backend said to a request it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Records that the backend refused for good (OTLP's partial success).
    pub rejected: u64,
    /// For the counters only: refused records of a merged request that are nobody's for certain and are put down to this one.
    pub share: u64,
    /// The backend's words; empty when it had none.
    pub message: String,
}

/// Gets telemetry inline. Tries until `deadline` or its own timeout, whichever is earlier, then refuses.
#[async_trait]
pub trait TelemetryExporter: Send + Sync {
    /// Borrows the request; the frame's bytes may be cloned by reference count.
    ///
    /// # Errors
    /// `Unavailable` when the backend may take it later, `Rejected` when it never will.
    async fn export(&self, telemetry: &Telemetry, deadline: Instant) -> Result<Taken, Refusal>;

    /// Whether it answers before its backend has, from a queue of its own. Then it counts itself what was sent and what was not.
    /// Has no default, so that nobody who stands before another exporter forgets to ask it.
    fn is_queued(&self) -> bool;
}

/// One entry that a sink refuses for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Its sequence in the ledger.
    pub sequence: u64,
    /// Why, in the sink's words; never with a secret in it.
    pub reason: String,
}

/// Gets the ledger's entries in order. Idempotent: the same entries may come again, and nothing changes. Retried for ever.
#[async_trait]
pub trait FindingExporter: Send + Sync {
    /// Writes `entries`; answers with those that the sink refuses for good (they go to the dead letters, the rest was written).
    ///
    /// # Errors
    /// `Unavailable` or `Rejected` for the batch as a whole: none of it may be considered written, and it comes again.
    async fn export(&self, entries: &[LedgerEntry]) -> Result<Vec<Reject>, Refusal>;
}
