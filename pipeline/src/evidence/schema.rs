//! The one Arrow schema of evidence, and the way from rows into it.
//!
//! Texts that repeat are dictionaries of UTF-8 with 32-bit keys, numbered in the order of first appearance; words of our own
//! enumerations are dictionaries with fixed contents. What is absent is null. The same rows give the same bytes.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBuilder, DictionaryArray, FixedSizeBinaryBuilder,
    Float32Builder, Float64Builder, RecordBatch, StringArray, TimestampNanosecondBuilder, UInt32Builder,
    UInt64Builder,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, UInt32Type};
use arrow::error::ArrowError;

use super::{Correlation, Kind, Method, Row, Rows, Text};
use crate::batch::Signal;
use crate::clock::Timestamp;

/// The columns that hold texts of the evidence, in the order of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TextColumn {
    /// The canonical requirement key.
    Req,
    /// Its version.
    ReqVersion,
    /// The observation's other keys, separated by commas.
    Also,
    /// `sea.flow`.
    Flow,
    /// `sea.context`.
    Context,
    /// `sea.domain`.
    Domain,
    /// `sea.concept`.
    Concept,
    /// `sea.regime_id`.
    Regime,
    /// `sea.policy`.
    Policy,
    /// `service.name`.
    Service,
    /// The deployment environment.
    Environment,
    /// Of the span, metric or log event.
    Name,
    /// The measure that the row feeds and no other.
    Measure,
    /// Of the value.
    Unit,
    /// `sea:{context}:{flow}`.
    SpecNode,
    /// JSON object of the labels that the model groups by.
    Labels,
    /// The receiver's component id.
    Source,
}

impl TextColumn {
    /// Every one, in the order of the schema.
    pub const ALL: [TextColumn; 17] = [
        TextColumn::Req,
        TextColumn::ReqVersion,
        TextColumn::Also,
        TextColumn::Flow,
        TextColumn::Context,
        TextColumn::Domain,
        TextColumn::Concept,
        TextColumn::Regime,
        TextColumn::Policy,
        TextColumn::Service,
        TextColumn::Environment,
        TextColumn::Name,
        TextColumn::Measure,
        TextColumn::Unit,
        TextColumn::SpecNode,
        TextColumn::Labels,
        TextColumn::Source,
    ];

    /// The column's name in the schema, in SQL and in archives.
    pub const fn name(self) -> &'static str {
        match self {
            TextColumn::Req => "req",
            TextColumn::ReqVersion => "req_version",
            TextColumn::Also => "also",
            TextColumn::Flow => "flow",
            TextColumn::Context => "context",
            TextColumn::Domain => "domain",
            TextColumn::Concept => "concept",
            TextColumn::Regime => "regime",
            TextColumn::Policy => "policy",
            TextColumn::Service => "service",
            TextColumn::Environment => "environment",
            TextColumn::Name => "name",
            TextColumn::Measure => "measure",
            TextColumn::Unit => "unit",
            TextColumn::SpecNode => "spec_node",
            TextColumn::Labels => "labels",
            TextColumn::Source => "source",
        }
    }

    const fn of(self, row: &Row) -> Text {
        match self {
            TextColumn::Req => row.req,
            TextColumn::ReqVersion => row.req_version,
            TextColumn::Also => row.also,
            TextColumn::Flow => row.flow,
            TextColumn::Context => row.context,
            TextColumn::Domain => row.domain,
            TextColumn::Concept => row.concept,
            TextColumn::Regime => row.regime,
            TextColumn::Policy => row.policy,
            TextColumn::Service => row.service,
            TextColumn::Environment => row.environment,
            TextColumn::Name => row.name,
            TextColumn::Measure => row.measure,
            TextColumn::Unit => row.unit,
            TextColumn::SpecNode => row.spec_node,
            TextColumn::Labels => row.labels,
            TextColumn::Source => row.source,
        }
    }
}

pub(super) const SIGNALS: [Signal; 3] = Signal::ALL;
pub(super) const KINDS: [Kind; 5] =
    [Kind::Internal, Kind::Server, Kind::Client, Kind::Producer, Kind::Consumer];
pub(super) const STATUSES: [Correlation; 3] =
    [Correlation::Matched, Correlation::Partial, Correlation::Failed];
pub(super) const METHODS: [Method; 7] = [
    Method::Attribute,
    Method::Nested,
    Method::Scope,
    Method::Resource,
    Method::Text,
    Method::Selector,
    Method::Flow,
];

