//! The whole path with real peers: SDK and raw senders in; NATS, Postgres, graph and backend out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use homeostat_tests::client::{Answer, LOGS, Sender, TRACES, get};
use homeostat_tests::homeostat::{Homeostat, command, write};
use homeostat_tests::messages::deviations;
use homeostat_tests::process::{Process, eventually};
use homeostat_tests::telemetry::{Spans, gzip, logs, now, traces, zstd};
use homeostat_tests::world::{World, latency_model};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

const MODEL: &str = r#"
homeostasis_model:
  version: "1.0"
  defaults:
    window: { kind: tumbling, size: 2s, allowed_lateness: 1s, correction: 15m, min_samples: 1 }
    cooldown: 0s
    keep_firing_for: 2s
    verify_for: 1h
  requirements:
    REQ-NFR-PERF-001:
      title: "Login response time < 500ms"
      type: performance
      spec_node: "sea:auth:Login"
      thresholds:
        p95_latency_ms: { target: 250, warning: 400, critical: 500, unit: milliseconds }
      deviation_rules:
        - { id: slow, metric: p95_latency_ms, condition: "value > threshold.critical", severity: critical, action: generate_intent }
    REQ-F-PAY-002:
      title: "Payments succeed"
      type: functional
      thresholds:
        error_rate: { target: 0.01, warning: 0.05, critical: 0.1, unit: ratio }
      deviation_rules:
        - { id: failing, metric: error_rate, condition: "value > threshold.critical", severity: critical, action: generate_intent }
"#;

