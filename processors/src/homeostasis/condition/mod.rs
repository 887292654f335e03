//! Conditions of rules: parsed, checked for kinds and units, compiled to a DataFusion expression, evaluated three-valued.
//!
//! Columns are Float64 and whatever is not finite is NULL; SQL's NULL is the third truth value (Kleene): an unlearned
//! baseline, too few samples or a NaN make a comparison unknown, never a deviation. docs/model.md has the grammar.

mod check;
mod columns;
mod compile;
mod interpret;
mod lexer;
mod lint;
mod lookback;
mod parser;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::utils::collect_columns;
use homeostat_pipeline::finding::Level;

use super::model::{Direction, Expectation};

pub use columns::{Facts, Subjects};
pub use lookback::{Aggregate, COUNTS_MAX, Lookback, VALUES_MAX};

/// What is wrong with a condition, and where in its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of the condition: {message}")]
pub struct Fault {
    /// In characters, from 1.
    pub column: usize,
    /// Lower case, with the remedy.
    pub message: String,
}

impl Fault {
    fn new(column: usize, message: impl Into<String>) -> Fault {
        Fault { column, message: message.into() }
    }
}

/// A condition whose words and brackets are right; what it means depends on the measure.
#[derive(Clone, Debug)]
pub struct Parsed {
    text: String,
    tree: parser::Tree,
}

impl Parsed {
    /// Reads the text of a condition.
    ///
    /// # Errors
    /// The first thing that is not of the grammar.
    pub fn new(text: &str) -> Result<Parsed, Fault> {
        Ok(Parsed { text: text.trim().to_owned(), tree: parser::parse(text)? })
    }

    /// Which way is adverse, by the operators beside `value`; none when they say nothing, or not the same.
    pub fn direction(&self) -> Option<Direction> {
        lint::direction(&self.tree)
    }

    /// Compiles it for a measure, whose functions of windows are in `lookbacks`: those that it names and that are not there are
    /// added. With it come warnings, about what is allowed but hardly meant.
    ///
    /// # Errors
    /// The first thing that does not fit the measure: a unit, a threshold that is not stated, something not supported yet.
    pub fn compile(
        &self,
        expected: &Expectation,
        lookbacks: &mut Vec<Lookback>,
    ) -> Result<(Condition, Vec<String>), Fault> {
        let checked = check::check(&self.tree, expected, lookbacks)?;
        let expression = compile::truth(&checked.truth).map_err(|error| {
            Fault::new(1, format!("the condition cannot be compiled: {error} (please report this)"))
        })?;
        let warnings = lint::warnings(&self.tree, &checked, expected);
        let condition = Condition {
            text: self.text.clone(),
            holds_for: checked.holds_for,
            level: checked.level,
            truth: checked.truth,
            expression,
        };
        Ok((condition, warnings))
    }
}

/// A compiled condition of one measure. Its numbers are in the measure's unit.
#[derive(Clone)]
pub struct Condition {
    text: String,
    truth: check::Truth,
    expression: Arc<dyn PhysicalExpr>,
    holds_for: Option<Duration>,
    level: Option<Level>,
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition({})", self.text)
    }
}

impl Condition {
    /// As the model writes it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As it is evaluated, for people: units converted, `duration` gone.
    pub fn compiled(&self) -> String {
        self.expression.to_string()
    }

    /// The conjunct `duration > …`, which is the rule's `for`.
    pub fn holds_for(&self) -> Option<Duration> {
        self.holds_for
    }

    /// The first threshold that it names.
    pub fn threshold_level(&self) -> Option<Level> {
        self.level
    }

    /// One truth value per row of a [`Subjects`] batch, NULL where it is unknown.
    pub fn evaluate(&self, subjects: &RecordBatch) -> BooleanArray {
        let verdicts = self
            .expression
            .evaluate(subjects)
            .and_then(|verdicts| verdicts.into_array(subjects.num_rows()))
            .expect(
                "a checked condition is Boolean over the columns of `Subjects`, and no step of it can fail",
            );
        verdicts.as_boolean().clone()
    }

    /// What the condition names and what that is for one subject, in the order of the columns: none where it is unknown.
    /// `lookbacks` are the words for the functions of windows, by their places.
    pub fn numbers(&self, facts: &Facts<'_>, lookbacks: &[String]) -> Vec<(String, Option<f64>)> {
        let named = collect_columns(&self.expression);
        columns::columns(facts.lookbacks.len())
            .filter(|column| named.iter().any(|known| known.name() == column.name()))
            .map(|column| {
                let name = match column {
                    columns::Column::Lookback(place) => lookbacks.get(usize::from(place)).cloned(),
                    _ => None,
                };
                (name.unwrap_or_else(|| column.name().to_owned()), column.of(facts))
            })
            .collect()
    }

    /// The same for one subject, without columns.
    pub fn holds(&self, facts: &Facts<'_>) -> Option<bool> {
        interpret::truth(&self.truth, facts)
    }
}
