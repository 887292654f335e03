//! The distribution of what one slot of a pane saw: integers, fixed-point sums, extremes, and the best of totally ordered lists.
//! Adding and merging are commutative and associative, so neither the order of rows nor the cut into batches can show.

use std::collections::BTreeMap;

use super::super::codec::{Reader, Writer};
use super::super::sketch::Sketch;
use super::ranges::Ranges;

/// Exemplars kept for one pane.
pub const EXEMPLARS_MAX: usize = 8;
/// Fraction bits of the fixed-point sums: what is smaller than 2.3e-10 adds nothing.
const FRACTION: i32 = 32;
/// What is beyond this is no number that anything measures; a fixed-point sum holds some of them.
const VALUE_MAX: f64 = 1e28;

/// A trace id; zeros when there is none.
pub type TraceId = [u8; 16];

/// The traces with the highest ranks, each once, the highest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exemplars(Vec<(f64, TraceId)>);

impl Exemplars {
    fn offer(&mut self, rank: f64, trace: TraceId) {
        let better = |a: (f64, TraceId), b: (f64, TraceId)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).is_gt();
        if self.0.len() == EXEMPLARS_MAX && !better((rank, trace), self.0[EXEMPLARS_MAX - 1]) {
            return;
        }
        if trace == [0; 16] {
            return;
        }
        if let Some(known) = self.0.iter().position(|(_, id)| *id == trace) {
            if rank.total_cmp(&self.0[known].0).is_le() {
                return;
            }
            self.0.remove(known);
        }
        let at = self.0.partition_point(|entry| better(*entry, (rank, trace)));
        self.0.insert(at, (rank, trace));
        self.0.truncate(EXEMPLARS_MAX);
    }

    /// Takes in another's.
    fn merge(&mut self, other: &Exemplars) {
        for (rank, trace) in &other.0 {
            self.offer(*rank, *trace);
        }
    }

    /// Trace ids, the highest rank first.
    pub fn traces(&self) -> impl Iterator<Item = (f64, TraceId)> + '_ {
        self.0.iter().copied()
    }

    fn encode(&self, out: &mut Writer) {
        out.unsigned(self.0.len() as u64);
        for (rank, trace) in &self.0 {
            out.float(*rank);
            out.raw(trace);
        }
    }

    fn decode(bytes: &mut Reader<'_>) -> anyhow::Result<Exemplars> {
        let length = bytes.length(EXEMPLARS_MAX)?;
        (0..length)
            .map(|_| Ok((bytes.float()?, bytes.array()?)))
            .collect::<anyhow::Result<_>>()
            .map(Exemplars)
    }
}

/// One observation, as far as a distribution sees it.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// Not finite when there is none.
    pub value: f64,
    /// How many it stands for.
    pub count: u64,
    /// Whether it failed.
    pub is_error: bool,
    /// Where it can be looked at.
    pub trace: TraceId,
}

/// The distribution of what one slot of a pane saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Dist {
    /// Observations.
    pub count: u64,
    /// Those that failed.
    pub errors: u64,
    sum: i128,
    /// Smallest value; +∞ without one.
    pub min: f64,
    /// Largest value; −∞ without one.
    pub max: f64,
    /// The values.
    pub sketch: Sketch,
    /// The values of which only bounds are known.
    pub ranges: Ranges,
    /// Whether the sum leaves some values out.
    pub lacks_sum: bool,
    /// Whether smallest and largest leave some values out.
    pub lacks_extremes: bool,
    /// The traces with the largest values.
    pub high: Exemplars,
    /// The traces with the smallest values, ranked by the value's negative; only where a measure is the better the higher.
    pub low: Exemplars,
    /// The traces that failed.
    pub failed: Exemplars,
    /// Minutes since the epoch → observations, and those that failed; only where a measure tells up from down.
    pub minutes: BTreeMap<i64, (u64, u64)>,
}

impl Default for Dist {
    fn default() -> Dist {
        Dist {
            count: 0,
            errors: 0,
            sum: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sketch: Sketch::default(),
            ranges: Ranges::default(),
            lacks_sum: false,
            lacks_extremes: false,
            high: Exemplars::default(),
            low: Exemplars::default(),
            failed: Exemplars::default(),
            minutes: BTreeMap::new(),
        }
    }
}

/// As it is folded: zero has no sign. None where there is no number.
fn number(value: f64) -> Option<f64> {
    (value.abs() <= VALUE_MAX).then_some(value + 0.0)
}

/// Fixed point: exact for the numbers that telemetry holds, and addition of integers has no order, not even where it wraps.
#[expect(clippy::cast_possible_truncation, reason = "floats saturate when they are cast")]
fn fixed(value: f64) -> i128 {
    let scaled = value * f64::from(FRACTION).exp2();
    if scaled.abs() < 9e18 { i128::from(scaled as i64) } else { scaled as i128 }
}

impl Dist {
    /// Takes in one observation.
    pub fn add(&mut self, seen: &Observation, wants_low: bool) {
        self.count = self.count.saturating_add(seen.count);
        let value = number(seen.value);
        if let Some(value) = value {
            self.sum = self.sum.wrapping_add(fixed(value).wrapping_mul(i128::from(seen.count)));
            self.take_extremes(value, value);
            self.sketch.add(value, seen.count);
            self.high.offer(value, seen.trace);
            if wants_low {
                self.low.offer(-value, seen.trace);
            }
        }
        if seen.is_error {
            self.errors = self.errors.saturating_add(seen.count);
            self.failed.offer(value.unwrap_or(0.0), seen.trace);
        }
    }

