//! `DEV-YYYYMMDD-NNN`, `HM-YYYYMMDD-NNN`: numbers for people, counted per day of detection or approval.

use std::collections::BTreeMap;

use homeostat_pipeline::clock::Timestamp;
use serde::{Deserialize, Serialize};

/// Days that are remembered: detections are recorded at most a correction after their window.
const DAYS_MAX: usize = 32;

/// How many numbers each of the last days gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Days(BTreeMap<String, u32>);

impl Days {
    /// The next id of the day of `at`, in UTC; past 999 it gets longer.
    pub fn next(&mut self, kind: &str, at: Timestamp) -> String {
        let day: String = at.to_string().chars().take(10).filter(char::is_ascii_digit).collect();
        let number = self.0.entry(day.clone()).or_default();
        *number += 1;
        let id = format!("{kind}-{day}-{number:03}");
        if self.0.len() > DAYS_MAX {
            self.0.pop_first();
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_per_day_and_do_not_collide_past_999() {
        let at = |text: &str| Timestamp::parse(text).expect("it is a time");
        let mut days = Days::default();
        assert_eq!(days.next("DEV", at("2025-12-03T00:00:00Z")), "DEV-20251203-001");
        assert_eq!(days.next("DEV", at("2025-12-04T23:59:59.9Z")), "DEV-20251204-001");
        assert_eq!(days.next("DEV", at("2025-12-03T23:59:59Z")), "DEV-20251203-002");
        for _ in 0..997 {
            days.next("DEV", at("2025-12-03T12:00:00Z"));
        }
        assert_eq!(days.next("DEV", at("2025-12-03T12:00:00Z")), "DEV-20251203-1000");
    }
}
