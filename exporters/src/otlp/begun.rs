//! Requests of which a backend took parts before time was over: when such a one comes again, only the rest of it is sent.
//!
//! What is kept is how it was cut and which parts are done, never a part: cutting the same request in the same way gives the
//! same parts. It is kept for a quarter of an hour, of the last thousand.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use homeostat_pipeline::batch::{RequestHash, Telemetry};
use tokio::time::Instant;

use super::sending::{Sending, Trail};

const REMEMBERED: Duration = Duration::from_mins(15);
const MAX_REMEMBERED: usize = 1_000;

/// What one exporter remembers. Empty as long as nothing fails, and then it costs one load of a counter.
#[derive(Default)]
pub struct Begun {
    count: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    trails: HashMap<RequestHash, Trail>,
    order: VecDeque<(Instant, RequestHash)>,
}

impl Begun {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far this request came before.
    pub fn take(&self, telemetry: &Telemetry, now: Instant) -> Option<Trail> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let hash = telemetry.hash();
        let mut kept = self.kept();
        kept.expire(now, MAX_REMEMBERED);
        let trail = kept.trails.remove(&hash);
        if trail.is_some() {
            kept.order.retain(|(_, other)| *other != hash);
        }
        self.count.store(kept.order.len(), Ordering::Release);
        trail
    }

    /// It came so far.
    pub fn keep(&self, telemetry: &Telemetry, trail: Trail, now: Instant) {
        let hash = telemetry.hash();
        let mut kept = self.kept();
        kept.expire(now, MAX_REMEMBERED - 1);
        if kept.trails.insert(hash, trail).is_none() {
            kept.order.push_back((now, hash));
        }
        self.count.store(kept.order.len(), Ordering::Release);
    }

    /// While `sending` is under way: when it ends half way, or nobody waits for it any more, it is remembered.
    pub fn follow<'a>(&'a self, telemetry: &'a Telemetry, sending: Sending) -> Followed<'a> {
        Followed { begun: self, telemetry, sending }
    }
}

impl Kept {
    /// Forgets what is old, and the oldest beyond `limit`.
    fn expire(&mut self, now: Instant, limit: usize) {
        while let Some((since, old)) = self.order.front().copied()
            && (now.duration_since(since) > REMEMBERED || self.order.len() > limit)
        {
            self.order.pop_front();
            self.trails.remove(&old);
        }
    }
}

/// A request that is being sent.
pub struct Followed<'a> {
    begun: &'a Begun,
    telemetry: &'a Telemetry,
    /// How far it is.
    pub sending: Sending,
}

impl Drop for Followed<'_> {
    fn drop(&mut self) {
        if let Some(trail) = self.sending.trail() {
            self.begun.keep(self.telemetry, trail, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use homeostat_pipeline::batch::{Compression, Content, Frame, Signal};

    use super::*;

    fn telemetry(number: usize) -> Telemetry {
        let body = Bytes::from(number.to_string());
        let frame = Frame { content: Content::Protobuf, compression: Compression::None, bytes: body.clone() };
        Telemetry { signal: Signal::Logs, frame, body, records: 1 }
    }

    #[test]
    fn what_is_remembered_is_taken_once_and_is_bounded_in_time_and_number() {
        let (begun, now) = (Begun::default(), Instant::now());
        begun.keep(&telemetry(1), Trail::default(), now);
        begun.keep(&telemetry(1), Trail::default(), now);
        assert!(begun.take(&telemetry(2), now).is_none());
        assert!(begun.take(&telemetry(1), now + REMEMBERED).is_some());
        assert!(begun.take(&telemetry(1), now).is_none());
        begun.keep(&telemetry(1), Trail::default(), now);
        assert!(begun.take(&telemetry(1), now + REMEMBERED + Duration::from_secs(1)).is_none());
        for number in 0..=MAX_REMEMBERED {
            begun.keep(&telemetry(number), Trail::default(), now);
        }
        assert_eq!(begun.count.load(Ordering::Relaxed), MAX_REMEMBERED);
        assert!(begun.take(&telemetry(0), now).is_none() && begun.take(&telemetry(1), now).is_some());
    }
}
