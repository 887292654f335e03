//! YAML in, a specification out: substitution, merging, errors with file, line, column and nearest name; and the shipped
//! configurations. It knows no component: what a block means is for the component's own settings to say.

mod set;
mod shipped;
mod spec;
mod substitute;
mod yaml;

pub use set::set;
pub use shipped::{DEMO, DEMO_MODEL, GATEWAY, MODEL, QUICKSTART, SIDECAR};
pub use spec::{Block, Journal, Logs, Metrics, Named, Pipeline, Service, Spec, Storage, Telemetry};
pub use substitute::{Lookup, substitute};
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

/// Reads several configurations laid over one another, then `--set` assignments, into a specification.
///
/// # Errors
/// Everything that is wrong with the tree itself; what is inside a component's block is for its settings.
pub fn load(sources: &[Source], assignments: &[String], lookup: &dyn Lookup) -> Result<Spec, Vec<Problem>> {
    let start = Position { source: std::sync::Arc::from("<configuration>"), line: 1, column: 1 };
    let mut tree = Node { at: start, value: Value::Map(Vec::new()) };
    for source in sources {
        let node = parse(&source.name, &source.text).map_err(|problem| vec![problem])?;
        if tree.get("service").is_none() && matches!(node.value, Value::Map(_)) && node.at.line > 0 {
            tree.at = node.at.clone();
        }
        tree = merge(tree, node);
    }
    for assignment in assignments {
        let node = set(assignment).map_err(|problem| vec![problem])?;
        tree = merge(tree, node);
    }
    let mut problems = Vec::new();
    let tree = substitute(tree, lookup, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    spec::read(&tree)
}
