//! The specification: which components there are, and which pipelines they make. What is inside a component's block stays
//! a [`Node`] until the component's settings read it.

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::settings::{
    At, Field, Node, Period, Position, Problem, Value, did_you_mean, read as read_node,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod telemetry;
mod traces;

pub use telemetry::{Level, Logs, Metrics, Telemetry};
pub use traces::{Batch, Compression, Exporter as TraceExporter, Protocol, Traces};

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The merged tree that the rest was read from, references replaced: it holds secrets.
    pub tree: Node,
    /// `receivers:`.
    pub receivers: Vec<Named>,
    /// `processors:`, analyzers among them.
    pub processors: Vec<Named>,
    /// `exporters:`.
    pub exporters: Vec<Named>,
    /// `extensions:`.
    pub extensions: Vec<Named>,
    /// `service:`.
    pub service: Service,
}

/// The four sections that hold components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// `receivers:`.
    Receivers,
    /// `processors:`.
    Processors,
    /// `exporters:`.
    Exporters,
    /// `extensions:`.
    Extensions,
}

impl Block {
    /// The key of the section.
    pub const fn key(self) -> &'static str {
        match self {
            Block::Receivers => "receivers",
            Block::Processors => "processors",
            Block::Exporters => "exporters",
            Block::Extensions => "extensions",
        }
    }

    /// What one of it is called in messages.
    pub const fn noun(self) -> &'static str {
        match self {
            Block::Receivers => "receiver",
            Block::Processors => "processor",
            Block::Exporters => "exporter",
            Block::Extensions => "extension",
        }
    }
}

/// One component instance.
#[derive(Clone, Debug)]
pub struct Named {
    /// `type/name`, or `type`.
    pub id: String,
    /// The part before the slash.
    pub kind: String,
    /// Where the id stands.
    pub at: Position,
    /// Its block.
    pub node: Node,
}

/// `service:`.
#[derive(Clone, Debug)]
pub struct Service {
    /// Where the journal, the ledger and the checkpoints live; none for `storage: none`.
    pub storage: Option<Storage>,
    /// Bytes in flight, whole process; none for the default.
    pub memory_bytes: Option<u64>,
    /// Own telemetry.
    pub telemetry: Telemetry,
    /// Extensions in use.
    pub extensions: Vec<At<String>>,
    /// In the order written.
    pub pipelines: Vec<Pipeline>,
    /// How long a stop may take.
    pub shutdown: Duration,
    /// Where `service:` stands.
    pub at: Position,
    /// All of it as it is written, for whoever compares two.
    pub node: Node,
}

/// `service.storage`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// The folder; relative to where the process starts.
    #[serde(default = "default_directory")]
    pub directory: String,
    /// Limits of the journal.
    #[serde(default)]
    pub journal: Journal,
    /// How long the bodies of behaviors are kept in the ledger.
    #[serde(default = "default_behaviors")]
    pub keep_behaviors: Period,
}

impl Default for Storage {
    fn default() -> Storage {
        Storage {
            directory: default_directory(),
            journal: Journal::default(),
            keep_behaviors: default_behaviors(),
        }
    }
}

fn default_directory() -> String {
    "homeostat-data".to_owned()
}

fn default_behaviors() -> Period {
    Period(Duration::from_secs(30 * 86_400))
}

/// `service.storage.journal`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Journal {
    /// How long entries are kept once they are in a checkpoint.
    pub max_age: Period,
    /// How much disk they may take; full is busy.
    #[schemars(range(min = 1))]
    pub max_mib: u64,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal { max_age: Period(Duration::from_secs(86_400)), max_mib: 1024 }
    }
}

/// One pipeline.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// `traces`, `logs/x`, `feedback` …
    pub name: String,
    /// Where its name stands.
    pub at: Position,
    /// The signals it takes: one for a name that begins with one, else all.
    pub signals: Vec<Signal>,
    /// Receiver ids.
    pub receivers: Vec<At<String>>,
    /// Processor ids in order.
    pub processors: Vec<At<String>>,
    /// Exporter ids.
    pub exporters: Vec<At<String>>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PipelineBlock {
    /// Ids of receivers.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    pub receivers: Vec<At<String>>,
    /// Ids of processors and analyzers, in the order in which they work.
    #[serde(default)]
    #[schemars(extend("uniqueItems" = true))]
    pub processors: Vec<At<String>>,
    /// Ids of exporters; each gets everything.
    #[serde(default)]
    #[schemars(required, length(min = 1), extend("uniqueItems" = true))]
    pub exporters: Vec<At<String>>,
}

