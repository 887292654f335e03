//! Where a row goes: which panes, which slots. It follows from the row's texts, which repeat: within a batch a route is found by
//! dictionary keys, across batches its steps are found by the texts themselves, and only what was never seen is worked out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::evidence::columns::{Columns, Texts};
use homeostat_pipeline::evidence::point::Series;
use homeostat_pipeline::evidence::schema::TextColumn;
use homeostat_pipeline::finding::hex;

use super::super::units::Unit;
use super::points::Take;
use super::ruled::{Group, Ruled, Slot};
use super::subject::{Identity, Subjects};
use super::window::{Span, Windows};

/// Durations of spans: the unit of ordinary values, and slot 0.
pub const ORDINARY_UNIT: &str = "ns";
/// Of a unit that nobody knows: what has it only counts.
const NO_UNIT: &str = "?";
const ABSENT: u32 = u32::MAX;
/// More combinations of texts than this are not remembered across batches, nor more than two for each subject that there may be.
const PATHS_MAX: usize = 65_536;

/// The texts of which one route differs from another: the first [`DECIDING`] say where a row goes, the others what its pane
/// is told of it.
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

const DECIDING: usize = 9;
/// Longer labels and names of flows are cut, and end in a hash.
const NAME_BYTES_MAX: usize = 256;

/// [`KEYS`] of a row as dictionary keys of one batch, and whether it is primary, its method and its status.
type RouteKey = [u32; KEYS.len() + 1];

/// Multiplies and rotates: the keys are small numbers of our own, which nobody chooses against us.
#[derive(Default)]
pub struct Mix(u64);

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

/// A pane and a slot of it, whatever the window.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Whose pane.
    pub subject: u64,
    /// Which distribution in it.
    pub slot: u32,
    /// Whether the lowest values are the ones to look at.
    pub wants_low: bool,
    /// Whether the value is of the slot's kind; if not, the row only counts.
    pub takes_value: bool,
    /// Whether the pane is a node's.
    pub is_node: bool,
    /// Whether its minutes are told apart as up and down.
    pub needs_minutes: bool,
}

/// A step, and where it leads in the route's window.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// Which pane.
    pub step: Step,
    /// Of the pane in the window, and of the distribution in the pane.
    pub place: (usize, usize),
}

/// Where the rows of one combination of texts go.
#[derive(Debug)]
pub struct Route {
    /// None when nobody wants the rows.
    pub stops: Vec<Stop>,
    /// The window that the places in the stops belong to.
    pub span: Option<Span>,
    /// How the requirement or flow was found.
    pub method: u8,
    /// Whether the expected attributes are there.
    pub status: u8,
    /// Whether its node found no room.
    pub is_overflowed: bool,
    /// Whether the rows are data points, whose slots depend on more than texts.
    pub is_point: bool,
    /// The row's unit, by the name that slots have for it.
    pub unit: &'static str,
}

/// The steps of a combination of texts.
#[derive(Debug, Default)]
struct Path {
    steps: Vec<Step>,
    is_overflowed: bool,
    unit: &'static str,
}

/// The steps that were worked out before. Forgotten whenever a subject goes or the model changes: what is remembered is always what
/// would be worked out again.
#[derive(Debug, Default)]
pub struct Paths {
    /// By a hash of 128 bits of the texts, for texts may be long.
    by_texts: HashMap<[u8; 16], Arc<Path>>,
    generation: u64,
    scratch: Vec<u8>,
}

impl Paths {
    /// Forgets all of them if the subjects are of another generation.
    pub fn refresh(&mut self, generation: u64) {
        if self.generation != generation {
            self.by_texts.clear();
            self.generation = generation;
        }
    }
}

/// The routes of one batch, made as they are met.
pub struct Routes<'a> {
    columns: &'a Columns,
    /// Those of [`KEYS`] that say something in this batch, and their places.
    present: Vec<(usize, &'a Texts)>,
    by_key: HashMap<RouteKey, usize, BuildHasherDefault<Mix>>,
    all: Vec<Route>,
    last: Option<(RouteKey, usize)>,
}

