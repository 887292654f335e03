//! Units as a type: what converts into what, and nothing else does.

use std::fmt;

use homeostat_pipeline::settings::did_you_mean;

/// What a unit measures. Only units of one dimension convert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// Lengths of time.
    Time,
    /// Shares of a whole.
    Ratio,
    /// Amounts of data.
    Bytes,
    /// Plain numbers.
    Count,
    /// Counts per time.
    Rate,
}

impl Dimension {
    /// For messages.
    pub const fn describe(self) -> &'static str {
        match self {
            Dimension::Time => "a time",
            Dimension::Ratio => "a ratio",
            Dimension::Bytes => "an amount of data",
            Dimension::Count => "a plain number",
            Dimension::Rate => "a number per second",
        }
    }
}

/// A unit; two are equal when they mean the same.
#[derive(Clone, Copy, PartialEq)]
pub struct Unit {
    name: &'static str,
    dimension: Dimension,
    /// One of it in the dimension's base unit: nanosecond, percent, byte, one, one per second.
    size: f64,
}

/// Canonical name, dimension, size, and every other way to write it (UCUM, Prometheus, words). Lower case.
type Row = (&'static str, Dimension, f64, &'static [&'static str]);

const UNITS: &[Row] = &[
    ("ns", Dimension::Time, 1.0, &["nanosecond", "nanoseconds"]),
    ("us", Dimension::Time, 1e3, &["µs", "μs", "microsecond", "microseconds"]),
    ("ms", Dimension::Time, 1e6, &["millisecond", "milliseconds", "msec"]),
    ("s", Dimension::Time, 1e9, &["sec", "secs", "second", "seconds"]),
    ("min", Dimension::Time, 60e9, &["m", "mins", "minute", "minutes"]),
    ("h", Dimension::Time, 3_600e9, &["hr", "hour", "hours"]),
    ("d", Dimension::Time, 86_400e9, &["day", "days"]),
    ("w", Dimension::Time, 604_800e9, &["week", "weeks"]),
    ("percent", Dimension::Ratio, 1.0, &["%", "percentage", "pct"]),
    ("ratio", Dimension::Ratio, 100.0, &["fraction", "share"]),
    ("bytes", Dimension::Bytes, 1.0, &["by", "b", "byte"]),
    ("kB", Dimension::Bytes, 1e3, &["kb", "kby", "kilobyte", "kilobytes"]),
    ("MB", Dimension::Bytes, 1e6, &["mb", "mby", "megabyte", "megabytes"]),
    ("GB", Dimension::Bytes, 1e9, &["gb", "gby", "gigabyte", "gigabytes"]),
    ("TB", Dimension::Bytes, 1e12, &["tb", "tby", "terabyte", "terabytes"]),
    ("KiB", Dimension::Bytes, 1_024.0, &["kib", "kiby", "kibibyte", "kibibytes"]),
    ("MiB", Dimension::Bytes, 1_048_576.0, &["mib", "miby", "mebibyte", "mebibytes"]),
    ("GiB", Dimension::Bytes, 1_073_741_824.0, &["gib", "giby", "gibibyte", "gibibytes"]),
    ("TiB", Dimension::Bytes, 1_099_511_627_776.0, &["tib", "tiby", "tebibyte", "tebibytes"]),
    ("count", Dimension::Count, 1.0, &["1", "counts", "number", "none"]),
    ("per_second", Dimension::Rate, 1.0, &["1/s", "/s", "per second", "rps", "qps", "hz", "requests/s"]),
    ("per_minute", Dimension::Rate, 1.0 / 60.0, &["1/min", "/min", "per minute", "rpm"]),
];

const fn unit(index: usize) -> Unit {
    let (name, dimension, size, _) = UNITS[index];
    Unit { name, dimension, size }
}

impl Unit {
    /// What durations of spans come in.
    pub const NANOSECONDS: Unit = unit(0);
    /// The usual unit of a latency.
    pub const MILLISECONDS: Unit = unit(2);
    /// Prometheus's unit of time.
    pub const SECONDS: Unit = unit(3);
    /// What downtime is counted in.
    pub const MINUTES: Unit = unit(4);
    /// 0 … 100.
    pub const PERCENT: Unit = unit(8);
    /// 0 … 1.
    pub const RATIO: Unit = unit(9);
    /// 1 and more.
    pub const BYTES: Unit = unit(10);
    /// Things.
    pub const COUNT: Unit = unit(19);
    /// Things per second.
    pub const PER_SECOND: Unit = unit(20);

    /// A unit by any of its names: `ms`, `milliseconds`, `%`, `By`, `1/s`. An annotation of UCUM (`{request}`) is a count.
    ///
    /// # Errors
    /// Names what it does not know, and the nearest that it does.
    pub fn parse(text: &str) -> Result<Unit, String> {
        let lower = text.trim().to_lowercase();
        if lower.starts_with('{') && lower.ends_with('}') {
            return Ok(Unit::COUNT);
        }
        if lower.starts_with('{') && lower.ends_with("}/s") {
            return Ok(Unit::PER_SECOND);
        }
        UNITS
            .iter()
            .find(|(name, _, _, others)| name.to_lowercase() == lower || others.contains(&lower.as_str()))
            .map(|(name, dimension, size, _)| Unit { name, dimension: *dimension, size: *size })
            .ok_or_else(|| {
                let near = did_you_mean(&lower, UNITS.iter().flat_map(|row| row.3.iter().copied()));
                format!(
                    "unknown unit `{text}`{near}; known are times (`ms`, `seconds` …), `ratio`, `percent`, bytes \
                     (`kB`, `MiB` …), `count`, `per_second`"
                )
            })
    }

    /// The word in findings: `ms`, `ratio`, `per_second` …
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// What it measures.
    pub const fn dimension(self) -> Dimension {
        self.dimension
    }

    /// `value` of this unit in `to`; none when the dimensions differ.
    pub fn convert(self, value: f64, to: Unit) -> Option<f64> {
        if self.dimension != to.dimension {
            return None;
        }
        if self.size == to.size {
            return Some(value);
        }
        // Multiply or divide by the whole factor, so that it rounds once: 5 / 100 is 0.05, 850 ns are 0.00085 ms.
        Some(if self.size >= to.size { value * (self.size / to.size) } else { value / (to.size / self.size) })
    }
}

impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(value: f64, from: &str, to: &str) -> Option<f64> {
        Unit::parse(from).unwrap().convert(value, Unit::parse(to).unwrap())
    }

    #[test]
    fn units_of_one_dimension_convert_and_others_do_not() {
        for (value, from, to, expected) in [
            (0.85, "s", "ms", Some(850.0)),
            (850.0, "milliseconds", "seconds", Some(0.85)),
            (500_000_000.0, "ns", "ms", Some(500.0)),
            (1.5, "hours", "minutes", Some(90.0)),
            (5.0, "percent", "ratio", Some(0.05)),
            (0.05, "ratio", "%", Some(5.0)),
            (2.0, "MiB", "KiB", Some(2_048.0)),
            (1.0, "MB", "By", Some(1_000_000.0)),
            (120.0, "rpm", "1/s", Some(2.0)),
            (7.0, "{request}", "count", Some(7.0)),
            (1.0, "ms", "ratio", None),
            (1.0, "count", "per_second", None),
        ] {
            assert_eq!(convert(value, from, to), expected, "{value} {from} in {to}");
        }
    }

    #[test]
    fn every_name_means_one_unit() {
        let mut names: Vec<String> = UNITS
            .iter()
            .flat_map(|row| {
                let own = row.0.to_lowercase();
                let others = row.3.iter().map(|name| (*name).to_owned()).filter(move |name| *name != own);
                std::iter::once(row.0.to_lowercase()).chain(others).collect::<Vec<_>>()
            })
            .collect();
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn constants_are_what_they_say() {
        for (unit, name) in [
            (Unit::NANOSECONDS, "ns"),
            (Unit::MILLISECONDS, "ms"),
            (Unit::SECONDS, "s"),
            (Unit::PERCENT, "percent"),
            (Unit::RATIO, "ratio"),
            (Unit::BYTES, "bytes"),
            (Unit::COUNT, "count"),
            (Unit::PER_SECOND, "per_second"),
        ] {
            assert_eq!(Unit::parse(name), Ok(unit));
            assert_eq!(unit.name(), name);
        }
    }

    #[test]
    fn an_unknown_unit_names_the_nearest() {
        let error = Unit::parse("milisecond").unwrap_err();
        assert!(error.contains("did you mean \"millisecond\"?"), "{error}");
    }
}
