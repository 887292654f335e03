//! The rows that conditions judge: which columns there are, and how they are filled.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use homeostat_pipeline::finding::Level;

use super::Condition;
use super::lookback::LOOKBACKS_MAX;
use crate::homeostasis::model::{Baseline, Expectation};

/// A number that a condition can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Value,
    Count,
    Deviation,
    Zscore,
    Baseline,
    BaselineP50,
    BaselineP95,
    BaselineMean,
    BaselineMedian,
    BaselineMad,
    Threshold(Level),
    /// A function of a window, by its place among those of the measure.
    Lookback(u8),
}

impl Column {
    /// Every column that every measure has, in the order of the schema; functions of windows come after them.
    pub(super) const ALL: [Column; 15] = [
        Column::Value,
        Column::Count,
        Column::Deviation,
        Column::Zscore,
        Column::Baseline,
        Column::BaselineP50,
        Column::BaselineP95,
        Column::BaselineMean,
        Column::BaselineMedian,
        Column::BaselineMad,
        Column::Threshold(Level::Target),
        Column::Threshold(Level::Warning),
        Column::Threshold(Level::Critical),
        Column::Threshold(Level::Lower),
        Column::Threshold(Level::Upper),
    ];

    /// As conditions write it, and the name in the schema.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Column::Value => "value",
            Column::Count => "count",
            Column::Deviation => "deviation",
            Column::Zscore => "zscore",
            Column::Baseline => "baseline",
            Column::BaselineP50 => "baseline.p50",
            Column::BaselineP95 => "baseline.p95",
            Column::BaselineMean => "baseline.mean",
            Column::BaselineMedian => "baseline.median",
            Column::BaselineMad => "baseline.mad",
            Column::Threshold(Level::Target) => "threshold.target",
            Column::Threshold(Level::Warning) => "threshold.warning",
            Column::Threshold(Level::Critical) => "threshold.critical",
            Column::Threshold(Level::Lower) => "threshold.lower",
            Column::Threshold(Level::Upper) => "threshold.upper",
            Column::Lookback(place) => LOOKBACKS[place as usize % LOOKBACKS_MAX],
        }
    }

    /// The number of one row; none when it is unknown or not finite.
    pub(super) fn of(self, facts: &Facts<'_>) -> Option<f64> {
        let value = facts.value.filter(|value| value.is_finite());
        let number = match self {
            Column::Value => value,
            #[expect(
                clippy::cast_precision_loss,
                reason = "counts beyond 2^53 are compared as well by their doubles"
            )]
            Column::Count => Some(facts.count as f64),
            Column::Deviation => value.and_then(|value| facts.expected.deviation(value)),
            Column::Zscore => value.and_then(|value| facts.expected.zscore(value)),
            Column::Threshold(level) => facts.expected.thresholds.get(level),
            Column::Lookback(place) => facts.lookbacks.get(usize::from(place)).copied().flatten(),
            Column::Baseline
            | Column::BaselineP50
            | Column::BaselineP95
            | Column::BaselineMean
            | Column::BaselineMedian
            | Column::BaselineMad => {
                facts.expected.baseline.as_ref().and_then(|baseline| self.of_baseline(baseline))
            }
        };
        number.filter(|number| number.is_finite())
    }

    /// The number that a baseline holds for this column; none for columns that are none of a baseline's.
    pub(super) fn of_baseline(self, baseline: &Baseline) -> Option<f64> {
        match self {
            Column::Baseline => baseline.center,
            Column::BaselineP50 => baseline.p50,
            Column::BaselineP95 => baseline.p95,
            Column::BaselineMean => baseline.mean,
            Column::BaselineMedian => baseline.median,
            Column::BaselineMad => baseline.mad,
            Column::Value
            | Column::Count
            | Column::Deviation
            | Column::Zscore
            | Column::Threshold(_)
            | Column::Lookback(_) => None,
        }
    }
}

/// `baseline`, `baseline.p50` …
pub(super) fn baseline_column(name: &str) -> Option<Column> {
    Column::ALL.into_iter().find(|column| column.name() == name && name.starts_with("baseline"))
}

/// The names of the columns that functions of windows have.
const LOOKBACKS: [&str; LOOKBACKS_MAX] = [
    "lookback.0",
    "lookback.1",
    "lookback.2",
    "lookback.3",
    "lookback.4",
    "lookback.5",
    "lookback.6",
    "lookback.7",
    "lookback.8",
    "lookback.9",
    "lookback.10",
    "lookback.11",
    "lookback.12",
    "lookback.13",
    "lookback.14",
    "lookback.15",
];

/// The columns with `lookbacks` functions of windows.
pub(super) fn columns(lookbacks: usize) -> impl Iterator<Item = Column> {
    let places = (0_u8..).take(lookbacks.min(LOOKBACKS_MAX));
    Column::ALL.into_iter().chain(places.map(Column::Lookback))
}

fn schema(lookbacks: usize) -> SchemaRef {
    let field = |column: Column| Field::new(column.name(), DataType::Float64, true);
    Arc::new(Schema::new(columns(lookbacks).map(field).collect::<Vec<_>>()))
}

/// All columns as nullable Float64. A batch may lack the last of them, which no condition on its rows then names.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| schema(LOOKBACKS_MAX));

/// What is known of one subject in one closed window.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// In the expectation's unit. None when it is unknown: no data, or fewer observations than `min_samples`.
    pub value: Option<f64>,
    /// Observations in the window; known even where the value is not.
    pub count: u64,
    /// Thresholds, baseline and direction.
    pub expected: &'a Expectation,
    /// The functions of windows that the measure's conditions name, by their places; empty where they name none.
    pub lookbacks: &'a [Option<f64>],
}

/// Subjects as columns: built once for all windows that one entry closes, then judged by each rule over its own rows.
#[derive(Clone, Debug)]
pub struct Subjects {
    batch: RecordBatch,
}

impl Subjects {
    /// One row per subject, in the same order.
    pub fn new(facts: &[Facts<'_>]) -> Subjects {
        let column = |column: Column| -> ArrayRef {
            // Adding zero makes -0.0 to 0.0: Arrow compares by total order, in which they differ.
            Arc::new(
                facts.iter().map(|row| column.of(row).map(|number| number + 0.0)).collect::<Float64Array>(),
            )
        };
        let lookbacks = facts.iter().map(|row| row.lookbacks.len()).max().unwrap_or(0);
        let arrays = columns(lookbacks).map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(facts.len()));
        let batch = RecordBatch::try_new_with_options(schema(lookbacks), arrays, &options)
            .expect("every column is made of the same rows and is Float64, as the schema says");
        Subjects { batch }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The columns.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// What `condition` says of `rows`: violated, not violated, or unknown. Panics when `rows` reaches beyond the last.
    pub fn judge(&self, condition: &Condition, rows: Range<usize>) -> Vec<Option<bool>> {
        if rows.is_empty() {
            return Vec::new();
        }
        let verdicts = condition.evaluate(&self.batch.slice(rows.start, rows.len()));
        (0..verdicts.len()).map(|row| verdicts.is_valid(row).then(|| verdicts.value(row))).collect()
    }
}
