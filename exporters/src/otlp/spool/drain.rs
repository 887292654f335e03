//! Sends what waits: in order, so many at a time, each until the backend has taken it or never will.
//!
//! The cursor is behind the first request that is not done with. It is written at most five times a second; a crash repeats
//! what was done since.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use homeostat_pipeline::budget::{Backlog, Budget};
use homeostat_pipeline::clock::Clock;
use homeostat_pipeline::log::{Frames, Item};
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::Context;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until};

use super::super::settings::SendingQueue;
use super::Store;
use super::courier::{Courier, Done, Errand, Way};
use super::letters::Letters;
use super::meters::Meters;
use super::record::{self, Record};
use super::room::Size;
use super::term::Term;
use super::writer::Command;

/// Read at a time.
const READ_BYTES: usize = 1 << 20;
/// Requests beyond the cursor that may be done with before it moves on.
const AHEAD_MAX: u64 = 1_024;
const SAVED_EVERY: Duration = Duration::from_millis(200);
/// What is under way when no more is begun has so long to arrive.
const LAST_ATTEMPTS: Duration = Duration::from_secs(1);
/// How long to wait before memory is looked for again.
const PAUSE: Duration = Duration::from_millis(100);
const REREAD: Duration = Duration::from_secs(5);

/// How far the queue was sent.
pub struct Progress {
    /// The requests before this place are done with; `requests` is the index of the next.
    done: Size,
    /// Beyond it: index → where it ends, and all requests up to there.
    finished: BTreeMap<u64, Size>,
}

impl Progress {
    /// Everything before `done` is done with.
    pub fn at(done: Size) -> Progress {
        Progress { done, finished: BTreeMap::new() }
    }

    /// From `index` up to `end` all is done with.
    fn finish(&mut self, index: u64, end: Size) {
        self.finished.insert(index, end);
        while let Some(end) = self.finished.remove(&self.done.requests) {
            self.done = end;
        }
    }
}

/// What comes next in the log.
enum Next {
    Record(u64, Box<Record>),
    /// From an index, so many that cannot be read, and why.
    Lost(u64, u64, &'static str),
}

/// The place in the log.
struct Source {
    frames: Frames,
    ahead: VecDeque<Next>,
    /// All requests up to the one read last, as that says.
    seen: Size,
}

/// Why no more is under way.
#[derive(PartialEq, Eq)]
enum Filled {
    /// There are as many as may be, or as there are.
    Enough,
    /// The next waits for memory.
    ShortOfMemory,
}

/// The task that sends.
pub struct Drain {
    store: Arc<Store>,
    visible: watch::Receiver<u64>,
    courier: Arc<Courier>,
    letters: Letters,
    clock: Arc<dyn Clock>,
    budget: Budget,
    consumers: usize,
    term: Arc<Term>,
    id: String,
}

impl Drain {
    /// Sends what is in `store` along `way`.
    pub fn new(store: Arc<Store>, way: Way, settings: &SendingQueue, context: &Context) -> Drain {
        let letters = Letters::new(&context.id, context.directory.as_deref());
        let (clock, meters) = (Arc::clone(&context.clock), Meters::new(&context.id));
        let courier =
            Courier::new(way, settings.max_age.0, &context.id, Arc::clone(&clock), meters, letters.clone());
        Drain {
            visible: store.visible.clone(),
            term: Arc::new(Term::new(context, &store.opened)),
            id: context.id.clone(),
            store,
            courier: Arc::new(courier),
            letters,
            clock,
            budget: context.budget.clone(),
            consumers: settings.consumers(),
        }
    }

