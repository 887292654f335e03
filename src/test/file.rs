//! The YAML of tests of a model.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{Severity, Status};
use homeostat_pipeline::settings::{At, Period, Problem, read};
use serde::Deserialize;

use super::series::expand;
use crate::rehearsal::ModelFile;

/// A file of tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The model, relative to this file.
    pub model: At<String>,
    /// The severity rules that it is judged with, relative to this file.
    pub severity_rules: Option<At<String>>,
    /// What holds of it.
    pub tests: Vec<Test>,
}

/// One story.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// A claim.
    pub name: At<String>,
    /// Between two values of a series.
    #[serde(default = "minute")]
    pub interval: Period,
    /// When the first value is seen; windows are aligned to the epoch.
    pub start: Option<At<String>>,
    /// What is observed.
    pub input: Vec<Series>,
    /// What is known at times after the start.
    pub expect: Vec<Expected>,
}

fn minute() -> Period {
    Period(Duration::from_secs(60))
}

/// What the values of a series are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Durations of spans.
    Span,
    /// Numbers in log records.
    Log,
    /// Points of a gauge.
    Metric,
}

/// One series.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// The attribute `req`; without it the model's selectors have to find it.
    pub req: Option<String>,
    /// The measure whose value each step reports.
    pub measure: Option<At<String>>,
    /// Spans, log records or points instead of a measure.
    pub signal: Option<At<Kind>>,
    /// The name of spans, or of the metric.
    pub name: Option<String>,
    /// The metric's unit.
    pub unit: Option<String>,
    /// In which field of a log record the values stand.
    pub field: Option<String>,
    /// `service.name` and `deployment.environment.name` of the resource; others of each record.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The series: of spans milliseconds.
    pub values: At<String>,
    /// How many spans or log records each step has.
    pub count: Option<At<u32>>,
    /// How many of those of each step fail: a series too.
    pub errors: Option<At<String>>,
}

/// What is known of a requirement at a time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Since the start.
    pub at: At<Period>,
    /// Of which requirement.
    pub req: String,
    /// Of which measure; of any when it is left out.
    pub measure: Option<String>,
    /// Of which subjects; those of others are not looked at.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// That no deviation is open or recovering.
    #[serde(default)]
    pub none: bool,
    /// Where the deviation is.
    pub status: Option<Status>,
    /// How bad.
    pub severity: Option<Severity>,
    /// Within 1 %.
    pub value: Option<f64>,
    /// The worst rule that fires.
    pub rule: Option<String>,
    /// Words of the reason.
    pub reason: Option<String>,
}

/// A series whose words are read.
#[derive(Debug)]
pub struct Steps<'a> {
    /// What it was read from.
    pub series: &'a Series,
    /// A value a step.
    pub values: Vec<Option<f64>>,
    /// Failures a step; the last holds on.
    pub errors: Vec<Option<f64>>,
}

impl Series {
    /// Its steps.
    ///
    /// # Errors
    /// What is no series, or says two things at once, with its place.
    pub fn steps(&self) -> Result<Steps<'_>, Problem> {
        let words = |text: &At<String>| expand(&text.value).map_err(|error| Problem::error(&text.at, error));
        let values = words(&self.values)?;
        let errors = self.errors.as_ref().map(words).transpose()?.unwrap_or_default();
        let wrong = |at, message: &str| Err(Problem::error(at, message));
        match (&self.measure, &self.signal) {
            (Some(measure), Some(_)) => {
                wrong(&measure.at, "a series has either a `measure` or a `signal` (leave one out)")
            }
            (None, None) => wrong(
                &self.values.at,
                "a series needs a `measure`, or a `signal` (`span`, `log` or `metric`)",
            ),
            (Some(measure), None) if self.req.is_none() => {
                wrong(&measure.at, "the value of a measure needs a `req` that it is of")
            }
            (_, Some(signal)) if signal.value == Kind::Metric && self.name.is_none() => {
                wrong(&signal.at, "a metric needs a `name`")
            }
            (Some(_), None) | (None, Some(_)) => Ok(Steps { series: self, values, errors }),
        }
    }

    /// What its values are.
    pub fn kind(&self) -> Kind {
        self.signal.as_ref().map_or(Kind::Metric, |signal| signal.value)
    }
}

/// 2026-01-05 00:00 UTC, a Monday.
const START_MILLIS: i64 = 1_767_571_200_000;

impl Test {
    /// When its first value is seen.
    ///
    /// # Errors
    /// `start` is no time.
    pub fn start(&self) -> Result<Timestamp, Problem> {
        match &self.start {
            None => Ok(Timestamp::from_millis(START_MILLIS)),
            Some(text) => Timestamp::parse(&text.value).map_err(|error| Problem::error(&text.at, error)),
        }
    }

    /// Every mistake that reading alone does not find.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&self) -> Result<(), Problem> {
        self.start()?;
        if self.interval.0 < Duration::from_secs(1) {
            return Err(Problem::error(&self.name.at, "`interval` is shorter than a second"));
        }
        self.input.iter().try_for_each(|series| series.steps().map(drop))?;
        for expected in &self.expect {
            let states = [
                expected.status.is_some(),
                expected.severity.is_some(),
                expected.value.is_some(),
                expected.rule.is_some(),
                expected.reason.is_some(),
            ];
            let says = states.contains(&true);
            if says == expected.none {
                let message = if says {
                    "`none` says that there is no deviation, so nothing else can be said of it"
                } else {
                    "nothing is expected (say `status`, `severity`, `value`, `rule`, `reason`, or `none: true`)"
                };
                return Err(Problem::error(&expected.at.at, message));
            }
        }
        Ok(())
    }
}

/// A file of tests.
///
/// # Errors
/// What cannot be read, with its line.
pub fn load(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let node = homeostat_config::parse(&path.to_string_lossy(), &text)?;
    let file: File = read(&node)?;
    file.tests.iter().try_for_each(Test::check)?;
    Ok(file)
}

impl File {
    /// Its model, where it stands itself at `path`.
    ///
    /// # Errors
    /// The model or its severity rules cannot be read.
    pub fn model(&self, path: &Path) -> anyhow::Result<ModelFile> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let beside = |file: &At<String>| folder.join(&file.value);
        let rules = self.severity_rules.as_ref().map(|rules| (beside(rules), &rules.at));
        let rules = rules.as_ref().map(|(path, at)| (path.as_path(), Some(*at)));
        ModelFile::read(&beside(&self.model), Some(&self.model.at), rules)
    }
}
