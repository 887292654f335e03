//! Points that count since a start: kept as they came, and differenced in the order of time when their window is judged.
//!
//! - A series is who reports (resource, scope, metric, attributes) since one start.
//! - What was added between two points belongs to the window of the later one. Where the window that is read is shorter than the time
//!   between them, it gets its part of it.
//! - A drop is a reset: all that the later point says was added since. So is a start after the last point of the series before.
//! - A point from before its pane is the last one of a pane that is gone: it adds nothing.
//! - The first point of a series is only where counting begins, unless it says a start less than a window ago, or comes after a reset.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use homeostat_pipeline::evidence::point::{Content, Exponential, Histogram, Point, Series, Side, Totals};

use super::super::codec::{Reader, Writer};
use super::dist::Observation;
use super::pane::Pane;
use super::points::{bounds_of, indexed};
use super::window::{Span, Window, Windows};

/// A cumulative point. Ordered by slot, series and time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Raw {
    /// Which slot takes what it adds.
    pub slot: u32,
    /// Who reports, since when.
    pub series: Series,
    /// Nanoseconds since the epoch.
    pub time: i64,
    /// The bits of a sum's value.
    pub bits: u64,
    /// Whether what it counts failed.
    pub is_error: bool,
    /// Whether the lowest values are the ones to look at.
    pub wants_low: bool,
    /// The rest of it.
    pub sketch: Box<[u8]>,
}

impl Raw {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Writer) {
        out.unsigned(u64::from(self.slot));
        out.signed(self.time);
        out.float(f64::from_bits(self.bits));
        out.raw(&[u8::from(self.is_error), u8::from(self.wants_low)]);
        out.unsigned(self.sketch.len() as u64);
        out.raw(&self.sketch);
    }

    /// Reads what [`Raw::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn decode(bytes: &mut Reader<'_>) -> anyhow::Result<Raw> {
        let slot = u32::try_from(bytes.unsigned()?)?;
        let (time, bits) = (bytes.signed()?, bytes.float()?.to_bits());
        let [is_error, wants_low] = bytes.array()?;
        let length = bytes.length(1 << 24)?;
        let sketch: Box<[u8]> = bytes.raw(length)?.into();
        let series = Point::decode(&sketch)?.series;
        Ok(Raw { slot, series, time, bits, is_error: is_error != 0, wants_low: wants_low != 0, sketch })
    }

    /// Before or after all points of a series in the order of points: the one at the edge of time.
    fn edge(slot: u32, series: Series, time: i64) -> Raw {
        let is_last = time == i64::MAX;
        let bits = if is_last { u64::MAX } else { 0 };
        Raw { slot, series, time, bits, is_error: is_last, wants_low: is_last, sketch: Box::default() }
    }
}

/// The last point of a series among these.
fn last_of(raw: &BTreeSet<Raw>, slot: u32, series: Series) -> Option<&Raw> {
    let all = Raw::edge(slot, series, i64::MIN)..=Raw::edge(slot, series, i64::MAX);
    raw.range(all).next_back()
}

/// The points of who reports, whatever the start.
fn all_of(raw: &BTreeSet<Raw>, slot: u32, id: [u8; 16]) -> impl Iterator<Item = &Raw> {
    let first = Raw::edge(slot, Series { id, start: 0 }, i64::MIN);
    let last = Raw::edge(slot, Series { id, start: u64::MAX }, i64::MAX);
    raw.range(first..=last)
}

