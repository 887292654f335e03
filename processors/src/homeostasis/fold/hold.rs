//! What each rule remembers inside an episode: how long it has been violated (`for`) and when it was last told of (cooldown).

use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;
use serde::{Deserialize, Serialize};

/// One rule of one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hold {
    /// Violated without a gap from the start of the first window to the end of the last.
    violated: Option<(Timestamp, Timestamp)>,
    /// It fired in the episode that lives: when it is violated again, it need not wait again.
    has_fired: bool,
    /// When it was last part of what a person was told.
    told_at: Option<Timestamp>,
}

impl Hold {
    /// Takes in one window of the subject, and says whether the rule fires: it is violated, and has been for longer than
    /// `holds_for`, or fired before ([`Hold::fire`]). A correction may prolong a violation backwards but ends none.
    pub fn observe(
        &mut self,
        is_violated: bool,
        (start, end): (Timestamp, Timestamp),
        holds_for: Duration,
        is_correction: bool,
    ) -> bool {
        self.violated = match (is_violated, self.violated) {
            (false, before) => before.filter(|_| is_correction),
            (true, None) => Some((start, end)),
            (true, Some((since, through))) if through >= start && since <= end => {
                Some((since.min(start), through.max(end)))
            }
            (true, before) if is_correction => before,
            (true, _) => Some((start, end)),
        };
        let span = self.violated.map_or(Duration::ZERO, |(since, through)| through.since(since));
        is_violated && (holds_for.is_zero() || span > holds_for || self.has_fired)
    }

    /// What it said counts: in the episode that lives it need not be violated for long again.
    pub fn fire(&mut self) {
        self.has_fired = true;
    }

    /// Start of the first window of the violation that lasts.
    pub fn since(&self) -> Option<Timestamp> {
        self.violated.map(|(since, _)| since)
    }

    /// Whether it fired in the episode that lives.
    pub fn has_fired(&self) -> bool {
        self.has_fired
    }

    /// Whether it fires by the last window of which it was known.
    pub fn is_firing(&self) -> bool {
        self.has_fired && self.violated.is_some()
    }

    /// When its cooldown ends; none when it was never told.
    pub fn cooling_until(&self, cooldown: Duration) -> Option<Timestamp> {
        self.told_at.map(|told| told + cooldown)
    }

    /// Whether it was told less than `cooldown` before `at`.
    pub fn is_cooling(&self, at: Timestamp, cooldown: Duration) -> bool {
        self.told_at.is_some_and(|told| at < told + cooldown)
    }

    /// A person is told that it fires: its cooldown begins.
    pub fn tell(&mut self, at: Timestamp) {
        self.told_at = Some(at);
    }

    /// The episode is over: next time it has to be violated for long enough again. The cooldown runs on.
    pub fn rest(&mut self) {
        self.has_fired = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    /// Ten-second windows, one letter each: `x` violated, `.` not, `_` no data. Says in which the rule fires.
    fn check(windows: &str, holds_for: u64, expected: &str) {
        let mut hold = Hold::default();
        let fired: String = windows
            .chars()
            .zip(0..)
            .map(|(window, number)| {
                let span = (at(number * 10), at(number * 10 + 10));
                match window {
                    '_' => '_',
                    _ if hold.observe(window == 'x', span, Duration::from_secs(holds_for), false) => {
                        hold.fire();
                        'F'
                    }
                    _ => '.',
                }
            })
            .collect();
        assert_eq!(fired, expected, "{windows} for {holds_for}s");
    }

    #[test]
    fn a_rule_fires_once_it_is_violated_for_longer_than_its_for() {
        check(".x.x", 0, ".F.F");
        check("xxx.", 10, ".FF.");
        check("xxxx", 20, "..FF");
        check("xx.xx.xxx", 20, "........F");
        check("xxxxx", 600, ".....");
    }

    #[test]
    fn a_window_without_data_breaks_the_violation() {
        check("xx_xxx", 20, ".._..F");
    }

    #[test]
    fn a_rule_that_fired_in_the_episode_need_not_wait_again() {
        check("xxx.x", 20, "..F.F");
        let mut hold = Hold::default();
        assert!(!hold.observe(true, (at(0), at(10)), Duration::from_secs(15), false));
        assert!(hold.observe(true, (at(10), at(20)), Duration::from_secs(15), false));
        hold.fire();
        hold.observe(false, (at(20), at(30)), Duration::from_secs(15), false);
        hold.rest();
        assert!(!hold.observe(true, (at(30), at(40)), Duration::from_secs(15), false));
    }

    #[test]
    fn a_correction_prolongs_a_violation_backwards_and_ends_none() {
        let mut hold = Hold::default();
        let fifteen = Duration::from_secs(15);
        assert!(!hold.observe(true, (at(10), at(20)), fifteen, false));
        assert!(!hold.observe(false, (at(10), at(20)), fifteen, true));
        assert_eq!(hold.since(), Some(at(10)));
        assert!(hold.observe(true, (at(0), at(10)), fifteen, true));
        assert_eq!(hold.since(), Some(at(0)));
        let mut quiet = Hold::default();
        quiet.observe(true, (at(50), at(60)), fifteen, false);
        quiet.observe(true, (at(0), at(10)), fifteen, true);
        assert_eq!(quiet.since(), Some(at(50)), "a window long before is another violation");
    }

    #[test]
    fn the_cooldown_counts_from_the_last_telling() {
        let mut hold = Hold::default();
        let hour = Duration::from_secs(3_600);
        assert!(!hold.is_cooling(at(0), hour));
        hold.tell(at(0));
        assert!(hold.is_cooling(at(3_599), hour));
        assert!(!hold.is_cooling(at(3_600), hour));
        assert!(!hold.is_cooling(at(1), Duration::ZERO));
        hold.rest();
        assert!(hold.is_cooling(at(1), hour), "the end of an episode does not end the cooldown");
    }
}
