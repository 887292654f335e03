//! What homeostat writes, held to the schemas that it prints.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::entry::Offset;
use homeostat_pipeline::finding::Finding;
use jsonschema::Validator;
use serde_json::Value;

fn compile(schema: &Value) -> Validator {
    jsonschema::draft202012::new(schema).expect("it is a JSON Schema")
}

static EVENTS: LazyLock<BTreeMap<&'static str, Validator>> = LazyLock::new(|| {
    let schemas = homeostat_exporters::nats::schemas();
    schemas.into_iter().map(|event| (event.name, compile(&event.schema))).collect()
});

static BODIES: LazyLock<BTreeMap<String, Validator>> = LazyLock::new(|| {
    let schemas = homeostat_pipeline::ledger::schemas();
    schemas.into_iter().map(|(kind, schema)| (kind, compile(&schema))).collect()
});

fn check(validator: Option<&Validator>, value: &Value) {
    let validator = validator.unwrap_or_else(|| panic!("no schema is there for {value}"));
    let errors: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{error} at {}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?} in {value:#}");
}

/// Panics when a message of NATS is not as `homeostat schema event` says.
pub fn check_event(event: &Value) {
    let name = event["type"].as_str().and_then(|kind| kind.split('.').rev().nth(1)).unwrap_or_default();
    check(EVENTS.get(name), event);
    let schema = event["dataschema"].as_str().unwrap_or_default();
    assert!(schema.contains(&format!("/{name}.v1.json")), "{schema}");
}

/// Panics when the body that the ledger would hold is not as `homeostat schema finding` says.
pub fn check_finding(finding: &Finding) {
    let body = homeostat_pipeline::ledger::body(finding, Timestamp::ZERO, Offset(u64::MAX));
    let body: Value = serde_json::from_str(&body.expect("it can be written")).expect("it is JSON");
    check(body["finding"].as_str().and_then(|kind| BODIES.get(kind)), &body);
}