const SECTIONS: [&str; 5] = ["receivers", "processors", "exporters", "extensions", "service"];
pub(crate) const SERVICE: [&str; 6] =
    ["storage", "memory_mib", "telemetry", "extensions", "pipelines", "shutdown"];

/// Reads the merged tree: what could be read of it, and all that is wrong with it.
pub fn read(tree: &Node) -> (Spec, Vec<Problem>) {
    let mut problems = Vec::new();
    unknown_keys(tree, &SECTIONS, &mut problems);
    let receivers = section(tree, Block::Receivers, &mut problems);
    let processors = section(tree, Block::Processors, &mut problems);
    let exporters = section(tree, Block::Exporters, &mut problems);
    let extensions = section(tree, Block::Extensions, &mut problems);
    let nothing = Node { at: tree.at.clone(), value: Value::Null };
    let node = tree.get("service").unwrap_or_else(|| {
        let message = "there is no `service:` section (it names the pipelines)";
        problems.push(Problem::error(&tree.at, message));
        &nothing
    });
    if tree.get("service").is_some_and(|service| service.value == Value::Null) {
        problems.push(Problem::error(&node.at, "`service` has no `pipelines:` (name at least one)"));
    }
    let service = service(node, &mut problems);
    let spec = Spec { tree: tree.clone(), receivers, processors, exporters, extensions, service };
    references(&spec, &mut problems);
    (spec, problems)
}

fn unknown_keys(node: &Node, known: &[&str], problems: &mut Vec<Problem>) {
    for Field { key, at, .. } in fields(node, problems) {
        if !known.contains(&key.as_str()) {
            let near = did_you_mean(key, known.iter().copied());
            problems
                .push(Problem::error(at, format!("unknown key `{key}`{near}; known: {}", known.join(", "))));
        }
    }
}

fn fields<'a>(node: &'a Node, problems: &mut Vec<Problem>) -> &'a [Field] {
    match &node.value {
        Value::Map(fields) => fields,
        Value::Null => &[],
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::List(_) => {
            problems.push(Problem::error(&node.at, format!("{} is not a mapping", node.kind())));
            &[]
        }
    }
}

fn section(tree: &Node, block: Block, problems: &mut Vec<Problem>) -> Vec<Named> {
    let Some(node) = tree.get(block.key()) else { return Vec::new() };
    let mut named = Vec::new();
    for Field { key, at, node } in fields(node, problems) {
        let (kind, name) =
            key.split_once('/').map_or((key.as_str(), None), |(kind, name)| (kind, Some(name)));
        if kind.is_empty() || name.is_some_and(str::is_empty) {
            problems.push(Problem::error(
                at,
                format!("`{key}` is no component id (write `type` or `type/name`)"),
            ));
            continue;
        }
        named.push(Named { id: key.clone(), kind: kind.to_owned(), at: at.clone(), node: node.clone() });
    }
    named
}

fn part<T: serde::de::DeserializeOwned + Default>(node: Option<&Node>, problems: &mut Vec<Problem>) -> T {
    node.map(read_node)
        .transpose()
        .unwrap_or_else(|problem| {
            problems.push(problem);
            None
        })
        .unwrap_or_default()
}

fn service(node: &Node, problems: &mut Vec<Problem>) -> Service {
    unknown_keys(node, &SERVICE, problems);
    let storage = match node.get("storage") {
        Some(node) if node.as_text() == Some("none") => None,
        other => Some(part(other, problems)),
    };
    let memory_mib: Option<u64> = part(node.get("memory_mib"), problems);
    let shutdown: Option<Period> = part(node.get("shutdown"), problems);
    let telemetry = part(node.get("telemetry"), problems);
    let extensions = part(node.get("extensions"), problems);
    too_small(node, storage.as_ref(), memory_mib, shutdown, problems);
    Service {
        storage,
        memory_bytes: memory_mib.map(|mib| mib.saturating_mul(1 << 20)),
        telemetry,
        extensions,
        pipelines: pipelines(node, problems),
        shutdown: shutdown.map_or(Duration::from_secs(10), |period| period.0),
        at: node.at.clone(),
        node: node.clone(),
    }
}

