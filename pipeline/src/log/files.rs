//! The writer of a log on disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use metrics::counter;

use super::scan::{Limit, Scan};
use super::segment::{self, Segment, about};
use super::{Frame, Item, Opened, Options, frame};

/// A buffer that has reached this size is written to the file before anybody asks for it.
const BUFFER_BYTES: usize = 256 << 10;
/// A page, where pages are smallest; larger ones go with a later one.
const PAGE_BYTES: u64 = 4096;

/// What writer and readers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub dir: PathBuf,
    pub name: &'static str,
    pub state: RwLock<State>,
}

/// What readers may see.
#[derive(Debug)]
pub(super) struct State {
    /// Oldest first.
    pub segments: Vec<Segment>,
    /// The index after the last visible frame.
    pub visible: u64,
}

impl State {
    /// The oldest index that is kept.
    pub fn first(&self) -> u64 {
        self.segments.first().map_or(self.visible, |segment| segment.first)
    }
}

impl Shared {
    /// Locks for a look.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of this segment is no longer there.
    pub fn forget(&self, first: u64) {
        self.write().segments.retain(|segment| segment.first != first);
    }
}

/// The segment being written.
#[derive(Debug)]
struct Active {
    file: File,
    path: PathBuf,
    /// Written, visible or not.
    bytes: u64,
    /// Up to here nothing is in the file system's cache any more.
    dropped: u64,
}

impl Active {
    /// Lets the pages go that are written to their end, all of which are durable. The last one stays: the next write goes on in
    /// it. Advice, which costs nothing but memory where it is not taken.
    fn drop_cache(&mut self) {
        let whole = self.bytes & !(PAGE_BYTES - 1);
        #[cfg(target_os = "linux")]
        if let Some(length) = std::num::NonZeroU64::new(whole.saturating_sub(self.dropped)) {
            let _ = rustix::fs::fadvise(&self.file, self.dropped, Some(length), rustix::fs::Advice::DontNeed);
        }
        self.dropped = whole;
    }
}

/// The writer.
#[derive(Debug)]
pub(super) struct Files {
    shared: Arc<Shared>,
    options: Options,
    /// None: the next append begins a new segment.
    active: Option<Active>,
    /// A failure left files that must go before a new segment begins.
    is_broken: bool,
    buffer: Vec<u8>,
    next: u64,
    /// Frames before this one are on disk.
    synced: u64,
}

