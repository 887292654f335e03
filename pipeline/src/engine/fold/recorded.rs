//! What the ledger says was found after the checkpoint, compared with what the replay finds.
//!
//! The ledger is the source of truth: what it has is not appended again, and what it lacks between two entries that it has is
//! not added. Every difference is told, unless part of the journal was lost, when differences are to be expected.

use std::io;

use super::core::notice;
use crate::clock::Timestamp;
use crate::entry::Offset;
use crate::finding::Finding;
use crate::ledger::{LedgerEntries, LedgerEntry, LedgerItem, body};

/// A finding is some kilobytes; one beyond this is a mistake of its analyzer.
const MAX_BODY_BYTES: usize = 64 << 20;

/// A reader of the ledger from the checkpoint to the head it had at the start.
pub(in crate::engine) struct Recorded {
    entries: LedgerEntries,
    through: u64,
    next: Option<Expected>,
    is_lenient: bool,
    /// Gap notices that the ledger does not have and that would be lost in between.
    pub(super) unrecorded: Vec<Finding>,
    /// In words, since somebody last took them.
    pub(in crate::engine) mismatches: Vec<String>,
}

enum Expected {
    Entry(Box<LedgerEntry>),
    /// This many entries whose content is not known any more.
    Unknown(u64),
}

impl Recorded {
    /// Expects `entries`, of which the last has the sequence `through`.
    pub(in crate::engine) fn new(entries: LedgerEntries, through: u64) -> Recorded {
        Recorded {
            entries,
            through,
            next: None,
            is_lenient: false,
            unrecorded: Vec::new(),
            mismatches: Vec::new(),
        }
    }

    /// Part of the journal is lost: differences are to be expected from here on.
    pub(in crate::engine) fn expect_differences(&mut self) {
        self.is_lenient = true;
    }

    /// Whether everything recorded was passed.
    pub(super) fn is_passed(&mut self) -> io::Result<bool> {
        Ok(self.peek()?.is_none())
    }

    /// The sequence and cause of the next one expected, for a message.
    pub(in crate::engine) fn left(&mut self) -> io::Result<Option<String>> {
        Ok(self.peek()?.map(|expected| match expected {
            Expected::Entry(entry) => {
                format!("{} at sequence {} of entry {}", entry.kind, entry.sequence, entry.cause.0)
            }
            Expected::Unknown(count) => format!("{count} entries without a body"),
        }))
    }

    fn peek(&mut self) -> io::Result<Option<&Expected>> {
        while self.next.is_none() {
            let Some(item) = self.entries.next().transpose()? else { break };
            let (last, expected) = match item {
                LedgerItem::Entry(entry) => (entry.sequence, Expected::Entry(entry)),
                LedgerItem::Pruned { sequence } => (sequence, Expected::Unknown(1)),
                LedgerItem::Gap { from, to } if from < to => (from, Expected::Unknown(to - from)),
                LedgerItem::Gap { .. } => continue,
            };
            if last > self.through {
                break;
            }
            self.next = Some(expected);
        }
        Ok(self.next.as_ref())
    }

    pub(in crate::engine) fn differ(&mut self, text: String) {
        if !self.is_lenient {
            self.mismatches.push(text);
        }
    }

    /// Compares the findings of the entry at `cause` and says how many of them, from the first, are dealt with; the rest the
    /// ledger does not have yet.
    pub(in crate::engine) fn pass(
        &mut self,
        findings: &[Finding],
        time: Timestamp,
        cause: Offset,
    ) -> io::Result<usize> {
        for (at, finding) in findings.iter().enumerate() {
            match self.peek()? {
                None => return Ok(at),
                Some(Expected::Unknown(_)) => self.pass_unknown(),
                Some(Expected::Entry(entry)) if entry.cause > cause => {
                    let text = format!("entry {} gives {}, which the ledger lacks", cause.0, finding.kind());
                    self.keep_notice(finding);
                    self.differ(text);
                }
                Some(Expected::Entry(entry)) => {
                    if entry.cause != cause || !is_same(entry, finding, time) {
                        let text = format!(
                            "entry {} gives {}, the ledger has another {} at sequence {}",
                            cause.0,
                            finding.kind(),
                            entry.kind,
                            entry.sequence
                        );
                        self.keep_notice(finding);
                        self.differ(text);
                    }
                    self.next = None;
                }
            }
        }
        while let Some(Expected::Entry(entry)) = self.peek()?
            && entry.cause <= cause
        {
            let text = format!(
                "the ledger has {} at sequence {} of entry {}, which is not found again",
                entry.kind, entry.sequence, entry.cause.0
            );
            let finding = entry.finding.clone();
            self.unrecorded.retain(|kept| *kept != finding);
            self.differ(text);
            self.next = None;
        }
        Ok(findings.len())
    }

    fn pass_unknown(&mut self) {
        self.next = match self.next.take() {
            Some(Expected::Unknown(count)) if count > 1 => Some(Expected::Unknown(count - 1)),
            Some(Expected::Unknown(_) | Expected::Entry(_)) | None => None,
        };
    }

    fn keep_notice(&mut self, finding: &Finding) {
        if self.is_lenient && matches!(finding, Finding::Notice(_)) {
            self.unrecorded.push(finding.clone());
        }
    }
}

/// Byte for byte, in the form that the hash covers.
fn is_same(entry: &LedgerEntry, finding: &Finding, time: Timestamp) -> bool {
    let admitted = admissible(finding, time, entry.cause);
    body(&admitted, time, entry.cause).is_ok_and(|body| body == entry.body)
}

/// The finding, or a notice in its place when the ledger can never take it: it holds a number that is not finite, or is
/// enormous.
pub(super) fn admissible(finding: &Finding, time: Timestamp, cause: Offset) -> Finding {
    let reason = match body(finding, time, cause) {
        Ok(body) if body.len() > MAX_BODY_BYTES => format!("it has {} bytes", body.len()),
        Ok(body) if serde_json::from_str::<Finding>(&body).is_ok() => return finding.clone(),
        Ok(_) => "it holds a number that is not finite".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    let message = format!("a {} of journal entry {} was left out: {reason}", finding.kind(), cause.0);
    notice("finding_refused", time, message)
}
