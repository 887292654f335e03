//! The ledger: the append-only, hash-chained log of findings and decisions, and the source of truth.
//!
//! entry hash = SHA-256(previous ‖ chain ‖ sequence ‖ kind ‖ SHA-256(body)), the body in RFC 8785 form. The body is the finding's
//! JSON with two members more, `cause` (the journal offset, as text) and `time`, so that the hash covers them too.
//!
//! Beside the segments lies the file `head`: the last sequence and its hash, by which entries that were taken from the end are
//! missed. Deliberately absent: signatures. Who can write the folder can write another chain; publish the head elsewhere
//! (NATS and Postgres have it with every entry) to hold against that.

mod damage;
mod format;
mod head;
mod reader;
#[cfg(test)]
mod tests;
mod verify;

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use metrics::counter;

use crate::clock::Timestamp;
use crate::crash;
use crate::entry::Offset;
use crate::finding::Finding;
use crate::log::{Gap, Item, Limits, Log, Opened, Options, PAYLOAD_BYTES_MAX};

pub use damage::Damage;
pub use format::{body, entry_hash, schemas};
pub use reader::{LedgerEntries, LedgerReader};
pub use verify::{Verification, verify};

use format::Record;
use head::HeadFile;

/// What the payload of the frame `sequence` says; none where it is no entry, or one whose body was pruned. For who reads a
/// ledger by other means, and for fuzzing.
pub fn read_entry(sequence: u64, payload: &[u8]) -> Option<LedgerEntry> {
    Record::read(payload).and_then(|record| record.entry(sequence).ok())
}

/// The name of the chain of one machine.
pub const CHAIN: &str = "local";

const SEGMENT_BYTES: u64 = 8 << 20;

/// One entry of the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerEntry {
    /// The chain: `local` on one machine.
    pub chain: Arc<str>,
    /// From 1, without gaps.
    pub sequence: u64,
    /// When the journal entry that caused it was logged.
    pub time: Timestamp,
    /// The journal entry that caused it.
    pub cause: Offset,
    /// `deviation_detected`, `behavior_observed` …
    pub kind: String,
    /// RFC 8785 JSON; what the hash covers.
    pub body: String,
    /// The hash of the entry before; zeros for the first.
    pub previous: [u8; 32],
    /// This entry's.
    pub hash: [u8; 32],
    /// The body, decoded.
    pub finding: Finding,
}

/// Reads the ledger from its start.
pub trait Replay: Send + Sync {
    /// Calls `visit` with every entry that still has its body, in order, up to the sequence `through`.
    ///
    /// # Errors
    /// The ledger cannot be read, or `visit` failed.
    fn replay(
        &self,
        through: u64,
        visit: &mut dyn FnMut(LedgerEntry) -> anyhow::Result<()>,
    ) -> anyhow::Result<()>;
}

/// The end of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Head {
    /// Of the last entry; 0 when there is none.
    pub sequence: u64,
    /// The last entry's hash; zeros when there is none.
    pub hash: [u8; 32],
}

/// What stands at a place of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub enum LedgerItem {
    /// An entry with its body (boxed, for it is large).
    Entry(Box<LedgerEntry>),
    /// An entry whose body was pruned; its hash still stands in the chain.
    Pruned {
        /// Its sequence.
        sequence: u64,
    },
    /// Entries that damage made unreadable: `from` up to, not including, `to`. With `from == to` none is missing.
    Gap {
        /// The first that is missing.
        from: u64,
        /// The first that is there again.
        to: u64,
    },
}

/// The writer; there is one. Blocking.
#[derive(Debug)]
pub struct Ledger {
    log: Log,
    head: Head,
    /// None without disk.
    head_file: Option<HeadFile>,
    chain: Arc<str>,
    /// What is known to be damaged; none without disk, where old entries go on purpose.
    damage: Option<Damage>,
    /// Segments that begin before this sequence have nothing left to prune.
    pruned_before: u64,
}

impl Ledger {
    /// Opens or creates the ledger in `dir`.
    ///
    /// # Errors
    /// The directory cannot be read or written; damage is no error.
    pub fn open(dir: &Path) -> io::Result<(Ledger, Opened)> {
        Ledger::open_with(dir, SEGMENT_BYTES)
    }

    fn open_with(dir: &Path, segment_bytes: u64) -> io::Result<(Ledger, Opened)> {
        let recorded = head::recorded(dir)?;
        let synced = recorded.map(|head| head.sequence);
        let options =
            Options { name: "ledger", segment_bytes, first: 1, partition: 0, synced, is_cached: true };
        let (log, opened) = Log::open(dir, options)?;
        let head_file = HeadFile::open(dir)?;
        let mut head = Head::default();
        if let Some(frame) = &opened.last {
            head.sequence = frame.index;
            match Record::read(&frame.bytes) {
                Some(record) => head.hash = record.hash,
                None => {
                    tracing::error!(sequence = frame.index, "the last entry of the ledger cannot be read")
                }
            }
        }
        let (chain, damage) = (Arc::from(CHAIN), Some(Damage::default()));
        let mut ledger = Ledger { log, head, head_file: Some(head_file), chain, damage, pruned_before: 0 };
        let mut opened = opened;
        opened.gaps.extend(recorded.and_then(|recorded| ledger.expect(recorded).transpose()).transpose()?);
        for gap in &opened.gaps {
            ledger.note_damage(*gap);
        }
        Ok((ledger, opened))
    }

