//! The journal: everything that can change a verdict, durable and in one order. Entries as bytes over a [`crate::log::Log`].

mod format;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metrics::{counter, gauge};

use crate::clock::Timestamp;
use crate::crash;
use crate::entry::{Entry, Event, Offset};
use crate::log::{Frames, Item, Limits, Log, Opened, Options, Reader, free_bytes};

const SEGMENT_BYTES: u64 = 32 << 20;

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
pub struct Journal {
    log: Log,
    /// None without disk.
    disk: Option<Disk>,
    last_time: Timestamp,
}

#[derive(Debug)]
struct Disk {
    directory: PathBuf,
    retention: Retention,
}

/// Reads concurrently with appends; cheap to clone. Blocking.
#[derive(Clone, Debug)]
pub struct JournalReader(Reader);

/// The entries from an offset on. `None` means "none yet": it may be asked again after more became visible.
#[derive(Debug)]
pub struct Entries(Frames);

/// What stands at a place of the journal.
#[derive(Clone, Debug)]
pub enum JournalItem {
    /// An entry.
    Entry(Entry),
    /// Entries that damage made unreadable: `from` up to, not including, `to`. With `from == to` none is missing.
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
    pub fn open(dir: &Path, retention: Retention) -> io::Result<(Journal, Opened)> {
        let segment_bytes = SEGMENT_BYTES.min(retention.bytes_max / 8).max(64 << 10);
        // The fold gets its entries from the writer, and reads the files after a crash.
        let is_cached = false;
        let options =
            Options { name: "journal", segment_bytes, first: 0, partition: 0, synced: None, is_cached };
        let (log, opened) = Log::open(dir, options)?;
        let last_time = opened.last.as_ref().and_then(|frame| format::time(&frame.bytes));
        let disk = Some(Disk { directory: dir.to_owned(), retention });
        Ok((Journal { log, disk, last_time: last_time.unwrap_or(Timestamp::ZERO) }, opened))
    }

    /// A journal without disk: it keeps the last 4,096 entries or 16 MiB.
    pub fn memory() -> Journal {
        Journal { log: Log::memory(0, Limits::default()), disk: None, last_time: Timestamp::ZERO }
    }

    /// Buffers one entry; neither durable nor visible to readers yet.
    ///
    /// # Errors
    /// The disk does not take it, or the entry is too large. After the former, all entries that are neither flushed nor synced are
    /// forgotten and their offsets are given again: refuse the whole group.
    pub fn append(&mut self, event: &Event, time: Timestamp) -> io::Result<Logged> {
        let time = time.max(self.last_time);
        let (header, body) = format::encode(event, time)
            .map_err(|fault| io::Error::new(io::ErrorKind::InvalidInput, fault.to_string()))?;
        let offset = Offset(self.log.append(&[&header, &body])?);
        self.last_time = time;
        Ok(Logged { offset, time })
    }

