//! Walks the frames of one segment file, over damage too.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use memchr::memmem;

use super::frame::{HEADER_BYTES, Header, MAGIC};
use super::segment;
use super::{Frame, Gap, Item};

const READ_BYTES: usize = 64 << 10;

/// Up to where a segment may be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// Bytes of the file.
    pub bytes: u64,
    /// Frames from this index on are void or not visible yet. None while nobody knows: what follows the last intact frame is then
    /// no gap but a torn tail.
    pub index: Option<u64>,
}

/// The walk. Its position only grows; the limit may be raised.
#[derive(Debug)]
pub(super) struct Scan {
    window: Window,
    position: u64,
    /// The index that the next frame should have.
    expected: u64,
    /// A frame found behind a gap, which the gap is told before.
    pending: Option<Frame>,
}

impl Scan {
    /// From the first frame of a segment.
    pub fn new(file: File, first: u64) -> Scan {
        Scan {
            window: Window { file, start: 0, bytes: Vec::new() },
            position: segment::HEADER_BYTES,
            expected: first,
            pending: None,
        }
    }

    /// Where the last intact frame ends.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The index after the last frame or gap.
    pub fn expected(&self) -> u64 {
        self.expected
    }

    /// The next frame or gap; none at the limit.
    pub fn next(&mut self, limit: Limit) -> io::Result<Option<Item>> {
        if let Some(frame) = self.pending.take() {
            return Ok(Some(Item::Frame(frame)));
        }
        let found = match self.frame_at(self.position, limit, u64::MAX)? {
            Some(frame) => Some((self.position, frame)),
            None if self.position < limit.bytes => self.resynchronise(limit)?,
            None => None,
        };
        match found {
            Some((at, frame)) if limit.index.is_none_or(|end| frame.index < end) => {
                let is_hole = at != self.position || frame.index != self.expected;
                let gap = Gap { from: self.expected, to: frame.index };
                self.position = at + (HEADER_BYTES + frame.bytes.len()) as u64;
                self.expected = frame.index + 1;
                if is_hole {
                    self.pending = Some(frame);
                    return Ok(Some(Item::Gap(gap)));
                }
                Ok(Some(Item::Frame(frame)))
            }
            // Nothing intact is left below the limit: what should have been there is gone.
            Some(_) | None => Ok(limit.index.filter(|end| self.expected < *end).map(|end| {
                let gap = Gap { from: self.expected, to: end };
                self.expected = end;
                Item::Gap(gap)
            })),
        }
    }

    /// The intact frame at `position`, when its index is from the expected one up to `index_max`.
    fn frame_at(&mut self, position: u64, limit: Limit, index_max: u64) -> io::Result<Option<Frame>> {
        let Some(header) = self.window.get(position, HEADER_BYTES, limit.bytes)?.and_then(Header::read)
        else {
            return Ok(None);
        };
        if header.index < self.expected || header.index > index_max {
            return Ok(None);
        }
        let start = position + HEADER_BYTES as u64;
        let payload = self.window.get(start, header.payload_bytes, limit.bytes)?;
        Ok(payload
            .filter(|payload| header.fits(payload))
            .map(|payload| Frame { index: header.index, bytes: Bytes::copy_from_slice(payload) }))
    }

    /// The first intact frame behind damage, and where it begins. Its index must be one that the skipped bytes can account for,
    /// so that a text which looks like a frame is not taken for one.
    fn resynchronise(&mut self, limit: Limit) -> io::Result<Option<(u64, Frame)>> {
        let plausible = |expected: u64, from: u64, at: u64| {
            expected.saturating_add((at - from) / HEADER_BYTES as u64 + 1)
        };
        // Mostly only the payload is damaged, and the next frame is where the header says.
        if let Some(header) =
            self.window.get(self.position, HEADER_BYTES, limit.bytes)?.and_then(Header::read)
        {
            let at = self.position + (HEADER_BYTES + header.payload_bytes) as u64;
            let index_max = plausible(self.expected, self.position, at);
            if let Some(frame) = self.frame_at(at, limit, index_max)? {
                return Ok(Some((at, frame)));
            }
        }
        let mut at = self.position + 1;
        while at < limit.bytes {
            let Some(bytes) = self.window.get_up_to(at, READ_BYTES, limit.bytes)? else { break };
            let Some(offset) = memmem::find(bytes, &MAGIC) else {
                // The magic may straddle two reads.
                at += (bytes.len() as u64).saturating_sub(MAGIC.len() as u64 - 1).max(1);
                continue;
            };
            at += offset as u64;
            let index_max = plausible(self.expected, self.position, at);
            if let Some(frame) = self.frame_at(at, limit, index_max)? {
                return Ok(Some((at, frame)));
            }
            at += 1;
        }
        Ok(None)
    }
}

/// A part of the file in memory.
#[derive(Debug)]
struct Window {
    file: File,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// Exactly `count` bytes at `position`; none when they reach beyond `limit`.
    fn get(&mut self, position: u64, count: usize, limit: u64) -> io::Result<Option<&[u8]>> {
        if position.checked_add(count as u64).is_none_or(|end| end > limit) {
            return Ok(None);
        }
        if count == 0 {
            return Ok(Some(&[]));
        }
        Ok(self.get_up_to(position, count, limit)?.and_then(|bytes| bytes.get(..count)))
    }

    /// At least `count` bytes at `position`, fewer at `limit`; none when the file ends before.
    fn get_up_to(&mut self, position: u64, count: usize, limit: u64) -> io::Result<Option<&[u8]>> {
        let count = usize::try_from(limit.saturating_sub(position)).map_or(count, |left| count.min(left));
        let have = self.start + self.bytes.len() as u64;
        if position < self.start || position + count as u64 > have {
            let wanted = count.max(READ_BYTES);
            let wanted = usize::try_from(limit - position).map_or(wanted, |left| wanted.min(left));
            self.bytes.resize(wanted, 0);
            self.start = position;
            let mut read = 0;
            while read < wanted {
                match self.file.read_at(&mut self.bytes[read..], position + read as u64) {
                    Ok(0) => break,
                    Ok(bytes) => read += bytes,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.bytes.clear();
                        return Err(error);
                    }
                }
            }
            self.bytes.truncate(read);
            // A large frame must not keep its memory for ever.
            if self.bytes.capacity() > 16 * READ_BYTES && wanted <= READ_BYTES {
                self.bytes.shrink_to(READ_BYTES);
            }
        }
        let offset = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(offset..).filter(|bytes| !bytes.is_empty()))
    }
}
