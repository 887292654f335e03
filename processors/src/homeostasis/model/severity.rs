//! The severity table: how bad a measure is that has thresholds and no rule of its own, what follows, and how soon someone should
//! answer. `severity_rules` overrides it.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use homeostat_pipeline::finding::Severity;
use homeostat_pipeline::settings::{Node, Period, Position, did_you_mean};
use regex::Regex;

use super::place::{Block, Reader};
use super::rules::ACTIONS;
use super::{Direction, Expectation, LEVELS};

/// One severity of the table.
#[derive(Clone, Debug)]
pub struct SeverityClass {
    /// All of which must hold, on the scale on which higher is worse; empty: no measure is judged to be this.
    pub conditions: Vec<String>,
    /// Where the conditions stand; none for those of the table itself.
    pub at: Option<Position>,
    /// What follows where a rule states no action.
    pub actions: Vec<String>,
    /// How soon someone should answer; none when nobody has to.
    pub answer_within: Option<Duration>,
    /// Who is told.
    pub recipients: Vec<String>,
}

/// Severity → what makes it and what follows from it.
pub type SeverityTable = BTreeMap<Severity, SeverityClass>;

/// The table of the reference.
pub fn standard() -> SeverityTable {
    let class = |conditions: &[&str], actions: &[&str], minutes: Option<u64>, recipients: &[&str]| {
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect();
        SeverityClass {
            conditions: words(conditions),
            at: None,
            actions: words(actions),
            answer_within: minutes.map(|minutes| Duration::from_secs(minutes * 60)),
            recipients: words(recipients),
        }
    };
    BTreeMap::from([
        (
            Severity::Critical,
            class(
                &["value >= threshold.critical", "duration > 5 minutes"],
                &["generate_intent_immediate", "notify_oncall", "create_incident"],
                Some(15),
                &["@oncall", "@slack-incidents"],
            ),
        ),
        (
            Severity::High,
            class(
                &["value >= threshold.warning", "duration > 10 minutes"],
                &["generate_intent_after_review", "notify_team"],
                Some(60),
                &["@team-backend", "@slack-alerts"],
            ),
        ),
        (
            Severity::Medium,
            class(
                &["deviation > 50% from baseline"],
                &["alert_only", "log_to_deviation_history"],
                Some(240),
                &["@slack-monitoring"],
            ),
        ),
        // All that is left: it says how bad an alert is that somebody else raised. Of a measure that is well it makes nothing.
        (Severity::Low, class(&[], &["log_only"], None, &[])),
    ])
}

/// Lays what `severity_rules` states over the table.
pub(super) fn read(node: &Node, table: &mut SeverityTable, reader: &mut Reader) {
    let known = ["critical", "high", "medium", "low"];
    let block = reader.block(node, "`severity_rules`", &known, &[]);
    for field in block.fields {
        let Some(class) = table.iter_mut().find(|(severity, _)| severity.name() == field.key) else {
            continue;
        };
        let (severity, class) = (*class.0, class.1);
        let what = format!("`{}` of `severity_rules`", field.key);
        let keys = ["conditions", "actions", "response_sla", "recipients"];
        let block = reader.block(&field.node, &what, &keys, &[]);
        if let Some(node) = block.get("conditions") {
            let words = reader.words(block, "conditions").unwrap_or_default();
            class.at = Some(node.at.clone());
            class.conditions = words.into_iter().map(|(_, text)| text).collect();
            // A measure that is well would be judged to be low for ever.
            if severity == Severity::Low {
                class.conditions.clear();
            }
        }
        if let Some(actions) = reader.words(block, "actions") {
            for (at, action) in &actions {
                if !ACTIONS.contains(&action.as_str()) {
                    let near = did_you_mean(action, ACTIONS);
                    let known = ACTIONS.join(", ");
                    reader.error(at, format!("unknown action `{action}`{near}; known: {known}"));
                }
            }
            class.actions = actions.into_iter().map(|(_, action)| action).collect();
        }
        if let Some(recipients) = reader.words(block, "recipients") {
            class.recipients = recipients.into_iter().map(|(_, who)| who).collect();
        }
        answer(block, class, reader);
    }
}

fn answer(block: Block<'_>, class: &mut SeverityClass, reader: &mut Reader) {
    let Some(node) = block.get("response_sla") else { return };
    class.answer_within = match node.as_text() {
        Some("none") => None,
        Some(_) | None => reader.read::<Period>(node).map(|period| period.0),
    };
}

/// The condition that makes a measure of this class, in the measure's own direction; none where a level or a baseline that it
/// needs is not stated.
pub(super) fn condition(class: &SeverityClass, expected: &Expectation) -> Option<String> {
    let mut parts = Vec::new();
    for condition in &class.conditions {
        match stated(condition, expected) {
            Stated::All => parts.push(turned(condition, expected.direction)),
            Stated::HoldsAnyway => {}
            Stated::Never => return None,
        }
    }
    let is_about_value = parts.iter().any(|part| !DURATION.is_match(part));
    is_about_value.then(|| parts.join(" and "))
}

/// Whether all that a condition names is there.
enum Stated {
    All,
    /// It asks that a level is not reached which the model does not state.
    HoldsAnyway,
    Never,
}

fn stated(condition: &str, expected: &Expectation) -> Stated {
    let lower = condition.to_lowercase();
    let has_baseline = expected.baseline.is_some_and(|baseline| baseline.center.is_some());
    if !has_baseline && ["baseline", "deviation", "zscore"].iter().any(|word| lower.contains(word)) {
        return Stated::Never;
    }
    let is_missing = LEVELS.iter().any(|(word, level)| {
        lower.contains(&format!("threshold.{word}")) && expected.thresholds.get(*level).is_none()
    });
    match (is_missing, BELOW.is_match(condition)) {
        (false, _) => Stated::All,
        (true, true) => Stated::HoldsAnyway,
        (true, false) => Stated::Never,
    }
}

/// A condition on the scale on which higher is worse, in the measure's direction. With `or` in it, in brackets.
fn turned(condition: &str, direction: Direction) -> String {
    let text = match direction {
        Direction::LowerIsBetter => condition.to_owned(),
        Direction::HigherIsBetter => {
            let turn = |found: &regex::Captures<'_>| {
                format!("{}{}{}", &found["left"], opposite(&found["operator"]), &found["right"])
            };
            COMPARED.replace_all(condition, turn).into_owned()
        }
    };
    if OR.is_match(&text) { format!("({text})") } else { text }
}

fn opposite(operator: &str) -> &'static str {
    match operator {
        ">" => "<",
        "<" => ">",
        ">=" | "≥" => "<=",
        _ => ">=",
    }
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is right: a test compiles it")
}

/// The value beside a level. Conditions hold no text in quotes, so that words are words.
static COMPARED: LazyLock<Regex> = LazyLock::new(|| {
    let value_and_level = r"\bvalue\s*|\bthreshold\.(?:target|warning|critical)\s*";
    let operator = "(?P<operator>>=|<=|≥|≤|>|<)";
    pattern(&format!(
        r"(?i)(?P<left>{value_and_level}){operator}(?P<right>\s*value\b|\s*threshold\.(?:target|warning|critical)\b)"
    ))
});

/// `value < threshold.critical`, alone.
static BELOW: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)^\s*value\s*(<=|≤|<)\s*threshold\.\w+\s*$"));

static OR: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\bor\b|\|\|"));

static DURATION: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)^\s*duration\b"));
