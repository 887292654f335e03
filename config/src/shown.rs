//! A configuration as it may be shown: merged, references replaced, and without its secrets. What a block holds comes from the
//! settings that read it, whose secrets redact themselves; the tree only says what was written.

use homeostat_pipeline::secret::REDACTED;
use homeostat_pipeline::settings::{Field, Node, Problem, Value};

use crate::schema::ServiceBlock;
use crate::spec::{Block, Named, Spec};
use crate::yaml::parse;

/// What a component's block says, as JSON, with every default and without secrets.
pub type Show<'a> = &'a dyn Fn(Block, &Named) -> Result<String, Problem>;

/// The tree to show: what is written, or with `defaults` what holds.
///
/// # Errors
/// A block that its component cannot read.
pub fn shown(spec: &Spec, show: Show<'_>, defaults: bool) -> Result<Node, Problem> {
    let mut sections = Vec::new();
    for Field { key, at, node } in fields(&spec.tree) {
        let known = [
            (Block::Receivers, &spec.receivers),
            (Block::Processors, &spec.processors),
            (Block::Exporters, &spec.exporters),
            (Block::Extensions, &spec.extensions),
        ];
        let value = match known.iter().find(|(block, _)| block.key() == key) {
            Some((block, declared)) => {
                let mut blocks = Vec::new();
                for named in *declared {
                    let node = block_of(&named.node, &show(*block, named)?, defaults)?;
                    blocks.push(Field { key: named.id.clone(), at: named.at.clone(), node });
                }
                Value::Map(blocks)
            }
            None => {
                let service = ServiceBlock::from(&spec.service);
                let text = serde_json::to_string(&service)
                    .map_err(|error| Problem::error(at, format!("this cannot be shown: {error}")))?;
                block_of(node, &text, defaults)?.value
            }
        };
        sections.push(Field { key: key.clone(), at: at.clone(), node: Node { at: at.clone(), value } });
    }
    Ok(Node { at: spec.tree.at.clone(), value: Value::Map(sections) })
}

/// JSON is YAML, and read as such it keeps its order.
fn block_of(written: &Node, json: &str, defaults: bool) -> Result<Node, Problem> {
    let mut full = parse("<settings>", json)?;
    tidy(&mut full);
    Ok(if defaults { full } else { only(full, written) })
}

fn fields(node: &Node) -> &[Field] {
    match &node.value {
        Value::Map(fields) => fields,
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::List(_) => &[],
    }
}

/// Drops what is not set, and takes what a URL says of its user: such a text is no secret by its type.
fn tidy(node: &mut Node) {
    match &mut node.value {
        Value::Map(fields) => {
            fields.retain(|field| field.node.value != Value::Null);
            fields.iter_mut().for_each(|field| tidy(&mut field.node));
        }
        Value::List(nodes) => nodes.iter_mut().for_each(tidy),
        Value::Text(text) => {
            if let Some(clean) = without_user(text) {
                *text = clean;
            }
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {}
    }
}

/// `scheme://user:password@host…` without the user; none where there is none.
fn without_user(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let (user, _) = authority.rsplit_once('@')?;
    Some(format!("{scheme}://{REDACTED}{}", &rest[user.len()..]))
}

/// What of `full` is also in `written`, in the order in which it is written.
fn only(full: Node, written: &Node) -> Node {
    let Node { at, value } = full;
    let value = match (value, &written.value) {
        (Value::Map(mut fields), Value::Map(named)) => {
            let mut kept = Vec::new();
            for Field { key, at, node } in named {
                if let Some(index) = fields.iter().position(|field| &field.key == key) {
                    let full = fields.swap_remove(index).node;
                    kept.push(Field { key: key.clone(), at: at.clone(), node: only(full, node) });
                }
            }
            Value::Map(kept)
        }
        (Value::Map(_), Value::Null) => Value::Map(Vec::new()),
        (Value::List(nodes), Value::List(named)) if nodes.len() == named.len() => {
            Value::List(nodes.into_iter().zip(named).map(|(full, written)| only(full, written)).collect())
        }
        (value, _) => value,
    };
    Node { at, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_loses_its_user_and_nothing_else() {
        for (text, expected) in [
            ("nats://me:hunter2@host:4222", Some("nats://[REDACTED]@host:4222")),
            ("https://hunter2@host/a@b?c", Some("https://[REDACTED]@host/a@b?c")),
            ("https://a@b@host", Some("https://[REDACTED]@host")),
            ("http://host/a@b", None),
            ("me@host", None),
        ] {
            assert_eq!(without_user(text).as_deref(), expected, "{text}");
        }
    }
}
