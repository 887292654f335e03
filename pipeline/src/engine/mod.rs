//! Runs everything: inlets, the journal's writer, the fold, delivery.

mod inlet;
mod plan;

use tokio::time::Instant;

pub use inlet::{Inlet, Receipt};
pub use plan::{AnalyzerSlot, EngineSettings, OpenAnalyzer, Pipeline, Plan};

/// The running engine.
pub struct Engine {}

/// Whether the process should live on, and whether it should get traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// False: only a restart helps.
    pub live: bool,
    /// False while it recovers, drains, or distrusts its ledger.
    pub ready: bool,
    /// Why not, for people.
    pub reasons: Vec<String>,
}

impl Engine {
    /// Starts the journal's writer, the fold (which recovers first) and delivery. Call it within a tokio runtime, after the
    /// metrics recorder is installed, and before receivers run.
    ///
    /// # Errors
    /// The store cannot be read, an analyzer cannot be opened, or a thread cannot be started.
    pub fn start(_plan: Plan) -> anyhow::Result<Engine> {
        anyhow::bail!("the engine is being built")
    }

    /// Where the receiver with this component id submits.
    pub fn inlet(&self, _receiver_id: &str) -> Inlet {
        Inlet::none()
    }

    /// For `/healthz` and `/readyz`.
    pub fn health(&self) -> Health {
        Health { live: true, ready: false, reasons: Vec::new() }
    }

    /// Journals a tick at the clock's time; returns when the fold has passed it. For tests and recordings that set the
    /// clock themselves (`settings.tick: None`).
    ///
    /// # Errors
    /// As [`Inlet::submit`].
    pub async fn tick(&self) -> Result<(), crate::refusal::Refusal> {
        Ok(())
    }

    /// Stops in order: inlets refuse, the journal drains, the fold ends with a checkpoint, exporters get the time that is
    /// left. Call it after the receivers have returned.
    pub async fn stop(&self, _deadline: Instant) {}
}
