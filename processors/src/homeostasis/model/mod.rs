//! The homeostasis model: what each requirement expects of the running system, resolved. No YAML is left in it: units are
//! converted, directions decided, conditions compiled. [`Model::read`] reports every mistake, not only the first.
//!
//! docs/model.md is the page for users.

mod adjustment;
mod definitions;
mod diff;
mod direction;
mod fed;
mod flows;
mod foreign;
mod inhibition;
mod measure;
mod place;
mod read;
mod requirement;
mod rules;
mod severity;
mod sources;
mod telemetry;
#[cfg(test)]
mod tests;
mod view;
mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{self, DeviationType, Level, RequirementSource, Severity};
use homeostat_pipeline::interest::{Interest, Selection};
use homeostat_pipeline::settings::{Node, Position, Problem};
use serde::Deserialize;
use sha2::{Digest, Sha256};

pub use adjustment::{level_of, proposed, quantity, seed_yaml, word_of};
pub use diff::{Difference, differences};
pub use flows::{Capture, Flow, Step};
pub use foreign::Foreign;
pub use inhibition::{Inhibitor, Judgement, order};
pub use measure::{Class, Measure, Statistic};
pub use severity::{SeverityClass, SeverityTable};
pub use sources::{Sources, Text};
pub use view::{MeasureView, RequirementView, RuleView, View};
pub use window::pane_of;

use super::condition::{Condition, Lookback};
use super::units::Unit;

/// A model that loaded.
#[derive(Clone, Debug)]
pub struct Model {
    /// SHA-256 of its text, lower-case hex: its identity.
    pub hash: String,
    /// `version:`; empty when it has none.
    pub version: String,
    /// What holds where a requirement or rule says nothing.
    pub defaults: Defaults,
    /// Canonical requirement key → what it expects.
    pub requirements: BTreeMap<String, Requirement>,
    /// `sea:{context}:{flow}` → what it is expected to do.
    pub flows: BTreeMap<String, Flow>,
    /// What makes a deviation of each severity where no rule says it, and what follows.
    pub severities: SeverityTable,
}

/// `defaults:` of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    /// How evidence is cut into windows.
    pub window: Window,
    /// How long a rule is quiet after it raised its actions; 1 h.
    pub cooldown: Duration,
    /// How long no rule may be violated before a deviation is resolved; 5 m.
    pub keep_firing_for: Duration,
    /// How long a resolved deviation must stay inside its target to be verified; 15 m.
    pub verify_for: Duration,
    /// What becomes of a live deviation without data.
    pub no_data: NoData,
    /// What an unknown condition counts as.
    pub unknown_is: Unknown,
    /// Which intents need no person's word; `intent.auto_approve` in YAML, never by default.
    pub auto_approve: AutoApprove,
    /// Whether measures with thresholds and no rule are judged by the severity table; true.
    pub judge_by_thresholds: bool,
}

/// Which intents are approved by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoApprove {
    /// None: a person approves.
    #[default]
    Never,
    /// Those of critical deviations.
    Critical,
}

impl Default for Defaults {
    fn default() -> Defaults {
        Defaults {
            window: Window::default(),
            cooldown: Duration::from_secs(3_600),
            keep_firing_for: Duration::from_secs(300),
            verify_for: Duration::from_secs(900),
            no_data: NoData { after: Duration::from_secs(600), becomes: WithoutData::Expired },
            unknown_is: Unknown::Ok,
            auto_approve: AutoApprove::Never,
            judge_by_thresholds: true,
        }
    }
}

/// Windows aligned to the epoch: one ends every `every`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its length, at least 100 ms; 5 m.
    pub size: Duration,
    /// How often one ends: its length when tumbling, a part of it when sliding.
    pub every: Duration,
    /// A window closes when a tick passes its end plus this; 30 s.
    pub allowed_lateness: Duration,
    /// How long after its end rows still correct a closed window; 15 m.
    pub correction: Duration,
    /// With fewer observations a quantile, a mean or a share is unknown; 20.
    pub min_samples: u64,
}

impl Default for Window {
    fn default() -> Window {
        Window {
            size: Duration::from_secs(300),
            every: Duration::from_secs(300),
            allowed_lateness: Duration::from_secs(30),
            correction: Duration::from_secs(900),
            min_samples: 20,
        }
    }
}

impl Window {
    /// Its kind, as the model and findings name it.
    pub fn kind(&self) -> &'static str {
        if self.every == self.size { "tumbling" } else { "sliding" }
    }
}

/// `no_data:` of the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoData {
    /// How long without a known window; 10 m.
    pub after: Duration,
    /// What then; `as:` in YAML, `expired` by default.
    pub becomes: WithoutData,
}

/// What becomes of a live deviation without data. Silence is never recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithoutData {
    /// It stays as it is.
    Keep,
    /// It expires.
    Expired,
    /// It counts as violated.
    Breach,
}

/// What an unknown condition counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// Not violated.
    Ok,
    /// Violated.
    Breach,
    /// No data.
    NoData,
}

