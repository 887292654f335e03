//! The requests that were folded in the last quarter of an hour of logged time, so that a repeat is folded once.
//!
//! The set is checkpointed in blocks: each checkpoint writes one value with what came since the one before, and removes the
//! blocks that hold nothing any more. So a checkpoint costs what is new, not what is there.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use anyhow::Context as _;
use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;

use crate::batch::RequestHash;
use crate::checkpoint::KeyedState;
use crate::clock::Timestamp;
use crate::entry::{Entry, Event, EvidenceEvent, Request};

const KEPT: Duration = Duration::from_secs(15 * 60);
const MAX_REQUESTS: usize = 200_000;
const RECORD_BYTES: usize = 24;

/// The set. What it says depends on the entries alone.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    known: HashSet<RequestHash>,
    /// Oldest first: when it was logged, what, and in which block it is or will be.
    order: VecDeque<(Timestamp, RequestHash, u64)>,
    /// The block that the next checkpoint writes.
    block: u64,
    /// The oldest block that is written.
    oldest: u64,
}

fn key(block: u64) -> Vec<u8> {
    let mut key = b"repeats/".to_vec();
    key.extend(block.to_be_bytes());
    key
}

impl Repeats {
    /// Whether `hash` was seen already; remembers it otherwise.
    fn is_repeat(&mut self, hash: RequestHash, at: Timestamp) -> bool {
        while let Some((first, old, _)) = self.order.front()
            && (at.since(*first) > KEPT || self.order.len() >= MAX_REQUESTS)
        {
            self.known.remove(old);
            self.order.pop_front();
        }
        if !self.known.insert(hash) {
            return true;
        }
        self.order.push_back((at, hash, self.block));
        false
    }

    /// The entry without the rows of repeats, and how many requests were repeats; none when nothing is left of it.
    pub(super) fn filter(&mut self, entry: Entry) -> anyhow::Result<(Option<Entry>, u64)> {
        let Entry { offset, time, event } = entry;
        let EvidenceEvent { requests, batch } = match event {
            Event::Evidence(evidence) => evidence,
            event @ (Event::Alerts(_)
            | Event::Tick
            | Event::Epoch(_)
            | Event::Decision(_)
            | Event::Skip { .. }) => return Ok((Some(Entry { offset, time, event }), 0)),
        };
        let fresh: Vec<bool> = requests.iter().map(|request| !self.is_repeat(request.hash, time)).collect();
        let repeats = fresh.iter().filter(|fresh| !**fresh).count() as u64;
        if repeats == 0 {
            let event = Event::Evidence(EvidenceEvent { requests, batch });
            return Ok((Some(Entry { offset, time, event }), 0));
        }
        if repeats == requests.len() as u64 {
            return Ok((None, repeats));
        }
        let both = || requests.iter().zip(&fresh);
        let keep: Vec<bool> =
            both().flat_map(|(request, fresh)| std::iter::repeat_n(*fresh, request.rows as usize)).collect();
        anyhow::ensure!(keep.len() == batch.num_rows(), "the requests of an entry do not cover its rows");
        let batch = filter_record_batch(&batch, &BooleanArray::from(keep))?;
        let requests: Vec<Request> =
            both().filter(|(_, fresh)| **fresh).map(|(request, _)| *request).collect();
        let event = Event::Evidence(EvidenceEvent { requests, batch });
        Ok((Some(Entry { offset, time, event }), repeats))
    }

    /// Writes what came since the last call and removes blocks of which nothing is left.
    pub(super) fn checkpoint(&mut self, state: &mut dyn KeyedState) -> anyhow::Result<()> {
        let mut value = Vec::new();
        let newest = self.order.iter().rev().take_while(|(_, _, block)| *block == self.block);
        for (at, hash, _) in newest {
            value.extend(at.as_nanos().to_be_bytes());
            value.extend(hash.0);
        }
        if !value.is_empty() {
            state.put(&key(self.block), &value)?;
            self.block += 1;
        }
        let still = self.order.front().map_or(self.block, |(_, _, block)| *block);
        for block in self.oldest..still {
            state.remove(&key(block))?;
        }
        self.oldest = still;
        Ok(())
    }

    /// The set as the last checkpoint left it. Blocks may hold a few that were forgotten before; the next request forgets them
    /// again, because the limits are the same.
    pub(super) fn restore(state: &dyn KeyedState) -> anyhow::Result<Repeats> {
        let mut set = Repeats::default();
        let mut first = None;
        let mut records = Vec::new();
        state.scan(b"repeats/", &mut |key, value| {
            let number = key.get(b"repeats/".len()..).and_then(|number| number.try_into().ok());
            let block = u64::from_be_bytes(number.context("a key of the repeats is damaged")?);
            anyhow::ensure!(value.len() % RECORD_BYTES == 0, "block {block} of the repeats is damaged");
            for record in value.rchunks(RECORD_BYTES) {
                let (at, hash) = record.split_at(8);
                let at = Timestamp::from_nanos(i64::from_be_bytes(at.try_into()?));
                records.push((at, RequestHash(hash.try_into()?), block));
            }
            first.get_or_insert(block);
            set.block = block + 1;
            Ok(())
        })?;
        // One that was forgotten and came again stands where it came last.
        for record in records.into_iter().rev() {
            if set.known.insert(record.1) {
                set.order.push_front(record);
            }
        }
        set.oldest = first.unwrap_or(0);
        Ok(set)
    }
}
