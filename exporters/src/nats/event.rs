//! From one ledger entry to the CloudEvents that it is to the world: pure, so that the same entry gives the same bytes.

use async_nats::HeaderMap;
use bytes::Bytes;
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{
    Behavior, Deviation, Finding, ModelChanged, NAMESPACE, Notice, Silence, ThresholdAdjusted,
};
use homeostat_pipeline::ledger::LedgerEntry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The schema version of every event: the `v1` of subjects and types.
pub(super) const EVENT_VERSION: &str = "1";
/// The longest token of a subject.
const TOKEN_CHARS_MAX: usize = 64;

/// Whether subjects end in a tail that consumers filter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubjectLayout {
    /// `{prefix}.event.{name}.v1.{severity}.{context}.{req}`.
    #[default]
    Routed,
    /// `{prefix}.event.{name}.v1`.
    Flat,
}

/// How events are named: what of the settings shapes them.
#[derive(Clone, Debug)]
pub struct Naming {
    /// The first token or tokens of every subject: `sea`.
    pub prefix: String,
    /// The tail.
    pub layout: SubjectLayout,
    /// CloudEvents `source`; `/homeostat/{chain}` when none is set.
    pub source: Option<String>,
}

impl Naming {
    /// The subjects of every event: what a stream must cover.
    pub fn wildcard(&self) -> String {
        format!("{}.event.>", self.prefix)
    }
}

/// One message, ready to publish.
#[derive(Clone, Debug)]
pub struct Event {
    /// `{uid}:{version}`; the `Nats-Msg-Id` and the CloudEvents `id`.
    pub id: String,
    /// Where it goes.
    pub subject: String,
    /// What consumers read without parsing the body.
    pub headers: HeaderMap,
    /// CloudEvents 1.0, structured mode.
    pub payload: Bytes,
}

/// What of a finding is not its data.
struct Envelope<'a> {
    uid: String,
    version: u32,
    name: &'static str,
    time: Timestamp,
    subject: Option<&'a str>,
    severity: &'a str,
    context: &'a str,
    req: &'a str,
    trace_id: Option<&'a str>,
}

/// One message: CloudEvents 1.0 in structured mode.
// In the order in which people read it.
#[derive(Serialize, JsonSchema)]
pub(super) struct CloudEvent<'a, T> {
    /// CloudEvents 1.0.
    #[schemars(extend("const" = "1.0"))]
    specversion: &'static str,
    /// `{uid}:{version}`; the same event comes with the same id.
    id: &'a str,
    /// `/homeostat/{chain}` unless set.
    source: &'a str,
    /// `{prefix}.event.{name}.v1`.
    #[serde(rename = "type")]
    kind: &'a str,
    /// What it is about: a requirement, a spec node, the hash of a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    /// When it happened, by the evidence.
    time: Timestamp,
    #[schemars(extend("const" = "application/json"))]
    datacontenttype: &'static str,
    /// Where the schema of `data` has its name; `homeostat schema event NAME` prints it.
    dataschema: String,
    /// The place in the ledger, as CloudEvents' `sequence` extension has it.
    sequence: String,
    /// The first exemplar trace, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    data: &'a T,
}

/// The name of the schema of an event. It is a name only: nothing is fetched from there.
pub(super) fn schema_id(name: &str) -> String {
    format!("https://homeostat.dev/schema/event/{name}.v{EVENT_VERSION}.json")
}

/// The events of `entry`: one for each behavior, one for anything else. The same entry always gives the same bytes.
pub fn events(entry: &LedgerEntry, naming: &Naming) -> Vec<Event> {
    match &entry.finding {
        Finding::Behaviors { behaviors } => {
            behaviors.iter().map(|behavior| event(entry, naming, &of_behavior(behavior), behavior)).collect()
        }
        Finding::Deviation(deviation) => {
            vec![event(entry, naming, &of_deviation(deviation), &**deviation)]
        }
        Finding::Model(model) => vec![event(entry, naming, &of_model(model), model)],
        Finding::Silence(silence) => vec![event(entry, naming, &of_silence(silence), silence)],
        Finding::Threshold(adjusted) => vec![event(entry, naming, &of_threshold(adjusted), adjusted)],
        Finding::Notice(notice) => vec![event(entry, naming, &of_notice(entry, notice), notice)],
    }
}

