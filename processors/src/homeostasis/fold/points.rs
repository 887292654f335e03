//! Data points: what a row of the signal metrics adds to a pane. What counts since a start is kept as it came, for only differences in
//! the order of time mean something, and that order is known when the window closes ([`super::cumulative`]).

use homeostat_pipeline::evidence::columns::Columns;
use homeostat_pipeline::evidence::point::{Content, Exponential, Form, Histogram, Point, Side, Totals};
use homeostat_pipeline::evidence::schema::TextColumn;

use super::cumulative::Raw;
use super::dist::{Dist, Observation, TraceId};
use super::route::{Route, Said, slot};
use super::rows::Tally;
use super::ruled::{Ruled, Slot};
use super::window::Window;

/// Cumulative points that one pane keeps: the reports of a thousand series every three seconds, for five minutes.
const RAW_MAX: usize = 100_000;
/// Finer scales are read as this one: its buckets are narrower than a sketch's error.
const SCALE_MAX: i32 = 6;

/// How the rows of a slot are to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Take {
    /// Each is an observation: spans, log records.
    #[default]
    Observations,
    /// Each is a histogram of observations.
    Histograms,
    /// Each is a measurement: gauges.
    Values,
    /// Each says how much was added.
    Sums,
    /// The same of what failed.
    FailedSums,
    /// Each is this quantile, in millionths, of observations that nobody has.
    Quantile(u32),
}

impl Take {
    /// For the checkpoint.
    pub const fn number(self) -> u32 {
        match self {
            Take::Observations => 0,
            Take::Values => 1,
            Take::Sums => 2,
            Take::FailedSums => 3,
            Take::Histograms => 4,
            Take::Quantile(millionths) => 5 + millionths,
        }
    }

    /// That of a number.
    pub const fn of(number: u32) -> Take {
        match number {
            0 => Take::Observations,
            1 => Take::Values,
            2 => Take::Sums,
            3 => Take::FailedSums,
            4 => Take::Histograms,
            more => Take::Quantile(more - 5),
        }
    }

    /// That of a point; summaries have one for each quantile.
    const fn of_form(form: Form, is_error: bool) -> Take {
        match form {
            Form::Gauge => Take::Values,
            Form::Sum | Form::CumulativeSum if is_error => Take::FailedSums,
            Form::Sum | Form::CumulativeSum => Take::Sums,
            Form::Histogram
            | Form::CumulativeHistogram
            | Form::Exponential
            | Form::CumulativeExponential
            | Form::Summary => Take::Histograms,
        }
    }
}

/// Adds one row, which has a sketch, to the panes of its route; whether it counts since a start.
pub fn drop_in(
    route: &Route,
    window: &mut Window,
    columns: &Columns,
    row: usize,
    said: &Said<'_>,
    (ruled, slots): (&Ruled, &mut Vec<Slot>),
    tally: &mut Tally,
) -> bool {
    // What cannot be read is of another version: there is nothing to be made of it.
    let Some(point) = columns.sketch(row).and_then(|sketch| Point::decode(sketch).ok()) else {
        tally.unreadable += columns.count(row);
        return false;
    };
    let (measure, unit) = (said.get(TextColumn::Measure), route.unit);
    let value = columns.value(row).unwrap_or(f64::NAN);
    let is_error = columns.is_error(row);
    if measure.is_empty() && point.content == Content::Value {
        tally.unmeasured += columns.count(row);
        return false;
    }
    let take = Take::of_form(point.form, is_error);
    let confidence = f64::from(columns.confidence(row));
    let trace = columns.trace_id(row).unwrap_or_default();
    let seen = Observation { value, count: 1, is_error: false, trace };
    let mut is_read = false;
    for stop in &route.stops {
        let wants_low = stop.step.wants_low;
        let provenance = &mut window.at(stop.place.0).provenance;
        provenance.confidence = provenance.confidence.min(confidence);
        if point.form.is_cumulative() {
            let Some(slot) = slot(slots, measure, unit, take) else { continue };
            is_read = true;
            window.has_raw = true;
            let (series, bits) = (point.series, value.to_bits());
            let time = columns.time(row).map_or(0, |time| time.as_nanos());
            let sketch = columns.sketch(row).unwrap_or_default().into();
            let raw = Raw { slot, series, time, bits, is_error, wants_low, sketch };
            tally.crowded += u64::from(!window.at(stop.place.0).keep(raw, RAW_MAX));
            continue;
        }
        let pane = window.at(stop.place.0);
        if let Content::Summary(quantiles) = &point.content {
            for (take, value) in asked(ruled, quantiles) {
                let Some(slot) = slot(slots, measure, unit, take) else { continue };
                is_read = true;
                let place = pane.locate(slot);
                pane.at(place).add(&Observation { value, ..seen }, wants_low);
            }
            continue;
        }
        let Some(slot) = slot(slots, measure, unit, take) else { continue };
        is_read = true;
        let place = pane.locate(slot);
        let dist = pane.at(place);
        match &point.content {
            Content::Value => dist.add(&seen, wants_low),
            Content::Histogram(histogram) => dist.add_histogram(histogram, is_error),
            Content::Exponential(exponential) => dist.add_exponential(exponential, is_error),
            Content::Summary(_) => {}
        }
        dist.add_exemplars(&point.exemplars, is_error, wants_low);
    }
    if !is_read {
        // A summary whose quantiles no measure asks for, or a slot too many.
        tally.unmeasured += columns.count(row);
    }
    point.form.is_cumulative()
}

