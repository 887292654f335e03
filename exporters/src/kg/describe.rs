//! Findings as aggregates: each one named graph, replaced whole.

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{
    AdjustmentChange, Behavior, Deviation, ModelChanged, Requirement, Threshold, ThresholdAdjusted,
    behavior_uid,
};
use oxigraph::model::vocab::rdf;
use oxigraph::model::{Literal, NamedNode, Term, Triple};

use super::vocabulary::{DCTERMS, Namespaces, OSLC_RM, PROV, QUDT, SOSA, integer, term, text, time, urn};

/// Quads that one behavior may take.
pub(super) const BEHAVIOR_QUADS_MAX: usize = 30;
/// Of these, measures and requirements; traces get what is left.
const MEASURES_MAX: usize = 8;
const REQUIREMENTS_MAX: usize = 3;

/// One named graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aggregate {
    /// Its name, and the node that it is about.
    pub graph: NamedNode,
    /// Never overwrites a greater one.
    pub version: u64,
    pub triples: Vec<Triple>,
}

/// Collects triples.
struct Writer<'a> {
    names: &'a Namespaces,
    triples: Vec<Triple>,
}

impl Writer<'_> {
    fn add(&mut self, subject: &NamedNode, predicate: NamedNode, object: impl Into<Term>) {
        self.triples.push(Triple::new(subject.clone(), predicate, object));
    }

    fn is_a(&mut self, subject: &NamedNode, class: NamedNode) {
        self.add(subject, rdf::TYPE.into_owned(), class);
    }

    fn own(&mut self, subject: &NamedNode, name: &str, object: impl Into<Term>) {
        let predicate = self.names.homeo(name);
        self.add(subject, predicate, object);
    }

    fn own_text(&mut self, subject: &NamedNode, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.own(subject, name, text(value));
        }
    }

    fn own_number(&mut self, subject: &NamedNode, name: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.own(subject, name, Literal::from(value));
        }
    }

    fn own_time(&mut self, subject: &NamedNode, name: &str, value: Option<Timestamp>) {
        if let Some(value) = value {
            self.own(subject, name, time(value));
        }
    }

    fn identifier(&mut self, subject: &NamedNode, id: &str) {
        self.add(subject, term(DCTERMS, "identifier"), text(id));
    }

    fn done(self, graph: NamedNode, version: u64) -> Aggregate {
        let mut triples = self.triples;
        triples.sort_by_cached_key(ToString::to_string);
        triples.dedup();
        Aggregate { graph, version, triples }
    }
}

fn prov(name: &str) -> NamedNode {
    term(PROV, name)
}

pub(super) fn requirement(key: &str) -> NamedNode {
    urn("requirement", &[key])
}

pub(super) fn behavior_graph(uid: &str) -> NamedNode {
    urn("behavior", &[uid])
}

pub(super) fn deviation_graph(uid: &str) -> NamedNode {
    urn("deviation", &[uid])
}

pub(super) fn spec_graph(model_hash: &str) -> NamedNode {
    urn("spec", &[model_hash])
}

/// The windows that a deviation rests on: the one it began with and the one that it was judged by last. As uids of behaviors.
pub(super) fn cited(deviation: &Deviation) -> Vec<String> {
    let Some(spec_node) = &deviation.spec_node_id else { return Vec::new() };
    let window = &deviation.window;
    let first_end = deviation.started_at + window.end.since(window.start);
    let mut uids = vec![
        behavior_uid(spec_node, deviation.started_at, first_end),
        behavior_uid(spec_node, window.start, window.end),
    ];
    uids.dedup();
    uids
}

