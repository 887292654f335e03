//! A measure is a number over a window, and its name says which: `p95_latency_ms`, `error_rate`, `rate_per_second`.

use super::Direction;
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
    /// The unit that the name states by its suffix; none when it has none.
    pub unit: Option<Unit>,
    /// Whether durations of ordinary spans feed it.
    pub takes_spans: bool,
    /// Whether its window is the calendar month so far, whatever the model's window.
    pub is_monthly: bool,
    /// The log field's name without statistic and unit: `latency`.
    stem: String,
    /// The log field's name: `latency_ms`; empty when observations are only counted.
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
    /// Minutes in which most observations succeeded / minutes with observations; or the mean of what is reported.
    Uptime,
    /// Minutes in which most observations failed; or the sum of what is reported.
    Downtime,
    /// Observations that one selector takes / those that another takes.
    Ratio,
}

impl Statistic {
    /// Whether it needs observations only, no values.
    pub const fn is_counted(self) -> bool {
        match self {
            Statistic::ErrorRate
            | Statistic::SuccessRate
            | Statistic::Rate
            | Statistic::Count
            | Statistic::ErrorCount
            | Statistic::Uptime
            | Statistic::Downtime
            | Statistic::Ratio => true,
            Statistic::Quantile(_) | Statistic::Mean | Statistic::Min | Statistic::Max | Statistic::Sum => {
                false
            }
        }
    }

    /// The quantile that it is, in millionths: extremes are quantiles too.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a million")]
    pub fn millionths(self) -> Option<u32> {
        match self {
            Statistic::Quantile(quantile) => Some((quantile * 1e6).round() as u32),
            Statistic::Min => Some(0),
            Statistic::Max => Some(1_000_000),
            Statistic::Mean
            | Statistic::Sum
            | Statistic::ErrorRate
            | Statistic::SuccessRate
            | Statistic::Rate
            | Statistic::Count
            | Statistic::ErrorCount
            | Statistic::Uptime
            | Statistic::Downtime
            | Statistic::Ratio => None,
        }
    }

