//! From a decision to the deviation that the ledger keeps: every number, its rule, its evidence, and the reason in words.

use std::collections::BTreeMap;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::evidence::{Correlation, Method};
use homeostat_pipeline::finding::{
    Acknowledgement, Counts, Deviation, DeviationContext, DeviationCorrelation, DeviationEvidence,
    DeviationRule, DeviationSource, DeviationWindow, Quiet, Resolution, Severity, Status, Transition,
    deviation_uid, fingerprint, hex,
};

use super::super::model::{Defaults, Expectation, Requirement, Rule};
use super::decide::Reason;
use super::episode::Episode;
use super::ids::Days;
use super::inhibition::Inhibition;
use super::provenance::Provenance;
use super::ranges::MARGIN_MAX;
use super::reading::Reading;
use super::ruled::Judged;
use super::silence::Silences;
use super::window::Span;

/// Where and when a step is taken, and what is known there.
pub struct Scene<'a> {
    /// The end of the window, or the time of the tick or epoch.
    pub at: Timestamp,
    /// The latest entry's time.
    pub now: Timestamp,
    /// The window; of a measure by the month only the step by which it became longer.
    pub span: Span,
    /// Empty by default.
    pub tenant: &'a str,
    /// The hash of the model that holds.
    pub model_hash: &'a str,
    /// Of the model that holds.
    pub defaults: &'a Defaults,
    /// The requirement, as the model that holds has it.
    pub requirement: &'a Requirement,
    /// The measure and its rules.
    pub judged: &'a Judged,
    /// What the measure came to.
    pub reading: &'a Reading,
    /// What the rows of the window say beside their numbers; none when there is no window (silence).
    pub provenance: &'a dyn Fn() -> Option<Provenance>,
    /// `tumbling`, `sliding` or `calendar_month`.
    pub window_kind: &'static str,
    /// The group labels.
    pub labels: &'a BTreeMap<String, String>,
    /// The worst rule that fires.
    pub rule: Option<&'a Rule>,
    /// What keeps that rule from being told, where it is more than its cooldown.
    pub hushed_by: Option<String>,
    /// Who has seen it, when that is the step.
    pub acknowledgement: Option<&'a Acknowledgement>,
    /// Start of the first violating window.
    pub started_at: Timestamp,
    /// Gives numbers to deviations.
    pub days: &'a mut Days,
    /// What people want to be kept quiet.
    pub silences: &'a Silences,
    /// Which rules fire that others are inhibited by.
    pub inhibition: &'a Inhibition,
    /// Of each rule what keeps it from being told, beside its cooldown; filled in by the judgement.
    pub hushes: Vec<Option<Hush>>,
}

impl Scene<'_> {
    /// What the window is judged by: that of the model's file, with what people adjusted.
    pub fn expected(&self) -> &Expectation {
        self.judged.expected_at(self.span.end)
    }
}

/// What keeps a rule from being told, and its name for people.
#[derive(Clone, Debug)]
pub struct Hush {
    /// Which kind.
    pub quiet: Quiet,
    /// `silence … of ada until …`, `rule … of REQ-…`.
    pub by: String,
}

/// The deviation after `transition`. None only for an end of what never began.
pub fn record(
    episode: &Episode,
    scene: &mut Scene<'_>,
    transition: Transition,
    status: Status,
    severity: Severity,
    reason: Reason,
    is_new: bool,
) -> Option<Deviation> {
    let mut deviation = match (&episode.deviation, is_new) {
        (Some(known), false) => (**known).clone(),
        (before, true) => open(scene, before.as_deref().map(|before| before.uid.clone()))?,
        (None, false) => return None,
    };
    deviation.version += 1;
    deviation.status = status;
    deviation.transition = transition;
    deviation.severity = severity;
    deviation.at = scene.at;
    if let Some(rule) = scene.rule {
        name_rule(&mut deviation, rule, scene);
    }
    if let Some(provenance) = (scene.provenance)() {
        name_evidence(&mut deviation, &provenance, scene);
    } else if !matches!(reason, Reason::ModelChanged | Reason::Acknowledged) {
        deviation.current_value = None;
        deviation.deviation_percentage = None;
    }
    deviation.worst_value = episode.worst;
    match transition {
        Transition::Resolved => deviation.resolved_at = Some(scene.at),
        Transition::Verified => {
            deviation.verified_at = Some(scene.at);
            deviation.resolution = Some(Resolution { verified_at: Some(scene.at), ..Resolution::default() });
        }
        Transition::Detected | Transition::Suppressed => deviation.resolved_at = None,
        Transition::Acknowledged => deviation.acknowledgement = scene.acknowledgement.cloned(),
        Transition::Updated | Transition::Recovering | Transition::Expired => {}
    }
    let end = deviation.resolved_at.unwrap_or(scene.at);
    deviation.duration_seconds = end.since(deviation.started_at).as_secs_f64();
    deviation.reason = words(&deviation, scene, reason);
    Some(deviation)
}

