//! What a condition says that is allowed but hardly meant: an operator against the direction, a rule that can never fire.

use super::check::{Checked, Number, Truth};
use super::columns::{Column, Facts};
use super::interpret;
use super::parser::{Comparison, Node, Tree};
use crate::homeostasis::model::{Class, Direction, Expectation, Statistic};
use crate::homeostasis::units::{Dimension, Unit};
use homeostat_pipeline::finding::Level;

/// Which way is adverse by the operators beside `value`: `value > …` says that lower is better.
pub(super) fn direction(tree: &Tree) -> Option<Direction> {
    let mut hints = Vec::new();
    collect(tree, true, &mut hints);
    let first = *hints.first()?;
    hints.iter().all(|hint| *hint == first).then_some(first)
}

fn collect(tree: &Tree, is_positive: bool, hints: &mut Vec<Direction>) {
    match &tree.node {
        Node::And(left, right) | Node::Or(left, right) => {
            collect(left, is_positive, hints);
            collect(right, is_positive, hints);
        }
        Node::Not(inner) => collect(inner, !is_positive, hints),
        Node::Compare(comparison, left, right, _) => {
            let value = Node::Column(Column::Value);
            let is_band = |side: &Tree| {
                matches!(side.node, Node::Column(Column::Threshold(Level::Lower | Level::Upper)))
            };
            if is_band(left) || is_band(right) || (left.node == value) == (right.node == value) {
                return;
            }
            let is_above = match comparison {
                Comparison::Greater | Comparison::GreaterOrEqual => true,
                Comparison::Less | Comparison::LessOrEqual => false,
                Comparison::Equal | Comparison::NotEqual => return,
            };
            let is_lower_better = (is_above == (left.node == value)) == is_positive;
            hints.push(if is_lower_better { Direction::LowerIsBetter } else { Direction::HigherIsBetter });
        }
        Node::Number(..)
        | Node::Column(_)
        | Node::Duration
        | Node::Lookback(_)
        | Node::Unsupported(_)
        | Node::Negate(_)
        | Node::Arithmetic(..)
        | Node::Call(..)
        | Node::Band(..) => {}
    }
}

/// Sentences about `checked`, which was made of `tree`.
pub(super) fn warnings(tree: &Tree, checked: &Checked, expected: &Expectation) -> Vec<String> {
    let measure = &expected.measure.name;
    let mut warnings = Vec::new();
    if let Some(direction) = direction(tree)
        && direction != expected.direction
    {
        let (adverse, better) = match expected.direction {
            Direction::LowerIsBetter => ("high", "lower"),
            Direction::HigherIsBetter => ("low", "higher"),
        };
        warnings.push(format!(
            "the condition fires on good values: {better} is better for {measure} (compare so that it fires when the \
             value is too {adverse}, or state `direction`)"
        ));
    }
    if !checked.missing.is_empty() {
        let names: Vec<String> =
            checked.missing.iter().map(|column| format!("`{}`", column.name())).collect();
        warnings.push(format!(
            "{} is unknown, for the model states no such baseline of {measure}: what depends on it stays unknown",
            names.join(", "),
        ));
    } else if !looks_back(&checked.truth) && !can_fire(&checked.truth, expected) {
        warnings.push("no value makes the condition true: the rule can never fire".to_owned());
    }
    warnings
}

/// Whether it names a function of a window: what those can be is not tried.
fn looks_back(truth: &Truth) -> bool {
    let is_lookback = |column: Column| matches!(column, Column::Lookback(_));
    names(truth, &is_lookback)
}

/// Whether any of many likely values satisfies the condition: those around every number that it or the model names, and a
/// grid over what the measure can be.
fn can_fire(truth: &Truth, expected: &Expectation) -> bool {
    let mut constants = Vec::new();
    numbers_of(truth, expected, &mut constants);
    let counts: Vec<u64> =
        if names(truth, &|column| column == Column::Count) { counts(&constants) } else { vec![1] };
    values(&constants, expected).into_iter().any(|value| {
        counts.iter().any(|count| {
            interpret::truth(truth, &Facts { value: Some(value), count: *count, expected, lookbacks: &[] })
                == Some(true)
        })
    })
}

