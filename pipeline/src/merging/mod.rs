//! Merging: requests of one signal that arrive at about the same time go to an exporter as one.
//!
//! An OTLP request is one repeated field, so the concatenation of bodies is a request again. Each sender is answered with what
//! became of its own records, so merging changes how often a backend is called and never what OK means:
//!
//! - the merged request has the earliest of its senders' deadlines; when time runs out, those who have more go on without the rest;
//! - a merged request that is refused for good, or that the exporter panics at, is halved and tried again until the request that is at fault stands alone;
//! - of a partial success each sender hears what is certain about its own records and the backend's words;
//! - a request whose sender has gone before the merged one is sent is left out: it will come again. When all have gone the merged
//!   one is given up as a single one would be, so that nothing is held for nobody.
//!
//! A request that waits alone is sent as it came. Merged ones are plain protobuf, whatever the compression of their parts.

mod answer;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use metrics::{Counter, Histogram};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::batch::{Compression, Content, Frame, Signal, Telemetry};
use crate::budget::{Budget, Charge, Class};
use crate::contract::{Taken, TelemetryExporter};
use crate::engine::fuse::Fuse;
use crate::refusal::Refusal;

/// No request waits longer for others, for its sender waits with it.
pub const WAIT_MAX: Duration = Duration::from_secs(2);
/// A merged request is no larger, for that is what gRPC servers take unless they are told otherwise.
pub const MERGED_BYTES_MAX: usize = 4 << 20;
/// Requests that could not be merged and are on their way at the same time.
const ALONE_MAX: usize = 16;
/// Deadlines that are no further apart are one.
const SAME_DEADLINE: Duration = Duration::from_secs(1);

/// When requests are merged, and how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A request waits at most this long for others, at most [`WAIT_MAX`], and never longer than half of what is left until
    /// its sender's deadline.
    pub timeout: Duration,
    /// As soon as so many records wait they go; a request that has as many by itself goes alone, at once.
    pub records_enough: u64,
    /// A merged request has at most so many; one that has more by itself goes alone. No limit when none.
    pub records_max: Option<u64>,
}

/// An exporter that merges before another one.
pub struct Merging {
    lanes: [Arc<Lane>; 3],
}

/// What waits of one signal.
struct Lane {
    signal: Signal,
    exporter: Fuse,
    limits: Limits,
    budget: Budget,
    open: Mutex<Open>,
    meters: Meters,
}

struct Meters {
    size: Counter,
    timeout: Counter,
    records: Histogram,
}

/// The requests that wait now.
#[derive(Default)]
struct Open {
    /// Grows with every group, so that a timer knows its own.
    number: u64,
    members: Vec<Member>,
    records: u64,
    bytes: usize,
    due: Option<Instant>,
}

/// A request that waits.
struct Member {
    telemetry: Telemetry,
    deadline: Instant,
    answer: oneshot::Sender<Result<Taken, Refusal>>,
}

impl Member {
    /// Whether anybody still waits for the answer.
    fn is_awaited(&self, now: Instant) -> bool {
        !self.answer.is_closed() && self.deadline > now
    }
}

impl Merging {
    /// `processor` and `exporter` are component ids, for the metrics. What is merged is charged to `budget`; over it, requests
    /// go one by one.
    pub fn new(
        processor: &str,
        exporter_id: &str,
        exporter: &Arc<dyn TelemetryExporter>,
        limits: &Limits,
        budget: &Budget,
    ) -> Merging {
        let labels = [("processor", processor.to_owned()), ("exporter", exporter_id.to_owned())];
        let lanes = Signal::ALL.map(|signal| {
            Arc::new(Lane {
                signal,
                exporter: Fuse::new(exporter_id, exporter.clone()),
                limits: limits.clone(),
                budget: budget.clone(),
                open: Mutex::default(),
                meters: Meters {
                    size: metrics::counter!("otelcol_processor_batch_batch_size_trigger_send", &labels),
                    timeout: metrics::counter!("otelcol_processor_batch_timeout_trigger_send", &labels),
                    records: metrics::histogram!("otelcol_processor_batch_batch_send_size", &labels),
                },
            })
        });
        Merging { lanes }
    }

    /// Whether it merges so before this very instance: then a reload need not make another, which would know nothing of what waits.
    pub fn leads_to(&self, exporter: &Arc<dyn TelemetryExporter>, limits: &Limits) -> bool {
        let is_same = |lane: &Arc<Lane>| {
            std::ptr::addr_eq(Arc::as_ptr(lane.exporter.exporter()), Arc::as_ptr(exporter))
                && lane.limits == *limits
        };
        self.lanes.iter().all(is_same)
    }
}

#[async_trait]
impl TelemetryExporter for Merging {
    async fn export(&self, telemetry: &Telemetry, deadline: Instant) -> Result<Taken, Refusal> {
        let lane = &self.lanes[telemetry.signal as usize];
        let Some(answer) = lane.join(telemetry, deadline) else {
            lane.meters.size.increment(1);
            lane.meters.records.record(telemetry.records as f64);
            return lane.exporter.export(telemetry, deadline).await;
        };
        match timeout_at(deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Refusal::busy("homeostat is stopping")),
            Err(_) => Err(Refusal::busy("no backend took it within the sender's deadline")),
        }
    }

    fn is_queued(&self) -> bool {
        self.lanes.iter().any(|lane| lane.exporter.exporter().is_queued())
    }
}

