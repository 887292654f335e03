//! The hot loop: rows of evidence into panes. What a row's texts mean is found out once per combination of dictionary keys; per
//! row there remain a look-up, a bucket and a few comparisons.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::evidence::columns::Columns;
use homeostat_pipeline::evidence::schema::TextColumn;

use super::pane::{Observation, Pane};
use super::ruled::{Group, Ruled, Slot};
use super::subject::{Identity, Subjects};
use super::window::{Span, Window, Windows};

/// Rows further in the future than this are counted and not folded.
const AHEAD_MAX: Duration = Duration::from_secs(600);
/// Durations of spans: the unit of ordinary values, and slot 0.
pub const ORDINARY_UNIT: &str = "ns";
const ABSENT: u32 = u32::MAX;

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
    /// The entry's time.
    pub now: Timestamp,
}

/// The texts that decide where a row goes, as dictionary keys of one batch.
const KEYS: [TextColumn; 11] = [
    TextColumn::Req,
    TextColumn::Measure,
    TextColumn::Unit,
    TextColumn::Labels,
    TextColumn::Service,
    TextColumn::Environment,
    TextColumn::SpecNode,
    TextColumn::Context,
    TextColumn::Flow,
    TextColumn::Also,
    TextColumn::Source,
];

/// [`KEYS`] of a row, and whether it is primary, its method and its status.
type RouteKey = [u32; KEYS.len() + 1];

/// Multiplies and rotates: the keys are small numbers that nobody chooses against us.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

/// Where the rows of one combination of texts go.
struct Route {
    stops: Vec<Stop>,
    /// The window that the places in the stops belong to.
    span: Option<Span>,
    is_primary: bool,
    method: u8,
    status: u8,
    /// Whether its node found no room.
    is_overflowed: bool,
}

struct Stop {
    subject: u64,
    slot: u32,
    wants_low: bool,
    takes_value: bool,
    is_node: bool,
    /// Of the pane in the window, and of the distribution in the pane.
    place: (usize, usize),
}

/// Folds the rows.
pub fn fold(target: &mut Target<'_>, columns: &Columns, tally: &mut Tally) {
    let window = &target.ruled.model.defaults.window;
    let kept_for = target.ruled.kept_for();
    let mut routes = Routes::new(columns);
    let mut current: Option<(Span, &mut Window)> = None;
    for row in 0..columns.len() {
        let count = columns.count(row);
        let time = columns.time(row).filter(|time| *time != Timestamp::ZERO).unwrap_or(target.now);
        if time > target.now + AHEAD_MAX {
            tally.ahead = tally.ahead.saturating_add(count);
            continue;
        }
        let span = match &current {
            Some((span, _)) if span.start <= time && time < span.end => *span,
            Some(_) | None => Span::around(time, window.size),
        };
        if span.end + kept_for < target.now {
            tally.late = tally.late.saturating_add(count);
            continue;
        }
        let maker = Maker {
            ruled: target.ruled,
            subjects: &mut *target.subjects,
            slots: &mut *target.slots,
            subjects_max: target.subjects_max,
        };
        let (route, texts) = routes.find(row, maker, tally, count);
        if route.stops.is_empty() || count == 0 {
            continue;
        }
        if current.as_ref().is_none_or(|(known, _)| *known != span) {
            current = Some((span, target.windows.entry(span).or_default()));
        }
        let Some((_, window)) = &mut current else { continue };
        if route.span != Some(span) {
            settle(route, span, window, target.subjects, &texts);
        }
        drop_in(route, window, columns, row, count);
        tally.folded = tally.folded.saturating_add(count);
    }
}

/// Finds the panes of a route in a window, and tells them what its texts say.
fn settle(route: &mut Route, span: Span, window: &mut Window, subjects: &mut Subjects, texts: &Said<'_>) {
    route.span = Some(span);
    window.is_fresh = true;
    window.is_touched = true;
    for stop in &mut route.stops {
        let (at, is_new) = window.locate(stop.subject);
        if is_new {
            subjects.hold(stop.subject);
        }
        let pane = window.at(at);
        pane.is_fresh = true;
        pane.is_touched = true;
        stop.place = (at, pane.locate(stop.slot));
        let provenance = &mut pane.provenance;
        provenance.service.note(texts.get(TextColumn::Service));
        provenance.environment.note(texts.get(TextColumn::Environment));
        provenance.spec_node.note(texts.get(TextColumn::SpecNode));
        provenance.note_source(texts.get(TextColumn::Source));
        provenance.method = provenance.method.max(route.method);
        provenance.status = provenance.status.max(route.status);
        if stop.is_node {
            provenance.note_also(texts.get(TextColumn::Req));
        }
        for key in texts.get(TextColumn::Also).split(',') {
            provenance.note_also(key);
        }
    }
}

fn drop_in(route: &Route, window: &mut Window, columns: &Columns, row: usize, count: u64) {
    let seen = Observation {
        value: columns.value(row).unwrap_or(f64::NAN),
        count,
        is_error: columns.is_error(row),
        trace: columns.trace_id(row).unwrap_or_default(),
    };
    let without = Observation { value: f64::NAN, ..seen };
    let confidence = f64::from(columns.confidence(row));
    for stop in &route.stops {
        let pane: &mut Pane = window.at(stop.place.0);
        pane.provenance.confidence = pane.provenance.confidence.min(confidence);
        pane.at(stop.place.1).add(if stop.takes_value { &seen } else { &without }, stop.wants_low);
    }
}

/// The routes of one batch, made as they are met.
struct Routes<'a> {
    columns: &'a Columns,
    by_key: HashMap<RouteKey, usize, BuildHasherDefault<Mix>>,
    all: Vec<Route>,
    last: Option<(RouteKey, usize)>,
}

