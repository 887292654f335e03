//! A checked condition to a DataFusion physical expression over the columns of `columns`.
//!
//! SQL's NULL is Kleene's third value already. Two things are not as IEEE 754 has them and are put right by [`Call`]: Arrow
//! compares by total order, so -0.0 is below 0.0 and NaN is above everything; after each calculation -0.0 becomes 0.0 and
//! what is not finite NULL.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Schema};
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, Operator};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{NegativeExpr, binary, col, lit, not};

use super::check::{Number, Truth};
use super::columns::SCHEMA;
use super::parser::{Comparison, Function, Operation};

type Expression = Arc<dyn PhysicalExpr>;

/// The expression of `truth`; Boolean, nullable.
pub(super) fn truth(of: &Truth) -> Result<Expression> {
    match of {
        Truth::Compare(comparison, left, right) => {
            let operator = match comparison {
                Comparison::Greater => Operator::Gt,
                Comparison::GreaterOrEqual => Operator::GtEq,
                Comparison::Less => Operator::Lt,
                Comparison::LessOrEqual => Operator::LtEq,
                Comparison::Equal => Operator::Eq,
                Comparison::NotEqual => Operator::NotEq,
            };
            binary(number(left)?, operator, number(right)?, &SCHEMA)
        }
        Truth::Not(inner) => not(truth(inner)?),
        Truth::And(left, right) => binary(truth(left)?, Operator::And, truth(right)?, &SCHEMA),
        Truth::Or(left, right) => binary(truth(left)?, Operator::Or, truth(right)?, &SCHEMA),
    }
}

fn number(of: &Number) -> Result<Expression> {
    Ok(match of {
        Number::Constant(constant) => lit(constant + 0.0),
        Number::Column(column) => col(column.name(), &SCHEMA)?,
        Number::Negate(inner) => {
            Call::expression(Step::Finite, vec![Arc::new(NegativeExpr::new(number(inner)?))])
        }
        Number::Arithmetic(operation, left, right) => {
            let operator = match operation {
                Operation::Add => Operator::Plus,
                Operation::Subtract => Operator::Minus,
                Operation::Multiply => Operator::Multiply,
                Operation::Divide => Operator::Divide,
            };
            let result = binary(number(left)?, operator, number(right)?, &SCHEMA)?;
            Call::expression(Step::Finite, vec![result])
        }
        Number::Call(function, arguments) => {
            let arguments = arguments.iter().map(number).collect::<Result<_>>()?;
            Call::expression(Step::Of(*function), arguments)
        }
    })
}

/// What DataFusion's expressions lack without its function library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Finite,
    Of(Function),
}

/// A function of Float64 columns. Unknown when one of its arguments is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Call {
    step: Step,
    arguments: Vec<Expression>,
}

impl Call {
    fn expression(step: Step, arguments: Vec<Expression>) -> Expression {
        Arc::new(Call { step, arguments })
    }

    /// The columns picked from, row by row, from the left.
    fn fold(columns: Vec<ArrayRef>, pick: fn(f64, f64) -> f64) -> ArrayRef {
        let mut columns = columns.into_iter();
        let Some(mut picked) = columns.next() else { return Arc::new(Float64Array::new_null(0)) };
        for column in columns {
            let pairs = picked.as_primitive::<Float64Type>().iter().zip(column.as_primitive::<Float64Type>());
            picked = Arc::new(pairs.map(|(one, other)| Some(pick(one?, other?))).collect::<Float64Array>());
        }
        picked
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments: Vec<String> = self.arguments.iter().map(ToString::to_string).collect();
        write!(f, "{:?}({})", self.step, arguments.join(", "))
    }
}

impl PhysicalExpr for Call {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let columns = self
            .arguments
            .iter()
            .map(|argument| argument.evaluate(batch)?.into_array(batch.num_rows()))
            .collect::<Result<Vec<ArrayRef>>>()?;
        let settle = |column: &ArrayRef, settle: fn(f64) -> Option<f64>| -> ArrayRef {
            Arc::new(column.as_primitive::<Float64Type>().unary_opt::<_, Float64Type>(settle))
        };
        Ok(ColumnarValue::Array(match self.step {
            Step::Finite => settle(&columns[0], |number| number.is_finite().then_some(number + 0.0)),
            Step::Of(Function::Abs) => settle(&columns[0], |number| Some(number.abs())),
            Step::Of(Function::Min) => Call::fold(columns, f64::min),
            Step::Of(Function::Max) => Call::fold(columns, f64::max),
        }))
    }

    fn children(&self) -> Vec<&Expression> {
        self.arguments.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, arguments: Vec<Expression>) -> Result<Expression> {
        Ok(Call::expression(self.step, arguments))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
