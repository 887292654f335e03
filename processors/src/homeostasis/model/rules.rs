//! `deviation_rules`: read first as drafts, for their operators may say which way a measure is adverse, and compiled when
//! units and directions are settled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use homeostat_pipeline::finding::Severity;
use homeostat_pipeline::settings::{Node, Position, did_you_mean};

use super::inhibition::{self, Inhibitor};
use super::place::{Block, Reader};
use super::read::Severities;
use super::requirement::{Measures, Outer, list, names_of_own};
use super::severity::{self, SeverityTable};
use super::{Expectation, Rule};
use crate::homeostasis::condition::{Fault, Lookback, Parsed};

/// What a rule may ask for.
pub const ACTIONS: [&str; 9] = [
    "generate_intent",
    "generate_intent_immediate",
    "generate_intent_after_review",
    "alert_only",
    "log_only",
    "log_to_deviation_history",
    "notify_oncall",
    "notify_team",
    "create_incident",
];

/// A rule whose condition is not compiled yet.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) at: Position,
    pub(super) measure: String,
    pub(super) condition: Parsed,
    condition_at: Position,
    id: Option<(Position, String)>,
    holds_for: Option<(Position, Duration)>,
    severity: Severity,
    actions: Option<Vec<String>>,
    cooldown: Option<Duration>,
    group_by: Vec<String>,
    inhibited_by: Vec<Inhibitor>,
    runbook: Option<String>,
    is_implicit: bool,
}

/// The rules of one requirement. Those with mistakes are reported and left out.
pub(super) fn drafts(
    block: Block<'_>,
    measures: &Measures,
    severities: &Severities,
    reader: &mut Reader,
) -> Vec<Draft> {
    let Some(node) = block.get("deviation_rules") else { return Vec::new() };
    list(node, "`deviation_rules`", reader)
        .iter()
        .filter_map(|node| draft(node, measures, severities, reader))
        .collect()
}

fn draft(node: &Node, measures: &Measures, severities: &Severities, reader: &mut Reader) -> Option<Draft> {
    let known = [
        "id",
        "metric",
        "condition",
        "for",
        "severity",
        "action",
        "cooldown",
        "group_by",
        "inhibited_by",
        "runbook",
    ];
    let block = reader.block(node, "the rule", &known, &[]);
    let id = block.get("id").and_then(|node| Some((node.at.clone(), reader.read(node)?)));
    let holds_for = block.get("for").and_then(|node| Some((node.at.clone(), reader.period(block, "for")?)));
    let actions = actions(block, reader);
    let cooldown = reader.period(block, "cooldown");
    let labels = reader.words(block, "group_by").unwrap_or_default();
    let labels: BTreeSet<String> = labels.into_iter().map(|(_, label)| label).collect();
    let inhibited_by = inhibition::read(block, reader);
    let runbook = runbook(block, reader);
    // Each of these is reported before the rule is given up.
    let measure = measure(block, measures, reader);
    let severity = severity(block, severities, reader);
    let (condition_at, condition) = condition(block, reader)?;
    Some(Draft {
        at: node.at.clone(),
        measure: measure?,
        condition,
        condition_at,
        id,
        holds_for,
        severity: severity?,
        actions,
        cooldown,
        group_by: labels.into_iter().collect(),
        inhibited_by,
        runbook,
        is_implicit: false,
    })
}

fn measure(block: Block<'_>, measures: &Measures, reader: &mut Reader) -> Option<String> {
    if let Some(node) = block.get("metric") {
        return reader.read(node);
    }
    match names_of_own(measures).as_slice() {
        [only] => Some((*only).to_owned()),
        [] => {
            reader.error(block.at, "the rule names no measure (add `metric`, for example `p95_latency_ms`)");
            None
        }
        several => {
            let names = several.join(", ");
            reader.error(
                block.at,
                format!("the rule does not say which measure it is about (add `metric`: {names})"),
            );
            None
        }
    }
}

