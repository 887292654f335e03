//! What to run: the opened components and how they hang together. The binary builds it from the configuration.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::Signal;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::contract::{Analyzer, FindingExporter, Processor, TelemetryExporter};
use crate::entry::Epoch;
use crate::storage::Store;

/// Opens a fresh analyzer. Called at start, and again whenever the fold has to begin anew from its checkpoint.
pub type OpenAnalyzer = Box<dyn Fn() -> anyhow::Result<Box<dyn Analyzer>> + Send>;

/// Everything that [`super::Engine::start`] runs.
pub struct Plan {
    /// All that is durable, opened. Dead letters go to `dead-letters` in its folder of components, a file for each finding
    /// exporter; without disk they are only counted and logged.
    pub store: Store,
    /// Stamps journal entries.
    pub clock: Arc<dyn Clock>,
    /// The process's memory budget, the same that receivers charge.
    pub budget: Budget,
    /// In YAML order; the fold feeds them in this order.
    pub analyzers: Vec<AnalyzerSlot>,
    /// Component id and exporter.
    pub finding_exporters: Vec<(String, Arc<dyn FindingExporter>)>,
    /// In YAML order.
    pub pipelines: Vec<Pipeline>,
    /// Intervals and limits.
    pub settings: EngineSettings,
}

/// One analyzer of the fold.
pub struct AnalyzerSlot {
    /// The component id; names its part of the checkpoint.
    pub id: String,
    /// What it judges by. Journalled at start when it is not what was journalled last for this id.
    pub epoch: Option<Epoch>,
    /// Opens a fresh one.
    pub open: OpenAnalyzer,
}

/// One pipeline of `service.pipelines`.
pub struct Pipeline {
    /// As written.
    pub name: String,
    /// What it takes.
    pub signals: Vec<Signal>,
    /// Component ids.
    pub receivers: Vec<String>,
    /// The pure ones, in YAML order.
    pub processors: Vec<(String, Arc<dyn Processor>)>,
    /// Component id and exporter.
    pub telemetry_exporters: Vec<(String, Arc<dyn TelemetryExporter>)>,
    /// Whether it holds the analyzers: its evidence and alerts go to the journal, those of the others nowhere.
    pub judges: bool,
}

/// Intervals and limits of the engine.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// How often a tick is journalled; none leaves ticks to [`super::Engine::tick`], for tests and recordings.
    pub tick: Option<Duration>,
    /// A checkpoint is written when this much logged time has passed since the last …
    pub checkpoint_interval: Duration,
    /// … or this many rows were folded …
    pub checkpoint_rows: u64,
    /// … or, where nothing but ticks came, after this much.
    pub checkpoint_idle: Duration,
    /// The ledger keeps the bodies of behaviors this long (`service.storage`).
    pub behavior_age_max: Duration,
    /// One attempt of a finding exporter may take this long.
    pub delivery_timeout: Duration,
}

impl Default for EngineSettings {
    fn default() -> EngineSettings {
        EngineSettings {
            tick: Some(Duration::from_secs(1)),
            checkpoint_interval: Duration::from_secs(10),
            checkpoint_rows: 1_000_000,
            checkpoint_idle: Duration::from_secs(600),
            behavior_age_max: Duration::from_secs(30 * 24 * 3600),
            delivery_timeout: Duration::from_secs(30),
        }
    }
}
