//! The hot loop: rows of evidence into panes. What a row's texts mean is found out once ([`super::route`]); per row there remain a
//! look-up, a bucket and a few comparisons.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::evidence::columns::Columns;
use homeostat_pipeline::evidence::schema::TextColumn;

use super::dist::Observation;
use super::pane::Pane;
use super::points;
use super::route::{Maker, Paths, Route, Routes, Said};
use super::ruled::{Ruled, Slot};
use super::subject::Subjects;
use super::window::{Span, Window, Windows, end_after, is_closed};

/// Rows further in the future than this are counted and not folded.
const AHEAD_MAX: Duration = Duration::from_secs(600);
const MINUTE_NANOS: i64 = 60_000_000_000;

/// What became of rows, by the observations that they stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Folded.
    pub folded: u64,
    /// Older than a correction may be.
    pub late: u64,
    /// More than ten minutes ahead of the entry.
    pub ahead: u64,
    /// Of no subject, for the limit was reached.
    pub overflowed: u64,
    /// Cumulative points beyond what one pane keeps.
    pub crowded: u64,
    /// Data points of another version.
    pub unreadable: u64,
    /// Of no requirement and no flow of the model.
    pub unwanted: u64,
    /// Numbers of which nothing says what they measure.
    pub unmeasured: u64,
}

/// What the rows go into.
pub struct Target<'a> {
    /// Whose rules.
    pub ruled: &'a Ruled,
    /// Which subjects.
    pub subjects: &'a mut Subjects,
    /// Which windows.
    pub windows: &'a mut Windows,
    /// Slots by number.
    pub slots: &'a mut Vec<Slot>,
    /// At most this many subjects.
    pub subjects_max: usize,
    /// Where rows went before.
    pub paths: &'a mut Paths,
    /// The entry's time.
    pub now: Timestamp,
    /// Through when all windows were judged.
    pub closed_through: Timestamp,
}

/// Folds the rows.
pub fn fold(target: &mut Target<'_>, columns: &Columns, tally: &mut Tally) {
    let every = target.ruled.model.defaults.window.every;
    let corrected_for = target.ruled.corrected_for();
    target.paths.refresh(target.subjects.generation);
    let mut routes = Routes::new(columns);
    let mut corrected = BTreeSet::new();
    let mut current: Option<(Span, &mut Window)> = None;
    for row in 0..columns.len() {
        let count = columns.count(row);
        if count == 0 {
            continue;
        }
        let time = columns.time(row).filter(|time| *time != Timestamp::ZERO).unwrap_or(target.now);
        if time > target.now + AHEAD_MAX {
            tally.ahead = tally.ahead.saturating_add(count);
            continue;
        }
        let span = match &current {
            Some((span, _)) if span.start <= time && time < span.end => *span,
            Some(_) | None => Span::around(time, target.ruled.pane),
        };
        if end_after(span.end, every) + corrected_for < target.now {
            tally.late = tally.late.saturating_add(count);
            continue;
        }
        let maker = Maker {
            ruled: target.ruled,
            subjects: &mut *target.subjects,
            slots: &mut *target.slots,
            subjects_max: target.subjects_max,
            paths: &mut *target.paths,
            now: target.now,
        };
        let (route, texts) = routes.find(row, maker);
        if route.stops.is_empty() {
            let left_out = if route.is_overflowed { &mut tally.overflowed } else { &mut tally.unwanted };
            *left_out = left_out.saturating_add(count);
            continue;
        }
        if current.as_ref().is_none_or(|(known, _)| *known != span) {
            current = Some((span, target.windows.entry(span).or_default()));
        }
        let Some((_, window)) = &mut current else { continue };
        if route.span != Some(span) {
            settle(route, span, window, target.subjects, &texts);
        }
        let before = *tally;
        if !route.is_point {
            drop_in(route, window, columns, row, time);
        } else if points::drop_in(route, window, columns, row, &texts, (target.ruled, target.slots), tally)
            && is_closed(span, target.closed_through, every)
        {
            corrected.extend(route.stops.iter().map(|stop| (span, stop.step.subject)));
        }
        let is_crowded_out = tally.crowded - before.crowded == route.stops.len() as u64;
        if is_crowded_out {
            tally.crowded = before.crowded + count;
        } else if (tally.unreadable, tally.unmeasured) == (before.unreadable, before.unmeasured) {
            tally.folded = tally.folded.saturating_add(count);
        }
    }
    for (span, subject) in corrected {
        refresh_next(target.windows, span, subject);
    }
}

/// The subject's next window counts on from this one: what was added in it is to be read again.
fn refresh_next(windows: &mut Windows, span: Span, subject: u64) {
    let later = windows.range_mut((Bound::Excluded(span), Bound::Unbounded));
    for (_, window) in later {
        if window.pane(subject).is_some_and(|pane| !pane.raw.is_empty()) {
            window.refresh_subject(subject);
            return;
        }
    }
}

/// Finds the panes of a route in a window, and tells them what its texts say.
fn settle(route: &mut Route, span: Span, window: &mut Window, subjects: &mut Subjects, texts: &Said<'_>) {
    route.span = Some(span);
    for stop in &mut route.stops {
        let (at, is_new) = window.locate(stop.step.subject);
        if is_new {
            subjects.hold(stop.step.subject);
        }
        window.refresh(at);
        let pane = window.at(at);
        stop.place = (at, if route.is_point { 0 } else { pane.locate(stop.step.slot) });
        let provenance = &mut pane.provenance;
        provenance.service.note(texts.get(TextColumn::Service));
        provenance.environment.note(texts.get(TextColumn::Environment));
        provenance.spec_node.note(texts.get(TextColumn::SpecNode));
        provenance.note_source(texts.get(TextColumn::Source));
        provenance.method = provenance.method.max(route.method);
        provenance.status = provenance.status.max(route.status);
        if stop.step.is_node {
            provenance.note_also(texts.get(TextColumn::Req));
        }
        for key in texts.get(TextColumn::Also).split(',') {
            provenance.note_also(key);
        }
    }
}

fn drop_in(route: &Route, window: &mut Window, columns: &Columns, row: usize, time: Timestamp) {
    let seen = Observation {
        value: columns.value(row).unwrap_or(f64::NAN),
        count: columns.count(row),
        is_error: columns.is_error(row),
        trace: columns.trace_id(row).unwrap_or_default(),
    };
    let without = Observation { value: f64::NAN, ..seen };
    let confidence = f64::from(columns.confidence(row));
    let minute = time.as_nanos().div_euclid(MINUTE_NANOS);
    for stop in &route.stops {
        let pane: &mut Pane = window.at(stop.place.0);
        pane.provenance.confidence = pane.provenance.confidence.min(confidence);
        let seen = if stop.step.takes_value { &seen } else { &without };
        let dist = pane.at(stop.place.1);
        dist.add(seen, stop.step.wants_low);
        if stop.step.needs_minutes {
            dist.note_minute(minute, seen);
        }
    }
}
