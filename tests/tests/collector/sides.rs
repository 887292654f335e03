//! A Collector sends to homeostat, and homeostat sends to a Collector: every signal, both protocols, every compression. What went
//! in comes out, and between the two the frames are the very bytes that the first Collector made.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use homeostat_tests::backend::{Backend, Received};
use homeostat_tests::client::{LOGS, METRICS, Sender, TRACES};
use homeostat_tests::collector::Collector;
use homeostat_tests::homeostat::{Homeostat, write};
use homeostat_tests::process::free_port;
use homeostat_tests::whole;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

/// What the first Collector's exporters are: type, compression, encoding.
const WAYS: [(&str, &str, &str); 8] = [
    ("otlp_grpc", "none", ""),
    ("otlp_grpc", "gzip", ""),
    ("otlp_grpc", "zstd", ""),
    ("otlp_http", "none", "proto"),
    ("otlp_http", "gzip", "proto"),
    ("otlp_http", "zstd", "proto"),
    ("otlp_http", "none", "json"),
    ("otlp_http", "gzip", "json"),
];

/// As many free ports, all different.
fn free_ports(count: usize) -> Vec<u16> {
    let mut ports = BTreeSet::new();
    while ports.len() < count {
        ports.insert(free_port());
    }
    ports.into_iter().collect()
}

/// The Collector before homeostat: for each way a receiver, and an exporter to homeostat and one to `tap`.
fn before(ports: &[u16], homeostat: &Homeostat, tap: SocketAddr) -> String {
    let (mut receivers, mut exporters, mut pipelines) = (String::new(), String::new(), String::new());
    for (index, ((kind, compression, encoding), port)) in WAYS.into_iter().zip(ports).enumerate() {
        receivers +=
            &format!("  otlp/{index}: {{ protocols: {{ grpc: {{ endpoint: '127.0.0.1:{port}' }} }} }}\n");
        let to = if kind == "otlp_grpc" { homeostat.grpc } else { homeostat.http };
        let encoding = if encoding.is_empty() { String::new() } else { format!("encoding: {encoding}, ") };
        for (name, to) in [("homeostat", to), ("tap", tap)] {
            exporters += &format!(
                "  {kind}/{name}{index}: {{ endpoint: 'http://{to}', compression: {compression}, {encoding}tls: {{ insecure: true }}, sending_queue: {{ enabled: false }} }}\n"
            );
        }
        for signal in ["traces", "metrics", "logs"] {
            pipelines += &format!(
                "    {signal}/{index}: {{ receivers: [otlp/{index}], exporters: [{kind}/tap{index}, {kind}/homeostat{index}] }}\n"
            );
        }
    }
    format!("receivers:\n{receivers}exporters:\n{exporters}service:\n  pipelines:\n{pipelines}")
}

/// The Collector behind homeostat: it gives what it takes to the backend, and hears of every failure.
fn behind(grpc: u16, http: u16, backend: SocketAddr) -> String {
    format!(
        "
receivers:
  otlp: {{ protocols: {{ grpc: {{ endpoint: '127.0.0.1:{grpc}' }}, http: {{ endpoint: '127.0.0.1:{http}' }} }} }}
exporters:
  otlp_http: {{ endpoint: 'http://{backend}', compression: none, sending_queue: {{ enabled: false }} }}
service:
  pipelines:
    traces: {{ receivers: [otlp], exporters: [otlp_http] }}
    metrics: {{ receivers: [otlp], exporters: [otlp_http] }}
    logs: {{ receivers: [otlp], exporters: [otlp_http] }}
"
    )
}

/// homeostat with `tag`, which reads what it forwards over both protocols, to the Collector and to a tap.
fn between(grpc: u16, http: u16, tap: SocketAddr) -> String {
    format!(
        "
receivers: {{ otlp: {{ protocols: {{ grpc: {{ endpoint: '127.0.0.1:0' }}, http: {{ endpoint: '127.0.0.1:0' }} }} }} }}
processors: {{ tag: {{}} }}
exporters:
  otlp/collector: {{ endpoint: 'http://127.0.0.1:{grpc}' }}
  otlphttp/collector: {{ endpoint: 'http://127.0.0.1:{http}' }}
  otlp/tap: {{ endpoint: 'http://{tap}' }}
  otlphttp/tap: {{ endpoint: 'http://{tap}' }}
service:
  storage: none
  telemetry: {{ metrics: {{ endpoint: '127.0.0.1:0' }} }}
  pipelines: {{ all: {{ receivers: [otlp], processors: [tag], exporters: [otlp/collector, otlphttp/collector, otlp/tap, otlphttp/tap] }} }}
"
    )
}

