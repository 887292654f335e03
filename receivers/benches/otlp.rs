//! What the receiver costs: inflating alone, and whole requests over loopback through the real engine to an exporter that
//! takes everything. The latter includes the client, which is about half of it.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::hint::black_box;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{BufMut, Bytes};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use homeostat_pipeline::batch::{Compression, Signal, Telemetry};
use homeostat_pipeline::budget::Budget;
use homeostat_pipeline::clock::SystemClock;
use homeostat_pipeline::contract::{Taken, TelemetryExporter};
use homeostat_pipeline::engine::{Engine, EngineSettings, Pipeline, Plan};
use homeostat_pipeline::interest::Interest;
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::{Component, Context};
use homeostat_pipeline::settings::{Field, Files, Node, Position, Problem, Value};
use homeostat_pipeline::sockets::Sockets;
use homeostat_pipeline::storage::{StorageSettings, Store};
use homeostat_pipeline::tasks::Tasks;
use homeostat_receivers::otlp::account::Account;
use homeostat_receivers::otlp::inflate::inflate;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const SPANS: u64 = 500;

/// A request of 500 spans of about 450 bytes, none like the other.
fn request() -> Vec<u8> {
    let mut state = 7_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 20
    };
    let span = |at: u64| Span {
        trace_id: [random().to_le_bytes(), random().to_le_bytes()].concat(),
        span_id: random().to_le_bytes().to_vec(),
        name: format!("GET /orders/{}", at % 37),
        start_time_unix_nano: 1_760_000_000_000_000_000 + random(),
        end_time_unix_nano: 1_760_000_000_100_000_000 + random(),
        attributes: (0..10)
            .map(|key| KeyValue {
                key: format!("attribute.number.{key}"),
                value: Some(AnyValue {
                    value: Some(any_value::Value::StringValue(format!("{:x}", random()))),
                }),
                ..KeyValue::default()
            })
            .collect(),
        ..Span::default()
    };
    let scope = ScopeSpans { spans: (0..SPANS).map(span).collect(), ..ScopeSpans::default() };
    let resource = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource] }.encode_to_vec()
}

fn gzip(content: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap().into()
}

fn inflating(criterion: &mut Criterion) {
    let body = request();
    let mut group = criterion.benchmark_group("inflate");
    group.throughput(Throughput::Elements(SPANS));
    let budget = Budget::new(64 << 20);
    for (name, compression, wire) in [
        ("gzip", Compression::Gzip, gzip(&body)),
        ("gzip, two members", Compression::Gzip, [gzip(&body), gzip(b"")].concat().into()),
        ("zstd", Compression::Zstd, Bytes::from(zstd::bulk::compress(&body, 1).unwrap())),
        ("plain", Compression::None, Bytes::from(body.clone())),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut account = Account::new(budget.clone(), [127, 0, 0, 1].into());
                inflate(compression, black_box(&wire), 4 << 20, &mut account).unwrap()
            });
        });
    }
    group.finish();
}

struct Takes;

#[async_trait]
impl TelemetryExporter for Takes {
    async fn export(&self, _telemetry: &Telemetry, _deadline: Instant) -> Result<Taken, Refusal> {
        Ok(Taken::default())
    }

    fn is_queued(&self) -> bool {
        false
    }
}

fn node(value: Value) -> Node {
    Node { at: Position { source: "bench".into(), line: 1, column: 1 }, value }
}

fn map(key: &str, value: Value) -> Value {
    let node = node(value);
    Value::Map(vec![Field { key: key.to_owned(), at: node.at.clone(), node }])
}

/// A receiver for `protocol` with the engine behind it.
async fn serve(protocol: &str, budget: &Budget) -> (SocketAddr, Engine) {
    let engine = Engine::start(Plan {
        store: Store::open(&StorageSettings::default()).unwrap(),
        clock: Arc::new(SystemClock),
        budget: budget.clone(),
        analyzers: Vec::new(),
        finding_exporters: Vec::new(),
        pipelines: vec![Pipeline {
            name: "traces".to_owned(),
            signals: vec![Signal::Traces],
            receivers: vec!["otlp".to_owned()],
            processors: Vec::new(),
            telemetry_exporters: vec![("takes".to_owned(), Arc::new(Takes))],
            judges: false,
        }],
        settings: EngineSettings::default(),
    })
    .unwrap();
    let endpoint = map("endpoint", Value::Text("127.0.0.1:0".to_owned()));
    let settings = node(map("protocols", map(protocol, endpoint)));
    let registration = homeostat_receivers::list().into_iter().find(|one| one.kind == "otlp").unwrap();
    let context = Context {
        id: "otlp".to_owned(),
        clock: Arc::new(SystemClock),
        budget: budget.clone(),
        directory: None,
        files: Files {
            base: ".".into(),
            embedded: Default::default(),
            parse: |_, _| Err(Problem::somewhere("no files here")),
        },
        interest: Arc::new(Interest::default()),
        ledger: None,
        extensions: Arc::default(),
        sockets: Sockets::default(),
        stop: CancellationToken::new(),
        tasks: Tasks::default(),
    };
    let Component::Receiver(receiver) = (registration.read)(&settings).unwrap().open(context).await.unwrap()
    else {
        panic!("otlp is a receiver");
    };
    let addr = receiver.local_addrs()[0];
    tokio::spawn(receiver.run(engine.inlet("otlp"), CancellationToken::new()));
    (addr, engine)
}

fn requests(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let budget = Budget::new(64 << 20);
    let body = request();
    let mut group = criterion.benchmark_group("request");
    group.throughput(Throughput::Elements(SPANS));
    for (name, protocol, encoding, wire) in [
        ("http plain", "http", "identity", Bytes::from(body.clone())),
        ("http gzip", "http", "gzip", gzip(&body)),
        ("grpc plain", "grpc", "identity", Bytes::from(body.clone())),
        ("grpc gzip", "grpc", "gzip", gzip(&body)),
    ] {
        let (addr, _engine) = runtime.block_on(serve(protocol, &budget));
        let is_grpc = protocol == "grpc";
        let client = Client::builder(TokioExecutor::new()).http2_only(is_grpc).build_http::<Full<Bytes>>();
        let (uri, wire) = if is_grpc {
            let mut frame = vec![u8::from(encoding == "gzip")];
            frame.put_u32(u32::try_from(wire.len()).unwrap());
            frame.extend_from_slice(&wire);
            let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
            (format!("http://{addr}{path}"), Bytes::from(frame))
        } else {
            (format!("http://{addr}/v1/traces"), wire)
        };
        let (kind, header) = if is_grpc {
            ("application/grpc", "grpc-encoding")
        } else {
            ("application/x-protobuf", "content-encoding")
        };
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let request = Request::post(&uri)
                    .header("content-type", kind)
                    .header(header, encoding)
                    .body(wire.clone());
                runtime.block_on(async {
                    let response = client.request(request.unwrap().map(Full::new)).await.unwrap();
                    assert_eq!(response.status(), 200);
                    response.into_body().collect().await.unwrap()
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, inflating, requests);
criterion_main!(benches);
