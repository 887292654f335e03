//! Reading a model by hand, so that all of its mistakes are reported at once and each with its place.

use homeostat_pipeline::settings::{Field, Node, Period, Position, Problem, Value, did_you_mean, read};
use serde::de::DeserializeOwned;
use std::time::Duration;

#[cfg(test)]
thread_local! {
    /// The keys that blocks of a kind may have → those that they had: for the test that holds the documentation to the schema.
    pub(super) static ASKED: std::cell::RefCell<std::collections::BTreeMap<String, std::collections::BTreeSet<String>>> =
        const { std::cell::RefCell::new(std::collections::BTreeMap::new()) };
}

/// Collects what is wrong or unusual.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
}

/// A mapping whose keys are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    pub(super) at: &'a Position,
    pub(super) fields: &'a [Field],
}

impl<'a> Block<'a> {
    /// The value of `key`; none when it is absent or empty.
    pub(super) fn get(self, key: &str) -> Option<&'a Node> {
        self.fields
            .iter()
            .find(|field| field.key == key)
            .map(|field| &field.node)
            .filter(|node| !is_null(node))
    }
}

fn is_null(node: &Node) -> bool {
    node.value == Value::Null
}

impl Reader {
    pub(super) fn error(&mut self, at: &Position, message: impl Into<String>) {
        self.problems.push(Problem::error(at, message));
    }

    pub(super) fn warning(&mut self, at: &Position, message: impl Into<String>) {
        self.problems.push(Problem::warning(at, message));
    }

    /// `node` as a mapping of `what`; empty where it is nothing, or is no mapping, which is reported.
    pub(super) fn any_block<'a>(&mut self, node: &'a Node, what: &str) -> Block<'a> {
        let fields: &[Field] = match &node.value {
            Value::Map(fields) => fields,
            Value::Null => &[],
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::List(_) => {
                self.error(&node.at, format!("{what} is a mapping, here is {}", node.describe()));
                &[]
            }
        };
        Block { at: &node.at, fields }
    }

    /// The same for a mapping whose keys are `known`, or known and used by `later` versions only.
    pub(super) fn block<'a>(
        &mut self,
        node: &'a Node,
        what: &str,
        known: &[&str],
        later: &[&str],
    ) -> Block<'a> {
        let block = self.any_block(node, what);
        #[cfg(test)]
        ASKED.with_borrow_mut(|asked| {
            let had = block.fields.iter().map(|field| field.key.clone());
            asked.entry(known.join(" ")).or_default().extend(had);
        });
        for field in block.fields {
            let key = field.key.as_str();
            if later.contains(&key) {
                self.warning(&field.at, format!("`{key}` of {what} is not used yet"));
            } else if !known.contains(&key) {
                let near = did_you_mean(key, known.iter().chain(later).copied());
                let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                let list = list.join(", ");
                self.error(&field.at, format!("unknown key `{key}` of {what}{near}; known: {list}"));
            }
        }
        block
    }

    /// `node` as a `T`, or a problem.
    pub(super) fn read<T: DeserializeOwned>(&mut self, node: &Node) -> Option<T> {
        read(node).map_err(|problem| self.problems.push(problem)).ok()
    }

    /// The value of `key` as a `T`; none when it is absent, or reported.
    pub(super) fn take<T: DeserializeOwned>(&mut self, block: Block<'_>, key: &str) -> Option<T> {
        self.read(block.get(key)?)
    }

    /// A length of time.
    pub(super) fn period(&mut self, block: Block<'_>, key: &str) -> Option<Duration> {
        self.take::<Period>(block, key).map(|period| period.0)
    }

    /// A finite number.
    pub(super) fn number(&mut self, node: &Node) -> Option<f64> {
        if let Value::Text(text) = &node.value {
            let message = format!("`{text}` is text: write the number alone, and its unit under `unit`");
            self.error(&node.at, message);
            return None;
        }
        let number: f64 = self.read(node)?;
        if !number.is_finite() {
            self.error(&node.at, format!("`{number}` is no number that can be compared"));
            return None;
        }
        Some(number)
    }

    /// Text, or a number or word as it is written (`version: 1.0`).
    pub(super) fn word(&mut self, block: Block<'_>, key: &str) -> Option<String> {
        let node = block.get(key)?;
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Float(number) => Some(format!("{number:?}")),
            Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => {
                self.error(&node.at, format!("`{key}` is text, here is {}", node.describe()));
                None
            }
        }
    }

    /// One text, or a list of them.
    pub(super) fn words(&mut self, block: Block<'_>, key: &str) -> Option<Vec<(Position, String)>> {
        let node = block.get(key)?;
        let nodes = match &node.value {
            Value::List(nodes) => nodes.as_slice(),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Map(_) => std::slice::from_ref(node),
        };
        let word = |node: &Node| Some((node.at.clone(), self.read(node)?));
        Some(nodes.iter().filter_map(word).collect())
    }
}