fn severity(block: Block<'_>, severities: &Severities, reader: &mut Reader) -> Option<Severity> {
    let Some(node) = block.get("severity") else {
        reader.error(block.at, "the rule has no severity (add `severity`: critical, high, medium or low)");
        return None;
    };
    severities.read(node, reader)
}

fn condition(block: Block<'_>, reader: &mut Reader) -> Option<(Position, Parsed)> {
    let Some(node) = block.get("condition") else {
        reader.error(
            block.at,
            "the rule has no condition (add `condition`, such as `value > threshold.critical`)",
        );
        return None;
    };
    let text: String = reader.read(node)?;
    match Parsed::new(&text) {
        Ok(parsed) => Some((node.at.clone(), parsed)),
        Err(fault) => {
            reader.error(&node.at, fault.to_string());
            None
        }
    }
}

fn actions(block: Block<'_>, reader: &mut Reader) -> Option<Vec<String>> {
    let written = reader.words(block, "action")?;
    for (at, action) in &written {
        if !ACTIONS.contains(&action.as_str()) {
            let near = did_you_mean(action, ACTIONS);
            reader.error(at, format!("unknown action `{action}`{near}; known: {}", ACTIONS.join(", ")));
        }
    }
    Some(written.into_iter().map(|(_, action)| action).collect())
}

fn runbook(block: Block<'_>, reader: &mut Reader) -> Option<String> {
    let node = block.get("runbook")?;
    let link: String = reader.read(node)?;
    if !link.starts_with("https://") && !link.starts_with("http://") {
        reader.error(&node.at, format!("`{link}` is no link (write `https://…`)"));
        return None;
    }
    Some(link)
}

/// The rules of measures with thresholds that no rule is about, made of the severity table. They group as the others do, where
/// those agree.
pub(super) fn implicit<'a>(
    unruled: impl Iterator<Item = &'a Expectation>,
    drafts: &[Draft],
    measures: &Measures,
    table: &SeverityTable,
    reader: &mut Reader,
) -> Vec<Draft> {
    let group_by = drafts.first().map(|first| first.group_by.clone());
    let group_by = group_by.filter(|one| drafts.iter().all(|draft| draft.group_by == *one));
    let mut all = Vec::new();
    for expected in unruled {
        let name = &expected.measure.name;
        let thresholds = expected.thresholds;
        let has_levels = thresholds.warning.is_some() || thresholds.critical.is_some();
        if !has_levels || drafts.iter().any(|draft| draft.measure == *name) {
            continue;
        }
        let Some(at) = measures.get(name).map(|stated| stated.at.clone()) else { continue };
        for (severity, class) in table.iter().rev() {
            let Some(text) = severity::condition(class, expected) else { continue };
            let condition_at = class.at.clone().unwrap_or_else(|| at.clone());
            let condition = match Parsed::new(&text) {
                Ok(condition) => condition,
                Err(fault) => {
                    let message = format!("`{}` of `severity_rules`: {fault}", severity.name());
                    reader.error(&condition_at, message);
                    continue;
                }
            };
            all.push(Draft {
                at: at.clone(),
                measure: name.clone(),
                condition,
                condition_at,
                id: None,
                holds_for: None,
                severity: *severity,
                actions: Some(class.actions.clone()),
                cooldown: None,
                group_by: group_by.clone().unwrap_or_default(),
                inhibited_by: Vec::new(),
                runbook: None,
                is_implicit: true,
            });
        }
    }
    all
}

