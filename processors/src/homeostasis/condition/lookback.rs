//! Functions of a window that ends where the judged one ends: `p95(5m)`, `rate(1m)`, `missing(10m)`. Each is one more column,
//! computed from panes before the conditions are evaluated.

use std::fmt;
use std::time::Duration;

/// So many of them may stand in the conditions of one measure.
pub const LOOKBACKS_MAX: usize = 16;
/// The longest window of values: its panes are kept whole.
pub const VALUES_MAX: Duration = Duration::from_secs(6 * 3_600);
/// The longest window of counts: beyond the panes only counts are kept.
pub const COUNTS_MAX: Duration = Duration::from_secs(30 * 86_400);

/// What becomes of the observations in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aggregate {
    /// The quantile, in millionths.
    Quantile(u32),
    /// The mean; of a measure that counts (`error_rate`) the measure itself.
    Mean,
    /// How many there are.
    Count,
    /// How many there are in a second.
    Rate,
    /// Whether there are none.
    Missing,
    /// Whether the values differ.
    Changed,
    /// The measure itself in the window before.
    Previous,
}

impl Aggregate {
    /// By its name in conditions, `p95` or `p99.9` among them.
    pub(super) fn parse(name: &str) -> Option<Aggregate> {
        Some(match name {
            "avg" => Aggregate::Mean,
            "count" => Aggregate::Count,
            "rate" => Aggregate::Rate,
            "missing" => Aggregate::Missing,
            "changed" => Aggregate::Changed,
            _ => {
                let digits = name.strip_prefix('p')?;
                let percent: f64 =
                    digits.parse().ok().filter(|_| digits.starts_with(|c: char| c.is_ascii_digit()))?;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "below a million"
                )]
                let millionths =
                    (percent > 0.0 && percent < 100.0).then(|| (percent * 1e4).round() as u32)?;
                Aggregate::Quantile(millionths)
            }
        })
    }

    /// Whether it is a condition and no number.
    pub(super) const fn is_truth(self) -> bool {
        match self {
            Aggregate::Missing | Aggregate::Changed => true,
            Aggregate::Quantile(_)
            | Aggregate::Mean
            | Aggregate::Count
            | Aggregate::Rate
            | Aggregate::Previous => false,
        }
    }

    /// The longest window that it can look back over.
    pub const fn window_max(self) -> Duration {
        match self {
            Aggregate::Count | Aggregate::Rate | Aggregate::Missing => COUNTS_MAX,
            Aggregate::Quantile(_) | Aggregate::Mean | Aggregate::Changed | Aggregate::Previous => VALUES_MAX,
        }
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aggregate::Quantile(millionths) => write!(f, "p{}", f64::from(*millionths) / 1e4),
            Aggregate::Mean => f.write_str("avg"),
            Aggregate::Count => f.write_str("count"),
            Aggregate::Rate => f.write_str("rate"),
            Aggregate::Missing => f.write_str("missing"),
            Aggregate::Changed => f.write_str("changed"),
            Aggregate::Previous => f.write_str("previous"),
        }
    }
}

/// A function and its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lookback {
    /// What becomes of the observations.
    pub aggregate: Aggregate,
    /// How far it looks back; zero for `previous`, which looks back as far as the measure's own window.
    pub window: Duration,
}

impl fmt::Display for Lookback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.aggregate {
            Aggregate::Previous => write!(f, "{}", self.aggregate),
            aggregate => write!(f, "{aggregate}({} s)", self.window.as_secs_f64()),
        }
    }
}