    /// Until its term has ended. What is not sent then is sent by the next that opens the queue.
    pub async fn run(mut self) {
        let (store, term) = (Arc::clone(&self.store), Arc::clone(&self.term));
        let mut progress = tokio::select! {
            () = term.ended() => return,
            progress = store.progress.lock() => progress,
        };
        let frames = store.reader.read_from(progress.done.requests);
        let mut source = Some(Source { frames, ahead: VecDeque::new(), seen: progress.done });
        let mut saved = (progress.done, Instant::now());
        let mut errands: JoinSet<(u64, Size, Size)> = JoinSet::new();
        let mut is_closed = false;
        loop {
            if term.is_closed() && progress.done.requests >= *self.visible.borrow() {
                break;
            }
            let filled = tokio::select! {
                () = term.ended() => break,
                filled = self.fill(&mut errands, &mut source, &mut progress) => filled,
            };
            let is_behind = progress.done.requests > saved.0.requests;
            if is_behind && saved.1.elapsed() >= SAVED_EVERY {
                self.save(progress.done).await;
                saved = (progress.done, Instant::now());
                continue;
            }
            tokio::select! {
                () = term.ended() => break,
                () = term.closed(), if !is_closed => {
                    is_closed = true;
                    self.say_removed();
                }
                Some(ended) = errands.join_next() => self.settle(ended, &mut progress),
                changed = self.visible.changed(), if errands.len() < self.consumers => if changed.is_err() { break },
                () = sleep_until(saved.1 + SAVED_EVERY), if is_behind => {}
                () = sleep(PAUSE), if filled == Filled::ShortOfMemory => {}
            }
        }
        self.finish(&mut errands, &mut progress).await;
        if progress.done.requests > saved.0.requests {
            self.save(progress.done).await;
        }
    }

    /// Lets what is under way arrive, for a while.
    async fn finish(&self, errands: &mut JoinSet<(u64, Size, Size)>, progress: &mut Progress) {
        let end = Instant::now() + LAST_ATTEMPTS;
        while !errands.is_empty() {
            tokio::select! {
                () = self.term.over() => break,
                () = sleep_until(end) => break,
                Some(ended) = errands.join_next() => self.settle(ended, progress),
            }
        }
        errands.shutdown().await;
        let Size { requests, items, .. } = self.store.room.waiting();
        if self.store.cursor.is_none() && self.term.is_stopping() && requests > 0 {
            tracing::error!(
                exporter = self.id,
                requests,
                records = items,
                "what waits in a queue in memory is lost with the process"
            );
        }
    }

    fn say_removed(&self) {
        let Size { requests, items, .. } = self.store.room.waiting();
        if requests > 0 && !self.term.is_stopping() {
            tracing::warn!(
                exporter = self.id,
                requests,
                records = items,
                "the exporter is gone; what waits in its queue is still sent"
            );
        }
    }

    fn settle(&self, ended: Result<(u64, Size, Size), tokio::task::JoinError>, progress: &mut Progress) {
        match ended {
            Ok((index, size, end)) => {
                progress.finish(index, end);
                self.store.holds.release(index);
                self.store.room.give_back(size);
            }
            // A panic beyond what the courier catches: it is sent again after the next start, the cursor stays before it.
            Err(error) => tracing::error!("sending a request of the queue failed: {error}"),
        }
    }

    /// Starts as many as may be under way.
    async fn fill(
        &mut self,
        errands: &mut JoinSet<(u64, Size, Size)>,
        source: &mut Option<Source>,
        progress: &mut Progress,
    ) -> Filled {
        while errands.len() < self.consumers {
            let Some(next) = self.next(source, progress.done).await else { break };
            match next {
                Next::Lost(index, count, reason) => {
                    self.letters.bury_unread(index, count, reason, self.clock.now());
                    let seen = source.as_ref().map_or(progress.done, |source| source.seen);
                    progress.finish(index, Size { requests: index + count, ..seen });
                }
                Next::Record(index, _) if progress.finished.contains_key(&index) => {}
                Next::Record(index, record) if index >= progress.done.requests + AHEAD_MAX => {
                    Source::put_back(source, Next::Record(index, record));
                    break;
                }
                Next::Record(index, record) => {
                    let memory = match self.memory(&record) {
                        Ok(memory) => Some(memory),
                        // One goes without: no queue stands still because others have the memory.
                        Err(_) if errands.is_empty() => None,
                        Err(_) => {
                            Source::put_back(source, Next::Record(index, record));
                            return Filled::ShortOfMemory;
                        }
                    };
                    let (size, end) = (record.size, record.total);
                    let errand = Errand { index, time: record.time, parcel: record.parcel, _memory: memory };
                    let courier = Arc::clone(&self.courier);
                    errands.spawn(async move {
                        let Done = courier.deliver(errand).await;
                        (index, size, end)
                    });
                }
            }
        }
        Filled::Enough
    }

