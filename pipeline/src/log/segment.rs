//! The files of a log: `{first index, 20 digits}.log`, each with a header of format version, partition and first index.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes before the first frame.
pub(super) const HEADER_BYTES: u64 = 32;

const MAGIC: [u8; 8] = *b"homeolog";
const VERSION: u16 = 1;

/// What a log knows of one of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The index of its first frame; its name.
    pub first: u64,
    /// Readable bytes.
    pub bytes: u64,
    /// Grows when the file is replaced by a rewritten one.
    pub generation: u32,
}

/// The path of the segment that begins at `first`.
pub(super) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

/// Says which file an error is about.
pub(super) fn about<'a>(act: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> io::Error + 'a {
    move |error| io::Error::new(error.kind(), format!("cannot {act} `{}`: {error}", path.display()))
}

/// The segments in `dir`, oldest first.
pub(super) fn list(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir).map_err(about("read", dir))? {
        let entry = entry.map_err(about("read", dir))?;
        let name = entry.file_name();
        let Some(first) = name.to_str().and_then(|name| name.strip_suffix(".log")) else { continue };
        if first.len() != 20 {
            continue;
        }
        let Ok(first) = first.parse() else { continue };
        segments.push(Segment { first, bytes: entry.metadata()?.len(), generation: 0 });
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

/// Writes the header at the start of `file`.
pub(super) fn write_header(file: &File, partition: u32, first: u64) -> io::Result<()> {
    let mut header = Vec::with_capacity(32);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&[0; 2]);
    header.extend_from_slice(&partition.to_le_bytes());
    header.extend_from_slice(&first.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    file.write_all_at(&header, 0)
}

/// Whether the header of `file` is intact.
///
/// # Errors
/// It is intact and of a version that this program does not know, or cannot be read.
pub(super) fn is_header_intact(file: &File, path: &Path, first: u64) -> io::Result<bool> {
    let mut header = [0; HEADER_BYTES as usize];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(about("read", path)(error)),
    }
    let (content, crc) = header.split_at(28);
    if crc != crc32c::crc32c(content).to_le_bytes() || content[..8] != MAGIC {
        return Ok(false);
    }
    let version = u16::from_le_bytes([content[8], content[9]]);
    if version != VERSION {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "`{}` has the log format {version} and this homeostat reads {VERSION}; use the version that wrote it",
                path.display()
            ),
        ));
    }
    Ok(content[16..24] == first.to_le_bytes())
}

/// Makes the names in `dir` durable.
pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(about("sync", dir))
}
