//! The configuration as JSON Schema, around what the components say of their blocks.

use std::collections::BTreeMap;

use homeostat_pipeline::settings::schema::{AsRead, generator};
use homeostat_pipeline::settings::{At, Period};
use schemars::transform::Transform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::spec::{Block, Pipeline, PipelineBlock, Service, Storage, Telemetry};

/// One type of component: the type of `type/name`, one line about it, and its block.
pub type Kind = (&'static str, &'static str, fn(&mut SchemaGenerator) -> Schema);

/// Where the schemas say that they are from. Nothing is fetched from there.
pub const BASE: &str = "https://homeostat.dev/schema/";

/// The schema of a whole configuration with components of these types.
pub fn schema(sections: &[(Block, Vec<Kind>)]) -> Value {
    let mut generator = generator();
    let mut properties = Map::new();
    for (block, kinds) in sections {
        let mut patterns = Map::new();
        for (kind, about, schema) in kinds {
            let mut schema = schema(&mut generator);
            schema.insert("description".to_owned(), (*about).into());
            patterns.insert(format!("^{kind}(/.+)?$"), schema.to_value());
        }
        let section = json_schema!({
            "description": about(*block),
            "type": "object",
            "patternProperties": patterns,
            "additionalProperties": false,
        });
        properties.insert(block.key().to_owned(), section.to_value());
    }
    properties.insert("service".to_owned(), generator.subschema_for::<ServiceBlock>().to_value());
    let mut root = json_schema!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": format!("{BASE}config.json"),
        "title": "homeostat configuration",
        "type": "object",
        "properties": properties,
        "required": ["service"],
        "additionalProperties": false,
    });
    root.insert("$defs".to_owned(), generator.take_definitions(true).into());
    AsRead.transform(&mut root);
    root.to_value()
}

fn about(block: Block) -> &'static str {
    match block {
        Block::Receivers => "Who telemetry comes from. A key is `type` or `type/name`.",
        Block::Processors => {
            "What is done with telemetry, and what judges it. A key is `type` or `type/name`."
        }
        Block::Exporters => "Where telemetry and findings go. A key is `type` or `type/name`.",
        Block::Extensions => "What stands beside the pipelines. A key is `type` or `type/name`.",
    }
}

/// Which components make pipelines, and what belongs to the process as a whole.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct ServiceBlock {
    /// The extensions in use, by their ids.
    #[schemars(default, extend("uniqueItems" = true))]
    extensions: Vec<String>,
    /// Where the journal, the ledger and the checkpoints live; `none` runs without disk.
    #[schemars(default = "on")]
    storage: StorageBlock,
    /// Own metrics and logs.
    #[schemars(default)]
    telemetry: Telemetry,
    /// Bytes in flight of the whole process, in MiB; a quarter of the memory, from 16 to 64, where it is left out.
    #[schemars(range(min = 1))]
    memory_mib: Option<u64>,
    /// How long a stop may take; 10 s where it is left out.
    shutdown: Option<Period>,
    /// At least one. A name that begins with `traces`, `metrics` or `logs` takes that signal, any other takes all.
    #[schemars(extend("minProperties" = 1, "propertyNames" = { "minLength": 1 }))]
    pipelines: BTreeMap<String, PipelineBlock>,
}

fn on() -> StorageBlock {
    StorageBlock::On(Storage::default())
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum StorageBlock {
    /// Nothing survives the process.
    Off(Off),
    On(Storage),
}

#[derive(Serialize, JsonSchema)]
enum Off {
    #[serde(rename = "none")]
    None,
}

impl From<&Service> for ServiceBlock {
    fn from(service: &Service) -> ServiceBlock {
        let pipeline = |one: &Pipeline| {
            let Pipeline { name, receivers, processors, exporters, .. } = one.clone();
            (name, PipelineBlock { receivers, processors, exporters })
        };
        ServiceBlock {
            extensions: service.extensions.iter().map(|At { value, .. }| value.clone()).collect(),
            storage: service.storage.clone().map_or(StorageBlock::Off(Off::None), StorageBlock::On),
            telemetry: service.telemetry.clone(),
            memory_mib: service.memory_bytes.map(|bytes| bytes >> 20),
            shutdown: Some(Period(service.shutdown)),
            pipelines: service.pipelines.iter().map(pipeline).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_knows_the_keys_that_the_loader_knows() {
        let mut generator = generator();
        let schema = ServiceBlock::json_schema(&mut generator).to_value();
        let keys: Vec<&str> =
            schema["properties"].as_object().expect("a struct").keys().map(String::as_str).collect();
        let mut known = crate::spec::SERVICE;
        known.sort_unstable();
        assert_eq!(keys, known);
    }
}
