//! Reading a log while it is written.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, RwLock};

use metrics::counter;

use super::scan::{Limit, Scan};
use super::segment::{self, Segment, about};
use super::{Gap, Item, files, memory};

/// Reads concurrently with appends; cheap to clone. Blocking.
#[derive(Clone, Debug)]
pub struct Reader(Source);

#[derive(Clone, Debug)]
enum Source {
    Files(Arc<files::Shared>),
    Memory(Arc<memory::Shared>),
}

impl Reader {
    pub(super) fn of_files(shared: Arc<files::Shared>) -> Reader {
        Reader(Source::Files(shared))
    }

    pub(super) fn of_memory(shared: Arc<memory::Shared>) -> Reader {
        Reader(Source::Memory(shared))
    }

    /// Reads the log in `dir` as it is now, without writing, even while another process appends: for commands.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open(dir: &Path, name: &'static str, first: u64) -> io::Result<Reader> {
        let segments = segment::list(dir)?;
        let visible = match segments.last() {
            Some(last) => {
                let path = segment::path(dir, last.first);
                let file = File::open(&path).map_err(about("open", &path))?;
                segment::is_header_intact(&file, &path, last.first)?;
                let mut scan = Scan::new(file, last.first);
                while scan.next(Limit { bytes: last.bytes, index: None })?.is_some() {}
                scan.expected()
            }
            None => first,
        };
        let state = RwLock::new(files::State { segments, visible });
        Ok(Reader::of_files(Arc::new(files::Shared { dir: dir.to_owned(), name, state })))
    }

    /// The oldest index that is kept; [`Reader::next`] when nothing is.
    pub fn first(&self) -> u64 {
        match &self.0 {
            Source::Files(shared) => shared.read().first(),
            Source::Memory(shared) => shared.first(),
        }
    }

    /// The index after the last visible frame.
    pub fn next(&self) -> u64 {
        match &self.0 {
            Source::Files(shared) => shared.read().visible,
            Source::Memory(shared) => shared.visible(),
        }
    }

    /// Frames from `index` on; what is no longer there is a gap.
    pub fn read_from(&self, index: u64) -> Frames {
        Frames { source: self.0.clone(), next: index, open: None }
    }
}

/// The frames from an index on. `None` means "none yet": it may be asked again after more became visible.
#[derive(Debug)]
pub struct Frames {
    source: Source,
    next: u64,
    open: Option<Open>,
}

/// The segment being read.
#[derive(Debug)]
struct Open {
    first: u64,
    generation: u32,
    scan: Scan,
    /// Whether it has come to where the reader wants to be; what it meets before is nobody's business.
    is_in_place: bool,
}

/// The segment that holds an index, and what is known of it.
enum Place {
    /// Nothing visible there yet.
    NotYet,
    /// The index lies before the oldest segment, which begins here.
    Before(u64),
    /// In this one, whose readable part ends at the limit.
    In(Segment, Limit),
}

impl Frames {
    /// The index that comes next.
    pub fn position(&self) -> u64 {
        self.next
    }

    fn gap(&mut self, name: &'static str, gap: Gap) -> Item {
        counter!("homeostat_log_gaps_total", "log" => name).increment(1);
        crate::drops::LOG_DAMAGED.count_with(1, || name.to_owned());
        tracing::error!(log = name, from = gap.from, to = gap.to, "frames of the log are damaged or missing");
        self.next = self.next.max(gap.to);
        Item::Gap(gap)
    }

    fn next_of_files(&mut self, shared: &Arc<files::Shared>) -> io::Result<Option<Item>> {
        loop {
            let (segment, limit) = match shared.read().place(self.next) {
                Place::NotYet => return Ok(None),
                Place::Before(first) => {
                    // Trimmed on purpose: a gap for the reader, no damage.
                    let gap = Gap { from: self.next, to: first };
                    self.next = first;
                    return Ok(Some(Item::Gap(gap)));
                }
                Place::In(segment, limit) => (segment, limit),
            };
            if !self.open_segment(shared, &segment)? {
                continue;
            }
            let Some(open) = &mut self.open else { continue };
            match open.scan.next(limit)? {
                Some(Item::Frame(frame)) if frame.index < self.next => {}
                Some(Item::Frame(frame)) => {
                    open.is_in_place = true;
                    self.next = frame.index + 1;
                    return Ok(Some(Item::Frame(frame)));
                }
                Some(Item::Gap(gap)) if !open.is_in_place && gap.to <= self.next => {}
                Some(Item::Gap(gap)) => {
                    open.is_in_place = true;
                    let from = gap.from.max(self.next);
                    return Ok(Some(self.gap(shared.name, Gap { from, to: gap.to })));
                }
                // Only where frames are not visible yet: a segment that is read to its end is left by `place`.
                None => return Ok(None),
            }
        }
    }

    /// Whether the segment is open now; not, when it was trimmed meanwhile.
    fn open_segment(&mut self, shared: &files::Shared, segment: &Segment) -> io::Result<bool> {
        let is_open = self
            .open
            .as_ref()
            .is_some_and(|open| open.first == segment.first && open.generation == segment.generation);
        if is_open {
            return Ok(true);
        }
        let path = segment::path(&shared.dir, segment.first);
        match File::open(&path) {
            Ok(file) => {
                let scan = Scan::new(file, segment.first);
                self.open = Some(Open {
                    first: segment.first,
                    generation: segment.generation,
                    scan,
                    is_in_place: self.next == segment.first,
                });
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                shared.forget(segment.first);
                Ok(false)
            }
            Err(error) => Err(about("open", &path)(error)),
        }
    }
}

impl Iterator for Frames {
    type Item = io::Result<Item>;

    fn next(&mut self) -> Option<io::Result<Item>> {
        match self.source.clone() {
            Source::Files(shared) => self.next_of_files(&shared).transpose(),
            Source::Memory(shared) => {
                let item = shared.at(self.next)?;
                self.next = match &item {
                    Item::Frame(frame) => frame.index + 1,
                    Item::Gap(gap) => gap.to,
                };
                Some(Ok(item))
            }
        }
    }
}

impl files::State {
    fn place(&self, index: u64) -> Place {
        if index >= self.visible {
            return Place::NotYet;
        }
        let after = self.segments.partition_point(|segment| segment.first <= index);
        let following = self.segments.get(after).map(|segment| segment.first);
        match after.checked_sub(1).and_then(|at| self.segments.get(at)) {
            Some(segment) => {
                let end = following.map_or(self.visible, |first| first.min(self.visible));
                let limit = Limit { bytes: segment.bytes, index: Some(end) };
                Place::In(segment.clone(), limit)
            }
            None => Place::Before(following.unwrap_or(self.visible)),
        }
    }
}
