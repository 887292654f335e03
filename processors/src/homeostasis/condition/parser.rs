//! Tokens to a tree, by the grammar of docs/model.md. It takes the whole grammar; what has no data yet is refused in
//! `check`, so that the message can say "not supported yet" and not "unknown".

use std::time::Duration;

use homeostat_pipeline::finding::Level;
use homeostat_pipeline::settings::did_you_mean;

use super::Fault;
use super::columns::{Column, baseline_column};
use super::lexer::{Token, tokens};
use super::lookback::{Aggregate, Lookback};
use crate::homeostasis::model::LEVELS;
use crate::homeostasis::units::{Dimension, Unit};

/// A tree deeper than this is refused, so that no model can exhaust the stack.
const DEPTH_MAX: usize = 64;
/// A condition is a line, not a program.
const TEXT_MAX: usize = 1_000;

/// A piece of the tree and the column where it starts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tree {
    pub(super) column: usize,
    pub(super) node: Node,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// `5`, `50%`, `5 minutes`.
    Number(f64, Suffix),
    /// A column of the judged rows.
    Column(Column),
    /// How long the rest has held.
    Duration,
    /// `p95(5m)` …, `previous`.
    Lookback(Lookback),
    /// Something of the grammar that has no data yet, by name.
    Unsupported(String),
    /// `-x`.
    Negate(Box<Tree>),
    /// `x + y` …
    Arithmetic(Operation, Box<Tree>, Box<Tree>),
    /// `abs(x)` …
    Call(Function, Vec<Tree>),
    /// `x > y`, with `from baseline` after it or not.
    Compare(Comparison, Box<Tree>, Box<Tree>, bool),
    /// `x within [low, high]`; outside when the flag is set.
    Band(Box<Tree>, Box<Tree>, Box<Tree>, bool),
    /// `not x`.
    Not(Box<Tree>),
    /// `x and y`.
    And(Box<Tree>, Box<Tree>),
    /// `x or y`.
    Or(Box<Tree>, Box<Tree>),
}

/// What follows a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Suffix {
    /// Nothing: the number is in the unit of what it meets.
    None,
    /// `%`.
    Percent,
    /// A unit.
    Unit(Unit),
}

/// Arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// Functions of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Function {
    Abs,
    Min,
    Max,
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
}

impl Comparison {
    fn of(token: &Token) -> Option<Comparison> {
        let Token::Sign(sign) = token else { return None };
        Some(match *sign {
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            "==" => Comparison::Equal,
            "!=" => Comparison::NotEqual,
            _ => return None,
        })
    }
}

/// What may stand where a number is expected; for "did you mean".
const NAMES: [&str; 26] = [
    "value",
    "previous",
    "count",
    "duration",
    "deviation",
    "zscore",
    "baseline",
    "baseline.p50",
    "baseline.p95",
    "baseline.mean",
    "baseline.median",
    "baseline.mad",
    "threshold.target",
    "threshold.warning",
    "threshold.critical",
    "threshold.lower",
    "threshold.upper",
    "budget.remaining",
    "budget.burn_rate",
    "abs",
    "min",
    "max",
    "avg",
    "rate",
    "missing",
    "changed",
];
const JOINTS: [&str; 6] = ["and", "or", "not", "within", "outside", "from"];

