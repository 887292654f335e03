//! Views of data points. One type for all kinds: what a kind has not is absent or empty.

use super::metrics::DataKind;
use super::resource::Run;
use super::value::{Attributes, Chunks, Parts};
use super::wire::{self, Field};

/// The value of a number point or of an exemplar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// `as_int`.
    Int(i64),
    /// `as_double`; may be NaN or infinite.
    Double(f64),
}

impl Number {
    /// As a double; integers beyond 2^53 lose their last digits.
    #[expect(clippy::cast_precision_loss, reason = "measures are doubles")]
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Int(value) => value as f64,
            Number::Double(value) => value,
        }
    }
}

/// One data point.
#[derive(Clone, Copy, Default)]
pub struct PointView<'a> {
    kind: DataKind,
    start: u64,
    time: u64,
    flags: u32,
    value: Option<Number>,
    count: u64,
    sum: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    scale: i32,
    zero_count: u64,
    zero_threshold: f64,
    attributes: &'a [u8],
    exemplars: &'a [u8],
    counts: &'a [u8],
    bounds: &'a [u8],
    positive: &'a [u8],
    negative: &'a [u8],
    quantiles: &'a [u8],
}

/// Where the repeated fields of a point lie.
#[derive(Default)]
struct Runs {
    attributes: Run,
    exemplars: Run,
    counts: Run,
    bounds: Run,
    positive: Run,
    negative: Run,
    quantiles: Run,
}

impl<'a> PointView<'a> {
    /// One pass over the own fields of a point of this kind.
    pub fn read(kind: DataKind, message: &'a [u8]) -> PointView<'a> {
        let mut point = PointView { kind, ..PointView::default() };
        let mut runs = Runs::default();
        let mut rest = message;
        loop {
            let start = message.len() - rest.len();
            let Some((tag, field)) = wire::next(&mut rest) else { break };
            let range = (start, message.len() - rest.len());
            match kind {
                DataKind::Gauge | DataKind::Sum => point.number_field(tag, field, range, &mut runs),
                DataKind::Histogram => point.histogram_field(tag, field, range, &mut runs),
                DataKind::ExponentialHistogram => point.exponential_field(tag, field, range, &mut runs),
                DataKind::Summary => point.summary_field(tag, field, range, &mut runs),
                DataKind::Empty => {}
            }
        }
        point.attributes = runs.attributes.of(message);
        point.exemplars = runs.exemplars.of(message);
        point.counts = runs.counts.of(message);
        point.bounds = runs.bounds.of(message);
        point.positive = runs.positive.of(message);
        point.negative = runs.negative.of(message);
        point.quantiles = runs.quantiles.of(message);
        point
    }

    fn number_field(&mut self, tag: u32, field: Field<'a>, (start, end): (usize, usize), runs: &mut Runs) {
        match tag {
            2 => self.start = field.number(),
            3 => self.time = field.number(),
            4 => self.value = Some(Number::Double(f64::from_bits(field.number()))),
            5 => runs.exemplars.extend(start, end),
            6 => self.value = Some(Number::Int(field.number().cast_signed())),
            7 => runs.attributes.extend(start, end),
            8 => self.flags = field.number() as u32,
            _ => {}
        }
    }

    fn histogram_field(&mut self, tag: u32, field: Field<'a>, (start, end): (usize, usize), runs: &mut Runs) {
        match tag {
            2 => self.start = field.number(),
            3 => self.time = field.number(),
            4 => self.count = field.number(),
            5 => self.sum = double(field),
            6 => runs.counts.extend(start, end),
            7 => runs.bounds.extend(start, end),
            8 => runs.exemplars.extend(start, end),
            9 => runs.attributes.extend(start, end),
            10 => self.flags = field.number() as u32,
            11 => self.min = double(field),
            12 => self.max = double(field),
            _ => {}
        }
    }

    fn exponential_field(
        &mut self,
        tag: u32,
        field: Field<'a>,
        (start, end): (usize, usize),
        runs: &mut Runs,
    ) {
        match tag {
            1 => runs.attributes.extend(start, end),
            2 => self.start = field.number(),
            3 => self.time = field.number(),
            4 => self.count = field.number(),
            5 => self.sum = double(field),
            6 => self.scale = zigzag(field.number()),
            7 => self.zero_count = field.number(),
            8 => runs.positive.extend(start, end),
            9 => runs.negative.extend(start, end),
            10 => self.flags = field.number() as u32,
            11 => runs.exemplars.extend(start, end),
            12 => self.min = double(field),
            13 => self.max = double(field),
            14 => self.zero_threshold = f64::from_bits(field.number()),
            _ => {}
        }
    }

    fn summary_field(&mut self, tag: u32, field: Field<'a>, (start, end): (usize, usize), runs: &mut Runs) {
        match tag {
            2 => self.start = field.number(),
            3 => self.time = field.number(),
            4 => self.count = field.number(),
            5 => self.sum = double(field),
            6 => runs.quantiles.extend(start, end),
            7 => runs.attributes.extend(start, end),
            8 => self.flags = field.number() as u32,
            _ => {}
        }
    }

    /// What it is a point of.
    pub fn kind(&self) -> DataKind {
        self.kind
    }

    /// Since when it counts, in nanoseconds since the epoch; 0 where it is unknown.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Nanoseconds since the epoch.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// `DataPointFlags`.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Whether it says only that there is no value: not that the value is zero.
    pub fn has_no_recorded_value(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Of a gauge or a sum.
    pub fn value(&self) -> Option<Number> {
        self.value
    }

    /// How many observations a histogram or a summary stands for.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of those; always there in a summary.
    pub fn sum(&self) -> Option<f64> {
        self.sum
    }

    /// The smallest of those.
    pub fn min(&self) -> Option<f64> {
        self.min
    }

    /// The largest of those.
    pub fn max(&self) -> Option<f64> {
        self.max
    }

    /// Its attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        let tag = match self.kind {
            DataKind::Histogram => 9,
            DataKind::ExponentialHistogram => 1,
            DataKind::Gauge | DataKind::Sum | DataKind::Summary | DataKind::Empty => 7,
        };
        Attributes::new(Parts::of(self.attributes, tag))
    }

