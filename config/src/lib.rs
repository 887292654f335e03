//! YAML in, a specification out: substitution, merging, errors with file, line, column and nearest name; and the shipped
//! configurations. It knows no component: what a block means is for the component's own settings to say.

mod schema;
mod set;
mod shipped;
mod shown;
mod spec;
mod substitute;
mod write;
mod yaml;

pub use schema::{BASE, Kind, schema};
pub use set::set;
pub use shipped::{DEMO, DEMO_MODEL, GATEWAY, MODEL, QUICKSTART, SIDECAR};
pub use shown::{Show, shown};
pub use spec::{
    Batch, Block, Compression, Journal, Level, Logs, Metrics, Named, Pipeline, Protocol, Service, Spec,
    Storage, Telemetry, TraceExporter, Traces,
};
pub use substitute::{Lookup, substitute};
pub use write::{write, write_json};
pub use yaml::parse;

use homeostat_pipeline::settings::{Field, Node, Position, Problem, Value};

/// Lays `over` over `base`, as the Collector merges several `--config`: mappings key by key, anything else is replaced.
pub fn merge(base: Node, over: Node) -> Node {
    match (base.value, over.value) {
        (Value::Map(mut fields), Value::Map(others)) => {
            for other in others {
                match fields.iter_mut().find(|field| field.key == other.key) {
                    Some(field) => {
                        let nothing = Node { at: field.at.clone(), value: Value::Null };
                        let old = std::mem::replace(&mut field.node, nothing);
                        *field = Field { key: other.key, at: other.at, node: merge(old, other.node) };
                    }
                    None => fields.push(other),
                }
            }
            Node { at: base.at, value: Value::Map(fields) }
        }
        (value @ Value::Map(_), Value::Null) => Node { at: base.at, value },
        (_, value) => Node { at: over.at, value },
    }
}

/// One configuration text and what it is called in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file's path as the user wrote it.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// Reads several configurations laid over one another, then `--set` assignments, into a specification. Beside it stands
/// everything that is wrong with the tree itself, so that whoever reads the components' blocks can say at once what is wrong
/// with those too; a configuration with a problem is not to be run.
///
/// # Errors
/// A text is not YAML, or an assignment is none: there is no tree.
pub fn load(
    sources: &[Source],
    assignments: &[String],
    lookup: &dyn Lookup,
) -> Result<(Spec, Vec<Problem>), Vec<Problem>> {
    let source = sources.first().map_or("<configuration>", |source| source.name.as_str());
    let start = Position { source: std::sync::Arc::from(source), line: 1, column: 1 };
    let mut tree = Node { at: start, value: Value::Map(Vec::new()) };
    let mut problems = Vec::new();
    let parsed = sources.iter().map(|source| parse(&source.name, &source.text));
    for node in parsed.chain(assignments.iter().map(|assignment| set(assignment))) {
        match node {
            Ok(node) => tree = merge(tree, node),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let tree = substitute(tree, lookup, &mut problems);
    // What could not be replaced stands there still, and what it is not has been said.
    let unresolved: Vec<Position> = problems.iter().filter_map(|problem| problem.at.clone()).collect();
    let (spec, others) = spec::read(&tree);
    let is_new = |problem: &Problem| problem.at.as_ref().is_none_or(|at| !unresolved.contains(at));
    problems.extend(others.into_iter().filter(is_new));
    Ok((spec, problems))
}
