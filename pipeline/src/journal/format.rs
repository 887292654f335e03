//! Entries as bytes: a header of kind, format version and time; then for evidence the requests and one Arrow IPC stream, for
//! the other kinds JSON. The partition stands in the segment's header. Same entry, same bytes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::batch::RequestHash;
use crate::clock::Timestamp;
use crate::entry::{Event, EvidenceEvent, Offset, Request};
use crate::evidence::kept;

/// What is written; 1 had every column's keys and counts whole.
const VERSION: u8 = 2;
/// The oldest version that is read.
const VERSION_MIN: u8 = 1;
/// Kind, version, time.
pub(super) const HEADER_BYTES: usize = 10;
const REQUEST_BYTES: usize = 20;

const EVIDENCE: u8 = 1;
const ALERTS: u8 = 2;
const TICK: u8 = 3;
const EPOCH: u8 = 4;
const DECISION: u8 = 5;
const SKIP: u8 = 6;

/// Why the bytes of an intact frame are no entry.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it is shorter than its header says")]
    Short,
    #[error("its format version is {0} and this homeostat reads {VERSION_MIN} to {VERSION}")]
    Version(u8),
    #[error("its kind {0} is unknown")]
    Kind(u8),
    #[error("its rows cannot be read: {0}")]
    Rows(#[from] arrow::error::ArrowError),
    #[error("its JSON cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its rows are damaged")]
    Damaged,
    #[error("the rows of its requests do not add up to those of its batch")]
    Sum,
}

#[derive(Serialize, Deserialize)]
struct Skip {
    #[serde(with = "crate::finding::text")]
    skipped: u64,
    reason: String,
}

/// The header for an entry of `time`, and what follows it.
///
/// # Errors
/// The rows cannot be written as Arrow IPC; cannot happen for batches of the evidence schema.
pub(super) fn encode(event: &Event, time: Timestamp) -> Result<([u8; HEADER_BYTES], Vec<u8>), Fault> {
    let (kind, body) = match event {
        Event::Evidence(evidence) => (EVIDENCE, encode_evidence(evidence)?),
        Event::Alerts(alerts) => (ALERTS, serde_json::to_vec(alerts)?),
        Event::Tick => (TICK, Vec::new()),
        Event::Epoch(epoch) => (EPOCH, serde_json::to_vec(epoch)?),
        Event::Decision(decision) => (DECISION, serde_json::to_vec(decision)?),
        Event::Skip { skipped, reason } => {
            (SKIP, serde_json::to_vec(&Skip { skipped: skipped.0, reason: reason.clone() })?)
        }
    };
    let mut header = [kind, VERSION, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..].copy_from_slice(&time.as_nanos().to_le_bytes());
    Ok((header, body))
}

fn encode_evidence(evidence: &EvidenceEvent) -> Result<Vec<u8>, Fault> {
    let rows: u64 = evidence.requests.iter().map(|request| u64::from(request.rows)).sum();
    if rows != evidence.batch.num_rows() as u64 {
        return Err(Fault::Sum);
    }
    let count = u32::try_from(evidence.requests.len()).map_err(|_| Fault::Sum)?;
    let batch = kept::shorten(&evidence.batch)?;
    let columns: usize = batch.columns().iter().map(|column| column.get_buffer_memory_size()).sum();
    let mut body = Vec::with_capacity(4 + evidence.requests.len() * REQUEST_BYTES + columns + 8192);
    body.extend_from_slice(&count.to_le_bytes());
    for request in &evidence.requests {
        body.extend_from_slice(&request.hash.0);
        body.extend_from_slice(&request.rows.to_le_bytes());
    }
    // Arrow's 64-byte alignment would make a commit of few rows half as large again.
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?;
    let mut writer = StreamWriter::try_new_with_options(&mut body, batch.schema_ref(), options)?;
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    Ok(body)
}

/// When the entry was logged.
pub(super) fn time(bytes: &[u8]) -> Option<Timestamp> {
    let nanos = bytes.get(2..HEADER_BYTES)?.try_into().ok()?;
    Some(Timestamp::from_nanos(i64::from_le_bytes(nanos)))
}

/// Reads an entry back.
///
/// # Errors
/// The frame is whole, but holds something else than this program writes.
pub(super) fn decode(bytes: &[u8]) -> Result<(Event, Timestamp), Fault> {
    let time = time(bytes).ok_or(Fault::Short)?;
    let (&[kind, version], body) =
        bytes.split_first_chunk::<2>().map(|(head, _)| (head, &bytes[HEADER_BYTES..])).ok_or(Fault::Short)?;
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return Err(Fault::Version(version));
    }
    let event = match kind {
        EVIDENCE => Event::Evidence(decode_evidence(body)?),
        ALERTS => Event::Alerts(json(body)?),
        TICK => Event::Tick,
        EPOCH => Event::Epoch(json(body)?),
        DECISION => Event::Decision(json(body)?),
        SKIP => {
            let Skip { skipped, reason } = json(body)?;
            Event::Skip { skipped: Offset(skipped), reason }
        }
        kind => return Err(Fault::Kind(kind)),
    };
    Ok((event, time))
}

/// Reads in place: a reader of streams would allocate what a damaged length says, before it looks whether so much is there. Arrow
/// panics on some damage that its own checks do not see; here that is damage like any other.
fn decode_rows(bytes: &[u8]) -> Result<RecordBatch, Fault> {
    let mut stream = Buffer::from(bytes);
    let decode = AssertUnwindSafe(|| StreamDecoder::new().decode(&mut stream));
    catch_unwind(decode).map_err(|_| Fault::Damaged)??.ok_or(Fault::Short)
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    Ok(serde_json::from_slice(body)?)
}

fn decode_evidence(body: &[u8]) -> Result<EvidenceEvent, Fault> {
    let (count, mut rest) = body.split_first_chunk::<4>().ok_or(Fault::Short)?;
    let mut requests = Vec::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let (hash, after) = rest.split_first_chunk::<16>().ok_or(Fault::Short)?;
        let (rows, after) = after.split_first_chunk::<4>().ok_or(Fault::Short)?;
        requests.push(Request { hash: RequestHash(*hash), rows: u32::from_le_bytes(*rows) });
        rest = after;
    }
    let batch = kept::complete(decode_rows(rest)?)?;
    let rows: u64 = requests.iter().map(|request| u64::from(request.rows)).sum();
    if rows != batch.num_rows() as u64 {
        return Err(Fault::Sum);
    }
    Ok(EvidenceEvent { requests, batch })
}
