//! `${env:NAME}`, `${env:NAME:-default}`, `${file:path}` and `$$` in scalar values, as in the Collector. What comes of it is
//! text, so that a password `007` stays what it is; where settings want a number or a boolean, they read it from the text. A
//! value that is one reference and nothing else, and empty, is nothing.

use homeostat_pipeline::settings::{Field, Node, Position, Problem, Value};

/// Where references are looked up: the process's environment and files in the binary, literals in tests.
pub trait Lookup {
    /// The environment variable `name`.
    fn env(&self, name: &str) -> Option<String>;

    /// The content of the file at `path`.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn file(&self, path: &str) -> Result<String, String>;
}

/// Replaces every reference in `node`; what cannot be replaced is pushed to `problems` and stays.
pub fn substitute(node: Node, lookup: &dyn Lookup, problems: &mut Vec<Problem>) -> Node {
    let Node { at, value } = node;
    let value = match value {
        Value::Text(text) if text.contains('$') => match expand(&text, &at, lookup) {
            Ok(value) => value,
            Err(problem) => {
                problems.push(problem);
                Value::Text(text)
            }
        },
        Value::List(nodes) => {
            Value::List(nodes.into_iter().map(|node| substitute(node, lookup, problems)).collect())
        }
        Value::Map(fields) => Value::Map(
            fields
                .into_iter()
                .map(|Field { key, at, node }| Field { key, at, node: substitute(node, lookup, problems) })
                .collect(),
        ),
        value @ (Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_)) => {
            value
        }
    };
    Node { at, value }
}

fn expand(text: &str, at: &Position, lookup: &dyn Lookup) -> Result<Value, Problem> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_whole = false;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(tail) = after.strip_prefix('{') {
            let Some(end) = tail.find('}') else {
                return Err(Problem::error(at, "`${` without `}` (write `$$` for a dollar sign)"));
            };
            let found = resolve(&tail[..end], at, lookup)?;
            is_whole = rest.len() == text.len() && dollar == 0 && end + 1 == tail.len();
            out.push_str(&found);
            rest = &tail[end + 1..];
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(if is_whole && out.is_empty() { Value::Null } else { Value::Text(out) })
}

fn resolve(reference: &str, at: &Position, lookup: &dyn Lookup) -> Result<String, Problem> {
    if let Some(path) = reference.strip_prefix("file:") {
        let text =
            lookup.file(path).map_err(|why| Problem::error(at, format!("cannot read `{path}`: {why}")))?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    let variable = reference.strip_prefix("env:").unwrap_or(reference);
    let (name, default) = match variable.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (variable, None),
    };
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        // It is not repeated here: it may be a part of a password.
        let message = "what stands between `${` and `}` is no reference (known: `${env:NAME}`, `${env:NAME:-default}`, `${file:path}`; write `$$` for a dollar sign)";
        return Err(Problem::error(at, message));
    }
    let found = lookup.env(name).filter(|value| default.is_none() || !value.is_empty());
    match (found, default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            let message = format!(
                "the environment variable `{name}` is not set (set it, or write `${{env:{name}:-default}}`)"
            );
            Err(Problem::error(at, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::parse;

    struct Fixed;
    impl Lookup for Fixed {
        fn env(&self, name: &str) -> Option<String> {
            match name {
                "PORT" => Some("4317".to_owned()),
                "HOST" => Some("localhost".to_owned()),
                "EMPTY" => Some(String::new()),
                _ => None,
            }
        }
        fn file(&self, path: &str) -> Result<String, String> {
            if path == "token" { Ok("s3cret\n".to_owned()) } else { Err("no such file".to_owned()) }
        }
    }

    fn check(text: &str, expected: Result<Value, &str>) {
        let node = parse("a.yaml", &format!("a: {text}")).expect("the text is YAML");
        let mut problems = Vec::new();
        let node = substitute(node, &Fixed, &mut problems);
        match (problems.pop(), expected) {
            (Some(problem), Err(expected)) => assert!(problem.message.contains(expected), "{problem}"),
            (None, Ok(expected)) => assert_eq!(node.get("a").map(|node| &node.value), Some(&expected)),
            (problem, expected) => panic!("{text}: {problem:?} where {expected:?} was expected"),
        }
    }

    #[test]
    fn references_are_replaced() {
        let text = |text: &str| Ok(Value::Text(text.to_owned()));
        check("${env:PORT}", text("4317"));
        check("${env:NONE:-}", Ok(Value::Null));
        check("\"${env:HOST}:${env:PORT}\"", text("localhost:4317"));
        check("${env:NONE:-nats://127.0.0.1:4222}", text("nats://127.0.0.1:4222"));
        check("${env:EMPTY:-x}", text("x"));
        check("${file:token}", text("s3cret"));
        check("a$$b", text("a$b"));
        check("a$b", text("a$b"));
    }

    #[test]
    fn what_cannot_be_replaced_is_said() {
        check("${env:NONE}", Err("`NONE` is not set"));
        check("${file:nope}", Err("cannot read `nope`: no such file"));
        check("\"${env:PORT\"", Err("without `}`"));
        check("${http://x}", Err("is no reference"));
    }
}
