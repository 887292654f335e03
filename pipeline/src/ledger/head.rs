//! The file `head`: the last sequence, its hash, and a CRC32C. Written after the entry is durable, without a sync of its own, so
//! after a power failure it may be behind but never ahead.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Head;

const NAME: &str = "head";
const BYTES: usize = 44;

#[derive(Debug)]
pub(super) struct HeadFile(File);

impl HeadFile {
    /// Opens or creates it.
    pub fn open(dir: &Path) -> io::Result<HeadFile> {
        let path = dir.join(NAME);
        Ok(HeadFile(OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?))
    }

    pub fn write(&self, head: Head) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(&head.sequence.to_le_bytes());
        bytes.extend_from_slice(&head.hash);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}

/// What the head file in `dir` says; none when it is missing or damaged.
pub(super) fn recorded(dir: &Path) -> io::Result<Option<Head>> {
    match File::open(dir.join(NAME)) {
        Ok(file) => read(&file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(file: &File) -> io::Result<Option<Head>> {
    let mut bytes = [0; BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let (content, crc) = bytes.split_at(BYTES - 4);
    let is_whole = crc32c::crc32c(content).to_le_bytes() == crc;
    let (sequence, hash) = content.split_at(8);
    let head = || {
        Some(Head { sequence: u64::from_le_bytes(sequence.try_into().ok()?), hash: hash.try_into().ok()? })
    };
    Ok(if is_whole { head() } else { None })
}
