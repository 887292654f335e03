//! Entries as bytes: a header of fixed and short fields, then the body.

use std::sync::Arc;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::LedgerEntry;
use crate::clock::Timestamp;
use crate::entry::Offset;
use crate::finding::Finding;

const VERSION: u8 = 1;
const PRUNED: u8 = 1;
const FIXED_BYTES: usize = 4 + 8 + 8 + 3 * 32;

/// The hash of an entry: SHA-256 of `previous` (32 bytes), `chain` (UTF-8), `sequence` (8 bytes, big-endian), `kind` (UTF-8) and
/// `body_hash` (SHA-256 of the body's UTF-8, 32 bytes), one after the other. In SQL:
/// `sha256(previous || chain::bytea || int8send(sequence) || kind::bytea || sha256(convert_to(body, 'UTF8')))`.
pub fn entry_hash(
    previous: &[u8; 32],
    chain: &str,
    sequence: u64,
    kind: &str,
    body_hash: &[u8; 32],
) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(previous);
    hasher.update(chain.as_bytes());
    hasher.update(sequence.to_be_bytes());
    hasher.update(kind.as_bytes());
    hasher.update(body_hash);
    hasher.finalize().into()
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The body of an entry.
#[derive(Serialize, JsonSchema)]
struct Body<'a> {
    /// The offset of the journal entry that caused it.
    #[serde(with = "crate::finding::text")]
    #[schemars(with = "crate::finding::Digits")]
    cause: u64,
    /// When that entry was logged.
    time: Timestamp,
    #[serde(flatten)]
    finding: &'a Finding,
}

/// The schemas of the bodies, by the word in `finding`: `behaviors`, `deviation`, `model`, `notice`.
pub fn schemas() -> Vec<(String, Value)> {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut whole = generator.into_root_schema_for::<Body<'_>>().to_value();
    let Some(Value::Array(ways)) = whole.as_object_mut().and_then(|root| root.remove("oneOf")) else {
        return Vec::new();
    };
    let word = |way: &Value| way["properties"]["finding"]["const"].as_str().map(str::to_owned);
    ways.iter().filter_map(|way| Some((word(way)?, needed(with_way(whole.clone(), way))))).collect()
}

/// Without the definitions that nothing in it refers to any more.
fn needed(mut root: Value) -> Value {
    loop {
        let text = root.to_string();
        let Some(definitions) = root["$defs"].as_object_mut() else { return root };
        let before = definitions.len();
        definitions.retain(|name, _| text.contains(&format!("\"#/$defs/{name}\"")));
        if definitions.len() == before {
            return root;
        }
    }
}

/// One way to go on, said where the rest is said.
fn with_way(mut root: Value, way: &Value) -> Value {
    for key in ["$ref", "description"] {
        if let Some(value) = way.get(key) {
            root[key] = value.clone();
        }
    }
    if let (Some(properties), Some(more)) =
        (root["properties"].as_object_mut(), way["properties"].as_object())
    {
        properties.extend(more.clone());
    }
    if let (Some(required), Some(more)) = (root["required"].as_array_mut(), way["required"].as_array()) {
        required.extend(more.iter().cloned());
    }
    root
}

/// What of a body does not belong to its finding.
#[derive(Deserialize)]
pub(super) struct Origin {
    #[serde(with = "crate::finding::text")]
    pub cause: u64,
    pub time: Timestamp,
}

/// The body of an entry: RFC 8785 JSON of the finding, with `cause` and `time`.
///
/// # Errors
/// A number in the finding is not finite.
pub fn body(finding: &Finding, time: Timestamp, cause: Offset) -> anyhow::Result<String> {
    serde_jcs::to_string(&Body { cause: cause.0, time, finding })
        .map_err(|error| anyhow::anyhow!("a {} cannot be written as JSON: {error}", finding.kind()))
}

/// The bytes of an entry, taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    flags: u8,
    pub time: Timestamp,
    pub cause: Offset,
    pub previous: [u8; 32],
    pub hash: [u8; 32],
    pub body_hash: [u8; 32],
    pub chain: &'a str,
    pub kind: &'a str,
    /// Empty when it was pruned.
    pub body: &'a str,
}

impl<'a> Record<'a> {
    /// What stands before the body of `entry`.
    pub fn header(entry: &LedgerEntry) -> Vec<u8> {
        Record {
            flags: 0,
            time: entry.time,
            cause: entry.cause,
            previous: entry.previous,
            hash: entry.hash,
            body_hash: sha256(entry.body.as_bytes()),
            chain: &entry.chain,
            kind: &entry.kind,
            body: "",
        }
        .write()
    }

    fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + self.chain.len() + self.kind.len());
        // Chains and kinds are our own short words.
        let length = |text: &str| u8::try_from(text.len()).unwrap_or(u8::MAX);
        out.extend_from_slice(&[VERSION, self.flags, length(self.chain), length(self.kind)]);
        out.extend_from_slice(&self.time.as_nanos().to_le_bytes());
        out.extend_from_slice(&self.cause.0.to_le_bytes());
        out.extend_from_slice(&self.previous);
        out.extend_from_slice(&self.hash);
        out.extend_from_slice(&self.body_hash);
        out.extend_from_slice(self.chain.as_bytes());
        out.extend_from_slice(self.kind.as_bytes());
        out
    }

    /// Takes `bytes` apart; none when they are no entry of a known version.
    pub fn read(bytes: &'a [u8]) -> Option<Record<'a>> {
        let (&[version, flags, chain, kind], rest) = bytes.split_first_chunk::<4>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let (cause, rest) = rest.split_first_chunk::<8>()?;
        let (previous, rest) = rest.split_first_chunk::<32>()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        let (body_hash, rest) = rest.split_first_chunk::<32>()?;
        let (chain, rest) = rest.split_at_checked(usize::from(chain))?;
        let (kind, body) = rest.split_at_checked(usize::from(kind))?;
        Some(Record {
            flags,
            time: Timestamp::from_nanos(i64::from_le_bytes(*time)),
            cause: Offset(u64::from_le_bytes(*cause)),
            previous: *previous,
            hash: *hash,
            body_hash: *body_hash,
            chain: std::str::from_utf8(chain).ok()?,
            kind: std::str::from_utf8(kind).ok()?,
            body: std::str::from_utf8(body).ok()?,
        })
        .filter(|_| version == VERSION)
    }

    pub fn is_pruned(&self) -> bool {
        self.flags & PRUNED != 0
    }

    /// The same entry without its body.
    pub fn prune(&self) -> Vec<u8> {
        Record { flags: self.flags | PRUNED, ..*self }.write()
    }

    /// The entry, when its body can be read.
    pub fn entry(&self, sequence: u64) -> serde_json::Result<LedgerEntry> {
        Ok(LedgerEntry {
            chain: Arc::from(self.chain),
            sequence,
            time: self.time,
            cause: self.cause,
            kind: self.kind.to_owned(),
            body: self.body.to_owned(),
            previous: self.previous,
            hash: self.hash,
            finding: serde_json::from_str(self.body)?,
        })
    }
}