/// What one requirement expects.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// The canonical key.
    pub key: String,
    /// For people.
    pub title: Option<String>,
    /// `performance`, `availability` … or free text; `type:` in YAML.
    pub requirement_type: Option<String>,
    /// `sea:{context}:{flow}`.
    pub spec_node: Option<String>,
    /// `adr`, `prd`, `sds` → ids.
    pub traces_to: BTreeMap<String, Vec<String>>,
    /// Windows that end before this are not judged.
    pub effective_from: Option<Timestamp>,
    /// Measure name → what is expected of it: every measure that thresholds, baselines, rules or selections name.
    pub expectations: BTreeMap<String, Expectation>,
    /// In the order written; ids are unique.
    pub rules: Vec<Rule>,
    /// Measure name → the functions of windows that the conditions on it name, by their columns.
    pub lookbacks: BTreeMap<String, Vec<Lookback>>,
    /// `telemetry.otlp`: telemetry that carries no key but belongs here.
    pub selections: Vec<Selection>,
    /// `telemetry.datadog` and `telemetry.prometheus`: what its measures are called there.
    pub foreign: Vec<Foreign>,
    /// Where it stands.
    pub at: Position,
}

impl Requirement {
    /// The rules on `measure`, in the order written.
    pub fn rules_of<'a>(&'a self, measure: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |rule| rule.measure == measure)
    }

    /// The type of a deviation of `measure`. The measure's class wins where it is latency, errors or availability
    /// (reference: a `performance` requirement's error rate is an error rate increase).
    pub fn deviation_type(&self, measure: &str) -> DeviationType {
        let class = self.expectations.get(measure).map_or(Class::Other, |expected| expected.measure.class);
        match class {
            Class::Latency => DeviationType::PerformanceDegradation,
            Class::Errors => DeviationType::ErrorRateIncrease,
            Class::Availability => DeviationType::AvailabilityLoss,
            Class::Other if self.requirement_type.as_deref() == Some("performance") => {
                DeviationType::PerformanceDegradation
            }
            Class::Other => DeviationType::SlaBreach,
        }
    }
}

/// What a requirement expects of one measure. All numbers are in `unit`.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// What is measured, and from what.
    pub measure: Measure,
    /// The unit of thresholds, baseline, and of the value that rules judge.
    pub unit: Unit,
    /// Which way is adverse.
    pub direction: Direction,
    /// Those that are stated.
    pub thresholds: Thresholds,
    /// None when the model states none.
    pub baseline: Option<Baseline>,
    /// Where the requirement's document states the thresholds.
    pub source: Option<RequirementSource>,
}

impl Expectation {
    /// The signed, adverse distance of `value` from the baseline, relative to it: 2.617 for 850 ms against 235 ms. None
    /// without a baseline, or when it is zero.
    pub fn deviation(&self, value: f64) -> Option<f64> {
        let baseline = self.baseline.as_ref()?.center?;
        finite(self.direction.adverse(value - baseline) / baseline.abs())
    }

    /// (value − mean) / standard deviation of the baseline, positive when adverse. None when either is missing or the
    /// deviation is zero.
    pub fn zscore(&self, value: f64) -> Option<f64> {
        let baseline = self.baseline.as_ref()?;
        finite(self.direction.adverse(value - baseline.mean?) / baseline.stddev?)
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Which way is adverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Latency, errors, downtime.
    LowerIsBetter,
    /// Uptime, success rate, throughput.
    HigherIsBetter,
}

impl Direction {
    /// The word in the model and in findings.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::LowerIsBetter => "lower_is_better",
            Direction::HigherIsBetter => "higher_is_better",
        }
    }

    /// `difference` (value − reference) with the sign turned so that positive is adverse.
    pub fn adverse(self, difference: f64) -> f64 {
        match self {
            Direction::LowerIsBetter => difference,
            Direction::HigherIsBetter => -difference,
        }
    }

    /// Whether `value` is more adverse than `than`.
    pub fn is_worse(self, value: f64, than: f64) -> bool {
        self.adverse(value - than) > 0.0
    }

    /// Whether `value` is at `limit` or beyond it on the adverse side.
    pub fn is_at_or_beyond(self, value: f64, limit: f64) -> bool {
        self.adverse(value - limit) >= 0.0
    }
}

/// The levels of one measure; only those stated. Finite, and in the order that the direction asks for.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Thresholds {
    /// Where it should be.
    pub target: Option<f64>,
    /// Where someone should look.
    pub warning: Option<f64>,
    /// What the requirement allows at worst.
    pub critical: Option<f64>,
    /// The lower end of a band.
    pub lower: Option<f64>,
    /// The upper end of a band.
    pub upper: Option<f64>,
}

impl Thresholds {
    /// One level.
    pub const fn get(&self, level: Level) -> Option<f64> {
        match level {
            Level::Target => self.target,
            Level::Warning => self.warning,
            Level::Critical => self.critical,
            Level::Lower => self.lower,
            Level::Upper => self.upper,
        }
    }
}

