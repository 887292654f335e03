//! The meaning of a condition for one row, written down directly: what the compiled expression must agree with (a property
//! test holds them to it), and what lint tries conditions with.

use super::check::{Number, Truth};
use super::columns::Facts;
use super::parser::{Comparison, Function, Operation};

/// Kleene's three values; none is unknown.
pub(super) fn truth(of: &Truth, facts: &Facts<'_>) -> Option<bool> {
    match of {
        Truth::Compare(comparison, left, right) => {
            let (left, right) = (number(left, facts)?, number(right, facts)?);
            #[expect(clippy::float_cmp, reason = "`==` in a condition means equal")]
            Some(match comparison {
                Comparison::Greater => left > right,
                Comparison::GreaterOrEqual => left >= right,
                Comparison::Less => left < right,
                Comparison::LessOrEqual => left <= right,
                Comparison::Equal => left == right,
                Comparison::NotEqual => left != right,
            })
        }
        Truth::Not(inner) => truth(inner, facts).map(|inner| !inner),
        Truth::And(left, right) => match (truth(left, facts), truth(right, facts)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            (None, _) | (_, None) => None,
        },
        Truth::Or(left, right) => match (truth(left, facts), truth(right, facts)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            (None, _) | (_, None) => None,
        },
    }
}

/// The number; none when it is unknown or not finite.
pub(super) fn number(of: &Number, facts: &Facts<'_>) -> Option<f64> {
    let number = match of {
        Number::Constant(constant) => *constant,
        Number::Column(column) => column.of(facts)?,
        Number::Negate(inner) => -number(inner, facts)?,
        Number::Arithmetic(operation, left, right) => {
            let (left, right) = (number(left, facts)?, number(right, facts)?);
            match operation {
                Operation::Add => left + right,
                Operation::Subtract => left - right,
                Operation::Multiply => left * right,
                Operation::Divide => left / right,
            }
        }
        Number::Call(function, arguments) => {
            let numbers =
                arguments.iter().map(|argument| number(argument, facts)).collect::<Option<Vec<_>>>()?;
            match function {
                Function::Abs => numbers.first()?.abs(),
                Function::Min => numbers.into_iter().reduce(f64::min)?,
                Function::Max => numbers.into_iter().reduce(f64::max)?,
            }
        }
    };
    number.is_finite().then_some(number)
}
