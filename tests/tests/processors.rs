//! The processors that Collector users expect, through the real program: what is filtered is judged and not forwarded, what is merged
//! reaches the backend once, and every sender hears of its own records.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use homeostat_tests::backend::{Backend, Received};
use homeostat_tests::client::{Answer, Sender, TRACES};
use homeostat_tests::homeostat::{Homeostat, write};
use homeostat_tests::process::eventually;
use homeostat_tests::telemetry::{Spans, gzip, now, traces};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

const MODEL: &str = r#"
homeostasis_model:
  version: "1.0"
  defaults:
    window: { kind: tumbling, size: 2s, allowed_lateness: 1s, correction: 15m, min_samples: 1 }
    cooldown: 0s
  requirements:
    REQ-F-PAY-002:
      title: "Payments succeed"
      type: functional
      thresholds:
        error_rate: { target: 0.01, warning: 0.05, critical: 0.1, unit: ratio }
      deviation_rules:
        - { id: failing, metric: error_rate, condition: "value > threshold.critical", severity: critical, action: generate_intent }
"#;

const KEPT: &str = "REQ-NFR-PERF-001";
const DROPPED: &str = "REQ-F-PAY-002";
const SENDERS: usize = 20;

fn configuration(backend: &Backend) -> String {
    format!(
        r#"
receivers:
  otlp: {{ protocols: {{ grpc: {{ endpoint: 127.0.0.1:0 }}, http: {{ endpoint: 127.0.0.1:0 }} }} }}
processors:
  memory_limiter: {{ limit_mib: 32, check_interval: 1s }}
  tag: {{}}
  filter:
    error_mode: ignore
    traces: {{ span: ['attributes["req"] == "{DROPPED}"'] }}
  batch: {{ timeout: 1s, send_batch_size: 1000 }}
  homeostasis: {{ model: model.yml }}
exporters:
  file: {{ path: findings.jsonl }}
  debug: {{ verbosity: normal, use_internal_logger: false }}
  otlp/backend: {{ endpoint: "http://{}" }}
service:
  storage: {{ directory: data }}
  telemetry: {{ metrics: {{ endpoint: 127.0.0.1:0 }} }}
  pipelines:
    feedback:
      receivers: [otlp]
      processors: [memory_limiter, tag, filter, batch, homeostasis]
      exporters: [file, debug, otlp/backend]
"#,
        backend.address
    )
}

/// Two requests at a time, over gRPC and in gzip over HTTP: one span that stays and one that goes in each.
async fn send(homeostat: &Homeostat, number: usize) -> Answer {
    let spans = |req: &str, is_error| Spans {
        count: 1,
        req: req.to_owned(),
        node: ("", ""),
        duration: Duration::from_millis(5),
        is_error,
    };
    let body = [traces(&spans(KEPT, false), now()), traces(&spans(DROPPED, true), now())].concat();
    let sender = Sender::default();
    let answer = if number.is_multiple_of(2) {
        sender.grpc(homeostat.grpc, TRACES.0, "identity", Bytes::from(body)).await
    } else {
        sender.http(homeostat.http, TRACES.1, "gzip", gzip(&body)).await
    };
    answer.expect("there is an answer")
}

fn spans(received: &[Received]) -> Vec<Span> {
    let requests = received.iter().map(|one| {
        assert_eq!(one.encoding, "identity", "what is cut or merged goes out as plain protobuf");
        ExportTraceServiceRequest::decode(&one.frame[..]).expect("the frame is a traces request")
    });
    requests
        .flat_map(|request| request.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_filtered_is_judged_and_what_is_merged_arrives_once() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let backend = Backend::start().await;
    write(folder.path(), "model.yml", MODEL);
    write(folder.path(), "config.yaml", &configuration(&backend));
    let mut homeostat = Homeostat::start(folder.path()).await;

    let answers = join_all((0..SENDERS).map(|number| send(&homeostat, number))).await;
    assert!(answers.iter().all(Answer::is_ok), "{answers:?}");
    let received = backend.received();
    let arrived = spans(&received);
    assert!(received.len() < SENDERS, "{} requests of {SENDERS} reached the backend", received.len());
    let mut ids: Vec<Vec<u8>> = arrived.iter().map(|span| span.span_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((arrived.len(), ids.len()), (SENDERS, SENDERS), "each span that stays, once");
    let is_kept = |span: &Span| {
        let req = span.attributes.iter().find(|pair| pair.key == "req").and_then(|pair| pair.value.clone());
        req.and_then(|value| value.value) == Some(Value::StringValue(KEPT.to_owned()))
    };
    assert!(arrived.iter().all(is_kept));

    let findings = folder.path().join("findings.jsonl");
    eventually("what was not forwarded was judged", async || {
        let text = std::fs::read_to_string(&findings).unwrap_or_default();
        text.lines().any(|line| line.contains(DROPPED) && line.contains("deviation")).then_some(())
    })
    .await;
    let count = SENDERS as f64;
    assert_eq!(homeostat.metric("otelcol_processor_filter_spans_filtered").await, count);
    assert_eq!(homeostat.metric("otelcol_receiver_accepted_spans").await, 2.0 * count);
    assert!(homeostat.metric("otelcol_processor_batch_timeout_trigger_send").await >= 1.0);
    assert_eq!(
        homeostat.metric("otelcol_processor_batch_batch_send_size_sum").await,
        2.0 * count,
        "to two exporters"
    );
    let shown = homeostat.process.line("work ").await.expect("debug shows a line for each span");
    assert!(shown.contains(KEPT), "{shown}");

    // A backend that takes nothing: every sender is told to come back, and what comes again arrives.
    backend.refuse(true);
    let answers = join_all((0..4).map(|number| send(&homeostat, number))).await;
    assert!(answers.iter().all(|answer| !answer.is_ok() && answer.has_retry), "{answers:?}");
    backend.refuse(false);
    let answers = join_all((0..4).map(|number| send(&homeostat, number))).await;
    assert!(answers.iter().all(Answer::is_ok), "{answers:?}");
    assert_eq!(spans(&backend.received()).len(), SENDERS + 4);
    let (status, output) = homeostat.stop().await;
    assert!(status.success(), "{output}");
}