/// The request in the one form in which prost writes it, so that NaN equals NaN.
fn canonical(signal: (&str, &str), bytes: &[u8]) -> Vec<u8> {
    let read = if signal == TRACES {
        ExportTraceServiceRequest::decode(bytes).map(|request| request.encode_to_vec())
    } else if signal == METRICS {
        ExportMetricsServiceRequest::decode(bytes).map(|request| request.encode_to_vec())
    } else {
        ExportLogsServiceRequest::decode(bytes).map(|request| request.encode_to_vec())
    };
    read.expect("it is a request")
}

fn shown(signal: (&str, &str), bytes: &[u8]) -> String {
    if signal == TRACES {
        format!("{:#?}", ExportTraceServiceRequest::decode(bytes))
    } else if signal == METRICS {
        format!("{:#?}", ExportMetricsServiceRequest::decode(bytes))
    } else {
        format!("{:#?}", ExportLogsServiceRequest::decode(bytes))
    }
}

/// Panics with the first line in which two requests differ. In JSON there is one NaN, so its bits may be others.
fn same(what: &str, signal: (&str, &str), is_json: bool, expected: &[u8], found: &[u8]) {
    let found = canonical(signal, found);
    if found == expected {
        return;
    }
    let (expected, found) = (shown(signal, expected), shown(signal, &found));
    if is_json && found == expected {
        return;
    }
    let differs = expected.lines().zip(found.lines()).enumerate().find(|(_, (a, b))| a != b);
    panic!("{what}: not what went in, from {differs:?}, {} and {} bytes", expected.len(), found.len());
}

/// What the taps must hold after one request: the Collector's frame, and the same from homeostat over gRPC and HTTP.
fn frames_are_untouched(
    what: &str,
    signal: (&str, &str),
    encoding: &str,
    sent: &[Received],
    through: &[Received],
) {
    let [sent] = sent else { panic!("{what}: the Collector sent {} frames to its tap", sent.len()) };
    let [one, other] = through else { panic!("{what}: homeostat sent {} frames to its tap", through.len()) };
    let (grpc, http) = if one.path == signal.0 { (one, other) } else { (other, one) };
    assert_eq!((grpc.path.as_str(), http.path.as_str()), signal, "{what}");
    let compression = |received: &Received| received.encoding.replace("none", "identity");
    if encoding != "json" {
        assert_eq!((compression(grpc), &grpc.frame), (compression(sent), &sent.frame), "{what}: over gRPC");
    }
    assert_eq!((compression(http), &http.frame), (compression(sent), &sent.frame), "{what}: over HTTP");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_into_one_collector_comes_out_of_the_other() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let (backend, own_tap, tap) = (Backend::start().await, Backend::start().await, Backend::start().await);
    let ports = free_ports(WAYS.len() + 2);
    let (ways, [grpc, http]) = ports.split_at(WAYS.len()) else { panic!("two ports are left") };
    let _behind = Collector::start(folder.path(), "behind", &behind(*grpc, *http, backend.address)).await;
    write(folder.path(), "config.yaml", &between(*grpc, *http, tap.address));
    let homeostat = Homeostat::start(folder.path()).await;
    let _before = Collector::start(folder.path(), "before", &before(ways, &homeostat, own_tap.address)).await;
    let requests = [
        (TRACES, whole::traces().encode_to_vec()),
        (METRICS, whole::metrics().encode_to_vec()),
        (LOGS, whole::logs().encode_to_vec()),
    ];
    let sender = Sender::default();
    for ((kind, compression, encoding), port) in WAYS.into_iter().zip(ways) {
        for (signal, request) in &requests {
            let what = format!("{} by {kind} {compression} {encoding}", signal.1);
            let to = SocketAddr::from(([127, 0, 0, 1], *port));
            let answer = sender.grpc(to, signal.0, "identity", Bytes::from(request.clone())).await;
            assert!(answer.as_ref().is_ok_and(|answer| answer.is_ok()), "{what}: {answer:?}");
            // Nobody on the way has a queue, so what was answered has arrived.
            let arrived = backend.take();
            assert_eq!(arrived.len(), 2, "{what}: once over gRPC and once over HTTP");
            for received in arrived {
                same(&what, *signal, encoding == "json", request, &received.frame);
            }
            frames_are_untouched(&what, *signal, encoding, &own_tap.take(), &tap.take());
        }
    }
    let total = (WAYS.len() * requests.len()) as f64;
    assert!(
        homeostat.metric("otelcol_receiver_accepted_spans").await > total,
        "{}",
        homeostat.metrics().await
    );
    for refused in ["spans", "metric_points", "log_records"] {
        assert_eq!(homeostat.metric(&format!("otelcol_receiver_refused_{refused}")).await, 0.0);
    }
}
