//! The one Arrow schema of evidence, and the way from rows into it.
//!
//! Texts that repeat are dictionaries of UTF-8 with 32-bit keys, numbered in the order of first appearance; words of our own
//! enumerations are dictionaries with fixed contents. What is absent is null. The same rows give the same bytes.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, FixedSizeBinaryBuilder,
    Float32Array, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
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
    let rows = || groups.iter().flat_map(|group| group.rows());
    let known = |at: Timestamp| (at != Timestamp::ZERO).then(|| at.as_nanos());
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from_iter(rows().map(|row| known(row.time))).with_timezone("UTC")),
        word(&WORDS.signal, rows().map(|row| SIGNALS.iter().position(|signal| *signal == row.signal)))?,
        Arc::new(rows().map(|row| Some(row.is_primary)).collect::<BooleanArray>()),
        Arc::new(rows().map(|row| Some(row.is_error)).collect::<BooleanArray>()),
        word(&WORDS.kind, rows().map(|row| KINDS.iter().position(|kind| *kind == row.kind)))?,
    ];
    for column in TextColumn::ALL {
        columns.push(text(groups, column)?);
    }
    let statuses = rows().map(|row| STATUSES.iter().position(|status| *status == row.status));
    let methods = rows().map(|row| METHODS.iter().position(|method| *method == row.method));
    let count = rows().count();
    columns.extend([
        Arc::new(rows().map(|row| Some(row.value).filter(|v| !v.is_nan())).collect::<Float64Array>())
            as ArrayRef,
        Arc::new(UInt64Array::from_iter_values(rows().map(|row| row.count))),
        Arc::new(sketches(groups, count)?),
        Arc::new(ids(count, rows().map(|row| row.trace_id))?),
        Arc::new(ids(count, rows().map(|row| row.span_id))?),
        Arc::new(Float32Array::from_iter_values(rows().map(|row| row.confidence))),
        word(&WORDS.status, statuses)?,
        word(&WORDS.method, methods)?,
    ]);
    RecordBatch::try_new(schema(), columns)
}

/// The rows of `batch` for which `keep` says so; it has one item a row.
///
/// # Errors
/// `keep` is shorter or longer than the batch.
pub fn keep(batch: &RecordBatch, keep: Vec<bool>) -> Result<RecordBatch, ArrowError> {
    filter_record_batch(batch, &BooleanArray::from(keep))
}

fn word(words: &ArrayRef, positions: impl Iterator<Item = Option<usize>>) -> Result<ArrayRef, ArrowError> {
    let keys: UInt32Array = positions.map(|at| at.and_then(|at| u32::try_from(at).ok())).collect();
    Ok(Arc::new(DictionaryArray::<UInt32Type>::try_new(keys, words.clone())?))
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

fn ids<const N: usize>(
    count: usize,
    ids: impl Iterator<Item = [u8; N]>,
) -> Result<FixedSizeBinaryArray, ArrowError> {
    let mut builder = FixedSizeBinaryBuilder::with_capacity(count, i32::try_from(N).unwrap_or(i32::MAX));
    for id in ids {
        if id == [0; N] {
            builder.append_null();
        } else {
            builder.append_value(id)?;
        }
    }
    Ok(builder.finish())
}

/// A row usually says what the row before it said, often by the same handle; only what differs is looked up.
fn text(groups: &[&Rows], column: TextColumn) -> Result<ArrayRef, ArrowError> {
    let mut keys: Vec<Option<u32>> = Vec::with_capacity(groups.iter().map(|group| group.len()).sum());
    let mut values: Vec<&str> = Vec::new();
    let mut known: HashMap<&str, u32> = HashMap::new();
    let mut last: Option<(&str, u32)> = None;
    for group in groups {
        let mut handle = (Text::NONE, None);
        for row in group.rows() {
            let text = column.of(row);
            if text != handle.0 {
                let key = if text.is_none() {
                    None
                } else {
                    let text = group.text(text);
                    let key = match last {
                        Some((same, key)) if same == text => key,
                        Some(_) | None => *known.entry(text).or_insert_with(|| {
                            values.push(text);
                            u32::try_from(values.len() - 1).unwrap_or(u32::MAX)
                        }),
                    };
                    last = Some((text, key));
                    Some(key)
                };
                handle = (text, key);
            }
            keys.push(handle.1);
        }
    }
    let values = Arc::new(StringArray::from_iter_values(values));
    Ok(Arc::new(DictionaryArray::<UInt32Type>::try_new(UInt32Array::from(keys), values)?))
}