/// The contents of the dictionaries of our own words.
struct Words {
    signal: ArrayRef,
    kind: ArrayRef,
    status: ArrayRef,
    method: ArrayRef,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    fn words<const N: usize>(words: [&'static str; N]) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(words))
    }
    Words {
        signal: words(SIGNALS.map(Signal::name)),
        kind: words(KINDS.map(Kind::name)),
        status: words(STATUSES.map(Correlation::name)),
        method: words(METHODS.map(Method::name)),
    }
});

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = || DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
    let mut fields = vec![
        Field::new("time", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), true),
        Field::new("signal", text(), false),
        Field::new("is_primary", DataType::Boolean, false),
        Field::new("is_error", DataType::Boolean, false),
        Field::new("kind", text(), true),
    ];
    fields.extend(TextColumn::ALL.map(|column| Field::new(column.name(), text(), true)));
    fields.extend([
        Field::new("value", DataType::Float64, true),
        Field::new("count", DataType::UInt64, false),
        Field::new("sketch", DataType::Binary, true),
        Field::new("trace_id", DataType::FixedSizeBinary(16), true),
        Field::new("span_id", DataType::FixedSizeBinary(8), true),
        Field::new("confidence", DataType::Float32, false),
        Field::new("status", text(), false),
        Field::new("method", text(), false),
    ]);
    Arc::new(Schema::new(fields))
});

/// The schema. `sketch` is null but for data points: [`super::point`].
pub fn schema() -> SchemaRef {
    SCHEMA.clone()
}

/// One batch of all rows, in order.
///
/// # Errors
/// Arrow's, when its limits are passed (2 GiB of distinct text in one column); body and commit limits keep that away.
pub fn build(groups: &[&Rows]) -> Result<RecordBatch, ArrowError> {
    let count = groups.iter().map(|group| group.len()).sum();
    let mut numbers = Numbers::new(count);
    let mut texts = TextColumn::ALL.map(|column| Texts::new(column, count));
    // Group by group and not column by column: the rows of one request are still in the cache for the next column.
    for group in groups {
        group.rows().iter().try_for_each(|row| numbers.take(row))?;
        texts.iter_mut().for_each(|column| column.take(group));
    }
    let (mut columns, last) = numbers.finish(sketches(groups, count)?)?;
    for column in texts {
        columns.push(column.finish()?);
    }
    columns.extend(last);
    RecordBatch::try_new(schema(), columns)
}

/// Every column that holds no text of the evidence, as it grows.
struct Numbers {
    time: TimestampNanosecondBuilder,
    signal: UInt32Builder,
    is_primary: BooleanBuilder,
    is_error: BooleanBuilder,
    kind: UInt32Builder,
    value: Float64Builder,
    count: UInt64Builder,
    trace_id: FixedSizeBinaryBuilder,
    span_id: FixedSizeBinaryBuilder,
    confidence: Float32Builder,
    status: UInt32Builder,
    method: UInt32Builder,
}

impl Numbers {
    fn new(rows: usize) -> Numbers {
        Numbers {
            time: TimestampNanosecondBuilder::with_capacity(rows).with_timezone("UTC"),
            signal: UInt32Builder::with_capacity(rows),
            is_primary: BooleanBuilder::with_capacity(rows),
            is_error: BooleanBuilder::with_capacity(rows),
            kind: UInt32Builder::with_capacity(rows),
            value: Float64Builder::with_capacity(rows),
            count: UInt64Builder::with_capacity(rows),
            trace_id: FixedSizeBinaryBuilder::with_capacity(rows, 16),
            span_id: FixedSizeBinaryBuilder::with_capacity(rows, 8),
            confidence: Float32Builder::with_capacity(rows),
            status: UInt32Builder::with_capacity(rows),
            method: UInt32Builder::with_capacity(rows),
        }
    }

    fn take(&mut self, row: &Row) -> Result<(), ArrowError> {
        self.time.append_option((row.time != Timestamp::ZERO).then(|| row.time.as_nanos()));
        self.signal.append_option(place(&SIGNALS, row.signal));
        self.is_primary.append_value(row.is_primary);
        self.is_error.append_value(row.is_error);
        self.kind.append_option(place(&KINDS, row.kind));
        self.value.append_option((!row.value.is_nan()).then_some(row.value));
        self.count.append_value(row.count);
        append_id(&mut self.trace_id, row.trace_id)?;
        append_id(&mut self.span_id, row.span_id)?;
        self.confidence.append_value(row.confidence);
        self.status.append_option(place(&STATUSES, row.status));
        self.method.append_option(place(&METHODS, row.method));
        Ok(())
    }

