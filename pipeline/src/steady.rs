//! A clock that does not believe a leap at once. Logged time never goes back, so one wrong second — a broken battery, a wrong
//! answer of a time server — would otherwise stop the judgement until the world has caught up with it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{Clock, Timestamp};

/// A difference from what has elapsed that is followed at once: slewing, a leap second, a virtual machine that was paused.
const LEAP: Duration = Duration::from_secs(60);
/// So long the machine's clock has to stand by a leap until it is believed.
const HOLD: Duration = Duration::from_secs(60);

/// Follows another clock; what that says all of a sudden is believed once it has stood by it for a minute. Meanwhile the time goes on
/// as it elapses.
pub struct SteadyClock<C> {
    clock: C,
    began: Instant,
    steps: Mutex<Steps>,
}

impl<C: Clock> SteadyClock<C> {
    /// Believes what `clock` says now.
    pub fn new(clock: C) -> SteadyClock<C> {
        SteadyClock { clock, began: Instant::now(), steps: Mutex::default() }
    }
}

impl<C: Clock> Clock for SteadyClock<C> {
    fn now(&self) -> Timestamp {
        let (said, elapsed) = (self.clock.now(), self.began.elapsed());
        let (time, step) = self.steps.lock().unwrap_or_else(PoisonError::into_inner).at(said, elapsed);
        match step {
            None => {}
            Some(Step::Doubted) => tracing::warn!(
                clock = %said, time = %time,
                "the machine's clock leapt; what it says is believed once it has stood by it for a minute"
            ),
            Some(Step::Believed) => tracing::warn!(
                clock = %said,
                "the machine's clock stands by its leap and is believed; judgement waits where logged time is ahead of it, and windows in between have no data"
            ),
            Some(Step::TakenBack) => tracing::warn!(clock = %said, "the machine's clock took its leap back"),
        }
        time
    }
}

/// What there is to say, once each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Doubted,
    Believed,
    TakenBack,
}

/// The pure part.
#[derive(Debug, Default)]
struct Steps {
    /// What was believed last, and what had elapsed then.
    believed: Option<(Timestamp, Duration)>,
    /// The same of the first answer of a leap.
    doubted: Option<(Timestamp, Duration)>,
}

impl Steps {
    /// The time when the clock says `said`, and `elapsed` has passed since some beginning.
    fn at(&mut self, said: Timestamp, elapsed: Duration) -> (Timestamp, Option<Step>) {
        let goes_on = |(time, at): (Timestamp, Duration)| time + elapsed.saturating_sub(at);
        let Some(expected) = self.believed.map(goes_on) else {
            self.believed = Some((said, elapsed));
            return (said, None);
        };
        if is_near(said, expected) {
            self.believed = Some((said, elapsed));
            return (said, self.doubted.take().map(|_| Step::TakenBack));
        }
        match self.doubted.filter(|doubted| is_near(said, goes_on(*doubted))) {
            None => {
                self.doubted = Some((said, elapsed));
                (expected, Some(Step::Doubted))
            }
            Some((_, since)) if elapsed.saturating_sub(since) < HOLD => (expected, None),
            Some(_) => {
                (self.believed, self.doubted) = (Some((said, elapsed)), None);
                (said, Some(Step::Believed))
            }
        }
    }
}

fn is_near(one: Timestamp, other: Timestamp) -> bool {
    one.since(other) <= LEAP && other.since(one) <= LEAP
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds elapsed and seconds that the clock says; gives what the steady one says and the steps.
    fn check(answers: &[(u64, i64)], expected: &[(i64, Option<Step>)]) {
        let mut steps = Steps::default();
        let found = answers.iter().map(|(elapsed, said)| {
            let (time, step) = steps.at(Timestamp::from_millis(said * 1000), Duration::from_secs(*elapsed));
            (time.as_nanos() / 1_000_000_000, step)
        });
        assert_eq!(found.collect::<Vec<_>>(), expected, "{answers:?}");
    }

    #[test]
    fn small_differences_are_followed_both_ways() {
        check(
            &[(0, 1000), (1, 1001), (2, 1032), (3, 1003)],
            &[(1000, None), (1001, None), (1032, None), (1003, None)],
        );
    }

    #[test]
    fn a_second_of_a_wrong_day_is_passed_over() {
        check(
            &[(0, 1000), (1, 87_401), (2, 87_402), (3, 1003), (4, 1004)],
            &[
                (1000, None),
                (1001, Some(Step::Doubted)),
                (1002, None),
                (1003, Some(Step::TakenBack)),
                (1004, None),
            ],
        );
    }

    #[test]
    fn a_leap_that_is_stood_by_is_believed_after_a_minute_forwards_and_back() {
        for leap in [86_400, -86_400] {
            check(
                &[
                    (0, 100_000),
                    (1, 100_001 + leap),
                    (60, 100_060 + leap),
                    (61, 100_061 + leap),
                    (62, 100_062 + leap),
                ],
                &[
                    (100_000, None),
                    (100_001, Some(Step::Doubted)),
                    (100_060, None),
                    (100_061 + leap, Some(Step::Believed)),
                    (100_062 + leap, None),
                ],
            );
        }
    }

    #[test]
    fn a_clock_that_leaps_about_is_not_believed() {
        check(
            &[(0, 100_000), (50, 200_050), (100, 300_100), (150, 200_150), (200, 300_200)],
            &[
                (100_000, None),
                (100_050, Some(Step::Doubted)),
                (100_100, Some(Step::Doubted)),
                (100_150, Some(Step::Doubted)),
                (100_200, Some(Step::Doubted)),
            ],
        );
    }
}