/// The pane with what its cumulative points added; none where it has none. What was added in longer than `length`, the window
/// that is read, is spread over that time; `size` is that of the model's windows.
pub fn resolved(
    windows: &Windows,
    span: Span,
    subject: u64,
    pane: &Pane,
    (size, length): (Duration, Duration),
) -> Option<Pane> {
    if pane.raw.is_empty() {
        return None;
    }
    let mut out = pane.without_raw();
    let earlier: Vec<&BTreeSet<Raw>> = earlier(windows, span, subject).map(|pane| &pane.raw).collect();
    let raw: Vec<&Raw> = pane.raw.iter().collect();
    for of_one in raw.chunk_by(|a, b| (a.slot, a.series.id) == (b.slot, b.series.id)) {
        let starts = Starts::new(of_one, &earlier);
        for series in of_one.chunk_by(|a, b| a.series == b.series) {
            let first = series[0];
            let mut previous = earlier.iter().find_map(|raw| last_of(raw, first.slot, first.series));
            for now in series {
                if now.time < span.start.as_nanos() {
                    // Of a pane that is gone: only where counting goes on.
                    previous = Some(now);
                    continue;
                }
                let Some(point) = Point::decode(&now.sketch).ok() else { continue };
                let added = match previous {
                    Some(previous) => added(previous, now, &point.content),
                    None if starts.begins(now, size) => whole(now, &point.content),
                    None => None,
                };
                let since = previous.map_or(now.series.start.cast_signed(), |previous| previous.time);
                previous = Some(now);
                let Some(added) = added else { continue };
                put(&mut out, now, &point, thinned(added, now.time.saturating_sub(since), length));
            }
        }
    }
    Some(out)
}

/// Adds what a point added to its distribution.
fn put(out: &mut Pane, now: &Raw, point: &Point, added: Added) {
    let place = out.locate(now.slot);
    let dist = out.at(place);
    match added {
        Added::Sum(value) => {
            let seen = Observation { value, count: 1, is_error: false, trace: [0; 16] };
            dist.add(&seen, now.wants_low);
        }
        Added::Histogram(histogram) => dist.add_histogram(&histogram, now.is_error),
        Added::Exponential(exponential) => dist.add_exponential(&exponential, now.is_error),
    }
    dist.add_exemplars(&point.exemplars, now.is_error, now.wants_low);
}

/// The subject's panes of earlier windows that hold points, the latest first.
fn earlier(windows: &Windows, span: Span, subject: u64) -> impl Iterator<Item = &Pane> {
    let before = windows.range((Bound::Unbounded, Bound::Excluded(span))).rev();
    let panes = before.filter_map(move |(_, window)| window.pane(subject));
    panes.filter(|pane| !pane.raw.is_empty())
}

/// What later panes count on from, of panes that go: the last point of each series moves on to the subject's next pane in which its
/// reporter is heard of. So what a pane comes to never depends on when it is read.
pub fn carry(gone: &[(Span, Window)], windows: &mut Windows) {
    let mut last: BTreeMap<(u64, u32, Series), (&Raw, bool)> = BTreeMap::new();
    for (span, window) in gone.iter().filter(|(_, window)| window.has_raw) {
        for (subject, pane) in window.panes() {
            for raw in &pane.raw {
                // What moved on before does so again only as a predecessor, else every start that ever was would be kept.
                let is_own = raw.time >= span.start.as_nanos();
                last.insert((*subject, raw.slot, raw.series), (raw, is_own));
            }
        }
    }
    for ((subject, slot, series), (raw, is_own)) in last {
        for window in windows.values_mut().filter(|window| window.has_raw) {
            let Some(pane) = window.pane_mut(subject) else { continue };
            let is_next = match is_own {
                true => all_of(&pane.raw, slot, series.id).next().is_some(),
                false => last_of(&pane.raw, slot, series).is_some(),
            };
            if is_next {
                pane.raw.insert(raw.clone());
                (pane.is_touched, window.is_touched) = (true, true);
                break;
            }
        }
    }
}

/// When one who reports was first heard of, since each of its starts.
struct Starts<'a> {
    /// Of this pane: the first point since each start, the earliest two starts to be heard of.
    here: Vec<&'a Raw>,
    /// Of earlier panes, the earliest of all; looked for once it is asked for.
    before: OnceCell<Option<i64>>,
    earlier: &'a [&'a BTreeSet<Raw>],
}

