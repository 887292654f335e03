//! The model from its outermost key to the requirements.

use std::collections::BTreeMap;

use homeostat_pipeline::finding::Severity;
use homeostat_pipeline::settings::{Field, Node, Problem, Value, did_you_mean};

use super::definitions::{self, Definitions};
use super::place::{Block, Reader};
use super::{
    Defaults, Model, NoData, Requirement, SeverityTable, Window, flows, inhibition, requirement, severity,
    window,
};

/// See [`Model::read`].
pub(super) fn model(
    node: &Node,
    severity_rules: Option<&Node>,
    hash: &str,
) -> Result<(Model, Vec<Problem>), Vec<Problem>> {
    let mut reader = Reader::default();
    let inner = inner(node, &mut reader);
    let is_bare = !inner.fields.is_empty() && inner.fields.iter().all(|field| is_key(&field.key));
    let mut model = Model {
        hash: hash.to_owned(),
        version: String::new(),
        defaults: Defaults::default(),
        requirements: BTreeMap::new(),
        flows: BTreeMap::new(),
        severities: severity::standard(),
    };
    table(node, inner, severity_rules, &mut model.severities, &mut reader);
    let mut severities = Severities::default();
    let mut measures = Definitions::new();
    let requirements: &[Field] = if is_bare {
        inner.fields
    } else {
        keys_of_model(inner, &mut reader);
        model.version = reader.word(inner, "version").unwrap_or_default();
        if let Some(node) = inner.get("defaults") {
            model.defaults = defaults(node, &mut reader);
        }
        measures = definitions::read(inner, &measures, &mut reader);
        if let Some(node) = inner.get("severity_map") {
            severities.extend(node, &mut reader);
        }
        if let Some(node) = inner.get("flows") {
            model.flows = flows::read(node, &severities, &mut reader);
            if !model.flows.is_empty() {
                reader.warning(&node.at, "`flows` is read and checked, and nothing judges by it yet");
            }
        }
        inner.get("requirements").map_or(&[], |node| reader.any_block(node, "`requirements`").fields)
    };
    for field in requirements {
        let outer = requirement::Outer {
            defaults: &model.defaults,
            severities: &severities,
            measures: &measures,
            table: &model.severities,
        };
        let read = requirement::read(field, &outer, &mut reader);
        add(&mut model.requirements, read, field, &mut reader);
    }
    inhibition::check(&model.requirements, node, &mut reader);
    window::check(&model.defaults.window, &model.requirements, &mut reader);
    if requirements.is_empty() && !reader.problems.iter().any(|problem| !problem.is_warning) {
        let message =
            "the model states no requirement (write `homeostasis_model: { requirements: { REQ-…: … } }`)";
        reader.error(&node.at, message);
    }
    let mut problems = reader.problems;
    problems.sort();
    if problems.iter().any(|problem| !problem.is_warning) { Err(problems) } else { Ok((model, problems)) }
}

/// The severity table: what stands beside the model, in it, or in a file of its own; one of them.
fn table(
    node: &Node,
    inner: Block<'_>,
    own_file: Option<&Node>,
    into: &mut SeverityTable,
    reader: &mut Reader,
) {
    let beside = node.get("homeostasis_model").and(node.get("severity_rules"));
    let in_file = own_file.and_then(|file| {
        reader.block(file, "the file of severity rules", &["severity_rules"], &[]);
        let rules = file.get("severity_rules");
        if rules.is_none() {
            reader.error(
                &file.at,
                "the file holds no severity rules (write `severity_rules: { critical: … }`)",
            );
        }
        rules
    });
    let stated: Vec<&Node> = [beside, inner.get("severity_rules"), in_file].into_iter().flatten().collect();
    if let [_, second, ..] = stated.as_slice() {
        reader.error(&second.at, "`severity_rules` are stated twice (keep one of them)");
    }
    if let Some(first) = stated.first() {
        severity::read(first, into, reader);
    }
}

/// What stands under `homeostasis_model:`, or the whole when that key is left out.
fn inner<'a>(node: &'a Node, reader: &mut Reader) -> Block<'a> {
    match node.get("homeostasis_model") {
        Some(inner) => {
            reader.block(node, "the file", &["homeostasis_model", "severity_rules"], &[]);
            reader.any_block(inner, "`homeostasis_model`")
        }
        None => reader.any_block(node, "the model"),
    }
}

