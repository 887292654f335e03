//! Telemetry exporters: every one of a pipeline gets the request at the same time, and the worst outcome is the sender's.
//!
//! When some took a request and the sender is told to come back, the repeat goes only to those that had not taken it, and what the
//! others said of it counts again. What is remembered for that is empty as long as nothing fails, and then costs one load of a counter.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use metrics::Counter;
use tokio::time::Instant;

use super::complaint::Complaint;
use super::fuse::Fuse;
use crate::batch::{RequestHash, Signal, Telemetry};
use crate::budget::Budget;
use crate::contract::{Taken, TelemetryExporter};
use crate::drops;
use crate::finding::hex;
use crate::refusal::Refusal;
use crate::tracer;

const REMEMBERED: Duration = Duration::from_secs(15 * 60);
const MAX_REMEMBERED: usize = 10_000;
/// What is remembered of a backend's words.
const WORDS_MAX: usize = 256;

/// One telemetry exporter of the process; pipelines share it.
pub(super) struct Outlet {
    id: String,
    /// Its bit in what is remembered of a request; exporters beyond the 64th are not remembered.
    bit: u64,
    exporter: Fuse,
    meters: [Meters; 3],
    complaint: Complaint,
}

struct Meters {
    sent: Counter,
    failed: Counter,
}

impl Outlet {
    pub(super) fn new(id: &str, bit: u64, exporter: Arc<dyn TelemetryExporter>) -> Outlet {
        let meters = Signal::ALL.map(|signal| {
            let label = || id.to_owned();
            match signal {
                Signal::Traces => Meters {
                    sent: metrics::counter!("otelcol_exporter_sent_spans", "exporter" => label()),
                    failed: metrics::counter!("otelcol_exporter_send_failed_spans", "exporter" => label()),
                },
                Signal::Metrics => Meters {
                    sent: metrics::counter!("otelcol_exporter_sent_metric_points", "exporter" => label()),
                    failed: metrics::counter!("otelcol_exporter_send_failed_metric_points", "exporter" => label()),
                },
                Signal::Logs => Meters {
                    sent: metrics::counter!("otelcol_exporter_sent_log_records", "exporter" => label()),
                    failed: metrics::counter!("otelcol_exporter_send_failed_log_records", "exporter" => label()),
                },
            }
        });
        let exporter = Fuse::new(id, exporter);
        Outlet { id: id.to_owned(), bit, exporter, meters, complaint: Complaint::default() }
    }

    /// Whether it leads to this very instance.
    pub(super) fn leads_to(&self, exporter: &Arc<dyn TelemetryExporter>) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(self.exporter.exporter()), Arc::as_ptr(exporter))
    }

    async fn export(&self, telemetry: &Telemetry, deadline: Instant) -> Result<Taken, Refusal> {
        let signal = telemetry.signal;
        let span = tracer::child(|| format!("exporter/{}/{}", self.id, signal.name()));
        let outcome = self.exporter.export(telemetry, deadline).await;
        let meters = &self.meters[telemetry.signal as usize];
        let sent = match &outcome {
            Ok(taken) => telemetry.records.saturating_sub(taken.rejected + taken.share),
            Err(_) => 0,
        };
        if !self.exporter.exporter().is_queued() {
            meters.sent.increment(sent);
            meters.failed.increment(telemetry.records - sent);
        }
        let reason = match &outcome {
            Ok(_) => &drops::EXPORTER_PARTIAL,
            Err(Refusal::Unavailable { .. }) => &drops::EXPORTER_UNAVAILABLE,
            Err(Refusal::Rejected { .. }) => &drops::EXPORTER_REFUSED,
        };
        reason.count_with(telemetry.records - sent, || hex(&telemetry.hash().0));
        if let Some(mut span) = span {
            span.number("items.sent", sent);
            span.number("items.failed", telemetry.records - sent);
            if let Err(refusal) = &outcome {
                span.fail(refusal);
            }
        }
        if self.complaint.note(outcome.is_ok(), Instant::now()) {
            self.say(&outcome);
        }
        outcome.map_err(|refusal| self.told(refusal))
    }

    /// What the sender hears: which exporter, and of a refusal for good the backend's own words, but never where the backend
    /// is.
    fn told(&self, refusal: Refusal) -> Refusal {
        let id = &self.id;
        match refusal {
            Refusal::Unavailable { retry_after, .. } => {
                let reason = format!("exporter `{id}` cannot hand it on now");
                Refusal::Unavailable { retry_after, reason }
            }
            Refusal::Rejected { cause, reason } => {
                Refusal::Rejected { cause, reason: format!("exporter `{id}`: {reason}") }
            }
        }
    }

    fn say(&self, outcome: &Result<Taken, Refusal>) {
        let exporter = &*self.id;
        match outcome {
            Ok(_) => tracing::info!(exporter, "the backend takes telemetry again"),
            Err(Refusal::Unavailable { reason, .. }) => {
                tracing::warn!(
                    exporter,
                    reason,
                    "the backend does not take telemetry; senders are told to come back"
                );
            }
            Err(Refusal::Rejected { reason, .. }) => {
                tracing::error!(
                    exporter,
                    reason,
                    "the backend refused a request for good, and its sender was told so"
                );
            }
        }
    }
}

