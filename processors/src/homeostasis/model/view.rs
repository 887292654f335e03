//! A model as it holds: everything that is left out filled in, for people and programs to look at.

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat_pipeline::settings::Period;
use serde::Serialize;

use super::fed::feeders;
use super::{
    AutoApprove, Baseline, Expectation, Flow, LEVELS, Model, Requirement, Rule, Statistic, Thresholds,
    Unknown, WithoutData, pane_of,
};

/// A resolved model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct View {
    /// SHA-256 of what it was read from, hex.
    pub model_hash: String,
    /// As written.
    pub version: String,
    /// What holds where a requirement says nothing, by its key in YAML.
    pub defaults: BTreeMap<&'static str, String>,
    /// The longest time of which all windows are multiples.
    pub pane: String,
    /// Sorted by key.
    pub requirements: Vec<RequirementView>,
    /// Flow → its steps, in words.
    pub flows: BTreeMap<String, Vec<String>>,
}

/// A resolved requirement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequirementView {
    /// The canonical key.
    pub req_id: String,
    /// What else it says of itself: title, type, spec node, traces, `effective_from`; only what is stated.
    pub about: BTreeMap<&'static str, String>,
    /// Sorted by name.
    pub measures: Vec<MeasureView>,
    /// In the order written.
    pub rules: Vec<RuleView>,
    /// What it is called elsewhere: `datadog auth.login.latency`.
    pub elsewhere: Vec<String>,
}

/// A resolved measure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeasureView {
    /// Its name.
    pub measure: String,
    /// What it is: `the 95 % quantile`.
    pub is: String,
    /// Of all numbers below.
    pub unit: &'static str,
    /// `lower_is_better` or `higher_is_better`.
    pub direction: &'static str,
    /// The window that it is judged over.
    pub window: String,
    /// Level → number.
    pub thresholds: BTreeMap<&'static str, f64>,
    /// Statistic → number; `baseline` is what that word means in a condition.
    pub baseline: BTreeMap<&'static str, f64>,
    /// What reaches it; empty when nothing does.
    pub fed_by: Vec<String>,
}

/// A resolved rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleView {
    /// Unique within the requirement.
    pub id: String,
    /// The measure that it judges.
    pub measure: String,
    /// As written.
    pub condition: String,
    /// As it is evaluated.
    pub compiled: String,
    /// `critical`, `high`, `medium` or `low`.
    pub severity: &'static str,
    /// How long it must hold.
    #[serde(rename = "for")]
    pub holds_for: String,
    /// What follows.
    pub actions: Vec<String>,
    /// How long it is then quiet.
    pub cooldown: String,
    /// By which labels.
    pub group_by: Vec<String>,
    /// The rules that keep it quiet while they fire: `REQ-…/id`.
    pub inhibited_by: Vec<String>,
    /// A page for people.
    pub runbook: Option<String>,
    /// Whether it is made of the thresholds and the severity table.
    pub is_implicit: bool,
    /// Who is told.
    pub recipients: Vec<String>,
    /// How soon someone should answer; none when nobody has to.
    pub response_sla: Option<String>,
}

/// As a model would write it.
pub(super) fn period(length: Duration) -> String {
    Period(length).to_string()
}

impl View {
    /// What the model says, resolved.
    pub fn of(model: &Model) -> View {
        View {
            model_hash: model.hash.clone(),
            version: model.version.clone(),
            defaults: defaults(model),
            pane: period(pane_of(&model.defaults.window, &model.requirements)),
            requirements: model.requirements.values().map(|requirement| one(model, requirement)).collect(),
            flows: model.flows.iter().map(|(name, flow)| (name.clone(), steps(flow))).collect(),
        }
    }
}

fn defaults(model: &Model) -> BTreeMap<&'static str, String> {
    let defaults = &model.defaults;
    let window = &defaults.window;
    let mut all = BTreeMap::from([
        ("window.kind", window.kind().to_owned()),
        ("window.size", period(window.size)),
        ("window.allowed_lateness", period(window.allowed_lateness)),
        ("window.correction", period(window.correction)),
        ("window.min_samples", window.min_samples.to_string()),
        ("cooldown", period(defaults.cooldown)),
        ("keep_firing_for", period(defaults.keep_firing_for)),
        ("verify_for", period(defaults.verify_for)),
        ("no_data.after", period(defaults.no_data.after)),
    ]);
    if window.every != window.size {
        all.insert("window.slide", period(window.every));
    }
    let without = match defaults.no_data.becomes {
        WithoutData::Keep => "keep",
        WithoutData::Expired => "expired",
        WithoutData::Breach => "breach",
    };
    let unknown = match defaults.unknown_is {
        Unknown::Ok => "ok",
        Unknown::Breach => "breach",
        Unknown::NoData => "no_data",
    };
    let approve = match defaults.auto_approve {
        AutoApprove::Never => "never",
        AutoApprove::Critical => "critical",
    };
    for (key, word) in [("no_data.as", without), ("unknown_is", unknown), ("intent.auto_approve", approve)] {
        all.insert(key, word.to_owned());
    }
    all.insert("judge_by_thresholds", defaults.judge_by_thresholds.to_string());
    all
}

