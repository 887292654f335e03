//! A quantile sketch whose content does not depend on the order of what it saw: integer counts in log-linear buckets.
//!
//! Each octave of magnitude has 64 buckets of equal width, found by the top bits of the `f64`; a value is at most 1/128 (0.8 %) of
//! itself from the middle of its bucket. It is the DDSketch of Masson, Rim and Lee (VLDB 2019) with a linear instead of a
//! logarithmic division of the octave, as in HdrHistogram.

use super::codec::{Reader, Writer};

/// Bits of the mantissa that choose the bucket within an octave.
const FRACTION_BITS: u32 = 6;
const SHIFT: u32 = 52 - FRACTION_BITS;

/// More distinct buckets than this (32 octaves, all of them full) and the lowest run together, as in DDSketch; quantiles
/// that fall there are only known to be low.
pub const BUCKETS_MAX: usize = 2048;

/// Counts of values, mergeable in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    /// Bucket numbers in ascending order.
    buckets: Vec<i32>,
    /// How many values are in each.
    counts: Vec<u64>,
    total: u64,
}

/// The bucket of a finite value: 0 for zero (and what is too small to be normal), positive and negative alike on both sides.
fn bucket(value: f64) -> i32 {
    let magnitude = value.abs();
    if magnitude < f64::MIN_POSITIVE {
        return 0;
    }
    let number = (magnitude.to_bits() >> SHIFT) as i32;
    if value < 0.0 { -number } else { number }
}

/// The bucket of the largest finite value.
const fn bucket_max() -> u32 {
    (f64::MAX.to_bits() >> SHIFT) as u32
}

/// The middle of a bucket.
fn middle(bucket: i32) -> f64 {
    if bucket == 0 {
        return 0.0;
    }
    let low = f64::from_bits(u64::from(bucket.unsigned_abs()) << SHIFT);
    let high = f64::from_bits((u64::from(bucket.unsigned_abs()) + 1) << SHIFT);
    let middle = if high.is_finite() { low + (high - low) / 2.0 } else { low };
    if bucket < 0 { -middle } else { middle }
}

/// The nearest rank of a quantile (0 … 1) among `total` values, from 1: ⌈quantile × total⌉.
pub fn rank(total: u64, quantile: f64) -> u128 {
    // In millionths, so that 0.95 × 20 is 19 and not the next number above it.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1,000,000")]
    let millionths = (quantile.clamp(0.0, 1.0) * 1e6).round() as u128;
    (u128::from(total) * millionths).div_ceil(1_000_000).max(1)
}

impl Sketch {
    /// Adds a finite value `count` times.
    pub fn add(&mut self, value: f64, count: u64) {
        self.add_bucket(bucket(value), count);
    }

    fn add_bucket(&mut self, bucket: i32, count: u64) {
        self.total = self.total.saturating_add(count);
        match self.buckets.binary_search(&bucket) {
            Ok(at) => self.counts[at] = self.counts[at].saturating_add(count),
            Err(0) if self.buckets.len() >= BUCKETS_MAX => {
                self.counts[0] = self.counts[0].saturating_add(count);
            }
            Err(at) => {
                self.buckets.insert(at, bucket);
                self.counts.insert(at, count);
                if self.buckets.len() > BUCKETS_MAX {
                    self.buckets.remove(0);
                    let lowest = self.counts.remove(0);
                    self.counts[0] = self.counts[0].saturating_add(lowest);
                }
            }
        }
    }

    /// Adds all that `other` saw.
    pub fn merge(&mut self, other: &Sketch) {
        for (bucket, count) in other.buckets.iter().zip(&other.counts) {
            self.add_bucket(*bucket, *count);
        }
    }