impl Files {
    pub fn open(dir: &Path, options: Options) -> io::Result<(Files, Opened)> {
        if !dir.is_dir() {
            fs::create_dir_all(dir).map_err(about("create", dir))?;
            if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                segment::sync_directory(parent)?;
            }
        }
        remove_leftovers(dir)?;
        let mut segments = segment::list(dir)?;
        let mut opened = Opened::default();
        let mut active = None;
        let mut next = options.first;
        if let Some(last) = segments.last_mut() {
            let (file, end) = open_last(dir, last, &options, &mut opened)?;
            active = Some(file);
            next = end;
        }
        for segment in segments.iter().rev().skip(1) {
            if opened.last.is_some() {
                break;
            }
            opened.last = last_frame(dir, segment)?;
        }
        report(&options, dir, &opened);
        let state = RwLock::new(State { segments, visible: next });
        let shared = Arc::new(Shared { dir: dir.to_owned(), name: options.name, state });
        Ok((
            Files { shared, options, active, is_broken: false, buffer: Vec::new(), next, synced: next },
            opened,
        ))
    }

    pub fn append(&mut self, parts: &[&[u8]]) -> io::Result<u64> {
        let is_full = self
            .active
            .as_ref()
            .is_none_or(|active| active.bytes + self.buffer.len() as u64 >= self.options.segment_bytes);
        if is_full {
            self.roll().inspect_err(|_| self.fail())?;
        }
        let index = self.next;
        frame::write(&mut self.buffer, index, parts)?;
        self.next = index + 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_out().inspect_err(|_| self.fail())?;
        }
        Ok(index)
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.write_out().inspect_err(|_| self.fail())?;
        self.publish();
        Ok(())
    }

    pub fn sync(&mut self) -> io::Result<()> {
        self.write_out().and_then(|()| self.sync_file()).inspect_err(|_| self.fail())?;
        if let (false, Some(active)) = (self.options.is_cached, &mut self.active) {
            active.drop_cache();
        }
        self.publish();
        Ok(())
    }

    pub fn skip_to(&mut self, index: u64) -> io::Result<()> {
        if index > self.next {
            self.sync()?;
            self.active = None;
            (self.next, self.synced) = (index, index);
            self.publish();
        }
        Ok(())
    }

    pub fn first(&self) -> u64 {
        self.shared.read().first()
    }

    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn bytes(&self) -> u64 {
        self.shared.read().segments.iter().map(|segment| segment.bytes).sum()
    }

    pub fn segments(&self) -> Vec<u64> {
        self.shared.read().segments.iter().map(|segment| segment.first).collect()
    }

    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub fn trim_before(&mut self, index: u64) -> io::Result<()> {
        loop {
            let gone = {
                let mut state = self.shared.write();
                match (state.segments.first(), state.segments.get(1)) {
                    (Some(oldest), Some(second)) if second.first <= index => {
                        let first = oldest.first;
                        state.segments.remove(0);
                        first
                    }
                    (Some(_) | None, _) => return Ok(()),
                }
            };
            let path = segment::path(&self.shared.dir, gone);
            fs::remove_file(&path).map_err(about("remove", &path))?;
        }
    }

    pub fn rewrite(
        &mut self,
        first: u64,
        change: &mut dyn FnMut(&Frame) -> Option<Vec<u8>>,
    ) -> io::Result<u64> {
        let found = {
            let state = self.shared.read();
            let closed = state.segments.len().saturating_sub(1);
            let at = state.segments.iter().take(closed).position(|segment| segment.first == first);
            at.map(|at| (state.segments[at].clone(), state.segments[at + 1].first))
        };
        let Some((old, end)) = found else { return Ok(0) };
        let path = segment::path(&self.shared.dir, first);
        let mut scan = Scan::new(File::open(&path).map_err(about("open", &path))?, first);
        let mut out = Vec::new();
        let mut changed = 0;
        while let Some(item) = scan.next(Limit { bytes: old.bytes, index: Some(end) })? {
            if let Item::Frame(frame) = item {
                let new = change(&frame);
                changed += u64::from(new.is_some());
                frame::write(&mut out, frame.index, &[new.as_deref().unwrap_or(&frame.bytes)])?;
            }
        }
        if changed > 0 {
            self.replace(&path, first, &out)?;
        }
        Ok(changed)
    }

    /// Puts a segment with these frames in the place of the one at `path`.
    fn replace(&mut self, path: &Path, first: u64, frames: &[u8]) -> io::Result<()> {
        let new = path.with_extension("tmp");
        let file = File::create(&new).map_err(about("create", &new))?;
        segment::write_header(&file, self.options.partition, first)
            .and_then(|()| file.write_all_at(frames, segment::HEADER_BYTES))
            .and_then(|()| file.sync_all())
            .map_err(about("write", &new))?;
        let mut state = self.shared.write();
        fs::rename(&new, path).map_err(about("replace", path))?;
        if let Some(segment) = state.segments.iter_mut().find(|segment| segment.first == first) {
            segment.bytes = segment::HEADER_BYTES + frames.len() as u64;
            segment.generation += 1;
        }
        drop(state);
        segment::sync_directory(&self.shared.dir)
    }

    /// Finishes the active segment and begins the next.
    fn roll(&mut self) -> io::Result<()> {
        if self.is_broken {
            self.heal()?;
        }
        self.write_out()?;
        self.sync_file()?;
        let path = segment::path(&self.shared.dir, self.next);
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(about("create", &path))?;
        segment::write_header(&file, self.options.partition, self.next).map_err(about("write", &path))?;
        segment::sync_directory(&self.shared.dir)?;
        let mut state = self.shared.write();
        if let (Some(last), Some(active)) = (state.segments.last_mut(), &self.active) {
            last.bytes = active.bytes;
        }
        state.segments.retain(|segment| segment.first != self.next);
        state.segments.push(Segment { first: self.next, bytes: segment::HEADER_BYTES, generation: 0 });
        drop(state);
        self.active = Some(Active { file, path, bytes: segment::HEADER_BYTES, dropped: 0 });
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        if let (Some(active), false) = (&mut self.active, self.buffer.is_empty()) {
            active.file.write_all_at(&self.buffer, active.bytes).map_err(about("write", &active.path))?;
            active.bytes += self.buffer.len() as u64;
            self.buffer.clear();
            self.buffer.shrink_to(4 * BUFFER_BYTES);
        }
        Ok(())
    }

    fn sync_file(&mut self) -> io::Result<()> {
        let synced = match &self.active {
            Some(active) => active.file.sync_data().map_err(about("sync", &active.path)),
            // A failure closed the file, and what was visible in it may be in the system's memory alone.
            None if self.synced < self.next => self.sync_last(),
            None => Ok(()),
        };
        synced.inspect_err(|_| {
            counter!("homeostat_log_sync_failures_total", "log" => self.options.name).increment(1);
        })?;
        self.synced = self.next;
        Ok(())
    }

    /// Syncs the file of the last segment that holds something visible.
    fn sync_last(&self) -> io::Result<()> {
        let segments = self.segments();
        let Some(first) = segments.into_iter().rfind(|first| *first < self.next) else { return Ok(()) };
        let path = segment::path(&self.shared.dir, first);
        File::open(&path).and_then(|file| file.sync_data()).map_err(about("sync", &path))
    }

    fn publish(&mut self) {
        let mut state = self.shared.write();
        state.visible = self.next;
        if let (Some(last), Some(active)) = (state.segments.last_mut(), &self.active) {
            last.bytes = active.bytes;
        }
    }

    /// Forgets what nobody could see. Its indexes are given again, in a new segment, which makes the old frames void.
    pub fn fail(&mut self) {
        self.next = self.shared.read().visible;
        self.buffer.clear();
        self.active = None;
        self.is_broken = true;
    }

    /// Removes the segments that hold nothing visible, before their indexes are given again.
    fn heal(&mut self) -> io::Result<()> {
        let segments = self.segments();
        for first in segments.into_iter().filter(|first| *first >= self.next) {
            let path = segment::path(&self.shared.dir, first);
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(about("remove", &path)(error)),
            }
            self.shared.forget(first);
        }
        self.is_broken = false;
        Ok(())
    }
}

