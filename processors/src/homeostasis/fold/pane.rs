//! What one subject's rows of one window come to, in any order: integers, fixed-point sums, extremes and the best of totally
//! ordered lists. Merging is commutative, so neither the order of rows nor the cut into batches can show.

use std::collections::BTreeSet;

use super::super::codec::{Reader, Writer};
use super::super::sketch::Sketch;
use super::cumulative::Raw;
use super::ranges::Ranges;

/// Exemplars kept for one pane.
pub const EXEMPLARS_MAX: usize = 8;
/// Other requirement keys kept for one pane; beyond that the first in alphabetical order.
const ALSO_MAX: usize = 16;
/// Fraction bits of the fixed-point sums.
const FRACTION: i32 = 32;

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
        }
    }
}

/// Fixed point: exact for the numbers that telemetry holds, and addition of integers has no order.
#[expect(clippy::cast_possible_truncation, reason = "floats saturate when they are cast")]
fn fixed(value: f64) -> i128 {
    let scaled = value * f64::from(FRACTION).exp2();
    if scaled.abs() < 9e18 { i128::from(scaled as i64) } else { scaled as i128 }
}

impl Dist {
    /// Takes in one observation.
    pub fn add(&mut self, seen: &Observation, wants_low: bool) {
        self.count = self.count.saturating_add(seen.count);
        if seen.value.is_finite() {
            self.sum = self.sum.saturating_add(fixed(seen.value).saturating_mul(i128::from(seen.count)));
            self.min = self.min.min(seen.value);
            self.max = self.max.max(seen.value);
            self.sketch.add(seen.value, seen.count);
            self.high.offer(seen.value, seen.trace);
            if wants_low {
                self.low.offer(-seen.value, seen.trace);
            }
        }
        if seen.is_error {
            self.errors = self.errors.saturating_add(seen.count);
            self.failed.offer(if seen.value.is_finite() { seen.value } else { 0.0 }, seen.trace);
        }
    }

    /// Takes in the sum of values that are in the ranges.
    pub fn add_sum(&mut self, sum: f64) {
        self.sum = self.sum.saturating_add(fixed(sum));
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

    fn encode(&self, out: &mut Writer) {
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
    }

    fn decode(bytes: &mut Reader<'_>) -> anyhow::Result<Dist> {
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
        })
    }
}

/// A text that all rows of a pane agree on, or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Only {
    /// No row yet.
    #[default]
    Unseen,
    /// All rows say this; empty: all say nothing.
    One(String),
    /// They differ.
    Many,
}

impl Only {
    /// Takes in what one row says.
    pub fn note(&mut self, text: &str) {
        match self {
            Only::Unseen => *self = Only::One(text.to_owned()),
            Only::One(known) if known == text => {}
            Only::One(_) => *self = Only::Many,
            Only::Many => {}
        }
    }

    /// What all of them say, when they say something.
    pub fn get(&self) -> Option<&str> {
        match self {
            Only::One(text) if !text.is_empty() => Some(text),
            Only::Unseen | Only::One(_) | Only::Many => None,
        }
    }

    fn encode(&self, out: &mut Writer) {
        match self {
            Only::Unseen => out.unsigned(0),
            Only::Many => out.unsigned(1),
            Only::One(text) => {
                out.unsigned(2);
                out.text(text);
            }
        }
    }

    fn decode(bytes: &mut Reader<'_>) -> anyhow::Result<Only> {
        Ok(match bytes.unsigned()? {
            0 => Only::Unseen,
            1 => Only::Many,
            2 => Only::One(bytes.text()?.to_owned()),
            other => anyhow::bail!("a checkpoint holds the unknown mark {other}"),
        })
    }
}

/// What the rows of a pane say beside their numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Provenance {
    /// `service.name`.
    pub service: Only,
    /// The environment.
    pub environment: Only,
    /// `sea:{context}:{flow}`.
    pub spec_node: Only,
    /// Other requirement keys of the same observations; of a node's pane all requirement keys.
    pub also: BTreeSet<String>,
    /// The least of the rows'.
    pub confidence: f64,
    /// The weakest of the rows' [`homeostat_pipeline::evidence::Method`]s, as its place in the enumeration.
    pub method: u8,
    /// The worst of the rows' [`homeostat_pipeline::evidence::Correlation`]s, as its place in the enumeration.
    pub status: u8,
    /// The receiver's component id; of several the first in alphabetical order.
    pub source: String,
}

impl Default for Provenance {
    fn default() -> Provenance {
        Provenance {
            service: Only::Unseen,
            environment: Only::Unseen,
            spec_node: Only::Unseen,
            also: BTreeSet::new(),
            confidence: 1.0,
            method: 0,
            status: 0,
            source: String::new(),
        }
    }
}

impl Provenance {
    /// The least confidence of the rows, without the tail that comes of widening it from 32 bits.
    pub fn confidence(&self) -> f64 {
        (self.confidence * 1e6).round() / 1e6
    }

    /// Takes in another requirement key.
    pub fn note_also(&mut self, key: &str) {
        if !key.is_empty() && !self.also.contains(key) {
            self.also.insert(key.to_owned());
            if self.also.len() > ALSO_MAX {
                self.also.pop_last();
            }
        }
    }

    /// Takes in a receiver.
    pub fn note_source(&mut self, source: &str) {
        if !source.is_empty() && (self.source.is_empty() || source < self.source.as_str()) {
            source.clone_into(&mut self.source);
        }
    }

