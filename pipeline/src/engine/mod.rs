//! Runs everything: inlets, the journal's writer, the fold, delivery.
//!
//! Start order: delivery and fold, then the writer, then whoever submits. Stop order: the reverse. There are two threads (writer
//! and fold, both of which block on disks) and one task for each finding exporter; all else happens in the receivers' tasks.

mod complaint;
mod decide;
mod deliveries;
mod fold;
mod forward;
pub(crate) mod fuse;
mod inlet;
mod plan;
mod reload;
mod repeats;
mod replay;
mod stage;
mod status;
#[cfg(test)]
mod tests;
mod wiring;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budget::Budget;
use crate::checkpoint::{Checkpoints, Position, Recovery};
use crate::clock::Clock;
use crate::entry::{Event, Offset};
use crate::journal::Journal;
use crate::ledger::{Damage, Ledger};
use crate::refusal::Refusal;
use crate::storage::Store;

use deliveries::{Deliveries, Origin};
use fold::{Fold, Parts, kept_epochs, scan};
use forward::Memory;
use inlet::Shared;
use status::{Status, Trouble};
use wiring::Wiring;
use writer::{Command, QUEUE_REQUESTS, SharedJournal, Writer};

pub use inlet::{Inlet, Receipt};
pub use plan::{AnalyzerSlot, EngineSettings, OpenAnalyzer, Pipeline, Plan};
pub use replay::{Report, refold, replay};
pub use status::Health;

/// Commits that may wait for the fold.
const FOLD_QUEUE: usize = 64;

/// The running engine.
pub struct Engine {
    shared: Arc<Shared>,
    /// Component id → hash of the epoch journalled last.
    epochs: tokio::sync::Mutex<BTreeMap<String, String>>,
    status: Arc<Status>,
    damage: Option<Damage>,
    checkpoints: Checkpoints,
    /// The fold gives up what it tries again and again.
    stopping: CancellationToken,
    writer_ended: CancellationToken,
    fold_ended: CancellationToken,
    deliveries: Deliveries,
    _lock: Arc<Option<File>>,
}

impl Engine {
    /// Starts the journal's writer, the fold (which recovers first) and delivery. Call it within a tokio runtime, after the
    /// metrics recorder is installed, and before receivers run.
    ///
    /// # Errors
    /// The store cannot be read, an epoch cannot be journalled, or a thread cannot be started.
    pub fn start(plan: Plan) -> anyhow::Result<Engine> {
        let judging = plan.pipelines.iter().filter(|pipeline| pipeline.judges).count();
        anyhow::ensure!(judging <= 1, "at most one pipeline may hold analyzers");
        let Plan { store, clock, budget, analyzers, finding_exporters, pipelines, settings } = plan;
        let Opened { journal, ledger, checkpoints, dead_letters, lock, position, skips, epochs } =
            Opened::new(store, &*clock, &analyzers)?;
        let status = Arc::new(Status::default());
        let damage = ledger.damage();
        let stopping = CancellationToken::new();
        let (visible, head) = watch::channel(ledger.head().sequence);
        let deliveries = Deliveries::new(Origin {
            ledger: ledger.reader(),
            checkpoints: checkpoints.clone(),
            head,
            dead_letters,
            timeout: settings.delivery_timeout,
        });
        let entries = journal.reader();
        let journal = Arc::new(SharedJournal::new(journal));
        let tick = settings.tick;
        let fold = Fold::new(Parts {
            slots: analyzers,
            settings,
            journal: journal.clone(),
            entries,
            ledger,
            checkpoints: checkpoints.clone(),
            exporters: deliveries.ids(),
            status: status.clone(),
            runtime: Handle::current(),
            stopping: stopping.clone(),
            visible,
            skips,
            position,
        });
        status.set(Trouble::Recovering, "the journal is being replayed");
        let (queue, commands) = mpsc::channel(QUEUE_REQUESTS);
        let (works, work) = sync_channel(FOLD_QUEUE);
        let writer = Writer::new(commands, journal, works, clock, status.clone());
        let fold_ended = thread("fold", lock.clone(), move || fold.run(work))?;
        let writer_ended = thread("journal", lock.clone(), move || writer.run())?;
        let shared = Arc::new(Shared {
            queue,
            budget: budget.clone(),
            memory: Memory::default(),
            wiring: Wiring::default(),
            stopping: CancellationToken::new(),
            draining: CancellationToken::new(),
            tracker: TaskTracker::new(),
        });
        if let Some(tick) = tick {
            tokio::spawn(ticks(tick, shared.queue.clone(), budget, shared.draining.clone()));
        }
        shared.wiring.set(&pipelines, &shared.memory);
        for (id, exporter) in finding_exporters {
            deliveries.start(&id, exporter);
        }
        Ok(Engine {
            shared,
            epochs: tokio::sync::Mutex::new(epochs),
            status,
            damage,
            checkpoints,
            stopping,
            writer_ended,
            fold_ended,
            deliveries,
            _lock: lock,
        })
    }

    /// Where the receiver with this component id submits.
    pub fn inlet(&self, receiver_id: &str) -> Inlet {
        Inlet { receiver: receiver_id.into(), shared: self.shared.clone() }
    }