/// Reads a condition.
pub(super) fn parse(text: &str) -> Result<Tree, Fault> {
    if text.chars().count() > TEXT_MAX {
        return Err(Fault::new(TEXT_MAX, format!("a condition has at most {TEXT_MAX} characters")));
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0 };
    if parser.peek() == &Token::End {
        return Err(Fault::new(1, "the condition is empty (write for example `value > threshold.critical`)"));
    }
    let tree = parser.or()?;
    match parser.peek() {
        Token::End => Ok(tree),
        token if Comparison::of(token).is_some() => Err(parser
            .fault("comparisons do not chain (write `value > 1 and value < 2`, or `value within [1, 2]`)")),
        token => {
            let what = token.describe();
            Err(parser.fault(format!("{what} does not follow here (join conditions with `and` or `or`)")))
        }
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next.min(self.tokens.len() - 1)].1
    }

    fn column(&self) -> usize {
        self.tokens[self.next.min(self.tokens.len() - 1)].0
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::new(self.column(), message)
    }

    /// Steps over `word`, written as a word or a sign, when it is next.
    fn take(&mut self, word: &str) -> bool {
        let is_next = match self.peek() {
            Token::Word(next) => next == word,
            Token::Sign(next) => *next == word,
            Token::Number(_) | Token::End => false,
        };
        self.next += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, sign: &'static str, why: &str) -> Result<(), Fault> {
        if self.take(sign) {
            return Ok(());
        }
        Err(self.fault(format!("`{sign}` is missing before {} ({why})", self.peek().describe())))
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Parser) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth == DEPTH_MAX {
            return Err(self.fault(format!("the condition is nested more than {DEPTH_MAX} deep")));
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    /// `operand { joint operand }`, from the left.
    fn joined(
        &mut self,
        joint: &str,
        operand: fn(&mut Parser) -> Result<Tree, Fault>,
        make: fn(Box<Tree>, Box<Tree>) -> Node,
    ) -> Result<Tree, Fault> {
        let mut left = operand(self)?;
        let mut joints = 0;
        while self.take(joint) {
            joints += 1;
            if joints > DEPTH_MAX {
                return Err(self.fault(format!("more than {DEPTH_MAX} `{joint}` in a row")));
            }
            let right = operand(self)?;
            left = Tree { column: left.column, node: make(Box::new(left), Box::new(right)) };
        }
        Ok(left)
    }

    fn or(&mut self) -> Result<Tree, Fault> {
        self.deeper(|parser| parser.joined("or", Parser::and, Node::Or))
    }

    fn and(&mut self) -> Result<Tree, Fault> {
        self.joined("and", Parser::not, Node::And)
    }

    fn not(&mut self) -> Result<Tree, Fault> {
        let column = self.column();
        if !self.take("not") {
            return self.comparison();
        }
        let negated = self.deeper(Parser::not)?;
        Ok(Tree { column, node: Node::Not(Box::new(negated)) })
    }

    fn comparison(&mut self) -> Result<Tree, Fault> {
        let left = self.sum()?;
        let column = left.column;
        if let Some(comparison) = Comparison::of(self.peek()) {
            self.next += 1;
            let right = self.sum()?;
            let mut is_from_baseline = false;
            if self.take("from") {
                if !self.take("baseline") {
                    return Err(self.fault("`from` is followed by `baseline`"));
                }
                is_from_baseline = true;
            }
            let node = Node::Compare(comparison, Box::new(left), Box::new(right), is_from_baseline);
            return Ok(Tree { column, node });
        }
        let is_outside = self.peek() == &Token::Word("outside".to_owned());
        if !is_outside && self.peek() != &Token::Word("within".to_owned()) {
            return Ok(left);
        }
        self.next += 1;
        let shape = "a band is written `within [low, high]`";
        self.expect("[", shape)?;
        let low = self.sum()?;
        self.expect(",", shape)?;
        let high = self.sum()?;
        self.expect("]", shape)?;
        Ok(Tree { column, node: Node::Band(Box::new(left), Box::new(low), Box::new(high), is_outside) })
    }

    fn sum(&mut self) -> Result<Tree, Fault> {
        self.arithmetic(Parser::product, &[("+", Operation::Add), ("-", Operation::Subtract)])
    }

    fn product(&mut self) -> Result<Tree, Fault> {
        self.arithmetic(Parser::unary, &[("*", Operation::Multiply), ("/", Operation::Divide)])
    }

    fn arithmetic(
        &mut self,
        operand: fn(&mut Parser) -> Result<Tree, Fault>,
        operations: &[(&str, Operation)],
    ) -> Result<Tree, Fault> {
        let mut left = operand(self)?;
        let mut terms = 0;
        while let Some((_, operation)) = operations.iter().find(|(sign, _)| self.take(sign)) {
            terms += 1;
            if terms > DEPTH_MAX {
                return Err(self.fault(format!("more than {DEPTH_MAX} terms in a row")));
            }
            let right = operand(self)?;
            let column = left.column;
            left = Tree { column, node: Node::Arithmetic(*operation, Box::new(left), Box::new(right)) };
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Tree, Fault> {
        let column = self.column();
        if !self.take("-") {
            return self.primary();
        }
        let negated = self.deeper(Parser::unary)?;
        Ok(Tree { column, node: Node::Negate(Box::new(negated)) })
    }

    fn primary(&mut self) -> Result<Tree, Fault> {
        let column = self.column();
        let node = match self.peek().clone() {
            Token::Number(number) => {
                self.next += 1;
                Node::Number(number, self.suffix()?)
            }
            Token::Word(word) if JOINTS.contains(&word.as_str()) => {
                return Err(self.fault(format!("`{word}` stands where a number is expected")));
            }
            Token::Word(word) => {
                self.next += 1;
                if self.take("(") { self.call(&word, column)? } else { path(&word, column)? }
            }
            Token::Sign("(") => {
                self.next += 1;
                let tree = self.or()?;
                self.expect(")", "the bracket was opened")?;
                return Ok(Tree { column, node: tree.node });
            }
            token @ (Token::Sign(_) | Token::End) => {
                let what = token.describe();
                return Err(self.fault(format!(
                    "{what} stands where a number is expected (such as `value`, `threshold.critical`, `500`)"
                )));
            }
        };
        Ok(Tree { column, node })
    }

    fn suffix(&mut self) -> Result<Suffix, Fault> {
        if self.take("%") {
            return Ok(Suffix::Percent);
        }
        let Token::Word(word) = self.peek() else { return Ok(Suffix::None) };
        if JOINTS.contains(&word.as_str()) {
            return Ok(Suffix::None);
        }
        let unit = Unit::parse(word).map_err(|message| self.fault(message))?;
        self.next += 1;
        Ok(if unit == Unit::PERCENT { Suffix::Percent } else { Suffix::Unit(unit) })
    }

    fn call(&mut self, name: &str, column: usize) -> Result<Node, Fault> {
        let mut arguments = Vec::new();
        while !self.take(")") {
            if !arguments.is_empty() {
                self.expect(",", "arguments are separated by commas")?;
            }
            arguments.push(self.or()?);
        }
        let function = match name {
            "abs" => Function::Abs,
            "min" => Function::Min,
            "max" => Function::Max,
            "burn_rate" => return Ok(Node::Unsupported(format!("`{name}(…)`"))),
            _ if Aggregate::parse(name).is_some() => return lookback(name, &arguments, column),
            _ => {
                let near = did_you_mean(name, NAMES);
                return Err(Fault::new(
                    column,
                    format!(
                        "unknown function `{name}`{near}; known are `abs`, `min`, `max`, and of a window `p50` … `p99.9`, \
                         `avg`, `count`, `rate`, `missing`, `changed`"
                    ),
                ));
            }
        };
        let fits = match function {
            Function::Abs => arguments.len() == 1,
            Function::Min | Function::Max => !arguments.is_empty(),
        };
        if !fits {
            let count = arguments.len();
            let wanted = if function == Function::Abs { "one argument" } else { "one argument or more" };
            return Err(Fault::new(column, format!("`{name}` takes {wanted}, here are {count}")));
        }
        Ok(Node::Call(function, arguments))
    }
}

/// A function of a window, which is a length of time written out.
fn lookback(name: &str, arguments: &[Tree], column: usize) -> Result<Node, Fault> {
    let aggregate = Aggregate::parse(name).filter(|_| arguments.len() == 1);
    let (Some(aggregate), Some(argument)) = (aggregate, arguments.first()) else {
        let message = format!("`{name}` takes one length of time (write for example `{name}(5m)`)");
        return Err(Fault::new(column, message));
    };
    let seconds = match argument.node {
        Node::Number(number, Suffix::Unit(unit)) if unit.dimension() == Dimension::Time => {
            unit.convert(number, Unit::SECONDS)
        }
        _ => None,
    };
    let window = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or_else(|| {
        Fault::new(argument.column, format!("the window of `{name}` is a length of time, such as `5m`"))
    })?;
    let longest = aggregate.window_max();
    if window < Duration::from_millis(100) || window > longest {
        let message = format!("the window of `{name}` is between 100 ms and {} h", longest.as_secs() / 3_600);
        return Err(Fault::new(argument.column, message));
    }
    Ok(Node::Lookback(Lookback { aggregate, window }))
}

fn path(word: &str, column: usize) -> Result<Node, Fault> {
    if let Some(level) = word.strip_prefix("threshold.") {
        return threshold(level).map(|level| Node::Column(Column::Threshold(level))).ok_or_else(|| {
            let near = did_you_mean(level, LEVELS.iter().map(|(name, _)| *name));
            let known = "known are target, warning, critical, lower, upper";
            Fault::new(column, format!("unknown threshold `{level}`{near}; {known}"))
        });
    }
    Ok(match word {
        "value" => Node::Column(Column::Value),
        "count" => Node::Column(Column::Count),
        "deviation" => Node::Column(Column::Deviation),
        "zscore" => Node::Column(Column::Zscore),
        "duration" => Node::Duration,
        "previous" => Node::Lookback(Lookback { aggregate: Aggregate::Previous, window: Duration::ZERO }),
        "budget.remaining" | "budget.burn_rate" => Node::Unsupported(format!("`{word}`")),
        "threshold" => {
            return Err(Fault::new(column, "name the threshold (write for example `threshold.critical`)"));
        }
        _ => match baseline_column(word) {
            Some(found) => Node::Column(found),
            None => {
                let near = did_you_mean(word, NAMES.into_iter().chain(JOINTS));
                return Err(Fault::new(column, format!("unknown word `{word}`{near}")));
            }
        },
    })
}

fn threshold(name: &str) -> Option<Level> {
    LEVELS.iter().find(|(word, _)| *word == name).map(|(_, level)| *level)
}
