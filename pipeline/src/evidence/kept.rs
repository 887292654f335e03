//! Evidence as the journal keeps it: the same rows in half the bytes, since every byte is written, synced and kept for days.
//!
//! A column in which no row says anything is left out, and so is `count` where every row stands for one observation. The keys
//! of a dictionary have one byte where that is enough for its texts, or two. [`complete`] gives back what [`shorten`] took.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, DictionaryArray, PrimitiveArray, RecordBatch, RecordBatchOptions,
    UInt64Array, new_null_array,
};
use arrow::datatypes::{
    ArrowDictionaryKeyType, DataType, Field, FieldRef, Schema, SchemaRef, UInt8Type, UInt16Type, UInt32Type,
};
use arrow::error::ArrowError;

use super::schema::schema;

/// The column that most batches say nothing with.
const COUNT: &str = "count";

/// The fields of the schema, each with what it is where its keys are narrow: one byte, two.
static FIELDS: LazyLock<Vec<[FieldRef; 3]>> = LazyLock::new(|| {
    let narrow = |field: &FieldRef, key: DataType| match field.data_type() {
        DataType::Dictionary(_, values) => {
            let kept = DataType::Dictionary(Box::new(key), values.clone());
            Arc::new(Field::new(field.name(), kept, field.is_nullable()))
        }
        _ => field.clone(),
    };
    let each =
        |field: &FieldRef| [field.clone(), narrow(field, DataType::UInt8), narrow(field, DataType::UInt16)];
    schema().fields().iter().map(each).collect()
});

/// A batch as the journal keeps it; one of any other schema stays as it is.
///
/// # Errors
/// None in practice.
pub fn shorten(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    if *batch.schema_ref() != schema() {
        return Ok(batch.clone());
    }
    let rows = batch.num_rows();
    let (mut fields, mut columns): (Vec<FieldRef>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    for (of, column) in FIELDS.iter().zip(batch.columns()) {
        let [field, ..] = of;
        if rows > 0 && (column.null_count() == rows || (field.name() == COUNT && is_one(column))) {
            continue;
        }
        let kept = narrow(column)?;
        let is_kept = |field: &&FieldRef| field.data_type() == kept.data_type();
        fields.push(of.iter().find(is_kept).unwrap_or(field).clone());
        columns.push(kept);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

/// What [`shorten`] was given, whatever version of this program wrote it. A batch of any other schema stays as it is.
///
/// # Errors
/// A column that every row needs is missing, or a key has no text.
pub fn complete(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let is_ours = |field: &FieldRef| FIELDS.iter().flatten().any(|ours| ours == field);
    if !batch.schema_ref().fields().iter().all(is_ours) {
        return Ok(batch);
    }
    let rows = batch.num_rows();
    let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
        Some(kept) => widen(kept),
        None if field.name() == COUNT => Ok(Arc::new(UInt64Array::from_value(1, rows)) as ArrayRef),
        None => Ok(new_null_array(field.data_type(), rows)),
    };
    let whole: SchemaRef = schema();
    let columns = whole.fields().iter().map(column).collect::<Result<_, ArrowError>>()?;
    RecordBatch::try_new(whole, columns)
}

/// Whether every row says 1.
fn is_one(column: &ArrayRef) -> bool {
    let counts = column.as_any().downcast_ref::<UInt64Array>();
    counts.is_some_and(|counts| counts.null_count() == 0 && counts.values().iter().all(|count| *count == 1))
}

/// A dictionary with keys as narrow as its texts allow; any other column as it is.
#[expect(
    clippy::cast_possible_truncation,
    reason = "there are no more texts than the narrow keys can number"
)]
fn narrow(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.as_any().downcast_ref::<DictionaryArray<UInt32Type>>() {
        Some(texts) if texts.values().len() <= 1 << 8 => {
            keyed::<UInt32Type, UInt8Type>(texts, |key| key as u8)
        }
        Some(texts) if texts.values().len() <= 1 << 16 => {
            keyed::<UInt32Type, UInt16Type>(texts, |key| key as u16)
        }
        Some(_) | None => Ok(column.clone()),
    }
}