    /// What a request takes of the memory budget while it is under way; without disk it holds its own bytes already.
    fn memory(&self, record: &Record) -> Result<Backlog, Refusal> {
        let kept = if self.store.cursor.is_some() { record.size.bytes } else { 0 };
        self.budget.try_backlog(kept + self.courier.body_bytes(&record.parcel))
    }

    /// The next of the log; none when there is nothing more now. What is not there any more gives its room back.
    async fn next(&mut self, source: &mut Option<Source>, done: Size) -> Option<Next> {
        loop {
            self.visible.borrow_and_update();
            let mut from = source.take().unwrap_or_else(|| {
                let frames = self.store.reader.read_from(done.requests);
                Source { frames, ahead: VecDeque::new(), seen: done }
            });
            if from.ahead.is_empty() {
                match spawn_blocking(move || from.read()).await {
                    Ok((_, Err(error))) => {
                        tracing::error!("the queue cannot be read and is read again: {error}");
                        sleep(REREAD).await;
                        continue;
                    }
                    Ok((read, Ok(()))) => from = read,
                    Err(error) => {
                        tracing::error!("reading the queue failed: {error}");
                        sleep(REREAD).await;
                        continue;
                    }
                }
            }
            let next = from.ahead.pop_front();
            if let Some(Next::Record(_, record)) = &next {
                let missing = record.total - record.size - from.seen;
                from.seen = record.total;
                if missing != Size::default() {
                    self.store.room.give_back(missing);
                }
            }
            *source = Some(from);
            return next;
        }
    }

    /// Remembers how far it came, then lets go of what is before.
    async fn save(&self, done: Size) {
        if let Some(cursor) = self.store.cursor.clone() {
            match spawn_blocking(move || cursor.write(done)).await {
                Ok(Ok(())) => homeostat_pipeline::crash::point("spool.cursor_saved"),
                Ok(Err(error)) => {
                    tracing::warn!("the queue's cursor cannot be saved, requests may be sent again: {error}");
                    return;
                }
                Err(error) => tracing::warn!("saving the queue's cursor failed: {error}"),
            }
        }
        // A thread that has ended removes nothing any more; the next start does.
        let _ = self.store.commands.send(Command::Trim(done.requests)).await;
    }
}

impl Source {
    /// It is not its turn yet.
    fn put_back(source: &mut Option<Source>, next: Next) {
        if let Some(source) = source {
            source.ahead.push_front(next);
        }
    }

    /// Reads on. Blocking.
    fn read(mut self) -> (Source, std::io::Result<()>) {
        let mut bytes = 0;
        while bytes < READ_BYTES {
            match self.frames.next() {
                None => break,
                Some(Err(error)) => return (self, Err(error)),
                Some(Ok(Item::Gap(gap))) if gap.from < gap.to => {
                    self.ahead.push_back(Next::Lost(
                        gap.from,
                        gap.to - gap.from,
                        "the file is damaged or gone",
                    ));
                }
                Some(Ok(Item::Gap(_))) => {}
                Some(Ok(Item::Frame(frame))) => {
                    bytes += frame.bytes.len();
                    self.ahead.push_back(match record::read(frame.index, &frame.bytes) {
                        Some(record) => Next::Record(frame.index, Box::new(record)),
                        None => Next::Lost(frame.index, 1, "another version of homeostat wrote it"),
                    });
                }
            }
        }
        (self, Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_stays_behind_the_first_that_is_not_done_with() {
        let end = |requests| Size { requests, items: requests * 10, bytes: requests * 100 };
        let mut progress = Progress::at(end(5));
        for (index, upto, expected) in [(6, 7, 5), (8, 10, 5), (5, 6, 7), (7, 8, 10), (10, 11, 11)] {
            progress.finish(index, end(upto));
            assert_eq!(progress.done, end(expected), "after {index}");
        }
        assert!(progress.finished.is_empty());
    }
}
