//! `homeostat ledger …`: reads the trail of a data directory without needing the process that wrote it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use homeostat_pipeline::budget::{Budget, default_bytes};
use homeostat_pipeline::clock::SystemClock;
use homeostat_pipeline::engine::replay;
use homeostat_pipeline::finding::hex;
use homeostat_pipeline::interest::Interest;
use homeostat_pipeline::ledger::{LedgerEntry, LedgerItem, LedgerReader, verify};
use homeostat_pipeline::registry::Context;
use homeostat_pipeline::sockets::Sockets;
use homeostat_pipeline::tasks::Tasks;
use tokio_util::sync::CancellationToken;

use crate::assemble::analyzers_of;
use crate::cli::{self, COULD_NOT_RUN, FOUND, Format, GOOD, Ledger};
use crate::{configuration, output};

/// Runs one of them.
///
/// # Errors
/// There is no ledger in the directory, or it cannot be read.
pub fn command(command: &Ledger) -> anyhow::Result<u8> {
    match command {
        Ledger::Verify { directory, format } => verify_command(directory, *format),
        Ledger::Export { directory, from } => export(directory, *from),
        Ledger::Replay { directory, configuration } => replay_command(directory, configuration),
    }
}

/// Where the ledger lies within the data directory.
fn folder(directory: &Path) -> PathBuf {
    directory.join("ledger")
}

fn no_ledger(directory: &Path) -> String {
    format!(
        "cannot read the ledger of `{}` (name the folder of `service.storage.directory`)",
        directory.display()
    )
}

fn verify_command(directory: &Path, format: Format) -> anyhow::Result<u8> {
    let verification = verify(&folder(directory)).with_context(|| no_ledger(directory))?;
    let head = hex(&verification.head.hash);
    match format {
        Format::Json => {
            let broken = verification
                .broken
                .as_ref()
                .map(|(sequence, why)| serde_json::json!({ "sequence": sequence, "reason": why }));
            let report = serde_json::json!({
                "whole": broken.is_none(),
                "entries": verification.entries,
                "pruned": verification.pruned,
                "head": { "sequence": verification.head.sequence, "hash": head },
                "broken": broken,
            });
            output::line(&report.to_string());
        }
        Format::Text => {
            let (entries, pruned) = (verification.entries, verification.pruned);
            output::line(&match &verification.broken {
                None => format!("whole: {entries} entries, {pruned} of them pruned, head {head}"),
                Some((sequence, why)) => {
                    format!("broken at entry {sequence}: {why} ({entries} entries before it are whole)")
                }
            });
        }
    }
    Ok(if verification.broken.is_none() { GOOD } else { FOUND })
}

fn export(directory: &Path, from: u64) -> anyhow::Result<u8> {
    let reader = LedgerReader::open(&folder(directory)).with_context(|| no_ledger(directory))?;
    let mut code = GOOD;
    for item in reader.read_from(from) {
        match item? {
            LedgerItem::Entry(entry) => output::line(&as_json(&entry).to_string()),
            LedgerItem::Pruned { sequence } => {
                output::line(
                    &serde_json::json!({ "sequence": sequence.to_string(), "pruned": true }).to_string(),
                );
            }
            LedgerItem::Gap { from, to } => {
                code = FOUND;
                output::error(&format!(
                    "entries {from} to {} cannot be read: they are damaged",
                    to.saturating_sub(1)
                ));
            }
        }
    }
    Ok(code)
}

fn as_json(entry: &LedgerEntry) -> serde_json::Value {
    let body: serde_json::Value = serde_json::from_str(&entry.body).unwrap_or(serde_json::Value::Null);
    serde_json::json!({
        "chain": &*entry.chain,
        "sequence": entry.sequence.to_string(),
        "time": entry.time,
        "cause": entry.cause.0.to_string(),
        "kind": entry.kind,
        "previous": hex(&entry.previous),
        "hash": hex(&entry.hash),
        "body": body,
    })
}

fn replay_command(directory: &Path, arguments: &cli::Configuration) -> anyhow::Result<u8> {
    let configuration = match configuration::read(arguments) {
        Ok((configuration, _)) => configuration,
        Err(problems) => {
            configuration::report(&problems);
            return Ok(COULD_NOT_RUN);
        }
    };
    let context = Context {
        id: String::new(),
        clock: Arc::new(SystemClock),
        budget: Budget::new(default_bytes()),
        directory: None,
        files: configuration.files.clone(),
        interest: Arc::new(Interest::default()),
        ledger: None,
        extensions: Arc::default(),
        sockets: Sockets::default(),
        stop: CancellationToken::new(),
        tasks: Tasks::default(),
    };
    let slots = analyzers_of(&configuration, &context)?;
    let report = replay(directory, slots).with_context(|| no_ledger(directory))?;
    for mismatch in &report.mismatches {
        output::line(mismatch);
    }
    if report.lost > 0 {
        output::line(&format!(
            "{} journal entries are trimmed or damaged, so what comes after them cannot be compared",
            report.lost
        ));
    }
    output::line(&format!(
        "{} journal entries give {} findings that the ledger has and {} that a start would append; {} differ",
        report.entries,
        report.compared,
        report.missing,
        report.mismatches.len()
    ));
    Ok(if report.mismatches.is_empty() { GOOD } else { FOUND })
}
