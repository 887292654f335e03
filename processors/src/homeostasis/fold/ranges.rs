//! Counts between bounds: what histograms tell of values. Kept as they came, so that a quantile can say how well it is known.

use super::super::codec::{Reader, Writer};

/// More distinct pairs of bounds than this and the lowest run together, as in [`super::super::sketch`].
const RANGES_MAX: usize = 4096;
/// What a quantile may be off by without saying so.
pub const MARGIN_MAX: f64 = 0.01;

/// Counts of values in (lo, hi]; the bounds may be infinite.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranges {
    /// By lower bound, then upper.
    all: Vec<(f64, f64, u64)>,
    total: u64,
}

impl Ranges {
    /// Adds `count` values between `lo` and `hi`.
    pub fn add(&mut self, lo: f64, hi: f64, count: u64) {
        if count == 0 {
            return;
        }
        self.total = self.total.saturating_add(count);
        let order = |range: &(f64, f64, u64)| range.0.total_cmp(&lo).then(range.1.total_cmp(&hi));
        match self.all.binary_search_by(order) {
            Ok(at) => self.all[at].2 = self.all[at].2.saturating_add(count),
            Err(0) if self.all.len() >= RANGES_MAX => self.all[0].2 = self.all[0].2.saturating_add(count),
            Err(at) => {
                self.all.insert(at, (lo, hi, count));
                if self.all.len() > RANGES_MAX {
                    let lowest = self.all.remove(0);
                    self.all[0].2 = self.all[0].2.saturating_add(lowest.2);
                }
            }
        }
    }

    /// Takes in another's.
    pub fn merge(&mut self, other: &Ranges) {
        other.iter().for_each(|(lo, hi, count)| self.add(lo, hi, count));
    }

    /// How many values.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Lower bound, upper bound, count.
    pub fn iter(&self) -> impl Iterator<Item = (f64, f64, u64)> + '_ {
        self.all.iter().copied()
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Writer) {
        out.unsigned(self.all.len() as u64);
        for (lo, hi, count) in &self.all {
            out.float(*lo);
            out.float(*hi);
            out.unsigned(*count);
        }
    }

    /// Reads what [`Ranges::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn decode(bytes: &mut Reader<'_>) -> anyhow::Result<Ranges> {
        let mut ranges = Ranges::default();
        for _ in 0..bytes.length(RANGES_MAX)? {
            let range = (bytes.float()?, bytes.float()?, bytes.unsigned()?);
            ranges.total = ranges.total.saturating_add(range.2);
            ranges.all.push(range);
        }
        Ok(ranges)
    }
}

/// Some values: all the same, or anywhere between two bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// The lower bound.
    pub lo: f64,
    /// The upper bound; the same for values that are known.
    pub hi: f64,
    /// How many.
    pub count: u64,
}

