//! Tests of the fold as a whole: against a brute-force oracle, over checkpoints, and the steps that only entries can bring about.

mod adjust;
mod crowds;
mod decisions;
mod gaps;
mod inhibition;
mod life;
mod points;
mod property;
mod windows;

use std::collections::BTreeMap;

use homeostat_pipeline::batch::{RequestHash, Signal};
use homeostat_pipeline::checkpoint::KeyedState;
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::contract::Analyzer;
use homeostat_pipeline::entry::{Decision, Entry, Epoch, Event, EvidenceEvent, Offset, Request};
use homeostat_pipeline::evidence::{Blob, Correlation, Kind, Method, Row, Rows, Text, schema};
use homeostat_pipeline::finding::{Deviation, Finding};

use super::super::model::Model;
use super::{Fold, FoldSettings};
use homeostat_pipeline::drops;

/// Windows of a minute that close half a minute later, and are corrected for five.
pub const MODEL: &str = r#"
homeostasis_model:
  version: "7"
  defaults:
    window: { size: 60s, allowed_lateness: 30s, correction: 5m, min_samples: 3 }
    cooldown: 0s
    keep_firing_for: 60s
    verify_for: 120s
    no_data: { after: 4m, as: expired }
  requirements:
    REQ-NFR-PERF-001:
      title: "Login response time < 500ms"
      spec_node: "sea:auth:Login"
      thresholds: { p95_latency_ms: { target: 250, warning: 400, critical: 500 } }
      baseline: { p95_latency_ms: 235 }
      deviation_rules:
        - { metric: p95_latency_ms, condition: "value > threshold.warning", severity: warning, group_by: [service.name] }
        - { metric: p95_latency_ms, condition: "value > threshold.critical", severity: critical, for: 1m, group_by: [service.name] }
    REQ-F-AUTH-001:
      thresholds: { error_rate: { target: 0.001, warning: 0.01, critical: 0.05 } }
      deviation_rules:
        - { metric: error_rate, condition: "value > threshold.critical", severity: critical, cooldown: 10m }
"#;

/// One observation.
#[derive(Clone, Debug)]
pub struct Seen {
    pub second: f64,
    pub req: &'static str,
    pub service: &'static str,
    pub flow: &'static str,
    pub millis: f64,
    pub is_error: bool,
    pub count: u64,
    pub trace: u8,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen {
            second: 0.0,
            req: "REQ-NFR-PERF-001",
            service: "auth",
            flow: "Login",
            millis: 100.0,
            is_error: false,
            count: 1,
            trace: 1,
        }
    }
}

pub fn at(second: f64) -> Timestamp {
    Timestamp::from_nanos((1_764_000_000.0 * 1e9) as i64 + (second * 1e9) as i64)
}

fn rows(observations: &[Seen]) -> Rows {
    let mut rows = Rows::new();
    for seen in observations {
        let mut text = |text: &str| rows.intern(text);
        let row = Row {
            time: at(seen.second),
            signal: Signal::Traces,
            is_primary: true,
            is_error: seen.is_error,
            kind: Kind::Server,
            req: text(seen.req),
            req_version: Text::NONE,
            also: Text::NONE,
            flow: text(seen.flow),
            context: text("auth"),
            domain: Text::NONE,
            concept: Text::NONE,
            regime: Text::NONE,
            policy: Text::NONE,
            service: text(seen.service),
            environment: text("test"),
            name: text("POST /login"),
            measure: Text::NONE,
            value: seen.millis * 1e6,
            unit: text("ns"),
            count: seen.count,
            sketch: Blob::NONE,
            trace_id: [seen.trace; 16],
            span_id: [0; 8],
            spec_node: text(&format!("sea:auth:{}", seen.flow)),
            confidence: 1.0,
            status: Correlation::Matched,
            method: Method::Attribute,
            labels: Text::NONE,
            source: text("otlp"),
        };
        rows.push(row);
    }
    rows
}

pub fn evidence(second: f64, observations: &[Seen]) -> Entry {
    let rows = rows(observations);
    let batch = schema::build(&[&rows]).expect("the rows are in the schema");
    let request = Request { hash: RequestHash([0; 16]), rows: u32::try_from(rows.len()).unwrap() };
    let event = Event::Evidence(EvidenceEvent { requests: vec![request], batch });
    Entry { offset: Offset(0), time: at(second), event }
}

pub fn tick(second: f64) -> Entry {
    Entry { offset: Offset(0), time: at(second), event: Event::Tick }
}

pub fn epoch(second: f64, model: &str) -> Entry {
    let epoch =
        Epoch { component: "homeostasis".to_owned(), hash: Model::hash_of(model), content: model.to_owned() };
    Entry { offset: Offset(0), time: at(second), event: Event::Epoch(epoch) }
}

/// What `ada` decides.
pub fn decision(second: f64, kind: &str, subject: &[(&str, &str)]) -> Entry {
    let subject = subject.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let decision = Decision { kind: kind.to_owned(), author: "ada".to_owned(), subject };
    Entry { offset: Offset(0), time: at(second), event: Event::Decision(decision) }
}

pub fn fresh(subjects_max: usize) -> Fold {
    Fold::new(FoldSettings {
        id: "homeostasis".to_owned(),
        tenant: String::new(),
        subjects_max,
        parse: homeostat_config::parse,
    })
}

pub fn run(fold: &mut Fold, entries: &[Entry]) -> Vec<Finding> {
    let mut out = Vec::new();
    for entry in entries {
        fold.apply(entry, &mut out);
    }
    out
}

pub fn deviations(findings: &[Finding]) -> Vec<&Deviation> {
    findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Deviation(deviation) => Some(&**deviation),
            Finding::Behaviors { .. }
            | Finding::Model(_)
            | Finding::Silence(_)
            | Finding::Threshold(_)
            | Finding::Notice(_) => None,
        })
        .collect()
}

/// A checkpoint in memory.
#[derive(Default)]
pub struct Memory(pub BTreeMap<Vec<u8>, Vec<u8>>);

impl KeyedState for Memory {
    fn get(&self, key: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }
    fn put(&mut self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        self.0.insert(key.to_owned(), value.to_owned());
        Ok(())
    }
    fn remove(&mut self, key: &[u8]) -> anyhow::Result<()> {
        self.0.remove(key);
        Ok(())
    }
    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.0
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .try_for_each(|(key, value)| visit(key, value))
    }
}
