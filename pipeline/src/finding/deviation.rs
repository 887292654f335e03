//! An episode in which a rule is violated, with the names of reference/vocabulary.md.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// How bad; ordered from least to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Recorded only.
    Low,
    /// Someone may look.
    Medium,
    /// The word `warning` in rules.
    High,
    /// Beyond what the requirement allows.
    Critical,
}

impl Severity {
    /// The word in JSON, subjects and SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

/// What kind of departure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviationType {
    /// Latency.
    PerformanceDegradation,
    /// Errors or failures.
    ErrorRateIncrease,
    /// Anything else that was promised.
    SlaBreach,
    /// Uptime, downtime, availability.
    AvailabilityLoss,
}

impl DeviationType {
    /// The word in JSON and SQL.
    pub const fn name(self) -> &'static str {
        match self {
            DeviationType::PerformanceDegradation => "performance_degradation",
            DeviationType::ErrorRateIncrease => "error_rate_increase",
            DeviationType::SlaBreach => "sla_breach",
            DeviationType::AvailabilityLoss => "availability_loss",
        }
    }
}

/// Where a deviation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A rule is violated.
    Open,
    /// A person has seen it.
    Acknowledged,
    /// No rule is violated, not yet for long enough.
    Recovering,
    /// No rule was violated for `keep_firing_for`.
    Resolved,
    /// It stayed inside its target for `verify_for`.
    Verified,
    /// There were no data, or the model no longer holds the rule.
    Expired,
}

impl Status {
    /// The word in JSON and SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Open => "open",
            Status::Acknowledged => "acknowledged",
            Status::Recovering => "recovering",
            Status::Resolved => "resolved",
            Status::Verified => "verified",
            Status::Expired => "expired",
        }
    }

    /// Whether the episode still holds its fingerprint: at most one live deviation has it.
    pub const fn is_live(self) -> bool {
        matches!(self, Status::Open | Status::Acknowledged | Status::Recovering)
    }
}

/// Which step of its life a finding records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// It opened, or relapsed before it was verified.
    Detected,
    /// Its severity changed, or its worst value passed another threshold.
    Updated,
    /// A rule fired but its cooldown, a silence or an inhibition kept it quiet.
    Suppressed,
    /// A person has seen it.
    Acknowledged,
    /// No rule is violated any more.
    Recovering,
    /// It ended.
    Resolved,
    /// It is really gone.
    Verified,
    /// It ended without an answer.
    Expired,
}

impl Transition {
    /// Every step.
    pub const ALL: [Transition; 8] = [
        Transition::Detected,
        Transition::Updated,
        Transition::Suppressed,
        Transition::Acknowledged,
        Transition::Recovering,
        Transition::Resolved,
        Transition::Verified,
        Transition::Expired,
    ];

    /// The event's name: `deviation_detected` …
    pub const fn event(self) -> &'static str {
        match self {
            Transition::Detected => "deviation_detected",
            Transition::Updated => "deviation_updated",
            Transition::Suppressed => "deviation_suppressed",
            Transition::Acknowledged => "deviation_acknowledged",
            Transition::Recovering => "deviation_recovering",
            Transition::Resolved => "deviation_resolved",
            Transition::Verified => "deviation_verified",
            Transition::Expired => "deviation_expired",
        }
    }
}

/// Which threshold a value is beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// `thresholds.*.target`.
    Target,
    /// `thresholds.*.warning`.
    Warning,
    /// `thresholds.*.critical`.
    Critical,
    /// `thresholds.*.lower`.
    Lower,
    /// `thresholds.*.upper`.
    Upper,
}

