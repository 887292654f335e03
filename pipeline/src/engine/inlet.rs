//! Where receivers submit: processors inline, then journal and telemetry exporters at the same time.

use std::sync::Arc;

use tokio::time::Instant;

use crate::batch::{Batch, Signal};
use crate::contract::Taken;
use crate::finding::Finding;
use crate::refusal::Refusal;

/// Where one receiver submits. Cheap to clone.
#[derive(Clone)]
pub struct Inlet {
    receiver: Arc<str>,
}

impl Inlet {
    pub(crate) fn none() -> Inlet {
        Inlet { receiver: "".into() }
    }

    /// Whether any pipeline of this receiver takes `signal`; if none does, its senders are told that the path is unknown.
    pub fn takes(&self, _signal: Signal) -> bool {
        !self.receiver.is_empty()
    }

    /// Resolves when the batch is durable and forwarded, or refused. `deadline` is the sender's, or the receiver's own
    /// where the sender says none. Dropping the future refuses nothing that is already under way.
    ///
    /// # Errors
    /// `Unavailable` when the same batch may come again, `Rejected` when it must not.
    pub async fn submit(&self, _batch: Batch, _deadline: Instant) -> Result<Receipt, Refusal> {
        Err(Refusal::busy("the engine does not run yet"))
    }
}

/// What became of a batch that was taken.
#[derive(Debug, Default)]
pub struct Receipt {
    /// What telemetry backends refused for good of it, for OTLP's partial success.
    pub taken: Taken,
}

impl Receipt {
    /// The findings that an alert caused, if the fold gets there before `deadline`; none for telemetry, and none the
    /// second time.
    pub async fn verdict(&mut self, _deadline: Instant) -> Option<Vec<Finding>> {
        None
    }
}
