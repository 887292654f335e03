//! `sending_queue` in the Collector's form, as far as a queue on disk has its keys.

use homeostat_pipeline::settings::{At, Period, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `queue_size` where requests are counted: the Collector's.
const REQUESTS: u64 = 1_000;
/// `max_mib` where it is left out.
const MIB: u64 = 1_024;
/// What a queue in memory may hold; the memory budget holds it to less.
const MEMORY_MIB: u64 = 64;

/// Requests are written to disk, and that is the acceptance; they go to the backend afterwards, however long it takes.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SendingQueue {
    /// True where the block is written.
    pub enabled: bool,
    /// Requests under way to the backend at a time; 10 where it is left out.
    pub num_consumers: Option<At<u32>>,
    /// What `queue_size` counts; `requests` where only that is written, `bytes` where neither is.
    pub sizer: Option<Sizer>,
    /// The most that waits, in units of `sizer`; 1,000 requests, or as many bytes as `max_mib` says.
    pub queue_size: Option<At<u64>>,
    /// True: a sender waits for room until its deadline. False: it is told at once to come back.
    pub block_on_overflow: bool,
    /// What the queue's files may take, in MiB; 1,024 where it is left out.
    pub max_mib: Option<At<u64>>,
    /// Requests that wait longer are given up; never where it is left out or 0.
    pub max_age: Period,
}

/// How the size of a queue is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sizer {
    /// Requests.
    Requests,
    /// Spans, data points, log records.
    Items,
    /// Bytes as they are kept.
    Bytes,
}

impl Default for SendingQueue {
    fn default() -> SendingQueue {
        SendingQueue {
            enabled: true,
            num_consumers: None,
            sizer: None,
            queue_size: None,
            block_on_overflow: false,
            max_mib: None,
            max_age: Period::default(),
        }
    }
}

/// The most that a queue may hold; every bound counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// What `units` counts.
    pub sizer: Sizer,
    /// The most that waits.
    pub units: u64,
    /// The most that its files, or in memory its requests, may take.
    pub bytes: u64,
}

impl SendingQueue {
    /// Requests under way at a time.
    pub fn consumers(&self) -> usize {
        self.num_consumers.as_ref().map_or(10, |count| count.value as usize)
    }

    /// The bounds, on disk or in memory.
    pub fn capacity(&self, is_on_disk: bool) -> Capacity {
        let default_mib = if is_on_disk { MIB } else { MEMORY_MIB };
        let bytes = self.max_mib.as_ref().map_or(default_mib, |mib| mib.value) << 20;
        let written = self.queue_size.as_ref().map(|size| size.value);
        let sizer = match (self.sizer, written) {
            (Some(sizer), _) => sizer,
            (None, Some(_)) => Sizer::Requests,
            (None, None) => Sizer::Bytes,
        };
        let default = if sizer == Sizer::Requests { REQUESTS } else { bytes };
        Capacity { sizer, units: written.unwrap_or(default), bytes }
    }

    /// Everything wrong with it.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(count) = &self.num_consumers
            && !(1..=1_000).contains(&count.value)
        {
            problems.push(Problem::error(&count.at, "`num_consumers` is from 1 to 1000"));
        }
        if let Some(mib) = &self.max_mib
            && !(1..=1 << 20).contains(&mib.value)
        {
            problems.push(Problem::error(&mib.at, "`max_mib` is from 1 to 1048576"));
        }
        match &self.queue_size {
            Some(size) if size.value == 0 => {
                problems.push(Problem::error(&size.at, "`queue_size` is at least 1"));
            }
            None if self.sizer == Some(Sizer::Items) => problems.push(Problem::somewhere(
                "`sizer: items` of `sending_queue` needs a `queue_size`: write how many records may wait",
            )),
            Some(_) | None => {}
        }
        problems
    }
}
