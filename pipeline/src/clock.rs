//! Time is an argument. This is the only file that reads the wall clock; everything else takes a [`Timestamp`], or a
//! [`Clock`] where it stands at the edge.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant: nanoseconds since 1970-01-01T00:00:00Z, from the year 1677 to 2262. In JSON and for people it is RFC 3339
/// in UTC, with as many digits after the second as it needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z; OTLP's "not set".
    pub const ZERO: Timestamp = Timestamp(0);
    /// Later than anything that can be observed.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Timestamp {
        Timestamp(nanos)
    }

    /// From OTLP's unsigned nanoseconds; beyond the year 2262 it saturates.
    pub fn from_unix_nanos(nanos: u64) -> Timestamp {
        Timestamp(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    /// From milliseconds since the epoch; saturates.
    pub const fn from_millis(millis: i64) -> Timestamp {
        Timestamp(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// From RFC 3339 text.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Timestamp, String> {
        let at: jiff::Timestamp = text.parse().map_err(|error: jiff::Error| error.to_string())?;
        i64::try_from(at.as_nanosecond())
            .map(Timestamp)
            .map_err(|_| format!("`{text}` is beyond the year 2262"))
    }

    /// The time from `earlier` to this one; zero when `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The start of the calendar month, in UTC, that holds this instant.
    pub fn month_start(self) -> Timestamp {
        let at = jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or_default();
        let first = at.to_zoned(jiff::tz::TimeZone::UTC).date().first_of_month();
        let start = first.to_zoned(jiff::tz::TimeZone::UTC).map_or(at, |start| start.timestamp());
        i64::try_from(start.as_nanosecond()).map_or(self, Timestamp)
    }

    /// The start of the window of `size` that holds this instant; windows are aligned to the epoch.
    pub fn floor(self, size: Duration) -> Timestamp {
        let size = i64::try_from(size.as_nanos()).unwrap_or(i64::MAX).max(1);
        Timestamp(self.0.div_euclid(size).saturating_mul(size))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, by: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;
    fn sub(self, by: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or(jiff::Timestamp::MAX).fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "RFC 3339, in UTC", "type": "string", "format": "date-time" })
    }
}

/// Where the edges get the time from. The core never holds one.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one door to the wall clock")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands until it is set: for tests and for recordings.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that says `at`.
    pub fn at(at: Timestamp) -> ManualClock {
        ManualClock(AtomicI64::new(at.0))
    }

    /// Sets it, forwards or backwards.
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.0, Ordering::Release);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_goes_both_ways() {
        for text in ["2025-12-03T14:00:00Z", "2025-12-03T14:00:00.123456789Z", "1969-12-31T23:59:59.5Z"] {
            assert_eq!(Timestamp::parse(text).map(|at| at.to_string()), Ok(text.to_owned()));
        }
        assert!(Timestamp::parse("yesterday").is_err());
    }

    #[test]
    fn windows_are_aligned_to_the_epoch_on_both_sides_of_it() {
        let minute = Duration::from_secs(60);
        assert_eq!(Timestamp::from_millis(61_000).floor(minute), Timestamp::from_millis(60_000));
        assert_eq!(Timestamp::from_millis(60_000).floor(minute), Timestamp::from_millis(60_000));
        assert_eq!(Timestamp::from_millis(-1).floor(minute), Timestamp::from_millis(-60_000));
    }
}