impl<'a> Routes<'a> {
    /// None yet.
    pub fn new(columns: &'a Columns) -> Routes<'a> {
        let texts = KEYS.into_iter().map(|column| columns.texts(column)).enumerate();
        let present = texts.filter(|(_, texts)| !texts.is_absent()).collect();
        Routes { columns, present, by_key: HashMap::default(), all: Vec::new(), last: None }
    }

    /// The route of a row, and the row's texts.
    pub fn find(&mut self, row: usize, maker: Maker<'_>) -> (&mut Route, Said<'a>) {
        let columns = self.columns;
        let mut key = [ABSENT; KEYS.len() + 1];
        for (place, texts) in &self.present {
            key[*place] = texts.key(row).unwrap_or(ABSENT);
        }
        let is_primary = columns.is_primary(row);
        let (method, status) = (columns.method(row) as u8, columns.status(row) as u8);
        let is_point = columns.sketch(row).is_some();
        key[KEYS.len()] = u32::from_le_bytes([method, status, u8::from(is_primary), u8::from(is_point)]);
        let said = Said { columns, row };
        let known = match self.last {
            Some((last, at)) if last == key => Some(at),
            Some(_) | None => self.by_key.get(&key).copied(),
        };
        let at = known.unwrap_or_else(|| {
            let path = maker.path(&said, is_primary, is_point);
            let stops = path.steps.iter().map(|step| Stop { step: *step, place: (0, 0) }).collect();
            let is_overflowed = path.is_overflowed;
            let unit = path.unit;
            self.all.push(Route { stops, span: None, method, status, is_overflowed, is_point, unit });
            self.by_key.insert(key, self.all.len() - 1);
            self.all.len() - 1
        });
        self.last = Some((key, at));
        (&mut self.all[at], said)
    }
}

/// The texts of one row; empty where absent.
#[derive(Clone, Copy)]
pub struct Said<'a> {
    columns: &'a Columns,
    row: usize,
}

impl<'a> Said<'a> {
    /// What the row says in a column.
    pub fn get(&self, column: TextColumn) -> &'a str {
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

/// Works out paths.
pub struct Maker<'a> {
    /// Whose rules.
    pub ruled: &'a Ruled,
    /// Which subjects.
    pub subjects: &'a mut Subjects,
    /// Slots by number.
    pub slots: &'a mut Vec<Slot>,
    /// At most this many subjects.
    pub subjects_max: usize,
    /// What was worked out before.
    pub paths: &'a mut Paths,
    /// The entry's time.
    pub now: Timestamp,
}

impl Maker<'_> {
    fn path(mut self, said: &Said<'_>, is_primary: bool, is_point: bool) -> Arc<Path> {
        let mut texts = std::mem::take(&mut self.paths.scratch);
        texts.clear();
        for column in &KEYS[..DECIDING] {
            texts.extend_from_slice(said.get(*column).as_bytes());
            // No byte of UTF-8, so that texts cannot run together.
            texts.push(0xff);
        }
        texts.extend([u8::from(is_primary), u8::from(is_point)]);
        let hash = Series::id(&texts);
        let known = self.paths.by_texts.get(&hash).cloned();
        let path = known.unwrap_or_else(|| {
            let path = Arc::new(self.work_out(said, is_primary, is_point));
            // What is over the limit of subjects is without limit.
            let is_bounded =
                !path.is_overflowed && !path.steps.iter().any(|step| self.subjects.is_overflow(step.subject));
            if is_bounded && self.paths.by_texts.len() < PATHS_MAX.max(2 * self.subjects_max) {
                self.paths.by_texts.insert(hash, Arc::clone(&path));
            }
            path
        });
        self.paths.scratch = texts;
        path
    }

    fn work_out(&mut self, said: &Said<'_>, is_primary: bool, is_point: bool) -> Path {
        let mut path = Path { unit: unit_of(said.get(TextColumn::Unit)), ..Path::default() };
        let req = said.get(TextColumn::Req);
        let measure = said.get(TextColumn::Measure);
        let groups: &[Group] = self.ruled.groups.get(req).map_or(&[], Vec::as_slice);
        for group in groups.iter().filter(|group| group.takes(measure)) {
            let labels = labels(group, said);
            if is_point && measure.is_empty() && said.get(TextColumn::Unit).is_empty() {
                // Nothing says what its numbers are.
                continue;
            }
            let identity = Identity::Requirement { req: req.to_owned(), labels };
            let unit = match path.unit {
                "" if measure.is_empty() => ORDINARY_UNIT,
                unit => unit,
            };
            let slot = if is_point { Some(0) } else { slot(self.slots, measure, unit, Take::Observations) };
            let subject = self.subjects.intern(identity, self.subjects_max);
            if let Some(subject) = subject.filter(|_| group.is_remembered()) {
                self.subjects.remember(subject, group, self.now);
            }
            if let (Some(subject), Some(slot)) = (subject, slot) {
                let wants_low = group.wants_low(measure);
                let needs_minutes = !is_point && unit == ORDINARY_UNIT && group.needs_minutes(measure);
                path.steps.push(Step {
                    subject,
                    slot,
                    wants_low,
                    takes_value: true,
                    is_node: false,
                    needs_minutes,
                });
            }
        }
        // Spans are what a flow does; points of the same would count it twice.
        let node = if is_primary && !is_point { node(said, self.ruled) } else { None };
        let Some(identity) = node else { return path };
        let Some(subject) = self.subjects.intern(identity, self.subjects_max) else {
            path.is_overflowed = true;
            return path;
        };
        let takes_value = said.get(TextColumn::Unit) == ORDINARY_UNIT;
        path.steps.push(Step {
            subject,
            slot: 0,
            wants_low: false,
            takes_value,
            is_node: true,
            needs_minutes: false,
        });
        path
    }
}

