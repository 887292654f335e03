//! The spool's thread: it writes what several requests bring in one go and syncs once, then all of them are accepted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use homeostat_pipeline::batch::Telemetry;
use homeostat_pipeline::budget::{Charge, Forward};
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::crash;
use homeostat_pipeline::log::{Log, free_bytes};
use homeostat_pipeline::refusal::Refusal;
use metrics::{Gauge, gauge};
use tokio::sync::{mpsc, oneshot, watch};

use super::record;
use super::room::{Room, Size};

/// Requests of one sync.
const GROUP_MAX: usize = 256;
/// Space that is left to others, as the journal leaves it.
const FREE_BYTES_MIN: u64 = 512 << 20;

/// What the memory of a request in a queue without disk is charged to; given back when it is done with.
pub type Held = (Charge, Forward);

/// Requests in a queue without disk, by their index.
#[derive(Debug, Default)]
pub struct Holds(Mutex<BTreeMap<u64, Held>>);

impl Holds {
    fn map(&self) -> MutexGuard<'_, BTreeMap<u64, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request is done with.
    pub fn release(&self, index: u64) {
        self.map().remove(&index);
    }
}

/// What the thread is asked.
pub enum Command {
    /// Accept this request, whose room is taken already.
    Append {
        /// The request.
        telemetry: Telemetry,
        /// When it came.
        time: Timestamp,
        /// Its memory, where the queue is in memory.
        held: Option<Held>,
        /// The answer.
        done: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Everything before this index is done with.
    Trim(u64),
}

/// The thread's part.
pub struct Writer {
    /// The component id.
    pub id: String,
    /// The log itself.
    pub log: Log,
    /// Where it is; none without disk.
    pub directory: Option<PathBuf>,
    /// Keeps other threads out of it.
    pub _lock: Option<File>,
    /// All requests so far.
    pub total: Size,
    /// Bytes of one file.
    pub segment_bytes: u64,
    /// How much may wait.
    pub room: Arc<Room>,
    /// What waits in memory.
    pub holds: Arc<Holds>,
    /// The index after the last request that may be sent.
    pub visible: watch::Sender<u64>,
    /// What is asked.
    pub commands: mpsc::Receiver<Command>,
}

struct Asked {
    telemetry: Telemetry,
    time: Timestamp,
    held: Option<Held>,
    done: oneshot::Sender<Result<(), Refusal>>,
}

impl Writer {
    /// Until nobody can ask any more.
    pub fn run(mut self) {
        let bytes = gauge!("homeostat_spool_bytes", "exporter" => self.id.clone());
        while let Some(first) = self.commands.blocking_recv() {
            let mut group = Vec::new();
            let mut next = Some(first);
            while let Some(command) = next {
                match command {
                    Command::Append { telemetry, time, held, done } => {
                        group.push(Asked { telemetry, time, held, done });
                    }
                    Command::Trim(index) => self.trim(index),
                }
                next = if group.len() < GROUP_MAX { self.commands.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.accept(group);
            }
            self.observe(&bytes);
        }
    }

    fn observe(&self, bytes: &Gauge) {
        bytes.set(self.log.bytes_on_disk() as f64);
    }

    fn trim(&mut self, index: u64) {
        if let Err(error) = self.log.trim_before(index) {
            tracing::warn!(
                exporter = self.id,
                "a file of the queue that is done with cannot be removed: {error}"
            );
        }
    }

    fn accept(&mut self, group: Vec<Asked>) {
        let before = self.total;
        let outcome = match self.has_disk(&group) {
            Ok(()) => self.append(&group).map_err(|error| format!("the queue cannot be written: {error}")),
            Err(reason) => Err(reason),
        };
        match outcome {
            Ok(first) => {
                crash::point("spool.synced");
                let mut answers = Vec::with_capacity(group.len());
                for (index, asked) in (first..).zip(group) {
                    if let Some(held) = asked.held {
                        self.holds.map().insert(index, held);
                    }
                    answers.push(asked.done);
                }
                self.visible.send_replace(self.log.next());
                for done in answers {
                    // Whoever does not wait any more does not need the answer.
                    let _ = done.send(Ok(()));
                }
            }
            Err(reason) => {
                self.total = before;
                for asked in group {
                    self.room.give_back(record::size(&asked.telemetry));
                    let _ = asked.done.send(Err(Refusal::busy(reason.clone())));
                }
            }
        }
    }

    /// Appends and syncs all of them, or none; says the first index.
    fn append(&mut self, group: &[Asked]) -> io::Result<u64> {
        let first = self.log.next();
        for Asked { telemetry, time, .. } in group {
            self.total += record::size(telemetry);
            let head = record::head(telemetry, *time, self.total);
            self.log.append(&[&head, &telemetry.frame.bytes, &record::extra(telemetry)])?;
        }
        self.log.sync()?;
        Ok(first)
    }

    /// Whether the disk has room for the group. What is done with but not removed yet may take two files more than what waits; a
    /// queue in which nothing else waits and of which nothing can be removed takes a request always.
    fn has_disk(&self, group: &[Asked]) -> Result<(), String> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let mut own = Size::default();
        group.iter().for_each(|asked| own += record::size(&asked.telemetry));
        let on_disk = self.log.bytes_on_disk();
        let most = self.room.capacity().bytes + 2 * self.segment_bytes;
        let is_bare = self.room.waiting().requests <= own.requests && self.log.segments().len() <= 1;
        if on_disk + own.bytes > most && !is_bare {
            return Err(format!(
                "the queue's files take {on_disk} bytes, and may take {most} (`sending_queue: {{ max_mib: … }}`)"
            ));
        }
        let free = free_bytes(directory).map_err(|error| {
            format!("the free space of `{}` cannot be read: {error}", directory.display())
        })?;
        if free < FREE_BYTES_MIN {
            return Err(format!(
                "`{}` has {free} bytes of free space left and {FREE_BYTES_MIN} are kept free; free some space",
                directory.display()
            ));
        }
        Ok(())
    }
}