    /// Single observations that it stands for.
    pub fn exemplars(&self) -> impl Iterator<Item = ExemplarView<'a>> + Clone + use<'a> {
        let tag = match self.kind {
            DataKind::Histogram => 8,
            DataKind::ExponentialHistogram => 11,
            DataKind::Gauge | DataKind::Sum | DataKind::Summary | DataKind::Empty => 5,
        };
        Parts::of(self.exemplars, tag).iter().map(ExemplarView::read)
    }

    /// A histogram's counts, one more than its bounds, or none of both.
    pub fn bucket_counts(&self) -> impl Iterator<Item = u64> + Clone + use<'a> {
        Numbers { rest: self.counts, tag: 6, packed: &[], is_varint: false }
    }

    /// A histogram's upper bounds, each inclusive; the last bucket has none.
    pub fn explicit_bounds(&self) -> impl Iterator<Item = f64> + Clone + use<'a> {
        Numbers { rest: self.bounds, tag: 7, packed: &[], is_varint: false }.map(f64::from_bits)
    }

    /// An exponential histogram's: bounds are powers of 2^(2^−scale).
    pub fn scale(&self) -> i32 {
        self.scale
    }

    /// How many observations are zero, or within the threshold of it.
    pub fn zero_count(&self) -> u64 {
        self.zero_count
    }

    /// How far from zero that is.
    pub fn zero_threshold(&self) -> f64 {
        self.zero_threshold
    }

    /// The buckets of positive observations.
    pub fn positive(&self) -> Buckets<'a> {
        Buckets { parts: Parts::of(self.positive, 8) }
    }

    /// The buckets of negative observations, by magnitude.
    pub fn negative(&self) -> Buckets<'a> {
        Buckets { parts: Parts::of(self.negative, 9) }
    }

    /// A summary's quantiles (0 … 1) and their values.
    pub fn quantiles(&self) -> impl Iterator<Item = (f64, f64)> + Clone + use<'a> {
        Parts::of(self.quantiles, 6).iter().map(|message| {
            let (mut quantile, mut value) = (0.0, 0.0);
            let mut rest = message;
            while let Some((tag, field)) = wire::next(&mut rest) {
                match tag {
                    1 => quantile = f64::from_bits(field.number()),
                    2 => value = f64::from_bits(field.number()),
                    _ => {}
                }
            }
            (quantile, value)
        })
    }
}

