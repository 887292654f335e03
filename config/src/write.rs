//! A tree as YAML text that [`parse`](crate::parse) and [`load`](crate::load) read back as the same tree. It is written here
//! because it has to be what our reader reads: block style, JSON's quotes where a word would mean something else (YAML 1.2 takes
//! every JSON string), and `$$` for a dollar sign, so that nothing in a value is taken for a reference.

use homeostat_pipeline::settings::{Field, Node, Value};

use crate::yaml::plain;

/// The tree as a YAML document.
pub fn write(node: &Node) -> String {
    let mut out = String::new();
    match &node.value {
        Value::Map(fields) if !fields.is_empty() => mapping(&mut out, fields, 0),
        _ => {
            value(&mut out, node);
            out.push('\n');
        }
    }
    out
}

/// The tree as JSON text, with `$$` as in YAML.
pub fn write_json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Integer(value) => (*value).into(),
        Value::Float(value) => serde_json::Number::from_f64(*value)
            .map_or_else(|| float(*value).into(), serde_json::Value::Number),
        Value::Text(text) => text.replace('$', "$$").into(),
        Value::List(nodes) => nodes.iter().map(write_json).collect(),
        Value::Map(fields) => {
            fields.iter().map(|field| (field.key.clone(), write_json(&field.node))).collect()
        }
    }
}

fn mapping(out: &mut String, fields: &[Field], depth: usize) {
    for Field { key, node, .. } in fields {
        indent(out, depth);
        text(out, key);
        out.push(':');
        match &node.value {
            Value::Map(fields) if !fields.is_empty() => {
                out.push('\n');
                mapping(out, fields, depth + 1);
            }
            Value::List(nodes) if nodes.iter().any(is_nested) => {
                out.push('\n');
                for node in nodes {
                    indent(out, depth + 1);
                    out.push_str("- ");
                    value(out, node);
                    out.push('\n');
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_) => {
                out.push(' ');
                value(out, node);
                out.push('\n');
            }
        }
    }
}

fn is_nested(node: &Node) -> bool {
    match &node.value {
        Value::Map(fields) => !fields.is_empty(),
        Value::List(nodes) => !nodes.is_empty(),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => false,
    }
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// On one line: in flow style where it has parts.
fn value(out: &mut String, node: &Node) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Integer(value) => out.push_str(&value.to_string()),
        Value::Float(value) => out.push_str(&float(*value)),
        Value::Text(value) => text(out, &value.replace('$', "$$")),
        Value::List(nodes) => {
            out.push('[');
            for (at, node) in nodes.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                value(out, node);
            }
            out.push(']');
        }
        Value::Map(fields) => {
            out.push('{');
            for (at, field) in fields.iter().enumerate() {
                out.push_str(if at == 0 { " " } else { ", " });
                text(out, &field.key);
                out.push_str(": ");
                value(out, &field.node);
            }
            out.push_str(if fields.is_empty() { "}" } else { " }" });
        }
    }
}

fn float(value: f64) -> String {
    if value.is_nan() {
        ".nan".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { ".inf" } else { "-.inf" }.to_owned()
    } else {
        format!("{value:?}")
    }
}

/// Words that other readers of YAML take for a boolean.
const BOOLEANS: [&str; 6] = ["yes", "no", "on", "off", "y", "n"];

fn text(out: &mut String, text: &str) {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && !text.ends_with(':')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:".contains(c))
        && matches!(plain(text), Value::Text(_))
        && !BOOLEANS.contains(&text.to_ascii_lowercase().as_str());
    if is_word {
        out.push_str(text);
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use homeostat_pipeline::settings::Position;
    use proptest::prelude::*;

    use super::*;
    use crate::{Lookup, parse, substitute};

    struct Nothing;
    impl Lookup for Nothing {
        fn env(&self, name: &str) -> Option<String> {
            panic!("`{name}` was taken for a reference")
        }
        fn file(&self, path: &str) -> Result<String, String> {
            panic!("`{path}` was taken for a reference")
        }
    }

    fn node(value: Value) -> Node {
        Node { at: Position { source: Arc::from("x"), line: 1, column: 1 }, value }
    }

    fn without_places(node: &Node) -> String {
        match &node.value {
            Value::List(nodes) => format!("{:?}", nodes.iter().map(without_places).collect::<Vec<_>>()),
            Value::Map(fields) => {
                format!("{:?}", fields.iter().map(|f| (&f.key, without_places(&f.node))).collect::<Vec<_>>())
            }
            other => format!("{other:?}"),
        }
    }

    fn check(tree: &Node) {
        for text in [write(tree), write_json(tree).to_string()] {
            let read = parse("x", &text).unwrap_or_else(|problem| panic!("{problem} in\n{text}"));
            let mut problems = Vec::new();
            let read = substitute(read, &Nothing, &mut problems);
            assert_eq!(problems, [], "{text}");
            let sorted = |node: &Node| write_json(node).to_string();
            assert_eq!(sorted(&read), sorted(tree), "{text}");
        }
        assert_eq!(
            without_places(&substitute(parse("x", &write(tree)).unwrap(), &Nothing, &mut Vec::new())),
            without_places(tree)
        );
    }

    fn trees() -> impl Strategy<Value = Node> {
        let words = prop_oneof![
            "[ -~]{0,12}",
            "\\PC{0,6}",
            Just("${env:X}".to_owned()),
            Just("a$$b: #c".to_owned()),
            Just("1e3".to_owned()),
            Just("- x\n\ty".to_owned()),
            Just("yes".to_owned()),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Integer),
            (-1e9_f64..1e9).prop_map(Value::Float),
            words.clone().prop_map(Value::Text),
        ]
        .prop_map(node);
        leaf.prop_recursive(4, 40, 5, move |part| {
            let key = words.clone().prop_filter("it means something else as a key", |key| key != "<<");
            prop_oneof![
                prop::collection::vec(part.clone(), 0..4).prop_map(|nodes| node(Value::List(nodes))),
                prop::collection::btree_map(key, part, 0..4).prop_map(|fields| {
                    let field = |(key, node): (String, Node)| Field { key, at: node.at.clone(), node };
                    node(Value::Map(fields.into_iter().map(field).collect()))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(tree in trees()) {
            check(&tree);
        }
    }

    #[test]
    fn words_stand_bare_and_the_rest_in_quotes() {
        let tree =
            parse("x", "a: { b: 127.0.0.1:4317, c: 30s, d: '1', e: [x, 2], f: {}, g: 'x y' }\nl: [{ m: 1 }]")
                .unwrap();
        assert_eq!(
            write(&tree),
            "a:\n  b: 127.0.0.1:4317\n  c: 30s\n  d: \"1\"\n  e: [x, 2]\n  f: {}\n  g: \"x y\"\nl:\n  - { m: 1 }\n"
        );
    }
}
