//! How much waits, and whether more may.

use std::ops::{AddAssign, Sub, SubAssign};
use std::sync::{Mutex, MutexGuard, PoisonError};

use homeostat_pipeline::refusal::{Cause, Refusal};
use metrics::{Gauge, gauge};
use tokio::sync::Notify;

use super::super::settings::{Capacity, Sizer};

/// A number of requests, counted three ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Requests.
    pub requests: u64,
    /// Spans, data points, log records.
    pub items: u64,
    /// Bytes as they are kept.
    pub bytes: u64,
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Size) {
        self.requests += other.requests;
        self.items += other.items;
        self.bytes += other.bytes;
    }
}

impl Sub for Size {
    type Output = Size;
    fn sub(self, other: Size) -> Size {
        Size {
            requests: self.requests.saturating_sub(other.requests),
            items: self.items.saturating_sub(other.items),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

impl SubAssign for Size {
    fn sub_assign(&mut self, other: Size) {
        *self = *self - other;
    }
}

impl Size {
    fn units(self, sizer: Sizer) -> u64 {
        match sizer {
            Sizer::Requests => self.requests,
            Sizer::Items => self.items,
            Sizer::Bytes => self.bytes,
        }
    }
}

/// What waits, and the bounds.
#[derive(Debug)]
pub struct Room {
    state: Mutex<State>,
    /// Some of what waited is gone.
    pub freed: Notify,
    size: Gauge,
    capacity: Gauge,
}

#[derive(Debug)]
struct State {
    waiting: Size,
    capacity: Capacity,
}

impl Room {
    /// For the exporter `id`, in whose queue `waiting` is already.
    pub fn new(id: &str, capacity: Capacity, waiting: Size) -> Room {
        let room = Room {
            state: Mutex::new(State { waiting, capacity }),
            freed: Notify::new(),
            size: gauge!("otelcol_exporter_queue_size", "exporter" => id.to_owned()),
            capacity: gauge!("otelcol_exporter_queue_capacity", "exporter" => id.to_owned()),
        };
        room.bound(capacity);
        room
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other bounds hold from now on; what waits stays.
    pub fn bound(&self, capacity: Capacity) {
        let mut state = self.state();
        state.capacity = capacity;
        self.capacity.set(capacity.units as f64);
        self.size.set(state.waiting.units(capacity.sizer) as f64);
    }

    /// The bounds.
    pub fn capacity(&self) -> Capacity {
        self.state().capacity
    }

    /// What waits.
    pub fn waiting(&self) -> Size {
        self.state().waiting
    }

    /// Takes room for `size`.
    ///
    /// # Errors
    /// `Unavailable` when there is not enough now; `Rejected` when there never is.
    pub fn take(&self, size: Size) -> Result<(), Refusal> {
        let mut state = self.state();
        let State { waiting, capacity } = *state;
        let (own, unit) = (size.units(capacity.sizer), name(capacity.sizer));
        if own > capacity.units || size.bytes > capacity.bytes {
            let Capacity { units, bytes, .. } = capacity;
            let reason =
                format!("the request is larger than the whole queue ({units} {unit}, at most {bytes} bytes)");
            return Err(Refusal::rejected(Cause::TooLarge, reason));
        }
        let units = waiting.units(capacity.sizer) + own;
        if units > capacity.units || waiting.bytes + size.bytes > capacity.bytes {
            let reason = format!(
                "the queue is full: {} {unit} and {} bytes wait of {} and {} (`sending_queue`)",
                units - own,
                waiting.bytes,
                capacity.units,
                capacity.bytes
            );
            return Err(Refusal::busy(reason));
        }
        state.waiting += size;
        self.size.set(units as f64);
        Ok(())
    }

    /// Gives room back.
    pub fn give_back(&self, size: Size) {
        let mut state = self.state();
        state.waiting -= size;
        self.size.set(state.waiting.units(state.capacity.sizer) as f64);
        drop(state);
        self.freed.notify_waiters();
    }
}

fn name(sizer: Sizer) -> &'static str {
    match sizer {
        Sizer::Requests => "requests",
        Sizer::Items => "records",
        Sizer::Bytes => "bytes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sizer: Sizer, units: u64, bytes: u64, expected: [Option<bool>; 3]) {
        let size = Size { requests: 1, items: 10, bytes: 100 };
        let room = Room::new("otlp/test", Capacity { sizer, units, bytes }, Size::default());
        let answers = [(); 3].map(|()| room.take(size).err().map(|refusal| refusal.is_retryable()));
        assert_eq!(answers, expected, "{sizer:?} {units} {bytes}");
        if expected[0].is_none() {
            room.give_back(size);
            assert_eq!(room.take(size), Ok(()), "what is given back can be taken again");
        }
    }

    #[test]
    fn a_queue_is_full_in_the_units_that_it_counts_and_in_bytes() {
        check(Sizer::Requests, 2, 1_000, [None, None, Some(true)]);
        check(Sizer::Items, 20, 1_000, [None, None, Some(true)]);
        check(Sizer::Items, 15, 1_000, [None, Some(true), Some(true)]);
        check(Sizer::Bytes, 200, 1_000, [None, None, Some(true)]);
        check(Sizer::Requests, 9, 250, [None, None, Some(true)]);
        check(Sizer::Items, 9, 1_000, [Some(false); 3]);
        check(Sizer::Requests, 9, 99, [Some(false); 3]);
    }
}