    fn encode(&self, out: &mut Writer) {
        self.service.encode(out);
        self.environment.encode(out);
        self.spec_node.encode(out);
        out.unsigned(self.also.len() as u64);
        for key in &self.also {
            out.text(key);
        }
        out.float(self.confidence);
        out.raw(&[self.method, self.status]);
        out.text(&self.source);
    }

    fn decode(bytes: &mut Reader<'_>) -> anyhow::Result<Provenance> {
        let (service, environment, spec_node) =
            (Only::decode(bytes)?, Only::decode(bytes)?, Only::decode(bytes)?);
        let length = bytes.length(ALSO_MAX)?;
        let also = (0..length).map(|_| Ok(bytes.text()?.to_owned())).collect::<anyhow::Result<_>>()?;
        let confidence = bytes.float()?;
        let [method, status] = bytes.array()?;
        let source = bytes.text()?.to_owned();
        Ok(Provenance { service, environment, spec_node, also, confidence, method, status, source })
    }
}

/// One subject in one window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pane {
    /// Slot → distribution; few, in the order in which they came.
    dists: Vec<(u32, Dist)>,
    /// Points that count since a start.
    pub raw: BTreeSet<Raw>,
    /// What the rows say beside their numbers.
    pub provenance: Provenance,
    /// How often it was judged.
    pub version: u32,
    /// Whether rows came since it was last judged.
    pub is_fresh: bool,
    /// Whether it differs from its checkpoint.
    pub is_touched: bool,
    /// Whether the checkpoint holds it.
    pub is_stored: bool,
}

impl Pane {
    /// Where the distribution of `slot` stands in this pane, for [`Pane::at`]; made when it is not there.
    pub fn locate(&mut self, slot: u32) -> usize {
        if let Some(at) = self.dists.iter().position(|(known, _)| *known == slot) {
            return at;
        }
        self.dists.push((slot, Dist::default()));
        self.dists.len() - 1
    }

    /// The distribution at a place that [`Pane::locate`] gave.
    pub fn at(&mut self, place: usize) -> &mut Dist {
        &mut self.dists[place].1
    }

    /// The distribution of `slot`.
    pub fn dist(&self, slot: u32) -> Option<&Dist> {
        self.dists.iter().find(|(known, _)| *known == slot).map(|(_, dist)| dist)
    }

    /// The same without the points that count since a start.
    pub fn without_raw(&self) -> Pane {
        Pane { dists: self.dists.clone(), ..Pane::default() }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.unsigned(u64::from(self.version));
        out.unsigned(u64::from(self.is_fresh));
        self.provenance.encode(&mut out);
        out.unsigned(self.dists.len() as u64);
        for (slot, dist) in &self.dists {
            out.unsigned(u64::from(*slot));
            dist.encode(&mut out);
        }
        out.unsigned(self.raw.len() as u64);
        self.raw.iter().for_each(|raw| raw.encode(&mut out));
        out.finish()
    }

    /// Reads what [`Pane::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn decode(bytes: &[u8]) -> anyhow::Result<Pane> {
        let mut bytes = Reader::new(bytes);
        let version = u32::try_from(bytes.unsigned()?)?;
        let is_fresh = bytes.unsigned()? != 0;
        let provenance = Provenance::decode(&mut bytes)?;
        let length = bytes.length(u16::MAX.into())?;
        let dists = (0..length)
            .map(|_| Ok((u32::try_from(bytes.unsigned()?)?, Dist::decode(&mut bytes)?)))
            .collect::<anyhow::Result<_>>()?;
        let length = bytes.length(1 << 24)?;
        let raw = (0..length).map(|_| Raw::decode(&mut bytes)).collect::<anyhow::Result<_>>()?;
        Ok(Pane { dists, raw, provenance, version, is_fresh, is_touched: false, is_stored: true })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn observation() -> impl Strategy<Value = Observation> {
        let value = prop_oneof![8 => 0.0..1e12_f64, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => -5.0..5.0_f64];
        (value, 1_u64..4, any::<bool>(), 0_u8..20).prop_map(|(value, count, is_error, trace)| Observation {
            value,
            count,
            is_error,
            trace: [trace; 16],
        })
    }

    fn pane_of(observations: &[Observation]) -> Pane {
        let mut pane = Pane::default();
        for seen in observations {
            let place = pane.locate(3);
            pane.at(place).add(seen, true);
            pane.provenance.note_also(&format!("REQ-X-{:03}", seen.trace[0]));
            pane.provenance.service.note(if seen.is_error { "a" } else { "b" });
            pane.provenance.note_source(&seen.count.to_string());
        }
        pane
    }

    proptest! {
        #[test]
        fn the_order_of_rows_does_not_show(
            observations in prop::collection::vec(observation(), 0..120).prop_shuffle(),
            turn in 0_usize..120,
        ) {
            let mut other = observations.clone();
            other.reverse();
            other.rotate_left(turn % observations.len().max(1));
            let (one, two) = (pane_of(&observations), pane_of(&other));
            prop_assert_eq!(&one, &two);
            prop_assert_eq!(one.encode(), two.encode());
                let again = Pane { is_stored: false, ..Pane::decode(&one.encode()).expect("it was just written") };
            prop_assert_eq!(again, one);
        }
    }

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
}