fn labels(group: &Group, said: &Said<'_>) -> BTreeMap<String, String> {
    if group.labels.is_empty() {
        return BTreeMap::new();
    }
    let others = serde_json::from_str(said.get(TextColumn::Labels)).unwrap_or_default();
    group.labels.iter().map(|name| (name.clone(), shortened(said.label(name, &others)))).collect()
}

/// A text as subjects are told apart by: of a long one its beginning and a hash of all of it, so that senders cannot fill the memory.
fn shortened(text: String) -> String {
    if text.len() <= NAME_BYTES_MAX {
        return text;
    }
    let hash = hex(&Series::id(text.as_bytes()));
    let end = text.floor_char_boundary(NAME_BYTES_MAX - hash.len() - '…'.len_utf8());
    format!("{}…{hash}", &text[..end])
}

/// The node that the row names; else the one that its requirement states in the model.
fn node(said: &Said<'_>, ruled: &Ruled) -> Option<Identity> {
    let (named, context, flow) =
        (said.get(TextColumn::SpecNode), said.get(TextColumn::Context), said.get(TextColumn::Flow));
    if !named.is_empty() {
        let [node, context, flow] = [named, context, flow].map(|text| shortened(text.to_owned()));
        return Some(Identity::Node { node, context, flow });
    }
    let stated = ruled.model.requirements.get(said.get(TextColumn::Req))?.spec_node.as_deref()?;
    let (context, flow) = stated.strip_prefix("sea:").and_then(|rest| rest.split_once(':'))?;
    Some(Identity::Node { node: stated.to_owned(), context: context.to_owned(), flow: flow.to_owned() })
}

/// What slots call a unit: senders write it in any way, and there are as many slots as the model can tell apart.
fn unit_of(text: &str) -> &'static str {
    match text {
        "" => "",
        // A share where the measure is one, else a number.
        "1" => "1",
        _ => Unit::parse(text).map_or(NO_UNIT, Unit::name),
    }
}

/// The number of a slot, made when it is new; none past the limit, which only a model of absurd size reaches.
pub fn slot(slots: &mut Vec<Slot>, measure: &str, unit: &str, take: Take) -> Option<u32> {
    let known =
        slots.iter().position(|slot| slot.take == take && slot.measure == measure && slot.unit == unit);
    let at = match known.or_else(|| slots.iter().position(Slot::is_vacant)) {
        Some(at) => at,
        None if slots.len() >= usize::from(u16::MAX) => return None,
        None => {
            slots.push(Slot::vacant());
            slots.len() - 1
        }
    };
    if known.is_none() {
        slots[at] = Slot { measure: measure.to_owned(), unit: unit.to_owned(), take };
    }
    u32::try_from(at).ok()
}

/// Under another model: the slots that no pane holds anything in are there for others.
pub fn vacate(slots: &mut [Slot], windows: &Windows) {
    let panes = windows.values().flat_map(|window| window.panes());
    let used: BTreeSet<u32> = panes.flat_map(|(_, pane)| pane.slots()).collect();
    // The first is that of spans, whoever looks at them.
    let vacant = (0_u32..).zip(slots).skip(1).filter(|(number, _)| !used.contains(number));
    vacant.for_each(|(_, slot)| *slot = Slot::vacant());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_and_still_told_apart() {
        assert_eq!(shortened("a".repeat(256)), "a".repeat(256));
        let (one, other) = (shortened("ä".repeat(300)), shortened(format!("{}b", "ä".repeat(299))));
        assert!(one.len() <= NAME_BYTES_MAX && one.starts_with("ää"), "{one}");
        assert_ne!(one, other);
        assert_eq!(one, shortened("ä".repeat(300)));
    }
}