fn of_behavior(behavior: &Behavior) -> Envelope<'_> {
    Envelope {
        uid: behavior.uid.clone(),
        version: behavior.version,
        name: "behavior_observed",
        time: behavior.window_end,
        subject: Some(&behavior.spec_node_id),
        severity: "",
        context: &behavior.context,
        req: behavior.req_ids.first().map_or("", String::as_str),
        trace_id: exemplar(&behavior.trace_ids),
    }
}

fn of_deviation(deviation: &Deviation) -> Envelope<'_> {
    Envelope {
        uid: deviation.uid.clone(),
        version: deviation.version,
        name: deviation.transition.event(),
        time: deviation.at,
        subject: Some(&deviation.req_id),
        severity: deviation.severity.name(),
        context: deviation.spec_node_id.as_deref().map_or("", context_of),
        req: &deviation.req_id,
        trace_id: exemplar(&deviation.evidence.trace_ids),
    }
}

/// A model may come back (A, B, A): the change is the event, so its instant is part of the identity.
fn of_model(model: &ModelChanged) -> Envelope<'_> {
    let name = format!("model|{}|{}", model.model_hash, model.at.as_nanos());
    Envelope {
        uid: Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string(),
        version: 1,
        name: "homeostasis_model_changed",
        time: model.at,
        subject: Some(&model.model_hash),
        severity: "",
        context: "",
        req: "",
        trace_id: None,
    }
}

fn of_threshold(adjusted: &ThresholdAdjusted) -> Envelope<'_> {
    Envelope {
        uid: adjusted.id.clone(),
        version: adjusted.version,
        name: ThresholdAdjusted::EVENT,
        time: adjusted.at,
        subject: Some(&adjusted.req_id),
        severity: "",
        context: "",
        req: &adjusted.req_id,
        trace_id: None,
    }
}

fn of_silence(silence: &Silence) -> Envelope<'_> {
    Envelope {
        uid: silence.id.clone(),
        version: silence.version,
        name: silence.change.event(),
        time: silence.at,
        subject: Some(&silence.id),
        severity: "",
        context: "",
        req: "",
        trace_id: None,
    }
}

fn of_notice<'a>(entry: &LedgerEntry, notice: &'a Notice) -> Envelope<'a> {
    let name = format!("notice|{}|{}", entry.chain, entry.sequence);
    Envelope {
        uid: Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string(),
        version: 1,
        name: entry.finding.kind(),
        time: notice.at,
        subject: Some(&notice.kind),
        severity: "",
        context: "",
        req: "",
        trace_id: None,
    }
}

fn event<T: Serialize>(entry: &LedgerEntry, naming: &Naming, envelope: &Envelope<'_>, data: &T) -> Event {
    let id = format!("{}:{}", envelope.uid, envelope.version);
    let kind = format!("{}.event.{}.v{EVENT_VERSION}", naming.prefix, envelope.name);
    let subject = match naming.layout {
        SubjectLayout::Flat => kind.clone(),
        SubjectLayout::Routed => {
            let [severity, context, req] = [envelope.severity, envelope.context, envelope.req].map(token);
            format!("{kind}.{severity}.{context}.{req}")
        }
    };
    let traceparent = envelope.trace_id.map(|trace| traceparent(trace, &id));
    let source = naming.source.clone().unwrap_or_else(|| format!("/homeostat/{}", entry.chain));
    let body = CloudEvent {
        specversion: "1.0",
        id: &id,
        source: &source,
        kind: &kind,
        subject: envelope.subject.filter(|subject| !subject.is_empty()),
        time: envelope.time,
        datacontenttype: "application/json",
        dataschema: format!("{}#/properties/data", schema_id(envelope.name)),
        sequence: entry.sequence.to_string(),
        traceparent: traceparent.as_deref(),
        data,
    };
    #[expect(clippy::expect_used, reason = "findings have text keys only, so JSON can always say them")]
    let payload = serde_json::to_vec(&body).expect("a finding is always JSON");
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", line(&id));
    headers.insert("Content-Type", "application/cloudevents+json");
    headers.insert("X-Event-Version", EVENT_VERSION);
    headers.insert("X-Correlation-Id", line(&envelope.uid));
    headers.insert("X-Causation-Id", line(&format!("{}:journal:{}", entry.chain, entry.cause.0)));
    if let Some(traceparent) = traceparent {
        headers.insert("traceparent", traceparent);
    }
    Event { id, subject, headers, payload: payload.into() }
}

