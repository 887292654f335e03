//! As much of Helm's template language as the chart uses, so that what it renders can be checked where there is no `helm`: `if`, `not`,
//! `include`, `define`, paths, and a few functions. Anything else is a panic: templates stay simple. A value that `values.yaml` does
//! not have is one too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What templates see, and which values they asked for.
pub struct Renderer {
    /// `Values`, `Release`, `Chart`.
    context: Value,
    defined: BTreeMap<String, Vec<Piece>>,
    /// Paths of `.Values` that a template used.
    pub used: BTreeSet<String>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Action(String),
}

/// Text and actions; `{{-` and `-}}` take the white space beside them.
fn pieces(template: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = template.to_owned();
    loop {
        let Some((before, after)) = rest.split_once("{{") else {
            pieces.push(Piece::Text(rest));
            return pieces;
        };
        let (action, after) = after.split_once("}}").expect("an action ends");
        let before = if action.starts_with('-') { before.trim_end() } else { before };
        pieces.push(Piece::Text(before.to_owned()));
        let after = if action.ends_with('-') { after.trim_start() } else { after };
        let action = action.trim_start_matches('-').trim_end_matches('-').trim();
        if !action.starts_with("/*") {
            pieces.push(Piece::Action(action.to_owned()));
        }
        rest = after.to_owned();
    }
}

/// The words of an expression; a quoted text is one word.
fn words(expression: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for letter in expression.chars() {
        if letter == '"' {
            is_quoted = !is_quoted;
        }
        match words.last_mut() {
            Some(word) if is_quoted || letter != ' ' => word.push(letter),
            _ => words.push(String::new()),
        }
    }
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => panic!("{value} is no text (use toYaml)"),
    }
}

/// A value as YAML: its first level in block style, so that it can stand beside other keys; what is below as JSON, which is YAML too.
fn as_yaml(value: &Value) -> String {
    let lines: Vec<String> = match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().map(|(key, field)| format!("{key:?}: {field}")).collect()
        }
        Value::Array(list) if !list.is_empty() => list.iter().map(|element| format!("- {element}")).collect(),
        Value::Object(_)
        | Value::Array(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_) => vec![value.to_string()],
    };
    lines.join("\n")
}

impl Renderer {
    /// For a release `shop` in the namespace `judges`.
    pub fn new(values: Value, chart: &Value, helpers: &str) -> Renderer {
        let context = serde_json::json!({
            "Values": values,
            "Release": { "Name": "shop", "Namespace": "judges", "Service": "Helm" },
            "Chart": { "Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"] },
        });
        let mut renderer = Renderer { context, defined: BTreeMap::new(), used: BTreeSet::new() };
        let mut body = pieces(helpers).into_iter();
        while let Some(piece) = body.next() {
            match piece {
                Piece::Text(text) => assert_eq!(text.trim(), "", "text outside of a definition"),
                Piece::Action(action) => {
                    let name = action.strip_prefix("define ").expect("helpers hold definitions only");
                    let definition =
                        body.by_ref().take_while(|p| !matches!(p, Piece::Action(a) if a == "end"));
                    renderer.defined.insert(name.trim_matches('"').to_owned(), definition.collect());
                }
            }
        }
        renderer
    }

    /// The text of a template.
    pub fn render(&mut self, template: &str) -> String {
        self.rendered(&pieces(template))
    }

    fn rendered(&mut self, pieces: &[Piece]) -> String {
        let mut text = String::new();
        // Whether each open `if` holds; all must for something to be written.
        let mut holds: Vec<bool> = Vec::new();
        for piece in pieces {
            let is_written = holds.iter().all(|holds| *holds);
            match piece {
                Piece::Text(piece) if is_written => text.push_str(piece),
                Piece::Text(_) => {}
                Piece::Action(action) if action == "end" => {
                    holds.pop().expect("every end has its if");
                }
                Piece::Action(action) => {
                    if let Some(condition) = action.strip_prefix("if ") {
                        let (is_negated, path) = match condition.strip_prefix("not ") {
                            Some(path) => (true, path),
                            None => (false, condition),
                        };
                        // Looked up even where it is not written, so that it must exist.
                        let value = self.value(path);
                        holds.push(is_true(&value) != is_negated);
                    } else {
                        let value = self.evaluated(action);
                        if is_written {
                            text.push_str(&shown(&value));
                        }
                    }
                }
            }
        }
        assert!(holds.is_empty(), "an if without an end");
        text
    }

    fn evaluated(&mut self, action: &str) -> Value {
        let mut value = Value::Null;
        for (place, stage) in action.split(" | ").enumerate() {
            let stage = words(stage);
            let stage: Vec<&str> = stage.iter().map(String::as_str).collect();
            value = match (stage.as_slice(), place) {
                (["include", name, "."], 0) => {
                    let body = self.defined.get(name.trim_matches('"')).cloned();
                    let body = body.unwrap_or_else(|| panic!("nothing defines {name}"));
                    Value::from(self.rendered(&body))
                }
                (["toYaml", path], 0) => Value::from(as_yaml(&self.value(path))),
                ([path], 0) => self.value(path),
                (["quote"], _) => Value::from(format!("{:?}", shown(&value))),
                (["nindent", spaces], _) => {
                    let indent = " ".repeat(spaces.parse().expect("nindent takes a number"));
                    let lines: Vec<String> =
                        shown(&value).lines().map(|line| format!("{indent}{line}")).collect();
                    Value::from(format!("\n{}", lines.join("\n")))
                }
                (["default", path], _) => {
                    let default = self.value(path);
                    if is_true(&value) { value } else { default }
                }
                // Its value is of no interest here; that it has the shape of one is.
                (["sha256sum"], _) => Value::from("0a".repeat(32)),
                _ => panic!("the chart's templates know no `{}`", stage.join(" ")),
            };
        }
        value
    }

    fn value(&mut self, path: &str) -> Value {
        let parts = path.strip_prefix('.').unwrap_or_else(|| panic!("{path} is no path"));
        if let Some(own) = parts.strip_prefix("Values.") {
            self.used.insert(own.to_owned());
        }
        let found = self.context.pointer(&format!("/{}", parts.replace('.', "/")));
        found.cloned().unwrap_or_else(|| panic!("{path} is not there"))
    }
}
