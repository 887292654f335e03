//! Which entries of the ledger are known to be damaged or lost, by whoever met them first: the opening, the fold, an exporter.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// More than this many places are not told apart.
const PLACES_MAX: usize = 10_000;

/// Shared by the writer and all readers of one ledger on disk.
#[derive(Clone, Debug, Default)]
pub struct Damage(Arc<Mutex<BTreeSet<(u64, u64)>>>);

impl Damage {
    fn places(&self) -> MutexGuard<'_, BTreeSet<(u64, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries `from` up to, not including, `to` cannot be read. The same place counts once.
    pub(super) fn note(&self, from: u64, to: u64) {
        let mut places = self.places();
        if from >= to || places.len() >= PLACES_MAX || !places.insert((from, to)) {
            return;
        }
        let entries: u64 = places.iter().map(|(from, to)| to - from).sum();
        metrics::gauge!("homeostat_ledger_damaged_entries").set(entries as f64);
    }

    /// What there is to say of it; nothing of a whole ledger.
    pub fn say(&self) -> Option<String> {
        let places = self.places();
        let (from, to) = *places.first()?;
        let entries: u64 = places.iter().map(|(from, to)| to - from).sum();
        let which = if to - from == entries && entries == 1 {
            format!("entry {from}")
        } else {
            format!("{entries} entries from {from} on")
        };
        Some(format!(
            "the ledger is damaged: {which} cannot be read (`homeostat ledger verify` says all; sinks that have them keep them)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_damaged_place_is_told_once() {
        let damage = Damage::default();
        assert_eq!(damage.say(), None);
        for (from, to) in [(7, 7), (3, 4), (3, 4)] {
            damage.note(from, to);
        }
        assert!(damage.say().is_some_and(|text| text.contains("entry 3 cannot")), "{:?}", damage.say());
        damage.note(9, 11);
        assert!(damage.say().is_some_and(|text| text.contains("3 entries from 3 on")), "{:?}", damage.say());
    }
}
