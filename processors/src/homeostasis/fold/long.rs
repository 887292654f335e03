//! What is remembered of a measure beyond its panes: when it was last seen, and sums by the hour or the day for windows of weeks
//! and calendar months. A pane adds to them once, when nothing can correct it any more; until then it stands for itself.

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::codec::{Reader, Writer};
use super::super::model::Statistic;
use super::super::units::Unit;

/// Windows up to this are remembered by the hour, longer ones and months by the day.
const HOURLY_MAX: Duration = Duration::from_secs(7 * 86_400);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Days are kept for the longest month, and the day on which it ends.
const KEPT: Duration = Duration::from_secs(32 * 86_400);

/// What observations of any time add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Observations.
    pub samples: u64,
    /// How much they count.
    pub amount: f64,
    /// How much of that failed; of a ratio, was not good.
    pub failed: f64,
    /// Minutes in which most succeeded.
    pub up: u64,
    /// Minutes in which most failed.
    pub down: u64,
    /// The sum of what was reported as the measure itself, in its unit.
    pub reported: f64,
    /// How many reports.
    pub reports: u64,
}

impl Sums {
    /// Takes in others.
    pub fn add(&mut self, other: &Sums) {
        self.samples = self.samples.saturating_add(other.samples);
        self.amount += other.amount;
        self.failed += other.failed;
        self.up += other.up;
        self.down += other.down;
        self.reported += other.reported;
        self.reports = self.reports.saturating_add(other.reports);
    }

    /// The measure, in its unit, over a window that is `size` long. None where nothing says it.
    #[expect(clippy::cast_precision_loss, reason = "counts of a month are far below 2^53")]
    pub fn value(&self, statistic: Statistic, unit: Unit, size: Duration) -> Option<f64> {
        let share = |part: f64, whole: f64| Unit::RATIO.convert(part / whole, unit);
        let mean = (self.reports > 0).then(|| self.reported / self.reports as f64);
        let value = match statistic {
            Statistic::Downtime if self.reports > 0 => Some(self.reported),
            Statistic::Downtime => Unit::MINUTES.convert(self.down as f64, unit),
            Statistic::Sum => Some(self.reported),
            _ if mean.is_some() => mean,
            Statistic::Uptime => share(self.up as f64, (self.up + self.down) as f64),
            Statistic::ErrorRate => share(self.failed, self.amount),
            Statistic::SuccessRate | Statistic::Ratio => share(self.amount - self.failed, self.amount),
            Statistic::Rate => Unit::PER_SECOND.convert(self.amount / size.as_secs_f64(), unit),
            Statistic::Count => Some(self.amount),
            Statistic::ErrorCount => Some(self.failed),
            Statistic::Quantile(_) | Statistic::Mean | Statistic::Min | Statistic::Max => None,
        };
        value.filter(|value| value.is_finite())
    }

    /// Appends their bytes.
    pub fn encode(&self, out: &mut Writer) {
        for count in [self.samples, self.up, self.down, self.reports] {
            out.unsigned(count);
        }
        for sum in [self.amount, self.failed, self.reported] {
            out.float(sum);
        }
    }

    /// Reads what [`Sums::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn decode(bytes: &mut Reader<'_>) -> anyhow::Result<Sums> {
        let [samples, up, down, reports] =
            [bytes.unsigned()?, bytes.unsigned()?, bytes.unsigned()?, bytes.unsigned()?];
        let [amount, failed, reported] = [bytes.float()?, bytes.float()?, bytes.float()?];
        Ok(Sums { samples, amount, failed, up, down, reported, reports })
    }
}

/// One measure of one subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Long {
    /// Since when it is watched.
    pub since: Timestamp,
    /// The end of the latest pane with observations; none before the first.
    pub seen: Option<Timestamp>,
    /// Start, in seconds since the epoch → what was seen from there on.
    sums: BTreeMap<i64, Sums>,
}

impl Long {
    /// Nothing was seen yet.
    pub const fn new(since: Timestamp) -> Long {
        Long { since, seen: None, sums: BTreeMap::new() }
    }

    /// The length of the buckets for a window of `length`; a calendar month is longer than any.
    pub fn bucket(length: Duration) -> Duration {
        if length <= HOURLY_MAX { HOUR } else { DAY }
    }

    /// Takes in a pane that nothing can correct any more.
    pub fn settle(&mut self, start: Timestamp, sums: &Sums, bucket: Duration) {
        self.sums.entry(seconds(start.floor(bucket))).or_default().add(sums);
    }

    /// All from `from` on.
    pub fn from(&self, from: Timestamp) -> Sums {
        let mut all = Sums::default();
        self.sums.range(seconds(from)..).for_each(|(_, sums)| all.add(sums));
        all
    }

    /// Forgets what no window reaches any more.
    pub fn forget(&mut self, now: Timestamp) {
        let first = seconds(now).saturating_sub(seconds(Timestamp::ZERO + KEPT));
        self.sums = self.sums.split_off(&first);
    }

    /// Whether anything is remembered beside when it was seen.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }
}

const fn seconds(at: Timestamp) -> i64 {
    at.as_nanos().div_euclid(1_000_000_000)
}

/// Where a window of `length` begins that ends at `end`: buckets are not cut, so up to one of them is added.
pub fn start_of(end: Timestamp, length: Duration) -> Timestamp {
    let nanos = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_nanos(end.as_nanos().saturating_sub(nanos)).floor(Long::bucket(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(hours: i64) -> Timestamp {
        Timestamp::from_millis(hours * 3_600_000)
    }

    #[test]
    fn buckets_hold_hours_or_days_and_what_is_old_is_forgotten() {
        let mut long = Long::new(at(0));
        let one = Sums { samples: 1, amount: 1.0, ..Sums::default() };
        for hour in 0..1_000 {
            long.settle(at(hour), &one, DAY);
        }
        assert_eq!(long.from(at(960)).samples, 40);
        assert_eq!(long.from(start_of(at(1_000), Duration::from_secs(30 * 86_400))).samples, 1_000 - 264);
        long.forget(at(1_000));
        assert_eq!(long.from(at(0)).samples, 1_000 - 240, "32 days, and the rest of the first");
    }

    #[test]
    fn what_is_reported_counts_for_itself() {
        let minute = Duration::from_secs(60);
        let value = |sums: Sums, statistic| sums.value(statistic, Unit::PERCENT, minute);
        let mixed = Sums { up: 57, down: 3, ..Sums::default() };
        assert_eq!(value(mixed, Statistic::Uptime), Some(95.0));
        assert_eq!(mixed.value(Statistic::Downtime, Unit::SECONDS, minute), Some(180.0));
        let reported = Sums { reported: 199.0, reports: 2, ..mixed };
        assert_eq!(value(reported, Statistic::Uptime), Some(99.5));
        assert_eq!(value(Sums::default(), Statistic::Uptime), None, "nothing is no uptime");
        let ratio = Sums { amount: 8.0, failed: 2.0, ..Sums::default() };
        assert_eq!(value(ratio, Statistic::Ratio), Some(75.0));
    }
}
