//! A file of lines that knows its last sequence.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;

use serde::Deserialize;

use super::findings::Line;
use super::rolling::Rolling;

/// What of a written line is read back.
#[derive(Debug, Deserialize)]
struct Written {
    sequence: String,
    hash: String,
}

impl Written {
    fn read(line: &[u8]) -> Option<(u64, String)> {
        let written: Written = serde_json::from_slice(line).ok()?;
        Some((written.sequence.parse().ok()?, written.hash))
    }
}

#[derive(Debug)]
pub(super) struct Lines {
    rolling: Rolling,
    /// The last sequence in this file, or in the newest full one when this is empty.
    last: u64,
    /// Whether this process has seen that the file belongs to the ledger that it gets.
    is_known: bool,
}

impl Lines {
    /// Reads where the file ends, and cuts half a line there.
    pub fn over(mut rolling: Rolling) -> io::Result<Lines> {
        let bytes = whole_bytes(rolling.file(), rolling.bytes())?;
        rolling.cut(bytes)?;
        let last = match last_line(rolling.file(), bytes)? {
            Some((sequence, _)) => sequence,
            None => rolling.backups()?.last().map_or(0, |(sequence, _)| *sequence),
        };
        Ok(Lines { rolling, last, is_known: false })
    }

    /// Writes the lines whose sequence is beyond the last, durably.
    pub fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        if !self.is_known
            && let Some(first) = lines.first()
        {
            if first.sequence <= self.last && !self.may_hold(first)? {
                tracing::warn!(
                    path = %self.rolling.path().display(),
                    "the file holds the findings of another ledger and is set aside"
                );
                self.rolling.rotate(self.last)?;
                self.last = 0;
            }
            self.is_known = true;
        }
        for line in lines {
            if line.sequence <= self.last {
                continue;
            }
            if self.rolling.is_full_for(line.text.as_bytes()) {
                self.rolling.rotate(self.last)?;
            }
            self.rolling.append(line.text.as_bytes())?;
            self.last = line.sequence;
        }
        self.rolling.sync()
    }

    /// Whether the line of this sequence, when it is in the file, is this very line.
    fn may_hold(&self, line: &Line) -> io::Result<bool> {
        let mut reader = BufReader::new(self.rolling.file());
        reader.seek(SeekFrom::Start(0))?;
        let mut text = Vec::new();
        while reader.read_until(b'\n', &mut text)? > 0 {
            if let Some((sequence, hash)) = Written::read(&text)
                && sequence == line.sequence
            {
                return Ok(hash == line.hash);
            }
            text.clear();
        }
        Ok(true)
    }
}

/// Up to and with the last newline.
pub(super) fn whole_bytes(file: &File, mut end: u64) -> io::Result<u64> {
    let mut buffer = [0; 8192];
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let part = &mut buffer[..usize::try_from(end - start).unwrap_or(0)];
        file.read_exact_at(part, start)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The sequence and hash of the line that ends at `bytes`.
fn last_line(mut file: &File, bytes: u64) -> io::Result<Option<(u64, String)>> {
    if bytes == 0 {
        return Ok(None);
    }
    let start = whole_bytes(file, bytes - 1)?;
    file.seek(SeekFrom::Start(start))?;
    let mut line = Vec::new();
    file.take(bytes - start).read_to_end(&mut line)?;
    Ok(Written::read(&line))
}
