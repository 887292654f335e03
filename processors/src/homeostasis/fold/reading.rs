//! From what a pane holds to the value of a measure, and how well it is known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::model::{Direction, Expectation, Statistic};
use super::super::sketch;
use super::super::units::Unit;
use super::dist::{Dist, EXEMPLARS_MAX, Exemplars, TraceId};
use super::long::Sums;
use super::points::Take;
use super::ranges::{Piece, value_at};

/// What a measure came to in one window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// In the expectation's unit; none when it is unknown.
    pub value: Option<f64>,
    /// By which part of the value the true one may differ because buckets are wide; 0 where a sketch or a sum knows it.
    pub margin: f64,
    /// Observations that it rests on.
    pub samples: u64,
    /// Those that failed.
    pub errors: u64,
    /// Traces to look at, the most adverse first.
    pub traces: Vec<TraceId>,
}

/// What one slot contributes.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// How it is to be read.
    pub take: Take,
    /// What it saw.
    pub dist: &'a Dist,
    /// In which unit.
    pub unit: Unit,
    /// Whether its rows name the measure, and their values are what it is.
    pub is_named: bool,
    /// Whether its rows are those of a ratio that are good.
    pub is_good: bool,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a window are far below 2^53, and a negative sum counts nothing"
)]
impl Part<'_> {
    /// How much it counts: of sums what was added, of others the observations.
    fn amount(&self) -> f64 {
        match self.take {
            Take::Observations | Take::Histograms => self.dist.count as f64,
            Take::Sums | Take::FailedSums => self.dist.sum(),
            Take::Values | Take::Quantile(_) => 0.0,
        }
    }

    /// How much of that failed.
    fn failed(&self, statistic: Statistic) -> f64 {
        match self.take {
            Take::Observations | Take::Histograms => self.dist.errors as f64,
            Take::FailedSums => self.dist.sum(),
            // Who calls a sum the count of errors means all of it.
            Take::Sums if statistic == Statistic::ErrorCount => self.dist.sum(),
            Take::Sums | Take::Values | Take::Quantile(_) => 0.0,
        }
    }

    fn samples(&self, is_counted: bool) -> u64 {
        match self.take {
            Take::Observations | Take::Histograms if is_counted => self.dist.count,
            // That nothing was added is known too.
            Take::Sums | Take::FailedSums if is_counted => {
                self.dist.count.max(self.dist.sum().round() as u64)
            }
            Take::Observations
            | Take::Histograms
            | Take::Sums
            | Take::FailedSums
            | Take::Values
            | Take::Quantile(_) => self.dist.values(),
        }
    }

    /// A measurement is what it is; only samples can be too few.
    const fn is_measured(&self) -> bool {
        match self.take {
            Take::Values | Take::Quantile(_) => true,
            Take::Observations | Take::Histograms | Take::Sums | Take::FailedSums => false,
        }
    }

    /// The values, in another unit.
    fn pieces(&self, unit: Unit, out: &mut Vec<Piece>) {
        let to = |value| self.unit.convert(value, unit).unwrap_or(value);
        out.extend(self.dist.sketch.iter().map(|(value, count)| Piece {
            lo: to(value),
            hi: to(value),
            count,
        }));
        let is_closed = !self.dist.lacks_extremes && self.dist.min <= self.dist.max;
        out.extend(self.dist.ranges.iter().map(|(lo, hi, count)| {
            // What has no bound ends where the values do.
            let end = if hi == f64::INFINITY && is_closed { self.dist.max.max(lo) } else { hi };
            let start = if lo == f64::NEG_INFINITY && is_closed { self.dist.min.min(end) } else { lo };
            Piece { lo: to(start), hi: to(end), count }
        }));
    }
}

/// What is asked of a window.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Of which measure.
    pub expected: &'a Expectation,
    /// The measure's own statistic, or another one of the same observations.
    pub statistic: Statistic,
    /// How long the window is.
    pub size: Duration,
    /// With fewer observations shares and quantiles are unknown.
    pub min_samples: u64,
}