impl<'a> Routes<'a> {
    fn new(columns: &'a Columns) -> Routes<'a> {
        Routes { columns, by_key: HashMap::default(), all: Vec::new(), last: None }
    }

    fn find(
        &mut self,
        row: usize,
        maker: Maker<'_>,
        tally: &mut Tally,
        count: u64,
    ) -> (&mut Route, Said<'a>) {
        let columns = self.columns;
        let mut key = [ABSENT; KEYS.len() + 1];
        for (place, column) in key.iter_mut().zip(KEYS) {
            *place = columns.texts(column).key(row).unwrap_or(ABSENT);
        }
        let is_primary = columns.is_primary(row);
        let (method, status) = (columns.method(row) as u8, columns.status(row) as u8);
        key[KEYS.len()] = u32::from_le_bytes([method, status, u8::from(is_primary), 0]);
        let said = Said { columns, row };
        let known = match self.last {
            Some((last, at)) if last == key => Some(at),
            Some(_) | None => self.by_key.get(&key).copied(),
        };
        let at = known.unwrap_or_else(|| {
            let mut route =
                Route { stops: Vec::new(), span: None, is_primary, method, status, is_overflowed: false };
            maker.stops(&said, &mut route);
            self.all.push(route);
            self.by_key.insert(key, self.all.len() - 1);
            self.all.len() - 1
        });
        self.last = Some((key, at));
        let route = &mut self.all[at];
        if route.is_overflowed {
            tally.overflowed = tally.overflowed.saturating_add(count);
        }
        (route, said)
    }
}

/// The texts of one row; empty where absent.
struct Said<'a> {
    columns: &'a Columns,
    row: usize,
}

impl<'a> Said<'a> {
    fn get(&self, column: TextColumn) -> &'a str {
        self.columns.texts(column).get(self.row).unwrap_or_default()
    }

    /// The value of a label that rules group by.
    fn label(&self, name: &str, others: &BTreeMap<String, serde_json::Value>) -> String {
        match name {
            "service.name" | "service" => self.get(TextColumn::Service).to_owned(),
            "environment" | "deployment.environment" | "deployment.environment.name" => {
                self.get(TextColumn::Environment).to_owned()
            }
            _ => match others.get(name) {
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => String::new(),
            },
        }
    }
}

/// Makes routes.
struct Maker<'a> {
    ruled: &'a Ruled,
    subjects: &'a mut Subjects,
    slots: &'a mut Vec<Slot>,
    subjects_max: usize,
}

impl Maker<'_> {
    fn stops(self, said: &Said<'_>, route: &mut Route) {
        let req = said.get(TextColumn::Req);
        let measure = said.get(TextColumn::Measure);
        let groups: &[Group] = self.ruled.groups.get(req).map_or(&[], Vec::as_slice);
        for group in groups.iter().filter(|group| group.takes(measure)) {
            let labels = labels(group, said);
            let identity = Identity::Requirement { req: req.to_owned(), labels };
            let unit = match said.get(TextColumn::Unit) {
                "" if measure.is_empty() => ORDINARY_UNIT,
                unit => unit,
            };
            let slot = slot(self.slots, measure, unit);
            if let (Some(subject), Some(slot)) = (self.subjects.intern(identity, self.subjects_max), slot) {
                let wants_low = group.wants_low(measure);
                route.stops.push(Stop {
                    subject,
                    slot,
                    wants_low,
                    takes_value: true,
                    is_node: false,
                    place: (0, 0),
                });
            }
        }
        let node = if route.is_primary { node(said, self.ruled) } else { None };
        let Some(identity) = node else { return };
        let Some(subject) = self.subjects.intern(identity, self.subjects_max) else {
            route.is_overflowed = true;
            return;
        };
        let takes_value = said.get(TextColumn::Unit) == ORDINARY_UNIT;
        route.stops.push(Stop {
            subject,
            slot: 0,
            wants_low: false,
            takes_value,
            is_node: true,
            place: (0, 0),
        });
    }
}

fn labels(group: &Group, said: &Said<'_>) -> BTreeMap<String, String> {
    if group.labels.is_empty() {
        return BTreeMap::new();
    }
    let others = serde_json::from_str(said.get(TextColumn::Labels)).unwrap_or_default();
    group.labels.iter().map(|name| (name.clone(), said.label(name, &others))).collect()
}

/// The node that the row names; else the one that its requirement states in the model.
fn node(said: &Said<'_>, ruled: &Ruled) -> Option<Identity> {
    let (named, context, flow) =
        (said.get(TextColumn::SpecNode), said.get(TextColumn::Context), said.get(TextColumn::Flow));
    if !named.is_empty() {
        return Some(Identity::Node {
            node: named.to_owned(),
            context: context.to_owned(),
            flow: flow.to_owned(),
        });
    }
    let stated = ruled.model.requirements.get(said.get(TextColumn::Req))?.spec_node.as_deref()?;
    let (context, flow) = stated.strip_prefix("sea:").and_then(|rest| rest.split_once(':'))?;
    Some(Identity::Node { node: stated.to_owned(), context: context.to_owned(), flow: flow.to_owned() })
}

/// The number of a slot, made when it is new; none past the limit, which only a model of absurd size reaches.
fn slot(slots: &mut Vec<Slot>, measure: &str, unit: &str) -> Option<u32> {
    let known = slots.iter().position(|slot| slot.measure == measure && slot.unit == unit);
    let at = match known {
        Some(at) => at,
        None if slots.len() >= usize::from(u16::MAX) => return None,
        None => {
            slots.push(Slot { measure: measure.to_owned(), unit: unit.to_owned() });
            slots.len() - 1
        }
    };
    u32::try_from(at).ok()
}
