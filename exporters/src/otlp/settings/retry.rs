//! `retry_on_failure` in the Collector's form.

use std::time::Duration;

use homeostat_pipeline::settings::{Period, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a refused request is sent again. A backend that names a time (RetryInfo, Retry-After) is obeyed instead.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryOnFailure {
    /// False: the sender is asked to repeat at once.
    pub enabled: bool,
    /// Before the first repetition; 100 ms where it is left out.
    pub initial_interval: Period,
    /// The most between two of them; 30 s where it is left out.
    pub max_interval: Period,
    /// Each wait is this many times as long as the one before; 2 where it is left out.
    pub multiplier: f64,
    /// Each wait is up to this part of it longer or shorter; 0.5 where it is left out.
    pub randomization_factor: f64,
    /// No repetition begins later than this. Left out or 0 it is `timeout`, and with `sending_queue` there is no end.
    pub max_elapsed_time: Period,
}

impl Default for RetryOnFailure {
    fn default() -> RetryOnFailure {
        RetryOnFailure {
            enabled: true,
            initial_interval: Period(Duration::from_millis(100)),
            max_interval: Period(Duration::from_secs(30)),
            multiplier: 2.0,
            randomization_factor: 0.5,
            max_elapsed_time: Period(Duration::ZERO),
        }
    }
}

impl RetryOnFailure {
    /// How long to wait before repetition number `repetition` (from 0), where `roll` is between 0 and 1.
    pub fn wait(&self, repetition: u32, roll: f64) -> Duration {
        let exponent = i32::try_from(repetition).unwrap_or(i32::MAX);
        let most = self.max_interval.0.as_secs_f64();
        let wait = (self.initial_interval.0.as_secs_f64() * self.multiplier.powi(exponent)).min(most);
        let spread = self.randomization_factor * (2.0 * roll - 1.0);
        Duration::try_from_secs_f64(wait * (1.0 + spread)).unwrap_or(self.max_interval.0)
    }

    /// What is wrong with it.
    pub fn problem(&self) -> Option<Problem> {
        let fits =
            (1.0..=100.0).contains(&self.multiplier) && (0.0..=1.0).contains(&self.randomization_factor);
        (!fits || self.initial_interval.0.is_zero()).then(|| {
            Problem::somewhere(
                "`retry_on_failure` of the otlp exporter needs an `initial_interval` above 0, a `multiplier` from 1 to \
                 100 and a `randomization_factor` from 0 to 1",
            )
        })
    }
}
