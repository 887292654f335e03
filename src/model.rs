//! `homeostat model …`: what a model says, what is wrong with it, and what changes when another takes its place.

mod show;
mod updates;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use homeostat_pipeline::finding::{Deviation, Finding};
use homeostat_pipeline::ledger::{LedgerItem, LedgerReader};
use homeostat_pipeline::settings::Problem;
use homeostat_processors::homeostasis::model::{Difference, Model, Sources, Text, View, differences};

use crate::cli::{FOUND, Format, GOOD};
use crate::{output, validate};

/// `homeostat model …`.
#[derive(Subcommand)]
pub enum Command {
    /// Says everything that is wrong with models; exit 1 when one is not valid
    Validate(Validate),
    /// Says what changes for people when the second model takes the place of the first; exit 1 when something does
    Diff(Diff),
    /// Prints a model as it holds: units, directions, windows, rules and what feeds each measure
    Show(Show),
    /// Changes a threshold of a running homeostat from a date on, in your name
    Adjust(updates::Adjust),
    /// Lists the thresholds that people adjusted
    Updates(updates::Updates),
}

/// `homeostat model validate`.
#[derive(Args)]
pub struct Validate {
    /// The models
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
    /// The severity rules that the models are judged with
    #[arg(long, value_name = "FILE")]
    pub severity_rules: Option<PathBuf>,
}

/// How problems are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// `error: file:line:column: message`, for people.
    Text,
    /// For programs.
    Json,
    /// Annotations of GitHub's actions: `::error file=…,line=…,col=…::message`.
    Github,
}

/// `homeostat model diff`.
#[derive(Args)]
pub struct Diff {
    /// The model that holds
    pub before: PathBuf,
    /// The one that shall hold
    pub after: PathBuf,
    /// The severity rules that the models are judged with
    #[arg(long, value_name = "FILE")]
    pub severity_rules: Option<PathBuf>,
    /// The severity rules that the first model is judged with, where those are others
    #[arg(long, value_name = "FILE")]
    pub severity_rules_before: Option<PathBuf>,
    /// A data directory, whose live deviations under what changes are listed
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `homeostat model show`.
#[derive(Args)]
pub struct Show {
    /// The model
    pub file: PathBuf,
    /// Only this requirement
    #[arg(long, value_name = "REQ")]
    pub req: Option<String>,
    /// The severity rules that the model is judged with
    #[arg(long, value_name = "FILE")]
    pub severity_rules: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = ShowFormat::Table)]
    pub format: ShowFormat,
}

/// How a resolved model is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShowFormat {
    /// For people.
    Table,
    /// For people who want all of it.
    Yaml,
    /// For programs.
    Json,
}

/// A model and its warnings, or all that is wrong with it.
type Read = Result<(Model, Vec<Problem>), Vec<Problem>>;

/// Runs one of them.
///
/// # Errors
/// A file cannot be read, or a model that has to be compared or shown is not valid.
pub fn command(command: &Command) -> anyhow::Result<u8> {
    match command {
        Command::Validate(arguments) => validate_command(arguments),
        Command::Diff(arguments) => diff(arguments),
        Command::Show(arguments) => show::command(arguments),
        Command::Adjust(arguments) => updates::adjust(arguments),
        Command::Updates(arguments) => updates::list(arguments),
    }
}

fn read(path: &Path, severity_rules: Option<&Path>) -> anyhow::Result<Read> {
    let text = |path: &Path| -> anyhow::Result<Text> {
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the model `{name}`"))?;
        Ok(Text { name, text })
    };
    let sources = Sources { model: text(path)?, severity_rules: severity_rules.map(text).transpose()? };
    Ok(sources.read(homeostat_config::parse))
}

/// A model that must be valid; what is wrong with one that is not is printed.
fn valid(path: &Path, severity_rules: Option<&Path>) -> anyhow::Result<Model> {
    match read(path, severity_rules)? {
        Ok((model, _)) => Ok(model),
        Err(problems) => {
            crate::configuration::report(&problems);
            anyhow::bail!("the model `{}` is not valid (`homeostat model validate` says why)", path.display())
        }
    }
}