/// What is known of a request that has to come again.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The bits of the exporters that are done with it.
    done: u64,
    /// What those of them said that did not simply take it, by bit.
    said: Vec<(u64, Result<Taken, Refusal>)>,
}

impl Known {
    fn add(&mut self, bit: u64, outcome: &Result<Taken, Refusal>) {
        let is_new = self.done & bit == 0 && bit != 0;
        self.done |= bit;
        if is_new && *outcome != Ok(Taken::default()) {
            self.said.push((bit, outcome.clone()));
        }
    }

    fn join(&mut self, other: &Known) {
        for (bit, said) in &other.said {
            let mut said = said.clone();
            let (Ok(Taken { message: words, .. })
            | Err(Refusal::Rejected { reason: words, .. } | Refusal::Unavailable { reason: words, .. })) =
                &mut said;
            words.truncate(words.floor_char_boundary(WORDS_MAX));
            self.add(*bit, &said);
        }
        self.done |= other.done;
    }

    fn forget(&mut self, bits: u64) {
        self.done &= !bits;
        self.said.retain(|(bit, _)| bit & bits == 0);
    }
}

/// Who took which request that has to come again.
#[derive(Default)]
pub(super) struct Memory {
    count: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    taken: HashMap<RequestHash, Known>,
    order: VecDeque<(Instant, RequestHash)>,
}

impl Memory {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of this request from before.
    fn recall(&self, telemetry: &Telemetry, now: Instant) -> Known {
        if self.count.load(Ordering::Acquire) == 0 {
            return Known::default();
        }
        let hash = telemetry.hash();
        let mut kept = self.kept();
        kept.expire(now, MAX_REMEMBERED);
        self.count.store(kept.order.len(), Ordering::Release);
        kept.taken.get(&hash).cloned().unwrap_or_default()
    }

    /// The bits belong to other exporters from now on.
    pub(super) fn forget(&self, bits: u64) {
        let mut kept = self.kept();
        let Kept { taken, order } = &mut *kept;
        taken.retain(|_, known| {
            known.forget(bits);
            known.done != 0
        });
        order.retain(|(_, hash)| taken.contains_key(hash));
        self.count.store(kept.order.len(), Ordering::Release);
    }

    fn remember(&self, telemetry: &Telemetry, more: &Known, now: Instant) {
        if more.done == 0 {
            return;
        }
        let hash = telemetry.hash();
        let mut kept = self.kept();
        kept.expire(now, MAX_REMEMBERED - 1);
        let known = kept.taken.entry(hash).or_default();
        let is_new = known.done == 0;
        known.join(more);
        if is_new {
            kept.order.push_back((now, hash));
        }
        self.count.store(kept.order.len(), Ordering::Release);
    }
}

impl Kept {
    /// Forgets what is old, and the oldest beyond `limit`.
    fn expire(&mut self, now: Instant, limit: usize) {
        while let Some((since, old)) = self.order.front().copied()
            && (now.duration_since(since) > REMEMBERED || self.order.len() > limit)
        {
            self.order.pop_front();
            self.taken.remove(&old);
        }
    }
}

/// What a request still has to do with its exporters.
pub(super) struct Forwarding<'a> {
    pub(super) outlets: &'a [Arc<Outlet>],
    pub(super) telemetry: Telemetry,
}

/// How forwarding ended.
pub(super) struct Forwarded {
    pub(super) outcome: Result<Taken, Refusal>,
    /// From now and before.
    known: Known,
}

impl Forwarding<'_> {
    /// Gives it to every exporter that had not taken it. While that waits it holds its part of the budget.
    pub(super) async fn run(&self, memory: &Memory, budget: &Budget, deadline: Instant) -> Forwarded {
        let mut known = memory.recall(&self.telemetry, Instant::now());
        let before = known.done;
        let shares_body = self.telemetry.frame.bytes.as_ptr() == self.telemetry.body.as_ptr();
        let body = if shares_body { 0 } else { self.telemetry.body.len() };
        let waiting = match budget.try_forward((self.telemetry.frame.bytes.len() + body) as u64) {
            Ok(waiting) => waiting,
            Err(refusal) => return Forwarded { outcome: Err(refusal), known },
        };
        let open = |outlet: &&Arc<Outlet>| outlet.bit == 0 || before & outlet.bit == 0;
        let outcomes = match self.outlets {
            [only] if before == 0 => vec![(only, only.export(&self.telemetry, deadline).await)],
            outlets => {
                let each = outlets.iter().filter(open);
                join_all(each.map(async |outlet| (outlet, outlet.export(&self.telemetry, deadline).await)))
                    .await
            }
        };
        drop(waiting);
        let mut whole = Ok(Taken::default());
        for (_, said) in known.said.iter().filter(|(bit, _)| self.outlets.iter().any(|one| one.bit == *bit)) {
            whole = worst(whole, said.clone());
        }
        for (outlet, outcome) in outcomes {
            if outcome.as_ref().map_or_else(|refusal| !refusal.is_retryable(), |_| true) {
                known.add(outlet.bit, &outcome);
            }
            whole = worst(whole, outcome);
        }
        Forwarded { outcome: whole, known }
    }

    /// The sender is told to come back: remembers who has it already.
    pub(super) fn remember(&self, memory: &Memory, forwarded: &Forwarded) {
        memory.remember(&self.telemetry, &forwarded.known, Instant::now());
    }
}

