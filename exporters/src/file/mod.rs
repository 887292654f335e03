//! `file` writes every ledger entry as one JSON line, to a file that it rotates or to standard output.
//!
//! ```yaml
//! exporters:
//!   file: { path: stdout }                      # or `-`
//!   file/trail:
//!     path: findings.jsonl                      # from the configuration's folder
//!     rotation: { max_megabytes: 100, max_backups: 100 }
//! ```
//!
//! A line is `{"chain", "sequence", "time", "cause", "kind", "previous", "hash", "body"}`, the body as the ledger keeps it. Each
//! sequence is written once: what the file ends with is read at open, so a repeat after a restart adds nothing. A full file is
//! renamed to `findings-{last sequence}.jsonl` before the next line. Standard output has no memory: after a restart it may repeat.
//!
//! Deliberately absent: telemetry. This exporter takes findings only.

mod lines;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use async_trait::async_trait;
use homeostat_pipeline::contract::{FindingExporter, Reject};
use homeostat_pipeline::finding::hex;
use homeostat_pipeline::ledger::LedgerEntry;
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::{Component, Context, Role, Settings};
use homeostat_pipeline::settings::{At, Files, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use lines::Lines;

/// The settings of `file`; see the module for the YAML.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where to; `stdout` and `-` are standard output.
    pub path: At<String>,
    /// When a file is full, and how many full ones stay.
    #[serde(default)]
    pub rotation: Rotation,
}

/// As in the Collector's file exporter.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// A file of this many MiB is full.
    pub max_megabytes: u64,
    /// Full files that stay; 0 keeps all of them.
    pub max_backups: usize,
}

impl Default for Rotation {
    fn default() -> Rotation {
        Rotation { max_megabytes: 100, max_backups: 100 }
    }
}

impl File {
    fn is_stdout(&self) -> bool {
        matches!(self.path.value.as_str(), "stdout" | "-")
    }
}

#[async_trait]
impl Settings for File {
    fn role(&self) -> Role {
        Role::FindingExporter
    }

    fn check(&self, _files: &Files) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.path.value.is_empty() {
            problems.push(Problem::error(&self.path.at, "`path` is empty (write a file name, or `stdout`)"));
        }
        if self.rotation.max_megabytes == 0 {
            problems.push(Problem::error(
                &self.path.at,
                "`rotation.max_megabytes` is 0, so every line would be a file of its own (leave it out for 100)",
            ));
        }
        problems
    }

    async fn open(&self, context: Context) -> anyhow::Result<Component> {
        let sink = if self.is_stdout() {
            Sink::Stdout { last: 0 }
        } else {
            let path: PathBuf = context.files.resolve(self.path.value.as_ref());
            let lines = Lines::open(&path, self.rotation.max_megabytes << 20, self.rotation.max_backups)
                .with_context(|| {
                    format!("cannot open `{}` for the exporter `{}`", path.display(), context.id)
                })?;
            Sink::File(lines)
        };
        Ok(Component::FindingExporter(Arc::new(Exporter { sink: Arc::new(Mutex::new(sink)) })))
    }
}

#[derive(Debug)]
enum Sink {
    Stdout {
        /// The last sequence written by this process.
        last: u64,
    },
    File(Lines),
}

impl Sink {
    fn write(&mut self, entries: &[Line]) -> std::io::Result<()> {
        match self {
            Sink::File(lines) => lines.write(entries),
            Sink::Stdout { last } => {
                let mut out = std::io::stdout().lock();
                for entry in entries.iter().filter(|entry| entry.sequence > *last) {
                    out.write_all(entry.text.as_bytes())?;
                }
                out.flush()?;
                *last = entries.last().map_or(*last, |entry| entry.sequence.max(*last));
                Ok(())
            }
        }
    }
}

struct Exporter {
    sink: Arc<Mutex<Sink>>,
}

#[async_trait]
impl FindingExporter for Exporter {
    async fn export(&self, entries: &[LedgerEntry]) -> Result<Vec<Reject>, Refusal> {
        let lines: Vec<Line> = entries.iter().map(Line::new).collect();
        let sink = Arc::clone(&self.sink);
        let write = move || sink.lock().unwrap_or_else(PoisonError::into_inner).write(&lines);
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => Ok(Vec::new()),
            Ok(Err(error)) => Err(Refusal::busy(format!("the findings cannot be written: {error}"))),
            Err(error) => Err(Refusal::busy(format!("the findings were not written: {error}"))),
        }
    }
}

/// One entry as it is written.
#[derive(Debug)]
struct Line {
    sequence: u64,
    /// In hex.
    hash: String,
    /// With its newline.
    text: String,
}

