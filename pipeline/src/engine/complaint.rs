//! When a trouble is worth a line in the log, and when its end is: each at most once a minute, for under load one outcome may
//! follow the other many times a second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const SAID_EVERY: Duration = Duration::from_secs(60);

/// Says when it is time.
#[derive(Default)]
pub(super) struct Complaint {
    is_said: AtomicBool,
    last: Mutex<Option<Instant>>,
}

impl Complaint {
    /// What is worth a line now.
    pub(super) fn note(&self, is_good: bool, now: Instant) -> bool {
        if is_good {
            return self.is_said.load(Ordering::Relaxed) && self.is_said.swap(false, Ordering::Relaxed);
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| now.duration_since(last) >= SAID_EVERY);
        if is_due {
            *last = Some(now);
            self.is_said.store(true, Ordering::Relaxed);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_a_minute_and_its_end_once() {
        let complaint = Complaint::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let said = [
            (true, 0),
            (false, 1),
            (false, 2),
            (true, 3),
            (true, 4),
            (false, 5),
            (true, 6),
            (false, 61),
            (true, 62),
        ]
        .map(|(is_good, seconds)| complaint.note(is_good, at(seconds)));
        assert_eq!(said, [false, true, false, true, false, false, false, true, true]);
    }
}
