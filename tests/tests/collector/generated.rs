//! telemetrygen, the Collector's own load generator, for a minute of each signal in all, over both protocols and at once: nothing is
//! refused, and what it made, what homeostat counts and what the backend holds are the same numbers.

use std::collections::BTreeMap;
use std::process::Command;

use homeostat_tests::backend::Backend;
use homeostat_tests::client::{LOGS, METRICS};
use homeostat_tests::collector::built;
use homeostat_tests::homeostat::{Homeostat, write};
use homeostat_tests::process::Process;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;

/// The signal, whether it goes over HTTP, and more arguments. Each runs for twenty seconds.
const RUNS: [(&str, bool, &[&str]); 9] = [
    ("traces", false, &["--child-spans", "3", "--span-links", "2"]),
    ("traces", true, &["--child-spans", "1", "--status-code", "Error"]),
    ("traces", false, &["--child-spans", "1", "--batch=false"]),
    ("metrics", false, &["--metric-type", "Gauge"]),
    ("metrics", true, &["--metric-type", "Histogram", "--aggregation-temporality", "delta"]),
    ("metrics", false, &["--metric-type", "ExponentialHistogram"]),
    ("logs", false, &["--severity-number", "17", "--severity-text", "Error"]),
    ("logs", true, &[]),
    ("logs", true, &["--batch=false"]),
];

/// Records made, by signal.
type Counts = BTreeMap<&'static str, u64>;

const CONFIGURATION: &str = "
receivers: { otlp: { protocols: { grpc: { endpoint: '127.0.0.1:0' }, http: { endpoint: '127.0.0.1:0' } } } }
processors: { tag: {} }
exporters: { otlp/backend: { endpoint: 'http://BACKEND' } }
service:
  storage: { directory: data }
  telemetry: { metrics: { endpoint: '127.0.0.1:0' } }
  pipelines: { all: { receivers: [otlp], processors: [tag], exporters: [otlp/backend] } }
";

fn run(homeostat: &Homeostat, (signal, is_http, more): (&str, bool, &[&str])) -> Process {
    let to = if is_http { homeostat.http } else { homeostat.grpc };
    let mut command = Command::new(built("telemetrygen"));
    command.args([signal, "--otlp-insecure", "--otlp-endpoint", &to.to_string()]);
    command.args(["--rate", "40", "--duration", "20s", "--workers", "2"]).args(more);
    if is_http {
        command.arg("--otlp-http");
    }
    Process::spawn("telemetrygen", command)
}

/// What a run says it made: `traces generated {"worker": 0, "traces": 51}`, a line for each worker.
fn made(signal: &str, output: &str, more: &[&str]) -> u64 {
    let said = |line: &str| {
        let json = line.split_once(&format!("{signal} generated"))?.1.trim();
        serde_json::from_str::<serde_json::Value>(json).ok()?[signal].as_u64()
    };
    let numbers: Vec<u64> = output.lines().filter_map(said).collect();
    assert_eq!(numbers.len(), 2, "each worker says what it made:\n{output}");
    let children = more.iter().skip_while(|word| **word != "--child-spans").nth(1);
    let each = children.map_or(1, |children| 1 + children.parse::<u64>().expect("it is a number"));
    numbers.iter().sum::<u64>() * each
}

fn points(data: Option<Data>) -> usize {
    match data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
        None => 0,
    }
}

/// What the backend holds.
fn arrived(backend: &Backend) -> Counts {
    let mut counts = Counts::new();
    for received in backend.take() {
        assert_eq!(received.encoding, "identity", "telemetrygen does not compress");
        let bytes = received.frame;
        let (signal, count) = if received.path == METRICS.0 {
            let request = ExportMetricsServiceRequest::decode(bytes).expect("it is a request");
            let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
            ("metrics", scopes.flat_map(|scope| scope.metrics).map(|metric| points(metric.data)).sum())
        } else if received.path == LOGS.0 {
            let request = ExportLogsServiceRequest::decode(bytes).expect("it is a request");
            let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
            ("logs", scopes.map(|scope| scope.log_records.len()).sum::<usize>())
        } else {
            let request = ExportTraceServiceRequest::decode(bytes).expect("it is a request");
            let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            ("traces", scopes.map(|scope| scope.spans.len()).sum())
        };
        *counts.entry(signal).or_default() += count as u64;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_of_telemetrygen_arrives_to_the_last_record() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let backend = Backend::start().await;
    write(folder.path(), "config.yaml", &CONFIGURATION.replace("BACKEND", &backend.address.to_string()));
    let homeostat = Homeostat::start(folder.path()).await;
    let mut running: Vec<Process> = RUNS.into_iter().map(|one| run(&homeostat, one)).collect();
    let mut generated = Counts::new();
    for (process, (signal, _, more)) in running.iter_mut().zip(RUNS) {
        let status = process.exit().await;
        let output = process.all_output().await;
        assert!(status.success(), "{signal} {more:?}: {status}\n{output}");
        *generated.entry(signal).or_default() += made(signal, &output, more);
    }
    assert!(generated.values().all(|count| *count > 1_000), "it made something to speak of: {generated:?}");
    assert_eq!(arrived(&backend), generated, "what the backend holds");
    for (signal, records) in [("traces", "spans"), ("metrics", "metric_points"), ("logs", "log_records")] {
        let count = generated[signal] as f64;
        for (name, expected) in [
            ("receiver_accepted", count),
            ("exporter_sent", count),
            ("receiver_refused", 0.0),
            ("exporter_send_failed", 0.0),
        ] {
            let name = format!("otelcol_{name}_{records}");
            assert_eq!(homeostat.metric(&name).await, expected, "{name}");
        }
    }
    let (status, output) = homeostat.stop().await;
    assert!(status.success(), "{output}");
    assert!(!output.contains("WARN") && !output.contains("ERROR"), "nothing to complain of:\n{output}");
}
