//! The journal's writer: one thread that group-commits what all requests bring.
//!
//! One commit is one Arrow batch of all waiting evidence, then alerts, one `fdatasync`; then whoever waits is
//! answered, then the fold gets the entries. Ticks alone are only flushed: whoever depends on them syncs them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::status::{Status, Trouble};
use crate::batch::RequestHash;
use crate::budget::Charge;
use crate::clock::{Clock, Timestamp};
use crate::crash;
use crate::drops;
use crate::entry::{Alert, Decision, Entry, Epoch, Event, EvidenceEvent, Offset, Request};
use crate::evidence::{Rows, schema};
use crate::finding::Finding;
use crate::journal::Journal;
use crate::refusal::Refusal;

/// Requests that may wait for the writer; their bytes are charged to the budget beside.
pub(super) const QUEUE_REQUESTS: usize = 4096;
const COMMIT_REQUESTS: usize = 1024;
const COMMIT_ROWS: usize = 64 * 1024;

/// Answers one waiter.
pub(super) type Done = oneshot::Sender<Result<(), Refusal>>;

/// What an entry caused; none when the fold, which began anew, read it from the disk and cannot say.
pub(super) type Verdict = Option<Vec<Finding>>;

/// What the writer is asked to do.
pub(super) enum Command {
    /// Journal the evidence of one request.
    Evidence { rows: Rows, hash: RequestHash, charge: Charge, done: Done },
    /// Journal the alerts of one webhook call; the fold answers with what it finds.
    Alerts { alerts: Vec<Alert>, charge: Charge, done: Done, verdict: oneshot::Sender<Verdict> },
    /// Journal what a person decided; the fold answers with what it finds.
    Decision { decision: Decision, charge: Charge, done: Done, verdict: oneshot::Sender<Verdict> },
    /// Journal what holds from now on.
    Epochs { epochs: Vec<Epoch>, done: Done },
    /// Journal a tick, flushed only; the sender is told when the fold has passed it.
    Tick { passed: Option<oneshot::Sender<Verdict>> },
    /// Commit what came before, then end.
    Stop,
}

/// What the fold gets: the next entry.
pub(super) struct Work {
    pub(super) entry: Entry,
    /// Gets what the fold found, once that is in the ledger.
    pub(super) verdict: Option<oneshot::Sender<Verdict>>,
    /// Given back when the entry is folded, so that a slow fold holds senders back.
    pub(super) charges: Vec<Charge>,
}

/// The journal as writer and fold share it: the fold syncs ticks and appends skips.
pub(super) struct SharedJournal {
    journal: Mutex<Journal>,
    /// Entries before this offset are on disk.
    durable: AtomicU64,
}

impl SharedJournal {
    pub(super) fn new(journal: Journal) -> SharedJournal {
        let durable = AtomicU64::new(journal.next().0);
        SharedJournal { journal: Mutex::new(journal), durable }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes every entry before `next` durable, if it is not yet.
    pub(super) fn sync_before(&self, next: Offset) -> std::io::Result<()> {
        if self.durable.load(Ordering::Acquire) >= next.0 {
            return Ok(());
        }
        let mut journal = self.lock();
        self.sync(&mut journal)
    }

    /// Makes everything appended so far durable.
    pub(super) fn sync(&self, journal: &mut Journal) -> std::io::Result<()> {
        journal.sync()?;
        self.durable.store(journal.next().0, Ordering::Release);
        Ok(())
    }
}

/// So far may logged time be ahead of the clock before that is said.
const AHEAD: Duration = Duration::from_secs(60);

/// The thread's state.
pub(super) struct Writer {
    pub(super) queue: mpsc::Receiver<Command>,
    pub(super) journal: Arc<SharedJournal>,
    pub(super) fold: SyncSender<Work>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) status: Arc<Status>,
    meters: Meters,
    failing: bool,
    /// Logged time is ahead of the clock.
    is_ahead: bool,
}

struct Meters {
    commits: metrics::Counter,
    entries: metrics::Counter,
    rows: metrics::Counter,
    failed: metrics::Counter,
    commit: metrics::Histogram,
    ahead: metrics::Gauge,
}

