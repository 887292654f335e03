//! The one kind of log under journal, ledger and spool: segmented files, a CRC32C per frame, damage that costs only itself.

use std::io;
use std::path::Path;

use bytes::Bytes;

/// How a log is laid out.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `log` label of its metrics: `journal`, `ledger`.
    pub name: &'static str,
    /// A segment that has reached this size is followed by another.
    pub segment_bytes: u64,
    /// The index of the very first frame.
    pub first: u64,
    /// Written into each segment's header.
    pub partition: u32,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its place in the log, one more than that of the frame before.
    pub index: u64,
    /// What was appended.
    pub bytes: Bytes,
}

/// Frames that are gone: `from` up to, not including, `to`. With `from == to` nothing is gone, but foreign bytes lay there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first that is missing.
    pub from: u64,
    /// The first that is there again.
    pub to: u64,
}

/// What a reader finds at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An intact frame.
    Frame(Frame),
    /// A hole.
    Gap(Gap),
}

/// What opening found. Older segments than the last are checked when they are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Bytes cut from the torn tail.
    pub cut_bytes: u64,
    /// Holes in the last segment.
    pub gaps: Vec<Gap>,
    /// The last intact frame.
    pub last: Option<Frame>,
}

/// The writer; there is one.
#[derive(Debug)]
pub struct Log {}

/// Reads concurrently with appends; cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {}

/// The frames from an index on. `None` means "none yet": it may be asked again after more became visible.
#[derive(Debug)]
pub struct Frames {}

impl Log {
    /// Opens or creates.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn open(_dir: &Path, _options: Options) -> io::Result<(Log, Opened)> {
        unimplemented!()
    }
}

impl Iterator for Frames {
    type Item = io::Result<Item>;
    fn next(&mut self) -> Option<io::Result<Item>> {
        unimplemented!()
    }
}