fn keys_of_model(inner: Block<'_>, reader: &mut Reader) {
    let known = [
        "version",
        "generated_at",
        "defaults",
        "severity_map",
        "measures",
        "requirements",
        "flows",
        "severity_rules",
    ];
    let node = Node { at: inner.at.clone(), value: Value::Map(inner.fields.to_vec()) };
    reader.block(&node, "the model", &known, &[]);
}

/// Whether `text` can be a requirement key of a bare mapping.
fn is_key(text: &str) -> bool {
    text.starts_with("REQ-") || text.starts_with("REQ_")
}

fn add(into: &mut BTreeMap<String, Requirement>, read: Requirement, field: &Field, reader: &mut Reader) {
    if let Some(first) = into.get(&read.key) {
        let message = format!("`{}` is stated twice, first at {} (join them)", read.key, first.at);
        reader.error(&field.at, message);
        return;
    }
    into.insert(read.key.clone(), read);
}

fn defaults(node: &Node, reader: &mut Reader) -> Defaults {
    let known = [
        "window",
        "cooldown",
        "keep_firing_for",
        "verify_for",
        "no_data",
        "unknown_is",
        "intent",
        "judge_by_thresholds",
    ];
    let block = reader.block(node, "`defaults`", &known, &[]);
    let standard = Defaults::default();
    Defaults {
        window: block.get("window").map_or_else(Window::default, |node| window::read(node, reader)),
        cooldown: reader.period(block, "cooldown").unwrap_or(standard.cooldown),
        keep_firing_for: reader.period(block, "keep_firing_for").unwrap_or(standard.keep_firing_for),
        verify_for: reader.period(block, "verify_for").unwrap_or(standard.verify_for),
        no_data: block.get("no_data").map_or(standard.no_data, |node| {
            let block = reader.block(node, "`no_data`", &["after", "as"], &[]);
            NoData {
                after: reader.period(block, "after").unwrap_or(standard.no_data.after),
                becomes: reader.take(block, "as").unwrap_or(standard.no_data.becomes),
            }
        }),
        unknown_is: reader.take(block, "unknown_is").unwrap_or(standard.unknown_is),
        auto_approve: block.get("intent").map_or(standard.auto_approve, |node| {
            let block = reader.block(node, "`intent`", &["auto_approve"], &[]);
            reader.take(block, "auto_approve").unwrap_or_default()
        }),
        judge_by_thresholds: reader
            .take(block, "judge_by_thresholds")
            .unwrap_or(standard.judge_by_thresholds),
    }
}

/// The words of severities: the four, `warning`, and those of `severity_map`.
#[derive(Debug)]
pub(super) struct Severities(BTreeMap<String, Severity>);

impl Default for Severities {
    fn default() -> Severities {
        let own = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
        let mut words: BTreeMap<String, Severity> =
            own.into_iter().map(|severity| (severity.name().to_owned(), severity)).collect();
        words.insert("warning".to_owned(), Severity::High);
        Severities(words)
    }
}

impl Severities {
    pub(super) fn get(&self, word: &str) -> Option<Severity> {
        self.0.get(word).copied()
    }

    /// The severity that a node names, or a problem.
    pub(super) fn read(&self, node: &Node, reader: &mut Reader) -> Option<Severity> {
        let word: String = reader.read(node)?;
        let found = self.get(&word);
        if found.is_none() {
            let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            let near = did_you_mean(&word, known.iter().copied());
            let known = known.join(", ");
            let message =
                format!("unknown severity `{word}`{near}; known: {known}; others go into `severity_map`");
            reader.error(&node.at, message);
        }
        found
    }

    fn extend(&mut self, node: &Node, reader: &mut Reader) {
        for field in reader.any_block(node, "`severity_map`").fields {
            let Some(severity) = reader.read::<Severity>(&field.node) else { continue };
            match self.get(&field.key) {
                Some(own) if own.name() == field.key && own != severity => {
                    reader.error(&field.at, format!("`{}` is a severity of its own", field.key));
                }
                Some(_) | None => {
                    self.0.insert(field.key.clone(), severity);
                }
            }
        }
    }
}
