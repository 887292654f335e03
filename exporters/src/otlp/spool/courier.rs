//! One request of the queue on its way: attempt after attempt, until it is taken, refused for good, or given up by setting.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::budget::Backlog;
use homeostat_pipeline::clock::{Clock, Timestamp};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::super::Retry;
use super::super::client::Client;
use super::super::parcel::Parcel;
use super::super::sending::{Advance, Knife, Patience, Sending};
use super::letters::{Letters, Loss};
use super::meters::Meters;

const SAID_EVERY: Duration = Duration::from_secs(60);
/// Requests with which sending panics so often are given up.
const PANICS_MAX: usize = 2;

/// How requests get to the backend.
pub struct Way {
    /// Over which connections.
    pub client: Client,
    /// In which parts.
    pub knife: Knife,
    /// One attempt may take this long.
    pub timeout: Duration,
    /// How often.
    pub retry: Retry,
}

/// A request to deliver.
pub struct Errand {
    /// Its place in the queue.
    pub index: u64,
    /// When it was accepted.
    pub time: Timestamp,
    /// What is sent.
    pub parcel: Parcel,
    /// Its memory.
    pub _memory: Option<Backlog>,
}

/// It is over, one way or the other; everything is counted and said.
pub struct Done;

/// Who delivers.
pub struct Courier {
    way: Way,
    age_max: Duration,
    id: String,
    clock: Arc<dyn Clock>,
    meters: Meters,
    letters: Letters,
    trouble: Trouble,
}

/// Says that the backend does not take telemetry at most once a minute, and that it does again.
#[derive(Default)]
struct Trouble {
    is_said: AtomicBool,
    last: Mutex<Option<Instant>>,
}

impl Trouble {
    fn begins(&self, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| now.duration_since(last) >= SAID_EVERY);
        if is_due {
            *last = Some(now);
            self.is_said.store(true, Ordering::Relaxed);
        }
        is_due
    }

    fn ends(&self) -> bool {
        self.is_said.load(Ordering::Relaxed) && self.is_said.swap(false, Ordering::Relaxed)
    }
}

impl Courier {
    /// Delivers along `way`; requests older than `age_max` are given up, unless that is zero.
    pub fn new(
        way: Way,
        age_max: Duration,
        id: &str,
        clock: Arc<dyn Clock>,
        meters: Meters,
        letters: Letters,
    ) -> Courier {
        let (id, trouble) = (id.to_owned(), Trouble::default());
        Courier { way, age_max, id, clock, meters, letters, trouble }
    }

    /// The memory that looking into it and cutting it may take; 0 where nobody looks.
    pub fn body_bytes(&self, parcel: &Parcel) -> u64 {
        let inflated = if self.way.client.passes() { 0 } else { parcel.body_bytes as u64 };
        inflated.max(self.way.knife.bytes(parcel.body_bytes))
    }

    /// Until it is over, which a panic is not until it comes again.
    pub async fn deliver(&self, errand: Errand) -> Done {
        for _ in 0..PANICS_MAX {
            match AssertUnwindSafe(self.carry(&errand)).catch_unwind().await {
                Ok(Done) => return Done,
                Err(_) => tracing::error!(
                    exporter = self.id,
                    index = errand.index,
                    "sending a request of the queue panicked"
                ),
            }
        }
        let reason = "homeostat panicked whenever it sent it".to_owned();
        self.lose(errand.index, errand.parcel.clone(), (Loss::Panicked, reason)).await;
        Done
    }

    async fn carry(&self, errand: &Errand) -> Done {
        let Errand { index, time, parcel, .. } = errand;
        let Way { client, knife, timeout, retry } = &self.way;
        let (signal, records) = (parcel.signal, parcel.records);
        let mut sending = Sending::new(parcel.clone());
        let start = Instant::now();
        let mut repetition = 0;
        let loss = loop {
            if !self.age_max.is_zero() && self.clock.now().since(*time) > self.age_max {
                break (Loss::Expired, format!("it waited longer than {:?} (`max_age`)", self.age_max));
            }
            match sending.advance(client, knife, Patience::Each(*timeout)).await {
                Advance::Done(Ok(taken)) => {
                    let sent = records.saturating_sub(taken.rejected);
                    self.count(signal, sent, records - sent);
                    if taken.rejected > 0 {
                        let (exporter, rejected, message) = (&*self.id, taken.rejected, taken.message);
                        tracing::warn!(
                            exporter,
                            rejected,
                            message,
                            "the backend refused records of a request for good"
                        );
                    }
                    if self.trouble.ends() {
                        tracing::info!(exporter = self.id, "the backend takes telemetry again");
                    }
                    return Done;
                }
                Advance::Done(Err((_, reason))) => break (Loss::Refused, client.explain(signal, &reason)),
                Advance::Later { after, reason } => {
                    let reason = client.explain(signal, &reason);
                    let wait = retry.wait(after, repetition);
                    let elapsed_max = retry.settings.max_elapsed_time.0;
                    if !elapsed_max.is_zero() && start.elapsed() + wait > elapsed_max {
                        break (
                            Loss::GivenUp,
                            format!("{reason} (tried for {elapsed_max:?}, `max_elapsed_time`)"),
                        );
                    }
                    if self.trouble.begins(Instant::now()) {
                        let exporter = &*self.id;
                        tracing::warn!(
                            exporter,
                            reason,
                            "the backend does not take telemetry; it waits in the queue"
                        );
                    }
                    sleep(wait).await;
                    repetition += 1;
                    retry.retries.increment(1);
                }
            }
        };
        self.lose(*index, parcel.clone(), loss).await;
        Done
    }

    fn count(&self, signal: Signal, sent: u64, failed: u64) {
        let meters = self.meters.of(signal);
        meters.sent.increment(sent);
        meters.failed.increment(failed);
    }

    async fn lose(&self, index: u64, parcel: Parcel, (loss, reason): (Loss, String)) {
        self.count(parcel.signal, 0, parcel.records);
        let (letters, at) = (self.letters.clone(), self.clock.now());
        let buried = spawn_blocking(move || letters.bury(index, &parcel, loss, &reason, at)).await;
        if let Err(error) = buried {
            tracing::error!(exporter = self.id, "writing the dead letters failed: {error}");
        }
    }
}