impl Lane {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request wait for others; none when it is better off alone.
    fn join(
        self: &Arc<Lane>,
        telemetry: &Telemetry,
        deadline: Instant,
    ) -> Option<oneshot::Receiver<Result<Taken, Refusal>>> {
        let Limits { timeout, records_enough, records_max } = self.limits;
        let records_max = records_max.unwrap_or(u64::MAX);
        let (records, bytes) = (telemetry.records, telemetry.body.len());
        if records >= records_enough.min(records_max) || bytes >= MERGED_BYTES_MAX {
            return None;
        }
        let now = Instant::now();
        let wait = timeout.min(WAIT_MAX).min(deadline.saturating_duration_since(now) / 2);
        let (answer, wait_for) = oneshot::channel();
        let mut open = self.open();
        if open.records + records > records_max || open.bytes + bytes > MERGED_BYTES_MAX {
            self.go(open.close());
        }
        open.records += records;
        open.bytes += bytes;
        open.members.push(Member { telemetry: telemetry.clone(), deadline, answer });
        if open.records >= records_enough {
            self.go(open.close());
        } else if open.due.is_none_or(|due| now + wait < due) {
            open.due = Some(now + wait);
            tokio::spawn(self.clone().time_out(open.number, now + wait));
        }
        Some(wait_for)
    }

    /// Sends a group that is full.
    fn go(self: &Arc<Lane>, members: Vec<Member>) {
        self.meters.size.increment(1);
        tokio::spawn(self.clone().send(members));
    }

    /// Sends the group `number` at `due`, unless it has gone already.
    async fn time_out(self: Arc<Lane>, number: u64, due: Instant) {
        sleep_until(due).await;
        let members = {
            let mut open = self.open();
            if open.number != number {
                return;
            }
            open.close()
        };
        self.meters.timeout.increment(1);
        self.send(members).await;
    }

    async fn send(self: Arc<Lane>, members: Vec<Member>) {
        self.meters.records.record(members.iter().map(|member| member.telemetry.records).sum::<u64>() as f64);
        let mut parts = vec![members];
        while let Some(part) = parts.pop() {
            // Refused for good as a whole, or a panic: one of them is at fault, so that halves find it.
            if let Some((first, second)) = self.attempt(part).await {
                parts.extend([second, first]);
            }
        }
    }

    /// Sends `members` as one request and answers them; gives back those that are to be tried in two halves.
    async fn attempt(&self, mut members: Vec<Member>) -> Option<(Vec<Member>, Vec<Member>)> {
        loop {
            let now = Instant::now();
            members.retain(|member| member.is_awaited(now));
            let deadline = members.iter().map(|member| member.deadline).min()?;
            if let [_] = members.as_slice() {
                let member = members.pop()?;
                self.alone(member).await;
                return None;
            }
            // Held until the answer is there.
            let Ok((merged, _charge)) = self.merge(&members) else {
                // No memory for a copy.
                let each = stream::iter(members).map(|member| self.alone(member));
                each.buffer_unordered(ALONE_MAX).collect::<()>().await;
                return None;
            };
            let exported = {
                let gone = join_all(members.iter_mut().map(|member| member.answer.closed()));
                tokio::select! {
                    biased;
                    outcome = self.exporter.call(&merged, deadline) => outcome,
                    _ = gone => return None,
                }
            };
            match exported {
                Some(Ok(taken)) => {
                    answer::taken(members, &taken);
                    return None;
                }
                Some(Err(Refusal::Rejected { .. })) | None => {
                    let second = members.split_off(members.len() / 2);
                    return Some((members, second));
                }
                Some(Err(refusal)) => {
                    let is_late = Instant::now() + SAME_DEADLINE >= deadline;
                    let has_time = |member: &Member| is_late && member.deadline >= deadline + SAME_DEADLINE;
                    let (patient, others): (Vec<_>, Vec<_>) = members.into_iter().partition(has_time);
                    answer::all(others, &Err(refusal));
                    members = patient;
                }
            }
        }
    }

    async fn alone(&self, member: Member) {
        let Member { telemetry, deadline, mut answer } = member;
        if answer.is_closed() {
            return;
        }
        let outcome = tokio::select! {
            biased;
            outcome = self.exporter.export(&telemetry, deadline) => outcome,
            () = answer.closed() => return,
        };
        answer::all(vec![Member { telemetry, deadline, answer }], &outcome);
    }

    /// One request of all, charged to the budget.
    fn merge(&self, members: &[Member]) -> Result<(Telemetry, Charge), Refusal> {
        let bytes = members.iter().map(|member| member.telemetry.body.len()).sum();
        let charge = self.budget.try_charge(None, Class::Telemetry, bytes as u64)?;
        let mut body = Vec::with_capacity(bytes);
        for member in members {
            body.extend_from_slice(&member.telemetry.body);
        }
        let body = Bytes::from(body);
        let frame = Frame { content: Content::Protobuf, compression: Compression::None, bytes: body.clone() };
        let records = members.iter().map(|member| member.telemetry.records).sum();
        Ok((Telemetry { signal: self.signal, frame, body, records }, charge))
    }
}

impl Open {
    /// What waited; what comes next waits for others.
    fn close(&mut self) -> Vec<Member> {
        let number = self.number + 1;
        std::mem::replace(self, Open { number, ..Open::default() }).members
    }
}
