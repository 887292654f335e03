//! Recomputes the chain.

use std::io;
use std::path::Path;

use super::format::{Origin, Record, sha256};
use super::{CHAIN, Head, LedgerReader, entry_hash, head};
use crate::finding::Finding;
use crate::log::{Frame, Item};

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Verification {
    /// Entries whose hash was recomputed and is right, from the first on.
    pub entries: u64,
    /// Of these, entries whose body was pruned (the hash of the body stands for it).
    pub pruned: u64,
    /// The end of the chain as far as it is whole.
    pub head: Head,
    /// The first sequence at which the chain is broken, and why; none when it is whole.
    pub broken: Option<(u64, String)>,
}

/// Recomputes every hash of the ledger in `dir`. May run while another process appends.
///
/// # Errors
/// There is no ledger in `dir`, or it cannot be read.
pub fn verify(dir: &Path) -> io::Result<Verification> {
    // Before the entries, so that one appended meanwhile is not missed.
    let recorded = head::recorded(dir).unwrap_or_default();
    let reader = LedgerReader::open(dir)?;
    let mut found = Verification::default();
    for item in reader.frames() {
        let expected = found.head.sequence + 1;
        let verdict = match item? {
            Item::Gap(gap) if gap.from == gap.to => Err("before it lie bytes that are no entry".to_owned()),
            Item::Gap(gap) => Err(format!("entries {} to {} are damaged or missing", gap.from, gap.to - 1)),
            Item::Frame(frame) => check(&frame, found.head),
        };
        match verdict {
            Ok((head, is_pruned)) => {
                found.entries += 1;
                found.pruned += u64::from(is_pruned);
                found.head = head;
            }
            Err(reason) => {
                found.broken = Some((expected, reason));
                return Ok(found);
            }
        }
        if let Some(recorded) = recorded
            && recorded.sequence == found.head.sequence
            && recorded.hash != found.head.hash
        {
            found.broken = Some((expected, "the head file recorded another hash for it".to_owned()));
            return Ok(found);
        }
    }
    if let Some(recorded) = recorded.filter(|recorded| recorded.sequence > found.head.sequence) {
        let reason = format!("entries up to {} were appended and are missing", recorded.sequence);
        found.broken = Some((found.head.sequence + 1, reason));
    }
    Ok(found)
}

/// The head after this entry, and whether its body was pruned.
fn check(frame: &Frame, after: Head) -> Result<(Head, bool), String> {
    let sequence = after.sequence + 1;
    if frame.index != sequence {
        return Err(format!("entry {} stands in its place", frame.index));
    }
    let record = Record::read(&frame.bytes).ok_or("it is no entry of a known format")?;
    if record.chain != CHAIN {
        return Err(format!("it is of the chain `{}`", record.chain));
    }
    if record.previous != after.hash {
        return Err("it does not follow the entry before it".to_owned());
    }
    if record.hash != entry_hash(&after.hash, record.chain, sequence, record.kind, &record.body_hash) {
        return Err("its hash is not that of its content".to_owned());
    }
    if !record.is_pruned() {
        check_body(&record)?;
    }
    Ok((Head { sequence, hash: record.hash }, record.is_pruned()))
}

/// Whether the body is the one that was hashed, and what stands outside it says the same.
fn check_body(record: &Record<'_>) -> Result<(), String> {
    if record.body_hash != sha256(record.body.as_bytes()) {
        return Err("its body was changed".to_owned());
    }
    let unreadable = |error: serde_json::Error| format!("its body cannot be read: {error}");
    let origin: Origin = serde_json::from_str(record.body).map_err(unreadable)?;
    if (origin.time, origin.cause) != (record.time, record.cause.0) {
        return Err("its time or its cause was changed".to_owned());
    }
    let finding: Finding = serde_json::from_str(record.body).map_err(unreadable)?;
    if finding.kind() != record.kind {
        return Err("its kind is not that of its body".to_owned());
    }
    Ok(())
}
