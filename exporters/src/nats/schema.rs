//! The messages as JSON Schema (draft 2020-12), made from the types that are written.

use homeostat_pipeline::finding::{
    Behavior, Deviation, ModelChanged, Notice, Silence, SilenceChange, ThresholdAdjusted, Transition,
};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::event::{CloudEvent, EVENT_VERSION, schema_id};

/// One type of event.
pub struct EventSchema {
    /// `deviation_detected`: what stands between `event.` and the version in a subject.
    pub name: &'static str,
    /// Of the whole message.
    pub schema: Value,
}

/// The schema of every type of event, in the order of `docs/nats.md`.
pub fn schemas() -> Vec<EventSchema> {
    let mut all: Vec<EventSchema> = Transition::ALL
        .into_iter()
        .map(|transition| {
            let mut event = message::<Deviation>(transition.event());
            let transition = json!({ "properties": { "transition": { "const": transition } } });
            event.schema["properties"]["data"]["allOf"] = json!([transition]);
            event
        })
        .collect();
    all.push(message::<Behavior>("behavior_observed"));
    all.push(message::<ModelChanged>("homeostasis_model_changed"));
    all.extend(SilenceChange::ALL.into_iter().map(|change| {
        let mut event = message::<Silence>(change.event());
        let change = json!({ "properties": { "change": { "const": change } } });
        event.schema["properties"]["data"]["allOf"] = json!([change]);
        event
    }));
    all.push(message::<ThresholdAdjusted>(ThresholdAdjusted::EVENT));
    all.push(message::<Notice>(Notice::SENSOR_SILENT));
    all.push(message::<Notice>("coverage_gap"));
    all
}

fn message<T: JsonSchema>(name: &'static str) -> EventSchema {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<CloudEvent<'_, T>>().to_value();
    schema["$id"] = schema_id(name).into();
    schema["title"] = format!("{name}.v{EVENT_VERSION}").into();
    schema["properties"]["type"]["pattern"] = format!(r"\.event\.{name}\.v{EVENT_VERSION}$").into();
    schema["properties"]["dataschema"]["const"] = format!("{}#/properties/data", schema_id(name)).into();
    EventSchema { name, schema }
}
