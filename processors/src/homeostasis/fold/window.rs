//! Tumbling windows: which there are, what is in them, and which have to be judged.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;

use super::pane::Pane;

/// End and start: windows are closed in this order.
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

    /// Its length.
    pub fn size(self) -> Duration {
        self.end.since(self.start)
    }
}

/// One window.
#[derive(Debug, Default)]
pub struct Window {
    /// Whether a tick has passed its end and the allowed lateness.
    pub is_closed: bool,
    /// Whether rows came since it was last judged.
    pub is_fresh: bool,
    /// Whether it differs from its checkpoint.
    pub is_touched: bool,
    /// Whether the checkpoint holds it.
    pub is_stored: bool,
    /// Whether a pane holds points that count since a start: later windows look back at them.
    pub has_raw: bool,
    panes: Vec<(u64, Pane)>,
    by_subject: HashMap<u64, usize>,
}

impl Window {
    /// As a checkpoint has it, without its panes.
    pub fn restored(is_closed: bool, is_fresh: bool) -> Window {
        Window { is_closed, is_fresh, is_stored: true, ..Window::default() }
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
        self.by_subject.insert(subject, at);
        self.panes.push((subject, pane));
        at
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

/// All windows that can still change.
pub type Windows = BTreeMap<Span, Window>;

/// The windows that the time `now` closes or that were corrected since they closed, in order.
pub fn due(windows: &mut Windows, now: Timestamp, allowed_lateness: Duration) -> Vec<Span> {
    let mut due = Vec::new();
    for (span, window) in windows.iter_mut() {
        if span.end + allowed_lateness > now {
            break;
        }
        if !window.is_closed || window.is_fresh {
            window.is_touched = true;
            window.is_closed = true;
            window.is_fresh = false;
            due.push(*span);
        }
    }
    due
}

/// Takes out the windows that nothing can correct any more, and at which no later one looks back.
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
