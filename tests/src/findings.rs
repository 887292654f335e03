//! Findings as a ledger holds them, and finding exporters opened from settings and driven as the engine drives them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use homeostat_pipeline::budget::Budget;
use homeostat_pipeline::clock::{SystemClock, Timestamp};
use homeostat_pipeline::contract::{FindingExporter, Reject};
use homeostat_pipeline::entry::Offset;
use homeostat_pipeline::finding::{
    Behavior, Deviation, Finding, MeasureValue, Notice, Status, Transition, behavior_uid, deviation_uid,
};
use homeostat_pipeline::interest::Interest;
use homeostat_pipeline::ledger::{Ledger, LedgerEntry};
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::{Component, Context};
use homeostat_pipeline::settings::{Field, Files, Node, Position, Problem, Value};
use homeostat_pipeline::sockets::Sockets;
use homeostat_pipeline::tasks::Tasks;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::process::DEADLINE;

/// The instant at which all windows of these tests begin.
pub const START: &str = "2025-12-03T14:00:00Z";

/// `START` and some minutes.
pub fn at(minutes: u64) -> Timestamp {
    Timestamp::parse(START).expect("it is RFC 3339") + Duration::from_secs(minutes * 60)
}

/// The entries that a fresh ledger makes of `findings`, with its hashes.
pub fn entries(findings: Vec<Finding>) -> Vec<LedgerEntry> {
    let mut ledger = Ledger::memory();
    findings
        .into_iter()
        .enumerate()
        .flat_map(|(index, finding)| {
            let index = index as u64;
            ledger.append(&[finding], at(index), Offset(100 + index)).expect("memory takes entries")
        })
        .collect()
}

/// One step in the life of the episode that has this fingerprint and opened at `opened` minutes.
pub fn step(fingerprint: &str, opened: u64, version: u32, transition: Transition) -> Deviation {
    let status = match transition {
        Transition::Detected | Transition::Updated | Transition::Suppressed => Status::Open,
        Transition::Acknowledged => Status::Acknowledged,
        Transition::Recovering => Status::Recovering,
        Transition::Resolved => Status::Resolved,
        Transition::Verified => Status::Verified,
        Transition::Expired => Status::Expired,
    };
    let ended = matches!(transition, Transition::Resolved | Transition::Verified | Transition::Expired);
    let when = at(opened + u64::from(version));
    let text = json!({
        "deviation_id": format!("DEV-20251203-{:03}", opened + 1), "uid": deviation_uid(fingerprint, at(opened)),
        "fingerprint": fingerprint, "status": status, "transition": transition,
        "reason": "p95_latency_ms 850 ms > 500 ms (threshold.critical)", "at": when, "version": version,
        "req_id": "REQ-NFR-PERF-001", "also_req_ids": ["REQ-F-AUTH-001"], "title": "Login is fast",
        "deviation_type": "performance_degradation", "severity": "critical", "metric_name": "p95_latency_ms", "unit": "ms",
        "direction": "lower_is_better", "current_value": 850.0, "worst_value": 910.5, "threshold_value": 500.0,
        "threshold_level": "critical", "baseline_value": 235.0, "deviation_percentage": 261.7,
        "rule": { "id": "critical-p95", "condition": "value > threshold.critical", "for_seconds": 300.0,
                  "model_hash": "abc", "requirement_source": null },
        "window": { "kind": "tumbling", "start": at(opened), "end": when, "samples": "120" },
        "started_at": at(opened), "detected_at": at(opened + 1), "duration_seconds": 60.0 * f64::from(version),
        "spec_node_id": "sea:orders:CreateOrder",
        "correlation": { "status": "matched", "confidence": 1.0, "method": "attribute", "manifest_hash": null },
        "evidence": { "kg_graph": "urn:graph", "trace_ids": ["0af7651916cd43dd8448eb211c80319c"],
                      "counts": { "total": "120", "errors": "3" } },
        "context": { "service": "login", "environment": "test", "alert_id": null, "labels": { "region": "eu" } },
        "source": { "receiver": "otlp" }, "telemetry_links": [], "actions": ["generate_intent_immediate"],
        "intent_id": null, "resolved_at": ended.then_some(when), "verified_at": null, "resolution": null,
        "previous_uid": null,
    });
    serde_json::from_value(text).expect("it is a deviation")
}

