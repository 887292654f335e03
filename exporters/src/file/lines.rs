//! A file of lines that knows its last sequence, and the full ones beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Line;

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
    path: PathBuf,
    bytes_max: u64,
    backups_max: usize,
    file: File,
    /// Whole lines; what follows is a write that failed.
    bytes: u64,
    /// The last sequence in this file, or in the newest full one when this is empty.
    last: u64,
    /// Whether this process has seen that the file belongs to the ledger that it gets.
    is_known: bool,
}

impl Lines {
    /// Opens or creates the file, and cuts half a line at its end.
    pub fn open(path: &Path, bytes_max: u64, backups_max: usize) -> io::Result<Lines> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let bytes = whole_bytes(&file)?;
        if bytes < file.metadata()?.len() {
            file.set_len(bytes)?;
        }
        let mut lines =
            Lines { path: path.to_owned(), bytes_max, backups_max, file, bytes, last: 0, is_known: false };
        lines.last = match last_line(&lines.file, bytes)? {
            Some((sequence, _)) => sequence,
            None => lines.backups()?.last().map_or(0, |(sequence, _)| *sequence),
        };
        Ok(lines)
    }

    /// Writes the lines whose sequence is beyond the last, durably.
    pub fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        if !self.is_known
            && let Some(first) = lines.first()
        {
            if first.sequence <= self.last && !self.may_hold(first)? {
                tracing::warn!(
                    path = %self.path.display(),
                    "the file holds the findings of another ledger and is set aside"
                );
                self.rotate()?;
                self.last = 0;
            }
            self.is_known = true;
        }
        for line in lines {
            if line.sequence <= self.last {
                continue;
            }
            if self.bytes > 0 && self.bytes + line.text.len() as u64 > self.bytes_max {
                self.rotate()?;
            }
            // At the place, not at the end: what a failed write left there is overwritten.
            self.file.write_all_at(line.text.as_bytes(), self.bytes)?;
            self.bytes += line.text.len() as u64;
            self.last = line.sequence;
        }
        self.file.set_len(self.bytes)?;
        self.file.sync_data()
    }

    /// Whether the line of this sequence, when it is in the file, is this very line.
    fn may_hold(&self, line: &Line) -> io::Result<bool> {
        let mut reader = BufReader::new(&self.file);
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

    /// Full files, oldest first, with their last sequences.
    fn backups(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let (stem, extension) = self.name();
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut backups = Vec::new();
        for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
            let path = entry?.path();
            let sequence = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&extension))
                .filter(|digits| digits.len() == 20)
                .and_then(|digits| digits.parse().ok());
            if let Some(sequence) = sequence {
                backups.push((sequence, path));
            }
        }
        backups.sort();
        Ok(backups)
    }

    /// The file's name in two: `findings` and `.jsonl`.
    fn name(&self) -> (String, String) {
        let part = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        let extension = part(self.path.extension()).map(|extension| format!(".{extension}"));
        (part(self.path.file_stem()).unwrap_or_default(), extension.unwrap_or_default())
    }

    /// Renames the file, begins a new one, and removes what is too many.
    fn rotate(&mut self) -> io::Result<()> {
        let (stem, extension) = self.name();
        self.file.set_len(self.bytes)?;
        self.file.sync_data()?;
        let backup = self.path.with_file_name(format!("{stem}-{:020}{extension}", self.last));
        match fs::rename(&self.path, backup) {
            Ok(()) => {}
            // An earlier attempt came this far and no farther.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.file = OpenOptions::new().read(true).write(true).create_new(true).open(&self.path)?;
        self.bytes = 0;
        let backups = self.backups()?;
        let surplus = if self.backups_max == 0 { 0 } else { backups.len().saturating_sub(self.backups_max) };
        for (_, path) in backups.into_iter().take(surplus) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// Up to and with the last newline.
fn whole_bytes(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
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
    let mut start = bytes - 1;
    let mut buffer = [0; 8192];
    while start > 0 {
        let from = start.saturating_sub(buffer.len() as u64);
        let part = &mut buffer[..usize::try_from(start - from).unwrap_or(0)];
        file.read_exact_at(part, from)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            start = from + at as u64 + 1;
            break;
        }
        start = from;
    }
    file.seek(SeekFrom::Start(start))?;
    let mut line = Vec::new();
    file.take(bytes - start).read_to_end(&mut line)?;
    Ok(Written::read(&line))
}
