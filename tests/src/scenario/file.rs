//! The YAML of a scenario.
//!
//! ```yaml
//! name: what it claims
//! model: |                # the homeostasis model, as a text; the word `seed` for the one that ships
//!   …
//! until: 10m              # the last tick; else a while after the last sending
//! timeline:
//!   - { at: 0s, every: 10s, times: 6, spans: { count: 20, duration: 850ms, req: REQ-NFR-PERF-001, flow: auth/Login } }
//!   - { at: 65s, decision: { kind: silence, by: ada, about: { matchers: "severity=high", ends_at: +5m } } }
//!   - { at: 70s, late: 30s, logs: { count: 5, severity: ERROR, req: REQ-F-AUTH-001, body: "…" } }
//!   - { at: 0s, every: 10s, times: 6, metrics: { name: requests, kind: sum, temporality: cumulative, start: 0s, value: 20 } }
//! expect:                 # every step of every deviation, in order
//!   - { at: 60s, transition: detected, severity: critical, req: REQ-NFR-PERF-001, measure: p95_latency_ms, value: 850, deviation: A }
//! behaviors:              # these and maybe others
//!   - { node: "sea:auth:Login", window: 0s, version: 1, count: 120 }
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat_pipeline::finding::{Behavior, Deviation, Level, Severity, Status, Transition};
use homeostat_pipeline::settings::Period;
use serde::Deserialize;

/// A story and what must come of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// A claim.
    pub name: String,
    model: String,
    until: Option<Period>,
    timeline: Vec<Item>,
    /// Every step of every deviation, in order.
    pub expect: Vec<Expected>,
    /// Behaviors that must be among those that came.
    #[serde(default)]
    pub behaviors: Vec<ExpectedBehavior>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    at: Period,
    /// Sent again after this much …
    every: Option<Period>,
    /// … so many times in all.
    times: Option<u32>,
    /// The observations ended this long before they are sent …
    #[serde(default)]
    late: Period,
    /// … or will only end that much later.
    #[serde(default)]
    ahead: Period,
    spans: Option<Spans>,
    logs: Option<Logs>,
    metrics: Option<Metrics>,
    model: Option<String>,
    decision: Option<Decided>,
}

/// What a person decides. A value `+90s` is that instant after the start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// `acknowledge`, `silence` …
    pub kind: String,
    /// Who.
    pub by: String,
    /// About what, and how.
    #[serde(default)]
    pub about: BTreeMap<String, String>,
}

/// One sending.
#[derive(Clone, Debug)]
pub struct Sending {
    /// When, since the start.
    pub at: Duration,
    /// How long before that the observations were made.
    pub late: Duration,
    /// How long after that they will have been made.
    pub ahead: Duration,
    /// Spans of it.
    pub spans: Option<Spans>,
    /// Log records of it.
    pub logs: Option<Logs>,
    /// A data point of it.
    pub metrics: Option<Metrics>,
    /// Which of its repetitions it is, from 1.
    pub repetition: u32,
    /// The model that holds from here on.
    pub model: Option<String>,
    /// What a person decides.
    pub decision: Option<Decided>,
}

/// Spans alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spans {
    /// How many.
    pub count: u32,
    /// Each span's.
    #[serde(default)]
    pub duration: Period,
    /// So many of them fail.
    #[serde(default)]
    pub errors: u32,
    /// The attribute `req`: a key, or a list of keys.
    pub req: Option<Scalar>,
    /// `context/flow`.
    pub flow: Option<String>,
    /// The span's name.
    pub name: Option<String>,
    /// `service.name`.
    pub service: Option<String>,
    /// Of each span.
    #[serde(default)]
    pub attributes: BTreeMap<String, Scalar>,
    /// Of their resource.
    #[serde(default)]
    pub resource: BTreeMap<String, Scalar>,
    /// Whether they say no time at all.
    #[serde(default)]
    pub timeless: bool,
}

/// Log records alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logs {
    /// How many.
    pub count: u32,
    /// `INFO`, `ERROR` …; none when it does not say.
    pub severity: Option<String>,
    /// The attribute `req`.
    pub req: Option<String>,
    /// `context/flow`.
    pub flow: Option<String>,
    /// A text, or the fields of a map.
    pub body: Option<Scalar>,
    /// `service.name`.
    pub service: Option<String>,
    /// Of each record.
    #[serde(default)]
    pub attributes: BTreeMap<String, Scalar>,
}