/// The same as a finding.
pub fn deviation(fingerprint: &str, opened: u64, version: u32, transition: Transition) -> Finding {
    Finding::Deviation(Box::new(step(fingerprint, opened, version, transition)))
}

/// What one spec node did in the window that starts at `start`.
pub fn behavior(flow: &str, start: Timestamp, version: u32, count: u64) -> Behavior {
    let (node, end) = (format!("sea:orders:{flow}"), start + Duration::from_secs(60));
    let measures = [("p95_latency_ms".to_owned(), MeasureValue { value: 120.5, unit: "ms".to_owned() })];
    Behavior {
        uid: behavior_uid(&node, start, end),
        version,
        spec_node_id: node,
        context: "orders".to_owned(),
        flow: flow.to_owned(),
        window_start: start,
        window_end: end,
        count,
        errors: 0,
        measures: BTreeMap::from(measures),
        req_ids: vec!["REQ-NFR-PERF-001".to_owned()],
        trace_ids: Vec::new(),
        confidence: 1.0,
    }
}

/// A notice with this text.
pub fn notice(message: &str) -> Finding {
    Finding::Notice(Notice { kind: "journal_gap".to_owned(), at: at(0), message: message.to_owned() })
}

/// A finding exporter with its own background work, which ends with this.
pub struct Opened {
    exporter: Arc<dyn FindingExporter>,
    stop: CancellationToken,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Opens the exporter of this kind with these settings.
pub async fn open(kind: &str, settings: serde_json::Value) -> Opened {
    let registrations = homeostat_exporters::list();
    let registration =
        registrations.iter().find(|one| one.kind == kind).expect("the exporter is in the list");
    let settings = (registration.read)(&node(&settings)).expect("the settings are right");
    let files = Files {
        base: ".".into(),
        embedded: BTreeMap::new(),
        parse: |_, _| Err(Problem::somewhere("these tests have no files")),
    };
    assert_eq!(settings.check(&files), Vec::new(), "the settings have no problems");
    let stop = CancellationToken::new();
    let context = Context {
        id: kind.to_owned(),
        clock: Arc::new(SystemClock),
        budget: Budget::new(64 << 20),
        directory: None,
        files,
        interest: Arc::new(Interest::default()),
        ledger: None,
        extensions: Arc::default(),
        sockets: Sockets::default(),
        stop: stop.clone(),
        tasks: Tasks::default(),
    };
    match settings.open(context).await.expect("it opens") {
        Component::FindingExporter(exporter) => Opened { exporter, stop },
        Component::Receiver(_)
        | Component::Processor(_)
        | Component::Analyzer(_)
        | Component::TelemetryExporter(_) => panic!("{kind} is no finding exporter"),
    }
}

impl Opened {
    /// One attempt.
    ///
    /// # Errors
    /// The exporter's.
    pub async fn once(&self, entries: &[LedgerEntry]) -> Result<Vec<Reject>, Refusal> {
        self.exporter.export(entries).await
    }

    /// What stands in the way now: the reason of an attempt that must fail for the time being.
    pub async fn refusal(&self, entries: &[LedgerEntry]) -> String {
        match self.once(entries).await {
            Err(refusal) if refusal.is_retryable() => refusal.to_string(),
            other => panic!("expected a refusal for the time being, got {other:?}"),
        }
    }

    /// Attempts until the exporter has taken the batch, as the engine does.
    pub async fn until_taken(&self, entries: &[LedgerEntry]) -> Vec<Reject> {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.once(entries).await {
                Ok(rejects) => return rejects,
                Err(refusal) if refusal.is_retryable() => {
                    assert!(Instant::now() < until, "never taken: {refusal}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(refusal) => panic!("{refusal}"),
            }
        }
    }
}

/// Settings as if they had been written in YAML.
fn node(value: &serde_json::Value) -> Node {
    let at = Position { source: Arc::from("test.yaml"), line: 1, column: 1 };
    let value = match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or(Value::Float(number.as_f64().unwrap_or_default()), Value::Integer)
        }
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(values) => Value::List(values.iter().map(node).collect()),
        serde_json::Value::Object(fields) => {
            let field =
                |(key, value): (&String, _)| Field { key: key.clone(), at: at.clone(), node: node(value) };
            Value::Map(fields.iter().map(field).collect())
        }
    };
    Node { at, value }
}
