//! What a replay found, for people and for programs.

use std::collections::BTreeSet;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{Deviation, Transition};
use homeostat_pipeline::settings::Period;
use serde_json::json;

use super::side::Side;
use super::tally::{RuleKey, RuleTally};
use crate::{output, why};

/// So many of what cannot be read are printed.
const UNREADABLE_MAX: usize = 5;

/// What was read, whatever the model.
#[derive(Debug, Default)]
pub struct Read {
    /// Requests.
    pub messages: u64,
    /// Spans, points and log records in them.
    pub records: u64,
    /// How many were none.
    pub unreadable: u64,
    /// The first of those.
    pub examples: Vec<String>,
}

impl Read {
    /// Counts something that could not be read.
    pub fn fail(&mut self, why: String) {
        self.unreadable += 1;
        if self.examples.len() < UNREADABLE_MAX {
            self.examples.push(why);
        }
    }
}

/// Whether something fired.
pub fn fired(side: &Side) -> bool {
    side.rehearsal.steps.iter().any(|(_, deviation)| deviation.transition == Transition::Detected)
}

fn transition(transition: Transition) -> &'static str {
    let event = transition.event();
    event.strip_prefix("deviation_").unwrap_or(event)
}

fn step(judged: Timestamp, deviation: &Deviation) -> String {
    let labels: Vec<String> =
        deviation.context.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let labels = if labels.is_empty() { String::new() } else { format!(" {{{}}}", labels.join(", ")) };
    format!(
        "{} {} {} {} {}{labels} {} by {}: {} (judged at {judged})",
        deviation.at,
        transition(deviation.transition),
        deviation.severity.name(),
        deviation.req_id,
        deviation.metric_name,
        why::measured(deviation.current_value, &deviation.unit),
        deviation.rule.id,
        deviation.reason,
    )
}

/// The keys that the model has no rule for, or does not know at all.
fn unrouted(side: &Side) -> Vec<(&str, u64)> {
    let rules =
        |req: &str| side.model.model.requirements.get(req).is_some_and(|known| !known.rules.is_empty());
    side.keys.iter().filter(|(req, _)| !rules(req)).map(|(req, rows)| (req.as_str(), *rows)).collect()
}

fn rule_line((_, measure, id): &RuleKey, tally: &RuleTally) -> String {
    let mut parts = Vec::new();
    let mut part = |count: u64, word: &str| {
        if count > 0 {
            parts.push(format!("{word} {count}"));
        }
    };
    part(tally.fired, "fired in");
    part(tally.kept_quiet, "kept quiet (cooldown, inhibition) in");
    part(tally.violated, "true in");
    part(tally.held, "false in");
    for (missing, count) in &tally.unknown {
        part(*count, &format!("unknown ({missing}) in"));
    }
    part(tally.corrections, "judged again");
    part(tally.never_served, "violations too short for its `for`:");
    part(tally.still_pending, "still pending at the end:");
    if tally.longest_pending_seconds > 0.0 {
        let longest = std::time::Duration::from_secs_f64(tally.longest_pending_seconds);
        parts.push(format!("the longest of them {}", Period(longest)));
    }
    let windows = if tally.windows == 0 {
        "no window was judged".to_owned()
    } else {
        format!("{} windows of {} subjects", tally.windows, tally.subjects)
    };
    let parts = if parts.is_empty() { String::new() } else { format!("; {}", parts.join(", ")) };
    format!("    {id} (line {}) {measure} `{}`: {windows}{parts}", tally.line, tally.condition)
}

/// For people.
pub fn print(read: &Read, side: &Side) {
    let span = side.span.map_or_else(
        || "no times".to_owned(),
        |(first, last)| {
            format!(
                "{first} to {last} ({})",
                Period(std::time::Duration::from_secs(last.since(first).as_secs()))
            )
        },
    );
    output::line(&format!(
        "{} messages, {} records, {} rows of evidence, {span}",
        read.messages, read.records, side.rows
    ));
    for problem in &read.examples {
        output::line(&format!("  cannot be read: {problem}"));
    }
    let tally = side.rehearsal.tally();
    output::line(&format!(
        "observations: {} folded, {} too late, {} too far ahead, {} over the limit of subjects, {} of cumulative points too many",
        tally.folded, tally.late, tally.ahead, tally.overflowed, tally.crowded
    ));
    if side.leaps.0 > 0 {
        output::line(&format!(
            "  the recording's time leaps {} times, by up to {}: a pause, or a sender whose clock is wrong",
            side.leaps.0,
            Period(side.leaps.1)
        ));
    }
    for (req, rows) in unrouted(side) {
        output::line(&format!("  no rule of the model judges {req}: {rows} rows"));
    }
    for notice in &side.rehearsal.notices {
        output::line(&format!("  {notice}"));
    }
    print_steps(side);
    output::line(&format!("rules of {}:", side.model.path.display()));
    let mut last = "";
    for (key, tally) in &side.rules.all {
        if key.0 != last {
            let rows = side.keys.get(&key.0).copied().unwrap_or(0);
            output::line(&format!("  {}: {rows} rows", key.0));
            last = &key.0;
        }
        output::line(&rule_line(key, tally));
    }
}

