//! Findings as lines: every ledger entry once.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use homeostat_pipeline::contract::{FindingExporter, Reject};
use homeostat_pipeline::finding::hex;
use homeostat_pipeline::ledger::LedgerEntry;
use homeostat_pipeline::refusal::Refusal;

use super::lines::Lines;

#[derive(Debug)]
pub(super) enum Sink {
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

/// Writes the ledger's entries.
pub(super) struct Exporter {
    sink: Arc<Mutex<Sink>>,
}

impl Exporter {
    pub(super) fn new(sink: Sink) -> Exporter {
        Exporter { sink: Arc::new(Mutex::new(sink)) }
    }
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
pub(super) struct Line {
    pub(super) sequence: u64,
    /// In hex.
    pub(super) hash: String,
    /// With its newline.
    pub(super) text: String,
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

    use super::super::rolling::Rolling;
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
        let rolling = Rolling::open(&dir.join("findings.jsonl"), bytes_max, 2).expect("opens");
        Lines::over(rolling).expect("it can be read")
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