/// A dictionary with keys of the schema's width; any other column as it is.
fn widen(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let any = column.as_any();
    if let Some(texts) = any.downcast_ref::<DictionaryArray<UInt8Type>>() {
        return keyed::<UInt8Type, UInt32Type>(texts, u32::from);
    }
    if let Some(texts) = any.downcast_ref::<DictionaryArray<UInt16Type>>() {
        return keyed::<UInt16Type, UInt32Type>(texts, u32::from);
    }
    Ok(column.clone())
}

/// The same texts with other keys.
fn keyed<From: ArrowDictionaryKeyType, To: ArrowDictionaryKeyType>(
    texts: &DictionaryArray<From>,
    key: impl Fn(<From as ArrowPrimitiveType>::Native) -> <To as ArrowPrimitiveType>::Native,
) -> Result<ArrayRef, ArrowError> {
    let keys: PrimitiveArray<To> = texts.keys().unary(key);
    Ok(Arc::new(DictionaryArray::try_new(keys, texts.values().clone())?))
}

#[cfg(test)]
mod tests {
    use super::super::columns::tests::row;
    use super::super::schema::build;
    use super::super::{Row, Rows};
    use super::*;

    /// Rows with so many names, each of which stands for so many observations.
    fn batch(names: u32, count: u64) -> RecordBatch {
        let mut rows = Rows::new();
        for name in 0..names {
            let name = rows.intern(&format!("name {name}"));
            rows.push(Row { name, count, ..row(1) });
            rows.push(Row { count, ..row(2) });
        }
        build(&[&rows]).unwrap()
    }

    fn key_of(batch: &RecordBatch, column: &str) -> Option<DataType> {
        match batch.column_by_name(column)?.data_type() {
            DataType::Dictionary(key, _) => Some((**key).clone()),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn keys_are_as_narrow_as_the_texts_allow_and_what_is_kept_is_all_of_it() {
        for (names, key) in [(1, DataType::UInt8), (256, DataType::UInt8), (257, DataType::UInt16)] {
            let batch = batch(names, 1);
            let kept = shorten(&batch).unwrap();
            assert_eq!(key_of(&kept, "name"), Some(key.clone()), "{names}");
            assert_eq!(key_of(&kept, "method"), Some(DataType::UInt8));
            assert_eq!(key_of(&kept, "flow"), None);
            assert_eq!(complete(kept).unwrap(), batch, "{names}");
        }
        let many = batch(70_000, 1);
        let kept = shorten(&many).unwrap();
        assert_eq!(key_of(&kept, "name"), Some(DataType::UInt32));
        assert_eq!(complete(kept).unwrap(), many);
    }

    #[test]
    fn counts_are_left_out_only_where_all_are_one() {
        let (ones, sevens) = (batch(3, 1), batch(3, 7));
        assert!(shorten(&ones).unwrap().column_by_name(COUNT).is_none());
        assert!(shorten(&sevens).unwrap().column_by_name(COUNT).is_some());
        assert_eq!(complete(shorten(&ones).unwrap()).unwrap(), ones);
        assert_eq!(complete(shorten(&sevens).unwrap()).unwrap(), sevens);
    }

    #[test]
    fn what_an_older_version_kept_is_read_and_what_is_not_ours_stays() {
        let whole = batch(3, 1);
        assert_eq!(complete(whole.clone()).unwrap(), whole, "with wide keys and counts");
        let says = |at: &usize| whole.column(*at).null_count() < whole.num_rows();
        let some = whole.project(&(0..whole.num_columns()).filter(says).collect::<Vec<_>>()).unwrap();
        assert_eq!(complete(some).unwrap(), whole, "without the columns that say nothing");
        let field = whole.schema_ref().field(0).clone().with_name("when");
        let other = RecordBatch::new_empty(Arc::new(Schema::new(vec![field])));
        assert_eq!(complete(shorten(&other).unwrap()).unwrap(), other);
        let without_signal = whole.project(&[0]).unwrap();
        assert!(complete(without_signal).is_err(), "a column that every row needs is missing");
    }
}