fn reqs(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

/// The interpreter with the SDK that `tests/run` installed.
fn sdk(arguments: &[&str]) -> Command {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the workspace");
    let python = root.join("target/python/bin/python");
    assert!(python.exists(), "there is no {} (run ./tests/run once: it installs the SDK)", python.display());
    let mut command = Command::new(python);
    command.arg(root.join("tests/sdk/shop.py")).args(arguments);
    command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1").env("no_grpc_proxy", "127.0.0.1");
    command
}

/// How many spans and log records the backend holds, and in which encodings they came.
fn at_backend(world: &World) -> (usize, usize, BTreeSet<String>) {
    let (mut spans, mut records, mut encodings) = (0, 0, BTreeSet::new());
    for received in world.backend.received() {
        let body = match received.encoding.as_str() {
            "gzip" => {
                let mut body = Vec::new();
                let mut decoder = flate2::read::MultiGzDecoder::new(&received.frame[..]);
                std::io::Read::read_to_end(&mut decoder, &mut body).expect("the frame is gzip");
                body
            }
            "identity" => received.frame.to_vec(),
            other => panic!("the backend got {other}"),
        };
        if received.path == TRACES.0 {
            let request =
                ExportTraceServiceRequest::decode(&body[..]).expect("the frame is a traces request");
            spans += request
                .resource_spans
                .iter()
                .flat_map(|one| &one.scope_spans)
                .map(|one| one.spans.len())
                .sum::<usize>();
        } else {
            assert_eq!(received.path, LOGS.0);
            let request = ExportLogsServiceRequest::decode(&body[..]).expect("the frame is a logs request");
            records += request
                .resource_logs
                .iter()
                .flat_map(|one| &one.scope_logs)
                .map(|one| one.log_records.len())
                .sum::<usize>();
        }
        encodings.insert(received.encoding);
    }
    (spans, records, encodings)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_python_sdk_reports_is_judged_and_every_sink_says_the_same() {
    let world = World::start(MODEL).await;
    let homeostat = Homeostat::start(world.path()).await;
    let state = write(world.path(), "state", "bad");
    let (grpc, http) = (homeostat.grpc.to_string(), homeostat.http.to_string());
    let mut shop = Process::spawn("shop.py", sdk(&[&grpc, &http, &state.display().to_string()]));
    let both = reqs(&["REQ-NFR-PERF-001", "REQ-F-PAY-002"]);
    world.until("deviation_detected", &both).await;
    // The fix: nothing else has to happen for the deviations to end.
    write(world.path(), "state.new", "good");
    std::fs::rename(world.path().join("state.new"), &state).expect("the state is a plain file");
    let events = world.until("deviation_resolved", &both).await;
    write(world.path(), "state.new", "stop");
    std::fs::rename(world.path().join("state.new"), &state).expect("the state is a plain file");
    assert!(shop.exit().await.success(), "{}", shop.output());
    let counts: BTreeMap<String, usize> =
        serde_json::from_str(&shop.line("{").await.expect("it says its counts")).expect("counts are JSON");

    for life in deviations(&events).values() {
        assert_eq!(life.first().map(String::as_str), Some("detected"), "{life:?}");
        assert!(life.contains(&"resolved".to_owned()), "{life:?}");
    }
    let slow = events.iter().find(|event| {
        event.text("req_id") == "REQ-NFR-PERF-001" && event.subject.contains("deviation_detected")
    });
    let slow = slow.expect("it was waited for");
    assert_eq!(slow.subject, "sea.event.deviation_detected.v1.critical.auth.REQ-NFR-PERF-001");
    assert_eq!(slow.body["specversion"], "1.0");
    assert_eq!(slow.id, format!("{}:1", slow.text("uid")));
    let value = slow.data()["current_value"].as_f64().expect("the value is known");
    assert!((value - 800.0).abs() <= 8.0, "p95 of spans of 800 ms is {value} ms");
    assert!(!slow.data()["evidence"]["trace_ids"].as_array().expect("exemplars are a list").is_empty());

    let agreed = world.agreed().await;
    assert_eq!(agreed.iter().map(|seen| seen.req.clone()).collect::<BTreeSet<_>>(), both);
    let (spans, records, encodings) = at_backend(&world);
    assert_eq!((counts.get("spans_failed"), counts.get("logs_failed")), (None, None));
    assert_eq!((spans, records), (counts["spans_taken"], counts["logs_taken"]));
    assert_eq!(encodings, reqs(&["gzip", "identity"]));
    let (status, output) = homeostat.stop().await;
    assert!(status.success(), "{output}");
}

/// Sends one request in every encoding over both protocols, and says the frames in order.
async fn send_all(homeostat: &Homeostat) -> Vec<(String, bytes::Bytes)> {
    let sender = Sender::default();
    let spans = Spans {
        count: 3,
        req: String::new(),
        node: ("", ""),
        duration: Duration::from_millis(5),
        is_error: false,
    };
    let mut frames = Vec::new();
    for encoding in ["identity", "gzip", "zstd"] {
        for (path, body) in [(TRACES, traces(&spans, now())), (LOGS, logs("REQ-F-PAY-002", 2, false, now()))]
        {
            for is_grpc in [true, false] {
                let frame = match encoding {
                    "gzip" => gzip(&body),
                    "zstd" => zstd(&body),
                    _ => body.clone(),
                };
                let answer = if is_grpc {
                    sender.grpc(homeostat.grpc, path.0, encoding, frame.clone()).await
                } else {
                    sender.http(homeostat.http, path.1, encoding, frame.clone()).await
                };
                assert!(answer.as_ref().is_ok_and(Answer::is_ok), "{encoding} {path:?}: {answer:?}");
                frames.push((encoding.to_owned(), frame));
            }
        }
    }
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_gets_every_frame_byte_for_byte_over_both_protocols() {
    let world = World::start(MODEL).await;
    let configuration = std::fs::read_to_string(world.path().join("config.yaml")).expect("it was written");
    for (kind, path) in [("otlp/backend", TRACES.0), ("otlphttp/backend", TRACES.1)] {
        write(world.path(), "config.yaml", &configuration.replace("otlp/backend", kind));
        let before = world.backend.received().len();
        let homeostat = Homeostat::start(world.path()).await;
        let sent = send_all(&homeostat).await;
        let received: Vec<_> = world.backend.received().split_off(before);
        assert!(received.iter().any(|one| one.path == path), "{kind} uses {path}");
        let frames: Vec<_> = received.into_iter().map(|one| (one.encoding, one.frame)).collect();
        assert_eq!(frames, sent);
        homeostat.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_verifies_and_replays_and_the_process_says_how_it_is() {
    let world = World::start(&latency_model(["REQ-A-001".to_owned()], "1h")).await;
    let homeostat = Homeostat::start(world.path()).await;
    homeostat.is_ready().await;
    let spans = Spans {
        count: 4,
        req: "REQ-A-001".to_owned(),
        node: ("shop", "Pay"),
        duration: Duration::from_millis(900),
        is_error: true,
    };
    let answer = Sender::default().grpc(homeostat.grpc, TRACES.0, "identity", traces(&spans, now())).await;
    assert!(answer.as_ref().is_ok_and(Answer::is_ok), "{answer:?}");
    world.until("deviation_detected", &reqs(&["REQ-A-001"])).await;
    eventually("the metric says four spans", async || {
        (homeostat.metric("otelcol_receiver_accepted_spans").await >= 4.0).then_some(())
    })
    .await;
    let page = homeostat.metrics().await;
    assert!(page.contains("# HELP otelcol_receiver_accepted_spans"), "{page}");
    assert_eq!(get(homeostat.admin, "/healthz").await.0, 200);
    assert_eq!(get(homeostat.admin, "/nowhere").await.0, 404);
    let (status, output) = homeostat.stop().await;
    assert!(status.success(), "{output}");

    for arguments in [
        ["ledger", "verify", "data", "--format", "json"].as_slice(),
        ["ledger", "replay", "data", "--config", "config.yaml"].as_slice(),
        ["ledger", "export", "data"].as_slice(),
    ] {
        let mut process = Process::spawn("homeostat", command(world.path(), arguments));
        let status = process.exit().await;
        assert!(status.success(), "{arguments:?}: {status}\n{}", process.output());
    }
}