/// What the parts of a pane add up to.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are far below 2^53")]
pub fn sums(expected: &Expectation, statistic: Statistic, parts: &[Part<'_>]) -> Sums {
    let is_counted = statistic.is_counted();
    let (up, down) = up_and_down(parts);
    let mut sums = Sums { up, down, ..Sums::default() };
    for part in parts {
        let is_report = part.is_named || part.is_measured() || statistic == Statistic::Sum;
        if is_report && statistic != Statistic::Ratio {
            let reported = part.unit.convert(part.dist.sum(), expected.unit).unwrap_or(0.0);
            sums.reported += if part.dist.values() > 0 { reported } else { 0.0 };
            sums.reports = sums.reports.saturating_add(part.dist.values());
            sums.samples = sums.samples.saturating_add(part.dist.values());
            continue;
        }
        if statistic == Statistic::Ratio {
            // Those that are good are among all.
            sums.amount += if part.is_good { 0.0 } else { part.amount() };
            sums.failed += if part.is_good { -part.amount() } else { part.amount() };
            continue;
        }
        sums.amount += part.amount();
        sums.failed += part.failed(statistic);
        sums.samples = sums.samples.saturating_add(part.samples(is_counted));
    }
    if statistic == Statistic::Ratio {
        sums.failed = sums.failed.max(0.0);
        sums.samples = sums.amount.max(0.0).round() as u64;
    }
    sums
}

/// Minutes in which at least half of what was observed succeeded, and the others in which something was observed.
fn up_and_down(parts: &[Part<'_>]) -> (u64, u64) {
    let mut minutes: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    for (minute, (count, errors)) in parts.iter().flat_map(|part| &part.dist.minutes) {
        let known = minutes.entry(*minute).or_default();
        *known = (known.0.saturating_add(*count), known.1.saturating_add(*errors));
    }
    let down = minutes.values().filter(|(count, errors)| errors.saturating_mul(2) > *count).count() as u64;
    (minutes.len() as u64 - down, down)
}

/// Reads a measure from its parts.
pub fn read(question: &Question<'_>, parts: &[Part<'_>]) -> Reading {
    let Question { expected, statistic, min_samples, .. } = *question;
    if statistic.is_counted() {
        return Reading {
            traces: traces(expected, statistic, parts),
            ..read_sums(question, &sums(expected, statistic, parts))
        };
    }
    let samples = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.samples(false)));
    let is_measured = parts.iter().all(Part::is_measured);
    let needed = if needs_samples(statistic) && !is_measured { min_samples } else { 0 };
    let known = if samples == 0 || samples < needed { None } else { value(question, parts) };
    let known = known.filter(|(value, _)| value.is_finite());
    let (value, margin) = known.map_or((None, 0.0), |(value, margin)| (Some(value), margin));
    Reading {
        value,
        margin,
        samples,
        errors: errors(statistic, parts),
        traces: traces(expected, statistic, parts),
    }
}

/// Reads a measure from what it adds up to.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are far below 2^53")]
pub fn read_sums(question: &Question<'_>, sums: &Sums) -> Reading {
    let Question { expected, statistic, size, min_samples } = *question;
    let is_reported = sums.reports > 0 && sums.reports == sums.samples;
    let needed = if needs_samples(statistic) && !is_reported { min_samples } else { 0 };
    let is_known = sums.samples > 0 && sums.samples >= needed;
    let value = is_known.then(|| sums.value(statistic, expected.unit, size)).flatten();
    let errors = sums.failed.max(0.0).round() as u64;
    Reading { value, margin: 0.0, samples: sums.samples, errors, traces: Vec::new() }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are far below 2^53")]
fn errors(statistic: Statistic, parts: &[Part<'_>]) -> u64 {
    parts.iter().map(|part| part.failed(statistic)).sum::<f64>().round() as u64
}

/// The value, and how well it is known.
fn value(question: &Question<'_>, parts: &[Part<'_>]) -> Option<(f64, f64)> {
    let unit = question.expected.unit;
    let values = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.dist.values()));
    let extreme = |rank: u64, of: fn(&Dist) -> f64, better: fn(f64, f64) -> f64| {
        if parts.iter().any(|part| part.dist.lacks_extremes) {
            return spread(parts, rank.into(), unit);
        }
        let filled = parts.iter().filter(|part| part.dist.values() > 0);
        let all = filled.filter_map(|part| part.unit.convert(of(part.dist), unit));
        all.reduce(better).map(|value| (value, 0.0))
    };
    let exactly = |value: Option<f64>| value.map(|value| (value, 0.0));
    match question.statistic {
        Statistic::Quantile(quantile) => quantile_of(parts, quantile, unit),
        Statistic::Mean => exactly(mean(parts, unit)),
        Statistic::Min => extreme(1, |dist| dist.min, f64::min),
        Statistic::Max => extreme(values, |dist| dist.max, f64::max),
        Statistic::Sum => exactly(sum(parts, unit)),
        Statistic::ErrorRate
        | Statistic::SuccessRate
        | Statistic::Rate
        | Statistic::Count
        | Statistic::ErrorCount
        | Statistic::Uptime
        | Statistic::Downtime
        | Statistic::Ratio => None,
    }
}