/// A new deviation; its numbers are filled in by whoever asks.
fn open(scene: &mut Scene<'_>, previous_uid: Option<String>) -> Option<Deviation> {
    let rule = scene.rule?;
    let requirement = scene.requirement;
    let measure = &scene.judged.expected.measure.name;
    let print = fingerprint(scene.tenant, &requirement.key, measure, scene.labels);
    let uid = deviation_uid(&print, scene.started_at);
    let kg_graph = format!("urn:homeostat:deviation:{uid}");
    let window = scene.judged.window(scene.span);
    Some(Deviation {
        deviation_id: scene.days.next("DEV", scene.at),
        uid,
        fingerprint: print,
        status: Status::Open,
        transition: Transition::Detected,
        reason: String::new(),
        at: scene.at,
        version: 0,
        req_id: requirement.key.clone(),
        also_req_ids: Vec::new(),
        title: requirement.title.clone(),
        deviation_type: requirement.deviation_type(measure),
        severity: rule.severity,
        metric_name: measure.clone(),
        unit: scene.judged.expected.unit.name().to_owned(),
        direction: scene.judged.expected.direction.name().to_owned(),
        current_value: None,
        worst_value: None,
        threshold_value: None,
        threshold_level: None,
        baseline_value: None,
        deviation_percentage: None,
        rule: DeviationRule {
            id: String::new(),
            condition: String::new(),
            for_seconds: 0.0,
            model_hash: scene.model_hash.to_owned(),
            requirement_source: scene.judged.expected.source.clone(),
            runbook: None,
        },
        window: DeviationWindow {
            kind: scene.window_kind.to_owned(),
            start: window.start,
            end: window.end,
            samples: 0,
        },
        started_at: scene.started_at,
        detected_at: scene.at,
        duration_seconds: 0.0,
        spec_node_id: requirement.spec_node.clone(),
        correlation: DeviationCorrelation {
            status: Correlation::Failed.name().to_owned(),
            confidence: 0.0,
            method: String::new(),
            manifest_hash: None,
        },
        evidence: DeviationEvidence { kg_graph, trace_ids: Vec::new(), counts: Counts::default() },
        context: DeviationContext { labels: scene.labels.clone(), ..DeviationContext::default() },
        source: DeviationSource { receiver: String::new() },
        telemetry_links: Vec::new(),
        actions: Vec::new(),
        intent_id: None,
        resolved_at: None,
        verified_at: None,
        resolution: None,
        previous_uid,
        acknowledgement: None,
        quiet: None,
    })
}

fn name_rule(deviation: &mut Deviation, rule: &Rule, scene: &Scene<'_>) {
    rule.id.clone_into(&mut deviation.rule.id);
    rule.condition.text().clone_into(&mut deviation.rule.condition);
    deviation.rule.for_seconds = rule.holds_for.as_secs_f64();
    deviation.rule.runbook.clone_from(&rule.runbook);
    deviation.threshold_level = rule.condition.threshold_level();
    deviation.threshold_value =
        deviation.threshold_level.and_then(|level| scene.expected().thresholds.get(level));
    deviation.actions.clone_from(&rule.actions);
    // The traces of the violation are what people look at, also after it is over.
    deviation.evidence.trace_ids = scene.reading.traces.iter().map(|trace| hex(trace)).collect();
}

fn name_evidence(deviation: &mut Deviation, provenance: &Provenance, scene: &Scene<'_>) {
    let expected = scene.expected();
    deviation.current_value = scene.reading.value;
    deviation.baseline_value = expected.baseline.and_then(|baseline| baseline.center);
    deviation.deviation_percentage = percentage(deviation.current_value, deviation.baseline_value);
    let window = scene.judged.window(scene.span);
    deviation.window = DeviationWindow {
        kind: scene.window_kind.to_owned(),
        start: window.start,
        end: window.end,
        samples: scene.reading.samples,
    };
    deviation.evidence.counts = Counts { total: scene.reading.samples, errors: scene.reading.errors };
    deviation.also_req_ids = provenance.also.iter().cloned().collect();
    deviation.context.service = provenance.service.get().map(str::to_owned);
    deviation.context.environment = provenance.environment.get().map(str::to_owned);
    if scene.requirement.spec_node.is_none() {
        deviation.spec_node_id = provenance.spec_node.get().map(str::to_owned);
    }
    provenance.source.clone_into(&mut deviation.source.receiver);
    deviation.correlation.status = status_of(provenance.status).name().to_owned();
    deviation.correlation.method = method_of(provenance.method).name().to_owned();
    deviation.correlation.confidence = provenance.confidence();
}

/// (current − baseline) / baseline × 100, to one decimal; none without either, or where the baseline is zero.
fn percentage(current: Option<f64>, baseline: Option<f64>) -> Option<f64> {
    let (current, baseline) = (current?, baseline?);
    let percent = (current - baseline) / baseline.abs() * 100.0;
    percent.is_finite().then(|| (percent * 10.0).round() / 10.0)
}

/// The method of a number in [`Provenance::method`]: the later in the list, the weaker.
fn method_of(number: u8) -> Method {
    match number {
        0 => Method::Attribute,
        1 => Method::Nested,
        2 => Method::Scope,
        3 => Method::Resource,
        4 => Method::Text,
        5 => Method::Selector,
        _ => Method::Flow,
    }
}

