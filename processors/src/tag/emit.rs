//! From what was found about one record to its rows.

use std::fmt::Write as _;

use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::evidence::{Blob, Correlation, Kind, Method, Row, Rows, Text};
use homeostat_pipeline::selector::{Fields, Scalar};

use super::keys::Key;
use super::level::{Keys, VALUE_BYTES_MAX, shorten};
use super::session::Session;
use super::vocabulary::{Sea, SeaTexts};

/// Texts that are often the same as in the row before, and after them one per [`Sea`].
#[derive(Clone, Copy)]
enum Slot {
    Name,
    Service,
    Environment,
    Req,
    Version,
    Also,
    Measure,
    SpecNode,
    Labels,
    Unit,
    Sea,
}

/// The handles of the row before.
#[derive(Debug, Default)]
pub struct Texts {
    last: [Text; Slot::Sea as usize + Sea::ALL.len()],
    /// The context and the flow that the last spec node is of.
    node: (Text, Text),
    scratch: String,
}

impl Texts {
    fn text(&mut self, rows: &mut Rows, slot: usize, text: &str, cut: &mut u64) -> Text {
        if text.is_empty() {
            return Text::NONE;
        }
        let text = shorten(text, VALUE_BYTES_MAX, cut);
        let last = &mut self.last[slot];
        if rows.text(*last) != text {
            *last = rows.intern(text);
        }
        *last
    }
}

/// A row that says nothing yet.
pub fn blank(signal: Signal) -> Row {
    Row {
        time: Timestamp::ZERO,
        signal,
        is_primary: false,
        is_error: false,
        kind: Kind::Unspecified,
        req: Text::NONE,
        req_version: Text::NONE,
        also: Text::NONE,
        flow: Text::NONE,
        context: Text::NONE,
        domain: Text::NONE,
        concept: Text::NONE,
        regime: Text::NONE,
        policy: Text::NONE,
        service: Text::NONE,
        environment: Text::NONE,
        name: Text::NONE,
        measure: Text::NONE,
        value: f64::NAN,
        unit: Text::NONE,
        count: 1,
        sketch: Blob::NONE,
        trace_id: [0; 16],
        span_id: [0; 8],
        spec_node: Text::NONE,
        confidence: 0.0,
        status: Correlation::Partial,
        method: Method::Flow,
        labels: Text::NONE,
        source: Text::NONE,
    }
}

/// What the correlation rests on: context and flow 1.0, one of them by an alias 0.8, the flow alone 0.5, nothing 0.
fn confidence(sea: &SeaTexts<'_>) -> f32 {
    match (sea[Sea::Flow as usize], sea[Sea::Context as usize]) {
        (Some((_, false)), Some((_, false))) => 1.0,
        (Some(_), Some(_)) => 0.8,
        (Some(_), None) => 0.5,
        (None, _) => 0.0,
    }
}