    /// The unit in which a counted statistic comes; it converts into the expectation's. None for statistics of values, which
    /// come in the unit of their rows.
    pub const fn unit(self) -> Option<Unit> {
        match self {
            Statistic::ErrorRate | Statistic::SuccessRate | Statistic::Uptime | Statistic::Ratio => {
                Some(Unit::RATIO)
            }
            Statistic::Downtime => Some(Unit::MINUTES),
            Statistic::Rate => Some(Unit::PER_SECOND),
            Statistic::Count | Statistic::ErrorCount => Some(Unit::COUNT),
            Statistic::Quantile(_) | Statistic::Mean | Statistic::Min | Statistic::Max | Statistic::Sum => {
                None
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

/// The endings that state a unit, the longer before the shorter.
const SUFFIXES: [(&str, &str); 20] = [
    ("per_second", "per_second"),
    ("per_minute", "per_minute"),
    ("milliseconds", "ms"),
    ("microseconds", "us"),
    ("nanoseconds", "ns"),
    ("seconds", "s"),
    ("minutes", "min"),
    ("hours", "h"),
    ("ms", "ms"),
    ("us", "us"),
    ("ns", "ns"),
    ("s", "s"),
    ("percentage", "percent"),
    ("percent", "percent"),
    ("pct", "percent"),
    ("ratio", "ratio"),
    ("bytes", "bytes"),
    ("kb", "kB"),
    ("mb", "MB"),
    ("gb", "GB"),
];

/// What a log field of a time may end in instead.
const TIME_FIELDS: [(&str, &str); 8] = [
    ("ms", "ms"),
    ("milliseconds", "ms"),
    ("s", "s"),
    ("seconds", "s"),
    ("us", "us"),
    ("microseconds", "us"),
    ("ns", "ns"),
    ("nanoseconds", "ns"),
];

const ERRORS: [&str; 6] = ["error", "errors", "failure", "failures", "failed", "fault"];
const SUCCESSES: [&str; 3] = ["success", "successes", "successful"];
const LATENCIES: [&str; 6] = ["latency", "latencies", "duration", "delay", "lag", "time"];
const ADVERSE: [&str; 20] = [
    "latency",
    "latencies",
    "duration",
    "delay",
    "lag",
    "time",
    "downtime",
    "error",
    "errors",
    "failure",
    "failures",
    "failed",
    "fault",
    "queue",
    "backlog",
    "depth",
    "retries",
    "timeouts",
    "dropped",
    "staleness",
];
const GOOD: [&str; 7] =
    ["success", "successes", "successful", "uptime", "availability", "available", "throughput"];

impl Measure {
    /// Reads a name. Every name is a measure: one that says nothing is the mean of the numeric log field of that name.
    pub fn parse(name: &str) -> Measure {
        let (monthly, is_monthly) = match name.strip_suffix("_per_month") {
            Some(rest) => (rest, true),
            None => (name, false),
        };
        let (statistic, field) = split_statistic(monthly, is_monthly);
        let (stem, unit) = split_unit(&field);
        let words: Vec<String> = stem.split('_').map(str::to_lowercase).collect();
        let has = |any: &[&str]| words.iter().any(|word| any.contains(&word.as_str()));
        let counted = if statistic.is_none() && !is_monthly { counted(&words, unit) } else { None };
        let class = if counted == Some(Statistic::SuccessRate) || has(&SUCCESSES) {
            Class::Other
        } else if has(&ERRORS) {
            Class::Errors
        } else if has(&["uptime", "downtime", "availability", "available", "unavailability"]) {
            Class::Availability
        } else if has(&LATENCIES) {
            Class::Latency
        } else {
            Class::Other
        };
        let up_or_down = (class == Class::Availability
            && statistic.is_none_or(|statistic| statistic == Statistic::Sum))
        .then(|| up_or_down(&words, unit))
        .flatten();
        let statistic = counted.or(up_or_down).or(statistic).unwrap_or(Statistic::Mean);
        let is_reported = matches!(statistic, Statistic::Uptime | Statistic::Downtime);
        let is_time = unit.is_none_or(|unit| unit.dimension() == Dimension::Time);
        let is_plain = matches!(stem.to_lowercase().as_str(), "latency" | "duration" | "response_time");
        Measure {
            name: name.to_owned(),
            statistic,
            class,
            unit,
            takes_spans: is_plain && is_time && !statistic.is_counted() && !is_monthly,
            is_monthly,
            field: if (statistic.is_counted() || is_monthly) && !is_reported { String::new() } else { field },
            stem,
        }
    }

    /// The measure of this name as the model defines it: the share of what one selector takes in what another takes.
    pub fn into_ratio(self) -> Measure {
        Measure {
            statistic: Statistic::Ratio,
            class: if self.class == Class::Latency { Class::Other } else { self.class },
            takes_spans: false,
            field: String::new(),
            ..self
        }
    }

    /// What the rows of a ratio's two selectors say in their `measure` column: those that are good, and all.
    pub fn ratio_rows(name: &str) -> [String; 2] {
        [format!("{name}#good"), format!("{name}#total")]
    }

    /// Whether rows that belong to the requirement, and name no measure, feed it.
    pub fn takes_ordinary(&self) -> bool {
        self.takes_spans || (self.statistic.is_counted() && self.statistic != Statistic::Ratio)
    }

    /// Whether minutes are told apart as up and down.
    pub fn needs_minutes(&self) -> bool {
        matches!(self.statistic, Statistic::Uptime | Statistic::Downtime)
    }

    /// The log fields that feed it and their units: its own (`latency_ms`), and for times the other suffixes
    /// (`latency_seconds` …). Empty when observations are only counted.
    pub fn fields(&self) -> Vec<(String, Option<Unit>)> {
        if self.field.is_empty() {
            return Vec::new();
        }
        let mut fields = vec![(self.field.clone(), self.unit)];
        if self.unit.is_some_and(|unit| unit.dimension() == Dimension::Time) {
            let others = TIME_FIELDS
                .iter()
                .map(|(suffix, unit)| (format!("{}_{suffix}", self.stem), Unit::parse(unit).ok()));
            fields.extend(others.filter(|(name, _)| *name != self.field));
        }
        fields
    }

    /// The unit of a row whose `measure` column says `field`, where that row feeds this measure: `Some(None)` when the
    /// field's name states no unit (it is the expectation's then). A selection names the measure itself.
    pub fn field_unit(&self, field: &str) -> Option<Option<Unit>> {
        if self.statistic == Statistic::Ratio {
            let is_part = Measure::ratio_rows(&self.name).iter().any(|part| part == field);
            return is_part.then_some(None);
        }
        if field == self.name {
            return Some(self.unit);
        }
        self.fields().into_iter().find(|(name, _)| name == field).map(|(_, unit)| unit)
    }

    /// Which way is adverse, by the name; none when it does not say.
    pub fn direction(&self) -> Option<Direction> {
        match self.statistic {
            Statistic::ErrorRate | Statistic::ErrorCount => return Some(Direction::LowerIsBetter),
            Statistic::SuccessRate | Statistic::Uptime => return Some(Direction::HigherIsBetter),
            Statistic::Downtime => return Some(Direction::LowerIsBetter),
            Statistic::Ratio
            | Statistic::Quantile(_)
            | Statistic::Mean
            | Statistic::Min
            | Statistic::Max
            | Statistic::Sum
            | Statistic::Rate
            | Statistic::Count => {}
        }
        let words: Vec<String> = self.stem.split('_').map(str::to_lowercase).collect();
        let has = |any: &[&str]| words.iter().any(|word| any.contains(&word.as_str()));
        match (has(&GOOD), has(&ADVERSE)) {
            (true, false) => Some(Direction::HigherIsBetter),
            (false, true) => Some(Direction::LowerIsBetter),
            (true, true) | (false, false) => None,
        }
    }
}

/// Whether it is the share of time that something is there, or the time that it is not; none when the unit fits neither.
fn up_or_down(words: &[String], unit: Option<Unit>) -> Option<Statistic> {
    let has = |any: &[&str]| words.iter().any(|word| any.contains(&word.as_str()));
    let dimension = unit.map(Unit::dimension);
    if has(&["downtime", "unavailability"]) && dimension.is_none_or(|dimension| dimension == Dimension::Time)
    {
        return Some(Statistic::Downtime);
    }
    let is_up = has(&["uptime", "availability"]) && !has(&["downtime", "unavailability"]);
    (is_up && dimension.is_none_or(|dimension| dimension == Dimension::Ratio)).then_some(Statistic::Uptime)
}

/// The statistic that one of the words states, and the name without that word.
fn split_statistic(name: &str, is_monthly: bool) -> (Option<Statistic>, String) {
    let words: Vec<&str> = name.split('_').collect();
    let last = words.len() - 1;
    for (index, word) in words.iter().enumerate() {
        let statistic = match word.to_lowercase().as_str() {
            word if quantile(word).is_some() => quantile(word).map(Statistic::Quantile),
            "avg" | "mean" | "average" if index == 0 || index == last => Some(Statistic::Mean),
            "median" if index == 0 || index == last => Some(Statistic::Quantile(0.5)),
            // At the end it would be minutes.
            "min" if index == 0 => Some(Statistic::Min),
            // `max_downtime_minutes_per_month` is what is allowed, not a maximum of something measured.
            "max" if index == 0 && is_monthly => Some(Statistic::Sum),
            "max" if index == 0 || index == last => Some(Statistic::Max),
            "sum" | "total" if index == 0 || index == last => Some(Statistic::Sum),
            _ => None,
        };
        if statistic.is_some() && last > 0 {
            let rest: Vec<&str> = words
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index)
                .map(|(_, word)| *word)
                .collect();
            return (statistic, rest.join("_"));
        }
    }
    (None, name.to_owned())
}

/// `p50` is 0.5, `p999` is 0.999: more than two digits are decimals of a nine.
fn quantile(word: &str) -> Option<f64> {
    let digits = word.strip_prefix('p').filter(|rest| rest.chars().all(|c| c.is_ascii_digit()))?;
    let is_known =
        matches!(digits.len(), 1 | 2) || (matches!(digits.len(), 3 | 4) && digits.starts_with("99"));
    let number: f64 = digits.parse().ok().filter(|number| *number > 0.0 && is_known)?;
    let digits = i32::try_from(digits.len().max(2)).ok()?;
    Some(number / 10_f64.powi(digits))
}

/// The name without its ending, and the unit that the ending states.
fn split_unit(name: &str) -> (String, Option<Unit>) {
    let lower = name.to_lowercase();
    for (suffix, unit) in SUFFIXES {
        if lower == suffix {
            return (String::new(), Unit::parse(unit).ok());
        }
        if let Some(rest) = lower.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('_')) {
            return (name[..rest.len()].to_owned(), Unit::parse(unit).ok());
        }
    }
    (name.to_owned(), None)
}

/// The statistic of observations that the words state; none when they name a value.
fn counted(words: &[String], unit: Option<Unit>) -> Option<Statistic> {
    let has = |any: &[&str]| words.iter().any(|word| any.contains(&word.as_str()));
    let is_share = match unit.map(Unit::dimension) {
        Some(Dimension::Ratio) => true,
        None => has(&["rate"]),
        Some(Dimension::Time | Dimension::Bytes | Dimension::Count | Dimension::Rate) => false,
    };
    if is_share && has(&ERRORS) {
        return Some(Statistic::ErrorRate);
    }
    if is_share && has(&SUCCESSES) {
        return Some(Statistic::SuccessRate);
    }
    let joined = words.join("_");
    let is_rate_unit = unit.is_some_and(|unit| unit.dimension() == Dimension::Rate);
    let things = ["request", "requests", "call", "calls", "event", "events", "span", "spans", "observations"];
    match joined.as_str() {
        "rate" | "throughput" | "request_rate" | "call_rate" if is_rate_unit || unit.is_none() => {
            Some(Statistic::Rate)
        }
        word if is_rate_unit && things.contains(&word) => Some(Statistic::Rate),
        "count" | "requests" | "request_count" | "call_count" | "event_count" | "span_count"
        | "sample_count"
            if unit.is_none() =>
        {
            Some(Statistic::Count)
        }
        "errors" | "error_count" | "failures" | "failure_count" if unit.is_none() => {
            Some(Statistic::ErrorCount)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_is_measured() {
        use Class::{Availability, Errors, Latency, Other};
        use Statistic::*;
        for (name, statistic, class, unit, takes_spans, field) in [
            ("p95_latency_ms", Quantile(0.95), Latency, Some("ms"), true, "latency_ms"),
            ("p50_latency_ms", Quantile(0.5), Latency, Some("ms"), true, "latency_ms"),
            ("p999_latency_seconds", Quantile(0.999), Latency, Some("s"), true, "latency_seconds"),
            ("latency_ms_p99", Quantile(0.99), Latency, Some("ms"), true, "latency_ms"),
            ("median_duration_s", Quantile(0.5), Latency, Some("s"), true, "duration_s"),
            ("mean_response_time_ms", Mean, Latency, Some("ms"), true, "response_time_ms"),
            ("max_latency_ms", Max, Latency, Some("ms"), true, "latency_ms"),
            ("min_latency_ms", Min, Latency, Some("ms"), true, "latency_ms"),
            ("latency_ms", Mean, Latency, Some("ms"), true, "latency_ms"),
            ("p95_latency", Quantile(0.95), Latency, None, true, "latency"),
            ("p95_db_latency_ms", Quantile(0.95), Latency, Some("ms"), false, "db_latency_ms"),
            ("error_rate", ErrorRate, Errors, None, false, ""),
            ("login_failure_ratio", ErrorRate, Errors, Some("ratio"), false, ""),
            ("error_percentage", ErrorRate, Errors, Some("percent"), false, ""),
            ("success_rate", SuccessRate, Other, None, false, ""),
            ("error_count", ErrorCount, Errors, None, false, ""),
            ("throughput", Rate, Other, None, false, ""),
            ("rate_per_second", Rate, Other, Some("per_second"), false, ""),
            ("requests_per_second", Rate, Other, Some("per_second"), false, ""),
            ("request_count", Count, Other, None, false, ""),
            ("uptime_percentage", Uptime, Availability, Some("percent"), false, "uptime_percentage"),
            ("downtime_minutes", Downtime, Availability, Some("min"), false, "downtime_minutes"),
            (
                "max_downtime_minutes_per_month",
                Downtime,
                Availability,
                Some("min"),
                false,
                "downtime_minutes",
            ),
            ("uptime_seconds", Mean, Availability, Some("s"), false, "uptime_seconds"),
            ("queue_depth", Mean, Other, None, false, "queue_depth"),
            ("max_heap_bytes", Max, Other, Some("bytes"), false, "heap_bytes"),
        ] {
            let measure = Measure::parse(name);
            let unit = unit.map(|unit| Unit::parse(unit).unwrap());
            assert_eq!(measure.statistic, statistic, "{name}");
            assert_eq!(measure.class, class, "{name}");
            assert_eq!(measure.unit, unit, "{name}");
            assert_eq!(measure.takes_spans, takes_spans, "{name}");
            assert_eq!(measure.field, field, "{name}");
        }
        assert!(Measure::parse("max_downtime_minutes_per_month").is_monthly);
        assert!(!Measure::parse("max_latency_ms").is_monthly);
    }

    #[test]
    fn a_name_says_which_way_is_adverse_or_nothing() {
        for (name, direction) in [
            ("p95_latency_ms", Some(Direction::LowerIsBetter)),
            ("error_rate", Some(Direction::LowerIsBetter)),
            ("max_downtime_minutes_per_month", Some(Direction::LowerIsBetter)),
            ("success_rate", Some(Direction::HigherIsBetter)),
            ("uptime_percentage", Some(Direction::HigherIsBetter)),
            ("throughput", Some(Direction::HigherIsBetter)),
            ("rate_per_second", None),
            ("temperature", None),
        ] {
            assert_eq!(Measure::parse(name).direction(), direction, "{name}");
        }
    }

    #[test]
    fn a_latency_takes_the_field_in_any_unit_of_time() {
        let measure = Measure::parse("p95_latency_ms");
        assert_eq!(measure.field_unit("latency_ms"), Some(Some(Unit::MILLISECONDS)));
        assert_eq!(measure.field_unit("latency_seconds"), Some(Some(Unit::SECONDS)));
        assert_eq!(measure.field_unit("latency_ns"), Some(Some(Unit::NANOSECONDS)));
        assert_eq!(measure.field_unit("p95_latency_ms"), Some(Some(Unit::MILLISECONDS)));
        assert_eq!(measure.field_unit("latency"), None);
        assert_eq!(measure.field_unit("p99_latency_ms"), None);
        assert_eq!(Measure::parse("queue_depth").field_unit("queue_depth"), Some(None));
        assert_eq!(Measure::parse("error_rate").fields(), vec![]);
    }
}