fn double(field: Field<'_>) -> Option<f64> {
    Some(f64::from_bits(field.number()))
}

/// `sint32`.
fn zigzag(number: u64) -> i32 {
    let number = number as u32;
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Buckets of an exponential histogram: the count at place i is of (base^(offset+i), base^(offset+i+1)].
#[derive(Clone, Copy)]
pub struct Buckets<'a> {
    parts: Parts<'a>,
}

impl<'a> Buckets<'a> {
    /// The index of the first count.
    pub fn offset(self) -> i32 {
        let mut offset = 0;
        for part in self.parts.iter() {
            let mut rest = part;
            while let Some((tag, field)) = wire::next(&mut rest) {
                if let (1, Field::Varint(number)) = (tag, field) {
                    offset = zigzag(number);
                }
            }
        }
        offset
    }

    /// The counts in order.
    pub fn counts(self) -> impl Iterator<Item = u64> + Clone + use<'a> {
        let parts: Chunks<'a> = self.parts.iter();
        parts.flat_map(|rest| Numbers { rest, tag: 2, packed: &[], is_varint: true })
    }
}

/// Repeated numbers, packed or not.
#[derive(Clone)]
struct Numbers<'a> {
    rest: &'a [u8],
    tag: u32,
    packed: &'a [u8],
    is_varint: bool,
}

impl Iterator for Numbers<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        loop {
            if !self.packed.is_empty() {
                if self.is_varint {
                    let mut at = 0;
                    let number = wire::varint(self.packed, &mut at).ok()?;
                    self.packed = self.packed.get(at..)?;
                    return Some(number);
                }
                let (number, rest) = self.packed.split_first_chunk()?;
                self.packed = rest;
                return Some(u64::from_le_bytes(*number));
            }
            let (tag, field) = wire::next(&mut self.rest)?;
            match field {
                Field::Bytes(bytes) if tag == self.tag => self.packed = bytes,
                Field::Varint(number) | Field::Fixed64(number) if tag == self.tag => return Some(number),
                Field::Bytes(_) | Field::Varint(_) | Field::Fixed64(_) | Field::Fixed32(_) | Field::Group => {
                }
            }
        }
    }
}

/// One observation that a point stands for.
#[derive(Clone, Copy, Default)]
pub struct ExemplarView<'a> {
    message: &'a [u8],
    time: u64,
    value: Option<Number>,
    trace_id: &'a [u8],
    span_id: &'a [u8],
}

impl<'a> ExemplarView<'a> {
    fn read(message: &'a [u8]) -> ExemplarView<'a> {
        let mut exemplar = ExemplarView { message, ..ExemplarView::default() };
        let mut rest = message;
        while let Some((tag, field)) = wire::next(&mut rest) {
            match tag {
                2 => exemplar.time = field.number(),
                3 => exemplar.value = Some(Number::Double(f64::from_bits(field.number()))),
                4 => exemplar.span_id = field.bytes(),
                5 => exemplar.trace_id = field.bytes(),
                6 => exemplar.value = Some(Number::Int(field.number().cast_signed())),
                _ => {}
            }
        }
        exemplar
    }

    /// The attributes that the point lost by aggregation.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(Parts::of(self.message, 7))
    }

    /// Nanoseconds since the epoch.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// What was observed.
    pub fn value(&self) -> Option<Number> {
        self.value
    }

    /// Zeros where it has not 16 bytes.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id.try_into().unwrap_or_default()
    }

    /// Zeros where it has not 8 bytes.
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id.try_into().unwrap_or_default()
    }
}
