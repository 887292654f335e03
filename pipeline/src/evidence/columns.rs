//! Evidence as columns: typed readers of a batch in [`super::schema`]. A fold that looks something up per text does it once
//! per dictionary key ([`Texts::key`]), not once per row.

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float32Array,
    Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::UInt32Type;

use super::schema::{KINDS, METHODS, SIGNALS, STATUSES, TextColumn};
use super::{Correlation, Kind, Method};
use crate::batch::Signal;
use crate::clock::Timestamp;

/// A batch that is not in the schema: another version wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the evidence has no column `{column}` of the expected type; it was written by another version")]
pub struct WrongSchema {
    /// The first column that is missing or of another type.
    pub column: &'static str,
}

/// A dictionary column.
#[derive(Clone, Debug)]
pub struct Texts {
    keys: UInt32Array,
    values: StringArray,
}

impl Texts {
    /// The text of row `row`; none when absent.
    pub fn get(&self, row: usize) -> Option<&str> {
        self.key(row).map(|key| self.value(key))
    }

    /// The dictionary key of row `row`, below [`Texts::distinct`]; none when absent. Keys hold within this batch only.
    pub fn key(&self, row: usize) -> Option<u32> {
        (!self.keys.is_null(row)).then(|| self.keys.value(row))
    }

    /// The text of a key.
    pub fn value(&self, key: u32) -> &str {
        self.values.value(key as usize)
    }

    /// Whether no row has a text.
    pub fn is_absent(&self) -> bool {
        self.keys.null_count() == self.keys.len()
    }

    /// How many keys there are; some may occur in no row.
    pub fn distinct(&self) -> usize {
        self.values.len()
    }
}

/// A dictionary column of our own words, each read once per key. The writer numbers them in the order of their list; a file of
/// another version may not, so the word decides.
#[derive(Clone, Debug)]
struct Words<T> {
    keys: UInt32Array,
    items: Vec<T>,
}

impl<T: Copy + Default> Words<T> {
    fn new<const N: usize>(
        batch: &RecordBatch,
        column: &'static str,
        all: [T; N],
        name: fn(T) -> &'static str,
    ) -> Result<Words<T>, WrongSchema> {
        let Texts { keys, values } = texts(batch, column)?;
        let item = |word: Option<&str>| all.into_iter().find(|item| Some(name(*item)) == word);
        let items = values.iter().map(|word| item(word).unwrap_or_default()).collect();
        Ok(Words { keys, items })
    }

    /// The default where there is no word, or none that is known.
    fn get(&self, row: usize) -> T {
        if self.keys.is_null(row) {
            return T::default();
        }
        self.items.get(self.keys.value(row) as usize).copied().unwrap_or_default()
    }
}

/// A batch, by column. Rows count from 0; one beyond the end panics, as an index does.
#[derive(Clone, Debug)]
pub struct Columns {
    rows: usize,
    time: TimestampNanosecondArray,
    signal: Words<Option<Signal>>,
    is_primary: BooleanArray,
    is_error: BooleanArray,
    kind: Words<Kind>,
    texts: [Texts; TextColumn::ALL.len()],
    value: Float64Array,
    count: UInt64Array,
    /// None: no row has one.
    sketch: Option<BinaryArray>,
    trace_id: FixedSizeBinaryArray,
    span_id: FixedSizeBinaryArray,
    confidence: Float32Array,
    status: Words<Correlation>,
    method: Words<Method>,
}

fn column<A: Array + Clone + 'static>(batch: &RecordBatch, column: &'static str) -> Result<A, WrongSchema> {
    let array: Option<&ArrayRef> = batch.column_by_name(column);
    array.and_then(|array| array.as_any().downcast_ref::<A>()).cloned().ok_or(WrongSchema { column })
}

