//! What changes for people when one model takes the place of another: compared as they hold, so that a rewording is no difference.

use std::collections::{BTreeMap, BTreeSet};

use homeostat_pipeline::finding::Level;
use serde::Serialize;

use super::view::{MeasureView, RequirementView, RuleView};
use super::{Direction, LEVELS, Model, View};

/// One thing that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The requirement; none when all are meant.
    pub req_id: Option<String>,
    /// The measure that it is about, where it is about one.
    pub measure: Option<String>,
    /// What: `p95_latency_ms: threshold warning`.
    pub what: String,
    /// As it was; none when it was not there.
    pub before: Option<String>,
    /// As it will be; none when it goes.
    pub after: Option<String>,
    /// `stricter` or `looser`, for thresholds.
    pub effect: Option<&'static str>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "{}: {before} → {after}", self.what)?,
            (None, Some(after)) => write!(f, "{} added: {after}", self.what)?,
            (Some(before), None) => write!(f, "{} removed: {before}", self.what)?,
            (None, None) => f.write_str(&self.what)?,
        }
        self.effect.map_or(Ok(()), |effect| write!(f, " ({effect})"))
    }
}

/// A name, and what it is about, where it is about one measure.
type Name = (Option<String>, String);

/// Names and what they say.
type Facts = BTreeMap<Name, String>;

/// What differs, sorted: first what all requirements share, then requirement by requirement.
pub fn differences(before: &Model, after: &Model) -> Vec<Difference> {
    let (old, new) = (View::of(before), View::of(after));
    let mut all = compare(None, &shared(&old), &shared(&new));
    let by_key = |view: &View| -> BTreeMap<String, RequirementView> {
        view.requirements.iter().map(|one| (one.req_id.clone(), one.clone())).collect()
    };
    let (old, new) = (by_key(&old), by_key(&new));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        match (old.get(key), new.get(key)) {
            (Some(old), Some(new)) => {
                let mut found = compare(Some(key), &of_requirement(old), &of_requirement(new));
                for difference in &mut found {
                    difference.effect = effect(before, after, key, difference);
                }
                all.extend(found);
            }
            (old, new) => all.push(Difference {
                req_id: Some(key.clone()),
                measure: None,
                what: "requirement".to_owned(),
                before: old.map(in_short),
                after: new.map(in_short),
                effect: None,
            }),
        }
    }
    all
}

fn in_short(requirement: &RequirementView) -> String {
    let title = requirement.about.get("title").map_or("untitled", String::as_str);
    format!("{title}, {} measures, {} rules", requirement.measures.len(), requirement.rules.len())
}

fn shared(view: &View) -> Facts {
    let mut facts: Facts =
        view.defaults.iter().map(|(key, value)| ((None, format!("default {key}")), value.clone())).collect();
    facts.extend(view.flows.iter().map(|(name, steps)| ((None, format!("flow {name}")), steps.join("; "))));
    facts
}

fn of_requirement(requirement: &RequirementView) -> Facts {
    let mut facts = Facts::new();
    for (key, text) in &requirement.about {
        facts.insert((None, (*key).to_owned()), text.clone());
    }
    if !requirement.elsewhere.is_empty() {
        facts.insert((None, "telemetry elsewhere".to_owned()), requirement.elsewhere.join("; "));
    }
    requirement.measures.iter().for_each(|measure| of_measure(measure, &mut facts));
    requirement.rules.iter().for_each(|rule| of_rule(rule, &mut facts));
    facts
}

fn of_measure(measure: &MeasureView, facts: &mut Facts) {
    let name = &measure.measure;
    let mut say = |what: &str, value: String| {
        facts.insert((Some(name.clone()), format!("{name}: {what}")), value);
    };
    for (level, number) in &measure.thresholds {
        say(&format!("threshold {level}"), format!("{number} {}", measure.unit));
    }
    for (statistic, number) in &measure.baseline {
        let what =
            if *statistic == "baseline" { "baseline".to_owned() } else { format!("baseline {statistic}") };
        say(&what, format!("{number} {}", measure.unit));
    }
    say("fed by", measure.fed_by.join("; "));
    let whole = format!("{}, in {}, {}", measure.is, measure.unit, measure.direction);
    facts.insert((Some(name.clone()), name.clone()), whole);
}

fn of_rule(rule: &RuleView, facts: &mut Facts) {
    let about = Some(rule.measure.clone());
    let whole = format!("`{}`, {}, for {}", rule.condition, rule.severity, rule.holds_for);
    facts.insert((about.clone(), format!("rule {}", rule.id)), whole);
    let mut say = |what: &str, value: String| {
        facts.insert((about.clone(), format!("rule {}: {what}", rule.id)), value);
    };
    say("measure", rule.measure.clone());
    say("actions", rule.actions.join(", "));
    say("cooldown", rule.cooldown.clone());
    say("recipients", rule.recipients.join(", "));
    say("response_sla", rule.response_sla.clone().unwrap_or_else(|| "none".to_owned()));
    if !rule.group_by.is_empty() {
        say("group_by", rule.group_by.join(", "));
    }
    if !rule.inhibited_by.is_empty() {
        say("inhibited_by", rule.inhibited_by.join(", "));
    }
    if let Some(runbook) = &rule.runbook {
        say("runbook", runbook.clone());
    }
}

/// What stands in one and not, or otherwise, in the other. Of what is new or gone as a whole only that is said.
fn compare(req: Option<&String>, before: &Facts, after: &Facts) -> Vec<Difference> {
    let names: BTreeSet<&Name> = before.keys().chain(after.keys()).collect();
    let mut all: Vec<Difference> = Vec::new();
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        let is_part = all.iter().any(|whole| {
            let is_whole = whole.before.is_none() || whole.after.is_none();
            is_whole && name.1.starts_with(&format!("{}: ", whole.what))
        });
        if old == new || is_part {
            continue;
        }
        all.push(Difference {
            req_id: req.cloned(),
            measure: name.0.clone(),
            what: name.1.clone(),
            before: old.cloned(),
            after: new.cloned(),
            effect: None,
        });
    }
    all
}

/// Whether a threshold that both models state became stricter; none for anything else, and where unit or direction differ.
fn effect(before: &Model, after: &Model, req: &str, difference: &Difference) -> Option<&'static str> {
    let measure = difference.measure.as_ref()?;
    let word = difference.what.strip_prefix(&format!("{measure}: threshold "))?;
    let (_, level) = LEVELS.into_iter().find(|(known, _)| *known == word)?;
    let expected = |model: &Model| model.requirements.get(req)?.expectations.get(measure).cloned();
    let (old, new) = (expected(before)?, expected(after)?);
    let (old_limit, new_limit) = (old.thresholds.get(level)?, new.thresholds.get(level)?);
    if old.unit != new.unit || old.direction != new.direction {
        return None;
    }
    // The ends of a band have directions of their own.
    let direction = match level {
        Level::Lower => Direction::HigherIsBetter,
        Level::Upper => Direction::LowerIsBetter,
        Level::Target | Level::Warning | Level::Critical => new.direction,
    };
    Some(if direction.is_worse(old_limit, new_limit) { "stricter" } else { "looser" })
}
