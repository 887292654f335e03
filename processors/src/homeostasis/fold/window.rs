//! Which windows there are, what is in their panes, and which have to be judged. Windows end on a grid; panes, of which each lies
//! wholly inside or outside of every window, hold the rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasherDefault;
use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;

use super::super::model;
use super::long::Sums;
use super::pane::Pane;
use super::route::Mix;

/// End and start: windows are judged in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First instant after it.
    pub end: Timestamp,
    /// First instant.
    pub start: Timestamp,
}

impl Span {
    /// The window of `size` that holds `at`.
    pub fn around(at: Timestamp, size: Duration) -> Span {
        let start = at.floor(size);
        Span { end: start + size, start }
    }

    /// The window of `size` that ends at `end`.
    pub fn before(end: Timestamp, size: Duration) -> Span {
        let nanos = i64::try_from(size.as_nanos()).unwrap_or(i64::MAX);
        Span { end, start: Timestamp::from_nanos(end.as_nanos().saturating_sub(nanos)) }
    }

    /// Its length.
    pub fn size(self) -> Duration {
        self.end.since(self.start)
    }
}

/// The panes of one stretch of time.
#[derive(Debug, Default)]
pub struct Window {
    /// Whether rows came since it was last judged.
    pub is_fresh: bool,
    /// Whether it differs from its checkpoint.
    pub is_touched: bool,
    /// Whether the checkpoint holds it.
    pub is_stored: bool,
    /// Whether a pane holds points that count since a start: later windows look back at them.
    pub has_raw: bool,
    panes: Vec<(u64, Pane)>,
    /// Places of the panes with new rows: a late row costs no walk over all panes.
    fresh: Vec<usize>,
    by_subject: HashMap<u64, usize, BuildHasherDefault<Mix>>,
}

impl Window {
    /// As a checkpoint has it, without its panes.
    pub fn restored(is_fresh: bool) -> Window {
        Window { is_fresh, is_stored: true, ..Window::default() }
    }

    /// Where the pane of a subject stands, and whether it was made just now.
    pub fn locate(&mut self, subject: u64) -> (usize, bool) {
        if let Some(at) = self.by_subject.get(&subject) {
            return (*at, false);
        }
        (self.put(subject, Pane::default()), true)
    }

    /// Takes in a pane.
    pub fn put(&mut self, subject: u64, pane: Pane) -> usize {
        let at = self.panes.len();
        self.has_raw |= !pane.raw.is_empty();
        if pane.is_fresh {
            self.fresh.push(at);
        }
        self.by_subject.insert(subject, at);
        self.panes.push((subject, pane));
        at
    }

    /// Rows came for the pane at this place.
    pub fn refresh(&mut self, place: usize) {
        (self.is_fresh, self.is_touched) = (true, true);
        let pane = &mut self.panes[place].1;
        pane.is_touched = true;
        if !std::mem::replace(&mut pane.is_fresh, true) {
            self.fresh.push(place);
        }
    }

    /// The same for the pane of a subject, when it is there.
    pub fn refresh_subject(&mut self, subject: u64) {
        if let Some(place) = self.by_subject.get(&subject).copied() {
            self.refresh(place);
        }
    }

    /// Subject and pane of those with new rows.
    pub fn fresh(&self) -> impl Iterator<Item = (u64, &Pane)> {
        self.fresh.iter().map(|place| (self.panes[*place].0, &self.panes[*place].1))
    }

    /// The pane of a subject was judged with all its rows.
    pub fn settle(&mut self, subject: u64, version: u32, sums: Vec<(String, Sums)>) {
        (self.is_fresh, self.is_touched) = (false, true);
        self.fresh.clear();
        let Some(place) = self.by_subject.get(&subject) else { return };
        let pane = &mut self.panes[*place].1;
        (pane.is_fresh, pane.is_touched, pane.version, pane.sums) = (false, true, version, sums);
    }

    /// The pane at a place that [`Window::locate`] gave.
    pub fn at(&mut self, place: usize) -> &mut Pane {
        &mut self.panes[place].1
    }

    /// The pane of a subject.
    pub fn pane(&self, subject: u64) -> Option<&Pane> {
        self.by_subject.get(&subject).map(|at| &self.panes[*at].1)
    }

    /// The same, to be changed.
    pub fn pane_mut(&mut self, subject: u64) -> Option<&mut Pane> {
        self.by_subject.get(&subject).map(|at| &mut self.panes[*at].1)
    }

    /// Subject and pane, in order of first appearance.
    pub fn panes(&self) -> &[(u64, Pane)] {
        &self.panes
    }

    /// The same, to be changed.
    pub fn panes_mut(&mut self) -> &mut [(u64, Pane)] {
        &mut self.panes
    }
}

/// All panes that can still matter.
pub type Windows = BTreeMap<Span, Window>;