/// The status of a number in [`Provenance::status`]: the later in the list, the worse.
fn status_of(number: u8) -> Correlation {
    match number {
        0 => Correlation::Matched,
        1 => Correlation::Partial,
        _ => Correlation::Failed,
    }
}

/// Up to four decimals, without trailing zeros.
fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if value != 0.0 && text.trim_start_matches('-') == "0" { format!("{value:e}") } else { text.to_owned() }
}

/// The reason in words that name the rule and the numbers.
fn words(deviation: &Deviation, scene: &Scene<'_>, reason: Reason) -> String {
    let value = match scene.reading.value {
        Some(value) => {
            let known = margin(scene.reading.margin);
            format!("{} is {} {}{known}", deviation.metric_name, number(value), deviation.unit)
        }
        None => format!("{} is unknown", deviation.metric_name),
    };
    let limit = match (deviation.threshold_level, deviation.threshold_value) {
        (Some(level), Some(limit)) => format!(", {} {} {}", name_of(level), number(limit), deviation.unit),
        (Some(_) | None, _) => String::new(),
    };
    let rule = format!("rule {} (`{}`{limit})", deviation.rule.id, deviation.rule.condition);
    let waited = |seconds: f64| format!("{} s", number(seconds));
    match reason {
        Reason::Violated => format!("{value}: {rule} fires"),
        Reason::Relapsed => format!("{value}: {rule} fires again before the deviation was verified"),
        Reason::CoolingDown => format!("{value}: {rule} fires within its cooldown"),
        Reason::CooldownOver => format!("{value}: {rule} still fires after its cooldown"),
        Reason::Silenced | Reason::Inhibited => {
            format!(
                "{value}: {rule} fires, but {} keeps it quiet",
                scene.hushed_by.as_deref().unwrap_or("another")
            )
        }
        Reason::SilenceOver => format!("{value}: {rule} still fires after its silence"),
        Reason::InhibitionOver => {
            format!("{value}: {rule} still fires, and the rule that kept it quiet does not any more")
        }
        Reason::Acknowledged => acknowledged(scene.acknowledgement),
        Reason::Escalated => format!("{value}: {rule} is worse than before"),
        Reason::Eased => format!("{value}: only {rule} still fires"),
        Reason::PassedLevel => format!("{value}: {rule} fires, and the value passed a worse threshold"),
        Reason::BackInside => format!("{value}: no rule is violated"),
        Reason::HeldInside => format!(
            "{value}: no rule was violated for {}",
            waited(scene.defaults.keep_firing_for.as_secs_f64())
        ),
        Reason::HeldTarget => {
            format!("{value}: inside the target for {}", waited(scene.defaults.verify_for.as_secs_f64()))
        }
        Reason::NoData => {
            format!("no data for {}", waited(scene.defaults.no_data.after.as_secs_f64()))
        }
        Reason::ModelChanged => "model_changed: the model holds no rule for it any more".to_owned(),
        Reason::Healthy
        | Reason::Unknown
        | Reason::Pending
        | Reason::StillViolated
        | Reason::StillRecovering
        | Reason::NotYetVerified
        | Reason::NotLive
        | Reason::TooLateToMatter => value,
    }
}

fn acknowledged(by: Option<&Acknowledgement>) -> String {
    match by {
        Some(by) if by.comment.is_empty() => format!("acknowledged by {}", by.author),
        Some(by) => format!("acknowledged by {}: {}", by.author, by.comment),
        None => "acknowledged".to_owned(),
    }
}

/// How well a value is known, where that is worse than a sketch knows it.
fn margin(margin: f64) -> String {
    if margin <= MARGIN_MAX {
        String::new()
    } else if margin.is_finite() {
        format!(" (± {} %, as the buckets of its histogram allow)", number((margin * 1_000.0).round() / 10.0))
    } else {
        " (or beyond, as the last bucket of its histogram has no end)".to_owned()
    }
}

fn name_of(level: homeostat_pipeline::finding::Level) -> &'static str {
    use homeostat_pipeline::finding::Level;
    match level {
        Level::Target => "target",
        Level::Warning => "warning",
        Level::Critical => "critical",
        Level::Lower => "lower",
        Level::Upper => "upper",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_from_the_baseline_is_in_percent_and_never_invented() {
        assert_eq!(percentage(Some(850.0), Some(235.0)), Some(261.7));
        assert_eq!(percentage(Some(450.0), Some(240.0)), Some(87.5));
        assert_eq!(percentage(Some(0.5), Some(1.0)), Some(-50.0));
        assert_eq!(percentage(Some(850.0), None), None);
        assert_eq!(percentage(Some(850.0), Some(0.0)), None);
        assert_eq!(percentage(None, Some(235.0)), None);
    }

    #[test]
    fn numbers_are_short_in_words() {
        for (value, expected) in [
            (850.0, "850"),
            (0.05, "0.05"),
            (-1.25, "-1.25"),
            (0.0, "0"),
            (99.99994, "99.9999"),
            (3e-7, "3e-7"),
        ] {
            assert_eq!(number(value), expected);
        }
    }
}
