//! Configuration as a tree that remembers where it was written, and the way from there into a settings struct.
//!
//! `config` parses YAML into [`Node`]s (it is the door to the YAML crate); everybody else sees only these. [`read`] turns a
//! node into any `Deserialize` type with `deny_unknown_fields`; what does not fit is a [`Problem`] with file, line, column and
//! the nearest known name.

mod read;
pub mod schema;
mod time;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use read::{At, read};
pub use time::{Period, parse_period};

/// Where something was written. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The file as the user named it; `--set` or a word like `<default>` where there is none.
    pub source: Arc<str>,
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source, self.line, self.column)
    }
}

/// One value of the tree and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where.
    pub at: Position,
    /// What.
    pub value: Value,
}

/// A YAML value, resolved by the core schema of YAML 1.2.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number, `.inf` and `.nan` too.
    Float(f64),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order it was written; keys are text and occur once.
    Map(Vec<Field>),
}

/// One key of a mapping, with where the key stands, and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub at: Position,
    /// The value.
    pub node: Node,
}

impl Node {
    /// The value of `key` when this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(fields) => fields.iter().find(|field| field.key == key).map(|field| &field.node),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_) => None,
        }
    }

    /// Whether both say the same, wherever they stand and in whatever order the keys do. Nothing and no key are the same.
    pub fn says_the_same(&self, other: &Node) -> bool {
        match (&self.value, &other.value) {
            (Value::List(one), Value::List(two)) => {
                one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.says_the_same(two))
            }
            (Value::Map(_) | Value::Null, Value::Map(_) | Value::Null) => self.differences(other).is_empty(),
            (one, two) => one == two,
        }
    }

    /// The keys of both mappings whose values do not say the same, in the order in which `other` and then this have them.
    pub fn differences<'a>(&'a self, other: &'a Node) -> Vec<&'a str> {
        let nothing = Node { at: self.at.clone(), value: Value::Null };
        let keys = |node: &'a Node| match &node.value {
            Value::Map(fields) => fields.as_slice(),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_) => &[],
        };
        let mut different: Vec<&str> = Vec::new();
        for Field { key, .. } in keys(other).iter().chain(keys(self)) {
            let (one, two) = (self.get(key).unwrap_or(&nothing), other.get(key).unwrap_or(&nothing));
            if !different.contains(&key.as_str()) && !one.says_the_same(two) {
                different.push(key);
            }
        }
        different
    }

    /// The text, when this is text.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::List(_)
            | Value::Map(_) => None,
        }
    }

    /// `null`, a map, `text` …: for messages.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Integer(value) => format!("`{value}`"),
            Value::Float(value) => format!("`{value}`"),
            Value::Text(text) => format!("`{text}`"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Something wrong with a configuration or a model, or only unusual.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where, when it is anywhere.
    pub at: Option<Position>,
    /// Whether homeostat starts all the same.
    pub is_warning: bool,
    /// Lower case, no full stop, names the thing and the remedy.
    pub message: String,
}

impl Problem {
    /// An error at `at`.
    pub fn error(at: &Position, message: impl Into<String>) -> Problem {
        Problem { at: Some(at.clone()), is_warning: false, message: message.into() }
    }

    /// A warning at `at`.
    pub fn warning(at: &Position, message: impl Into<String>) -> Problem {
        Problem { at: Some(at.clone()), is_warning: true, message: message.into() }
    }

    /// An error that stands nowhere in a file.
    pub fn somewhere(message: impl Into<String>) -> Problem {
        Problem { at: None, is_warning: false, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) => write!(f, "{at}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Problem {}

/// `"did you mean …?"` for the known name nearest to `name`, when one is near; else the empty string. Starts with a space.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    known
        .into_iter()
        .map(|candidate| (likeness(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, candidate)| format!(" (did you mean \"{candidate}\"?)"))
        .unwrap_or_default()
}

/// 0 … 1: few edits apart (transposed letters are one), or alike from the start on.
fn likeness(a: &str, b: &str) -> f64 {
    let from_the_start = strsim::jaro_winkler(a, b);
    strsim::normalized_damerau_levenshtein(a, b).max(if from_the_start >= 0.85 {
        from_the_start
    } else {
        0.0
    })
}

/// Parses YAML text into a tree; `config::parse` is the only one.
pub type ParseYaml = fn(source: &str, text: &str) -> Result<Node, Problem>;

/// The files that a configuration names, such as the model. Relative paths start at the configuration's folder, and files
/// embedded in the binary (the demo's) come before those on disk.
#[derive(Clone, Debug)]
pub struct Files {
    /// The folder of the configuration file.
    pub base: PathBuf,
    /// Path as written in the configuration → content.
    pub embedded: BTreeMap<String, String>,
    /// The YAML door.
    pub parse: ParseYaml,
}

impl Files {
    /// `path` as the file system knows it.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// The text of the file that the node at `at` names.
    ///
    /// # Errors
    /// Names the file and why it cannot be read, at the place that names it.
    pub fn text(&self, path: &str, at: Option<&Position>) -> Result<String, Problem> {
        if let Some(text) = self.embedded.get(path) {
            return Ok(text.clone());
        }
        let full = self.resolve(Path::new(path));
        std::fs::read_to_string(&full).map_err(|error| Problem {
            at: at.cloned(),
            is_warning: false,
            message: format!("cannot read `{}`: {error}", full.display()),
        })
    }

    /// The same, parsed as YAML.
    ///
    /// # Errors
    /// As [`Files::text`], or where the YAML is wrong.
    pub fn yaml(&self, path: &str, at: Option<&Position>) -> Result<Node, Problem> {
        (self.parse)(path, &self.text(path, at)?)
    }
}
