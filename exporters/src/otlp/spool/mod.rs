//! `sending_queue`: requests are accepted by writing them to disk (`fdatasync`), and go to the backend afterwards, in their
//! order, however long it is away and through every restart. At least once: what was under way at a crash is sent again.
//!
//! One log and one cursor below the component's folder: `spool/` and `cursor`. Files of the log that are wholly sent are
//! removed. Without disk (`service.storage: none`) the log is in memory, and what waits ends with the process.
//!
//! A reload opens the exporter anew while the old one still ends; both then share the queue, and one of them sends. A queue whose
//! exporter a reload removes is sent to its end all the same, as long as the process runs (`term`).

mod courier;
mod cursor;
mod drain;
mod letters;
mod meters;
mod record;
mod room;
mod term;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use homeostat_pipeline::batch::Telemetry;
use homeostat_pipeline::budget::{Budget, Class};
use homeostat_pipeline::clock::Clock;
use homeostat_pipeline::contract::{Taken, TelemetryExporter};
use homeostat_pipeline::log::{Item, Limits, Log, Options, Reader};
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::Context;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::settings::{Capacity, SendingQueue};
use cursor::CursorFile;
use drain::{Drain, Progress};
use meters::Meters;
use room::{Room, Size};
use writer::{Command, Holds, Writer};

pub use courier::Way;

/// Requests that may wait for the spool's thread.
const COMMANDS: usize = 1_024;
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
const SEGMENT_BYTES_MAX: u64 = 16 << 20;

/// The queue of one exporter: its log, its room, and how far it was sent.
pub struct Store {
    room: Arc<Room>,
    holds: Arc<Holds>,
    commands: mpsc::Sender<Command>,
    visible: watch::Receiver<u64>,
    reader: Reader,
    cursor: Option<CursorFile>,
    /// Held by who sends.
    progress: tokio::sync::Mutex<Progress>,
    /// How often it was opened: who opens it last is to send.
    opened: watch::Sender<u64>,
}

/// The queues of this process, so that an exporter that is opened anew goes on with the one that it had.
static STORES: Mutex<BTreeMap<PathBuf, Weak<Store>>> = Mutex::new(BTreeMap::new());

impl Store {
    fn shared(id: &str, directory: Option<&Path>, capacity: Capacity) -> anyhow::Result<Arc<Store>> {
        let key = directory.map_or_else(|| Path::new("memory").join(id), Path::to_owned);
        let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|_, store| store.strong_count() > 0);
        if let Some(store) = stores.get(&key).and_then(Weak::upgrade) {
            store.room.bound(capacity);
            return Ok(store);
        }
        let store = Arc::new(Store::open(id, directory, capacity)?);
        stores.insert(key, Arc::downgrade(&store));
        Ok(store)
    }

    /// Whether this process has the queue of this folder open.
    #[cfg(test)]
    pub fn is_open(directory: &Path) -> bool {
        let stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        stores.get(directory).is_some_and(|store| store.strong_count() > 0)
    }

    fn open(id: &str, directory: Option<&Path>, capacity: Capacity) -> anyhow::Result<Store> {
        let segment_bytes = (capacity.bytes / 8).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let mut lock = None;
        let (log, done, total, cursor) = match directory {
            Some(directory) => {
                let mut open = || {
                    lock = Some(locked(directory)?);
                    open_log(id, directory, segment_bytes)
                };
                let opened = open();
                let opened =
                    opened.with_context(|| format!("cannot open the queue in `{}`", directory.display()))?;
                (opened.0, opened.1, opened.2, Some(opened.3))
            }
            None => {
                tracing::warn!(
                    exporter = id,
                    "`sending_queue` without disk (`service.storage: none`): what waits in memory ends with the process"
                );
                let limits = Limits { frames: usize::MAX, bytes: usize::MAX };
                (Log::memory(0, limits), Size::default(), Size::default(), None)
            }
        };
        let waiting = total - done;
        if waiting.requests > 0 {
            let Size { requests, items, bytes } = waiting;
            tracing::info!(exporter = id, requests, records = items, bytes, "the queue goes on where it was");
        }
        let room = Arc::new(Room::new(id, capacity, waiting));
        let (reader, holds) = (log.reader(), Arc::new(Holds::default()));
        let (commands, asked) = mpsc::channel(COMMANDS);
        let (visible, seen) = watch::channel(log.next());
        let writer = Writer {
            id: id.to_owned(),
            log,
            directory: directory.map(Path::to_owned),
            _lock: lock,
            total,
            segment_bytes,
            room: Arc::clone(&room),
            holds: Arc::clone(&holds),
            visible,
            commands: asked,
        };
        let thread = std::thread::Builder::new().name("spool".to_owned());
        thread.spawn(move || writer.run()).context("cannot start the thread of the queue")?;
        let progress = tokio::sync::Mutex::new(Progress::at(done));
        let opened = watch::Sender::new(0);
        Ok(Store { room, holds, commands, visible: seen, reader, cursor, progress, opened })
    }
}

/// How many requests wait in the queue that an exporter left in `directory`, the folder that it had: 0 where none did. Must not be
/// asked while an exporter has that queue.
pub fn waiting_requests(directory: &Path) -> u64 {
    if !directory.join("spool").is_dir() {
        return 0;
    }
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let opened =
        locked(directory).and_then(|lock| Ok((open_log(&name, directory, SEGMENT_BYTES_MAX)?, lock)));
    match opened {
        Ok(((_, done, total, _), _lock)) => (total - done).requests,
        Err(error) => {
            tracing::warn!(folder = %directory.display(), "what waits in a queue there cannot be read: {error}");
            0
        }
    }
}