/// The summary of a spec node's window.
pub(super) fn behavior(behavior: &Behavior, names: &Namespaces) -> Aggregate {
    let mut out = Writer { names, triples: Vec::with_capacity(BEHAVIOR_QUADS_MAX) };
    let evidence = behavior_graph(&behavior.uid);
    let observation = urn("observation", &[&behavior.uid]);
    let flow = names.flow(&behavior.spec_node_id);
    out.is_a(&evidence, names.homeo("BehaviorEvidence"));
    out.is_a(&evidence, prov("Entity"));
    out.own(&evidence, "version", integer(behavior.version.into()));
    out.own(&evidence, "count", integer(behavior.count));
    out.own(&evidence, "errors", integer(behavior.errors));
    out.own(&evidence, "confidence", Literal::from(behavior.confidence));
    out.add(&evidence, prov("wasGeneratedBy"), observation.clone());
    out.add(&flow, names.sea("observed_behavior"), evidence.clone());
    out.is_a(&observation, term(SOSA, "Observation"));
    out.is_a(&observation, prov("Activity"));
    out.add(&observation, term(SOSA, "hasFeatureOfInterest"), flow);
    let interval = urn("interval", &[&behavior.window_start.to_string(), &behavior.window_end.to_string()]);
    out.add(&observation, term(SOSA, "phenomenonTime"), interval);
    out.add(&observation, term(SOSA, "resultTime"), time(behavior.window_end));
    out.add(&observation, prov("startedAtTime"), time(behavior.window_start));
    out.add(&observation, prov("endedAtTime"), time(behavior.window_end));
    // The simple result is one number; all of them stand on the evidence.
    let headline =
        ["p95_latency_ms", "error_rate"].iter().find_map(|name| behavior.measures.get_key_value(*name));
    if let Some((name, measure)) = headline.or_else(|| behavior.measures.first_key_value()) {
        out.add(&observation, term(SOSA, "observedProperty"), names.homeo(name));
        out.add(&observation, term(SOSA, "hasSimpleResult"), Literal::from(measure.value));
    }
    for (name, measure) in behavior.measures.iter().take(MEASURES_MAX) {
        out.own(&evidence, name, Literal::from(measure.value));
    }
    for key in behavior.req_ids.iter().take(REQUIREMENTS_MAX) {
        out.own(&evidence, "concerns", requirement(key));
    }
    let left = BEHAVIOR_QUADS_MAX.saturating_sub(out.triples.len());
    for trace in behavior.trace_ids.iter().take(left) {
        out.own(&evidence, "traceId", text(trace));
    }
    out.done(evidence, behavior.version.into())
}

/// A deviation as it is now, and how it was detected.
pub(super) fn deviation(deviation: &Deviation, names: &Namespaces) -> Aggregate {
    let mut out = Writer { names, triples: Vec::with_capacity(48) };
    let node = deviation_graph(&deviation.uid);
    let violated = requirement(&deviation.req_id);
    out.is_a(&node, names.homeo("Deviation"));
    out.is_a(&node, prov("Entity"));
    out.identifier(&node, &deviation.deviation_id);
    out.own(&node, "version", integer(deviation.version.into()));
    out.own(&node, "violates", violated.clone());
    out.is_a(&violated, term(OSLC_RM, "Requirement"));
    out.identifier(&violated, &deviation.req_id);
    for key in &deviation.also_req_ids {
        out.own(&node, "concerns", requirement(key));
    }
    if let Some(spec_node) = &deviation.spec_node_id {
        let flow = names.flow(spec_node);
        out.own(&node, "onFlow", flow.clone());
        out.is_a(&flow, names.sea("Flow"));
        out.identifier(&flow, spec_node);
    }
    for uid in cited(deviation) {
        out.add(&node, prov("wasDerivedFrom"), behavior_graph(&uid));
    }
    for trace in &deviation.evidence.trace_ids {
        out.own(&node, "traceId", text(trace));
    }
    state(&mut out, &node, deviation);
    place(&mut out, &node, deviation);
    detection(&mut out, &node, deviation);
    out.done(node, deviation.version.into())
}

/// Where it is in its life, and its numbers.
fn state(out: &mut Writer<'_>, node: &NamedNode, deviation: &Deviation) {
    out.own_text(node, "status", Some(deviation.status.name()));
    out.own_text(node, "transition", Some(deviation.transition.event()));
    out.own_text(node, "reason", Some(&deviation.reason));
    out.own_text(node, "severity", Some(deviation.severity.name()));
    out.own_text(node, "deviationType", Some(deviation.deviation_type.name()));
    out.own_text(node, "measure", Some(&deviation.metric_name));
    out.own_text(node, "unit", Some(&deviation.unit));
    out.own_number(node, "currentValue", deviation.current_value);
    out.own_number(node, "worstValue", deviation.worst_value);
    out.own_number(node, "thresholdValue", deviation.threshold_value);
    out.own_number(node, "baselineValue", deviation.baseline_value);
    out.own_number(node, "deviationPercentage", deviation.deviation_percentage);
    out.own_time(node, "startedAt", Some(deviation.started_at));
    out.own_time(node, "detectedAt", Some(deviation.detected_at));
    out.own_time(node, "resolvedAt", deviation.resolved_at);
    out.own_time(node, "verifiedAt", deviation.verified_at);
    if let Some(resolution) = &deviation.resolution {
        out.own_text(node, "rootCause", resolution.root_cause.as_deref());
        out.own_text(node, "fix", resolution.fix.as_deref());
        out.own_time(node, "deployedAt", resolution.deployed_at);
    }
    if let Some(previous) = &deviation.previous_uid {
        out.own(node, "follows", deviation_graph(previous));
    }
}

