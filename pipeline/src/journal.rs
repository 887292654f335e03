//! The journal: everything that can change a verdict, durable and in one order. Entries as bytes over a [`crate::log::Log`].

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::entry::{Entry, Event, Offset};
use crate::log::Opened;

/// How much the journal keeps, and how much disk it leaves to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Older segments go, once the checkpoint has passed them.
    pub age_max: Duration,
    /// Beyond this the oldest segments go; when the checkpoint has not passed them, the journal is full.
    pub bytes_max: u64,
    /// With less free space than this on the file system, the journal is full.
    pub free_bytes_min: u64,
}

/// Where and when an event was logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Its offset.
    pub offset: Offset,
    /// The entry's time: the time asked for, or the last entry's when that was later.
    pub time: Timestamp,
}

/// The journal takes nothing now; senders come back later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Full {
    /// Which limit, and what would help.
    pub reason: String,
}

/// The writer; there is one. Blocking.
#[derive(Debug)]
pub struct Journal {}

/// Reads concurrently with appends; cheap to clone. Blocking.
#[derive(Clone, Debug)]
pub struct JournalReader {}

/// The entries from an offset on. `None` means "none yet": it may be asked again after more became visible.
#[derive(Debug)]
pub struct Entries {}

/// What stands at a place of the journal.
#[derive(Clone, Debug)]
pub enum JournalItem {
    /// An entry.
    Entry(Entry),
    /// Entries that damage made unreadable: `from` up to, not including, `to`.
    Gap {
        /// The first that is missing.
        from: Offset,
        /// The first that is there again.
        to: Offset,
    },
}

impl Journal {
    /// Opens or creates the journal in `dir`.
    ///
    /// # Errors
    /// The directory cannot be read or written; damage is no error.
    pub fn open(_dir: &Path, _retention: Retention) -> io::Result<(Journal, Opened)> {
        unimplemented!()
    }

    /// A journal without disk: it keeps the last 4,096 entries or 16 MiB.
    pub fn memory() -> Journal {
        unimplemented!()
    }

    /// Buffers one entry; neither durable nor visible to readers yet.
    ///
    /// # Errors
    /// The disk does not take it. Entries that were not synced are gone; the next append begins a new segment.
    pub fn append(&mut self, _event: &Event, _time: Timestamp) -> io::Result<Logged> {
        unimplemented!()
    }

    /// Makes what was appended visible to readers, without making it durable: for ticks.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn flush(&mut self) -> io::Result<()> {
        unimplemented!()
    }

    /// Makes what was appended durable (`fdatasync`), then visible.
    ///
    /// # Errors
    /// As [`Journal::append`]: nothing since the last sync may be acknowledged.
    pub fn sync(&mut self) -> io::Result<()> {
        unimplemented!()
    }

    /// The offset that the next entry gets.
    pub fn next(&self) -> Offset {
        unimplemented!()
    }

    /// A reader of what is visible.
    pub fn reader(&self) -> JournalReader {
        unimplemented!()
    }

    /// Whether another group may be appended. Asks the file system; once per group commit is fine.
    ///
    /// # Errors
    /// Says which limit is reached.
    pub fn room(&self) -> Result<(), Full> {
        unimplemented!()
    }

    /// Removes whole segments that are too old or too many, none that holds an entry at or after `checkpoint`.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn trim(&mut self, _now: Timestamp, _checkpoint: Offset) -> io::Result<()> {
        unimplemented!()
    }
}

impl JournalReader {
    /// The oldest offset that is kept.
    pub fn first(&self) -> Offset {
        unimplemented!()
    }

    /// The offset after the last visible entry.
    pub fn next(&self) -> Offset {
        unimplemented!()
    }

    /// Entries from `offset` on; what was trimmed is a gap.
    pub fn read_from(&self, _offset: Offset) -> Entries {
        unimplemented!()
    }
}

impl Iterator for Entries {
    type Item = io::Result<JournalItem>;
    fn next(&mut self) -> Option<io::Result<JournalItem>> {
        unimplemented!()
    }
}