/// Waits until a thread that still ends has let go of the folder.
fn locked(directory: &Path) -> io::Result<File> {
    std::fs::create_dir_all(directory)?;
    let lock = File::create(directory.join("spool.lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// The log, what of it is done with, all that it ever took, and the cursor.
fn open_log(id: &str, directory: &Path, segment_bytes: u64) -> io::Result<(Log, Size, Size, CursorFile)> {
    let options =
        Options { name: "spool", segment_bytes, first: 0, partition: 0, synced: None, is_cached: true };
    let (mut log, opened) = Log::open(&directory.join("spool"), options)?;
    let cursor = CursorFile::new(directory);
    let mut done = match cursor.read()? {
        Some(done) => done,
        None => oldest(&log)?,
    };
    if done.requests > log.next() {
        tracing::error!(
            exporter = id,
            from = log.next(),
            to = done.requests,
            "the end of the queue is lost, it was sent"
        );
        log.skip_to(done.requests)?;
    }
    let last = opened.last.and_then(|frame| record::read(frame.index, &frame.bytes));
    let total = match last {
        Some(last) if last.total.requests == log.next() && done.requests < log.next() => last.total,
        // Nothing waits, or nobody knows how much: then it is counted as it is read.
        Some(_) | None => {
            done.requests = done.requests.min(log.next());
            Size { requests: log.next(), ..done }
        }
    };
    log.trim_before(done.requests)?;
    Ok((log, done, total, cursor))
}

/// Where a queue without a cursor begins: at the oldest request that is there.
fn oldest(log: &Log) -> io::Result<Size> {
    let first = Size { requests: log.first(), ..Size::default() };
    for item in log.reader().read_from(log.first()) {
        if let Item::Frame(frame) = item? {
            let record = record::read(frame.index, &frame.bytes);
            return Ok(
                record.map_or(first, |record| Size { requests: log.first(), ..record.total - record.size })
            );
        }
    }
    Ok(first)
}

/// The exporter with a queue: the sender waits for the disk.
pub struct Queued {
    store: Arc<Store>,
    meters: Meters,
    clock: Arc<dyn Clock>,
    budget: Budget,
    blocks: bool,
    /// Makes the times to come back differ.
    dice: AtomicU64,
}

impl Queued {
    /// Opens the queue and begins to send what is in it along `way`, until the process stops.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(settings: &SendingQueue, way: Way, context: &Context) -> anyhow::Result<Queued> {
        let directory = context.directory.as_deref();
        let capacity = settings.capacity(directory.is_some());
        let store = Store::shared(&context.id, directory, capacity)?;
        let drain = Drain::new(Arc::clone(&store), way, settings, context);
        context.tasks.spawn(drain.run());
        Ok(Queued {
            store,
            meters: Meters::new(&context.id),
            clock: Arc::clone(&context.clock),
            budget: context.budget.clone(),
            blocks: settings.block_on_overflow,
            dice: AtomicU64::new(0),
        })
    }

    async fn accept(&self, telemetry: &Telemetry, deadline: Instant) -> Result<(), Refusal> {
        let size = record::size(telemetry);
        self.take_room(size, deadline).await?;
        let answer = self.hand_over(telemetry, size.bytes);
        let answer = answer.inspect_err(|_| self.store.room.give_back(size))?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Refusal::busy("the queue takes nothing any more, the log says why")),
            Err(_) => Err(Refusal::busy("the queue was not written within the sender's deadline")),
        }
    }

    /// A full queue is full for a while: senders come back at different times, within five seconds.
    fn spread(&self, refusal: Refusal) -> Refusal {
        match refusal {
            Refusal::Unavailable { reason, .. } => {
                let millis = 1_000 + self.dice.fetch_add(1_618, Ordering::Relaxed) % 4_000;
                Refusal::Unavailable { retry_after: Duration::from_millis(millis), reason }
            }
            rejected @ Refusal::Rejected { .. } => rejected,
        }
    }

    async fn take_room(&self, size: Size, deadline: Instant) -> Result<(), Refusal> {
        loop {
            // Whoever asks to be told before it looks misses nothing.
            let mut freed = std::pin::pin!(self.store.room.freed.notified());
            freed.as_mut().enable();
            let refusal = match self.store.room.take(size) {
                Ok(()) => return Ok(()),
                Err(refusal) => refusal,
            };
            if !self.blocks || !refusal.is_retryable() || timeout_at(deadline, freed).await.is_err() {
                return Err(refusal);
            }
        }
    }

    /// Without disk the memory is charged, and is part of what may wait for backends.
    fn hand_over(
        &self,
        telemetry: &Telemetry,
        bytes: u64,
    ) -> Result<oneshot::Receiver<Result<(), Refusal>>, Refusal> {
        let held = match self.store.cursor {
            Some(_) => None,
            None => {
                let charge = self.budget.try_charge(None, Class::Telemetry, bytes)?;
                Some((charge, self.budget.try_forward(bytes)?))
            }
        };
        let (done, answer) = oneshot::channel();
        let (telemetry, time) = (telemetry.clone(), self.clock.now());
        let asked = self.store.commands.try_send(Command::Append { telemetry, time, held, done });
        asked.map_err(|_| Refusal::busy("too many requests wait for the queue"))?;
        Ok(answer)
    }
}

#[async_trait]
impl TelemetryExporter for Queued {
    async fn export(&self, telemetry: &Telemetry, deadline: Instant) -> Result<Taken, Refusal> {
        match self.accept(telemetry, deadline).await {
            Ok(()) => Ok(Taken::default()),
            Err(refusal) => {
                self.meters.of(telemetry.signal).enqueue_failed.increment(telemetry.records);
                Err(self.spread(refusal))
            }
        }
    }

    fn is_queued(&self) -> bool {
        true
    }
}