fn one(model: &Model, requirement: &Requirement) -> RequirementView {
    let mut about = BTreeMap::new();
    let texts = [
        ("title", &requirement.title),
        ("type", &requirement.requirement_type),
        ("spec_node", &requirement.spec_node),
        ("effective_from", &requirement.effective_from.map(|from| from.to_string())),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            about.insert(key, text.clone());
        }
    }
    for (kind, key) in [("adr", "traces_to.adr"), ("prd", "traces_to.prd"), ("sds", "traces_to.sds")] {
        if let Some(ids) = requirement.traces_to.get(kind) {
            about.insert(key, ids.join(", "));
        }
    }
    let elsewhere = requirement.foreign.iter().map(|foreign| {
        let of = foreign.measure.as_deref().unwrap_or("no measure");
        format!("{} {}: {of}", foreign.system, foreign.metric)
    });
    RequirementView {
        req_id: requirement.key.clone(),
        about,
        measures: requirement
            .expectations
            .values()
            .map(|expected| measure(model, requirement, expected))
            .collect(),
        rules: requirement.rules.iter().map(rule).collect(),
        elsewhere: elsewhere.collect(),
    }
}

fn measure(model: &Model, requirement: &Requirement, expected: &Expectation) -> MeasureView {
    let window = &model.defaults.window;
    let window = if expected.measure.is_monthly {
        "calendar month so far".to_owned()
    } else if window.every == window.size {
        period(window.size)
    } else {
        format!("{} every {}", period(window.size), period(window.every))
    };
    MeasureView {
        measure: expected.measure.name.clone(),
        is: statistic(expected.measure.statistic),
        unit: expected.unit.name(),
        direction: expected.direction.name(),
        window,
        thresholds: levels(&expected.thresholds),
        baseline: expected.baseline.as_ref().map(statistics).unwrap_or_default(),
        fed_by: feeders(requirement, &expected.measure),
    }
}

/// The levels that are stated.
pub(super) fn levels(thresholds: &Thresholds) -> BTreeMap<&'static str, f64> {
    LEVELS.iter().filter_map(|(word, level)| Some((*word, thresholds.get(*level)?))).collect()
}

/// The statistics that are stated.
pub(super) fn statistics(baseline: &Baseline) -> BTreeMap<&'static str, f64> {
    let all = [
        ("baseline", baseline.center),
        ("p50", baseline.p50),
        ("p95", baseline.p95),
        ("p99", baseline.p99),
        ("mean", baseline.mean),
        ("median", baseline.median),
        ("mad", baseline.mad),
        ("stddev", baseline.stddev),
    ];
    all.into_iter().filter_map(|(word, number)| Some((word, number?))).collect()
}

fn statistic(statistic: Statistic) -> String {
    let words = match statistic {
        // To a thousandth of a percent: 99.9 is not 99.90000000000001.
        Statistic::Quantile(quantile) => {
            return format!("the {} % quantile", (quantile * 100_000.0).round() / 1_000.0);
        }
        Statistic::Mean => "the mean",
        Statistic::Min => "the smallest value",
        Statistic::Max => "the largest value",
        Statistic::Sum => "the sum",
        Statistic::ErrorRate => "failed observations / observations",
        Statistic::SuccessRate => "succeeded observations / observations",
        Statistic::Rate => "observations per second",
        Statistic::Count => "observations",
        Statistic::ErrorCount => "failed observations",
        Statistic::Uptime => "the share of minutes that are up",
        Statistic::Downtime => "the time that is down",
        Statistic::Ratio => "good observations / all",
    };
    words.to_owned()
}

fn rule(rule: &Rule) -> RuleView {
    RuleView {
        id: rule.id.clone(),
        measure: rule.measure.clone(),
        condition: rule.condition.text().to_owned(),
        compiled: rule.condition.compiled(),
        severity: rule.severity.name(),
        holds_for: period(rule.holds_for),
        actions: rule.actions.clone(),
        cooldown: period(rule.cooldown),
        group_by: rule.group_by.clone(),
        inhibited_by: rule.inhibited_by.iter().map(ToString::to_string).collect(),
        runbook: rule.runbook.clone(),
        is_implicit: rule.is_implicit,
        recipients: rule.recipients.clone(),
        response_sla: rule.answer_within.map(period),
    }
}

/// The steps of a flow and their order, in words.
pub(super) fn steps(flow: &Flow) -> Vec<String> {
    let mut all: Vec<String> = flow
        .steps
        .iter()
        .map(|step| {
            let most =
                step.max.map_or_else(|| "any number of times".to_owned(), |max| format!("at most {max}"));
            let missing = step.missing_severity.name();
            format!("{}: {} (at least {}, {most}; {missing} when missing)", step.id, step.selector, step.min)
        })
        .collect();
    all.extend(flow.order.iter().map(|(first, second)| format!("{first} before {second}")));
    let others = if flow.allow_unknown { "allowed" } else { "not allowed" };
    all.push(format!("other activity {others}; complete after {}", period(flow.complete_after)));
    all
}
