//! The file `cursor`: where the spool goes on after a restart. It is written beside and renamed, so it is the old one or the new
//! one; it is behind what was sent rather than ahead, so what it costs is a repetition.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::room::Size;

const BYTES: usize = 28;

/// The requests before this place are done with. `total.requests` is the index of the next.
#[derive(Clone, Debug)]
pub struct CursorFile(PathBuf);

impl CursorFile {
    /// The one in `directory`.
    pub fn new(directory: &std::path::Path) -> CursorFile {
        CursorFile(directory.join("cursor"))
    }

    /// Makes `done` durable. Blocking.
    ///
    /// # Errors
    /// The file cannot be written; the old one stays.
    pub fn write(&self, done: Size) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(BYTES);
        for number in [done.requests, done.items, done.bytes] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let aside = self.0.with_extension("partial");
        let mut file = File::create(&aside)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(aside, &self.0)
    }

    /// What it says; none when it is missing or damaged.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self) -> io::Result<Option<Size>> {
        let bytes = match fs::read(&self.0) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (numbers, crc) = bytes.split_at_checked(BYTES - 4).unwrap_or_default();
        if crc != crc32c::crc32c(numbers).to_le_bytes() {
            return Ok(None);
        }
        let mut numbers = numbers.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number));
        let mut next = || numbers.next();
        Ok((|| Some(Size { requests: next()?, items: next()?, bytes: next()? }))())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = CursorFile::new(folder.path());
        assert_eq!(file.read().unwrap(), None);
        let done = Size { requests: 1, items: 2, bytes: 3 };
        file.write(Size::default()).unwrap();
        file.write(done).unwrap();
        assert_eq!(file.read().unwrap(), Some(done));
        for bytes in [0, 10, 27] {
            let whole = fs::read(&file.0).unwrap();
            fs::write(&file.0, &whole[..bytes]).unwrap();
            assert_eq!(file.read().unwrap(), None, "{bytes}");
            fs::write(&file.0, whole).unwrap();
        }
        let mut flipped = fs::read(&file.0).unwrap();
        flipped[3] ^= 1;
        fs::write(&file.0, flipped).unwrap();
        assert_eq!(file.read().unwrap(), None);
    }
}