/// What one commit holds.
#[derive(Default)]
struct Group {
    evidence: Vec<(Rows, RequestHash)>,
    evidence_charges: Vec<Charge>,
    /// Alerts and decisions, in the order in which they came.
    told: Vec<Planned>,
    epochs: Vec<Epoch>,
    done: Vec<Done>,
    ticks: Vec<Option<oneshot::Sender<Verdict>>>,
    rows: usize,
    stop: bool,
}

impl Group {
    fn has_room(&self) -> bool {
        !self.stop && self.done.len() < COMMIT_REQUESTS && self.rows < COMMIT_ROWS
    }

    fn push(&mut self, command: Command) {
        match command {
            Command::Evidence { rows, hash, charge, done } => {
                self.rows += rows.len();
                self.evidence.push((rows, hash));
                self.evidence_charges.push(charge);
                self.done.push(done);
            }
            Command::Alerts { alerts, charge, done, verdict } => {
                let event = Event::Alerts(alerts);
                self.told.push(Planned { event, verdict: Some(verdict), charges: vec![charge] });
                self.done.push(done);
            }
            Command::Decision { decision, charge, done, verdict } => {
                let event = Event::Decision(decision);
                self.told.push(Planned { event, verdict: Some(verdict), charges: vec![charge] });
                self.done.push(done);
            }
            Command::Epochs { epochs, done } => {
                self.epochs.extend(epochs);
                self.done.push(done);
            }
            Command::Tick { passed } => self.ticks.push(passed),
            Command::Stop => self.stop = true,
        }
    }

    /// The entries in order: evidence, alerts and decisions, epochs, ticks. What was found before an epoch comes before it, and a tick closes
    /// windows, so it comes last.
    fn planned(mut self) -> Result<Vec<Planned>, Refusal> {
        let mut works = Vec::with_capacity(self.told.len() + self.ticks.len() + 1);
        if !self.evidence.is_empty() {
            let rows: Vec<&Rows> = self.evidence.iter().map(|(rows, _)| rows).collect();
            let batch = schema::build(&rows)
                .map_err(|error| Refusal::busy(format!("the evidence does not fit one commit: {error}")))?;
            let request =
                |(rows, hash): &(Rows, RequestHash)| Request { hash: *hash, rows: rows.len() as u32 };
            let requests = self.evidence.iter().map(request).collect();
            let event = Event::Evidence(EvidenceEvent { requests, batch });
            works.push(Planned { event, verdict: None, charges: std::mem::take(&mut self.evidence_charges) });
        }
        works.append(&mut self.told);
        let epoch = |epoch| Planned { event: Event::Epoch(epoch), verdict: None, charges: Vec::new() };
        works.extend(std::mem::take(&mut self.epochs).into_iter().map(epoch));
        works.extend(self.only_ticks());
        Ok(works)
    }

    fn only_ticks(self) -> Vec<Planned> {
        let tick = |verdict| Planned { event: Event::Tick, verdict, charges: Vec::new() };
        self.ticks.into_iter().map(tick).collect()
    }
}

struct Planned {
    event: Event,
    verdict: Option<oneshot::Sender<Verdict>>,
    charges: Vec<Charge>,
}

impl Writer {
    pub(super) fn new(
        queue: mpsc::Receiver<Command>,
        journal: Arc<SharedJournal>,
        fold: SyncSender<Work>,
        clock: Arc<dyn Clock>,
        status: Arc<Status>,
    ) -> Writer {
        let meters = Meters {
            commits: metrics::counter!("homeostat_journal_commits_total"),
            entries: metrics::counter!("homeostat_journal_entries_total"),
            rows: metrics::counter!("homeostat_journal_rows_total"),
            failed: metrics::counter!("homeostat_journal_failed_commits_total"),
            commit: metrics::histogram!("homeostat_journal_commit_seconds"),
            ahead: metrics::gauge!("homeostat_journal_ahead_seconds"),
        };
        Writer { queue, journal, fold, clock, status, meters, failing: false, is_ahead: false }
    }

