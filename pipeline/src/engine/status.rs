//! What the parts of the engine report for `/healthz` and `/readyz`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Whether the process should live on, and whether it should get traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// False: only a restart helps.
    pub live: bool,
    /// False while it recovers, drains, cannot write, or distrusts its ledger.
    pub ready: bool,
    /// Why not, for people.
    pub reasons: Vec<String>,
}

/// What can be wrong, in the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// A thread ended that must not.
    Dead,
    /// The fold replays the journal.
    Recovering,
    /// The journal takes nothing.
    Journal,
    /// The ledger takes nothing.
    Ledger,
    /// What the fold finds is not what the ledger says it found before.
    Mismatch,
    /// Logged time is ahead of the machine's clock. What comes is kept as ever, and a restart does not help.
    Clock,
    /// The engine stops.
    Draining,
}

/// Shared by the parts; asked and changed rarely.
#[derive(Debug, Default)]
pub(super) struct Status(Mutex<BTreeMap<Trouble, String>>);

impl Status {
    /// Something is wrong from now on.
    pub(super) fn set(&self, trouble: Trouble, reason: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(trouble, reason.into());
    }

    /// It no longer is; says whether it was.
    pub(super) fn clear(&self, trouble: Trouble) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&trouble).is_some()
    }

    /// The answer.
    pub(super) fn health(&self) -> Health {
        let troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Health {
            live: !troubles.contains_key(&Trouble::Dead),
            ready: troubles.keys().all(|trouble| *trouble == Trouble::Clock),
            reasons: troubles.values().cloned().collect(),
        }
    }
}
