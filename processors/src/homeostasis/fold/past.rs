//! Several panes together: a window, or what a function of a window looks back over. What overlaps is not merged again: while
//! windows slide on, each pane is merged a bounded number of times, however many windows it is in (two stacks, as in Tangwongsan
//! et al., "Low-latency sliding-window aggregation in worst-case constant time", DEBS 2017).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;

use super::cumulative;
use super::pane::Pane;
use super::window::{Span, Window, Windows};

/// What was merged before, by subject and length of the window. No state: without it everything is merged anew, to the same.
#[derive(Debug, Default)]
pub struct Sliders(BTreeMap<(u64, Duration), Slider>);

impl Sliders {
    /// A pane of the subject changed.
    pub fn forget(&mut self, subject: u64) {
        let of = (subject, Duration::ZERO)..=(subject, Duration::MAX);
        let known: Vec<_> = self.0.range(of).map(|(key, _)| *key).collect();
        known.iter().for_each(|key| drop(self.0.remove(key)));
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Forgets those of subjects that are gone.
    pub fn retain(&mut self, is_there: impl Fn(u64) -> bool) {
        self.0.retain(|(subject, _), _| is_there(*subject));
    }
}

/// A window of one subject that slides.
#[derive(Debug)]
struct Slider {
    /// Start of a pane → it and all later ones up to the turn, the earliest last.
    back: Vec<(Timestamp, Pane)>,
    /// The panes after the turn, with their starts, and all of them together.
    front: Vec<Timestamp>,
    together: Pane,
    /// The end of the last window that was asked for.
    through: Timestamp,
}

/// Reads panes.
pub struct Past<'a, 's> {
    /// All of them.
    pub windows: &'a Windows,
    /// What was merged before.
    pub sliders: &'s mut Sliders,
    /// The length of the model's windows.
    pub size: Duration,
}

impl<'a> Past<'a, '_> {
    /// The subject's panes that lie within `span`, together; none when there are none. With `slides` the next call for a window of
    /// the same length costs less.
    pub fn whole(&mut self, subject: u64, span: Span, slides: bool) -> Option<Cow<'a, Pane>> {
        let windows: &'a Windows = self.windows;
        let mut few = panes(windows, subject, span);
        let first = few.next()?;
        let Some(second) = few.next() else { return Some(self.resolved((subject, span), first.0, first.1)) };
        if slides {
            return Some(Cow::Owned(self.slide(subject, span)));
        }
        let mut whole = self.resolved((subject, span), first.0, first.1).into_owned();
        for (at, pane) in std::iter::once(second).chain(few) {
            whole.merge(&self.resolved((subject, span), at, pane));
        }
        Some(Cow::Owned(whole))
    }

    /// A pane of the subject as what looks back over `span` reads it.
    fn resolved<'p>(&self, (subject, span): (u64, Span), at: Span, pane: &'p Pane) -> Cow<'p, Pane> {
        let resolved = cumulative::resolved(self.windows, at, subject, pane, (self.size, span.size()));
        resolved.map_or(Cow::Borrowed(pane), Cow::Owned)
    }

    fn slide(&mut self, subject: u64, span: Span) -> Pane {
        let key = (subject, span.size());
        let known = self.sliders.0.remove(&key).filter(|slider| slider.through <= span.end);
        let mut slider = known.unwrap_or_else(|| Slider {
            back: Vec::new(),
            front: Vec::new(),
            together: Pane::default(),
            through: span.start,
        });
        let from = slider.through.max(span.start);
        for (at, pane) in panes(self.windows, subject, Span { start: from, end: span.end }) {
            slider.together.merge(&self.resolved((subject, span), at, pane));
            slider.front.push(at.start);
        }
        slider.through = span.end;
        while slider.back.last().is_some_and(|(start, _)| *start < span.start) {
            slider.back.pop();
        }
        if slider.back.is_empty() && slider.front.first().is_some_and(|start| *start < span.start) {
            let all: Vec<(Span, &Pane)> = panes(self.windows, subject, span).collect();
            let mut suffix: Option<Pane> = None;
            for (at, pane) in all.into_iter().rev() {
                let mut longer = self.resolved((subject, span), at, pane).into_owned();
                if let Some(suffix) = &suffix {
                    longer.merge(suffix);
                }
                suffix = Some(longer.clone());
                slider.back.push((at.start, longer));
            }
            slider.front.clear();
            slider.together = Pane::default();
        }
        let mut whole = slider.back.last().map(|(_, pane)| pane.clone()).unwrap_or_default();
        whole.merge(&slider.together);
        self.sliders.0.insert(key, slider);
        whole
    }
}

/// The subject's panes within `span`, in the order of time.
pub fn panes(windows: &Windows, subject: u64, span: Span) -> impl Iterator<Item = (Span, &Pane)> {
    within(windows, span).filter_map(move |(at, window)| Some((at, window.pane(subject)?)))
}

/// Everything that lies within `span`, in the order of time.
pub fn within(windows: &Windows, span: Span) -> impl Iterator<Item = (Span, &Window)> {
    let all = Span { end: span.start, start: Timestamp::MAX }..=Span { end: span.end, start: Timestamp::MAX };
    let inside = windows.range(all).filter(move |(at, _)| at.start >= span.start);
    inside.map(|(at, window)| (*at, window))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::dist::Observation;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    const fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    fn windows(values: &[(i64, u8)]) -> Windows {
        let mut windows = Windows::new();
        for (second, value) in values {
            let window = windows.entry(Span::around(at(*second), SECOND)).or_default();
            let (place, _) = window.locate(7);
            let pane = window.at(place);
            let seen =
                Observation { value: f64::from(*value), count: 1, is_error: *value > 9, trace: [*value; 16] };
            let dist = pane.locate(0);
            pane.at(dist).add(&seen, true);
            pane.provenance.note_also(&format!("REQ-X-{value:03}"));
        }
        windows
    }

    proptest! {
        /// However a window slides, and whatever was forgotten on the way, it holds what its panes hold.
        #[test]
        fn a_window_that_slides_is_the_panes_in_it(
            values in prop::collection::vec((0_i64..60, 0_u8..20), 0..80),
            ends in prop::collection::btree_set(1_i64..60, 1..40),
            length in 2_i64..20,
            forget in prop::collection::vec(any::<bool>(), 40),
        ) {
            let windows = windows(&values);
            let mut sliders = Sliders::default();
            for (number, end) in ends.into_iter().enumerate() {
                let span = Span { start: at(end - length), end: at(end) };
                if forget[number] {
                    sliders.forget(7);
                }
                let mut past = Past { windows: &windows, sliders: &mut sliders, size: SECOND };
                let slid = past.whole(7, span, true).map(Cow::into_owned);
                let plain = past.whole(7, span, false).map(Cow::into_owned);
                prop_assert_eq!(slid.map(unmarked), plain.map(unmarked), "{} before {}", length, end);
            }
        }
    }

    /// Without the marks of the checkpoint, which say nothing of what was seen.
    fn unmarked(pane: Pane) -> Pane {
        let mut unmarked = pane.without_raw();
        unmarked.version = 0;
        unmarked
    }
}