/// Compiles what has a measure; the rest was reported.
pub(super) fn compile(
    drafts: Vec<Draft>,
    expectations: &BTreeMap<String, Expectation>,
    outer: &Outer<'_>,
    reader: &mut Reader,
) -> (Vec<Rule>, BTreeMap<String, Vec<Lookback>>) {
    let mut ids = Ids::new(&drafts, reader);
    let mut lookbacks: BTreeMap<String, Vec<Lookback>> = BTreeMap::new();
    let rules = drafts
        .into_iter()
        .filter_map(|draft| {
            let expected = expectations.get(&draft.measure)?;
            let id = ids.next(&draft);
            let (condition, warnings) = draft
                .condition
                .compile(expected, lookbacks.entry(draft.measure.clone()).or_default())
                .map_err(|fault| {
                    reader.error(&draft.condition_at, explain(fault, &draft, expected, expectations))
                })
                .ok()?;
            // Nobody wrote an implicit one.
            for warning in warnings.into_iter().filter(|_| !draft.is_implicit) {
                reader.warning(&draft.condition_at, format!("rule {id}: {warning}"));
            }
            let holds_for = holds_for(&draft, condition.holds_for(), reader);
            let class = outer.table.get(&draft.severity);
            Some(Rule {
                id,
                condition,
                holds_for,
                actions: draft
                    .actions
                    .or_else(|| class.map(|class| class.actions.clone()))
                    .unwrap_or_default(),
                recipients: class.map(|class| class.recipients.clone()).unwrap_or_default(),
                answer_within: class.and_then(|class| class.answer_within),
                is_implicit: draft.is_implicit,
                severity: draft.severity,
                cooldown: draft.cooldown.unwrap_or(outer.defaults.cooldown),
                measure: draft.measure,
                group_by: draft.group_by,
                inhibited_by: draft.inhibited_by,
                runbook: draft.runbook,
                at: draft.at,
            })
        })
        .collect();
    lookbacks.retain(|_, lookbacks| !lookbacks.is_empty());
    (rules, lookbacks)
}

/// A measure of which the model states nothing may be a typing error.
fn explain(
    fault: Fault,
    draft: &Draft,
    expected: &Expectation,
    expectations: &BTreeMap<String, Expectation>,
) -> String {
    let is_stated = expected.thresholds != Default::default() || expected.baseline.is_some();
    let others = expectations.keys().map(String::as_str).filter(|name| *name != draft.measure);
    let near = if is_stated { String::new() } else { did_you_mean(&draft.measure, others) };
    if draft.is_implicit {
        let severity = draft.severity.name();
        return format!("`{severity}` of `severity_rules`, for {}: {fault}", draft.measure);
    }
    format!("{fault}{near}")
}

fn holds_for(draft: &Draft, in_condition: Option<Duration>, reader: &mut Reader) -> Duration {
    match (&draft.holds_for, in_condition) {
        (Some((at, stated)), Some(duration)) if *stated != duration => {
            reader.error(at, "`for` and `duration` in the condition differ: keep one of them");
            *stated
        }
        (Some((_, stated)), _) => *stated,
        (None, Some(duration)) => duration,
        (None, None) => Duration::ZERO,
    }
}

/// Unique ids within a requirement.
struct Ids(BTreeSet<String>);

impl Ids {
    /// Those that are stated, of which repeated ones are reported.
    fn new(drafts: &[Draft], reader: &mut Reader) -> Ids {
        let mut stated = BTreeSet::new();
        for (at, id) in drafts.iter().filter_map(|draft| draft.id.as_ref()) {
            if !stated.insert(id.clone()) {
                reader.error(at, format!("two rules of the requirement have the id `{id}`: change one"));
            }
        }
        Ids(stated)
    }

    /// The stated id, else `{measure}-{severity}`, numbered from 2 where that is taken.
    fn next(&mut self, draft: &Draft) -> String {
        if let Some((_, id)) = &draft.id {
            return id.clone();
        }
        let plain = format!("{}-{}", draft.measure, draft.severity.name());
        let mut id = plain.clone();
        let mut number = 1;
        while !self.0.insert(id.clone()) {
            number += 1;
            id = format!("{plain}-{number}");
        }
        id
    }
}
