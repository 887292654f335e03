//! From what was written to what it means for one measure: kinds of numbers, units, and what is missing.
//!
//! A number is bare (`500`: in the unit of what it meets), a fraction (`50%`, `deviation`), in the measure's unit (`value`,
//! `threshold.*`, `baseline*`, `5 s`), a count, or a score (`zscore`). Kinds that differ do not meet, but for fractions and a
//! measure that is itself a ratio.

use std::time::Duration;

use homeostat_pipeline::finding::Level;

use super::Fault;
use super::columns::Column;
use super::lookback::{Aggregate, LOOKBACKS_MAX, Lookback};
use super::parser::{Comparison, Function, Node, Operation, Suffix, Tree};
use crate::homeostasis::model::Expectation;
use crate::homeostasis::units::{Dimension, Unit};

/// A number whose unit is settled.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Number {
    Constant(f64),
    Column(Column),
    Negate(Box<Number>),
    Arithmetic(Operation, Box<Number>, Box<Number>),
    Call(Function, Vec<Number>),
}

/// A condition whose units are settled.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Truth {
    Compare(Comparison, Number, Number),
    Not(Box<Truth>),
    And(Box<Truth>, Box<Truth>),
    Or(Box<Truth>, Box<Truth>),
}

/// What `check` finds out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Checked {
    pub(super) truth: Truth,
    pub(super) holds_for: Option<Duration>,
    pub(super) level: Option<Level>,
    /// The columns of a baseline that the condition names and the model does not state.
    pub(super) missing: Vec<Column>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bare,
    Fraction,
    Measure,
    Count,
    Score,
    Rate,
}

/// Checks `tree` for a measure with `expected`.
pub(super) fn check(
    tree: &Tree,
    expected: &Expectation,
    lookbacks: &mut Vec<Lookback>,
) -> Result<Checked, Fault> {
    let mut scope = Scope { expected, lookbacks, level: None, missing: Vec::new() };
    let mut conjuncts = Vec::new();
    split(tree, &mut conjuncts);
    let mut holds_for = None;
    let mut truth: Option<Truth> = None;
    for conjunct in conjuncts {
        if let Some(duration) = served(conjunct)? {
            if holds_for.replace(duration).is_some() {
                return Err(Fault::new(conjunct.column, "`duration` is stated twice: keep one"));
            }
            continue;
        }
        let next = scope.truth(conjunct)?;
        truth = Some(match truth {
            None => next,
            Some(before) => Truth::And(Box::new(before), Box::new(next)),
        });
    }
    let truth = truth.ok_or_else(|| {
        let message = "`duration` says how long something must hold: join it to a condition \
                       (write for example `value > threshold.critical and duration > 5 minutes`)";
        Fault::new(tree.column, message)
    })?;
    Ok(Checked { truth, holds_for, level: scope.level, missing: scope.missing })
}

/// The conjuncts at the top, from the left.
fn split<'a>(tree: &'a Tree, into: &mut Vec<&'a Tree>) {
    if let Node::And(left, right) = &tree.node {
        split(left, into);
        split(right, into);
    } else {
        into.push(tree);
    }
}

/// The length of `duration > length`; none when `tree` is something else.
fn served(tree: &Tree) -> Result<Option<Duration>, Fault> {
    let Node::Compare(comparison, left, right, _) = &tree.node else { return Ok(None) };
    if left.node != Node::Duration {
        return Ok(None);
    }
    match comparison {
        Comparison::Greater | Comparison::GreaterOrEqual => {}
        Comparison::Less | Comparison::LessOrEqual | Comparison::Equal | Comparison::NotEqual => {
            let message = "`duration` is compared with `>` or `>=`: it is how long the rest must hold";
            return Err(Fault::new(tree.column, message));
        }
    }
    let Node::Number(number, Suffix::Unit(unit)) = right.node else {
        let message = "`duration` is compared with a time (write for example `duration > 5 minutes`)";
        return Err(Fault::new(right.column, message));
    };
    let seconds = unit.convert(number, Unit::SECONDS).ok_or_else(|| {
        Fault::new(right.column, format!("`{unit}` is no time (write for example `duration > 5 minutes`)"))
    })?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= Duration::from_secs(366 * 86_400))
        .map(Some)
        .ok_or_else(|| Fault::new(right.column, "`duration` is at most a year"))
}

struct Scope<'a> {
    expected: &'a Expectation,
    lookbacks: &'a mut Vec<Lookback>,
    level: Option<Level>,
    missing: Vec<Column>,
}