/// What a data point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// `value`.
    Gauge,
    /// `value`, monotonic.
    Sum,
    /// `bounds` and `counts`.
    Histogram,
    /// `scale`, `offset`, `counts`.
    Exponential,
    /// `quantiles`.
    Summary,
}

/// One data point. Of a cumulative one, value and counts are what each repetition adds to `base`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// The metric's name.
    pub name: String,
    /// What it is.
    pub kind: MetricKind,
    /// UCUM.
    #[serde(default)]
    pub unit: String,
    /// Whether it counts since `start`.
    #[serde(default)]
    pub cumulative: bool,
    /// Since the start of the scenario; unknown (0) where absent.
    pub start: Option<Period>,
    /// Of a gauge or a sum.
    #[serde(default)]
    pub value: f64,
    /// What a cumulative sum was before.
    #[serde(default)]
    pub base: f64,
    /// Upper bounds.
    #[serde(default)]
    pub bounds: Vec<f64>,
    /// In buckets.
    #[serde(default)]
    pub counts: Vec<u64>,
    /// Of an exponential histogram.
    #[serde(default)]
    pub scale: i32,
    /// Index of the first count.
    #[serde(default)]
    pub offset: i32,
    /// Pairs of quantile and value.
    #[serde(default)]
    pub quantiles: Vec<(f64, f64)>,
    /// Whether it says that it has no value.
    #[serde(default)]
    pub no_recorded_value: bool,
    /// Whether an exemplar names a trace.
    #[serde(default)]
    pub exemplar: bool,
    /// The attribute `req`.
    pub req: Option<String>,
    /// `service.name`.
    pub service: Option<String>,
    /// Of the point.
    #[serde(default)]
    pub attributes: BTreeMap<String, Scalar>,
}

/// A value of an attribute.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Integer(i64),
    /// A double, `.nan` too.
    Float(f64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Scalar>),
    /// A key-value list.
    Map(BTreeMap<String, Scalar>),
}

/// One step in the life of a deviation. What is not stated is not compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    at: Period,
    transition: Transition,
    status: Option<Status>,
    severity: Option<Severity>,
    req: Option<String>,
    also: Option<Vec<String>>,
    measure: Option<String>,
    /// Within 1 %.
    value: Option<f64>,
    worst: Option<f64>,
    threshold: Option<f64>,
    level: Option<Level>,
    percentage: Option<f64>,
    rule: Option<String>,
    samples: Option<u64>,
    errors: Option<u64>,
    traces: Option<usize>,
    started: Option<Period>,
    version: Option<u32>,
    node: Option<String>,
    service: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    actions: Option<Vec<String>>,
    method: Option<String>,
    reason: Option<String>,
    /// Steps with the same name here are of one deviation, those with others of others.
    pub deviation: Option<String>,
}

/// A behavior that must have been observed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedBehavior {
    node: String,
    window: Period,
    version: u32,
    count: u64,
    #[serde(default)]
    errors: u64,
    p95: Option<f64>,
}

impl Scenario {
    /// What is sent, in the order of time.
    pub fn sendings(&self) -> Vec<Sending> {
        let mut sendings: Vec<Sending> = self
            .timeline
            .iter()
            .flat_map(|item| {
                let every = item.every.unwrap_or_default().0;
                (0..item.times.unwrap_or(1)).map(move |time| Sending {
                    at: item.at.0 + every * time,
                    late: item.late.0,
                    ahead: item.ahead.0,
                    spans: item.spans.clone(),
                    logs: item.logs.clone(),
                    metrics: item.metrics.clone(),
                    repetition: time + 1,
                    model: item.model.clone(),
                    decision: item.decision.clone(),
                })
            })
            .collect();
        sendings.sort_by_key(|sending| sending.at);
        sendings
    }

    /// The model's text.
    pub fn model(&self) -> &str {
        if self.model == "seed" { homeostat_config::MODEL } else { &self.model }
    }

    /// The last tick.
    pub fn until(&self) -> Duration {
        let last = || self.sendings().last().map(|sending| sending.at).unwrap_or_default();
        self.until.map_or_else(|| last() + Duration::from_secs(120), |period| period.0)
    }
}

