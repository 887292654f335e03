//! What a data point says beside its number: the bytes of the `sketch` column. One point is one row, whatever it stands for.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | the [`Form`] |
//! | 16, 8 | of cumulative forms: the series (a hash of who reports it), the start in nanoseconds |
//! | … | of histograms: the totals, bounds and counts; of summaries: quantiles and values |
//! | … | exemplars: values and trace ids, the largest first |
//!
//! Integers have seven bits a byte, the lowest first; signed ones are zigzag; floats are their bits, little endian. The same point
//! gives the same bytes.

use super::super::otlp::{Buckets, DataKind, PointView};

/// Exemplars kept of one point: the largest.
pub const EXEMPLARS_MAX: usize = 8;
/// More buckets than this in one point are not read: it then only counts.
pub const BUCKETS_MAX: usize = 4096;

/// What a row of the signal metrics is; its number is the first byte of its sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Form {
    /// A value at an instant; also the level that a sum which may fall has reached.
    Gauge = 1,
    /// What was added since the point before.
    Sum = 2,
    /// What was added since the start.
    CumulativeSum = 3,
    /// Explicit bounds, since the point before.
    Histogram = 4,
    /// Explicit bounds, since the start.
    CumulativeHistogram = 5,
    /// Exponential buckets, since the point before.
    Exponential = 6,
    /// Exponential buckets, since the start.
    CumulativeExponential = 7,
    /// Quantiles that the sender worked out.
    Summary = 8,
}

impl Form {
    /// Every one.
    pub const ALL: [Form; 8] = [
        Form::Gauge,
        Form::Sum,
        Form::CumulativeSum,
        Form::Histogram,
        Form::CumulativeHistogram,
        Form::Exponential,
        Form::CumulativeExponential,
        Form::Summary,
    ];

    /// That of a sketch; none of bytes that are none.
    pub fn of(sketch: &[u8]) -> Option<Form> {
        let number = *sketch.first()?;
        Form::ALL.into_iter().find(|form| *form as u8 == number)
    }

    /// Whether it counts since a start, so that only differences mean something.
    pub const fn is_cumulative(self) -> bool {
        match self {
            Form::CumulativeSum | Form::CumulativeHistogram | Form::CumulativeExponential => true,
            Form::Gauge | Form::Sum | Form::Histogram | Form::Exponential | Form::Summary => false,
        }
    }
}

/// Who reports a cumulative point, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// Hash of resource, scope, metric and attributes.
    pub id: [u8; 16],
    /// Nanoseconds since the epoch; 0 where it is unknown.
    pub start: u64,
}

impl Series {
    /// The id of who is written in `bytes`: BLAKE3, cut to 128 bits.
    pub fn id(bytes: &[u8]) -> [u8; 16] {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        id
    }
}

/// What both kinds of histograms say of all their observations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: Option<f64>,
    /// The smallest.
    pub min: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
}

/// A histogram with explicit bounds; both lists are empty where it only counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Of all observations.
    pub totals: Totals,
    /// Upper bounds, inclusive, ascending.
    pub bounds: Vec<f64>,
    /// One more than bounds.
    pub counts: Vec<u64>,
}

/// Buckets on one side of zero: the count at place i is of (base^(offset+i), base^(offset+i+1)].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The index of the first count.
    pub offset: i32,
    /// The counts.
    pub counts: Vec<u64>,
}

/// An exponential histogram: base is 2^(2^−scale).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exponential {
    /// Of all observations.
    pub totals: Totals,
    /// Of the bounds.
    pub scale: i32,
    /// Observations at most `zero_threshold` from zero.
    pub zero_count: u64,
    /// See there.
    pub zero_threshold: f64,
    /// Observations above zero.
    pub positive: Side,
    /// Observations below zero, by magnitude.
    pub negative: Side,
}

/// What the form needs beside the row's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Of gauges and sums: nothing.
    Value,
    /// Of histograms with explicit bounds.
    Histogram(Histogram),
    /// Of exponential histograms.
    Exponential(Exponential),
    /// Of summaries: quantiles (0 … 1) and values.
    Summary(Vec<(f64, f64)>),
}

/// A point, read from its sketch.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What it is.
    pub form: Form,
    /// Of cumulative forms; zeros of others.
    pub series: Series,
    /// What the form needs.
    pub content: Content,
    /// Values and traces, the largest first.
    pub exemplars: Vec<(f64, [u8; 16])>,
}

/// A sketch that this version cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sketch of a data point cannot be read; it was written by another version")]
pub struct Unreadable;

