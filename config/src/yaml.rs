//! YAML text to a tree of [`Node`]s: the one door to the YAML crate. YAML 1.2's core schema, anchors, aliases and merge keys
//! (`<<`), with limits; a key written twice, a second document or a tag is an error with its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use homeostat_pipeline::settings::{Field, Node, Position, Problem, Value};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

const BYTES_MAX: usize = 8 << 20;
const DEPTH_MAX: usize = 64;
/// Nodes after the expansion of aliases: a "billion laughs" ends here.
const NODES_MAX: usize = 1_000_000;

/// Parses one YAML document. An empty one is nothing.
///
/// # Errors
/// The first mistake, with its place in `source`.
pub fn parse(source: &str, text: &str) -> Result<Node, Problem> {
    let source: Arc<str> = Arc::from(source);
    let start = Position { source: Arc::clone(&source), line: 1, column: 1 };
    if text.len() > BYTES_MAX {
        return Err(Problem::error(&start, format!("the file is larger than {} MiB", BYTES_MAX >> 20)));
    }
    let mut reader =
        Reader { parser: Parser::new_from_str(text), source, anchors: BTreeMap::new(), nodes: 0, depth: 0 };
    reader.document(start)
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    source: Arc<str>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn position(&self, line: usize, column: usize) -> Position {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Position {
            source: Arc::clone(&self.source),
            line: small(line),
            column: small(column.saturating_add(1)),
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Position), Problem> {
        match self.parser.next() {
            Some(Ok((event, Span { start, .. }))) => Ok((event, self.position(start.line(), start.col()))),
            Some(Err(error)) => {
                let at = self.position(error.marker().line(), error.marker().col());
                Err(Problem::error(&at, format!("this is not YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, self.position(1, 0))),
        }
    }

    fn document(&mut self, start: Position) -> Result<Node, Problem> {
        let mut root = None;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root.unwrap_or(Node { at: start, value: Value::Null })),
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                event if root.is_none() => root = Some(self.node(event, at)?),
                _ => return Err(Problem::error(&at, "a file holds one YAML document; this is a second")),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, at: Position) -> Result<Node, Problem> {
        self.count(&at, 1)?;
        if self.depth >= DEPTH_MAX {
            return Err(Problem::error(&at, format!("this is nested deeper than {DEPTH_MAX} levels")));
        }
        self.depth += 1;
        let node = self.content(event, at);
        self.depth -= 1;
        node
    }

    fn count(&mut self, at: &Position, nodes: usize) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_MAX {
            return Err(Problem::error(
                at,
                format!("the file holds more than {NODES_MAX} values, aliases expanded"),
            ));
        }
        Ok(())
    }

    fn content(&mut self, event: Event<'a>, at: Position) -> Result<Node, Problem> {
        let (value, anchor) = match event {
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Problem::error(
                        &at,
                        "this alias names an anchor that is not complete before it",
                    ));
                };
                self.count(&at, size(&node))?;
                return Ok(Node { at, value: node.value });
            }
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(tag) = tag {
                    let message = format!("tags are not supported (`{}{}`)", tag.handle, tag.suffix);
                    return Err(Problem::error(&at, message));
                }
                (
                    if style == ScalarStyle::Plain { plain(&text) } else { Value::Text(text.into_owned()) },
                    anchor,
                )
            }
            Event::SequenceStart(anchor, _) => (self.list()?, anchor),
            Event::MappingStart(anchor, _) => (self.map()?, anchor),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err(Problem::error(&at, "a value is missing here")),
        };
        let node = Node { at, value };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self) -> Result<Value, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Value::List(items));
            }
            items.push(self.node(event, at)?);
        }
    }

    fn map(&mut self) -> Result<Value, Problem> {
        let mut fields: Vec<Field> = Vec::new();
        let mut merged: Vec<Field> = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                merged.retain(|inherited| fields.iter().all(|field| field.key != inherited.key));
                fields.append(&mut merged);
                return Ok(Value::Map(fields));
            }
            let key = match event {
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(Problem::error(&at, "a key must be text")),
            };
            let (event, value_at) = self.next()?;
            let node = self.node(event, value_at)?;
            if key == "<<" {
                merge_key(&node, &mut merged)?;
            } else if let Some(first) = fields.iter().find(|field| field.key == key) {
                let message = format!("the key `{key}` is written twice; first at line {}", first.at.line);
                return Err(Problem::error(&at, message));
            } else {
                fields.push(Field { key, at, node });
            }
        }
    }
}