impl<'a> Session<'_, 'a> {
    /// The rows of a record whose keys are in `self.keys`.
    pub(super) fn emit(&mut self, mut row: Row, name: &'a str, unit: &str, record: &dyn Fields) {
        let mut sea = self.record.sea;
        for (index, slot) in sea.iter_mut().enumerate() {
            *slot = slot.or(self.scope.sea[index]).or(self.resource.sea[index]);
        }
        let keys = std::mem::take(&mut self.keys);
        let first = self.rows.len();
        let mut is_shared = false;
        if !keys.all().is_empty() || sea[Sea::Flow as usize].is_some() {
            self.share(&mut row, name, unit, &sea);
            is_shared = true;
            self.ordinary(&row, &keys, record);
        }
        for selection in &self.plan.selections {
            // The ordinary row of a requirement feeds all of its measures already, or a selection takes it too; the rows of a point
            // with the key are those of all its selections.
            let is_known = keys.all().iter().any(|found| found.key.is(&selection.req));
            let is_fed = is_known && (!selection.takes_keyed || selection.signal == Signal::Metrics);
            if is_fed || !selection.selector.matches(record) {
                continue;
            }
            let is_twice = self.rows.rows()[first..].iter().any(|row| {
                row.method == Method::Selector
                    && self.rows.text(row.req) == selection.req
                    && self.rows.text(row.measure) == selection.measure
            });
            if is_twice {
                continue;
            }
            if !is_shared {
                self.share(&mut row, name, unit, &sea);
                is_shared = true;
            }
            let value = self.selected_value(&row, &selection.measure);
            let req = self.text(Slot::Req, &selection.req);
            let measure = self.text(Slot::Measure, &selection.measure);
            let is_primary = self.rows.len() == first;
            self.rows.push(Row { req, measure, value, is_primary, method: Method::Selector, ..row });
        }
        self.keys = keys;
    }

    /// Gives `row` what all rows of a record share.
    fn share(&mut self, row: &mut Row, name: &str, unit: &str, sea: &SeaTexts<'a>) {
        let mut text = |of: Sea| {
            let value = sea[of as usize].map_or("", |(text, _)| text);
            self.texts.text(&mut self.rows, Slot::Sea as usize + of as usize, value, &mut self.cut.values)
        };
        [row.flow, row.context, row.domain, row.concept, row.regime, row.policy] = Sea::ALL.map(&mut text);
        row.spec_node = self.spec_node(row.context, row.flow);
        let (service, environment) = (self.service, self.environment);
        row.service = self.text(Slot::Service, service);
        row.environment = self.text(Slot::Environment, environment);
        row.name = self.text(Slot::Name, name);
        row.unit = self.text(Slot::Unit, unit);
        row.labels = self.labels();
        row.confidence = confidence(sea);
        row.status = self.plan.expected.status(sea);
    }

    /// One row per key, each with the numbers of a log record; without keys one row for the flow.
    fn ordinary(&mut self, row: &Row, keys: &Keys<'a>, record: &dyn Fields) {
        if keys.all().is_empty() {
            self.rows.push(Row { is_primary: true, method: Method::Flow, ..*row });
            return;
        }
        for (index, found) in keys.all().iter().enumerate() {
            let mut scratch = std::mem::take(&mut self.texts.scratch);
            let req = if found.key.is_underscored {
                scratch.clear();
                found.key.canonical_into(&mut scratch);
                self.text(Slot::Req, &scratch)
            } else {
                self.text(Slot::Req, found.key.written)
            };
            scratch.clear();
            for (other, found) in keys.all().iter().enumerate() {
                if other != index {
                    if !scratch.is_empty() {
                        scratch.push(',');
                    }
                    found.key.canonical_into(&mut scratch);
                }
            }
            let also = self.text(Slot::Also, &scratch);
            self.texts.scratch = scratch;
            let req_version = self.text(Slot::Version, found.key.version);
            let (is_primary, method) = (index == 0, found.method);
            let row = Row { req, req_version, also, method, is_primary, ..*row };
            match row.signal {
                Signal::Metrics => self.measured(row, found.key, record),
                Signal::Traces => self.rows.push(row),
                Signal::Logs => {
                    self.rows.push(row);
                    self.numbers(row);
                }
            }
        }
    }

    /// The rows of a data point for one of its keys: what the requirement's selectors make of it; else the measure that the
    /// metric is named after (`queue.depth` is `queue_depth`), or none.
    fn measured(&mut self, row: Row, key: Key<'a>, record: &dyn Fields) {
        let plan = self.plan;
        let first = self.rows.len();
        for selection in &plan.selections {
            if !key.is(&selection.req) || !selection.selector.matches(record) {
                continue;
            }
            let measure = self.text(Slot::Measure, &selection.measure);
            if self.rows.rows()[first..].iter().all(|row| row.measure != measure) {
                let is_primary = row.is_primary && self.rows.len() == first;
                self.rows.push(Row { measure, is_primary, ..row });
            }
        }
        if self.rows.len() == first {
            let name = self.rows.text(row.name).replace('.', "_");
            let field = plan.vocabulary.fields.iter().find(|field| **field == name);
            let measure = field.map_or(Text::NONE, |field| self.text(Slot::Measure, field));
            self.rows.push(Row { measure, ..row });
        }
    }

    /// A row per numeric field of a log record that the model measures by.
    fn numbers(&mut self, row: Row) {
        let plan = self.plan;
        for (index, field) in plan.vocabulary.fields.iter().enumerate() {
            if let Some(value) = self.record.fields[index] {
                let measure = self.text(Slot::Measure, field);
                self.rows.push(Row { measure, value, is_primary: false, ..row });
            }
        }
    }

    /// A span gives its duration to a selection; a log record the number whose name the measure ends in (`latency_ms` for
    /// `p95_latency_ms`), if it has one.
    fn selected_value(&self, base: &Row, measure: &str) -> f64 {
        let fields = self.plan.vocabulary.fields.iter().zip(&self.record.fields);
        match base.signal {
            Signal::Traces | Signal::Metrics => base.value,
            Signal::Logs => fields
                .filter(|(field, _)| measure.ends_with(field.as_str()))
                .find_map(|(_, value)| *value)
                .unwrap_or(f64::NAN),
        }
    }

    fn text(&mut self, slot: Slot, text: &str) -> Text {
        self.texts.text(&mut self.rows, slot as usize, text, &mut self.cut.values)
    }

    /// `sea:{context}:{flow}`, only where both are there.
    fn spec_node(&mut self, context: Text, flow: Text) -> Text {
        if context.is_none() || flow.is_none() {
            return Text::NONE;
        }
        let slot = Slot::SpecNode as usize;
        if self.texts.node != (context, flow) {
            let node = format!("sea:{}:{}", self.rows.text(context), self.rows.text(flow));
            self.texts.last[slot] = self.rows.intern(&node);
            self.texts.node = (context, flow);
        }
        self.texts.last[slot]
    }

    /// The labels as a JSON object, each from the record, else the scope, else the resource.
    fn labels(&mut self) -> Text {
        let plan = self.plan;
        if plan.vocabulary.labels.is_empty() {
            return Text::NONE;
        }
        let mut json = std::mem::take(&mut self.texts.scratch);
        json.clear();
        for (index, label) in plan.vocabulary.labels.iter().enumerate() {
            let value =
                self.record.labels[index].or(self.scope.labels[index]).or(self.resource.labels[index]);
            let Some(value) = value else { continue };
            json.push(if json.is_empty() { '{' } else { ',' });
            let before = json.len();
            let written = match value {
                Scalar::Text(text) => {
                    let text = shorten(text, VALUE_BYTES_MAX, &mut self.cut.values);
                    write!(json, "{}:{}", quoted(label), quoted(text))
                }
                Scalar::Bool(value) => write!(json, "{}:\"{value}\"", quoted(label)),
                Scalar::Integer(value) => write!(json, "{}:\"{value}\"", quoted(label)),
                Scalar::Float(value) => write!(json, "{}:\"{value}\"", quoted(label)),
                Scalar::Composite => Err(std::fmt::Error),
            };
            if written.is_err() {
                json.truncate(before - 1);
            }
        }
        if !json.is_empty() {
            json.push('}');
        }
        let labels = self.whole(Slot::Labels, &json);
        self.texts.scratch = json;
        labels
    }

    /// Like `text`, for texts that must not be cut.
    fn whole(&mut self, slot: Slot, text: &str) -> Text {
        let last = self.texts.last[slot as usize];
        if text.is_empty() || self.rows.text(last) == text {
            return if text.is_empty() { Text::NONE } else { last };
        }
        let interned = self.rows.intern(text);
        self.texts.last[slot as usize] = interned;
        interned
    }
}

/// `text` as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