    /// Until it is told to stop, or nobody is left to tell it.
    pub(super) fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            let mut group = Group::default();
            group.push(first);
            while group.has_room()
                && let Ok(next) = self.queue.try_recv()
            {
                group.push(next);
            }
            let stop = group.stop;
            if !self.commit(group) || stop {
                return;
            }
        }
    }

    /// Says false when the fold is gone.
    fn commit(&mut self, mut group: Group) -> bool {
        let began = Instant::now();
        let done = std::mem::take(&mut group.done);
        let rows = group.rows as u64;
        let room = self.journal.lock().room().map_err(|full| full.reason);
        if let Err(reason) = &room {
            self.fail(reason);
            drops::JOURNAL_FULL.count(done.len() as u64);
            answer(done, &Err(Refusal::busy("the journal has no room now")));
            // Ticks are let through a full journal: they lead to the checkpoint that lets it be trimmed.
            let works = self.append(group.only_ticks()).unwrap_or_default();
            return works.into_iter().all(|work| self.fold.send(work).is_ok());
        }
        let planned = match group.planned() {
            Ok(planned) => planned,
            Err(refusal) => {
                answer(done, &Err(refusal));
                return true;
            }
        };
        match self.append(planned) {
            Ok(works) => {
                answer(done, &Ok(()));
                self.succeed();
                self.meters.commits.increment(1);
                self.meters.entries.increment(works.len() as u64);
                self.meters.rows.increment(rows);
                self.meters.commit.record(began.elapsed().as_secs_f64());
                works.into_iter().all(|work| self.fold.send(work).is_ok())
            }
            Err(error) => {
                let reason = format!("the journal cannot be written: {error}");
                self.fail(&reason);
                drops::JOURNAL_FAILED.count(done.len() as u64);
                answer(done, &Err(Refusal::busy("the journal cannot be written now")));
                true
            }
        }
    }

    fn append(&mut self, planned: Vec<Planned>) -> std::io::Result<Vec<Work>> {
        let now = self.clock.now();
        let mut journal = self.journal.lock();
        let mut works: Vec<Work> = Vec::with_capacity(planned.len());
        let mut only_ticks = true;
        for Planned { event, verdict, charges } in planned {
            only_ticks &= matches!(event, Event::Tick);
            let logged = journal.append(&event, now)?;
            let entry = Entry { offset: logged.offset, time: logged.time, event };
            works.push(Work { entry, verdict, charges });
        }
        if only_ticks {
            journal.flush()?;
        } else {
            crash::point("journal.appended");
            self.journal.sync(&mut journal)?;
        }
        drop(journal);
        self.compare(works.last().map_or(now, |work| work.entry.time), now);
        Ok(works)
    }

    /// Logged time does not go back, so after a clock that was wrong it stands until the right one has caught up.
    fn compare(&mut self, logged: Timestamp, now: Timestamp) {
        let ahead = logged.since(now);
        self.meters.ahead.set(ahead.as_secs_f64());
        let is_ahead = ahead > AHEAD;
        if is_ahead && !self.is_ahead {
            let reason = format!(
                "the journal's time is {logged}, and the machine's clock says {now}: nothing is judged until it has caught up (set the clock; or, if it was wrong before, begin with a new `service.storage.directory`)"
            );
            tracing::error!("{reason}");
            self.status.set(Trouble::Clock, reason);
        } else if !is_ahead && self.is_ahead {
            self.status.clear(Trouble::Clock);
            tracing::info!("the machine's clock has caught up with the journal's time");
        }
        self.is_ahead = is_ahead;
    }

    fn fail(&mut self, reason: &str) {
        if !self.failing {
            tracing::error!(reason, "the journal takes nothing; senders are told to come back");
        }
        self.failing = true;
        self.status.set(Trouble::Journal, reason);
        self.meters.failed.increment(1);
    }

    fn succeed(&mut self) {
        if self.failing {
            self.failing = false;
            self.status.clear(Trouble::Journal);
            tracing::info!("the journal takes entries again");
        }
    }
}

fn answer(done: Vec<Done>, outcome: &Result<(), Refusal>) {
    for done in done {
        // Whoever does not wait any more does not need the answer.
        let _ = done.send(outcome.clone());
    }
}