/// The quantiles of a summary that the model asks for.
fn asked<'q>(ruled: &'q Ruled, quantiles: &'q [(f64, f64)]) -> impl Iterator<Item = (Take, f64)> + 'q {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a million")]
    let millionths = |quantile: f64| (quantile * 1e6).round() as u32;
    let known = quantiles.iter().filter(|(quantile, _)| (0.0..=1.0).contains(quantile));
    let known = known.map(move |(quantile, value)| (millionths(*quantile), *value));
    let asked = known.filter(|(millionths, _)| ruled.quantiles.contains(millionths));
    asked.map(|(millionths, value)| (Take::Quantile(millionths), value))
}

impl Dist {
    /// Takes in the traces that a point names.
    pub fn add_exemplars(&mut self, exemplars: &[(f64, TraceId)], is_error: bool, wants_low: bool) {
        for (value, trace) in exemplars {
            self.offer(*value, *trace, is_error, wants_low);
        }
    }

    /// Takes in a histogram with explicit bounds.
    pub fn add_histogram(&mut self, histogram: &Histogram, is_error: bool) {
        let Histogram { totals, bounds, counts } = histogram;
        if counts.is_empty() {
            self.ranges.add(f64::NEG_INFINITY, f64::INFINITY, totals.count);
        }
        for (at, count) in counts.iter().enumerate() {
            let lo = at.checked_sub(1).map_or(f64::NEG_INFINITY, |before| bounds[before]);
            let hi = bounds.get(at).copied().unwrap_or(f64::INFINITY);
            self.ranges.add(lo, hi, *count);
        }
        self.add_totals(totals, is_error);
    }

    /// Takes in an exponential histogram.
    pub fn add_exponential(&mut self, exponential: &Exponential, is_error: bool) {
        let Exponential { totals, scale, zero_count, zero_threshold: threshold, positive, negative } =
            exponential;
        if *threshold > 0.0 {
            let lo = if negative.counts.is_empty() { 0.0 } else { -threshold };
            self.ranges.add(lo, *threshold, *zero_count);
        } else if *zero_count > 0 {
            self.ranges.add(0.0, 0.0, *zero_count);
        }
        for (index, count) in indexed(positive, *scale, SCALE_MAX) {
            let (lo, hi) = bounds_of(index, (*scale).min(SCALE_MAX));
            self.ranges.add(lo, hi, count);
        }
        for (index, count) in indexed(negative, *scale, SCALE_MAX) {
            let (lo, hi) = bounds_of(index, (*scale).min(SCALE_MAX));
            self.ranges.add(-hi, -lo, count);
        }
        self.add_totals(totals, is_error);
    }

    fn add_totals(&mut self, totals: &Totals, is_error: bool) {
        if totals.count == 0 {
            return;
        }
        self.count = self.count.saturating_add(totals.count);
        if is_error {
            self.errors = self.errors.saturating_add(totals.count);
        }
        self.add_sum(totals.sum);
        match (totals.min, totals.max) {
            (Some(min), Some(max)) => self.take_extremes(min, max),
            (Some(_) | None, _) => self.lacks_extremes = true,
        }
    }
}

/// Index and count of each bucket that is not empty, at the coarser of two scales.
pub fn indexed(side: &Side, scale: i32, scale_max: i32) -> Vec<(i64, u64)> {
    let shift = (scale - scale_max).max(0);
    let mut all: Vec<(i64, u64)> = Vec::new();
    for (index, count) in (i64::from(side.offset)..).zip(&side.counts).filter(|(_, count)| **count > 0) {
        let index = index >> shift;
        match all.last_mut() {
            Some((last, sum)) if *last == index => *sum = sum.saturating_add(*count),
            Some(_) | None => all.push((index, *count)),
        }
    }
    all
}

/// The bounds of the bucket of an index, as far as doubles reach.
#[expect(clippy::cast_precision_loss, reason = "indexes have 32 bits")]
pub fn bounds_of(index: i64, scale: i32) -> (f64, f64) {
    let power = |index: i64| (index as f64 * f64::from(-scale).exp2()).exp2().min(f64::MAX);
    (power(index), power(index + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarser_scale_joins_neighbours() {
        let side = Side { offset: -3, counts: vec![1, 2, 3, 4, 5] };
        assert_eq!(indexed(&side, 2, 6), [(-3, 1), (-2, 2), (-1, 3), (0, 4), (1, 5)]);
        assert_eq!(indexed(&side, 2, 1), [(-2, 1), (-1, 5), (0, 9)]);
        assert_eq!(bounds_of(0, 0), (1.0, 2.0));
        assert_eq!(bounds_of(-1, 0), (0.5, 1.0));
        assert_eq!(bounds_of(1, -1), (4.0, 16.0));
        assert_eq!(bounds_of(3, 1).1, 4.0);
        assert_eq!(bounds_of(5_000, 0), (f64::MAX, f64::MAX));
    }

    #[test]
    fn what_a_slot_takes_comes_back_from_its_number() {
        for take in [
            Take::Observations,
            Take::Histograms,
            Take::Values,
            Take::Sums,
            Take::FailedSums,
            Take::Quantile(950_000),
        ] {
            assert_eq!(Take::of(take.number()), take);
        }
    }
}