    /// For `/healthz` and `/readyz`.
    pub fn health(&self) -> Health {
        for (ended, name) in [(&self.writer_ended, "journal"), (&self.fold_ended, "fold")] {
            if ended.is_cancelled() && !self.shared.draining.is_cancelled() {
                self.status
                    .set(Trouble::Dead, format!("the {name} thread ended, see the log; restart homeostat"));
            }
        }
        let mut health = self.status.health();
        // Said, but no reason to stay away: what comes is judged and chained as ever.
        health.reasons.extend(self.damage.as_ref().and_then(Damage::say));
        health
    }

    /// Journals a tick at the clock's time; returns when the fold has passed it, and with it everything submitted before. For
    /// tests and recordings that set the clock themselves (`settings.tick: None`).
    ///
    /// # Errors
    /// `Unavailable` when the engine stops or the journal cannot be written.
    pub async fn tick(&self) -> Result<(), Refusal> {
        let (passed, wait) = oneshot::channel();
        let stopping = || Refusal::busy("homeostat is stopping, or its journal takes nothing");
        self.shared.queue.send(Command::Tick { passed: Some(passed) }).await.map_err(|_| stopping())?;
        wait.await.map(|_| ()).map_err(|_| stopping())
    }

    /// Stops in order: inlets refuse, the journal drains, the fold ends with a checkpoint, exporters get the time that is
    /// left. Call it after the receivers have returned. What is not done by the deadline is done after the next start.
    pub async fn stop(&self, deadline: Instant) {
        self.status.set(Trouble::Draining, "homeostat is stopping");
        self.shared.stopping.cancel();
        self.shared.draining.cancel();
        self.shared.tracker.close();
        if timeout_at(deadline, self.shared.tracker.wait()).await.is_err() {
            tracing::warn!("some requests were still under way at the deadline");
        }
        // Only a writer that has ended already does not take it.
        let _ = timeout_at(deadline, self.shared.queue.send(Command::Stop)).await;
        if timeout_at(deadline, self.fold_ended.cancelled()).await.is_err() {
            tracing::warn!("the fold did not end by the deadline; the next start replays more");
            self.stopping.cancel();
        }
        self.deliveries.stop(deadline).await;
        if let Err(error) = self.checkpoints.save_cursors() {
            tracing::warn!("cursors cannot be saved, some findings are exported again: {error:#}");
        }
    }
}

/// The store as the engine goes on with it.
struct Opened {
    journal: Journal,
    ledger: Ledger,
    checkpoints: Checkpoints,
    dead_letters: Option<PathBuf>,
    lock: Arc<Option<File>>,
    position: Option<Position>,
    /// Entries to pass over, and why.
    skips: BTreeMap<Offset, String>,
    /// Component id → hash journalled last.
    epochs: BTreeMap<String, String>,
}

impl Opened {
    /// Holds journal and ledger to the checkpoint, and journals the epochs that are new.
    fn new(store: Store, clock: &dyn Clock, slots: &[AnalyzerSlot]) -> anyhow::Result<Opened> {
        let Store { mut journal, mut ledger, checkpoints, recovery, components, lock } = store;
        let position = match recovery {
            Recovery::Fresh | Recovery::Damaged { .. } => None,
            Recovery::Recovered(position) => Some(position),
        };
        let mut epochs = BTreeMap::new();
        if let Some(position) = position {
            journal.skip_to(position.next).context("cannot write the journal")?;
            ledger.expect(position.ledger).context("cannot write the ledger")?;
            epochs = kept_epochs(&*checkpoints.load(fold::ENGINE)?)?;
        }
        let from = position.map_or(Offset(0), |position| position.next);
        let known = scan(&journal.reader(), from).context("cannot read the journal")?;
        epochs.extend(known.epochs);
        journal_epochs(&mut journal, clock, slots, &mut epochs)?;
        let dead_letters = components.map(|folder| folder.join("dead-letters"));
        let (lock, skips) = (Arc::new(lock), known.skips);
        Ok(Opened { journal, ledger, checkpoints, dead_letters, lock, position, skips, epochs })
    }
}

/// What holds now, where it is not what held last.
fn journal_epochs(
    journal: &mut Journal,
    clock: &dyn Clock,
    slots: &[AnalyzerSlot],
    known: &mut BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let mut is_new = false;
    for epoch in slots.iter().filter_map(|slot| slot.epoch.as_ref()) {
        if known.get(&epoch.component) != Some(&epoch.hash) {
            journal.append(&Event::Epoch(epoch.clone()), clock.now()).context("cannot journal the epoch")?;
            tracing::info!(component = epoch.component, hash = epoch.hash, "another model holds from now on");
            known.insert(epoch.component.clone(), epoch.hash.clone());
            is_new = true;
        }
    }
    if is_new {
        journal.sync().context("cannot journal the epoch")?;
    }
    Ok(())
}

/// Runs `body` on a thread of its own; the token is cancelled when it ends, however it ends.
fn thread(
    name: &str,
    lock: Arc<Option<File>>,
    body: impl FnOnce() + Send + 'static,
) -> anyhow::Result<CancellationToken> {
    let ended = CancellationToken::new();
    let guard = ended.clone().drop_guard();
    let run = move || {
        body();
        drop(lock);
        drop(guard);
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .with_context(|| format!("cannot start the {name} thread"))?;
    Ok(ended)
}

/// A tick that finds the queue full is left out: the next one says as much.
async fn ticks(every: Duration, queue: mpsc::Sender<Command>, budget: Budget, stop: CancellationToken) {
    let mut interval = interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        budget.observe();
        if let Err(mpsc::error::TrySendError::Closed(_)) = queue.try_send(Command::Tick { passed: None }) {
            return;
        }
    }
}