/// A deviation as it is after one transition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deviation {
    /// `DEV-YYYYMMDD-NNN`, for people.
    pub deviation_id: String,
    /// UUIDv5 of (fingerprint, opening instant), for programs.
    pub uid: String,
    /// See [`super::fingerprint`].
    pub fingerprint: String,
    /// Where it is now.
    pub status: Status,
    /// The step that this finding records.
    pub transition: Transition,
    /// Why, in words that name the rule and the numbers.
    pub reason: String,
    /// When the step was taken: the end of the window, or the tick, that caused it.
    pub at: Timestamp,
    /// 1 when it opens, one more with every recorded transition.
    pub version: u32,
    /// The canonical requirement key.
    pub req_id: String,
    /// Other keys of the same observations.
    pub also_req_ids: Vec<String>,
    /// The requirement's title, when the model has one.
    pub title: Option<String>,
    /// What kind.
    pub deviation_type: DeviationType,
    /// That of the worst rule firing; after the end, the worst it had.
    pub severity: Severity,
    /// The measure: `p95_latency_ms`.
    pub metric_name: String,
    /// The measure's unit: `ms`, `ratio` …
    pub unit: String,
    /// `lower_is_better` or `higher_is_better`.
    pub direction: String,
    /// In the window of this transition; none when unknown.
    pub current_value: Option<f64>,
    /// The most adverse since it opened.
    pub worst_value: Option<f64>,
    /// Of the rule that fired; none when its condition names no threshold.
    pub threshold_value: Option<f64>,
    /// Which one.
    pub threshold_level: Option<Level>,
    /// None when there is none.
    pub baseline_value: Option<f64>,
    /// (current − baseline) / baseline × 100; none without a baseline, never 100 for want of one.
    pub deviation_percentage: Option<f64>,
    /// The worst rule firing.
    pub rule: DeviationRule,
    /// The window that caused this transition.
    pub window: DeviationWindow,
    /// Start of the first violating window.
    pub started_at: Timestamp,
    /// When it opened.
    pub detected_at: Timestamp,
    /// From `started_at` to `at`, or to the end.
    pub duration_seconds: f64,
    /// The model's, else the evidence's.
    pub spec_node_id: Option<String>,
    /// How evidence and requirement came together.
    pub correlation: DeviationCorrelation,
    /// What it rests on.
    pub evidence: DeviationEvidence,
    /// Where.
    pub context: DeviationContext,
    /// Who reported it.
    pub source: DeviationSource,
    /// http and https only.
    pub telemetry_links: Vec<String>,
    /// What the rule asks for.
    pub actions: Actions,
    /// The intent that it raised.
    pub intent_id: Option<String>,
    /// When it ended.
    pub resolved_at: Option<Timestamp>,
    /// When it was verified.
    pub verified_at: Option<Timestamp>,
    /// How it was put right.
    pub resolution: Option<Resolution>,
    /// The uid of the episode before it with the same fingerprint.
    pub previous_uid: Option<String>,
    /// Who has seen it; gone when it became worse than what was seen, or came back after it was resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledgement: Option<Acknowledgement>,
    /// What keeps it from being told; none when it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Quiet>,
}

/// A person has seen a deviation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acknowledgement {
    /// Who.
    pub author: String,
    /// In the person's words; may be empty.
    pub comment: String,
    /// When.
    pub at: Timestamp,
}

/// What keeps a deviation from being told although its rules fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quiet {
    /// It was told less than the rule's cooldown ago.
    Cooldown,
    /// A person silenced it.
    Silenced,
    /// A rule that the model says is the cause fires.
    Inhibited,
}

/// What the rule asks for, in the model's words.
pub type Actions = Vec<String>;

/// The rule that fired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviationRule {
    /// Unique within its requirement.
    pub id: String,
    /// As written.
    pub condition: String,
    /// How long it must hold.
    pub for_seconds: f64,
    /// The model that held when the episode opened.
    pub model_hash: String,
    /// Where the requirement states the threshold.
    pub requirement_source: Option<RequirementSource>,
    /// A page for people: what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
}

/// A place in a requirement document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequirementSource {
    /// The file.
    pub doc: String,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The words.
    pub text: Option<String>,
}

/// The window that was judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviationWindow {
    /// `tumbling`, `sliding` or `calendar_month`.
    pub kind: String,
    /// First instant.
    pub start: Timestamp,
    /// First instant after it.
    pub end: Timestamp,
    /// Observations in it.
    #[serde(with = "super::id::text")]
    #[schemars(with = "super::id::Digits")]
    pub samples: u64,
}

/// How evidence and requirement came together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviationCorrelation {
    /// `matched`, `partial` or `failed`.
    pub status: String,
    /// 0 … 1.
    pub confidence: f64,
    /// `attribute`, `resource`, `text`, `selector` …
    pub method: String,
    /// Of the truth chain; none without one.
    pub manifest_hash: Option<String>,
}

/// What the verdict rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviationEvidence {
    /// IRI of the graph that holds it.
    pub kg_graph: String,
    /// Exemplars, hex, most adverse first, at most eight.
    pub trace_ids: Vec<String>,
    /// In the window.
    pub counts: Counts,
}

/// Observations of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// All.
    #[serde(with = "super::id::text")]
    #[schemars(with = "super::id::Digits")]
    pub total: u64,
    /// Those that failed.
    #[serde(with = "super::id::text")]
    #[schemars(with = "super::id::Digits")]
    pub errors: u64,
}

/// Where it happened.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DeviationContext {
    /// When all evidence of the window names one.
    pub service: Option<String>,
    /// When all evidence of the window names one; never assumed.
    pub environment: Option<String>,
    /// Of an external alert.
    pub alert_id: Option<String>,
    /// The group labels.
    pub labels: BTreeMap<String, String>,
}

/// Who reported it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviationSource {
    /// The component id of the receiver.
    pub receiver: String,
}

/// How it was put right.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Resolution {
    /// In a person's words.
    pub root_cause: Option<String>,
    /// In a person's words, or a link.
    pub fix: Option<String>,
    /// When the fix went out.
    pub deployed_at: Option<Timestamp>,
    /// When telemetry showed that it holds.
    pub verified_at: Option<Timestamp>,
}