fn counts(constants: &[f64]) -> Vec<u64> {
    constants
        .iter()
        .filter(|constant| (0.0..1e15).contains(*constant))
        .flat_map(|constant| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the range is checked"
            )]
            let count = *constant as u64;
            [count, count + 1, count.saturating_sub(1)]
        })
        .chain([1, 20, 1_000, 1_000_000_000])
        .collect()
}

fn values(constants: &[f64], expected: &Expectation) -> Vec<f64> {
    let baseline = expected.baseline.unwrap_or_default();
    let around = |point: f64| [point, point * 1.000_001 + 1e-9, point * 0.999_999 - 1e-9];
    let mut values: Vec<f64> = (-9..=15).map(|power| 10_f64.powi(power)).chain([0.0]).collect();
    values.extend((0..=100).map(|step| f64::from(step) / 100.0));
    values.extend((0..=100).map(f64::from));
    for constant in constants {
        values.extend(around(*constant).into_iter().chain([constant * 2.0, constant / 2.0]));
        for center in [baseline.center, baseline.mean, baseline.median].into_iter().flatten() {
            for part in around(*constant) {
                values.extend([center * (1.0 + part), center * (1.0 - part), center * part]);
                let spread = baseline.stddev.unwrap_or_default();
                values.extend([center + part * spread, center - part * spread]);
                values.extend([center + part, center - part]);
            }
        }
    }
    values.extend(values.clone().into_iter().map(|value| -value));
    let range = range(expected);
    values.retain(|value| range.contains(value));
    values
}

/// What the measure can be.
fn range(expected: &Expectation) -> std::ops::RangeInclusive<f64> {
    let whole = Unit::RATIO.convert(1.0, expected.unit).unwrap_or(f64::MAX);
    match (expected.unit.dimension(), expected.measure.statistic, expected.measure.class) {
        (Dimension::Ratio, Statistic::ErrorRate | Statistic::SuccessRate, _)
        | (Dimension::Ratio, _, Class::Availability) => 0.0..=whole,
        (Dimension::Time | Dimension::Rate, _, _) => 0.0..=f64::MAX,
        (_, statistic, _) if statistic.is_counted() => 0.0..=f64::MAX,
        _ => f64::MIN..=f64::MAX,
    }
}

/// Whether it names such a column.
fn names(truth: &Truth, is_one: &dyn Fn(Column) -> bool) -> bool {
    match truth {
        Truth::Compare(_, left, right) => holds(left, is_one) || holds(right, is_one),
        Truth::Not(inner) => names(inner, is_one),
        Truth::And(left, right) | Truth::Or(left, right) => names(left, is_one) || names(right, is_one),
    }
}

fn holds(number: &Number, is_one: &dyn Fn(Column) -> bool) -> bool {
    match number {
        Number::Constant(_) => false,
        Number::Column(column) => is_one(*column),
        Number::Negate(inner) => holds(inner, is_one),
        Number::Arithmetic(_, left, right) => holds(left, is_one) || holds(right, is_one),
        Number::Call(_, arguments) => arguments.iter().any(|argument| holds(argument, is_one)),
    }
}

/// Every number that does not depend on the window, and the thresholds.
fn numbers_of(truth: &Truth, expected: &Expectation, into: &mut Vec<f64>) {
    match truth {
        Truth::Compare(_, left, right) => {
            constants_of(left, expected, into);
            constants_of(right, expected, into);
        }
        Truth::Not(inner) => numbers_of(inner, expected, into),
        Truth::And(left, right) | Truth::Or(left, right) => {
            numbers_of(left, expected, into);
            numbers_of(right, expected, into);
        }
    }
}

fn constants_of(number: &Number, expected: &Expectation, into: &mut Vec<f64>) {
    // What is known without a value does not depend on the window; the count is told apart by its own candidates.
    into.extend(interpret::number(number, &Facts { value: None, count: 0, expected, lookbacks: &[] }));
    match number {
        Number::Constant(_) | Number::Column(_) => {}
        Number::Negate(inner) => constants_of(inner, expected, into),
        Number::Arithmetic(_, left, right) => {
            constants_of(left, expected, into);
            constants_of(right, expected, into);
        }
        Number::Call(_, arguments) => {
            for argument in arguments {
                constants_of(argument, expected, into);
            }
        }
    }
}