/// One token of a subject: `[A-Za-z0-9_-]`, anything else `_`, empty `_`, at most 64 characters.
fn token(text: &str) -> String {
    if text.is_empty() {
        return "_".to_owned();
    }
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    text.chars().take(TOKEN_CHARS_MAX).map(legal).collect()
}

/// A header's value is one line.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '_' } else { c }).collect()
}

/// The bounded context of `sea:{context}:{flow}`.
fn context_of(spec_node: &str) -> &str {
    spec_node.strip_prefix("sea:").and_then(|rest| rest.split(':').next()).unwrap_or_default()
}

/// The first exemplar that W3C trace context can carry.
fn exemplar(trace_ids: &[String]) -> Option<&str> {
    let fits = |id: &&String| {
        id.len() == 32
            && id.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
            && id.bytes().any(|c| c != b'0')
    };
    trace_ids.iter().find(fits).map(String::as_str)
}

/// W3C trace context: the exemplar's trace, and as the parent a span id made of the event id, for the event is no span of
/// that trace but is to be found from it. Version 5 UUIDs are never zero where they are cut.
fn traceparent(trace_id: &str, event_id: &str) -> String {
    let span = Uuid::new_v5(&NAMESPACE, event_id.as_bytes()).simple().to_string();
    format!("00-{trace_id}-{}-01", &span[..16])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use homeostat_pipeline::entry::Offset;
    use serde_json::{Value, json};

    use super::*;

    const UID: &str = "5f1f2a9e-0000-5000-8000-000000000001";
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn naming(layout: SubjectLayout) -> Naming {
        Naming { prefix: "sea".to_owned(), layout, source: None }
    }

    fn entry(finding: Value) -> LedgerEntry {
        let finding: Finding = serde_json::from_value(finding).unwrap();
        LedgerEntry {
            chain: Arc::from("local"),
            sequence: 7,
            time: Timestamp::from_millis(0),
            cause: Offset(42),
            kind: finding.kind().to_owned(),
            body: String::new(),
            previous: [0; 32],
            hash: [0; 32],
            finding,
        }
    }

    fn deviation(change: impl FnOnce(&mut Value)) -> LedgerEntry {
        let mut value = json!({
            "finding": "deviation", "deviation_id": "DEV-20251203-001", "uid": UID, "fingerprint": "f",
            "status": "open", "transition": "detected", "reason": "r", "at": "2025-12-03T14:05:00Z", "version": 1,
            "req_id": "REQ-NFR-PERF-001", "also_req_ids": [], "title": null,
            "deviation_type": "performance_degradation", "severity": "critical", "metric_name": "p95_latency_ms",
            "unit": "ms", "direction": "lower_is_better", "current_value": 850.0, "worst_value": 850.0,
            "threshold_value": 500.0, "threshold_level": "critical", "baseline_value": 235.0,
            "deviation_percentage": 261.7, "rule": { "id": "r1", "condition": "value > threshold.critical",
            "for_seconds": 300.0, "model_hash": "m", "requirement_source": null },
            "window": { "kind": "tumbling", "start": "2025-12-03T14:04:00Z", "end": "2025-12-03T14:05:00Z",
            "samples": "120" }, "started_at": "2025-12-03T14:00:00Z", "detected_at": "2025-12-03T14:05:00Z",
            "duration_seconds": 300.0, "spec_node_id": "sea:orders:CreateOrder",
            "correlation": { "status": "matched", "confidence": 1.0, "method": "attribute", "manifest_hash": null },
            "evidence": { "kg_graph": "urn:g", "trace_ids": [TRACE], "counts": { "total": "120", "errors": "0" } },
            "context": { "service": "login", "environment": null, "alert_id": null, "labels": {} },
            "source": { "receiver": "otlp" }, "telemetry_links": [], "actions": ["alert_only"], "intent_id": null,
            "resolved_at": null, "verified_at": null, "resolution": null, "previous_uid": null
        });
        change(&mut value);
        entry(value)
    }

    fn header<'a>(event: &'a Event, name: &str) -> &'a str {
        event.headers.get(name).map_or("", |value| value.as_str())
    }

    #[test]
    fn a_deviation_is_one_event_with_the_names_of_the_vocabulary() {
        let events = events(&deviation(|_| ()), &naming(SubjectLayout::Routed));
        let [event] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(event.subject, "sea.event.deviation_detected.v1.critical.orders.REQ-NFR-PERF-001");
        assert_eq!(header(event, "Nats-Msg-Id"), format!("{UID}:1"));
        assert_eq!(header(event, "X-Correlation-Id"), UID);
        assert_eq!(header(event, "X-Causation-Id"), "local:journal:42");
        assert_eq!(header(event, "X-Event-Version"), "1");
        assert_eq!(header(event, "Content-Type"), "application/cloudevents+json");
        let body: Value = serde_json::from_slice(&event.payload).unwrap();
        assert_eq!(body["specversion"], "1.0");
        assert_eq!(body["id"], format!("{UID}:1"));
        assert_eq!(body["type"], "sea.event.deviation_detected.v1");
        assert_eq!(body["source"], "/homeostat/local");
        assert_eq!(body["subject"], "REQ-NFR-PERF-001");
        assert_eq!(body["time"], "2025-12-03T14:05:00Z");
        assert_eq!(body["sequence"], "7");
        assert_eq!(body["traceparent"], header(event, "traceparent"));
        assert_eq!(body["data"]["current_value"], 850.0);
        assert_eq!(body["data"]["rule"]["condition"], "value > threshold.critical");
    }

    #[test]
    fn traceparent_carries_the_exemplar_and_is_valid() {
        let event = &events(&deviation(|_| ()), &naming(SubjectLayout::Flat))[0];
        let value = header(event, "traceparent");
        assert_eq!(value.len(), 55, "{value}");
        assert!(value.starts_with(&format!("00-{TRACE}-")) && value.ends_with("-01"), "{value}");
        for bad in ["", "00000000000000000000000000000000", "0AF7651916CD43DD8448EB211C80319C", "zz"] {
            let entry = deviation(|value| value["evidence"]["trace_ids"] = json!([bad]));
            assert_eq!(header(&events(&entry, &naming(SubjectLayout::Flat))[0], "traceparent"), "", "{bad}");
        }
    }

    #[test]
    fn flat_subjects_have_no_tail_and_raw_text_never_enters_a_subject() {
        let entry = deviation(|value| {
            value["spec_node_id"] = json!("sea:or.de>rs *:X");
            value["req_id"] = json!(format!("REQ-É-{}", "A".repeat(80)));
        });
        assert_eq!(
            events(&entry, &naming(SubjectLayout::Flat))[0].subject,
            "sea.event.deviation_detected.v1"
        );
        let subject = &events(&entry, &naming(SubjectLayout::Routed))[0].subject;
        assert_eq!(
            subject,
            &format!("sea.event.deviation_detected.v1.critical.or_de_rs__.REQ-_-{}", "A".repeat(58))
        );
        let entry = deviation(|value| value["spec_node_id"] = Value::Null);
        assert!(
            events(&entry, &naming(SubjectLayout::Routed))[0]
                .subject
                .ends_with(".critical._.REQ-NFR-PERF-001")
        );
    }

    #[test]
    fn each_behavior_is_its_own_event() {
        let behavior = |uid: &str, version: u32| {
            json!({ "uid": uid, "version": version, "spec_node_id": "sea:orders:CreateOrder", "context": "orders",
                "flow": "CreateOrder", "window_start": "2025-12-03T14:00:00Z", "window_end": "2025-12-03T14:01:00Z",
                "count": "10", "errors": "1", "measures": {}, "req_ids": [], "trace_ids": [], "confidence": 1.0 })
        };
        let entry =
            entry(json!({ "finding": "behaviors", "behaviors": [behavior("a", 1), behavior("b", 2)] }));
        let events = events(&entry, &naming(SubjectLayout::Routed));
        let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(ids, ["a:1", "b:2"]);
        assert_eq!(events[0].subject, "sea.event.behavior_observed.v1._.orders._");
    }

    #[test]
    fn the_same_entry_gives_the_same_bytes_and_ids_are_one_line() {
        let entry =
            entry(json!({ "finding": "notice", "kind": "entry_skipped", "at": "2025-12-03T14:00:00Z",
            "message": "m" }));
        let (first, again) =
            (events(&entry, &naming(SubjectLayout::Routed)), events(&entry, &naming(SubjectLayout::Routed)));
        assert_eq!((&first[0].id, &first[0].payload), (&again[0].id, &again[0].payload));
        assert_eq!(first[0].subject, "sea.event.coverage_gap.v1._._._");
        let hostile = deviation(|value| value["uid"] = json!("a\r\nX-Evil: 1"));
        assert_eq!(
            header(&events(&hostile, &naming(SubjectLayout::Flat))[0], "Nats-Msg-Id"),
            "a__X-Evil: 1:1"
        );
    }
}
