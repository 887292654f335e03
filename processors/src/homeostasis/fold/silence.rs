//! The silences that hold, will hold, or ended less than a day ago.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use homeostat_pipeline::checkpoint::KeyedState;
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{Silence, SilenceChange};

use super::super::matcher::Matcher;

/// At most so many are known at a time.
pub const SILENCES_MAX: usize = 10_000;
/// How long an ended one is remembered.
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// One silence and what it matches.
#[derive(Debug)]
struct Known {
    silence: Silence,
    matchers: Vec<Matcher>,
}

/// All of them, by id.
#[derive(Debug, Default)]
pub struct Silences {
    all: BTreeMap<String, Known>,
    /// Differ from the checkpoint.
    touched: BTreeSet<String>,
    /// The checkpoint holds them, and should not.
    gone: BTreeSet<String>,
}

/// The key of a silence in the checkpoint.
fn key(id: &str) -> Vec<u8> {
    [b"q", id.as_bytes()].concat()
}

impl Silences {
    /// Takes a new one, unless there are too many or its matchers cannot be read.
    pub fn add(&mut self, silence: Silence) -> Option<Silence> {
        if self.all.len() >= SILENCES_MAX {
            return None;
        }
        let matchers = Matcher::parse_all(&silence.matchers.join(",")).ok()?;
        self.touched.insert(silence.id.clone());
        self.all.insert(silence.id.clone(), Known { silence: silence.clone(), matchers });
        Some(silence)
    }

    /// Ends one at `now`; none when it is not known or over.
    pub fn expire(&mut self, id: &str, by: Option<&str>, now: Timestamp) -> Option<Silence> {
        let known = self.all.get_mut(id).filter(|known| known.silence.change == SilenceChange::Created)?;
        let silence = &mut known.silence;
        silence.change = SilenceChange::Expired;
        silence.version += 1;
        silence.at = now;
        silence.ends_at = silence.ends_at.min(now);
        silence.expired_by = by.map(str::to_owned);
        self.touched.insert(id.to_owned());
        Some(silence.clone())
    }

    /// Time has passed: those that ended, by id. What ended long ago is forgotten.
    pub fn pass(&mut self, now: Timestamp) -> Vec<Silence> {
        let is_over =
            |known: &&Known| known.silence.change == SilenceChange::Created && known.silence.ends_at <= now;
        let over: Vec<String> =
            self.all.values().filter(is_over).map(|known| known.silence.id.clone()).collect();
        let ended = over.iter().filter_map(|id| self.expire(id, None, now)).collect();
        let is_old = |known: &Known| {
            known.silence.change == SilenceChange::Expired && known.silence.ends_at + REMEMBERED <= now
        };
        let old: Vec<String> =
            self.all.values().filter(|known| is_old(known)).map(|known| known.silence.id.clone()).collect();
        for id in old {
            self.all.remove(&id);
            self.touched.remove(&id);
            self.gone.insert(id);
        }
        ended
    }

    /// The first by id that keeps these labels quiet.
    pub fn matching(&self, labels: &BTreeMap<&str, &str>, now: Timestamp) -> Option<&Silence> {
        let holds = |known: &&Known| {
            known.silence.holds(now) && known.matchers.iter().all(|matcher| matcher.is_met(labels))
        };
        self.all.values().find(holds).map(|known| &known.silence)
    }

    /// Writes what changed since the last time.
    ///
    /// # Errors
    /// Those of the checkpoint.
    pub fn write(&mut self, state: &mut dyn KeyedState) -> anyhow::Result<()> {
        for id in std::mem::take(&mut self.gone) {
            state.remove(&key(&id))?;
        }
        for id in std::mem::take(&mut self.touched) {
            if let Some(known) = self.all.get(&id) {
                state.put(&key(&id), &serde_json::to_vec(&known.silence)?)?;
            }
        }
        Ok(())
    }

    /// Reads them back.
    ///
    /// # Errors
    /// Those of the checkpoint; damage.
    pub fn read(&mut self, state: &dyn KeyedState) -> anyhow::Result<()> {
        state.scan(b"q", &mut |_, value| {
            let silence: Silence = serde_json::from_slice(value)?;
            let matchers = Matcher::parse_all(&silence.matchers.join(",")).map_err(anyhow::Error::msg)?;
            self.all.insert(silence.id.clone(), Known { silence, matchers });
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    fn silence(id: &str, matchers: &str, from: i64, until: i64) -> Silence {
        Silence {
            id: id.to_owned(),
            version: 1,
            change: SilenceChange::Created,
            at: at(0),
            matchers: vec![matchers.to_owned()],
            starts_at: at(from),
            ends_at: at(until),
            author: "ada".to_owned(),
            comment: String::new(),
            expired_by: None,
        }
    }

    fn holds(silences: &Silences, second: i64) -> Option<&str> {
        let labels = BTreeMap::from([("req", "A")]);
        silences.matching(&labels, at(second)).map(|silence| silence.id.as_str())
    }

    #[test]
    fn a_silence_holds_from_its_start_until_before_its_end() {
        let mut silences = Silences::default();
        assert!(silences.add(silence("1", "req=\"A\"", 10, 20)).is_some());
        assert!(silences.add(silence("2", "req=\"B\"", 0, 99)).is_some());
        assert!(
            silences.add(silence("3", "req!=\"B\"", 0, 99)).is_none(),
            "it would silence everything else"
        );
        assert_eq!(holds(&silences, 9), None);
        assert_eq!(holds(&silences, 10), Some("1"));
        assert_eq!(holds(&silences, 19), Some("1"));
        assert_eq!(holds(&silences, 20), None);
    }

    #[test]
    fn what_ended_is_told_once_and_forgotten_a_day_later() {
        let mut silences = Silences::default();
        silences.add(silence("1", "req=\"A\"", 0, 20));
        silences.add(silence("2", "req=\"A\"", 0, 90));
        assert!(silences.pass(at(19)).is_empty());
        let ended = silences.pass(at(21));
        assert_eq!((ended.len(), ended[0].id.as_str(), ended[0].ends_at), (1, "1", at(20)));
        assert_eq!((ended[0].version, ended[0].expired_by.as_deref()), (2, None));
        assert!(silences.pass(at(22)).is_empty());
        let early = silences.expire("2", Some("bob"), at(30)).expect("it holds");
        assert_eq!((early.ends_at, early.expired_by.as_deref()), (at(30), Some("bob")));
        assert_eq!(holds(&silences, 30), None);
        assert!(silences.expire("2", Some("bob"), at(31)).is_none());
        assert!(silences.expire("9", Some("bob"), at(31)).is_none());
        silences.pass(at(20 + 86_400));
        assert_eq!(silences.all.len(), 1);
    }

    #[test]
    fn there_is_a_limit() {
        let mut silences = Silences::default();
        for number in 0..SILENCES_MAX {
            assert!(silences.add(silence(&number.to_string(), "req=A", 0, 9)).is_some());
        }
        assert!(silences.add(silence("more", "req=A", 0, 9)).is_none());
    }
}