    /// The columns before the texts and those after them.
    fn finish(mut self, sketches: BinaryArray) -> Result<(Vec<ArrayRef>, [ArrayRef; 8]), ArrowError> {
        let first: Vec<ArrayRef> = vec![
            Arc::new(self.time.finish()),
            word(&WORDS.signal, self.signal)?,
            Arc::new(self.is_primary.finish()),
            Arc::new(self.is_error.finish()),
            word(&WORDS.kind, self.kind)?,
        ];
        let last: [ArrayRef; 8] = [
            Arc::new(self.value.finish()),
            Arc::new(self.count.finish()),
            Arc::new(sketches),
            Arc::new(self.trace_id.finish()),
            Arc::new(self.span_id.finish()),
            Arc::new(self.confidence.finish()),
            word(&WORDS.status, self.status)?,
            word(&WORDS.method, self.method)?,
        ];
        Ok((first, last))
    }
}

/// The rows of `batch` for which `keep` says so; it has one item a row.
///
/// # Errors
/// `keep` is shorter or longer than the batch.
pub fn keep(batch: &RecordBatch, keep: Vec<bool>) -> Result<RecordBatch, ArrowError> {
    filter_record_batch(batch, &BooleanArray::from(keep))
}

/// Where a word of ours stands in its dictionary.
fn place<T: PartialEq, const N: usize>(words: &[T; N], word: T) -> Option<u32> {
    words.iter().position(|known| *known == word).and_then(|at| u32::try_from(at).ok())
}

fn word(words: &ArrayRef, mut keys: UInt32Builder) -> Result<ArrayRef, ArrowError> {
    Ok(Arc::new(DictionaryArray::<UInt32Type>::try_new(keys.finish(), words.clone())?))
}

fn sketches(groups: &[&Rows], count: usize) -> Result<BinaryArray, ArrowError> {
    let all = || groups.iter().flat_map(|group| group.rows().iter().map(|row| group.sketch(row.sketch)));
    let bytes: usize = all().map(<[u8]>::len).sum();
    if bytes == 0 {
        return Ok(BinaryArray::new_null(count));
    }
    if i32::try_from(bytes).is_err() {
        return Err(ArrowError::InvalidArgumentError("the sketches of one commit pass 2 GiB".to_owned()));
    }
    Ok(all().map(|sketch| (!sketch.is_empty()).then_some(sketch)).collect())
}

fn append_id<const N: usize>(builder: &mut FixedSizeBinaryBuilder, id: [u8; N]) -> Result<(), ArrowError> {
    if id == [0; N] {
        builder.append_null();
        return Ok(());
    }
    builder.append_value(id)
}

/// A column of texts as it grows. A row usually says what the row before it said, often by the same handle; only what differs
/// is looked up.
struct Texts<'a> {
    column: TextColumn,
    keys: UInt32Builder,
    values: Vec<&'a str>,
    known: HashMap<&'a str, u32>,
    last: Option<(&'a str, u32)>,
}

impl<'a> Texts<'a> {
    fn new(column: TextColumn, rows: usize) -> Texts<'a> {
        let keys = UInt32Builder::with_capacity(rows);
        Texts { column, keys, values: Vec::new(), known: HashMap::new(), last: None }
    }

    fn take(&mut self, group: &'a Rows) {
        let mut rows = group.rows();
        while let Some(first) = rows.first() {
            let handle = self.column.of(first);
            let run = rows.iter().position(|row| self.column.of(row) != handle).unwrap_or(rows.len());
            if handle.is_none() {
                self.keys.append_nulls(run);
            } else {
                let key = self.key(group.text(handle));
                self.keys.append_value_n(key, run);
            }
            rows = &rows[run..];
        }
    }

    fn key(&mut self, text: &'a str) -> u32 {
        let key = match self.last {
            Some((same, key)) if same == text => key,
            Some(_) | None => *self.known.entry(text).or_insert_with(|| {
                self.values.push(text);
                u32::try_from(self.values.len() - 1).unwrap_or(u32::MAX)
            }),
        };
        self.last = Some((text, key));
        key
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        let values: ArrayRef = Arc::new(StringArray::from_iter_values(self.values));
        word(&values, self.keys)
    }
}