impl Point {
    /// What a view says under this form.
    pub fn of(view: &PointView<'_>, form: Form, series: Series) -> Point {
        let mut exemplars: Vec<(f64, [u8; 16])> = view
            .exemplars()
            .filter(|exemplar| exemplar.trace_id() != [0; 16])
            .map(|exemplar| (exemplar.value().map_or(f64::NAN, |v| v.as_f64()), exemplar.trace_id()))
            .filter(|(value, _)| value.is_finite())
            .collect();
        exemplars.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        exemplars.truncate(EXEMPLARS_MAX);
        let content = match view.kind() {
            DataKind::Gauge | DataKind::Sum | DataKind::Empty => Content::Value,
            DataKind::Histogram => Content::Histogram(histogram(view)),
            DataKind::ExponentialHistogram => Content::Exponential(exponential(view)),
            DataKind::Summary => Content::Summary(view.quantiles().take(BUCKETS_MAX).collect()),
        };
        Point { form, series, content, exemplars }
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.form as u8);
        if self.form.is_cumulative() {
            out.extend_from_slice(&self.series.id);
            out.extend_from_slice(&self.series.start.to_le_bytes());
        }
        match &self.content {
            Content::Value => {}
            Content::Histogram(histogram) => {
                put_totals(out, &histogram.totals);
                put(out, histogram.counts.len() as u64);
                histogram.bounds.iter().for_each(|bound| put_float(out, *bound));
                histogram.counts.iter().for_each(|count| put(out, *count));
            }
            Content::Exponential(exponential) => {
                put_totals(out, &exponential.totals);
                put_signed(out, exponential.scale);
                put(out, exponential.zero_count);
                put_float(out, exponential.zero_threshold);
                for side in [&exponential.positive, &exponential.negative] {
                    put_signed(out, side.offset);
                    put(out, side.counts.len() as u64);
                    side.counts.iter().for_each(|count| put(out, *count));
                }
            }
            Content::Summary(quantiles) => {
                put(out, quantiles.len() as u64);
                for (quantile, value) in quantiles {
                    put_float(out, *quantile);
                    put_float(out, *value);
                }
            }
        }
        put(out, self.exemplars.len() as u64);
        for (value, trace) in &self.exemplars {
            put_float(out, *value);
            out.extend_from_slice(trace);
        }
    }

    /// Reads what [`Point::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are of another version.
    pub fn decode(bytes: &[u8]) -> Result<Point, Unreadable> {
        let form = Form::of(bytes).ok_or(Unreadable)?;
        let mut rest = Rest(&bytes[1..]);
        let mut series = Series::default();
        if form.is_cumulative() {
            series = Series { id: rest.array()?, start: u64::from_le_bytes(rest.array()?) };
        }
        let content = match form {
            Form::Gauge | Form::Sum | Form::CumulativeSum => Content::Value,
            Form::Histogram | Form::CumulativeHistogram => {
                let totals = rest.totals()?;
                let length = rest.length()?;
                let bounds = rest.list(length.saturating_sub(1), Rest::float)?;
                Content::Histogram(Histogram { totals, bounds, counts: rest.list(length, Rest::number)? })
            }
            Form::Exponential | Form::CumulativeExponential => Content::Exponential(Exponential {
                totals: rest.totals()?,
                scale: rest.signed()?,
                zero_count: rest.number()?,
                zero_threshold: rest.float()?,
                positive: rest.side()?,
                negative: rest.side()?,
            }),
            Form::Summary => {
                let length = rest.length()?;
                Content::Summary(rest.list(length, |rest| Ok((rest.float()?, rest.float()?)))?)
            }
        };
        let length = rest.length()?;
        let exemplars = rest.list(length, |rest| Ok((rest.float()?, rest.array()?)))?;
        Ok(Point { form, series, content, exemplars })
    }
}

fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}

fn totals(view: &PointView<'_>, count: u64) -> Totals {
    // A sum of all but finite observations says nothing; neither does an extreme.
    Totals { count, sum: finite(view.sum()), min: finite(view.min()), max: finite(view.max()) }
}

/// Buckets that contradict themselves are left out: the point then only counts.
fn histogram(view: &PointView<'_>) -> Histogram {
    let bounds: Vec<f64> = view.explicit_bounds().take(BUCKETS_MAX).collect();
    let counts: Vec<u64> = view.bucket_counts().take(BUCKETS_MAX + 1).collect();
    let ascends = bounds.windows(2).all(|pair| pair[0] < pair[1]);
    let is_whole =
        ascends && bounds.iter().all(|bound| bound.is_finite()) && counts.len() == bounds.len() + 1;
    let in_buckets = counts.iter().fold(0_u64, |total, count| total.saturating_add(*count));
    if !is_whole || bounds.len() == BUCKETS_MAX {
        return Histogram { totals: totals(view, view.count()), bounds: Vec::new(), counts: Vec::new() };
    }
    Histogram { totals: totals(view, in_buckets), bounds, counts }
}

fn exponential(view: &PointView<'_>) -> Exponential {
    let side = |buckets: Buckets<'_>| {
        let mut offset = buckets.offset();
        let mut counts: Vec<u64> = buckets.counts().take(BUCKETS_MAX).collect();
        // What is empty at the ends says nothing.
        counts.truncate(counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1));
        let first = counts.iter().position(|count| *count > 0).unwrap_or(0);
        counts.drain(..first);
        offset = offset.saturating_add(i32::try_from(first).unwrap_or(i32::MAX));
        Side { offset: if counts.is_empty() { 0 } else { offset }, counts }
    };
    let (positive, negative) = (side(view.positive()), side(view.negative()));
    let all = positive.counts.iter().chain(&negative.counts);
    let count = all.fold(view.zero_count(), |total, count| total.saturating_add(*count));
    let threshold = view.zero_threshold();
    Exponential {
        totals: totals(view, count),
        scale: view.scale().clamp(-11, 20),
        zero_count: view.zero_count(),
        zero_threshold: if threshold.is_finite() { threshold.max(0.0) } else { 0.0 },
        positive,
        negative,
    }
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_signed(out: &mut Vec<u8>, number: i32) {
    put(out, u64::from(((number << 1) ^ (number >> 31)).cast_unsigned()));
}