    /// Makes what was appended visible to readers, without making it durable: for ticks.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.log.flush()
    }

    /// Makes what was appended durable (`fdatasync`), then visible.
    ///
    /// # Errors
    /// As [`Journal::append`]: nothing since the last sync may be acknowledged.
    pub fn sync(&mut self) -> io::Result<()> {
        self.log.sync()?;
        crash::point("journal.synced");
        Ok(())
    }

    /// The offset that the next entry gets.
    pub fn next(&self) -> Offset {
        Offset(self.log.next())
    }

    /// The first offset of the segment that is being written; the beginning, where there is none.
    pub fn last_segment(&self) -> Offset {
        Offset(self.log.segments().last().copied().unwrap_or_default())
    }

    /// Gives no offset below `offset` from now on, because a checkpoint knows of entries up to there; they are a gap.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn skip_to(&mut self, offset: Offset) -> io::Result<()> {
        self.log.skip_to(offset.0)
    }

    /// A reader of what is visible.
    pub fn reader(&self) -> JournalReader {
        JournalReader(self.log.reader())
    }

    /// Whether another group may be appended. Asks the file system; once per group commit is fine.
    ///
    /// # Errors
    /// Says which limit is reached.
    pub fn room(&self) -> Result<(), Full> {
        let Some(Disk { directory, retention }) = &self.disk else { return Ok(()) };
        let bytes = self.log.bytes_on_disk();
        gauge!("homeostat_journal_bytes").set(as_f64(bytes));
        if bytes >= retention.bytes_max {
            let reason = format!(
                "the journal holds {bytes} bytes that are not judged yet, and may hold {} (`service.storage.journal`)",
                retention.bytes_max
            );
            return Err(Full { reason });
        }
        let free = free_bytes(directory).map_err(|error| Full {
            reason: format!("the free space of `{}` cannot be read: {error}", directory.display()),
        })?;
        gauge!("homeostat_storage_free_bytes").set(as_f64(free));
        if free < retention.free_bytes_min {
            let reason = format!(
                "`{}` has {free} bytes of free space left and {} are kept free; free some space",
                directory.display(),
                retention.free_bytes_min
            );
            return Err(Full { reason });
        }
        Ok(())
    }

    /// Removes whole segments that are too old or too many, none that holds an entry at or after `checkpoint`.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn trim(&mut self, now: Timestamp, checkpoint: Offset) -> io::Result<()> {
        let Some(Disk { retention, .. }) = &self.disk else { return Ok(()) };
        let (age_max, bytes_max) = (retention.age_max, retention.bytes_max);
        loop {
            let Some(second) = self.log.segments().get(1).copied().filter(|first| *first <= checkpoint.0)
            else {
                return Ok(());
            };
            // A quarter stays free for what comes until the next checkpoint.
            let is_too_much = self.log.bytes_on_disk() > bytes_max - bytes_max / 4;
            if !is_too_much && self.time_at(second)?.is_none_or(|time| now.since(time) <= age_max) {
                return Ok(());
            }
            self.log.trim_before(second)?;
        }
    }

    /// When the first intact entry at or after `index` was logged.
    fn time_at(&self, index: u64) -> io::Result<Option<Timestamp>> {
        for item in self.log.reader().read_from(index) {
            if let Item::Frame(frame) = item? {
                return Ok(format::time(&frame.bytes));
            }
        }
        Ok(None)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of bytes")]
fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}

/// What the payload of one frame says, and when it was logged: for who reads a journal by other means, and for fuzzing.
///
/// # Errors
/// In words: it holds something else than this program writes.
pub fn read_event(payload: &[u8]) -> Result<(Event, Timestamp), String> {
    format::decode(payload).map_err(|fault| fault.to_string())
}

impl JournalReader {
    /// Reads the journal in `dir` as it is now, without writing: for commands.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open(dir: &Path) -> io::Result<JournalReader> {
        Ok(JournalReader(Reader::open(dir, "journal", 0)?))
    }

    /// The oldest offset that is kept.
    pub fn first(&self) -> Offset {
        Offset(self.0.first())
    }

    /// The offset after the last visible entry.
    pub fn next(&self) -> Offset {
        Offset(self.0.next())
    }

    /// Entries from `offset` on; what was trimmed is a gap.
    pub fn read_from(&self, offset: Offset) -> Entries {
        Entries(self.0.read_from(offset.0))
    }
}

impl Iterator for Entries {
    type Item = io::Result<JournalItem>;

    fn next(&mut self) -> Option<io::Result<JournalItem>> {
        Some(self.0.next()?.map(|item| match item {
            Item::Frame(frame) => {
                let offset = Offset(frame.index);
                match format::decode(&frame.bytes) {
                    Ok((event, time)) => JournalItem::Entry(Entry { offset, time, event }),
                    Err(fault) => {
                        counter!("homeostat_journal_unreadable_total").increment(1);
                        crate::drops::JOURNAL_UNREADABLE.count(1);
                        tracing::error!(offset = offset.0, %fault, "an entry of the journal is passed over");
                        JournalItem::Gap { from: offset, to: Offset(offset.0 + 1) }
                    }
                }
            }
            Item::Gap(gap) => JournalItem::Gap { from: Offset(gap.from), to: Offset(gap.to) },
        }))
    }
}