fn print_steps(side: &Side) {
    let detected: BTreeSet<&str> = side
        .rehearsal
        .steps
        .iter()
        .filter(|(_, deviation)| deviation.transition == Transition::Detected)
        .map(|(_, deviation)| deviation.uid.as_str())
        .collect();
    output::line(&format!("{} deviations in {} steps:", detected.len(), side.rehearsal.steps.len()));
    for (judged, deviation) in &side.rehearsal.steps {
        output::line(&format!("  {}", step(*judged, deviation)));
    }
}

/// For programs.
pub fn json(read: &Read, side: &Side) -> serde_json::Value {
    let tally = side.rehearsal.tally();
    let rules: Vec<_> = side
        .rules
        .all
        .iter()
        .map(|((req, measure, id), tally)| json!({ "req": req, "measure": measure, "rule": id, "judged": tally }))
        .collect();
    let steps: Vec<_> = side
        .rehearsal
        .steps
        .iter()
        .map(|(judged, deviation)| json!({ "judged_at": judged, "deviation": deviation }))
        .collect();
    let unrouted: serde_json::Map<String, serde_json::Value> =
        unrouted(side).into_iter().map(|(req, rows)| (req.to_owned(), rows.into())).collect();
    json!({
        "model": { "file": side.model.path.to_string_lossy(), "hash": side.model.model.hash },
        "messages": read.messages,
        "records": read.records,
        "unreadable": { "count": read.unreadable, "first": read.examples },
        "rows": side.rows,
        "from": side.span.map(|span| span.0),
        "to": side.span.map(|span| span.1),
        "leaps": side.leaps.0,
        "observations": {
            "folded": tally.folded, "late": tally.late, "ahead": tally.ahead,
            "overflowed": tally.overflowed, "crowded": tally.crowded, "unreadable": tally.unreadable,
        },
        "unrouted": unrouted,
        "notices": side.rehearsal.notices,
        "fired": fired(side),
        "steps": steps,
        "rules": rules,
    })
}

/// The steps that only the one or only the other model takes.
pub fn difference(one: &Side, other: &Side) -> (Vec<String>, Vec<String>) {
    let steps = |side: &Side| -> Vec<String> {
        side.rehearsal.steps.iter().map(|(judged, deviation)| step(*judged, deviation)).collect()
    };
    let (ours, theirs) = (steps(one), steps(other));
    let without = |all: &[String], others: &[String]| -> Vec<String> {
        let others: BTreeSet<&String> = others.iter().collect();
        all.iter().filter(|step| !others.contains(step)).cloned().collect()
    };
    (without(&ours, &theirs), without(&theirs, &ours))
}

/// For people, what differs between two models.
pub fn print_difference(one: &Side, other: &Side) {
    let (gone, new) = difference(one, other);
    output::line(&format!(
        "{} against {}: {} steps only in the first, {} only in the second",
        one.model.path.display(),
        other.model.path.display(),
        gone.len(),
        new.len()
    ));
    gone.iter().for_each(|step| output::line(&format!("- {step}")));
    new.iter().for_each(|step| output::line(&format!("+ {step}")));
    for (key, tally) in &one.rules.all {
        let same = other.rules.all.get(key);
        if same != Some(tally) {
            output::line(&format!("-{}", rule_line(key, tally)));
            match same {
                Some(same) => output::line(&format!("+{}", rule_line(key, same))),
                None => output::line("+    the second has no such rule"),
            }
        }
    }
    for (key, tally) in other.rules.all.iter().filter(|(key, _)| !one.rules.all.contains_key(*key)) {
        output::line(&format!("+{}", rule_line(key, tally)));
    }
}
