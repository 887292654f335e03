//! `--set processors.tag.keys.profile=aisdlc`: one assignment as a tree to lay over the rest, as the Collector's `--set`.

use std::sync::Arc;

use homeostat_pipeline::settings::{Field, Node, Position, Problem, Value};

use crate::yaml::parse;

/// The tree that holds nothing but the assignment. Keys are separated by `.` or `::`; the value is YAML.
///
/// # Errors
/// There is no `=`, a key is empty, or the value is not YAML.
pub fn set(assignment: &str) -> Result<Node, Problem> {
    let Some((path, value)) = assignment.split_once('=') else {
        return Err(Problem::somewhere("an assignment has no `=` (write it as `--set key.key=value`)"));
    };
    // Messages name the key and not the value, which may be a secret.
    let source = format!("--set {path}");
    let at = Position { source: Arc::from(source.as_str()), line: 1, column: 1 };
    let keys: Vec<&str> =
        if path.contains("::") { path.split("::").collect() } else { path.split('.').collect() };
    if keys.iter().any(|key| key.trim().is_empty()) {
        return Err(Problem::error(&at, "a key is empty; write it as `--set key.key=value`"));
    }
    let mut node = parse(&source, value)?;
    for key in keys.into_iter().rev() {
        let field = Field { key: key.trim().to_owned(), at: at.clone(), node };
        node = Node { at: at.clone(), value: Value::Map(vec![field]) };
    }
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_becomes_a_tree() {
        let node = set("processors.tag.keys.profile=aisdlc").expect("it is an assignment");
        let leaf = ["processors", "tag", "keys", "profile"].iter().try_fold(&node, |node, key| node.get(key));
        assert_eq!(leaf.and_then(Node::as_text), Some("aisdlc"));
    }

    #[test]
    fn the_place_of_an_assignment_is_its_key_and_not_its_value() {
        let node = set("exporters.nats.auth.password=s3cret").expect("it is an assignment");
        assert_eq!(&*node.at.source, "--set exporters.nats.auth.password");
        let problem = set("exporters.nats.auth.password=[s3cret").expect_err("it is not YAML");
        assert!(!problem.to_string().contains("s3cret"), "{problem}");
    }

    #[test]
    fn what_is_no_assignment_is_said() {
        for text in ["a.b", "=1", "a..b=1"] {
            assert!(
                set(text).is_err_and(|problem| problem.message.contains("--set key.key=value")),
                "{text}"
            );
        }
    }
}
