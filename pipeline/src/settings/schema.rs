//! What [`read`](super::read) takes, as JSON Schema (draft 2020-12). The schema of a settings struct is derived from the struct;
//! what the reader takes beyond serde is said here, once for all of them: text that is a number or a boolean where one is wanted
//! (that is what `${env:PORT}` gives), such a reference itself, and nothing where a mapping needs no key.

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// A generator for what YAML says. Whoever finishes its schema applies [`AsRead`] to it, definitions included.
pub fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

/// Widens a derived schema to what the reader takes.
#[derive(Clone, Copy, Debug)]
pub struct AsRead;

/// Text with `${env:NAME}`, `${env:NAME:-default}` or `${file:path}` in it; what comes of it only the loader knows.
const REFERENCE: &str = r"\$\{[^}]+\}";

/// Keywords that say what a value must be; the others describe it.
const ASSERTIONS: [&str; 11] = [
    "type",
    "enum",
    "const",
    "pattern",
    "format",
    "oneOf",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "minLength",
    "maxLength",
];

impl Transform for AsRead {
    fn transform(&mut self, schema: &mut Schema) {
        let is_word = schema.as_object().is_some_and(is_choice_of_words);
        if !is_word {
            transform_subschemas(self, schema);
        }
        let Some(object) = schema.as_object_mut() else { return };
        let is_mapping = types(object).contains(&"object");
        if is_mapping && !object.contains_key("required") && !object.contains_key("minProperties") {
            let mut types: Vec<Value> = types(object).into_iter().map(Value::from).collect();
            if !types.contains(&"null".into()) {
                types.push("null".into());
            }
            object.insert("type".to_owned(), types.into());
            return;
        }
        let mut also: Vec<Value> = written(object).into_iter().collect();
        let is_narrow = ["enum", "const", "pattern", "format"].iter().any(|key| object.contains_key(*key));
        if is_word || !also.is_empty() || (types(object).contains(&"string") && is_narrow) {
            also.push(json!({ "type": "string", "pattern": REFERENCE }));
            widen(object, also);
        }
    }
}

fn types(object: &Map<String, Value>) -> Vec<&str> {
    match object.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// An enum whose words have descriptions: each is a constant of its own.
fn is_choice_of_words(object: &Map<String, Value>) -> bool {
    let is_word = |one: &Value| one.get("const").or(one.get("enum")).is_some() && one["type"] == "string";
    object.get("oneOf").and_then(Value::as_array).is_some_and(|all| all.iter().all(is_word))
}

/// The text that the reader takes for a number or a boolean.
fn written(object: &Map<String, Value>) -> Option<Value> {
    let types = types(object);
    let pattern = if types.contains(&"integer") {
        let is_unsigned = object.get("minimum").and_then(Value::as_f64).is_some_and(|least| least >= 0.0);
        if is_unsigned { r"^\+?[0-9]+$" } else { "^[+-]?[0-9]+$" }
    } else if types.contains(&"number") {
        r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
    } else if types.contains(&"boolean") {
        "^(true|false)$"
    } else {
        return None;
    };
    Some(json!({ "type": "string", "pattern": pattern }))
}

/// What it asserted becomes one of several ways; what describes it stays where editors look for it.
fn widen(object: &mut Map<String, Value>, also: Vec<Value>) {
    let mut first = Map::new();
    for key in ASSERTIONS {
        if let Some(value) = object.remove(key) {
            first.insert(key.to_owned(), value);
        }
    }
    // `uint64` and the like are no formats of the draft; the bounds say it.
    if types(&first).iter().any(|one| ["integer", "number"].contains(one)) {
        first.remove("format");
    }
    let ways: Vec<Value> = std::iter::once(Value::Object(first)).chain(also).collect();
    object.insert("anyOf".to_owned(), ways.into());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use schemars::JsonSchema;

    use super::super::{At, Period};
    use super::*;

    fn schema<T: JsonSchema>() -> Value {
        let mut schema = generator().into_root_schema_for::<T>();
        AsRead.transform(&mut schema);
        schema.to_value()
    }

    #[test]
    fn numbers_may_be_text_and_references() {
        let ways = |value: &Value| -> Vec<Value> {
            value["anyOf"].as_array().unwrap().iter().map(|way| way["pattern"].clone()).collect()
        };
        let number = schema::<At<u64>>();
        assert_eq!(ways(&number), [Value::Null, r"^\+?[0-9]+$".into(), REFERENCE.into()]);
        assert_eq!(number["anyOf"][0], json!({ "type": "integer", "minimum": 0 }));
        assert_eq!(schema::<Option<bool>>()["anyOf"][0]["type"], json!(["boolean", "null"]));
        assert_eq!(schema::<String>()["type"], "string");
        assert_eq!(ways(&schema::<Period>()["anyOf"][0])[1], REFERENCE);
    }

    #[test]
    fn a_mapping_without_a_required_key_may_be_empty() {
        assert_eq!(schema::<BTreeMap<String, String>>()["type"], json!(["object", "null"]));
    }
}
