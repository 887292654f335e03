//! Dead letters: what a sink refused for good, one JSON object a line. Never the body: it may hold what must not leave the
//! ledger; sequence and hash find it there.

use std::fs::{File, OpenOptions, create_dir_all, rename};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::contract::Reject;
use crate::finding::hex;
use crate::ledger::LedgerEntry;

const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The dead letters of one exporter: `{id}.jsonl` and, when that has grown to 4 MiB, one older file, `{id}.1.jsonl`. A slash in
/// the id is a hyphen in the file's name.
#[derive(Clone)]
pub(super) struct Letters {
    exporter: String,
    directory: Option<PathBuf>,
    counter: metrics::Counter,
}

#[derive(Serialize)]
struct Letter<'a> {
    exporter: &'a str,
    sequence: String,
    kind: &'a str,
    hash: String,
    body_bytes: usize,
    reason: &'a str,
}

impl Letters {
    pub(super) fn new(exporter: String, directory: Option<PathBuf>) -> Letters {
        let label = exporter.clone();
        let counter = metrics::counter!("homeostat_delivery_dead_letters_total", "exporter" => label);
        Letters { exporter, directory, counter }
    }

    /// Counts and keeps the rejected ones of `entries`. A failure is logged: dead letters block nothing.
    pub(super) fn write(&mut self, entries: &[LedgerEntry], rejects: &[Reject]) {
        self.counter.increment(rejects.len() as u64);
        for reject in rejects {
            tracing::error!(
                exporter = self.exporter,
                sequence = reject.sequence,
                reason = reject.reason,
                "the sink refuses a finding for good"
            );
        }
        let Some(directory) = &self.directory else { return };
        if let Err(error) = self.append(directory, entries, rejects) {
            tracing::error!(exporter = self.exporter, "the dead letters cannot be written: {error}");
        }
    }

    fn append(&self, directory: &Path, entries: &[LedgerEntry], rejects: &[Reject]) -> io::Result<()> {
        let mut text = Vec::new();
        for reject in rejects {
            let Some(entry) = entries.iter().find(|entry| entry.sequence == reject.sequence) else {
                continue;
            };
            let letter = Letter {
                exporter: &self.exporter,
                sequence: entry.sequence.to_string(),
                kind: &entry.kind,
                hash: hex(&entry.hash),
                body_bytes: entry.body.len(),
                reason: &reject.reason,
            };
            serde_json::to_writer(&mut text, &letter)?;
            text.push(b'\n');
        }
        create_dir_all(directory)?;
        let name = self.exporter.replace('/', "-");
        let path = directory.join(format!("{name}.jsonl"));
        let mut file = open(&path)?;
        if file.metadata()?.len() + text.len() as u64 > MAX_BYTES && file.metadata()?.len() > 0 {
            drop(file);
            rename(&path, directory.join(format!("{name}.1.jsonl")))?;
            file = open(&path)?;
        }
        file.write_all(&text)?;
        file.sync_data()
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
