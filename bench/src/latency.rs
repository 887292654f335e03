//! How long acknowledgements took: a histogram with 32 buckets an octave, within 3 % of each time.

use std::time::Duration;

const STEPS: u32 = 5;

/// Counts by microseconds.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    counts: Vec<u64>,
    total: u64,
}

impl Latency {
    /// One acknowledgement.
    pub fn record(&mut self, took: Duration) {
        let bucket = bucket(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Latency) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// In milliseconds, the time that `quantile` of them did not exceed; `None` when there are none.
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let rank = ((self.total as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(upper(bucket) as f64 / 1000.0);
            }
        }
        None
    }
}

fn bucket(micros: u64) -> usize {
    if micros < 1 << STEPS {
        return micros as usize;
    }
    let octave = micros.ilog2() - STEPS;
    ((octave as usize) << STEPS) + (micros >> octave) as usize
}

/// The greatest number of microseconds in a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 1 << (STEPS + 1) {
        return bucket;
    }
    let octave = (bucket >> STEPS) - 1;
    ((bucket - (octave << STEPS) + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_within_three_percent_of_its_upper_end() {
        let mut last = 0;
        for micros in (0..5000).chain([10_000, 65_535, 65_536, 1_000_000, 60_000_000]) {
            let bucket = bucket(micros);
            assert!(bucket >= last, "{micros}");
            let upper = upper(bucket);
            assert!(micros <= upper && upper as f64 <= micros as f64 * 1.032, "{micros} in {upper}");
            last = bucket;
        }
    }

    #[test]
    fn quantiles_are_of_all_that_was_merged() {
        let (mut one, mut other) = (Latency::default(), Latency::default());
        (0..50).for_each(|_| one.record(Duration::from_millis(1)));
        (0..49).for_each(|_| other.record(Duration::from_millis(2)));
        other.record(Duration::from_secs(1));
        one.merge(&other);
        let near = |quantile, expected: f64| {
            let found = one.quantile_ms(quantile).expect("there are some");
            assert!(found >= expected && found < expected * 1.04, "{quantile}: {found}");
        };
        near(0.5, 1.0);
        near(0.51, 2.0);
        near(0.99, 2.0);
        near(1.0, 1000.0);
        assert_eq!(Latency::default().quantile_ms(0.5), None);
    }
}
