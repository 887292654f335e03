//! What one subject's rows of one pane come to, in any order; and what several panes come to together.

use std::collections::BTreeSet;

use super::super::codec::{Reader, Writer};
use super::cumulative::Raw;
use super::dist::Dist;
use super::long::Sums;
use super::provenance::Provenance;

/// One subject in one window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pane {
    /// Slot → distribution; few, in the order in which they came.
    dists: Vec<(u32, Dist)>,
    /// Points that count since a start.
    pub raw: BTreeSet<Raw>,
    /// What the rows say beside their numbers.
    pub provenance: Provenance,
    /// Measure → what it adds to windows longer than panes are kept; only where a measure has such a window.
    pub sums: Vec<(String, Sums)>,
    /// How often it was judged.
    pub version: u32,
    /// Whether rows came since it was last judged.
    pub is_fresh: bool,
    /// Whether it differs from its checkpoint.
    pub is_touched: bool,
    /// Whether the checkpoint holds it.
    pub is_stored: bool,
}

impl Pane {
    /// Where the distribution of `slot` stands in this pane, for [`Pane::at`]; made when it is not there.
    pub fn locate(&mut self, slot: u32) -> usize {
        if let Some(at) = self.dists.iter().position(|(known, _)| *known == slot) {
            return at;
        }
        // Mostly there is one, and a list makes room for four unasked.
        self.dists.reserve_exact(1);
        self.dists.push((slot, Dist::default()));
        self.dists.len() - 1
    }

    /// The distribution at a place that [`Pane::locate`] gave.
    pub fn at(&mut self, place: usize) -> &mut Dist {
        &mut self.dists[place].1
    }