/// Removes what an interrupted rewrite left.
fn remove_leftovers(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir).map_err(about("read", dir))? {
        let path = entry.map_err(about("read", dir))?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            fs::remove_file(&path).map_err(about("remove", &path))?;
        }
    }
    Ok(())
}

/// Opens the last segment for writing, cuts its torn tail, and answers with the next index.
fn open_last(
    dir: &Path,
    segment: &mut Segment,
    options: &Options,
    opened: &mut Opened,
) -> io::Result<(Active, u64)> {
    let path = segment::path(dir, segment.first);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(about("open", &path))?;
    if !segment::is_header_intact(&file, &path, segment.first)? {
        tracing::warn!(log = options.name, path = %path.display(), "the header of a segment was damaged and is written anew");
        segment::write_header(&file, options.partition, segment.first).map_err(about("write", &path))?;
        segment.bytes = segment.bytes.max(segment::HEADER_BYTES);
    }
    let mut scan = Scan::new(file.try_clone()?, segment.first);
    let (mut end, mut next) = (scan.position(), scan.expected());
    while let Some(item) = scan.next(Limit { bytes: segment.bytes, index: None })? {
        match item {
            Item::Frame(frame) => {
                opened.last = Some(frame);
                (end, next) = (scan.position(), scan.expected());
            }
            Item::Gap(gap) if options.synced.is_some_and(|synced| gap.from > synced) => break,
            Item::Gap(gap) => opened.gaps.push(gap),
        }
    }
    opened.cut_bytes = segment.bytes.saturating_sub(end);
    if opened.cut_bytes > 0 {
        file.set_len(end).map_err(about("cut", &path))?;
        file.sync_all().map_err(about("sync", &path))?;
        segment.bytes = end;
    }
    Ok((Active { file, path, bytes: segment.bytes, dropped: segment.bytes & !(PAGE_BYTES - 1) }, next))
}

fn last_frame(dir: &Path, segment: &Segment) -> io::Result<Option<Frame>> {
    let path = segment::path(dir, segment.first);
    let mut scan = Scan::new(File::open(&path).map_err(about("open", &path))?, segment.first);
    let mut last = None;
    while let Some(item) = scan.next(Limit { bytes: segment.bytes, index: None })? {
        if let Item::Frame(frame) = item {
            last = Some(frame);
        }
    }
    Ok(last)
}

fn report(options: &Options, dir: &Path, opened: &Opened) {
    for gap in &opened.gaps {
        counter!("homeostat_log_gaps_total", "log" => options.name).increment(1);
        crate::drops::LOG_DAMAGED.count_with(1, || options.name.to_owned());
        tracing::error!(
            log = options.name,
            directory = %dir.display(),
            from = gap.from,
            to = gap.to,
            "frames of the log are damaged or missing"
        );
    }
    if opened.cut_bytes > 0 {
        counter!("homeostat_log_cut_bytes_total", "log" => options.name).increment(opened.cut_bytes);
        crate::drops::LOG_TORN.count_with(opened.cut_bytes, || options.name.to_owned());
        tracing::warn!(
            log = options.name,
            directory = %dir.display(),
            bytes = opened.cut_bytes,
            "the log ended in the middle of a frame, which was cut; nothing acknowledged is lost by a crash"
        );
    }
}