fn merge_key(node: &Node, merged: &mut Vec<Field>) -> Result<(), Problem> {
    match &node.value {
        Value::Map(fields) => {
            for field in fields {
                if merged.iter().all(|inherited| inherited.key != field.key) {
                    merged.push(field.clone());
                }
            }
            Ok(())
        }
        Value::List(nodes) => nodes.iter().try_for_each(|node| merge_key(node, merged)),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {
            Err(Problem::error(&node.at, "`<<` takes a mapping or a list of mappings"))
        }
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => 1,
        Value::List(nodes) => 1 + nodes.iter().map(size).sum::<usize>(),
        Value::Map(fields) => 1 + fields.iter().map(|field| size(&field.node)).sum::<usize>(),
    }
}

/// A plain scalar by the core schema (YAML 1.2.2, section 10.3.2).
pub(crate) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Value::Text(text.to_owned());
    }
    let whole = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(hex), _) => i64::from_str_radix(hex, 16).ok(),
        (_, Some(octal)) => i64::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    };
    if let Some(whole) = whole {
        return Value::Integer(whole);
    }
    let numeric = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'));
    match text.parse::<f64>() {
        Ok(number) if numeric => Value::Float(number),
        _ => Value::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match parse("a.yaml", text) {
            Ok(node) => show(&node),
            Err(problem) => problem.to_string(),
        };
        assert_eq!(shown, expected, "{text}");
    }

    fn show(node: &Node) -> String {
        match &node.value {
            Value::Null => "~".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => format!("{value:?}"),
            Value::Text(text) => format!("'{text}'"),
            Value::List(nodes) => format!("[{}]", nodes.iter().map(show).collect::<Vec<_>>().join(", ")),
            Value::Map(fields) => {
                let fields: Vec<_> = fields.iter().map(|f| format!("{}: {}", f.key, show(&f.node))).collect();
                format!("{{{}}}", fields.join(", "))
            }
        }
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        check(
            "[1, 0x10, -2, 1.5, 1e3, .inf, yes, true, ~, '1', 1.0.0, 5m]",
            "[1, 16, -2, 1.5, 1000.0, inf, 'yes', true, ~, '1', '1.0.0', '5m']",
        );
        check("", "~");
        check("a:", "{a: ~}");
    }

    #[test]
    fn anchors_and_merge_keys_are_expanded() {
        check("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", "{a: {b: 1, c: 2}, d: {c: 3, b: 1}}");
    }

    #[test]
    fn mistakes_are_said_with_their_place() {
        check("a: 1\nb: 2\na: 3", "a.yaml:3:1: the key `a` is written twice; first at line 1");
        check("a: 1\n---\nb: 2", "a.yaml:3:1: a file holds one YAML document; this is a second");
        check("a: !x 1", "a.yaml:1:4: tags are not supported (`!x`)");
        assert!(parse("a.yaml", "a: [1").is_err_and(|problem| problem.to_string().starts_with("a.yaml:")));
        assert!(parse("a.yaml", &"[".repeat(100)).is_err());
    }

    #[test]
    fn a_billion_laughs_end_early() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let previous = format!("*a{}", level - 1);
            let list = vec![previous; 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        assert!(
            parse("a.yaml", &text).is_err_and(|problem| problem.message.contains("more than 1000000 values"))
        );
    }
}
