//! `homeostat explain`: why a deviation was found, or why none was, from ledger and journal of a data directory. The journal is
//! folded again up to the time in question; nothing is written.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use homeostat_pipeline::checkpoint::KeyedState;
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::contract::Analyzer;
use homeostat_pipeline::engine::refold;
use homeostat_pipeline::entry::{Entry, Event};
use homeostat_pipeline::evidence::columns::Columns;
use homeostat_pipeline::finding::{Deviation, Finding};
use homeostat_pipeline::ledger::{LedgerItem, LedgerReader};
use homeostat_pipeline::settings::did_you_mean;
use homeostat_processors::homeostasis::fold::{Account, Fold, FoldSettings};
use serde_json::json;

use crate::cli::{self, Format, GOOD};
use crate::{output, why};

/// Windows of each measure that are shown where nothing fired.
const WINDOWS_SHOWN: usize = 3;

/// Explains a deviation, or why there was none.
///
/// # Errors
/// There is no such deviation, or the directory cannot be read.
pub fn command(arguments: &cli::Explain) -> anyhow::Result<u8> {
    let at = arguments.at.as_deref().map(Timestamp::parse).transpose();
    let at =
        at.map_err(|error| anyhow::anyhow!("`--at` is no time such as 2026-01-05T10:00:00Z: {error}"))?;
    match (&arguments.deviation, &arguments.not, at) {
        (Some(name), None, _) => deviation(arguments, name),
        (None, Some(req), Some(at)) => not(arguments, req, at),
        (None, Some(_), None) => bail!("`--not` needs a time: `--at 2026-01-05T10:00:00Z`"),
        (Some(_), Some(_), _) | (None, None, _) => {
            bail!("name a deviation, or a requirement with `--not REQ --at TIME`")
        }
    }
}

/// What the ledger says of deviations, with the time of its entries.
fn recorded(
    directory: &Path,
    is_wanted: impl Fn(&Deviation) -> bool,
) -> anyhow::Result<Vec<(Timestamp, Deviation)>> {
    let reader = LedgerReader::open(&directory.join("ledger")).with_context(|| {
        format!(
            "cannot read the ledger of `{}` (name the folder of `service.storage.directory`)",
            directory.display()
        )
    })?;
    let mut all = Vec::new();
    for item in reader.read_from(1) {
        if let LedgerItem::Entry(entry) = item?
            && let Finding::Deviation(deviation) = entry.finding
            && is_wanted(&deviation)
        {
            all.push((entry.time, *deviation));
        }
    }
    Ok(all)
}

/// The fold, shared with the engine that drives it.
struct Shared {
    fold: Arc<Mutex<Option<Fold>>>,
    subjects_max: usize,
}