fn put_float(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn put_totals(out: &mut Vec<u8>, totals: &Totals) {
    put(out, totals.count);
    let all = [totals.sum, totals.min, totals.max];
    out.push((0..).zip(all).map(|(bit, value)| u8::from(value.is_some()) << bit).sum());
    all.into_iter().flatten().for_each(|value| put_float(out, value));
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Unreadable)?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, Unreadable> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Unreadable)
    }

    fn signed(&mut self) -> Result<i32, Unreadable> {
        let number = u32::try_from(self.number()?).map_err(|_| Unreadable)?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn float(&mut self) -> Result<f64, Unreadable> {
        Ok(f64::from_bits(u64::from_le_bytes(self.array()?)))
    }

    fn length(&mut self) -> Result<usize, Unreadable> {
        usize::try_from(self.number()?).ok().filter(|length| *length <= BUCKETS_MAX + 1).ok_or(Unreadable)
    }

    fn list<T>(
        &mut self,
        length: usize,
        read: impl Fn(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<Vec<T>, Unreadable> {
        (0..length).map(|_| read(self)).collect()
    }

    fn totals(&mut self) -> Result<Totals, Unreadable> {
        let count = self.number()?;
        let [there] = self.array()?;
        let mut next = |bit: u8| if there >> bit & 1 == 1 { self.float().map(Some) } else { Ok(None) };
        Ok(Totals { count, sum: next(0)?, min: next(1)?, max: next(2)? })
    }

    fn side(&mut self) -> Result<Side, Unreadable> {
        let offset = self.signed()?;
        let length = self.length()?;
        Ok(Side { offset, counts: self.list(length, Rest::number)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn totals() -> impl Strategy<Value = Totals> {
        let number = || prop::option::of(-1e9..1e9_f64);
        (any::<u64>(), number(), number(), number()).prop_map(|(count, sum, min, max)| Totals {
            count,
            sum,
            min,
            max,
        })
    }

    fn side() -> impl Strategy<Value = Side> {
        (any::<i32>(), prop::collection::vec(any::<u64>(), 0..9))
            .prop_map(|(offset, counts)| Side { offset, counts })
    }

    fn content() -> impl Strategy<Value = (Form, Content)> {
        let histogram = (totals(), prop::collection::vec((-1e9..1e9_f64, any::<u64>()), 0..9), any::<u64>());
        let histogram = histogram.prop_map(|(totals, buckets, last)| {
            let (bounds, mut counts): (Vec<f64>, Vec<u64>) = buckets.into_iter().unzip();
            if !bounds.is_empty() {
                counts.push(last);
            }
            Content::Histogram(Histogram { totals, bounds, counts })
        });
        let histogram = histogram.boxed();
        let exponential = (totals(), -11..20_i32, any::<u64>(), 0.0..1.0_f64, side(), side()).prop_map(
            |(totals, scale, zero_count, zero_threshold, positive, negative)| {
                Content::Exponential(Exponential {
                    totals,
                    scale,
                    zero_count,
                    zero_threshold,
                    positive,
                    negative,
                })
            },
        );
        let exponential = exponential.boxed();
        let quantiles = prop::collection::vec((0.0..1.0_f64, -1e9..1e9_f64), 0..9);
        prop_oneof![
            prop::sample::select(vec![Form::Gauge, Form::Sum, Form::CumulativeSum])
                .prop_map(|form| (form, Content::Value)),
            histogram.clone().prop_map(|content| (Form::Histogram, content)),
            histogram.prop_map(|content| (Form::CumulativeHistogram, content)),
            exponential.clone().prop_map(|content| (Form::Exponential, content)),
            exponential.prop_map(|content| (Form::CumulativeExponential, content)),
            quantiles.prop_map(|quantiles| (Form::Summary, Content::Summary(quantiles))),
        ]
    }

    proptest! {
        #[test]
        fn a_point_comes_back_as_it_went_and_its_beginnings_are_refused(
            (form, content) in content(),
            id in any::<[u8; 16]>(),
            start in any::<u64>(),
            exemplars in prop::collection::vec((-1e9..1e9_f64, any::<[u8; 16]>()), 0..3),
        ) {
            let series = if form.is_cumulative() { Series { id, start } } else { Series::default() };
            let point = Point { form, series, content, exemplars };
            let mut bytes = Vec::new();
            point.encode(&mut bytes);
            prop_assert_eq!(Point::decode(&bytes), Ok(point));
            for end in 0..bytes.len() {
                prop_assert_eq!(Point::decode(&bytes[..end]), Err(Unreadable));
            }
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Point::decode(&bytes);
        }
    }
}
