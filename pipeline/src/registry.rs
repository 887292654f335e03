//! How a component comes from its YAML to life. Adding one is a file with a settings struct and a line in its crate's list:
//!
//! ```text
//! pub fn list() -> Vec<Registration> {
//!     vec![Registration::new::<nats::Nats>("nats", "publishes findings to NATS JetStream as CloudEvents")]
//! }
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::contract::{Analyzer, FindingExporter, Processor, Receiver, TelemetryExporter};
use crate::entry::Epoch;
use crate::extension::{Auth, Extensions, Side};
use crate::interest::Interest;
use crate::merging::Limits;
use crate::settings::{Files, Node, Problem, read};
use crate::sockets::Sockets;
use crate::tasks::Tasks;

/// What a component is in a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Speaks one protocol and submits batches.
    Receiver,
    /// A pure function from batch to batches.
    Processor,
    /// A fold over the journal; stands among the `processors:` in YAML.
    Analyzer,
    /// Gets the telemetry itself.
    TelemetryExporter,
    /// Gets the ledger's entries.
    FindingExporter,
}

/// A component, opened.
pub enum Component {
    /// See [`Role::Receiver`].
    Receiver(Box<dyn Receiver>),
    /// See [`Role::Processor`].
    Processor(Arc<dyn Processor>),
    /// See [`Role::Analyzer`].
    Analyzer(Box<dyn Analyzer>),
    /// See [`Role::TelemetryExporter`].
    TelemetryExporter(Arc<dyn TelemetryExporter>),
    /// See [`Role::FindingExporter`].
    FindingExporter(Arc<dyn FindingExporter>),
}

/// What a component may use of the process while it opens.
#[derive(Clone)]
pub struct Context {
    /// The component id as written: `otlp/backend`.
    pub id: String,
    /// The edge's clock.
    pub clock: Arc<dyn Clock>,
    /// The process's memory budget.
    pub budget: Budget,
    /// A folder of this component's own; none with `storage: none`.
    pub directory: Option<PathBuf>,
    /// Files that the configuration names.
    pub files: Files,
    /// What the analyzers of the pipeline want found; empty while analyzers themselves open.
    pub interest: Arc<Interest>,
    /// Reads the ledger from its start, for projections that live in memory (the embedded graph); none before it exists.
    pub ledger: Option<Arc<dyn crate::ledger::Replay>>,
    /// What the extensions in use give; a component asks for the authenticator that its `auth` names while it opens.
    pub extensions: Arc<Extensions>,
    /// Listening sockets, so that a receiver takes over its predecessor's at a reload.
    pub sockets: Sockets,
    /// Cancelled when the process stops, or a reload put another in this component's place; its background tasks end with it.
    pub stop: CancellationToken,
    /// Background tasks that the stop of the process waits for. They may go on after [`Context::stop`] with what is left to do.
    pub tasks: Tasks,
}

/// The settings of one component instance: what its YAML says, and the factory.
#[async_trait]
pub trait Settings: Send + Sync + std::fmt::Debug {
    /// What the instance will be.
    fn role(&self) -> Role;

    /// All that is wrong or unusual with the settings and the files they name, without opening a socket. Nothing is wrong by default.
    fn check(&self, _files: &Files) -> Vec<Problem> {
        Vec::new()
    }

    /// What an analyzer wants `tag` to find; nothing by default.
    ///
    /// # Errors
    /// Those of [`Settings::check`].
    fn interest(&self, _files: &Files) -> Result<Interest, Problem> {
        Ok(Interest::default())
    }

    /// What an analyzer judges by from now on (the model). The engine journals it at start, and after a reload, when it is not
    /// what was journalled last; the analyzer learns it from that entry and from nowhere else, so a replay needs no file.
    ///
    /// # Errors
    /// Those of [`Settings::check`].
    fn epoch(&self, _id: &str, _files: &Files) -> Result<Option<Epoch>, Problem> {
        Ok(None)
    }

    /// Files whose content is part of these settings and is read while it opens, as they name them: a reload compares them, and
    /// opens the component anew when one has changed. Those that it watches itself are not among them.
    fn files(&self) -> Vec<&str> {
        Vec::new()
    }

    /// How often its files are looked at without being told; never by default, then a reload does.
    fn watch_every(&self) -> Option<Duration> {
        None
    }

    /// Whether it reads [`Context::interest`], and is opened anew when that changes.
    fn uses_interest(&self) -> bool {
        false
    }

    /// The keys of an analyzer that a reload may change, because all that comes of them is in its epoch.
    fn changeable(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether it keeps something on disk that two instances must not open at the same time; then a change needs a restart.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// A bound that it sets to the memory budget of the whole process, in bytes; none by default. The smallest of all holds.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }

    /// The largest request that it reads, inflated, where it is a receiver that has such a limit.
    fn request_bytes_max(&self) -> Option<u64> {
        None
    }

    /// How it wants requests merged before the telemetry exporters of its pipelines; by default not at all.
    fn merging(&self) -> Option<Limits> {
        None
    }

    /// The authenticators that it names, so that each can be checked before anything opens; none by default.
    fn authenticators(&self) -> Vec<(Side, &Auth)> {
        Vec::new()
    }

    /// Opens it: binds, reads its files. A sink that cannot be reached is not an error here; it is retried.
    async fn open(&self, context: Context) -> anyhow::Result<Component>;
}

/// One kind of component.
pub struct Registration {
    /// The type of `type/name` in YAML.
    pub kind: &'static str,
    /// One line for `homeostat components`.
    pub about: &'static str,
    /// From YAML to settings. An empty block is an empty mapping.
    pub read: fn(&Node) -> Result<Box<dyn Settings>, Problem>,
    /// What its block may say.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// What a block says, as JSON: with every default, and without its secrets.
    pub show: fn(&Node) -> Result<String, Problem>,
}

impl Registration {
    /// The same component under another name, which users know it by too.
    pub fn renamed(&self, kind: &'static str, about: &'static str) -> Registration {
        Registration { kind, about, read: self.read, schema: self.schema, show: self.show }
    }

    /// Registers the settings struct `S` under `kind`.
    pub fn new<S: Settings + DeserializeOwned + Serialize + JsonSchema + 'static>(
        kind: &'static str,
        about: &'static str,
    ) -> Registration {
        Registration::reading::<S>(kind, about, |node| Ok(Box::new(read::<S>(node)?)))
    }

    /// The same, where there is more to reading than the struct says: `block` is what is written in YAML.
    pub fn reading<S: DeserializeOwned + Serialize + JsonSchema>(
        kind: &'static str,
        about: &'static str,
        block: fn(&Node) -> Result<Box<dyn Settings>, Problem>,
    ) -> Registration {
        let schema = |generator: &mut SchemaGenerator| generator.subschema_for::<S>();
        Registration { kind, about, read: block, schema, show: show::<S> }
    }
}

/// What `node` says as an `S`, with every default, as JSON. Secrets are redacted by their type.
///
/// # Errors
/// As [`read`].
pub fn show<S: DeserializeOwned + Serialize>(node: &Node) -> Result<String, Problem> {
    serde_json::to_string(&read::<S>(node)?)
        .map_err(|error| Problem::error(&node.at, format!("this cannot be shown: {error}")))
}
