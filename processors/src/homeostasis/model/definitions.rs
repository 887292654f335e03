//! `measures`: what a measure's name cannot say. A ratio of what two selectors take, or a window that is a calendar month.

use std::collections::BTreeMap;

use homeostat_pipeline::interest::Selection;
use homeostat_pipeline::selector::Selector;
use homeostat_pipeline::settings::{Node, Position};

use super::Measure;
use super::place::{Block, Reader};
use super::telemetry::{Record, signal_of};

/// What the model says of one measure.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    at: Position,
    is_monthly: bool,
    ratio: Option<Ratio>,
}

#[derive(Clone, Debug)]
struct Ratio {
    record: Record,
    good: Selector,
    total: Selector,
}

/// Measure name → its definition.
pub(super) type Definitions = BTreeMap<String, Definition>;

/// Those under `measures`, before which those of the requirement's model hold.
pub(super) fn read(block: Block<'_>, outer: &Definitions, reader: &mut Reader) -> Definitions {
    let mut definitions = outer.clone();
    let Some(node) = block.get("measures") else { return definitions };
    for field in reader.any_block(node, "`measures`").fields {
        if let Some(definition) = definition(&field.key, &field.node, reader) {
            definitions.insert(field.key.clone(), definition);
        }
    }
    definitions
}

fn definition(name: &str, node: &Node, reader: &mut Reader) -> Option<Definition> {
    let what = format!("the measure {name}");
    let block = reader.block(node, &what, &["ratio", "window"], &[]);
    let is_monthly = match block.get("window") {
        None => false,
        Some(window) if window.as_text() == Some("calendar_month") => true,
        Some(window) => {
            let message = format!(
                "{} is no window of a measure (write `calendar_month`; other windows are the model's, or stand in conditions: \
                 `avg(1h)`)",
                window.describe()
            );
            reader.error(&window.at, message);
            return None;
        }
    };
    let ratio = match block.get("ratio") {
        Some(node) => Some(ratio(node, reader)?),
        None => None,
    };
    if ratio.is_none() && !is_monthly {
        reader.error(&node.at, format!("nothing is said of {what} (state `ratio` or `window`)"));
        return None;
    }
    Some(Definition { at: node.at.clone(), is_monthly, ratio })
}

fn ratio(node: &Node, reader: &mut Reader) -> Option<Ratio> {
    let block = reader.block(node, "`ratio`", &["good", "total", "signal"], &[]);
    let record = match block.get("signal") {
        Some(node) => reader.read(node)?,
        None => Record::Span,
    };
    let mut selector = |key: &str| {
        let Some(node) = block.get(key) else {
            let message = format!("`ratio` needs `{key}` (a selector, such as `kind == SERVER`)");
            reader.error(block.at, message);
            return None;
        };
        let text: String = reader.read(node)?;
        Selector::parse(&text).map_err(|fault| reader.error(&node.at, fault.to_string())).ok()
    };
    let (good, total) = (selector("good"), selector("total"));
    Some(Ratio { record, good: good?, total: total? })
}

impl Definition {
    /// What the measure's name says, with what is defined here.
    pub(super) fn apply(&self, measure: Measure, reader: &mut Reader) -> Option<Measure> {
        let mut measure = if self.ratio.is_some() { measure.into_ratio() } else { measure };
        measure.is_monthly |= self.is_monthly;
        if let Some(unit) = measure.unit.filter(|_| self.ratio.is_some())
            && unit.dimension() != crate::homeostasis::units::Dimension::Ratio
        {
            let message = format!("{} is a ratio, but its name says `{unit}` (rename it)", measure.name);
            reader.error(&self.at, message);
            return None;
        }
        Some(measure)
    }

    /// What `tag` has to find for it: nothing unless it is a ratio.
    pub(super) fn selections(&self, req: &str, measure: &str) -> Vec<Selection> {
        let Some(ratio) = &self.ratio else { return Vec::new() };
        let of = [&ratio.good, &ratio.total];
        let rows = Measure::ratio_rows(measure);
        rows.into_iter()
            .zip(of)
            .map(|(row, selector)| Selection {
                signal: signal_of(&ratio.record),
                req: req.to_owned(),
                measure: row,
                selector: selector.clone(),
                takes_keyed: true,
            })
            .collect()
    }
}