/// Where it happened, and who said so.
fn place(out: &mut Writer<'_>, node: &NamedNode, deviation: &Deviation) {
    out.own_text(node, "service", deviation.context.service.as_deref());
    out.own_text(node, "environment", deviation.context.environment.as_deref());
    out.own_text(node, "alertId", deviation.context.alert_id.as_deref());
    out.own_text(node, "receiver", Some(&deviation.source.receiver));
    for (name, value) in &deviation.context.labels {
        out.own_text(node, "label", Some(&format!("{name}={value}")));
    }
    for link in &deviation.telemetry_links {
        out.own_text(node, "telemetryLink", Some(link));
    }
}

/// The activity that generated it, whose plan is the rule at its model hash.
fn detection(out: &mut Writer<'_>, node: &NamedNode, deviation: &Deviation) {
    let detection = urn("detection", &[&deviation.uid]);
    let association = urn("association", &[&deviation.uid]);
    let hash = &deviation.rule.model_hash;
    let rule = urn("rule", &[hash, &deviation.req_id, &deviation.rule.id]);
    out.add(node, prov("wasGeneratedBy"), detection.clone());
    out.is_a(&detection, prov("Activity"));
    out.add(&detection, prov("endedAtTime"), time(deviation.detected_at));
    for uid in cited(deviation) {
        out.add(&detection, prov("used"), behavior_graph(&uid));
    }
    out.add(&detection, prov("qualifiedAssociation"), association.clone());
    out.is_a(&association, prov("Association"));
    out.add(&association, prov("agent"), urn("agent", &["homeostasis"]));
    out.add(&association, prov("hadPlan"), rule.clone());
    out.is_a(&rule, prov("Plan"));
    out.is_a(&rule, out.names.homeo("Rule"));
    out.identifier(&rule, &deviation.rule.id);
    out.own_text(&rule, "condition", Some(&deviation.rule.condition));
    out.own_text(&rule, "runbook", deviation.rule.runbook.as_deref());
    out.own(&rule, "inModel", urn("model", &[hash]));
}

/// A threshold that a person adjusted: who approved which number instead of the model's, from when on.
pub(super) fn adjustment(adjusted: &ThresholdAdjusted, names: &Namespaces) -> Aggregate {
    let mut out = Writer { names, triples: Vec::new() };
    let node = urn("adjustment", &[&adjusted.id]);
    let agent = urn("agent", &[&adjusted.approved_by]);
    let state = match adjusted.change {
        AdjustmentChange::Approved => "approved",
        AdjustmentChange::Effective => "effective",
        AdjustmentChange::Void => "void",
    };
    let level = serde_json::to_value(adjusted.level).ok();
    out.is_a(&node, names.homeo("ThresholdAdjustment"));
    out.is_a(&node, prov("Activity"));
    out.identifier(&node, &adjusted.update_id);
    out.own(&node, "version", integer(adjusted.version.into()));
    out.own_text(&node, "status", Some(state));
    out.own(&node, "adjusts", requirement(&adjusted.req_id));
    out.own_text(&node, "measure", Some(&adjusted.measure));
    out.own_text(&node, "level", level.as_ref().and_then(serde_json::Value::as_str));
    out.own_number(&node, "oldValue", Some(adjusted.old));
    out.own_number(&node, "newValue", Some(adjusted.new));
    out.own_text(&node, "unit", Some(&adjusted.unit));
    out.own_text(&node, "reason", Some(&adjusted.reason));
    out.own_text(&node, "voidBecause", adjusted.void_because.as_deref());
    out.add(&node, prov("wasAssociatedWith"), agent.clone());
    out.is_a(&agent, prov("Agent"));
    out.add(&node, prov("endedAtTime"), time(adjusted.approved_at));
    out.own_time(&node, "effectiveDate", Some(adjusted.effective_date));
    out.done(node, adjusted.version.into())
}