impl Line {
    fn new(entry: &LedgerEntry) -> Line {
        let hash = hex(&entry.hash);
        // Chains and kinds are words of our own, and the body is RFC 8785 JSON, which holds no newline.
        let text = format!(
            r#"{{"chain":"{}","sequence":"{}","time":"{}","cause":"{}","kind":"{}","previous":"{}","hash":"{hash}","body":{}}}"#,
            entry.chain,
            entry.sequence,
            entry.time,
            entry.cause.0,
            entry.kind,
            hex(&entry.previous),
            entry.body,
        ) + "\n";
        Line { sequence: entry.sequence, hash, text }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use homeostat_pipeline::clock::Timestamp;
    use homeostat_pipeline::entry::Offset;
    use homeostat_pipeline::finding::{Finding, Notice};
    use homeostat_pipeline::ledger::Ledger;

    use super::*;

    fn entries(count: u64, word: &str) -> Vec<LedgerEntry> {
        let mut ledger = Ledger::memory();
        (1..=count)
            .flat_map(|number| {
                let notice = Notice {
                    kind: "x".into(),
                    at: Timestamp::ZERO,
                    message: format!("{word}\n\"{number}\""),
                };
                ledger
                    .append(&[Finding::Notice(notice)], Timestamp::ZERO, Offset(number))
                    .expect("memory takes entries")
            })
            .collect()
    }

    fn lines(entries: &[LedgerEntry]) -> Vec<Line> {
        entries.iter().map(Line::new).collect()
    }

    fn open(dir: &Path, bytes_max: u64) -> Lines {
        Lines::open(&dir.join("findings.jsonl"), bytes_max, 2).expect("opens")
    }

    /// The sequences in the file, and that every line is whole.
    fn sequences(path: &Path) -> Vec<u64> {
        fs::read_to_string(path)
            .expect("readable")
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).expect("one JSON value a line");
                line["sequence"].as_str().and_then(|text| text.parse().ok()).expect("a sequence")
            })
            .collect()
    }

    #[test]
    fn a_line_is_the_entry_with_its_body_as_the_ledger_keeps_it() {
        let entry = entries(1, "a").remove(0);
        let line: serde_json::Value = serde_json::from_str(&Line::new(&entry).text).expect("JSON");
        let body: serde_json::Value = serde_json::from_str(&entry.body).expect("JSON");
        let expected = serde_json::json!({
            "chain": "local", "sequence": "1", "time": "1970-01-01T00:00:00Z", "cause": "1", "kind": "coverage_gap",
            "previous": "0".repeat(64), "hash": hex(&entry.hash), "body": body,
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn repeats_add_nothing_within_a_run_and_after_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("findings.jsonl");
        let all = entries(5, "a");
        let mut file = open(dir.path(), 1 << 20);
        file.write(&lines(&all[..3])).expect("written");
        file.write(&lines(&all[1..4])).expect("written");
        drop(file);
        open(dir.path(), 1 << 20).write(&lines(&all)).expect("written");
        assert_eq!(sequences(&path), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn half_a_line_that_a_crash_left_is_cut_and_written_whole() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("findings.jsonl");
        let all = entries(3, "a");
        open(dir.path(), 1 << 20).write(&lines(&all)).expect("written");
        let text = fs::read(&path).expect("readable");
        fs::write(&path, &text[..text.len() - 20]).expect("cut");
        open(dir.path(), 1 << 20).write(&lines(&all)).expect("written");
        assert_eq!(fs::read(&path).expect("readable"), text);
    }

    #[test]
    fn a_full_file_is_renamed_and_the_oldest_go() {
        let dir = tempfile::tempdir().expect("a folder");
        let all = entries(9, "a");
        let two = Line::new(&all[0]).text.len() as u64 * 2;
        for entry in &all {
            // Opened anew each time: an empty file after a rotation must not forget the sequence.
            let mut file = open(dir.path(), two);
            file.write(&lines(std::slice::from_ref(entry))).expect("written");
            file.write(&lines(&all[..1])).expect("written");
        }
        let mut names: Vec<String> = fs::read_dir(dir.path())
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        let backup = |last: u64| format!("findings-{last:020}.jsonl");
        assert_eq!(names, [backup(6), backup(8), "findings.jsonl".to_owned()]);
        assert_eq!(sequences(&dir.path().join(backup(8))), [7, 8]);
        assert_eq!(sequences(&dir.path().join("findings.jsonl")), [9]);
    }

    #[test]
    fn another_ledger_gets_another_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("findings.jsonl");
        open(dir.path(), 1 << 20).write(&lines(&entries(5, "a"))).expect("written");
        let others = entries(2, "b");
        open(dir.path(), 1 << 20).write(&lines(&others)).expect("written");
        assert_eq!(sequences(&path), [1, 2], "the new ledger's entries are all there");
        assert_eq!(sequences(&dir.path().join(format!("findings-{:020}.jsonl", 5))), [1, 2, 3, 4, 5]);
    }
}