/// The value of a rank (from 1) among all pieces, and by which part of itself the true one may differ: values are taken to lie evenly
/// between their bounds. None where there are no values, or some of which nothing is known.
///
/// What has no lower bound begins at zero if it ends above it; what has no end counts as its beginning, which may be far too little.
pub fn value_at(pieces: &[Piece], rank: u128) -> Option<(f64, f64)> {
    let mut edges: Vec<f64> = Vec::with_capacity(pieces.len() * 2);
    // (where, density that begins or ends), (where, values there).
    let (mut slopes, mut steps) = (Vec::new(), Vec::new());
    #[expect(clippy::cast_precision_loss, reason = "counts of a window are far below 2^53")]
    for piece in pieces {
        let (lo, hi, count) = (from(piece), piece.hi, piece.count as f64);
        match (lo.is_finite(), hi.is_finite()) {
            (false, false) => return None,
            (true, true) if lo < hi => {
                let density = count / (hi - lo);
                slopes.push((lo, density));
                slopes.push((hi, -density));
                edges.extend([lo, hi]);
            }
            (is_lo, _) => {
                let at = if is_lo { lo } else { hi };
                steps.push((at, count));
                edges.push(at);
            }
        }
    }
    edges.sort_by(f64::total_cmp);
    edges.dedup();
    slopes.sort_by(|a: &(f64, f64), b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    steps.sort_by(|a: &(f64, f64), b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let value = walk(&edges, &slopes, &steps, rank)?;
    Some((value, margin(pieces, value)))
}

fn from(piece: &Piece) -> f64 {
    if piece.lo == f64::NEG_INFINITY && piece.hi > 0.0 && piece.hi.is_finite() { 0.0 } else { piece.lo }
}

fn walk(edges: &[f64], slopes: &[(f64, f64)], steps: &[(f64, f64)], rank: u128) -> Option<f64> {
    let (mut slopes, mut steps) = (slopes.iter().peekable(), steps.iter().peekable());
    #[expect(clippy::cast_precision_loss, reason = "ranks of a window are far below 2^53")]
    let target = rank as f64 - 0.5;
    let (mut seen, mut density, mut open) = (0.0, 0.0, 0_i64);
    for (number, edge) in edges.iter().enumerate() {
        while let Some((_, change)) = slopes.next_if(|(at, _)| at <= edge) {
            density += change;
            open += if *change > 0.0 { 1 } else { -1 };
        }
        if open == 0 {
            density = 0.0;
        }
        while let Some((_, count)) = steps.next_if(|(at, _)| at <= edge) {
            seen += count;
        }
        if seen >= target {
            return Some(*edge);
        }
        let Some(next) = edges.get(number + 1) else { break };
        let here = density * (next - edge);
        if here > 0.0 && seen + here >= target {
            let middle = edge + (next - edge) / 2.0;
            let is_narrow = (next - edge) / 2.0 <= middle.abs() * MARGIN_MAX;
            return Some(if is_narrow { middle } else { edge + (target - seen) / density });
        }
        seen += here;
    }
    edges.last().copied()
}

/// How far from `value` the bounds of what lies around it are, as a part of the value.
fn margin(pieces: &[Piece], value: f64) -> f64 {
    let off = |piece: &Piece| {
        let (lo, hi) = (from(piece), piece.hi);
        if lo == hi || value < lo || value > hi {
            return 0.0;
        }
        let off = (value - lo).max(hi - value);
        if off == 0.0 { 0.0 } else { off / value.abs() }
    };
    pieces.iter().map(off).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(lo: f64, hi: f64, count: u64) -> Piece {
        Piece { lo, hi, count }
    }

    #[test]
    fn values_lie_evenly_between_bounds_and_the_margin_says_how_well_they_are_known() {
        let wide = [piece(f64::NEG_INFINITY, 100.0, 90), piece(100.0, 200.0, 10)];
        assert_eq!(value_at(&wide, 95), Some((145.0, 55.0 / 145.0)));
        assert_eq!(value_at(&wide, 45).map(|(value, _)| value.round()), Some(49.0));
        let narrow = [piece(100.0, 101.0, 5)];
        assert_eq!(value_at(&narrow, 1), Some((100.5, 0.5 / 100.5)));
        let open = [piece(7.0, 7.0, 1), piece(9.0, f64::INFINITY, 1)];
        assert_eq!(value_at(&open, 1), Some((7.0, 0.0)));
        assert_eq!(value_at(&open, 2), Some((9.0, f64::INFINITY)));
        assert_eq!(value_at(&[piece(f64::NEG_INFINITY, f64::INFINITY, 1)], 1), None);
        assert_eq!(value_at(&[], 1), None);
    }

    proptest! {
        #[test]
        fn the_true_value_is_never_further_off_than_the_margin(
            values in prop::collection::vec(0.5..1e6_f64, 1..200),
            base in prop::sample::select(vec![1.01_f64, 1.2, 2.0]),
            rank in any::<prop::sample::Index>(),
        ) {
            let mut ranges = Ranges::default();
            for value in &values {
                let step = (value.ln() / base.ln()).ceil() as i32;
                ranges.add(base.powi(step - 1), base.powi(step), 1);
            }
            let pieces: Vec<Piece> = ranges.iter().map(|(lo, hi, count)| piece(lo, hi, count)).collect();
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let rank = rank.index(values.len());
            let (value, margin) = value_at(&pieces, rank as u128 + 1).expect("there are values");
            prop_assert!((value - sorted[rank]).abs() <= value * margin * 1.000_001, "{value} ± {margin}, {}", sorted[rank]);
            prop_assert!(base > 1.01 || margin <= MARGIN_MAX);
            let mut bytes = Writer::default();
            ranges.encode(&mut bytes);
            let bytes = bytes.finish();
            prop_assert_eq!(Ranges::decode(&mut Reader::new(&bytes)).expect("it was just written"), ranges);
        }

        #[test]
        fn the_order_of_ranges_does_not_show(
            ranges in prop::collection::vec((0_i32..9, 1_i32..4, 1_u64..5), 0..60).prop_shuffle(),
        ) {
            let of = |all: &[(i32, i32, u64)]| {
                let mut ranges = Ranges::default();
                all.iter().for_each(|(lo, width, count)| ranges.add(f64::from(*lo), f64::from(lo + width), *count));
                ranges
            };
            let mut reversed = ranges.clone();
            reversed.reverse();
            prop_assert_eq!(of(&ranges), of(&reversed));
        }
    }
}