fn validate_command(arguments: &Validate) -> anyhow::Result<u8> {
    let mut problems = Vec::new();
    let mut invalid = 0;
    for path in &arguments.files {
        match read(path, arguments.severity_rules.as_deref())? {
            Ok((_, warnings)) => problems.extend(warnings),
            Err(found) => {
                invalid += 1;
                problems.extend(found);
            }
        }
    }
    match arguments.format {
        ReportFormat::Json => {
            let problems: Vec<_> = problems.iter().map(validate::as_json).collect();
            output::line(&serde_json::json!({ "valid": invalid == 0, "problems": problems }).to_string());
        }
        ReportFormat::Github => problems.iter().for_each(|problem| output::line(&annotation(problem))),
        ReportFormat::Text => {
            for problem in &problems {
                let word = if problem.is_warning { "warning" } else { "error" };
                output::line(&format!("{word}: {problem}"));
            }
            let of = arguments.files.len();
            output::line(&match (invalid, of) {
                (0, 1) => "the model is valid".to_owned(),
                (0, of) => format!("all {of} models are valid"),
                (_, 1) => "the model is not valid".to_owned(),
                (invalid, of) => format!("{invalid} of {of} models are not valid"),
            });
        }
    }
    Ok(if invalid == 0 { GOOD } else { FOUND })
}

/// As GitHub's runners read it; `%` and line ends are escaped, as its documentation of workflow commands says.
fn annotation(problem: &Problem) -> String {
    let word = if problem.is_warning { "warning" } else { "error" };
    let escaped = problem.message.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    match &problem.at {
        Some(at) => format!("::{word} file={},line={},col={}::{escaped}", at.source, at.line, at.column),
        None => format!("::{word}::{escaped}"),
    }
}

fn diff(arguments: &Diff) -> anyhow::Result<u8> {
    let rules = arguments.severity_rules.as_deref();
    let rules_before = arguments.severity_rules_before.as_deref().or(rules);
    let (before, after) = (valid(&arguments.before, rules_before)?, valid(&arguments.after, rules)?);
    let found = differences(&before, &after);
    let live = match &arguments.data {
        Some(directory) => touched(live(directory)?, &found),
        None => Vec::new(),
    };
    match arguments.format {
        Format::Json => {
            let report = serde_json::json!({ "same": found.is_empty(), "differences": found, "live_deviations": live });
            output::line(&report.to_string());
        }
        Format::Text => {
            let mut last = None;
            for difference in &found {
                if last != Some(&difference.req_id) {
                    output::line(difference.req_id.as_deref().unwrap_or("all requirements"));
                    last = Some(&difference.req_id);
                }
                output::line(&format!("  {difference}"));
            }
            for deviation in &live {
                let labels: Vec<String> =
                    deviation.context.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                output::line(&format!(
                    "live under this: {} {} of {} {}",
                    deviation.deviation_id,
                    deviation.metric_name,
                    deviation.req_id,
                    labels.join(" ")
                ));
            }
            if found.is_empty() {
                output::line("the models say the same");
            }
        }
    }
    Ok(if found.is_empty() { GOOD } else { FOUND })
}

/// The deviations of a data directory that are not over, as they are now.
fn live(directory: &Path) -> anyhow::Result<Vec<Deviation>> {
    let reader = LedgerReader::open(&directory.join("ledger"))
        .with_context(|| format!("cannot read the ledger of `{}`", directory.display()))?;
    let mut all: BTreeMap<String, Deviation> = BTreeMap::new();
    for item in reader.read_from(1) {
        let LedgerItem::Entry(entry) = item? else { continue };
        let Ok(Finding::Deviation(deviation)) = serde_json::from_str::<Finding>(&entry.body) else {
            continue;
        };
        if deviation.status.is_live() {
            all.insert(deviation.uid.clone(), *deviation);
        } else {
            all.remove(&deviation.uid);
        }
    }
    Ok(all.into_values().collect())
}

/// Those whose requirement, and measure where only measures change, is among the differences.
fn touched(live: Vec<Deviation>, found: &[Difference]) -> Vec<Deviation> {
    let is_touched = |deviation: &Deviation| {
        found.iter().any(|difference| {
            difference.req_id.as_ref().is_none_or(|req| *req == deviation.req_id)
                && difference.measure.as_ref().is_none_or(|measure| *measure == deviation.metric_name)
        })
    };
    live.into_iter().filter(is_touched).collect()
}