    /// The middle of each bucket and how many values are in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        self.buckets.iter().zip(&self.counts).map(|(bucket, count)| (middle(*bucket), *count))
    }

    /// How many values it saw.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The value at `quantile` (0 … 1) by nearest rank: the k-th smallest with k = ⌈quantile × count⌉, within 1 %. None when empty.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        if self.total == 0 {
            return None;
        }
        let rank = rank(self.total, quantile);
        let mut seen = 0_u128;
        for (bucket, count) in self.buckets.iter().zip(&self.counts) {
            seen += u128::from(*count);
            if seen >= rank {
                return Some(middle(*bucket));
            }
        }
        self.buckets.last().map(|bucket| middle(*bucket))
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Writer) {
        out.unsigned(self.buckets.len() as u64);
        let mut before = 0_i64;
        for (bucket, count) in self.buckets.iter().zip(&self.counts) {
            out.signed(i64::from(*bucket) - before);
            out.unsigned(*count);
            before = i64::from(*bucket);
        }
    }

    /// Reads what [`Sketch::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn decode(bytes: &mut Reader<'_>) -> anyhow::Result<Sketch> {
        let mut sketch = Sketch::default();
        let mut bucket = 0_i64;
        for _ in 0..bytes.length(BUCKETS_MAX)? {
            bucket = bucket.saturating_add(bytes.signed()?);
            let number = i32::try_from(bucket)?;
            anyhow::ensure!(
                number.unsigned_abs() <= bucket_max(),
                "a sketch has a bucket that no value falls into"
            );
            anyhow::ensure!(
                sketch.buckets.last().is_none_or(|last| *last < number),
                "the buckets of a sketch are out of order"
            );
            let count = bytes.unsigned()?;
            sketch.buckets.push(number);
            sketch.counts.push(count);
            sketch.total = sketch.total.saturating_add(count);
        }
        Ok(sketch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Sketch {
        let mut sketch = Sketch::default();
        for value in values {
            sketch.add(*value, 1);
        }
        sketch
    }

    #[test]
    fn ranks_are_exact_where_a_product_of_floats_would_not_be() {
        let twenty: Vec<f64> = (1..=20).map(f64::from).collect();
        let p95 = of(&twenty).quantile(0.95).expect("there are values");
        assert!((p95 - 19.0).abs() < 19.0 * 0.01, "{p95}");
        assert_eq!(Sketch::default().quantile(0.5), None);
        assert_eq!(of(&[0.0, 0.0, 5.0]).quantile(0.5), Some(0.0));
    }

    #[test]
    fn beyond_the_limit_only_the_lowest_values_run_together() {
        let values: Vec<f64> = (0..4_000_i32).map(|step| 1.01_f64.powi(step)).collect();
        let mut reversed = values.clone();
        reversed.reverse();
        let sketch = of(&values);
        assert_eq!(sketch.buckets.len(), BUCKETS_MAX);
        assert_eq!(sketch, of(&reversed));
        let p99 = sketch.quantile(0.99).expect("there are values");
        let exact = values[3_959];
        assert!((p99 - exact).abs() <= exact * 0.01);
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => 1e-9..1e12_f64,
            2 => -1e6..1e6_f64,
            1 => Just(0.0),
            2 => (0_u32..40).prop_map(|bits| f64::from(bits).exp2()),
        ]
    }

    proptest! {
        #[test]
        fn every_quantile_is_within_one_percent_of_the_exact_one(
            mut values in prop::collection::vec(value(), 1..300),
            quantile in prop::sample::select(vec![0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0]),
        ) {
            let got = of(&values).quantile(quantile).expect("there are values");
            values.sort_by(f64::total_cmp);
            let rank = (values.len() * (quantile * 1_000.0).round() as usize).div_ceil(1_000).max(1);
            let exact = values[rank - 1];
            prop_assert!((got - exact).abs() <= exact.abs() * 0.01, "{got} is not near {exact}");
        }

        #[test]
        fn parts_merge_in_any_order_to_the_same_sketch(
            values in prop::collection::vec((value(), 1_u64..5, 0_usize..4), 0..300),
            order in Just([0_usize, 1, 2, 3]).prop_shuffle(),
        ) {
            let mut whole = Sketch::default();
            let mut parts = vec![Sketch::default(); 4];
            for (value, count, part) in &values {
                whole.add(*value, *count);
                parts[*part].add(*value, *count);
            }
            let mut merged = Sketch::default();
            for part in order {
                merged.merge(&parts[part]);
            }
            prop_assert_eq!(&merged, &whole);
            let mut bytes = Writer::default();
            whole.encode(&mut bytes);
            let bytes = bytes.finish();
            prop_assert_eq!(Sketch::decode(&mut Reader::new(&bytes)).expect("it was just written"), whole);
        }
    }
}