    /// The slots of which it holds anything.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.dists.iter().map(|(slot, _)| *slot).chain(self.raw.iter().map(|raw| raw.slot))
    }

    /// The distributions, each with its slot.
    pub fn dists(&self) -> impl Iterator<Item = (u32, &Dist)> {
        self.dists.iter().map(|(slot, dist)| (*slot, dist))
    }

    /// The distribution of `slot`.
    pub fn dist(&self, slot: u32) -> Option<&Dist> {
        self.dists.iter().find(|(known, _)| *known == slot).map(|(_, dist)| dist)
    }

    /// Takes in a point that counts since a start; false where one had to be left out for it, or it itself: of more than `max`
    /// the first in their order are kept, whatever the order in which they come.
    pub fn keep(&mut self, raw: Raw, max: usize) -> bool {
        if !self.raw.insert(raw) || self.raw.len() <= max {
            return true;
        }
        self.raw.pop_last();
        false
    }

    /// The same without the points that count since a start.
    pub fn without_raw(&self) -> Pane {
        Pane {
            dists: self.dists.clone(),
            provenance: self.provenance.clone(),
            version: self.version,
            ..Pane::default()
        }
    }

    /// Takes in what another pane came to; points that count since a start must have been resolved.
    pub fn merge(&mut self, other: &Pane) {
        for (slot, dist) in &other.dists {
            let place = self.locate(*slot);
            self.at(place).merge(dist);
        }
        self.provenance.merge(&other.provenance);
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.unsigned(u64::from(self.version));
        out.unsigned(u64::from(self.is_fresh));
        self.provenance.encode(&mut out);
        out.unsigned(self.dists.len() as u64);
        for (slot, dist) in &self.dists {
            out.unsigned(u64::from(*slot));
            dist.encode(&mut out);
        }
        out.unsigned(self.raw.len() as u64);
        self.raw.iter().for_each(|raw| raw.encode(&mut out));
        out.unsigned(self.sums.len() as u64);
        for (measure, sums) in &self.sums {
            out.text(measure);
            sums.encode(&mut out);
        }
        out.finish()
    }

    /// Reads what [`Pane::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn decode(bytes: &[u8]) -> anyhow::Result<Pane> {
        let mut bytes = Reader::new(bytes);
        let version = u32::try_from(bytes.unsigned()?)?;
        let is_fresh = bytes.unsigned()? != 0;
        let provenance = Provenance::decode(&mut bytes)?;
        let length = bytes.length(u16::MAX.into())?;
        let dists = (0..length)
            .map(|_| Ok((u32::try_from(bytes.unsigned()?)?, Dist::decode(&mut bytes)?)))
            .collect::<anyhow::Result<_>>()?;
        let length = bytes.length(1 << 24)?;
        let raw = (0..length).map(|_| Raw::decode(&mut bytes)).collect::<anyhow::Result<_>>()?;
        let sums = (0..bytes.length(u16::MAX.into())?)
            .map(|_| Ok((bytes.text()?.to_owned(), Sums::decode(&mut bytes)?)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Pane { dists, raw, provenance, sums, version, is_fresh, is_touched: false, is_stored: true })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::dist::Observation;
    use super::*;

    fn observation() -> impl Strategy<Value = Observation> {
        let odd = vec![f64::NAN, f64::INFINITY, 1e30, -1e30, 1e28, -1e28, 0.0, -0.0, 1e-11];
        let value = prop_oneof![8 => 0.0..1e12_f64, 4 => prop::sample::select(odd), 1 => -5.0..5.0_f64];
        (value, 1_u64..4, any::<bool>(), 0_u8..20).prop_map(|(value, count, is_error, trace)| Observation {
            value,
            count,
            is_error,
            trace: [trace; 16],
        })
    }

    fn raw(slot: u32, time: i64) -> Raw {
        let series = homeostat_pipeline::evidence::point::Series::default();
        Raw { slot, series, time, bits: 0, is_error: false, wants_low: false, sketch: Box::default() }
    }

    fn pane_of(observations: &[Observation]) -> Pane {
        let mut pane = Pane::default();
        for seen in observations {
            let place = pane.locate(3);
            pane.at(place).add(seen, true);
            pane.provenance.note_also(&format!("REQ-X-{:03}", seen.trace[0]));
            pane.provenance.service.note(if seen.is_error { "a" } else { "b" });
            pane.provenance.note_source(&seen.count.to_string());
            pane.at(place).note_minute(i64::from(seen.trace[0] % 3), seen);
        }
        pane
    }

    proptest! {
        #[test]
        fn the_order_of_rows_does_not_show(
            observations in prop::collection::vec(observation(), 0..120).prop_shuffle(),
            turn in 0_usize..120,
        ) {
            let mut other = observations.clone();
            other.reverse();
            other.rotate_left(turn % observations.len().max(1));
            let (one, two) = (pane_of(&observations), pane_of(&other));
            prop_assert_eq!(&one, &two);
            prop_assert_eq!(one.encode(), two.encode());
                let again = Pane { is_stored: false, ..Pane::decode(&one.encode()).expect("it was just written") };
            prop_assert_eq!(again, one);
        }

        #[test]
        fn of_too_many_points_the_same_are_kept_in_any_order(
            points in prop::collection::vec((0_u32..3, 0_i64..9), 0..40).prop_shuffle(),
            max in 1_usize..20,
        ) {
            let kept = |points: &[(u32, i64)]| {
                let mut pane = Pane::default();
                let told = points.iter().filter(|(slot, time)| !pane.keep(raw(*slot, *time), max)).count();
                (pane.raw, told > 0)
            };
            let mut sorted = points.clone();
            sorted.sort_unstable();
            prop_assert_eq!(kept(&points), kept(&sorted));
        }

        #[test]
        fn panes_merge_in_any_cut_to_what_one_pane_holds(
            observations in prop::collection::vec(observation(), 0..120),
            cuts in prop::collection::vec(0_usize..120, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(observations.len())).collect();
            cuts.extend([0, observations.len()]);
            cuts.sort_unstable();
            let parts: Vec<Pane> = cuts.windows(2).map(|cut| pane_of(&observations[cut[0]..cut[1]])).collect();
            let mut forwards = Pane::default();
            parts.iter().for_each(|part| forwards.merge(part));
            let mut backwards = Pane::default();
            parts.iter().rev().for_each(|part| backwards.merge(part));
            let whole = pane_of(&observations);
            prop_assert_eq!(&forwards, &whole);
            prop_assert_eq!(&backwards, &whole);
        }
    }
}
