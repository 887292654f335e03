//! A log without disk, for `service.storage: none`: the last frames only.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;

use super::{Frame, Gap, Item, Limits};

/// What writer and readers share.
#[derive(Debug)]
pub(super) struct Shared {
    state: RwLock<Kept>,
}

#[derive(Debug)]
struct Kept {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// The index after the last visible frame.
    visible: u64,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Kept> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest index that is kept.
    pub fn first(&self) -> u64 {
        let kept = self.read();
        kept.frames.front().map_or(kept.visible, |frame| frame.index)
    }

    /// The index after the last visible frame.
    pub fn visible(&self) -> u64 {
        self.read().visible
    }

    /// The frame at `index`, or the gap that begins there; none when it is not visible yet.
    pub fn at(&self, index: u64) -> Option<Item> {
        let kept = self.read();
        if index >= kept.visible {
            return None;
        }
        let place = kept.frames.partition_point(|frame| frame.index < index);
        match kept.frames.get(place) {
            Some(frame) if frame.index == index => Some(Item::Frame(frame.clone())),
            Some(frame) => Some(Item::Gap(Gap { from: index, to: frame.index })),
            None => Some(Item::Gap(Gap { from: index, to: kept.visible })),
        }
    }
}

/// The writer.
#[derive(Debug)]
pub(super) struct Memory {
    shared: Arc<Shared>,
    pending: Vec<Frame>,
    next: u64,
    limits: Limits,
}

impl Memory {
    pub fn new(first: u64, limits: Limits) -> Memory {
        let kept = Kept { frames: VecDeque::new(), bytes: 0, visible: first };
        let shared = Arc::new(Shared { state: RwLock::new(kept) });
        Memory { shared, pending: Vec::new(), next: first, limits }
    }

    pub fn append(&mut self, parts: &[&[u8]]) -> u64 {
        let index = self.next;
        self.pending.push(Frame { index, bytes: Bytes::from(parts.concat()) });
        self.next += 1;
        index
    }

    pub fn flush(&mut self) {
        let mut kept = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
        for frame in self.pending.drain(..) {
            kept.bytes += frame.bytes.len();
            kept.frames.push_back(frame);
        }
        while kept.frames.len() > 1
            && (kept.frames.len() > self.limits.frames || kept.bytes > self.limits.bytes)
        {
            let gone = kept.frames.pop_front().map_or(0, |frame| frame.bytes.len());
            kept.bytes -= gone;
        }
        kept.visible = self.next;
    }

    pub fn skip_to(&mut self, index: u64) {
        self.flush();
        self.next = self.next.max(index);
        self.flush();
    }

    pub fn trim_before(&self, index: u64) {
        let mut kept = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
        while kept.frames.front().is_some_and(|frame| frame.index < index) {
            let gone = kept.frames.pop_front().map_or(0, |frame| frame.bytes.len());
            kept.bytes -= gone;
        }
    }

    pub fn first(&self) -> u64 {
        self.shared.first()
    }

    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn bytes(&self) -> u64 {
        self.shared.read().bytes as u64
    }

    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}
