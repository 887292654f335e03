//! `homeostat deviations …`: what is wrong now, one deviation whole, and saying that it was seen.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use homeostat_pipeline::finding::{Deviation, Quiet};
use homeostat_pipeline::ledger::LedgerReader;

use crate::api::board::Board;
use crate::api::{Acknowledge, STATUSES, wants};
use crate::cli::{Deviations, Format, GOOD};
use crate::client::{Client, Method, encoded, table};
use crate::output;

/// Runs one of them.
///
/// # Errors
/// Nobody answers at the admin address, there is no ledger in the directory, or the answer is no.
pub fn command(command: &Deviations) -> anyhow::Result<u8> {
    match command {
        Deviations::List { status, req, from, format } => {
            let found = match &from.directory {
                Some(directory) => {
                    if !STATUSES.contains(&status.as_str()) {
                        bail!("unknown status `{status}`; known: {}", STATUSES.join(", "));
                    }
                    let board = board(directory)?;
                    let found = board.deviations(|one| wants(status, req.as_deref(), one));
                    found.into_iter().cloned().collect()
                }
                None => {
                    let req = req.as_deref().map(|req| format!("&req={}", encoded(req))).unwrap_or_default();
                    let path = format!("/api/v1/deviations?status={}{req}", encoded(status));
                    Client::new(&from.admin)?.ask::<(), Vec<Deviation>>(Method::GET, &path, None)?
                }
            };
            list(&found, *format)
        }
        Deviations::Show { id, from, format } => {
            let found = match &from.directory {
                Some(directory) => board(directory)?.deviation_of(id).cloned(),
                None => {
                    let path = format!("/api/v1/deviations/{}", encoded(id));
                    Some(Client::new(&from.admin)?.ask::<(), Deviation>(Method::GET, &path, None)?)
                }
            };
            let found = found.with_context(|| format!("there is no deviation `{id}`"))?;
            show(&found, *format)
        }
        Deviations::Ack { id, comment, by, format } => {
            let asked = Acknowledge { author: by.author()?, comment: comment.clone() };
            let path = format!("/api/v1/deviations/{}/acknowledge", encoded(id));
            let seen: Deviation = Client::new(&by.admin)?.ask(Method::POST, &path, Some(&asked))?;
            show(&seen, *format)
        }
    }
}

/// Of a data directory whose process need not run.
pub fn board(directory: &Path) -> anyhow::Result<Board> {
    let folder: PathBuf = directory.join("ledger");
    let named = || {
        format!(
            "cannot read the ledger of `{}` (name the folder of `service.storage.directory`)",
            directory.display()
        )
    };
    let reader = LedgerReader::open(&folder).with_context(named)?;
    let mut board = Board::default();
    board.catch_up(&reader).with_context(named)?;
    Ok(board)
}

fn list(found: &[Deviation], format: Format) -> anyhow::Result<u8> {
    match format {
        Format::Json => output::line(&serde_json::to_string(found)?),
        Format::Text => {
            let mut rows = vec![
                ["ID", "SEVERITY", "STATUS", "REQUIREMENT", "MEASURE", "SINCE", "WHERE"].map(str::to_owned),
            ];
            rows.extend(found.iter().map(row));
            table(&rows).iter().for_each(|line| output::line(line));
        }
    }
    Ok(GOOD)
}

fn row(one: &Deviation) -> [String; 7] {
    let value = one.current_value.map(|value| format!(" {value} {}", one.unit)).unwrap_or_default();
    let labels: Vec<String> =
        one.context.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let status = match one.quiet {
        Some(quiet) => format!("{} ({})", one.status.name(), quiet_name(quiet)),
        None => one.status.name().to_owned(),
    };
    [
        one.deviation_id.clone(),
        one.severity.name().to_owned(),
        status,
        one.req_id.clone(),
        format!("{}{value}", one.metric_name),
        one.started_at.to_string(),
        labels.join(","),
    ]
}

const fn quiet_name(quiet: Quiet) -> &'static str {
    match quiet {
        Quiet::Cooldown => "cooldown",
        Quiet::Silenced => "silenced",
        Quiet::Inhibited => "inhibited",
    }
}

fn show(one: &Deviation, format: Format) -> anyhow::Result<u8> {
    if format == Format::Json {
        output::line(&serde_json::to_string(one)?);
        return Ok(GOOD);
    }
    let seen = one.acknowledgement.as_ref().map(|by| format!("{} at {}: {}", by.author, by.at, by.comment));
    let number = |value: Option<f64>| value.map(|value| format!("{value} {}", one.unit));
    let title = one.title.clone().map(|title| format!(" ({title})")).unwrap_or_default();
    let rows = [
        ("deviation", Some(format!("{} {}", one.deviation_id, one.uid))),
        ("requirement", Some(format!("{}{title}", one.req_id))),
        ("status", Some(row(one)[2].clone())),
        ("severity", Some(one.severity.name().to_owned())),
        ("reason", Some(one.reason.clone())),
        ("measure", Some(one.metric_name.clone())),
        ("value", number(one.current_value)),
        ("worst", number(one.worst_value)),
        ("threshold", number(one.threshold_value)),
        ("baseline", number(one.baseline_value)),
        ("rule", Some(format!("{}: {}", one.rule.id, one.rule.condition))),
        ("where", Some(row(one)[6].clone()).filter(|labels| !labels.is_empty())),
        ("spec node", one.spec_node_id.clone()),
        ("started", Some(one.started_at.to_string())),
        ("changed", Some(one.at.to_string())),
        ("resolved", one.resolved_at.map(|at| at.to_string())),
        ("verified", one.verified_at.map(|at| at.to_string())),
        ("acknowledged", seen),
        ("traces", Some(one.evidence.trace_ids.join(" ")).filter(|traces| !traces.is_empty())),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            output::line(&format!("{name:<14}{value}"));
        }
    }
    Ok(GOOD)
}