/// What was normal. Only what the model states; `center` is what `baseline` means in a condition.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Baseline {
    /// The number of the seed's form; of an object the measure's own quantile, else the median, else the mean (for a mean
    /// measure the mean before the median).
    pub center: Option<f64>,
    /// Median.
    pub p50: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Median.
    pub median: Option<f64>,
    /// Median absolute deviation.
    pub mad: Option<f64>,
    /// Standard deviation.
    pub stddev: Option<f64>,
    /// In which rhythm it repeats, for who learns it.
    pub seasonality: Seasonality,
}

/// In which rhythm a baseline repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seasonality {
    /// In none.
    #[default]
    None,
    /// Hour of day.
    Daily,
    /// Hour of week.
    Weekly,
}

/// A condition on a measure, and what follows from it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Unique within the requirement: stated, else `{measure}-{severity}`, numbered where that is not unique.
    pub id: String,
    /// The key of [`Requirement::expectations`].
    pub measure: String,
    /// Compiled; [`Condition::text`] is what was written.
    pub condition: Condition,
    /// How long the condition must hold before the deviation opens; zero when nothing is stated.
    pub holds_for: Duration,
    /// Of the deviation while this rule fires.
    pub severity: Severity,
    /// What follows, in the model's words; the severity's own where the rule states none.
    pub actions: Vec<String>,
    /// The rule's, else the model's.
    pub cooldown: Duration,
    /// Attribute names, sorted, without repetition.
    pub group_by: Vec<String>,
    /// The rules that keep it quiet while they fire: those of the cause.
    pub inhibited_by: Vec<Inhibitor>,
    /// A page for people.
    pub runbook: Option<String>,
    /// Who is told: of its severity in the table.
    pub recipients: Vec<String>,
    /// How soon someone should answer: of its severity in the table.
    pub answer_within: Option<Duration>,
    /// Whether no one wrote it: it is made of the measure's thresholds and the severity table.
    pub is_implicit: bool,
    /// Where it stands.
    pub at: Position,
}

impl Model {
    /// Reads a model: the seed's YAML with its extensions, or a bare `REQ-…:` mapping. `hash` is [`Model::hash_of`] its text.
    /// With the model come its warnings.
    ///
    /// # Errors
    /// Every mistake in it, each with its place, in the order of the file; warnings among them.
    pub fn read(node: &Node, hash: &str) -> Result<(Model, Vec<Problem>), Vec<Problem>> {
        read::model(node, None, hash)
    }

    /// SHA-256 of the model's text, lower-case hex.
    pub fn hash_of(text: &str) -> String {
        finding::hex(&Sha256::digest(text.as_bytes()))
    }

    /// What `tag` should find for this model.
    pub fn interest(&self) -> Interest {
        let mut interest = Interest::default();
        for requirement in self.requirements.values() {
            interest.selections.extend(requirement.selections.iter().cloned());
            for expected in requirement.expectations.values() {
                interest.log_fields.extend(expected.measure.fields().into_iter().map(|(field, _)| field));
            }
            for rule in &requirement.rules {
                let labels = rule.group_by.iter().filter(|label| !COLUMNS.contains(&label.as_str()));
                interest.labels.extend(labels.cloned());
            }
        }
        interest
    }

    /// The requirements as `Finding::Model` carries them, sorted by key.
    pub fn summary(&self) -> Vec<finding::Requirement> {
        self.requirements.values().map(summary_of).collect()
    }
}

fn summary_of(requirement: &Requirement) -> finding::Requirement {
    finding::Requirement {
        req_id: requirement.key.clone(),
        title: requirement.title.clone(),
        requirement_type: requirement.requirement_type.clone(),
        spec_node_id: requirement.spec_node.clone(),
        traces_to: requirement.traces_to.clone(),
        thresholds: requirement
            .expectations
            .iter()
            .filter(|(_, expected)| expected.thresholds != Thresholds::default())
            .map(|(measure, expected)| (measure.clone(), threshold_of(expected)))
            .collect(),
    }
}

/// The thresholds of a measure as findings carry them.
pub fn threshold_of(expected: &Expectation) -> finding::Threshold {
    let levels = LEVELS
        .iter()
        .filter_map(|(name, level)| expected.thresholds.get(*level).map(|value| ((*name).to_owned(), value)));
    finding::Threshold {
        unit: expected.unit.name().to_owned(),
        direction: expected.direction.name().to_owned(),
        levels: levels.collect(),
        source: expected.source.clone(),
    }
}

/// Labels that every row of evidence has as a column of its own.
const COLUMNS: [&str; 2] = ["service.name", "environment"];

/// The words of the levels.
pub const LEVELS: [(&str, Level); 5] = [
    ("target", Level::Target),
    ("warning", Level::Warning),
    ("critical", Level::Critical),
    ("lower", Level::Lower),
    ("upper", Level::Upper),
];