impl Scope<'_> {
    fn truth(&mut self, tree: &Tree) -> Result<Truth, Fault> {
        Ok(match &tree.node {
            Node::Compare(comparison, left, right, is_from_baseline) => {
                if *is_from_baseline && left.node != Node::Column(Column::Deviation) {
                    let message = "`from baseline` follows a comparison of `deviation` only \
                                   (write `deviation > 50% from baseline`)";
                    return Err(Fault::new(left.column, message));
                }
                let (left, right, _) = self.alike(left, right, "compared")?;
                Truth::Compare(*comparison, left, right)
            }
            Node::Band(value, low, high, is_outside) => {
                let (above, low, _) = self.alike(value, low, "compared")?;
                let (below, high, _) = self.alike(value, high, "compared")?;
                if *is_outside {
                    let below_it = Truth::Compare(Comparison::Less, above, low);
                    Truth::Or(Box::new(below_it), Box::new(Truth::Compare(Comparison::Greater, below, high)))
                } else {
                    let from_low = Truth::Compare(Comparison::GreaterOrEqual, above, low);
                    let to_high = Truth::Compare(Comparison::LessOrEqual, below, high);
                    Truth::And(Box::new(from_low), Box::new(to_high))
                }
            }
            Node::Not(inner) => Truth::Not(Box::new(self.truth(inner)?)),
            Node::And(left, right) => {
                let left = self.truth(left)?;
                Truth::And(Box::new(left), Box::new(self.truth(right)?))
            }
            Node::Or(left, right) => {
                let left = self.truth(left)?;
                Truth::Or(Box::new(left), Box::new(self.truth(right)?))
            }
            Node::Lookback(lookback) if lookback.aggregate.is_truth() => {
                let is_so = Number::Column(self.lookback(tree, *lookback)?);
                Truth::Compare(Comparison::Greater, is_so, Number::Constant(0.0))
            }
            Node::Unsupported(name) => return Err(unsupported(tree, name)),
            Node::Duration => return Err(misplaced(tree)),
            Node::Lookback(_)
            | Node::Number(..)
            | Node::Column(_)
            | Node::Negate(_)
            | Node::Arithmetic(..)
            | Node::Call(..) => {
                let message = "a number stands where a condition is expected \
                               (compare it, for example with `> threshold.critical`)";
                return Err(Fault::new(tree.column, message));
            }
        })
    }

    fn number(&mut self, tree: &Tree) -> Result<(Number, Kind), Fault> {
        Ok(match &tree.node {
            Node::Number(number, suffix) => self.literal(tree, *number, *suffix)?,
            Node::Column(column) => (Number::Column(*column), self.column(tree, *column)?),
            Node::Lookback(Lookback { aggregate, .. }) if aggregate.is_truth() => {
                let message = format!("`{aggregate}(…)` is a condition, here a number is expected");
                return Err(Fault::new(tree.column, message));
            }
            Node::Lookback(lookback) => {
                let column = self.lookback(tree, *lookback)?;
                (Number::Column(column), kind_of(lookback.aggregate))
            }
            Node::Negate(inner) => {
                let (number, kind) = self.number(inner)?;
                (Number::Negate(Box::new(number)), kind)
            }
            Node::Arithmetic(operation, left, right) => self.arithmetic(*operation, left, right)?,
            Node::Call(function, arguments) => self.call(*function, arguments)?,
            Node::Unsupported(name) => return Err(unsupported(tree, name)),
            Node::Duration => return Err(misplaced(tree)),
            Node::Compare(..) | Node::Band(..) | Node::Not(_) | Node::And(..) | Node::Or(..) => {
                return Err(Fault::new(tree.column, "a condition stands where a number is expected"));
            }
        })
    }

    /// The column of a function of a window.
    fn lookback(&mut self, tree: &Tree, lookback: Lookback) -> Result<Column, Fault> {
        let measure = &self.expected.measure;
        if let Aggregate::Quantile(_) | Aggregate::Changed = lookback.aggregate
            && measure.statistic.is_counted()
        {
            let message = format!(
                "{} counts observations, which have no values to look at (`avg(…)` is the measure over another window)",
                measure.name
            );
            return Err(Fault::new(tree.column, message));
        }
        let known = self.lookbacks.iter().position(|known| *known == lookback);
        let place = known.unwrap_or_else(|| {
            self.lookbacks.push(lookback);
            self.lookbacks.len() - 1
        });
        u8::try_from(place).ok().filter(|_| place < LOOKBACKS_MAX).map(Column::Lookback).ok_or_else(|| {
            let message = format!(
                "the conditions on {} name more than {LOOKBACKS_MAX} functions of windows",
                measure.name
            );
            Fault::new(tree.column, message)
        })
    }

    fn literal(&self, tree: &Tree, number: f64, suffix: Suffix) -> Result<(Number, Kind), Fault> {
        let unit = match suffix {
            Suffix::None => return Ok((Number::Constant(number), Kind::Bare)),
            Suffix::Percent => return Ok((Number::Constant(number / 100.0), Kind::Fraction)),
            Suffix::Unit(unit) => unit,
        };
        if unit.dimension() == Dimension::Ratio {
            let fraction = unit.convert(number, Unit::RATIO).unwrap_or(number);
            return Ok((Number::Constant(fraction), Kind::Fraction));
        }
        match unit.convert(number, self.expected.unit) {
            Some(converted) => Ok((Number::Constant(converted), Kind::Measure)),
            None => {
                let (measure, own) = (&self.expected.measure.name, self.expected.unit);
                let message = format!(
                    "`{number} {unit}` is {}, but {measure} is {} in `{own}`",
                    unit.dimension().describe(),
                    own.dimension().describe(),
                );
                Err(Fault::new(tree.column, message))
            }
        }
    }

    fn column(&mut self, tree: &Tree, column: Column) -> Result<Kind, Fault> {
        let baseline = self.expected.baseline.unwrap_or_default();
        let is_missing = match column {
            Column::Value | Column::Count | Column::Lookback(_) => false,
            Column::Deviation => baseline.center.is_none(),
            Column::Zscore => baseline.mean.is_none() || baseline.stddev.is_none(),
            Column::Baseline
            | Column::BaselineP50
            | Column::BaselineP95
            | Column::BaselineMean
            | Column::BaselineMedian
            | Column::BaselineMad => column.of_baseline(&baseline).is_none(),
            Column::Threshold(level) => {
                if self.expected.thresholds.get(level).is_none() {
                    let (name, measure) = (column.name(), &self.expected.measure.name);
                    let message = format!("`{name}` is not stated for {measure} (add it to `thresholds`)");
                    return Err(Fault::new(tree.column, message));
                }
                self.level.get_or_insert(level);
                false
            }
        };
        if is_missing && !self.missing.contains(&column) {
            self.missing.push(column);
        }
        Ok(match column {
            Column::Count => Kind::Count,
            Column::Deviation => Kind::Fraction,
            Column::Zscore => Kind::Score,
            Column::Value
            | Column::Baseline
            | Column::BaselineP50
            | Column::BaselineP95
            | Column::BaselineMean
            | Column::BaselineMedian
            | Column::BaselineMad
            | Column::Threshold(_)
            | Column::Lookback(_) => Kind::Measure,
        })
    }

    fn call(&mut self, function: Function, arguments: &[Tree]) -> Result<(Number, Kind), Fault> {
        let mut numbers: Vec<(Number, Kind)> = Vec::new();
        let mut common = Kind::Bare;
        for argument in arguments {
            let (number, kind) = self.number(argument)?;
            common =
                self.common(common, kind).ok_or_else(|| self.unlike(argument, common, kind, "compared"))?;
            numbers.push((number, kind));
        }
        let numbers = numbers.into_iter().map(|(number, kind)| self.turn(number, kind, common)).collect();
        Ok((Number::Call(function, numbers), common))
    }

    fn arithmetic(
        &mut self,
        operation: Operation,
        left: &Tree,
        right: &Tree,
    ) -> Result<(Number, Kind), Fault> {
        let at = right;
        let ((left, of_left), (right, of_right)) = match operation {
            Operation::Add | Operation::Subtract => {
                let (left, right, kind) = self.alike(left, right, "added")?;
                return Ok((Number::Arithmetic(operation, Box::new(left), Box::new(right)), kind));
            }
            Operation::Multiply | Operation::Divide => (self.number(left)?, self.number(right)?),
        };
        let is_factor = |kind| matches!(kind, Kind::Bare | Kind::Fraction);
        let kind = match (operation, of_left, of_right) {
            (_, Kind::Bare, Kind::Bare) => Some(Kind::Bare),
            (_, kind, factor) if is_factor(factor) && kind != Kind::Bare => Some(kind),
            (Operation::Multiply, factor, kind) if is_factor(factor) => Some(kind),
            (Operation::Divide, one, other) if one == other => Some(Kind::Fraction),
            (Operation::Divide, Kind::Bare, Kind::Fraction) => Some(Kind::Fraction),
            _ => None,
        };
        let what = if operation == Operation::Multiply { "multiplied" } else { "divided" };
        let kind = kind.ok_or_else(|| self.unlike(at, of_left, of_right, what))?;
        Ok((Number::Arithmetic(operation, Box::new(left), Box::new(right)), kind))
    }

    /// Both numbers in one kind.
    fn alike(&mut self, left: &Tree, right: &Tree, what: &str) -> Result<(Number, Number, Kind), Fault> {
        let at = right;
        let (left, of_left) = self.number(left)?;
        let (right, of_right) = self.number(right)?;
        let kind = self.common(of_left, of_right).ok_or_else(|| self.unlike(at, of_left, of_right, what))?;
        Ok((self.turn(left, of_left, kind), self.turn(right, of_right, kind), kind))
    }

    fn common(&self, one: Kind, other: Kind) -> Option<Kind> {
        let dimension = self.expected.unit.dimension();
        match (one, other) {
            _ if one == other => Some(one),
            (Kind::Bare, kind) | (kind, Kind::Bare) => Some(kind),
            (Kind::Fraction, Kind::Measure) | (Kind::Measure, Kind::Fraction) => {
                (dimension == Dimension::Ratio).then_some(Kind::Measure)
            }
            (Kind::Count, Kind::Measure) | (Kind::Measure, Kind::Count) => {
                (dimension == Dimension::Count).then_some(Kind::Measure)
            }
            (Kind::Rate, Kind::Measure) | (Kind::Measure, Kind::Rate) => {
                (dimension == Dimension::Rate).then_some(Kind::Measure)
            }
            _ => None,
        }
    }

    /// A fraction that meets a ratio measure, or a rate that meets one of rates, becomes a number in its unit; all else stays.
    fn turn(&self, number: Number, from: Kind, to: Kind) -> Number {
        let unit = match (from, to) {
            (Kind::Fraction, Kind::Measure) => Unit::RATIO,
            (Kind::Rate, Kind::Measure) => Unit::PER_SECOND,
            _ => return number,
        };
        let scale = unit.convert(1.0, self.expected.unit).unwrap_or(1.0);
        if scale == 1.0 {
            return number;
        }
        match number {
            Number::Constant(constant) => {
                Number::Constant(unit.convert(constant, self.expected.unit).unwrap_or(constant))
            }
            number => {
                Number::Arithmetic(Operation::Multiply, Box::new(number), Box::new(Number::Constant(scale)))
            }
        }
    }

    fn unlike(&self, at: &Tree, left: Kind, right: Kind, what: &str) -> Fault {
        let describe = |kind| match kind {
            Kind::Bare => "a plain number".to_owned(),
            Kind::Fraction => "a ratio".to_owned(),
            Kind::Measure => {
                let unit = self.expected.unit;
                format!("{} in `{unit}`", unit.dimension().describe())
            }
            Kind::Count => "a count".to_owned(),
            Kind::Score => "a number of standard deviations".to_owned(),
            Kind::Rate => "a number per second".to_owned(),
        };
        let remedy = match (left, right) {
            (Kind::Measure, Kind::Fraction) | (Kind::Fraction, Kind::Measure) => {
                " (for a part of something, multiply: `baseline * 150%`)"
            }
            _ => "",
        };
        let (left, right) = (describe(left), describe(right));
        Fault::new(at.column, format!("{left} and {right} cannot be {what}{remedy}"))
    }
}

const fn kind_of(aggregate: Aggregate) -> Kind {
    match aggregate {
        Aggregate::Quantile(_)
        | Aggregate::Mean
        | Aggregate::Previous
        | Aggregate::Missing
        | Aggregate::Changed => Kind::Measure,
        Aggregate::Count => Kind::Count,
        Aggregate::Rate => Kind::Rate,
    }
}

fn unsupported(tree: &Tree, name: &str) -> Fault {
    Fault::new(tree.column, format!("{name} is not supported yet"))
}

fn misplaced(tree: &Tree) -> Fault {
    let message = "`duration` stands only beside a condition, joined by `and` at the top \
                   (write for example `value > threshold.critical and duration > 5 minutes`)";
    Fault::new(tree.column, message)
}
