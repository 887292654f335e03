//! Identities as pure functions of what they identify.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::clock::Timestamp;

/// The namespace of every UUIDv5 of homeostat: UUIDv5(URL namespace, `https://homeostat.dev/ns#`).
pub const NAMESPACE: Uuid = Uuid::from_u128(0xc0e2_de00_0c0e_5935_9d97_2a20_9e5f_2b70);

/// The fingerprint of a deviation: SHA-256, in hex, of tenant, requirement, measure and sorted group labels, each preceded by its length.
pub fn fingerprint(tenant: &str, req: &str, measure: &str, labels: &BTreeMap<String, String>) -> String {
    let mut hasher = Sha256::new();
    let mut field = |text: &str| {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    };
    field(tenant);
    field(req);
    field(measure);
    for (name, value) in labels {
        field(name);
        field(value);
    }
    hex(&hasher.finalize())
}

/// The id of an episode: UUIDv5 of `fingerprint|opening instant in nanoseconds`.
pub fn deviation_uid(fingerprint: &str, opened_at: Timestamp) -> String {
    Uuid::new_v5(&NAMESPACE, format!("{fingerprint}|{}", opened_at.as_nanos()).as_bytes()).to_string()
}

/// The id of a behavior: UUIDv5 of `spec node|window start|window end`.
pub fn behavior_uid(spec_node: &str, start: Timestamp, end: Timestamp) -> String {
    Uuid::new_v5(&NAMESPACE, format!("{spec_node}|{}|{}", start.as_nanos(), end.as_nanos()).as_bytes())
        .to_string()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
    }
    out
}

/// An unsigned 64-bit integer as [`text`] writes it, for JSON Schema.
pub struct Digits;

impl JsonSchema for Digits {
    fn schema_name() -> Cow<'static, str> {
        "Digits".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "an unsigned 64-bit integer as text, for numbers of JSON are doubles",
            "type": "string",
            "pattern": "^[0-9]{1,20}$",
        })
    }
}

/// 64-bit integers as strings, as RFC 8785 wants them.
pub mod text {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the decimal digits.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    /// Reads them back.
    ///
    /// # Errors
    /// The text is no unsigned 64-bit integer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