impl<'a> Starts<'a> {
    /// Of the points of one who reports, in their order.
    fn new(of_one: &[&'a Raw], earlier: &'a [&'a BTreeSet<Raw>]) -> Starts<'a> {
        let mut here: Vec<&Raw> = of_one.chunk_by(|a, b| a.series == b.series).map(|all| all[0]).collect();
        here.sort_by_key(|raw| raw.time);
        here.truncate(2);
        Starts { here, before: OnceCell::new(), earlier }
    }

    /// Whether all that the first known point of a series says was added lately: it began less than a window ago, or after a
    /// point of another start.
    fn begins(&self, now: &Raw, size: Duration) -> bool {
        let start = now.series.start.cast_signed();
        if start <= 0 {
            return false;
        }
        let age = u128::try_from(now.time.saturating_sub(start)).unwrap_or(0);
        let other = || self.here.iter().find(|raw| raw.series != now.series);
        age <= size.as_nanos()
            || other().is_some_and(|raw| raw.time <= start)
            || self.before(now).is_some_and(|time| time <= start)
    }

    /// That of earlier panes, none of which knows the series itself.
    fn before(&self, now: &Raw) -> Option<i64> {
        *self.before.get_or_init(|| {
            let all = self.earlier.iter().flat_map(|raw| all_of(raw, now.slot, now.series.id));
            all.map(|raw| raw.time).min()
        })
    }
}

/// What was added.
enum Added {
    Sum(f64),
    Histogram(Histogram),
    Exponential(Exponential),
}

/// All that a point says.
fn whole(now: &Raw, content: &Content) -> Option<Added> {
    // Extremes are those since the start, not since the point before.
    let totals = |totals: &Totals| Totals { min: None, max: None, ..*totals };
    match content {
        Content::Value => Some(f64::from_bits(now.bits)).filter(|value| value.is_finite()).map(Added::Sum),
        Content::Histogram(all) => {
            Some(Added::Histogram(Histogram { totals: totals(&all.totals), ..all.clone() }))
        }
        Content::Exponential(all) => {
            Some(Added::Exponential(Exponential { totals: totals(&all.totals), ..all.clone() }))
        }
        Content::Summary(_) => None,
    }
}

/// What was added between two points of a series.
fn added(previous: &Raw, now: &Raw, content: &Content) -> Option<Added> {
    let before = Point::decode(&previous.sketch).ok()?.content;
    match (&before, content) {
        (Content::Value, Content::Value) => {
            let (old, new) = (f64::from_bits(previous.bits), f64::from_bits(now.bits));
            let added = if new < old { new } else { new - old };
            Some(added).filter(|value| value.is_finite()).map(Added::Sum)
        }
        (Content::Histogram(old), Content::Histogram(new)) => {
            if new.totals.count < old.totals.count {
                return whole(now, content);
            }
            if old.bounds != new.bounds || old.counts.len() != new.counts.len() {
                // Nobody knows which of the old ones stand where: counting begins anew.
                return None;
            }
            let counts: Option<Vec<u64>> =
                new.counts.iter().zip(&old.counts).map(|(new, old)| new.checked_sub(*old)).collect();
            let Some(counts) = counts else { return whole(now, content) };
            let totals = difference(&old.totals, &new.totals);
            Some(Added::Histogram(Histogram { totals, bounds: new.bounds.clone(), counts }))
        }
        (Content::Exponential(old), Content::Exponential(new)) => {
            subtract(old, new).map(Added::Exponential).or_else(|| whole(now, content))
        }
        (Content::Value | Content::Histogram(_) | Content::Exponential(_) | Content::Summary(_), _) => None,
    }
}

fn difference(old: &Totals, new: &Totals) -> Totals {
    let sum = new.sum.zip(old.sum).map(|(new, old)| new - old);
    Totals { count: new.count.saturating_sub(old.count), sum, min: None, max: None }
}

/// `new` less `old`, at the coarser of their scales and with the wider of their zeros; none where anything fell.
fn subtract(old: &Exponential, new: &Exponential) -> Option<Exponential> {
    let scale = old.scale.min(new.scale);
    let threshold = old.zero_threshold.max(new.zero_threshold);
    let coarse = |of: &Exponential| {
        let mut zero = of.zero_count;
        let sides = [&of.positive, &of.negative].map(|side| {
            let mut all = indexed(side, of.scale, scale);
            all.retain(|(index, count)| {
                let is_zero = bounds_of(*index, scale).1 <= threshold;
                zero = if is_zero { zero.saturating_add(*count) } else { zero };
                !is_zero
            });
            all
        });
        (zero, sides)
    };
    let (old_zero, old_sides) = coarse(old);
    let (new_zero, new_sides) = coarse(new);
    let zero_count = new_zero.checked_sub(old_zero)?;
    let mut sides = Vec::new();
    for (old, new) in old_sides.iter().zip(&new_sides) {
        sides.push(side(old, new)?);
    }
    let negative = sides.pop()?;
    let positive = sides.pop()?;
    let count = positive
        .counts
        .iter()
        .chain(&negative.counts)
        .fold(zero_count, |sum, count| sum.saturating_add(*count));
    let totals = Totals { count, ..difference(&old.totals, &new.totals) };
    Some(Exponential { totals, scale, zero_count, zero_threshold: threshold, positive, negative })
}

fn side(old: &[(i64, u64)], new: &[(i64, u64)]) -> Option<Side> {
    let count = |of: &[(i64, u64)], index: i64| {
        of.binary_search_by_key(&index, |(index, _)| *index).map_or(0, |at| of[at].1)
    };
    if old.iter().any(|(index, old)| count(new, *index) < *old) {
        return None;
    }
    let (Some((first, _)), Some((last, _))) = (new.first(), new.last()) else { return Some(Side::default()) };
    let counts = (*first..=*last).map(|index| count(new, index) - count(old, index)).collect();
    Some(Side { offset: i32::try_from(*first).ok()?, counts })
}

/// The part of what was added in `nanos` that one window gets.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a window are far below 2^53, and a part of one is no larger"
)]
fn thinned(added: Added, nanos: i64, size: Duration) -> Added {
    let part = size.as_nanos() as f64 / (nanos as f64).max(1.0);
    if part >= 1.0 {
        return added;
    }
    let less = |count: u64| (count as f64 * part).round() as u64;
    let totals =
        |totals: Totals, count: u64| Totals { count, sum: totals.sum.map(|sum| sum * part), ..totals };
    match added {
        Added::Sum(value) => Added::Sum(value * part),
        Added::Histogram(mut all) => {
            all.counts.iter_mut().for_each(|count| *count = less(*count));
            let count = if all.counts.is_empty() { less(all.totals.count) } else { all.counts.iter().sum() };
            Added::Histogram(Histogram { totals: totals(all.totals, count), ..all })
        }
        Added::Exponential(mut all) => {
            all.zero_count = less(all.zero_count);
            let counts = all.positive.counts.iter_mut().chain(&mut all.negative.counts);
            let count = all.zero_count
                + counts
                    .map(|count| {
                        *count = less(*count);
                        *count
                    })
                    .sum::<u64>();
            Added::Exponential(Exponential { totals: totals(all.totals, count), ..all })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The histogram of positive values at a scale.
    fn exponential(values: &[f64], scale: i32) -> Exponential {
        let mut counts = std::collections::BTreeMap::new();
        for value in values {
            *counts.entry((value.log2() * f64::from(scale).exp2()).floor() as i64).or_insert(0_u64) += 1;
        }
        let all: Vec<(i64, u64)> = counts.into_iter().collect();
        let count = values.len() as u64;
        let totals = Totals { count, sum: Some(values.iter().sum()), ..Totals::default() };
        let positive = side(&[], &all).expect("nothing fell");
        Exponential { totals, scale, positive, ..Exponential::default() }
    }

    proptest! {
        #[test]
        fn what_an_exponential_histogram_added_is_what_was_seen_whatever_the_scales(
            before in prop::collection::vec(1.001..900.0_f64, 0..40),
            after in prop::collection::vec(1.001..900.0_f64, 0..40),
            scales in (-2_i32..8, -2_i32..8),
        ) {
            let old = exponential(&before, scales.0);
            let both = [before.clone(), after.clone()].concat();
            let new = exponential(&both, scales.1);
            let added = subtract(&old, &new).expect("nothing fell");
            let scale = scales.0.min(scales.1);
            prop_assert_eq!(added.totals.count, after.len() as u64);
            prop_assert_eq!(
                indexed(&added.positive, added.scale, scale),
                indexed(&exponential(&after, scale).positive, scale, scale)
            );
            prop_assert!((added.totals.sum.unwrap_or(f64::NAN) - after.iter().sum::<f64>()).abs() < 1e-6);
            // Of something that fell nobody says what was added.
            if !before.is_empty() {
                let fewer = exponential(&before[1..], scales.1);
                prop_assert_eq!(subtract(&old, &fewer), None);
            }
        }
    }
}
