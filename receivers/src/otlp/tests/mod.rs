//! The whole receiver, bound to real ports, against a real client and a gate that says what the test wants.

mod engine;
mod lifecycle;
mod limits;
mod outcomes;
mod security;

use std::collections::VecDeque;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes};
use homeostat_pipeline::batch::{Signal, Telemetry};
use homeostat_pipeline::otlp::status::{Response as Answered, Status as Details};
use homeostat_pipeline::settings::{At, Position};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::task::JoinHandle;

use super::settings::{Grpc, Http};
use super::*;
use homeostat_pipeline::contract::Taken;
use homeostat_pipeline::drops;
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::sockets::Sockets;
use homeostat_pipeline::tasks::Tasks;
use tokio::time::Instant;

const TRACE_EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS_EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const LOGS_EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// A gate that takes everything, unless it was told what to say next.
#[derive(Default)]
struct Fake {
    answers: Mutex<VecDeque<Result<Taken, Refusal>>>,
    seen: Mutex<Vec<Telemetry>>,
    refuses: Vec<Signal>,
    /// Every submission waits here when there is one.
    barrier: Option<tokio::sync::Barrier>,
    panics: bool,
}

impl Fake {
    fn will_say(&self, answer: Result<Taken, Refusal>) {
        self.answers.lock().unwrap().push_back(answer);
    }

    fn seen(&self) -> Vec<Telemetry> {
        self.seen.lock().unwrap().clone()
    }
}

#[async_trait]
impl Gate for Arc<Fake> {
    fn takes(&self, signal: Signal) -> bool {
        !self.refuses.contains(&signal)
    }

    async fn submit(&self, telemetry: Telemetry, _deadline: Instant) -> Result<Taken, Refusal> {
        assert!(!self.panics, "the gate was told to panic");
        self.seen.lock().unwrap().push(telemetry);
        if let Some(barrier) = &self.barrier {
            barrier.wait().await;
        }
        self.answers.lock().unwrap().pop_front().unwrap_or(Ok(Taken::default()))
    }
}

/// A running receiver.
struct Server {
    grpc: SocketAddr,
    http: SocketAddr,
    gate: Arc<Fake>,
    budget: Budget,
    leaving: CancellationToken,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn anywhere() -> Option<At<String>> {
    let at = Position { source: "test.yaml".into(), line: 1, column: 1 };
    Some(At { at, value: "127.0.0.1:0".to_owned() })
}

fn context() -> Context {
    let parse = |_: &str, _: &str| Err(Problem::somewhere("no YAML here"));
    Context {
        id: "otlp".to_owned(),
        clock: Arc::new(homeostat_pipeline::clock::SystemClock),
        budget: Budget::new(1 << 30),
        directory: None,
        files: Files { base: ".".into(), embedded: std::collections::BTreeMap::new(), parse },
        interest: Arc::default(),
        ledger: None,
        extensions: Arc::default(),
        sockets: Sockets::default(),
        stop: CancellationToken::new(),
        tasks: Tasks::default(),
    }
}

async fn open(budget: &Budget) -> Receiver {
    let grpc = Grpc { endpoint: anywhere(), max_recv_msg_size_mib: 1, ..Grpc::default() };
    let http = Http { endpoint: anywhere(), max_request_body_size: 2 << 20, ..Http::default() };
    let mut listeners = vec![grpc.open(&context()).await.unwrap(), http.open(&context()).await.unwrap()];
    for listener in &mut listeners {
        // A test machine may stand still for longer than a peer may.
        let long = Duration::from_secs(600);
        listener.drain = long;
        listener.limits.first_request = long;
        listener.limits.idle = long;
    }
    Receiver { id: "otlp".to_owned(), budget: budget.clone(), listeners }
}

fn run(receiver: Receiver, gate: Fake) -> Server {
    let addrs = contract::Receiver::local_addrs(&receiver);
    let (gate, stop, budget) = (Arc::new(gate), CancellationToken::new(), receiver.budget.clone());
    // Who stops also leaves.
    let leaving = stop.child_token();
    let task =
        tokio::spawn(receiver.serve(gate.clone(), Ends { leaving: leaving.clone(), stopping: stop.clone() }));
    Server { grpc: addrs[0], http: addrs[1], gate, budget, leaving, stop, task }
}

async fn start(gate: Fake) -> Server {
    run(open(&Budget::new(1 << 30)).await, gate)
}

fn client(is_http2: bool) -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).http2_only(is_http2).build_http()
}

/// An answer, whatever it was asked over.
#[derive(Debug)]
struct Said {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

impl Said {
    /// gRPC's status: in the trailers, or in the headers where there is no body.
    fn grpc(&self) -> tonic::Status {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/grpc");
        assert_eq!(self.headers["grpc-accept-encoding"], "identity,gzip,zstd");
        let place = self.trailers.as_ref().unwrap_or(&self.headers);
        tonic::Status::from_header_map(place).unwrap_or_else(|| panic!("no gRPC status in {self:?}"))
    }

    fn grpc_code(&self) -> i32 {
        self.grpc().code() as i32
    }

    fn grpc_details(&self) -> Details {
        Details::decode(self.grpc().details()).unwrap()
    }

    fn grpc_answer(&self) -> Answered {
        assert_eq!((self.grpc_code(), self.body[0]), (0, 0), "{self:?}");
        Answered::decode(&self.body[5..]).unwrap()
    }

    /// The protobuf `Status` of an OTLP/HTTP error.
    fn http_details(&self) -> Details {
        assert_eq!(self.headers["content-type"], "application/x-protobuf");
        Details::decode(&self.body).unwrap()
    }
}

async fn send(
    client: &Client<HttpConnector, Full<Bytes>>,
    method: &str,
    uri: String,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Said {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    Said { status: parts.status, headers: parts.headers, body: collected.to_bytes(), trailers }
}

impl Server {
    async fn call(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Said {
        send(&client(true), "POST", format!("http://{}{path}", self.grpc), headers, body).await
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Said {
        send(&client(false), "POST", format!("http://{}{path}", self.http), headers, body).await
    }

    /// A good request over gRPC.
    async fn call_traces(&self) -> Said {
        self.call(TRACE_EXPORT, &[GRPC, ("te", "trailers")], framed(0, &spans(2))).await
    }

    /// A good request over HTTP.
    async fn post_traces(&self) -> Said {
        self.post("/v1/traces", &[PROTOBUF], spans(2)).await
    }
}

/// gRPC's frame.
fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![flag];
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.extend_from_slice(message);
    frame
}

fn spans(count: usize) -> Vec<u8> {
    let span = |at: usize| Span { name: format!("span {at}"), trace_id: vec![1; 16], ..Span::default() };
    let scope = ScopeSpans { spans: (0..count).map(span).collect(), ..ScopeSpans::default() };
    let resource = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource] }.encode_to_vec()
}

fn points(count: usize) -> Vec<u8> {
    let gauge = Gauge { data_points: vec![NumberDataPoint::default(); count] };
    let metric =
        Metric { name: "up".to_owned(), data: Some(metric::Data::Gauge(gauge)), ..Metric::default() };
    let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
    let resource = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }.encode_to_vec()
}

fn logs(count: usize) -> Vec<u8> {
    let scope = ScopeLogs { log_records: vec![LogRecord::default(); count], ..ScopeLogs::default() };
    let resource = ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![resource] }.encode_to_vec()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(content, 1).unwrap()
}

fn localhost() -> std::net::IpAddr {
    Ipv4Addr::LOCALHOST.into()
}