/// The first end of a window at or after `at`.
pub fn end_after(at: Timestamp, every: Duration) -> Timestamp {
    let floor = at.floor(every);
    if floor == at { at } else { floor + every }
}

/// Whether every window that ends with this pane or before it was judged.
pub fn is_closed(pane: Span, closed_through: Timestamp, every: Duration) -> bool {
    end_after(pane.end, every) <= closed_through
}

/// A window to be judged.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub span: Span,
    /// The subjects with new rows in it; none stands for all that have any.
    pub corrected: Option<BTreeSet<u64>>,
}

/// The windows that the time `now` closes or in which rows came since, in order; and through when all of them are closed then.
pub fn due(
    windows: &Windows,
    now: Timestamp,
    closed_through: Timestamp,
    window: &model::Window,
) -> (Vec<Due>, Timestamp) {
    let lateness = i64::try_from(window.allowed_lateness.as_nanos()).unwrap_or(i64::MAX);
    let through = Timestamp::from_nanos(now.as_nanos().saturating_sub(lateness)).floor(window.every);
    let mut all: BTreeMap<Span, Option<BTreeSet<u64>>> = BTreeMap::new();
    for (span, panes) in windows {
        let mut end = end_after(span.end, window.every);
        // A pane of a model whose windows were longer than these is a window of its own.
        let is_longer = span.size() > window.size;
        while end <= through && (is_longer || Span::before(end, window.size).start <= span.start) {
            let whole = if is_longer { *span } else { Span::before(end, window.size) };
            if end > closed_through {
                all.insert(whole, None);
            } else if panes.is_fresh
                && let Some(corrected) = all.entry(whole).or_insert_with(|| Some(BTreeSet::new()))
            {
                corrected.extend(panes.fresh().map(|(subject, _)| subject));
            }
            if is_longer {
                break;
            }
            end = end + window.every;
        }
    }
    let due = all.into_iter().map(|(span, corrected)| Due { span, corrected });
    (due.collect(), through.max(closed_through))
}

/// Takes out the panes that nothing can correct any more, and at which no later window looks back.
pub fn expired(
    windows: &mut Windows,
    now: Timestamp,
    kept_for: Duration,
    looked_back: Duration,
) -> Vec<(Span, Window)> {
    let mut gone = Vec::new();
    while let Some(first) = windows.first_entry() {
        let longer = if first.get().has_raw { looked_back } else { Duration::ZERO };
        if first.key().end + kept_for + longer >= now {
            break;
        }
        gone.push(first.remove_entry());
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    /// The ends of the windows that are due, a correction marked by its subjects.
    fn check(every: u64, panes: &[(i64, bool)], now: i64, closed_through: i64, expected: &[(i64, &[u64])]) {
        let size = Duration::from_secs(60);
        let window = model::Window {
            size,
            every: Duration::from_secs(every),
            allowed_lateness: Duration::from_secs(5),
            ..model::Window::default()
        };
        let mut windows = Windows::new();
        for (start, is_fresh) in panes {
            let window = windows.entry(Span::around(at(*start), Duration::from_secs(every))).or_default();
            let (place, _) = window.locate(u64::try_from(*start).unwrap());
            if *is_fresh {
                window.refresh(place);
            }
        }
        let (due, _) = due(&windows, at(now), at(closed_through), &window);
        let found: Vec<(Timestamp, Vec<u64>)> = due
            .into_iter()
            .map(|due| (due.span.end, due.corrected.unwrap_or_default().into_iter().collect()))
            .collect();
        let expected: Vec<(Timestamp, Vec<u64>)> =
            expected.iter().map(|(end, corrected)| (at(*end), corrected.to_vec())).collect();
        assert_eq!(found, expected, "{panes:?} at {now}");
    }

    #[test]
    fn a_window_is_due_when_its_lateness_is_over_and_again_when_it_is_corrected() {
        check(60, &[(0, true)], 64, 0, &[]);
        check(60, &[(0, true)], 65, 0, &[(60, &[])]);
        check(60, &[(0, true), (60, true)], 125, 60, &[(60, &[0]), (120, &[])]);
        check(60, &[(0, false), (60, true)], 125, 60, &[(120, &[])]);
        check(60, &[(0, false)], 600, 540, &[]);
    }

    #[test]
    fn a_pane_is_in_every_window_that_slides_over_it() {
        check(20, &[(40, true)], 65, 40, &[(60, &[])]);
        check(20, &[(40, true)], 200, 40, &[(60, &[]), (80, &[]), (100, &[])]);
        check(20, &[(40, true)], 200, 80, &[(60, &[40]), (80, &[40]), (100, &[])]);
        check(20, &[(40, false), (60, true)], 200, 180, &[(80, &[60]), (100, &[60]), (120, &[60])]);
    }
}
