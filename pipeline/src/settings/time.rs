//! Lengths of time as people write them: the Collector's `5m`, `1h30m`, `250ms`, and the seed's `1 hour`, `5 minutes`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// A length of time in a configuration or model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(pub Duration);

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Period;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a duration such as `30s`, `5m` or `\"1 hour\"`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Period, E> {
                parse_period(text).map(Period).map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Period, E> {
                if value == 0 {
                    return Ok(Period(Duration::ZERO));
                }
                Err(E::custom(format!("`{value}` has no unit (write `{value}s` or `{value}ms`)")))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// As it would be written: `1h30m`, `250ms`, `0s`.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, nanos) in WRITTEN {
            if rest >= nanos {
                write!(f, "{}{unit}", rest / nanos)?;
                rest %= nanos;
            }
        }
        Ok(())
    }
}

const WRITTEN: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of time: `250ms`, `30s`, `5m`, `1h30m`, `1 hour`; 0 needs no unit.",
            "anyOf": [{ "type": "string", "pattern": PATTERN }, { "const": 0 }],
        })
    }
}

/// What [`parse_period`] takes; that it is not too long a time only the function knows.
const PATTERN: &str = "^\\s*(0|([0-9]+\\.?[0-9]*|\\.[0-9]+)\\s*\
    (ns|us|µs|μs|ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hr|hours?|d|days?|w|weeks?)\
    (\\s*([0-9]+\\.?[0-9]*|\\.[0-9]+)\\s*\
    (ns|us|µs|μs|ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hr|hours?|d|days?|w|weeks?))*)\\s*$";

/// Reads one or more quantities with units, added up: `1h30m`, `1 hour`, `1.5s`. Units: ns us µs ms s m h d w and their words.
///
/// # Errors
/// Names what it could not read.
pub fn parse_period(text: &str) -> Result<Duration, String> {
    let fault =
        || format!("`{text}` is no duration (write for example `250ms`, `30s`, `5m`, `1h30m`, `\"1 hour\"`)");
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(fault());
    }
    let mut nanos = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fault)?;
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| fault())?;
        let tail = tail.trim_start();
        let letters = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        nanos += number * unit_nanos(unit).ok_or_else(fault)?;
        rest = tail.trim_start();
    }
    if !(0.0..9.2e18).contains(&nanos) {
        return Err(format!("`{text}` is too long a time"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range was checked above"
    )]
    Ok(Duration::from_nanos(nanos.round() as u64))
}

fn unit_nanos(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" | "millisecond" | "milliseconds" => 1e6,
        "s" | "sec" | "secs" | "second" | "seconds" => 1e9,
        "m" | "min" | "mins" | "minute" | "minutes" => 60e9,
        "h" | "hr" | "hour" | "hours" => 3_600e9,
        "d" | "day" | "days" => 86_400e9,
        "w" | "week" | "weeks" => 604_800e9,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_are_read() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1 hour", 3_600_000),
            ("5 minutes", 300_000),
            ("1.5s", 1_500),
            ("30 days", 2_592_000_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_period(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "m", "5 fortnights", "-5s", "1h30", "..s"] {
            assert!(parse_period(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_the_same() {
        for (nanos, shown) in [
            (0, "0s"),
            (1, "1ns"),
            (250_000_000, "250ms"),
            (5_400_000_000_000, "1h30m"),
            (2_592_000_000_000_000, "30d"),
            (1_500_000_001, "1s500ms1ns"),
        ] {
            let period = Period(Duration::from_nanos(nanos));
            assert_eq!(period.to_string(), shown);
            assert_eq!(parse_period(shown), Ok(period.0));
        }
    }

    #[test]
    fn every_unit_has_its_length() {
        for (text, nanos) in [
            ("1ns", 1),
            ("2us", 2_000),
            ("2µs", 2_000),
            ("3 milliseconds", 3_000_000),
            ("1 sec", 1_000_000_000),
            ("1 min", 60_000_000_000),
            ("1 hr", 3_600_000_000_000),
            ("1d", 86_400_000_000_000),
            ("1w", 604_800_000_000_000),
            ("  1m  30s  ", 90_000_000_000),
            ("0.5ms", 500_000),
        ] {
            assert_eq!(parse_period(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_named_with_a_remedy() {
        assert_eq!(
            parse_period("5 fortnights").unwrap_err(),
            "`5 fortnights` is no duration (write for example `250ms`, `30s`, `5m`, `1h30m`, `\"1 hour\"`)"
        );
        assert_eq!(parse_period("400000d").unwrap_err(), "`400000d` is too long a time");
    }
}