/// Later beats never, never beats taken: while one exporter may still take the request it has to come again, and those that
/// refused it for good are not asked twice. Of two times to come back the later holds; partial successes add their words.
pub(super) fn worst(one: Result<Taken, Refusal>, other: Result<Taken, Refusal>) -> Result<Taken, Refusal> {
    match (one, other) {
        (Ok(one), Ok(other)) => {
            let mut words: Vec<String> = [one.message, other.message].into();
            words.retain(|message| !message.is_empty());
            words.dedup();
            Ok(Taken { rejected: one.rejected.max(other.rejected), share: 0, message: words.join("; ") })
        }
        (
            Err(Refusal::Unavailable { retry_after: one, reason }),
            Err(Refusal::Unavailable { retry_after: other, reason: also }),
        ) => {
            let reason = if other > one { also } else { reason };
            Err(Refusal::Unavailable { retry_after: one.max(other), reason })
        }
        (Err(later @ Refusal::Unavailable { .. }), _) | (_, Err(later @ Refusal::Unavailable { .. })) => {
            Err(later)
        }
        (Err(never @ Refusal::Rejected { .. }), _) | (_, Err(never @ Refusal::Rejected { .. })) => Err(never),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::batch::{Compression, Content, Frame};

    fn telemetry(number: usize) -> Telemetry {
        let body = Bytes::from(number.to_string());
        let frame = Frame { content: Content::Protobuf, compression: Compression::None, bytes: body.clone() };
        Telemetry { signal: Signal::Logs, frame, body, records: 1 }
    }

    fn known(done: u64) -> Known {
        Known { done, said: Vec::new() }
    }

    #[test]
    fn who_took_a_request_is_remembered_for_a_quarter_of_an_hour() {
        let memory = Memory::default();
        let now = Instant::now();
        memory.remember(&telemetry(1), &known(0b01), now);
        memory.remember(&telemetry(1), &known(0b10), now);
        assert_eq!(memory.recall(&telemetry(1), now + REMEMBERED).done, 0b11);
        assert_eq!(memory.recall(&telemetry(2), now).done, 0);
        assert_eq!(memory.recall(&telemetry(1), now + REMEMBERED + Duration::from_secs(1)).done, 0);
        assert_eq!(memory.count.load(Ordering::Relaxed), 0, "then it costs nothing again");
    }

    #[test]
    fn a_bit_that_gets_another_owner_says_nothing_of_the_old_one() {
        let memory = Memory::default();
        let now = Instant::now();
        memory.remember(&telemetry(1), &known(0b01), now);
        memory.remember(&telemetry(2), &known(0b11), now);
        memory.forget(0b01);
        assert_eq!(
            (memory.recall(&telemetry(1), now).done, memory.recall(&telemetry(2), now).done),
            (0, 0b10)
        );
        assert_eq!(memory.count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_an_exporter_said_is_forgotten_with_it_and_shortened() {
        let memory = Memory::default();
        let now = Instant::now();
        let mut known = Known::default();
        let long = "é".repeat(WORDS_MAX);
        known.add(0b01, &Err(Refusal::malformed(long.clone())));
        known.add(0b10, &Ok(Taken { rejected: 2, share: 0, message: long }));
        known.add(0b100, &Ok(Taken::default()));
        memory.remember(&telemetry(1), &known, now);
        memory.remember(&telemetry(1), &known, now);
        let recalled = memory.recall(&telemetry(1), now);
        let bits: Vec<u64> = recalled.said.iter().map(|(bit, _)| *bit).collect();
        assert_eq!((recalled.done, bits), (0b111, vec![0b01, 0b10]));
        let words = recalled.said.iter().map(|(_, said)| match said {
            Ok(taken) => taken.message.len(),
            Err(refusal) => refusal.to_string().matches('é').count() * 2,
        });
        assert_eq!(words.collect::<Vec<_>>(), [WORDS_MAX, WORDS_MAX]);
        memory.forget(0b01);
        assert_eq!(memory.recall(&telemetry(1), now).said.len(), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let memory = Memory::default();
        let now = Instant::now();
        for number in 0..=MAX_REMEMBERED {
            memory.remember(&telemetry(number), &known(1), now);
        }
        assert_eq!(memory.count.load(Ordering::Relaxed), MAX_REMEMBERED);
        assert_eq!((memory.recall(&telemetry(0), now).done, memory.recall(&telemetry(1), now).done), (0, 1));
    }
}