/// The requirements of a model, with their thresholds and the chain above them.
pub(super) fn model(model: &ModelChanged, names: &Namespaces) -> Aggregate {
    let mut out = Writer { names, triples: Vec::new() };
    let node = urn("model", &[&model.model_hash]);
    out.is_a(&node, names.homeo("Model"));
    out.is_a(&node, prov("Entity"));
    out.own_text(&node, "contentHash", Some(&model.model_hash));
    out.own_text(
        &node,
        "modelVersion",
        Some(&model.version).filter(|version| !version.is_empty()).map(String::as_str),
    );
    out.add(&node, prov("generatedAtTime"), time(model.at));
    if let Some(previous) = &model.previous_hash {
        out.add(&node, prov("wasRevisionOf"), urn("model", &[previous]));
    }
    for requirement in &model.requirements {
        required(&mut out, &model.model_hash, &node, requirement);
    }
    let graph = spec_graph(&model.model_hash);
    let version = u64::try_from(model.at.as_nanos()).unwrap_or(0);
    out.own(&graph, "version", integer(version));
    out.done(graph, version)
}

fn required(out: &mut Writer<'_>, hash: &str, model: &NamedNode, required: &Requirement) {
    let node = requirement(&required.req_id);
    out.is_a(&node, term(OSLC_RM, "Requirement"));
    out.identifier(&node, &required.req_id);
    out.own(&node, "inModel", model.clone());
    if let Some(title) = &required.title {
        out.add(&node, term(DCTERMS, "title"), text(title));
    }
    out.own_text(&node, "requirementType", required.requirement_type.as_deref());
    chain(out, &node, required);
    if let Some(spec_node) = &required.spec_node_id {
        let flow = out.names.flow(spec_node);
        out.is_a(&flow, out.names.sea("Flow"));
        out.is_a(&flow, prov("Plan"));
        out.identifier(&flow, spec_node);
        out.add(&flow, term(OSLC_RM, "satisfies"), node.clone());
        for sds in ids(required, "sds") {
            out.own(&flow, "declaredIn", urn("sds", &[sds]));
        }
    }
    for (measure, threshold) in &required.thresholds {
        levels(out, hash, &required.req_id, measure, threshold);
    }
}

fn ids<'a>(required: &'a Requirement, kind: &str) -> impl Iterator<Item = &'a String> {
    required.traces_to.get(kind).into_iter().flatten()
}

/// ADR ← PRD ← SDS ← requirement.
fn chain(out: &mut Writer<'_>, node: &NamedNode, required: &Requirement) {
    for (kind, above) in [("sds", Some("prd")), ("prd", Some("adr")), ("adr", None)] {
        for id in ids(required, kind) {
            let document = urn(kind, &[id]);
            out.is_a(&document, out.names.homeo(&kind.to_uppercase()));
            out.is_a(&document, prov("Entity"));
            out.identifier(&document, id);
            if kind == "sds" {
                out.add(node, term(OSLC_RM, "specifiedBy"), document.clone());
            }
            for (above, id) in
                above.into_iter().flat_map(|above| ids(required, above).map(move |id| (above, id)))
            {
                out.add(&document, term(OSLC_RM, "satisfies"), urn(above, &[id]));
            }
        }
    }
}

fn levels(out: &mut Writer<'_>, hash: &str, req: &str, measure: &str, threshold: &Threshold) {
    for (level, value) in &threshold.levels {
        let node = urn("threshold", &[hash, req, measure, level]);
        out.own(&requirement(req), "threshold", node.clone());
        out.is_a(&node, out.names.homeo("Threshold"));
        out.own_text(&node, "measure", Some(measure));
        out.own_text(&node, "level", Some(level));
        out.own_text(&node, "direction", Some(&threshold.direction));
        out.own_text(&node, "unit", Some(&threshold.unit));
        out.add(&node, term(QUDT, "numericValue"), Literal::from(*value));
        if let Some(source) = &threshold.source {
            out.own_text(&node, "sourceDocument", Some(&source.doc));
            out.own_text(&node, "sourceText", source.text.as_deref());
            if let Some(line) = source.line {
                out.own(&node, "sourceLine", integer(line.into()));
            }
        }
    }
}