/// The sum of all values; none where some point did not say its own.
fn sum(parts: &[Part<'_>], unit: Unit) -> Option<f64> {
    let filled = parts.iter().filter(|part| part.dist.values() > 0);
    filled.map(|part| Some(part.unit.convert(part.dist.sum(), unit)?).filter(|_| !part.dist.lacks_sum)).sum()
}

#[expect(clippy::cast_precision_loss, reason = "counts of a window are far below 2^53")]
fn mean(parts: &[Part<'_>], unit: Unit) -> Option<f64> {
    let values = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.dist.values()));
    Some(sum(parts, unit)? / values as f64)
}

fn traces(expected: &Expectation, statistic: Statistic, parts: &[Part<'_>]) -> Vec<TraceId> {
    let is_counted = statistic.is_counted();
    let best = |of: fn(&Dist) -> &Exemplars| {
        let mut ranked: Vec<(f64, TraceId)> = parts
            .iter()
            .flat_map(|part| {
                let to = if is_counted { part.unit } else { expected.unit };
                of(part.dist)
                    .traces()
                    .map(move |(rank, trace)| (part.unit.convert(rank, to).unwrap_or(rank), trace))
            })
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        ranked.into_iter().map(|(_, trace)| trace).collect::<Vec<_>>()
    };
    let mut traces = match (is_counted, expected.direction) {
        (true, _) => best(|dist| &dist.failed),
        (false, Direction::LowerIsBetter) => best(|dist| &dist.high),
        (false, Direction::HigherIsBetter) => best(|dist| &dist.low),
    };
    if traces.is_empty() {
        traces = best(|dist| &dist.high);
    }
    let mut seen = BTreeSet::new();
    traces.retain(|trace| seen.insert(*trace));
    traces.truncate(EXEMPLARS_MAX);
    traces
}

/// Few observations make a share or a quantile unknown; a count or an extreme is what it is.
const fn needs_samples(statistic: Statistic) -> bool {
    match statistic {
        Statistic::Quantile(_)
        | Statistic::Mean
        | Statistic::ErrorRate
        | Statistic::SuccessRate
        | Statistic::Ratio => true,
        Statistic::Min
        | Statistic::Max
        | Statistic::Sum
        | Statistic::Rate
        | Statistic::Count
        | Statistic::ErrorCount
        | Statistic::Uptime
        | Statistic::Downtime => false,
    }
}

/// The quantile over slots whose units differ; with one slot of single values that of its sketch, never beyond what was seen.
fn quantile_of(parts: &[Part<'_>], quantile: f64, unit: Unit) -> Option<(f64, f64)> {
    let filled: Vec<&Part<'_>> = parts.iter().filter(|part| part.dist.values() > 0).collect();
    if let [only] = filled.as_slice()
        && only.dist.ranges.total() == 0
    {
        let value = only.dist.sketch.quantile(quantile)?.clamp(only.dist.min, only.dist.max);
        return only.unit.convert(value, unit).map(|value| (value, 0.0));
    }
    let total = filled.iter().fold(0_u64, |sum, part| sum.saturating_add(part.dist.values()));
    let rank = sketch::rank(total, quantile);
    if filled.iter().any(|part| part.dist.ranges.total() > 0) {
        return spread(parts, rank, unit);
    }
    let mut values = Vec::new();
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    for part in filled {
        min = min.min(part.unit.convert(part.dist.min, unit)?);
        max = max.max(part.unit.convert(part.dist.max, unit)?);
        for (value, count) in part.dist.sketch.iter() {
            values.push((part.unit.convert(value, unit)?, count));
        }
    }
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut seen = 0_u128;
    let found = values.iter().find(|(_, count)| {
        seen += u128::from(*count);
        seen >= rank
    });
    Some((found?.0.clamp(min, max), 0.0))
}

/// The value of a rank where some values are only known to lie between bounds.
fn spread(parts: &[Part<'_>], rank: u128, unit: Unit) -> Option<(f64, f64)> {
    let mut pieces = Vec::new();
    parts.iter().for_each(|part| part.pieces(unit, &mut pieces));
    let (value, margin) = value_at(&pieces, rank)?;
    if parts.iter().any(|part| part.dist.lacks_extremes) {
        return Some((value, margin));
    }
    let filled = || parts.iter().filter(|part| part.dist.values() > 0);
    let min = filled().filter_map(|part| part.unit.convert(part.dist.min, unit)).reduce(f64::min)?;
    let max = filled().filter_map(|part| part.unit.convert(part.dist.max, unit)).reduce(f64::max)?;
    Some((value.min(max).max(min), margin))
}
