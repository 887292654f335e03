//! The requests that were folded in the last quarter of an hour of logged time, so that a repeat is folded once.
//!
//! The set is checkpointed in blocks: each checkpoint writes one value with what came since the one before, and removes the
//! blocks that hold nothing any more. So a checkpoint costs what is new, not what is there.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use anyhow::Context as _;

use crate::batch::RequestHash;
use crate::checkpoint::KeyedState;
use crate::clock::Timestamp;
use crate::entry::{Entry, Event, EvidenceEvent, Request};
use crate::evidence::schema;

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
        while self.order.front().is_some_and(|(first, ..)| at.since(*first) > KEPT) {
            self.forget_oldest();
        }
        if self.known.contains(&hash) {
            return true;
        }
        if self.order.len() >= MAX_REQUESTS {
            self.forget_oldest();
        }
        self.known.insert(hash);
        self.order.push_back((at, hash, self.block));
        false
    }

    fn forget_oldest(&mut self) {
        if let Some((_, oldest, _)) = self.order.pop_front() {
            self.known.remove(&oldest);
        }
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
        let batch = schema::keep(&batch, keep)?;
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

    /// The set as the last checkpoint left it. Blocks may hold a few that were forgotten before; the same limits forget them
    /// again, at the latest with the next request.
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
        while set.order.len() > MAX_REQUESTS {
            set.forget_oldest();
        }
        set.oldest = first.unwrap_or(0);
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What a checkpoint would hold.
    #[derive(Default)]
    struct Kept(BTreeMap<Vec<u8>, Vec<u8>>);

    impl KeyedState for Kept {
        fn get(&self, key: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
            Ok(self.0.get(key).cloned())
        }

        fn put(&mut self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
            self.0.insert(key.to_vec(), value.to_vec());
            Ok(())
        }

        fn remove(&mut self, key: &[u8]) -> anyhow::Result<()> {
            self.0.remove(key);
            Ok(())
        }

        fn scan(
            &self,
            prefix: &[u8],
            visit: &mut dyn FnMut(&[u8], &[u8]) -> anyhow::Result<()>,
        ) -> anyhow::Result<()> {
            self.0
                .iter()
                .filter(|(key, _)| key.starts_with(prefix))
                .try_for_each(|(key, value)| visit(key, value))
        }
    }

    fn hash(number: u8) -> RequestHash {
        RequestHash([number; 16])
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_request_is_forgotten_after_a_quarter_of_an_hour() {
        let mut repeats = Repeats::default();
        assert!(!repeats.is_repeat(hash(1), at(0)));
        assert!(repeats.is_repeat(hash(1), at(900)));
        assert!(!repeats.is_repeat(hash(1), at(901)));
    }

    #[test]
    fn the_set_is_bounded_and_forgets_the_oldest_first() {
        let mut repeats = Repeats::default();
        let numbered = |number: u32| {
            let mut hash = [0; 16];
            hash[..4].copy_from_slice(&number.to_be_bytes());
            RequestHash(hash)
        };
        let many = u32::try_from(MAX_REQUESTS).unwrap() + 1;
        assert!((0..many).all(|number| !repeats.is_repeat(numbered(number), at(0))));
        assert_eq!((repeats.known.len(), repeats.order.len()), (MAX_REQUESTS, MAX_REQUESTS));
        assert!(repeats.is_repeat(numbered(1), at(0)));
        assert!(!repeats.is_repeat(numbered(0), at(0)));
    }

    #[test]
    fn the_rows_of_a_repeat_are_cut_out_of_its_commit() {
        let mut rows = crate::evidence::Rows::new();
        for req in ["REQ-A", "REQ-B", "REQ-C"] {
            let req = rows.intern(req);
            rows.push(crate::engine::tests::row(req));
        }
        let batch = schema::build(&[&rows]).unwrap();
        let requests = [1, 2, 3].map(|number| Request { hash: hash(number), rows: 1 }).to_vec();
        let entry = || Entry {
            offset: crate::entry::Offset(0),
            time: at(0),
            event: Event::Evidence(EvidenceEvent { requests: requests.clone(), batch: batch.clone() }),
        };
        let mut repeats = Repeats::default();
        assert!(!repeats.is_repeat(hash(2), at(0)));
        let (left, count) = repeats.filter(entry()).unwrap();
        let Some(Entry { event: Event::Evidence(left), .. }) = left else { panic!("no evidence is left") };
        let columns = crate::evidence::columns::Columns::new(&left.batch).unwrap();
        let reqs: Vec<_> = (0..columns.len()).map(|row| columns.req(row).unwrap()).collect();
        assert_eq!((reqs, left.requests.len(), count), (vec!["REQ-A", "REQ-C"], 2, 1));
        let (left, count) = repeats.filter(entry()).unwrap();
        assert!(left.is_none());
        assert_eq!(count, 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn restoring_at_any_point_changes_no_answer(
            steps in proptest::collection::vec((0u8..20, 0u64..400, any::<bool>(), any::<bool>()), 1..120),
        ) {
            let mut live = Repeats::default();
            let mut restarted = Repeats::default();
            let mut kept = Kept::default();
            let mut seen: BTreeMap<u8, u64> = BTreeMap::new();
            let mut now = 0;
            for (number, passed, checkpoints, restarts) in steps {
                now += passed;
                let expected = seen.get(&number).is_some_and(|first| now - first <= 900);
                if !expected {
                    seen.insert(number, now);
                }
                prop_assert_eq!(live.is_repeat(hash(number), at(now)), expected);
                prop_assert_eq!(restarted.is_repeat(hash(number), at(now)), expected);
                if checkpoints {
                    restarted.checkpoint(&mut kept).unwrap();
                    if restarts {
                        restarted = Repeats::restore(&kept).unwrap();
                    }
                }
            }
            restarted.checkpoint(&mut kept).unwrap();
            let records: usize = kept.0.values().map(|value| value.len() / RECORD_BYTES).sum();
            prop_assert!(records >= restarted.order.len());
            let oldest = kept.0.first_key_value().map(|(key, _)| key.clone());
            let first = restarted.order.front().map(|(_, _, block)| super::key(*block));
            prop_assert_eq!(oldest, first, "blocks of which nothing is left are removed");
        }
    }
}
