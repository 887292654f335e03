//! A file that is renamed when it is full, and the full ones beside it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Digits of the number in a full file's name: names sort as numbers do.
const DIGITS: usize = 20;

/// The file, and where its next byte goes.
#[derive(Debug)]
pub(super) struct Rolling {
    path: PathBuf,
    bytes_max: u64,
    backups_max: usize,
    file: File,
    /// What is whole; what follows is a write that failed.
    bytes: u64,
}

impl Rolling {
    /// Opens or creates the file.
    pub fn open(path: &Path, bytes_max: u64, backups_max: usize) -> io::Result<Rolling> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Rolling { path: path.to_owned(), bytes_max, backups_max, file, bytes })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets what stands beyond `bytes`.
    pub fn cut(&mut self, bytes: u64) -> io::Result<()> {
        if bytes < self.file.metadata()?.len() {
            self.file.set_len(bytes)?;
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Whether the file is full before this comes into it; an empty one takes anything.
    pub fn is_full_for(&self, more: &[u8]) -> bool {
        self.bytes > 0 && self.bytes + more.len() as u64 > self.bytes_max
    }

    /// Writes at the place, not at the end: what a failed write left there is overwritten.
    pub fn append(&mut self, more: &[u8]) -> io::Result<()> {
        self.file.write_all_at(more, self.bytes)?;
        self.bytes += more.len() as u64;
        Ok(())
    }

    /// Makes what was written durable, and nothing else.
    pub fn sync(&self) -> io::Result<()> {
        self.file.set_len(self.bytes)?;
        self.file.sync_data()
    }

    /// Full files, oldest first, with their numbers.
    pub fn backups(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let (stem, extension) = self.name();
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut backups = Vec::new();
        for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
            let path = entry?.path();
            let number = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&extension))
                .filter(|digits| digits.len() == DIGITS)
                .and_then(|digits| digits.parse().ok());
            if let Some(number) = number {
                backups.push((number, path));
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

    /// Gives the file this number, begins a new one, and removes what is too many.
    pub fn rotate(&mut self, number: u64) -> io::Result<()> {
        let (stem, extension) = self.name();
        self.sync()?;
        let backup = self.path.with_file_name(format!("{stem}-{number:0DIGITS$}{extension}"));
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