    /// Takes in all that another saw.
    pub fn merge(&mut self, other: &Dist) {
        self.count = self.count.saturating_add(other.count);
        self.errors = self.errors.saturating_add(other.errors);
        self.sum = self.sum.wrapping_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sketch.merge(&other.sketch);
        self.ranges.merge(&other.ranges);
        self.lacks_sum |= other.lacks_sum;
        self.lacks_extremes |= other.lacks_extremes;
        self.high.merge(&other.high);
        self.low.merge(&other.low);
        self.failed.merge(&other.failed);
        for (minute, (count, errors)) in &other.minutes {
            let known = self.minutes.entry(*minute).or_default();
            *known = (known.0.saturating_add(*count), known.1.saturating_add(*errors));
        }
    }

    /// Takes in the minute of an observation that was added.
    pub fn note_minute(&mut self, minute: i64, seen: &Observation) {
        let known = self.minutes.entry(minute).or_default();
        known.0 = known.0.saturating_add(seen.count);
        known.1 = known.1.saturating_add(if seen.is_error { seen.count } else { 0 });
    }

    /// Takes in the sum of values that are in the ranges; none where nobody says it, or where it is no number.
    pub fn add_sum(&mut self, sum: Option<f64>) {
        match sum.and_then(number) {
            Some(sum) => self.sum = self.sum.wrapping_add(fixed(sum)),
            None => self.lacks_sum = true,
        }
    }

    /// Takes in the smallest and the largest of values that are counted elsewhere.
    pub fn take_extremes(&mut self, min: f64, max: f64) {
        // Zero has no sign here either.
        self.min = self.min.min(min + 0.0);
        self.max = self.max.max(max + 0.0);
    }

    /// Takes in a trace whose value is counted already.
    pub fn offer(&mut self, value: f64, trace: TraceId, is_error: bool, wants_low: bool) {
        self.high.offer(value, trace);
        if wants_low {
            self.low.offer(-value, trace);
        }
        if is_error {
            self.failed.offer(value, trace);
        }
    }

    /// Observations that have a value.
    pub fn values(&self) -> u64 {
        self.sketch.count().saturating_add(self.ranges.total())
    }

    /// The sum of the values.
    #[expect(clippy::cast_precision_loss, reason = "53 bits of a sum are enough")]
    pub fn sum(&self) -> f64 {
        self.sum as f64 / f64::from(FRACTION).exp2()
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Writer) {
        out.unsigned(self.count);
        out.unsigned(self.errors);
        out.wide(self.sum);
        out.float(self.min);
        out.float(self.max);
        self.sketch.encode(out);
        self.ranges.encode(out);
        out.raw(&[u8::from(self.lacks_sum), u8::from(self.lacks_extremes)]);
        self.high.encode(out);
        self.low.encode(out);
        self.failed.encode(out);
        out.unsigned(self.minutes.len() as u64);
        for (minute, (count, errors)) in &self.minutes {
            out.signed(*minute);
            out.unsigned(*count);
            out.unsigned(*errors);
        }
    }

    /// Reads what [`Dist::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn decode(bytes: &mut Reader<'_>) -> anyhow::Result<Dist> {
        let (count, errors, sum) = (bytes.unsigned()?, bytes.unsigned()?, bytes.wide()?);
        let (min, max) = (bytes.float()?, bytes.float()?);
        let (sketch, ranges) = (Sketch::decode(bytes)?, Ranges::decode(bytes)?);
        let [lacks_sum, lacks_extremes] = bytes.array()?.map(|flag: u8| flag != 0);
        Ok(Dist {
            count,
            errors,
            sum,
            min,
            max,
            sketch,
            ranges,
            lacks_sum,
            lacks_extremes,
            high: Exemplars::decode(bytes)?,
            low: Exemplars::decode(bytes)?,
            failed: Exemplars::decode(bytes)?,
            minutes: (0..bytes.length(1 << 16)?)
                .map(|_| Ok((bytes.signed()?, (bytes.unsigned()?, bytes.unsigned()?))))
                .collect::<anyhow::Result<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exemplars_are_the_best_traces_each_once() {
        let mut exemplars = Exemplars::default();
        for number in [3_u8, 1, 9, 4, 7, 9, 2, 8, 5, 6, 10, 3, 0] {
            exemplars.offer(f64::from(number), [number; 16]);
        }
        exemplars.offer(99.0, [4; 16]);
        let kept: Vec<u8> = exemplars.traces().map(|(_, trace)| trace[0]).collect();
        assert_eq!(kept, [4, 10, 9, 8, 7, 6, 5, 3], "a trace that is none (zeros) is not kept");
    }

    #[test]
    fn values_that_are_not_finite_count_and_nothing_else() {
        let mut dist = Dist::default();
        for value in [f64::NAN, f64::INFINITY, 2.0, 4.0] {
            dist.add(&Observation { value, count: 2, is_error: false, trace: [1; 16] }, false);
        }
        assert_eq!((dist.count, dist.sketch.count(), dist.sum(), dist.max), (8, 4, 12.0, 4.0));
    }

    #[test]
    fn numbers_at_the_edges_come_to_the_same_in_any_order() {
        let bytes = |values: &[f64]| {
            let mut dist = Dist::default();
            for value in values {
                dist.add(&Observation { value: *value, count: 1, is_error: false, trace: [0; 16] }, false);
            }
            let mut out = Writer::default();
            dist.encode(&mut out);
            out.finish()
        };
        for (one, other) in [
            ([1e30, 1e30, -1e30], [1e30, -1e30, 1e30]),
            ([1e28, 1e28, -1e28], [1e28, -1e28, 1e28]),
            ([0.0, -0.0, 0.0], [-0.0, 0.0, -0.0]),
        ] {
            assert_eq!(bytes(&one), bytes(&other), "{one:?}");
        }
        let mut dist = Dist::default();
        dist.add_sum(Some(1e30));
        assert!(dist.lacks_sum, "a sum that is no number is none");
    }
}
