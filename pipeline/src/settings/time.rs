//! Lengths of time as people write them: the Collector's `5m`, `1h30m`, `250ms`, and the seed's `1 hour`, `5 minutes`.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};

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
