//! Dead letters: what a sink or a backend refused for good, one JSON object a line. Never the body: it may hold what must not
//! leave the ledger; sequence and hash find it there.

use std::fs::{File, OpenOptions, create_dir_all, rename};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::contract::Reject;
use crate::finding::hex;
use crate::ledger::LedgerEntry;

const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Where the dead letters of one exporter are: `{id}.jsonl` and, when that has grown to 4 MiB, one older file, `{id}.1.jsonl`. A
/// slash in the id is a hyphen in the file's name.
#[derive(Clone, Debug)]
pub struct LetterFile {
    directory: PathBuf,
    name: String,
}

impl LetterFile {
    /// Those of the exporter `id` in `directory`, which is created when the first one is written.
    pub fn new(directory: PathBuf, id: &str) -> LetterFile {
        LetterFile { directory, name: id.replace('/', "-") }
    }

    /// Appends lines, durably. Blocking.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&self, lines: &[u8]) -> io::Result<()> {
        create_dir_all(&self.directory)?;
        let path = self.directory.join(format!("{}.jsonl", self.name));
        let mut file = open(&path)?;
        let bytes = file.metadata()?.len();
        if bytes > 0 && bytes + lines.len() as u64 > MAX_BYTES {
            drop(file);
            rename(&path, self.directory.join(format!("{}.1.jsonl", self.name)))?;
            file = open(&path)?;
        }
        file.write_all(lines)?;
        file.sync_data()
    }
}

/// The dead letters of one finding exporter.
#[derive(Clone)]
pub(super) struct Letters {
    exporter: String,
    file: Option<LetterFile>,
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
        let file = directory.map(|directory| LetterFile::new(directory, &exporter));
        Letters { exporter, file, counter }
    }

    /// Counts and keeps the rejected ones of `entries`. A failure is logged: dead letters block nothing.
    pub(super) fn write(&mut self, entries: &[LedgerEntry], rejects: &[Reject]) {
        self.counter.increment(rejects.len() as u64);
        crate::drops::DELIVERY_DEAD_LETTER.count_with(rejects.len() as u64, || self.exporter.clone());
        for reject in rejects {
            tracing::error!(
                exporter = self.exporter,
                sequence = reject.sequence,
                reason = reject.reason,
                "the sink refuses a finding for good"
            );
        }
        let Some(file) = &self.file else { return };
        let written = self.lines(entries, rejects).and_then(|lines| file.append(&lines));
        if let Err(error) = written {
            tracing::error!(exporter = self.exporter, "the dead letters cannot be written: {error}");
        }
    }

    fn lines(&self, entries: &[LedgerEntry], rejects: &[Reject]) -> io::Result<Vec<u8>> {
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
        Ok(text)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
