//! `homeostat model adjust` and `model updates`: thresholds that a person changes from a date on, and which were.

use clap::{Args, ValueEnum};
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{AdjustmentChange, ThresholdAdjusted};
use homeostat_processors::homeostasis::model::{quantity, seed_yaml, word_of};

use crate::api::updates::NewUpdate;
use crate::cli::{By, Format, From, GOOD};
use crate::client::{Client, Method, table};
use crate::{deviations, output};

/// `homeostat model adjust`.
#[derive(Args)]
pub struct Adjust {
    /// The requirement's key
    pub req: String,
    /// `p95_latency_ms`
    pub measure: String,
    /// `target`, `warning`, `critical`, `lower` or `upper`
    pub level: String,
    /// The new number, in the measure's unit or with its own: `450`, `0.45s`
    #[arg(allow_negative_numbers = true)]
    pub value: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// From when on: `2025-12-04`, which begins at midnight in UTC, or `2025-12-04T09:00:00Z`; at once by default
    #[arg(long, value_name = "DATE")]
    pub effective: Option<String>,
    /// Who approves, and where
    #[command(flatten)]
    pub by: By,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `homeostat model updates`.
#[derive(Args)]
pub struct Updates {
    /// Where they are known
    #[command(flatten)]
    pub from: From,
    /// How to print
    #[arg(long, value_enum, default_value_t = UpdatesFormat::Text)]
    pub format: UpdatesFormat,
}

/// How updates are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UpdatesFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// `homeostasis_updates.yml`; without those that are void.
    SeedYaml,
}

/// Adjusts a threshold.
///
/// # Errors
/// Nobody answers at the admin address, or the answer is no.
pub fn adjust(arguments: &Adjust) -> anyhow::Result<u8> {
    let (value, unit) = quantity(&arguments.value).map_err(anyhow::Error::msg)?;
    let asked = NewUpdate {
        author: arguments.by.author()?,
        req_id: arguments.req.clone(),
        measure: arguments.measure.clone(),
        level: arguments.level.clone(),
        value,
        unit,
        reason: arguments.reason.clone(),
        effective_date: arguments.effective.as_deref().map(date).transpose()?,
    };
    let client = Client::new(&arguments.by.admin)?;
    let made: ThresholdAdjusted = client.ask(Method::POST, "/api/v1/model/updates", Some(&asked))?;
    match arguments.format {
        Format::Json => output::line(&serde_json::to_string(&made)?),
        Format::Text => output::line(&format!(
            "{}: {} of {} of {} is {} {} instead of {} from {} on, approved by {}",
            made.update_id,
            word_of(made.level),
            made.measure,
            made.req_id,
            made.new,
            made.unit,
            made.old,
            made.effective_date,
            made.approved_by
        )),
    }
    Ok(GOOD)
}

/// A day begins at midnight, in UTC.
fn date(text: &str) -> anyhow::Result<Timestamp> {
    let whole = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    Timestamp::parse(&whole)
        .map_err(|_| anyhow::anyhow!("`{text}` is no date such as `2025-12-04` or `2025-12-04T09:00:00Z`"))
}

/// Lists the updates.
///
/// # Errors
/// Nobody answers at the admin address, or there is no ledger in the directory.
pub fn list(arguments: &Updates) -> anyhow::Result<u8> {
    let found: Vec<ThresholdAdjusted> = match &arguments.from.directory {
        Some(directory) => deviations::board(directory)?.updates().into_iter().cloned().collect(),
        None => {
            let client = Client::new(&arguments.from.admin)?;
            client.ask::<(), _>(Method::GET, "/api/v1/model/updates", None)?
        }
    };
    match arguments.format {
        UpdatesFormat::Json => output::line(&serde_json::to_string(&found)?),
        UpdatesFormat::SeedYaml => {
            let known = found.iter().filter(|one| one.change != AdjustmentChange::Void);
            output::line(seed_yaml(known).trim_end());
        }
        UpdatesFormat::Text => {
            let names = ["ID", "STATE", "REQUIREMENT", "THRESHOLD", "CHANGE", "FROM", "BY", "REASON"];
            let mut rows = vec![names.map(str::to_owned)];
            rows.extend(found.iter().map(row));
            table(&rows).iter().for_each(|line| output::line(line));
        }
    }
    Ok(GOOD)
}

fn row(one: &ThresholdAdjusted) -> [String; 8] {
    let state = match (one.change, &one.void_because) {
        (AdjustmentChange::Approved, _) => "approved".to_owned(),
        (AdjustmentChange::Effective, _) => "effective".to_owned(),
        (AdjustmentChange::Void, None) => "void".to_owned(),
        (AdjustmentChange::Void, Some(reason)) => format!("void: {reason}"),
    };
    [
        one.update_id.clone(),
        state,
        one.req_id.clone(),
        format!("{} {}", one.measure, word_of(one.level)),
        format!("{} → {} {}", one.old, one.new, one.unit),
        one.effective_date.to_string(),
        one.approved_by.clone(),
        one.reason.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        let of = |text: &str| date(text).map(|at| at.to_string()).map_err(|error| error.to_string());
        assert_eq!(of("2025-12-04").as_deref(), Ok("2025-12-04T00:00:00Z"));
        assert_eq!(of("2025-12-04T09:00:00+01:00").as_deref(), Ok("2025-12-04T08:00:00Z"));
        assert!(of("tomorrow").is_err_and(|error| error.contains("`tomorrow` is no date")));
    }
}