impl Shared {
    fn with<T>(&self, what: impl FnOnce(&mut Option<Fold>) -> T) -> T {
        what(&mut self.fold.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Analyzer for Shared {
    /// The first epoch that is a model says under which id the analyzer ran.
    fn apply(&mut self, entry: &Entry, out: &mut Vec<Finding>) {
        let subjects_max = self.subjects_max;
        self.with(|fold| {
            if let (None, Event::Epoch(epoch)) = (&fold, &entry.event) {
                let settings = FoldSettings {
                    id: epoch.component.clone(),
                    // Only ids depend on it, and those are the ledger's here.
                    tenant: String::new(),
                    subjects_max,
                    parse: homeostat_config::parse,
                };
                let mut fresh = Fold::new(settings);
                fresh.keep_accounts();
                let mut found = Vec::new();
                fresh.apply(entry, &mut found);
                if fresh.model().is_some() {
                    out.extend(found);
                    *fold = Some(fresh);
                }
            } else if let Some(fold) = fold {
                fold.apply(entry, out);
            }
        });
    }

    fn checkpoint(&mut self, _: &mut dyn KeyedState) -> anyhow::Result<()> {
        Ok(())
    }

    fn restore(&mut self, _: &dyn KeyedState) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What the journal shows up to a time.
#[derive(Default)]
struct Past {
    /// Of the requirement in question, in the order of the judgements.
    accounts: Vec<Account>,
    /// Requirement key → rows, and the time of the newest.
    keys: BTreeMap<String, (u64, Timestamp)>,
    /// Rows that came too late, and too early.
    late: u64,
    ahead: u64,
    /// Journal entries that are trimmed or damaged.
    lost: u64,
    /// The model's hash, and what it says of the requirement.
    model: Option<String>,
    requirement: Requirement,
}

#[derive(Default)]
struct Requirement {
    is_known: bool,
    near: String,
    title: Option<String>,
    line: Option<u32>,
    rules: usize,
    effective_from: Option<Timestamp>,
    sources: Vec<String>,
}

fn past((directory, subjects_max): (&Path, usize), req: &str, until: Timestamp) -> anyhow::Result<Past> {
    let shared = Arc::new(Mutex::new(None));
    let fold = Shared { fold: Arc::clone(&shared), subjects_max };
    let mut past = Past::default();
    let lost = refold(directory, Box::new(Shared { fold: shared, subjects_max }), &mut |entry| {
        if entry.time > until {
            return false;
        }
        if let Event::Evidence(event) = &entry.event {
            count(&mut past.keys, event);
        }
        fold.with(|fold| {
            let accounts = fold.as_mut().map(Fold::take_accounts).unwrap_or_default();
            past.accounts.extend(accounts.into_iter().filter(|account| account.req == req));
        });
        true
    });
    past.lost = lost.with_context(|| format!("cannot read the journal of `{}`", directory.display()))?;
    fold.with(|fold| {
        let Some(fold) = fold else { return };
        past.accounts.extend(fold.take_accounts().into_iter().filter(|account| account.req == req));
        past.accounts.retain(|account| account.at <= until);
        (past.late, past.ahead) = (fold.tally().late, fold.tally().ahead);
        let Some(model) = fold.model() else { return };
        past.model = Some(model.hash.clone());
        past.requirement.near = did_you_mean(req, model.requirements.keys().map(String::as_str));
        if let Some(known) = model.requirements.get(req) {
            past.requirement = Requirement {
                is_known: true,
                near: String::new(),
                title: known.title.clone(),
                line: Some(known.at.line),
                rules: known.rules.len(),
                effective_from: known.effective_from,
                sources: known
                    .expectations
                    .iter()
                    .filter_map(|(measure, expected)| {
                        let source = expected.source.as_ref()?;
                        let line = source.line.map_or_else(String::new, |line| format!(":{line}"));
                        let text =
                            source.text.as_ref().map_or_else(String::new, |text| format!(" \"{text}\""));
                        Some(format!("{measure} is stated at {}{line}{text}", source.doc))
                    })
                    .collect(),
            };
        }
    });
    Ok(past)
}

fn count(keys: &mut BTreeMap<String, (u64, Timestamp)>, event: &homeostat_pipeline::entry::EvidenceEvent) {
    let Ok(columns) = Columns::new(&event.batch) else { return };
    for row in 0..columns.len() {
        let Some(req) = columns.req(row) else { continue };
        let time = columns.time(row).unwrap_or(Timestamp::ZERO);
        match keys.get_mut(req) {
            Some((rows, last)) => (*rows, *last) = (*rows + 1, time.max(*last)),
            None => {
                keys.insert(req.to_owned(), (1, time));
            }
        }
    }
}

fn deviation(arguments: &cli::Explain, name: &str) -> anyhow::Result<u8> {
    let directory = &arguments.directory;
    let is_it = |deviation: &Deviation| deviation.uid == name || deviation.deviation_id == name;
    let steps = recorded(directory, is_it)?;
    let Some((_, last)) = steps.last() else {
        bail!(
            "the ledger has no deviation `{name}` (`homeostat ledger export {}` lists them)",
            directory.display()
        )
    };
    let until = steps.iter().map(|(time, _)| *time).max().unwrap_or(Timestamp::MAX);
    let past = past((directory, arguments.subjects_max), &last.req_id, until)?;
    let judged = |deviation: &Deviation| -> Option<&Account> {
        past.accounts.iter().rev().find(|account| {
            account.measure == deviation.metric_name
                && (account.start, account.end) == (deviation.window.start, deviation.window.end)
                && account.labels.iter().all(|(name, value)| {
                    deviation.context.labels.get(name).is_none_or(|known| known == value)
                })
        })
    };
    if arguments.format == Format::Json {
        let steps: Vec<_> = steps
            .iter()
            .map(|(time, step)| json!({ "recorded_at": time, "deviation": step, "judged": judged(step) }))
            .collect();
        output::line(&json!({ "deviation": name, "steps": steps, "late": past.late, "ahead": past.ahead, "lost": past.lost }).to_string());
        return Ok(GOOD);
    }
    print_deviation(last, &past);
    for (time, step) in &steps {
        let event = step.transition.event();
        let word = event.strip_prefix("deviation_").unwrap_or(event);
        output::line(&format!(
            "{} {word}, {}, recorded at {time}: {}",
            step.at,
            step.severity.name(),
            step.reason
        ));
        let threshold = step
            .threshold_value
            .map_or_else(String::new, |value| format!(", threshold {}", why::number(value)));
        let baseline = step
            .baseline_value
            .map_or_else(String::new, |value| format!(", baseline {}", why::number(value)));
        output::line(&format!(
            "  {}{threshold}{baseline}; {} samples, {} errors, {} window {} to {}",
            why::measured(step.current_value, &step.unit),
            step.window.samples,
            step.evidence.counts.errors,
            step.window.kind,
            step.window.start,
            step.window.end
        ));
        match judged(step) {
            Some(account) => account.rules.iter().for_each(|rule| {
                output::line(&format!("  {}", why::verdict(account, rule)));
            }),
            None => output::line(
                "  no window of the journal as it is now shows it: a tick or a new model took this step, or the journal was trimmed",
            ),
        }
        if !step.evidence.trace_ids.is_empty() {
            output::line(&format!("  traces: {}", step.evidence.trace_ids.join(" ")));
        }
    }
    Ok(GOOD)
}

fn print_deviation(last: &Deviation, past: &Past) {
    let title = last.title.as_ref().map_or_else(String::new, |title| format!(": {title}"));
    output::line(&format!(
        "{} ({}) {} {}{title}",
        last.deviation_id, last.uid, last.req_id, last.metric_name
    ));
    output::line(&format!(
        "  {} since {}, worst {}",
        last.status.name(),
        last.at,
        why::measured(last.worst_value, &last.unit)
    ));
    output::line(&format!(
        "  rule {} `{}` of the model {}",
        last.rule.id, last.rule.condition, last.rule.model_hash
    ));
    if let Some(source) = &last.rule.requirement_source {
        let line = source.line.map_or_else(String::new, |line| format!(":{line}"));
        let text = source.text.as_ref().map_or_else(String::new, |text| format!(" \"{text}\""));
        output::line(&format!("  the requirement is stated at {}{line}{text}", source.doc));
    }
    print_missing(past);
}

/// What the fold did not see.
fn print_missing(past: &Past) {
    if past.late + past.ahead > 0 {
        output::line(&format!(
            "  {} observations came too late for any window, {} were too far ahead (of all requirements)",
            past.late, past.ahead
        ));
    }
    if past.lost > 0 {
        output::line(&format!(
            "  {} journal entries are trimmed or damaged: what they held is not known here",
            past.lost
        ));
    }
}

fn not(arguments: &cli::Explain, req: &str, at: Timestamp) -> anyhow::Result<u8> {
    let past = past((&arguments.directory, arguments.subjects_max), req, at)?;
    let mut live: BTreeMap<String, Deviation> = BTreeMap::new();
    for (time, deviation) in recorded(&arguments.directory, |deviation| deviation.req_id == req)? {
        if time <= at {
            live.insert(deviation.fingerprint.clone(), deviation);
        }
    }
    live.retain(|_, deviation| deviation.status.is_live());
    let reasons = reasons(req, at, &past, &live);
    // Of each subject and measure the last windows.
    let mut latest: BTreeMap<(&BTreeMap<String, String>, &str), Vec<&Account>> = BTreeMap::new();
    for account in &past.accounts {
        latest.entry((&account.labels, &account.measure)).or_default().push(account);
    }
    if arguments.format == Format::Json {
        let windows: Vec<&Account> = latest
            .values()
            .flat_map(|accounts| accounts[accounts.len().saturating_sub(WINDOWS_SHOWN)..].iter().copied())
            .collect();
        let keys: BTreeMap<&String, serde_json::Value> = past
            .keys
            .iter()
            .map(|(key, (rows, last))| (key, json!({ "rows": rows, "last": last })))
            .collect();
        output::line(&json!({
            "req": req, "at": at, "reasons": reasons, "model": past.model, "windows": windows, "keys_seen": keys,
            "late": past.late, "ahead": past.ahead, "lost": past.lost,
        }).to_string());
        return Ok(GOOD);
    }
    let title = past.requirement.title.as_ref().map_or_else(String::new, |title| format!(": {title}"));
    let line = past.requirement.line.map_or_else(String::new, |line| format!(", line {line} of the model"));
    output::line(&format!("{req}{title}{line}, at {at}"));
    past.requirement.sources.iter().for_each(|source| output::line(&format!("  {source}")));
    reasons.iter().for_each(|reason| output::line(&format!("  {reason}")));
    print_missing(&past);
    for accounts in latest.values() {
        for account in &accounts[accounts.len().saturating_sub(WINDOWS_SHOWN)..] {
            why::lines(account).iter().for_each(|line| output::line(&format!("  {line}")));
        }
    }
    Ok(GOOD)
}

/// Why nothing fired, where no window says it.
fn reasons(req: &str, at: Timestamp, past: &Past, live: &BTreeMap<String, Deviation>) -> Vec<String> {
    let known = &past.requirement;
    let mut reasons: Vec<String> = live
        .values()
        .map(|deviation| {
            format!(
                "it did: {} is {} since {}",
                deviation.deviation_id,
                deviation.status.name(),
                deviation.at
            )
        })
        .collect();
    match (&past.model, known.is_known) {
        (None, _) => reasons.push("the journal holds no model before this time".to_owned()),
        (Some(_), false) => {
            reasons.push(format!("the model that held has no requirement {req}{}", known.near))
        }
        (Some(_), true) if known.rules == 0 => reasons.push("the model has no rule for it".to_owned()),
        (Some(_), true) => {}
    }
    if let Some(from) = known.effective_from.filter(|from| *from > at) {
        reasons.push(format!("it holds only from {from} on (`effective_from`)"));
    }
    match past.keys.get(req) {
        Some((rows, last)) => {
            reasons.push(format!("evidence: {rows} rows in the journal until then, the newest of {last}"));
            if past.accounts.is_empty() && known.is_known && known.rules > 0 {
                reasons.push("no window with a value for its measures had closed: one closes when its end and `allowed_lateness` are past".to_owned());
            }
        }
        None => {
            let near: Vec<String> =
                past.keys.iter().map(|(key, (rows, _))| format!("{key} ({rows} rows)")).collect();
            let near = if near.is_empty() { "none at all".to_owned() } else { near.join(", ") };
            reasons.push(format!("no evidence: no telemetry carried this key or fitted a selector of it; keys that were seen: {near}"));
        }
    }
    reasons
}

#[cfg(test)]
mod tests;
