//! Selectors of the model: conditions on one record, such as `kind == SERVER and name == "POST /login"`.
//!
//! A missing field is null. `== null` and `!= null` ask for that; every other comparison with null is false, so that
//! `attributes["a"] != "x"` wants the attribute to be there. The grammar for users is in docs/selectors.md.

mod parse;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use crate::evidence::Kind;

/// A condition on one record.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    source: String,
    condition: Condition,
}

/// A selector that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at column {column} of the selector")]
pub struct SelectorError {
    /// Where in the selector's text, in characters, counted from 1.
    pub column: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

/// The status that a span reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Status {
    /// STATUS_CODE_UNSET, and whatever is no span.
    #[default]
    Unset,
    /// STATUS_CODE_OK.
    Ok,
    /// STATUS_CODE_ERROR.
    Error,
}

impl Status {
    /// From OTLP's number; unknown numbers are unset.
    pub const fn from_otlp(number: i32) -> Status {
        match number {
            1 => Status::Ok,
            2 => Status::Error,
            _ => Status::Unset,
        }
    }
}

/// The value of a field, borrowed from the record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// Text.
    Text(&'a str),
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Bytes, an array, a map: there, but equal to nothing that a selector can say.
    Composite,
}

/// What a selector may ask of a record. Absent things are `None`, the empty string, zero.
pub trait Fields {
    /// The kind of a span.
    fn kind(&self) -> Kind;
    /// The name of a span, the event name of a log record.
    fn name(&self) -> &str;
    /// The status of a span; none where there is no such thing.
    fn status(&self) -> Option<Status>;
    /// The severity number of a log record, 1 to 24; zero when it has none.
    fn severity(&self) -> u8;
    /// The severity text of a log record.
    fn severity_text(&self) -> &str;
    /// The value at `path` in the body of a log record; the body itself when `path` is empty.
    fn body(&self, path: &[String]) -> Option<Scalar<'_>>;
    /// An attribute of the record itself.
    fn attribute(&self, key: &str) -> Option<Scalar<'_>>;
    /// An attribute of its resource.
    fn resource(&self, key: &str) -> Option<Scalar<'_>>;
    /// An attribute of its scope.
    fn scope(&self, key: &str) -> Option<Scalar<'_>>;
    /// The name of its scope.
    fn scope_name(&self) -> &str;
    /// The version of its scope.
    fn scope_version(&self) -> &str;
}

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    Or(Vec<Condition>),
    And(Vec<Condition>),
    Not(Box<Condition>),
    Compare(Field, Operator, Literal),
}

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Kind,
    Name,
    Status,
    /// The class of the severity: TRACE 1 … FATAL 6, four numbers each.
    Severity,
    SeverityNumber,
    SeverityText,
    Body(Vec<String>),
    Attribute(String),
    Resource(String),
    Scope(String),
    ScopeName,
    ScopeVersion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Literal {
    Null,
    Text(String),
    Bool(bool),
    Integer(i64),
    Float(f64),
    Kind(Kind),
    Status(Status),
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// The first thing that does not fit, with its column.
    pub fn parse(text: &str) -> Result<Selector, SelectorError> {
        Ok(Selector { source: text.to_owned(), condition: parse::parse(text)? })
    }

    /// The text it was read from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Byte strings of which at least one stands in the record, its scope or its resource, as they are encoded, whenever the
    /// selector matches. None when nothing can be said: then every record has to be looked at.
    pub fn literals(&self) -> Option<Vec<Vec<u8>>> {
        self.condition.literals()
    }

    /// Whether the record is one of those selected.
    pub fn matches(&self, record: &dyn Fields) -> bool {
        self.condition.matches(record)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;
    fn from_str(text: &str) -> Result<Selector, SelectorError> {
        Selector::parse(text)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Selector, D::Error> {
        let text = String::deserialize(deserializer)?;
        Selector::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl Condition {
    fn matches(&self, record: &dyn Fields) -> bool {
        match self {
            Condition::Or(any) => any.iter().any(|condition| condition.matches(record)),
            Condition::And(all) => all.iter().all(|condition| condition.matches(record)),
            Condition::Not(condition) => !condition.matches(record),
            Condition::Compare(field, operator, literal) => compare(field, *operator, literal, record),
        }
    }

    fn literals(&self) -> Option<Vec<Vec<u8>>> {
        match self {
            Condition::Or(any) => {
                let mut union: Vec<Vec<u8>> = Vec::new();
                for condition in any {
                    union.extend(condition.literals()?);
                }
                union.sort();
                union.dedup();
                Some(union)
            }
            // The side that hits least: the one whose shortest literal is the longest.
            Condition::And(all) => all
                .iter()
                .filter_map(Condition::literals)
                .max_by_key(|literals| literals.iter().map(Vec::len).min()),
            Condition::Not(_) => None,
            Condition::Compare(field, operator, literal) => literals_of(field, *operator, literal),
        }
    }
}

/// A match needs the field to be there, and for `== "text"` the text too; of the two the longer hits less often.
fn literals_of(field: &Field, operator: Operator, literal: &Literal) -> Option<Vec<Vec<u8>>> {
    if matches!((operator, literal), (Operator::Equal, Literal::Null)) {
        return None;
    }
    let value = match literal {
        Literal::Text(text) if operator == Operator::Equal => text.as_str(),
        Literal::Null
        | Literal::Text(_)
        | Literal::Bool(_)
        | Literal::Integer(_)
        | Literal::Float(_)
        | Literal::Kind(_)
        | Literal::Status(_) => "",
    };
    let key = match field {
        Field::Attribute(key) | Field::Resource(key) | Field::Scope(key) => key.as_str(),
        Field::Name | Field::ScopeName | Field::ScopeVersion => "",
        Field::Body(path) => return body_literals(path, value),
        // Numbers leave no text behind; a severity text may be implied by the number or the body.
        Field::Kind | Field::Status | Field::Severity | Field::SeverityNumber | Field::SeverityText => {
            return None;
        }
    };
    let longer = if value.len() > key.len() { value } else { key };
    (!longer.is_empty()).then(|| vec![longer.as_bytes().to_vec()])
}

/// The body may be JSON in a string, where any character may be written as an escape.
fn body_literals(path: &[String], value: &str) -> Option<Vec<Vec<u8>>> {
    if path.is_empty() {
        return (!value.is_empty()).then(|| vec![value.as_bytes().to_vec()]);
    }
    let longest = path
        .iter()
        .map(String::as_str)
        .chain((!value.is_empty()).then_some(value))
        .flat_map(|text| text.split(|c: char| c.is_control() || matches!(c, '"' | '\\' | '/')))
        .max_by_key(|run| run.len())
        .filter(|run| !run.is_empty())?;
    Some(vec![longest.as_bytes().to_vec(), b"\\u".to_vec()])
}

fn compare(field: &Field, operator: Operator, literal: &Literal, record: &dyn Fields) -> bool {
    let text = |text| if str::is_empty(text) { None } else { Some(Scalar::Text(text)) };
    let class = |number: u8| Scalar::Integer(i64::from((number - 1) / 4 + 1));
    let value = match field {
        Field::Kind => {
            return compare_word(operator, literal, record.kind() != Kind::Unspecified, |literal| {
                *literal == Literal::Kind(record.kind())
            });
        }
        Field::Status => {
            return compare_word(operator, literal, record.status().is_some(), |literal| {
                record.status().is_some_and(|status| *literal == Literal::Status(status))
            });
        }
        Field::Name => text(record.name()),
        Field::Severity => Some(record.severity()).filter(|number| *number > 0).map(class),
        Field::SeverityNumber => {
            Some(record.severity()).filter(|number| *number > 0).map(|number| Scalar::Integer(number.into()))
        }
        Field::SeverityText => text(record.severity_text()),
        Field::Body(path) => record.body(path),
        Field::Attribute(key) => record.attribute(key),
        Field::Resource(key) => record.resource(key),
        Field::Scope(key) => record.scope(key),
        Field::ScopeName => text(record.scope_name()),
        Field::ScopeVersion => text(record.scope_version()),
    };
    match (value, literal) {
        (None, Literal::Null) => operator == Operator::Equal,
        (Some(_), Literal::Null) => operator == Operator::Unequal,
        (None, _) => false,
        (Some(value), literal) => compare_value(value, operator, literal),
    }
}

fn compare_word(
    operator: Operator,
    literal: &Literal,
    is_there: bool,
    is_equal: impl Fn(&Literal) -> bool,
) -> bool {
    let wants_equal = operator == Operator::Equal;
    match literal {
        Literal::Null => wants_equal != is_there,
        Literal::Text(_)
        | Literal::Bool(_)
        | Literal::Integer(_)
        | Literal::Float(_)
        | Literal::Kind(_)
        | Literal::Status(_) => is_there && is_equal(literal) == wants_equal,
    }
}

fn compare_value(value: Scalar<'_>, operator: Operator, literal: &Literal) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "whole numbers of different types compare as doubles")]
    let order = match (value, literal) {
        (Scalar::Integer(value), Literal::Integer(literal)) => Some(value.cmp(literal)),
        (Scalar::Integer(value), Literal::Float(literal)) => (value as f64).partial_cmp(literal),
        (Scalar::Float(value), Literal::Integer(literal)) => value.partial_cmp(&(*literal as f64)),
        (Scalar::Float(value), Literal::Float(literal)) => value.partial_cmp(literal),
        (Scalar::Text(value), Literal::Text(literal)) => Some(value.cmp(literal.as_str())),
        (Scalar::Bool(value), Literal::Bool(literal)) => Some(value.cmp(literal)),
        (
            Scalar::Text(_) | Scalar::Bool(_) | Scalar::Integer(_) | Scalar::Float(_) | Scalar::Composite,
            Literal::Null
            | Literal::Text(_)
            | Literal::Bool(_)
            | Literal::Integer(_)
            | Literal::Float(_)
            | Literal::Kind(_)
            | Literal::Status(_),
        ) => None,
    };
    match operator {
        Operator::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
        Operator::Unequal => !order.is_some_and(std::cmp::Ordering::is_eq),
        Operator::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Operator::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Operator::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Operator::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

#[cfg(test)]
mod tests;