    /// A ledger without disk: it keeps the last 4,096 entries or 16 MiB.
    pub fn memory() -> Ledger {
        let log = Log::memory(1, Limits::default());
        let chain = Arc::from(CHAIN);
        Ledger { log, head: Head::default(), head_file: None, chain, damage: None, pruned_before: 0 }
    }

    /// Says that the ledger is known to have reached `head`. When it has not, its end was lost: the chain goes on from `head`,
    /// and what is missing is a gap that every reader and every verification says.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn expect(&mut self, head: Head) -> io::Result<Option<Gap>> {
        if head.sequence <= self.head.sequence {
            return Ok(None);
        }
        let gap = Gap { from: self.head.sequence + 1, to: head.sequence + 1 };
        counter!("homeostat_ledger_lost_total").increment(gap.to - gap.from);
        crate::drops::LEDGER_LOST.count(gap.to - gap.from);
        tracing::error!(
            from = gap.from,
            to = gap.to,
            "the ledger's last entries are lost; the chain goes on after them"
        );
        self.note_damage(gap);
        self.log.skip_to(gap.to)?;
        self.head = head;
        Ok(Some(gap))
    }

    /// Appends `findings`, durable when it returns (one `fdatasync`).
    ///
    /// # Errors
    /// The disk does not take them, or a number in them is not finite; then none was appended and the same call may be made again.
    pub fn append(
        &mut self,
        findings: &[Finding],
        time: Timestamp,
        cause: Offset,
    ) -> anyhow::Result<Vec<LedgerEntry>> {
        crash::point("ledger.before_append");
        let mut entries = Vec::with_capacity(findings.len());
        let mut head = self.head;
        for finding in findings {
            let entry = self.entry(finding, time, cause, head)?;
            head = Head { sequence: entry.sequence, hash: entry.hash };
            entries.push(entry);
        }
        for entry in &entries {
            self.log.append(&[&Record::header(entry), entry.body.as_bytes()])?;
        }
        self.log.sync()?;
        self.head = head;
        crash::point("ledger.appended");
        if let Some(file) = &self.head_file
            && let Err(error) = file.write(head)
        {
            // The entries are durable; only the loss of the last ones would go unnoticed.
            tracing::warn!(%error, "the ledger's head file cannot be written");
        }
        Ok(entries)
    }

    fn entry(
        &self,
        finding: &Finding,
        time: Timestamp,
        cause: Offset,
        after: Head,
    ) -> anyhow::Result<LedgerEntry> {
        let kind = finding.kind().to_owned();
        let body = body(finding, time, cause)?;
        anyhow::ensure!(
            body.len() < PAYLOAD_BYTES_MAX / 2,
            "a finding of {} bytes is larger than the ledger takes",
            body.len()
        );
        let sequence = after.sequence + 1;
        let hash = entry_hash(&after.hash, &self.chain, sequence, &kind, &format::sha256(body.as_bytes()));
        let (chain, previous) = (Arc::clone(&self.chain), after.hash);
        // What the body says, not what was asked for: a number that is not finite is absent or refused here, not by a reader later.
        let finding = serde_json::from_str(&body)
            .with_context(|| format!("a {kind} holds a number that is not finite"))?;
        Ok(LedgerEntry { chain, sequence, time, cause, kind, body, previous, hash, finding })
    }

    /// The end of the chain.
    pub fn head(&self) -> Head {
        self.head
    }

    /// A reader of what was appended; it implements [`Replay`].
    pub fn reader(&self) -> LedgerReader {
        LedgerReader::new(self.log.reader(), self.damage.clone())
    }

    /// What is known to be damaged; none without disk.
    pub fn damage(&self) -> Option<Damage> {
        self.damage.clone()
    }

    fn note_damage(&self, gap: Gap) {
        if let Some(damage) = &self.damage {
            damage.note(gap.from, gap.to);
        }
    }

    /// Removes the bodies of behaviors logged before `before` in segments whose entries all lie at or before `passed`
    /// (the lowest cursor); answers how many. Their hashes stay, so the chain still verifies.
    ///
    /// # Errors
    /// A segment cannot be rewritten; the old one stays.
    pub fn prune(&mut self, before: Timestamp, passed: u64) -> io::Result<u64> {
        let segments = self.log.segments();
        let mut pruned = 0;
        for pair in segments.windows(2) {
            let &[first, next] = pair else { continue };
            if next > passed.saturating_add(1) {
                break;
            }
            if first < self.pruned_before {
                continue;
            }
            // Times only grow, so nothing from here on is old enough.
            if self.began(first)?.is_some_and(|time| time >= before) {
                break;
            }
            let mut is_done = true;
            pruned += self.log.rewrite(first, &mut |frame| {
                let record = Record::read(&frame.bytes)?;
                is_done &= record.time < before;
                let is_due = record.time < before && record.kind == BEHAVIOR && !record.is_pruned();
                is_due.then(|| record.prune())
            })?;
            if is_done {
                self.pruned_before = next;
            }
        }
        if pruned > 0 {
            counter!("homeostat_ledger_pruned_total").increment(pruned);
            tracing::debug!(entries = pruned, "bodies of old behaviors were pruned from the ledger");
        }
        Ok(pruned)
    }

    /// When the first intact entry at or after `sequence` was logged.
    fn began(&self, sequence: u64) -> io::Result<Option<Timestamp>> {
        for item in self.log.reader().read_from(sequence) {
            if let Item::Frame(frame) = item? {
                return Ok(Record::read(&frame.bytes).map(|record| record.time));
            }
        }
        Ok(None)
    }
}

/// The one kind whose bodies are pruned.
const BEHAVIOR: &str = "behavior_observed";