/// Limits with which nothing could run.
fn too_small(
    service: &Node,
    storage: Option<&Storage>,
    memory_mib: Option<u64>,
    shutdown: Option<Period>,
    problems: &mut Vec<Problem>,
) {
    let directory = storage.is_some_and(|storage| storage.directory.is_empty());
    let journal = storage.is_some_and(|storage| storage.journal.max_mib == 0);
    for (is_wrong, path, remedy) in [
        (memory_mib == Some(0), &["memory_mib"] as &[&str], "must be at least 1"),
        (
            shutdown.is_some_and(|period| period.0.is_zero()),
            &["shutdown"],
            "must be more than 0, such as `10s`",
        ),
        (
            directory,
            &["storage", "directory"],
            "is empty (write a folder, or `storage: none` to run without disk)",
        ),
        (
            journal,
            &["storage", "journal", "max_mib"],
            "must be at least 1 (to run without disk write `storage: none`)",
        ),
    ] {
        let at = path.iter().try_fold(service, |node, key| node.get(key));
        if is_wrong && let (Some(node), Some(key)) = (at, path.last()) {
            problems.push(Problem::error(&node.at, format!("`{key}` {remedy}")));
        }
    }
}

fn pipelines(service: &Node, problems: &mut Vec<Problem>) -> Vec<Pipeline> {
    let Some(block) = service.get("pipelines") else {
        // Where there is no service at all, or nothing in it, that has been said.
        if service.value != Value::Null {
            let message = "`service` has no `pipelines:` (name at least one)";
            problems.push(Problem::error(&service.at, message));
        }
        return Vec::new();
    };
    let declared = fields(block, problems);
    if declared.is_empty() && matches!(block.value, Value::Map(_) | Value::Null) {
        problems.push(Problem::error(&block.at, "there is no pipeline (write at least one)"));
    }
    let mut pipelines = Vec::new();
    for Field { key, at, node } in declared {
        if key.is_empty() {
            problems.push(Problem::error(
                at,
                "a pipeline has no name (write for example `traces` or `feedback`)",
            ));
        }
        match read_node::<PipelineBlock>(node) {
            Ok(PipelineBlock { receivers, processors, exporters }) => pipelines.push(Pipeline {
                name: key.clone(),
                at: at.clone(),
                signals: signals(key),
                receivers,
                processors,
                exporters,
            }),
            Err(problem) => problems.push(problem),
        }
    }
    pipelines
}

fn signals(name: &str) -> Vec<Signal> {
    let word = name.split_once('/').map_or(name, |(word, _)| word);
    match Signal::ALL.into_iter().find(|signal| signal.name() == word) {
        Some(signal) => vec![signal],
        None => Signal::ALL.to_vec(),
    }
}

/// Every id that a pipeline names must exist, once; a component that no pipeline names is unused, which is legal.
fn references(spec: &Spec, problems: &mut Vec<Problem>) {
    for pipeline in &spec.service.pipelines {
        for (block, ids, named) in [
            (Block::Receivers, &pipeline.receivers, &spec.receivers),
            (Block::Processors, &pipeline.processors, &spec.processors),
            (Block::Exporters, &pipeline.exporters, &spec.exporters),
        ] {
            each(block, ids, named, problems);
        }
        for (what, ids) in [("receiver", &pipeline.receivers), ("exporter", &pipeline.exporters)] {
            if ids.is_empty() {
                let message = format!("pipeline `{}` has no {what} (name at least one)", pipeline.name);
                problems.push(Problem::error(&pipeline.at, message));
            }
        }
    }
    each(Block::Extensions, &spec.service.extensions, &spec.extensions, problems);
}

fn each(block: Block, ids: &[At<String>], named: &[Named], problems: &mut Vec<Problem>) {
    let mut seen = BTreeMap::new();
    for id in ids {
        let noun = block.noun();
        if seen.insert(id.value.as_str(), ()).is_some() {
            problems.push(Problem::error(&id.at, format!("{noun} `{}` is named twice here", id.value)));
        }
        if named.iter().all(|component| component.id != id.value) {
            let near = did_you_mean(&id.value, named.iter().map(|component| component.id.as_str()));
            let message = format!("{noun} `{}` is not declared under `{}:`{near}", id.value, block.key());
            problems.push(Problem::error(&id.at, message));
        }
    }
}

#[cfg(test)]
mod tests;