fn texts(batch: &RecordBatch, name: &'static str) -> Result<Texts, WrongSchema> {
    let array: DictionaryArray<UInt32Type> = column(batch, name)?;
    let values = array.values().as_any().downcast_ref::<StringArray>();
    let values = values.cloned().ok_or(WrongSchema { column: name })?;
    Ok(Texts { keys: array.keys().clone(), values })
}

impl Columns {
    /// Reads the columns; copies no values.
    ///
    /// # Errors
    /// The batch is not in the schema.
    pub fn new(batch: &RecordBatch) -> Result<Columns, WrongSchema> {
        let all = TextColumn::ALL.map(|column| texts(batch, column.name()));
        let all: Vec<Texts> = all.into_iter().collect::<Result<_, _>>()?;
        Ok(Columns {
            rows: batch.num_rows(),
            time: column(batch, "time")?,
            signal: Words::new(batch, "signal", SIGNALS.map(Some), |signal| signal.map_or("", Signal::name))?,
            is_primary: column(batch, "is_primary")?,
            is_error: column(batch, "is_error")?,
            kind: Words::new(batch, "kind", KINDS, Kind::name)?,
            texts: all.try_into().map_err(|_| WrongSchema { column: "req" })?,
            value: column(batch, "value")?,
            count: column(batch, "count")?,
            sketch: Some(column::<BinaryArray>(batch, "sketch")?)
                .filter(|sketch| sketch.null_count() < sketch.len()),
            trace_id: ids(column(batch, "trace_id")?, "trace_id", 16)?,
            span_id: ids(column(batch, "span_id")?, "span_id", 8)?,
            confidence: column(batch, "confidence")?,
            status: Words::new(batch, "status", STATUSES, Correlation::name)?,
            method: Words::new(batch, "method", METHODS, Method::name)?,
        })
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Event time; none when the record says none.
    pub fn time(&self, row: usize) -> Option<Timestamp> {
        (!self.time.is_null(row)).then(|| Timestamp::from_nanos(self.time.value(row)))
    }

    /// Whose record it is.
    pub fn signal(&self, row: usize) -> Signal {
        self.signal.get(row).unwrap_or(Signal::Traces)
    }

    /// Whether it is the first row of its observation.
    pub fn is_primary(&self, row: usize) -> bool {
        self.is_primary.value(row)
    }

    /// Whether the observation is a failure.
    pub fn is_error(&self, row: usize) -> bool {
        self.is_error.value(row)
    }

    /// Kind of span.
    pub fn kind(&self, row: usize) -> Kind {
        self.kind.get(row)
    }

    /// A text column as a whole, with its keys.
    pub fn texts(&self, column: TextColumn) -> &Texts {
        &self.texts[column as usize]
    }

    /// The canonical requirement key.
    pub fn req(&self, row: usize) -> Option<&str> {
        self.texts(TextColumn::Req).get(row)
    }

    /// `sea.flow`.
    pub fn flow(&self, row: usize) -> Option<&str> {
        self.texts(TextColumn::Flow).get(row)
    }

    /// `sea.context`.
    pub fn context(&self, row: usize) -> Option<&str> {
        self.texts(TextColumn::Context).get(row)
    }

    /// `service.name`.
    pub fn service(&self, row: usize) -> Option<&str> {
        self.texts(TextColumn::Service).get(row)
    }

    /// The deployment environment.
    pub fn environment(&self, row: usize) -> Option<&str> {
        self.texts(TextColumn::Environment).get(row)
    }

    /// Of the span, metric or log event.
    pub fn name(&self, row: usize) -> Option<&str> {
        self.texts(TextColumn::Name).get(row)
    }

    /// The measure that the row feeds and no other.
    pub fn measure(&self, row: usize) -> Option<&str> {
        self.texts(TextColumn::Measure).get(row)
    }

    /// `sea:{context}:{flow}`.
    pub fn spec_node(&self, row: usize) -> Option<&str> {
        self.texts(TextColumn::SpecNode).get(row)
    }

    /// JSON object of the labels that the model groups by.
    pub fn labels(&self, row: usize) -> Option<&str> {
        self.texts(TextColumn::Labels).get(row)
    }

    /// The number; none when there is none.
    pub fn value(&self, row: usize) -> Option<f64> {
        (!self.value.is_null(row)).then(|| self.value.value(row))
    }

    /// The value's unit.
    pub fn unit(&self, row: usize) -> Option<&str> {
        self.texts(TextColumn::Unit).get(row)
    }

    /// How many observations the row stands for.
    pub fn count(&self, row: usize) -> u64 {
        self.count.value(row)
    }

    /// What a data point says beside its value ([`super::point::Point`]); none of spans and log records.
    #[inline]
    pub fn sketch(&self, row: usize) -> Option<&[u8]> {
        let sketch = self.sketch.as_ref()?;
        (!sketch.is_null(row)).then(|| sketch.value(row))
    }

    /// The trace.
    pub fn trace_id(&self, row: usize) -> Option<[u8; 16]> {
        (!self.trace_id.is_null(row)).then(|| self.trace_id.value(row).try_into().unwrap_or_default())
    }

    /// The span.
    pub fn span_id(&self, row: usize) -> Option<[u8; 8]> {
        (!self.span_id.is_null(row)).then(|| self.span_id.value(row).try_into().unwrap_or_default())
    }

    /// What the correlation rests on, 0 … 1.
    pub fn confidence(&self, row: usize) -> f32 {
        self.confidence.value(row)
    }

    /// Whether the expected attributes are there.
    pub fn status(&self, row: usize) -> Correlation {
        self.status.get(row)
    }

    /// How the requirement or flow was found.
    pub fn method(&self, row: usize) -> Method {
        self.method.get(row)
    }
}

fn ids(
    array: FixedSizeBinaryArray,
    column: &'static str,
    length: i32,
) -> Result<FixedSizeBinaryArray, WrongSchema> {
    if array.value_length() == length { Ok(array) } else { Err(WrongSchema { column }) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::kept::{complete, shorten};
    use super::super::schema::build;
    use super::super::{Blob, Row, Rows, Text};
    use super::*;

    /// A row that says little.
    pub fn row(time: i64) -> Row {
        Row {
            time: Timestamp::from_nanos(time),
            signal: Signal::Logs,
            is_primary: true,
            is_error: false,
            kind: Kind::Unspecified,
            req: Text::NONE,
            req_version: Text::NONE,
            also: Text::NONE,
            flow: Text::NONE,
            context: Text::NONE,
            domain: Text::NONE,
            concept: Text::NONE,
            regime: Text::NONE,
            policy: Text::NONE,
            service: Text::NONE,
            environment: Text::NONE,
            name: Text::NONE,
            measure: Text::NONE,
            value: f64::NAN,
            unit: Text::NONE,
            count: 1,
            sketch: Blob::NONE,
            trace_id: [0; 16],
            span_id: [0; 8],
            spec_node: Text::NONE,
            confidence: 0.5,
            status: Correlation::Failed,
            method: Method::Text,
            labels: Text::NONE,
            source: Text::NONE,
        }
    }

    fn groups() -> [Rows; 2] {
        let mut first = Rows::new();
        let req = first.intern("REQ-A-1");
        let service = first.intern("auth");
        let other = first.intern("REQ-B-1");
        let again = first.intern("REQ-A-1");
        first.push(Row { req, service, trace_id: [7; 16], span_id: [9; 8], value: 0.0, ..row(5) });
        first.push(Row { req: other, service, kind: Kind::Server, ..row(0) });
        first.push(Row { req: again, signal: Signal::Traces, status: Correlation::Matched, ..row(6) });
        let mut second = Rows::new();
        second.push(row(1));
        let req = second.intern("REQ-B-1");
        let source = second.intern("otlp");
        let sketch = second.write(|bytes| bytes.extend([1, 0]));
        second.push(Row { req, source, is_primary: false, is_error: true, count: 12, sketch, ..row(2) });
        [first, second]
    }

    #[test]
    fn every_field_of_a_row_comes_back() {
        let [first, second] = groups();
        let columns = Columns::new(&build(&[&first, &second]).unwrap()).unwrap();
        assert_eq!(columns.len(), 5);
        let reqs: Vec<_> = (0..5).map(|row| columns.req(row)).collect();
        assert_eq!(reqs, [Some("REQ-A-1"), Some("REQ-B-1"), Some("REQ-A-1"), None, Some("REQ-B-1")]);
        assert_eq!(columns.texts(TextColumn::Req).distinct(), 2);
        assert_eq!(columns.texts(TextColumn::Req).key(4), Some(1));
        assert_eq!((columns.service(0), columns.service(2)), (Some("auth"), None));
        assert_eq!((columns.time(0), columns.time(1)), (Some(Timestamp::from_nanos(5)), None));
        assert_eq!((columns.kind(0), columns.kind(1)), (Kind::Unspecified, Kind::Server));
        assert_eq!((columns.signal(0), columns.signal(2)), (Signal::Logs, Signal::Traces));
        assert_eq!((columns.status(0), columns.status(2)), (Correlation::Failed, Correlation::Matched));
        assert_eq!(columns.method(0), Method::Text);
        assert_eq!((columns.trace_id(0), columns.span_id(0)), (Some([7; 16]), Some([9; 8])));
        assert_eq!((columns.trace_id(1), columns.span_id(1)), (None, None));
        assert_eq!((columns.value(0), columns.value(1)), (Some(0.0), None), "zero is a value, NaN is none");
        assert_eq!((columns.count(0), columns.count(4)), (1, 12));
        assert_eq!((columns.sketch(0), columns.sketch(4)), (None, Some(&[1, 0][..])));
        assert_eq!((columns.is_primary(4), columns.is_error(4), columns.is_error(0)), (false, true, false));
        assert_eq!(columns.texts(TextColumn::Source).get(4), Some("otlp"));
        assert!((columns.confidence(0) - 0.5).abs() < f32::EPSILON);
    }

    #[test]
    fn the_same_rows_give_the_same_bytes() {
        let bytes = || {
            let [first, second] = groups();
            let batch = build(&[&first, &second]).unwrap();
            let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
            writer.write(&batch).unwrap();
            writer.into_inner().unwrap()
        };
        assert_eq!(bytes(), bytes());
    }

    #[test]
    fn text_columns_stand_where_their_number_says() {
        for (at, column) in TextColumn::ALL.into_iter().enumerate() {
            assert_eq!(column as usize, at, "{column:?}");
        }
    }

    #[test]
    fn columns_in_which_nothing_is_said_are_left_out_and_come_back() {
        let [first, second] = groups();
        let batch = build(&[&first, &second]).unwrap();
        let short = shorten(&batch).unwrap();
        for (column, is_kept) in [("req", true), ("value", true), ("flow", false), ("measure", false)] {
            assert_eq!(short.column_by_name(column).is_some(), is_kept, "{column}");
        }
        assert_eq!(complete(short.clone()).unwrap(), batch);
        let empty = build(&[]).unwrap();
        assert_eq!(complete(shorten(&empty).unwrap()).unwrap(), empty);
        let without = short.project(&[0, 1]).unwrap();
        assert!(complete(without).is_err(), "whether it is an error cannot be absent");
    }

    #[test]
    fn a_batch_of_another_schema_is_named_not_guessed() {
        let batch = build(&[]).unwrap();
        assert!(Columns::new(&batch).unwrap().is_empty());
        let without = batch.project(&[0, 1, 2]).unwrap();
        assert_eq!(Columns::new(&without).unwrap_err(), WrongSchema { column: "req" });
    }
}
