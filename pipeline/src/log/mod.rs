//! The one kind of log under journal, ledger and spool: an append-only row of frames in segment files, with a CRC32C for each
//! frame, so that damage costs only what it hit.
//!
//! A frame carries its index. That is what makes a hole measurable: whatever lies between two intact frames, their indexes say
//! what is missing. What lies behind the last intact frame of the last segment is a torn tail and is cut at open. A frame whose
//! index is not below the first index of the segment that follows is void: it is what a failed sync left behind.
//!
//! There is one writer. [`Log::append`] buffers, [`Log::flush`] makes visible to readers, [`Log::sync`] makes durable and
//! visible. After a failure everything that was not visible is forgotten, and its indexes are given again in a new segment.

mod files;
mod frame;
mod memory;
mod reader;
mod scan;
mod segment;
mod space;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

use bytes::Bytes;

pub use frame::PAYLOAD_BYTES_MAX;
pub use reader::{Frames, Reader};
pub use space::free_bytes;

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
    /// The last frame that is known to have been synced, when somebody recorded it: a hole behind it is what a power failure left
    /// of frames that nobody was answered for, and ends the log like a torn tail.
    pub synced: Option<u64>,
    /// Whether what is durable is read soon. If not, it leaves the file system's cache: there it would drive out what others
    /// read, and each commit would have to find fresh pages.
    pub is_cached: bool,
}

/// What a log without disk keeps at most; older frames become a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Frames.
    pub frames: usize,
    /// Bytes of their payloads. The last frame is kept whatever its size.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { frames: 4096, bytes: 16 << 20 }
    }
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

/// The writer; there is one. Blocking.
#[derive(Debug)]
pub struct Log(Kind);

#[derive(Debug)]
enum Kind {
    Files(files::Files),
    Memory(memory::Memory),
}

impl Log {
    /// Opens the log in `dir`, which is created when it is not there.
    ///
    /// # Errors
    /// The directory cannot be read or written, or a newer homeostat wrote it. Damage is no error: it is cut, skipped, said.
    pub fn open(dir: &Path, options: Options) -> io::Result<(Log, Opened)> {
        let (files, opened) = files::Files::open(dir, options)?;
        Ok((Log(Kind::Files(files)), opened))
    }

    /// A log without disk, whose first frame gets the index `first`.
    pub fn memory(first: u64, limits: Limits) -> Log {
        Log(Kind::Memory(memory::Memory::new(first, limits)))
    }

    /// Buffers one frame, the concatenation of `parts`, and answers with its index. Neither durable nor visible yet.
    ///
    /// # Errors
    /// The frame is larger than [`PAYLOAD_BYTES_MAX`], or the disk takes no more. In the latter case everything that is not
    /// visible is forgotten.
    pub fn append(&mut self, parts: &[&[u8]]) -> io::Result<u64> {
        match &mut self.0 {
            Kind::Files(files) => files.append(parts),
            Kind::Memory(memory) => Ok(memory.append(parts)),
        }
    }

    /// Makes what was appended visible to readers, not durable.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Kind::Files(files) => files.flush(),
            Kind::Memory(memory) => {
                memory.flush();
                Ok(())
            }
        }
    }

    /// Makes what was appended durable (`fdatasync`) and visible.
    ///
    /// # Errors
    /// Nothing since the last sync may be acknowledged. What was not visible is forgotten; what was visible may be a gap after
    /// a crash. The next append begins a new segment.
    pub fn sync(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Kind::Files(files) => files.sync(),
            Kind::Memory(memory) => {
                memory.flush();
                Ok(())
            }
        }
    }

    /// The oldest index that is kept; `next` when nothing is.
    pub fn first(&self) -> u64 {
        match &self.0 {
            Kind::Files(files) => files.first(),
            Kind::Memory(memory) => memory.first(),
        }
    }

    /// The index that the next frame gets.
    pub fn next(&self) -> u64 {
        match &self.0 {
            Kind::Files(files) => files.next(),
            Kind::Memory(memory) => memory.next(),
        }
    }

    /// Gives no index below `index` from now on: frames that somebody knows to have existed are lost, and become a gap.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn skip_to(&mut self, index: u64) -> io::Result<()> {
        match &mut self.0 {
            Kind::Files(files) => files.skip_to(index),
            Kind::Memory(memory) => {
                memory.skip_to(index);
                Ok(())
            }
        }
    }

    /// Bytes of its files; for a log without disk, of its payloads.
    pub fn bytes_on_disk(&self) -> u64 {
        match &self.0 {
            Kind::Files(files) => files.bytes(),
            Kind::Memory(memory) => memory.bytes(),
        }
    }

    /// First indexes of the segments, oldest first; the last is being written. None without disk.
    pub fn segments(&self) -> Vec<u64> {
        match &self.0 {
            Kind::Files(files) => files.segments(),
            Kind::Memory(_) => Vec::new(),
        }
    }

    /// Removes the segments whose frames all lie before `index`; never the last one. Without disk the frames before `index`.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn trim_before(&mut self, index: u64) -> io::Result<()> {
        match &mut self.0 {
            Kind::Files(files) => files.trim_before(index),
            Kind::Memory(memory) => {
                memory.trim_before(index);
                Ok(())
            }
        }
    }

    /// Writes the closed segment that begins at `first` anew, each frame with the payload that `change` gives for it (none: as it
    /// is), and puts it in the old one's place. A hole stays a hole. Answers how many frames changed; with none nothing is written.
    ///
    /// # Errors
    /// The new file cannot be written; the old one stays.
    pub fn rewrite(
        &mut self,
        first: u64,
        change: &mut dyn FnMut(&Frame) -> Option<Vec<u8>>,
    ) -> io::Result<u64> {
        match &mut self.0 {
            Kind::Files(files) => files.rewrite(first, change),
            Kind::Memory(_) => Ok(0),
        }
    }

    /// A reader of what is visible, from now on too.
    pub fn reader(&self) -> Reader {
        match &self.0 {
            Kind::Files(files) => Reader::of_files(files.shared()),
            Kind::Memory(memory) => Reader::of_memory(memory.shared()),
        }
    }
}
