//! `flows`: what a declared flow is expected to do, step by step. Read and checked here; conformance judges by it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use homeostat_pipeline::finding::Severity;
use homeostat_pipeline::selector::Selector;
use homeostat_pipeline::settings::{Field, Node, Position, did_you_mean};
use serde::Deserialize;

use super::place::{Block, Reader};
use super::read::Severities;
use super::requirement::list;

/// What one flow is expected to do.
#[derive(Clone, Debug)]
pub struct Flow {
    /// In the order written; ids are unique.
    pub steps: Vec<Step>,
    /// Pairs of step ids: the first comes before the second. Never a circle.
    pub order: Vec<(String, String)>,
    /// Whether other activity is expected too; true by default.
    pub allow_unknown: bool,
    /// How long after its last step a trace is judged; 30 s.
    pub complete_after: Duration,
    /// Whose other activity counts.
    pub capture: Capture,
    /// Where it stands.
    pub at: Position,
}

/// One expected step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Unique within the flow.
    pub id: String,
    /// Which spans are this step.
    pub selector: Selector,
    /// At least so often; 1.
    pub min: u32,
    /// At most so often; none when it may repeat.
    pub max: Option<u32>,
    /// How bad it is when it is missing; medium.
    pub missing_severity: Severity,
}

/// Which other spans count as activity of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// Those that carry the flow.
    #[default]
    Flow,
    /// All of the trace.
    Trace,
}

/// Reads `flows`.
pub(super) fn read(node: &Node, severities: &Severities, reader: &mut Reader) -> BTreeMap<String, Flow> {
    let mut flows = BTreeMap::new();
    for field in reader.any_block(node, "`flows`").fields {
        let parts: Vec<&str> = field.key.split(':').collect();
        if parts.len() != 3 || parts[0] != "sea" || parts[1].is_empty() || parts[2].is_empty() {
            let message =
                format!("`{}` is no flow (write `sea:context:flow`, such as `sea:auth:Login`)", field.key);
            reader.error(&field.at, message);
        }
        flows.insert(field.key.clone(), flow(field, severities, reader));
    }
    flows
}

fn flow(field: &Field, severities: &Severities, reader: &mut Reader) -> Flow {
    let known = ["steps", "order", "allow_unknown", "complete_after", "capture"];
    let block = reader.block(&field.node, &field.key, &known, &[]);
    let steps: Vec<Step> = block.get("steps").map_or(Vec::new(), |node| {
        let nodes = list(node, "`steps`", reader);
        nodes.iter().filter_map(|node| step(node, severities, reader)).collect()
    });
    if block.get("steps").is_none() {
        let message = format!("{} has no steps (add `steps: [{{ id: …, match: … }}]`)", field.key);
        reader.error(&field.at, message);
    }
    let mut seen = BTreeSet::new();
    let places = block.get("steps").map_or(&[][..], |node| match &node.value {
        homeostat_pipeline::settings::Value::List(nodes) => nodes,
        _ => &[],
    });
    for node in places {
        if let Some(id) = node.get("id").and_then(Node::as_text)
            && !seen.insert(id)
        {
            reader.error(&node.at, format!("two steps of {} have the id `{id}`: change one", field.key));
        }
    }
    Flow {
        order: order(block, &steps, reader),
        steps,
        allow_unknown: reader.take(block, "allow_unknown").unwrap_or(true),
        complete_after: reader.period(block, "complete_after").unwrap_or(Duration::from_secs(30)),
        capture: reader.take(block, "capture").unwrap_or_default(),
        at: field.at.clone(),
    }
}

fn step(node: &Node, severities: &Severities, reader: &mut Reader) -> Option<Step> {
    let block = reader.block(node, "the step", &["id", "match", "min", "max", "missing_severity"], &[]);
    let selector = selector(block, reader);
    let missing = match block.get("missing_severity") {
        Some(node) => severities.read(node, reader),
        None => Some(Severity::Medium),
    };
    let min = reader.take(block, "min").unwrap_or(1);
    let max: Option<u32> = reader.take(block, "max");
    if let Some(node) = block.get("max")
        && max.is_some_and(|max| max < min.max(1))
    {
        reader.error(&node.at, format!("`max` is below `min` {} (raise it)", min.max(1)));
    }
    if block.get("id").is_none() {
        reader.error(block.at, "the step has no `id` (name it, so that `order` and findings can)");
    }
    let id = reader.word(block, "id")?;
    Some(Step { id, selector: selector?, min, max, missing_severity: missing? })
}

fn selector(block: Block<'_>, reader: &mut Reader) -> Option<Selector> {
    let Some(node) = block.get("match") else {
        reader.error(block.at, "the step matches nothing (add `match`, such as `name == \"POST /login\"`)");
        return None;
    };
    let text: String = reader.read(node)?;
    match Selector::parse(&text) {
        Ok(selector) if selector.literals().is_none() => {
            let message = format!(
                "`{text}` holds no text to look for, so that every span would have to be decoded (add a name or a service: \
                 `… and resource[\"service.name\"] == \"auth\"`)"
            );
            reader.error(&node.at, message);
            None
        }
        Ok(selector) => Some(selector),
        Err(error) => {
            reader.error(&node.at, error.to_string());
            None
        }
    }
}

/// `["http < db", "db < audit < answer"]` as pairs.
fn order(block: Block<'_>, steps: &[Step], reader: &mut Reader) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (at, text) in reader.words(block, "order").unwrap_or_default() {
        let ids: Vec<&str> = text.split('<').map(str::trim).collect();
        if ids.len() < 2 || ids.iter().any(|id| id.is_empty()) {
            reader.error(&at, format!("`{text}` is no order (write `first < second`)"));
            continue;
        }
        let is_known = |id: &str| steps.iter().any(|step| step.id == id);
        if let Some(unknown) = ids.iter().find(|id| !is_known(id)) {
            let near = did_you_mean(unknown, steps.iter().map(|step| step.id.as_str()));
            reader.error(&at, format!("`{unknown}` is no step of the flow{near}"));
            continue;
        }
        for pair in ids.windows(2) {
            if pair[0] == pair[1] || comes_before(&pairs, pair[1], pair[0]) {
                let message =
                    format!("`{text}` contradicts the order: `{}` comes before `{}`", pair[1], pair[0]);
                reader.error(&at, message);
                break;
            }
            pairs.push((pair[0].to_owned(), pair[1].to_owned()));
        }
    }
    pairs
}

/// Whether `one` comes before `other` already, directly or by others. The pairs hold no circle.
fn comes_before(pairs: &[(String, String)], one: &str, other: &str) -> bool {
    pairs
        .iter()
        .filter(|(first, _)| first == one)
        .any(|(_, next)| next == other || comes_before(pairs, next, other))
}