fn near(one: f64, two: f64) -> bool {
    (one - two).abs() <= two.abs() * 0.01 + 1e-12
}

impl Expected {
    /// What about `deviation` is not as expected.
    pub fn faults(&self, deviation: &Deviation) -> Vec<String> {
        let mut faults = Vec::new();
        let mut same = |name: &str, expected: Option<String>, got: String| {
            if let Some(expected) = expected.filter(|expected| *expected != got) {
                faults.push(format!("{name} is {got}, not {expected}"));
            }
        };
        let debug = |value: &dyn std::fmt::Debug| format!("{value:?}");
        same("at", Some(super::at(self.at.0).to_string()), deviation.at.to_string());
        same("transition", Some(debug(&self.transition)), debug(&deviation.transition));
        same("status", self.status.map(|status| debug(&status)), debug(&deviation.status));
        same("severity", self.severity.map(|severity| debug(&severity)), debug(&deviation.severity));
        same("req", self.req.clone(), deviation.req_id.clone());
        same("also", self.also.as_ref().map(|also| debug(also)), debug(&deviation.also_req_ids));
        same("measure", self.measure.clone(), deviation.metric_name.clone());
        same("level", self.level.map(|level| debug(&Some(level))), debug(&deviation.threshold_level));
        same("rule", self.rule.clone(), deviation.rule.id.clone());
        same("samples", self.samples.map(|count| count.to_string()), deviation.window.samples.to_string());
        same(
            "errors",
            self.errors.map(|count| count.to_string()),
            deviation.evidence.counts.errors.to_string(),
        );
        same(
            "traces",
            self.traces.map(|count| count.to_string()),
            deviation.evidence.trace_ids.len().to_string(),
        );
        let started = self.started.map(|started| super::at(started.0).to_string());
        same("started", started, deviation.started_at.to_string());
        same("version", self.version.map(|version| version.to_string()), deviation.version.to_string());
        same("node", self.node.clone(), deviation.spec_node_id.clone().unwrap_or_default());
        same("service", self.service.clone(), deviation.context.service.clone().unwrap_or_default());
        same("actions", self.actions.as_ref().map(|actions| debug(actions)), debug(&deviation.actions));
        same("method", self.method.clone(), deviation.correlation.method.clone());
        for (name, value) in &self.labels {
            let got = deviation.context.labels.get(name).cloned().unwrap_or_default();
            same(name, Some(value.clone()), got);
        }
        for (name, expected, got) in [
            ("value", self.value, deviation.current_value),
            ("worst", self.worst, deviation.worst_value),
            ("threshold", self.threshold, deviation.threshold_value),
            ("percentage", self.percentage, deviation.deviation_percentage),
        ] {
            if let Some(expected) = expected
                && !got.is_some_and(|got| near(got, expected))
            {
                faults.push(format!("{name} is {got:?}, not {expected}"));
            }
        }
        if let Some(words) = &self.reason
            && !deviation.reason.contains(words)
        {
            faults.push(format!("the reason `{}` does not hold `{words}`", deviation.reason));
        }
        faults
    }
}

impl ExpectedBehavior {
    /// Whether it is this one.
    pub fn is(&self, behavior: &Behavior) -> bool {
        let p95 = behavior.measures.get("p95_latency_ms").map(|measure| measure.value);
        self.node == behavior.spec_node_id
            && super::at(self.window.0) == behavior.window_start
            && (self.version, self.count, self.errors) == (behavior.version, behavior.count, behavior.errors)
            && self.p95.is_none_or(|expected| p95.is_some_and(|got| near(got, expected)))
    }
}

/// A step as the report shows it.
pub fn shown(deviation: &Deviation) -> String {
    format!(
        "{{ at: {}s, transition: {:?}, status: {:?}, severity: {:?}, req: {}, measure: {}, value: {:?}, rule: {}, reason: {} }}",
        deviation.at.since(super::at(Duration::ZERO)).as_secs_f64(),
        deviation.transition,
        deviation.status,
        deviation.severity,
        deviation.req_id,
        deviation.metric_name,
        deviation.current_value,
        deviation.rule.id,
        deviation.reason,
    )
}
