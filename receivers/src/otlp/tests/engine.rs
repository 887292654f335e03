//! The receiver as the binary runs it: from YAML, with the real engine behind it.

use homeostat_pipeline::clock::SystemClock;
use homeostat_pipeline::contract::TelemetryExporter;
use homeostat_pipeline::engine::{Engine, EngineSettings, Pipeline, Plan};
use homeostat_pipeline::refusal::Cause;
use homeostat_pipeline::settings::{Node, Value};
use homeostat_pipeline::storage::{StorageSettings, Store};

use super::*;

/// Panics at a request of so many records.
const UNLUCKY: u64 = 13;

struct Backend(Arc<Fake>);

#[async_trait]
impl TelemetryExporter for Backend {
    async fn export(&self, telemetry: &Telemetry, deadline: Instant) -> Result<Taken, Refusal> {
        assert!(telemetry.records != UNLUCKY, "the exporter was told to panic");
        Gate::submit(&self.0, telemetry.clone(), deadline).await
    }

    fn is_queued(&self) -> bool {
        false
    }
}

fn engine(budget: &Budget, backend: &Arc<Fake>) -> Engine {
    Engine::start(Plan {
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
            telemetry_exporters: vec![("otlp/backend".to_owned(), Arc::new(Backend(backend.clone())))],
            judges: false,
        }],
        settings: EngineSettings::default(),
    })
    .unwrap()
}

#[tokio::test]
async fn what_the_backend_says_reaches_the_sender_through_the_engine() {
    let unstruck = drops::unstruck(&[&drops::RECEIVER_BACKEND]);
    let node = Node { at: anywhere().unwrap().at, value: Value::Null };
    let settings = (registration().read)(&node).unwrap();
    assert_eq!(settings.role(), Role::Receiver);

    let (budget, backend) = (Budget::new(64 << 20), Arc::new(Fake::default()));
    let engine = engine(&budget, &backend);
    let receiver: Box<dyn contract::Receiver> = Box::new(open(&budget).await);
    let addrs = receiver.local_addrs();
    let stop = CancellationToken::new();
    let running = tokio::spawn(receiver.run(engine.inlet("otlp"), stop.clone()));

    let (caller, poster) = (client(true), client(false));
    let call = format!("http://{}{TRACE_EXPORT}", addrs[0]);
    let post = format!("http://{}/v1/traces", addrs[1]);
    let frame = || framed(1, &gzip(&spans(5)));
    let headers = [GRPC, ("grpc-encoding", "gzip")];
    assert_eq!(send(&caller, "POST", call.clone(), &headers, frame()).await.grpc_code(), 0);
    assert_eq!(backend.seen()[0].frame.bytes, frame()[5..]);

    backend.will_say(Ok(Taken { rejected: 2, share: 0, message: "two".to_owned() }));
    let said = send(&caller, "POST", call.clone(), &headers, frame()).await;
    assert_eq!(said.grpc_answer(), Answered { rejected: 2, message: "two".to_owned() });
    backend.will_say(Err(Refusal::busy("the backend is down")));
    assert_eq!(send(&caller, "POST", call, &headers, frame()).await.grpc_code(), 14);
    backend.will_say(Err(Refusal::rejected(Cause::Backend, "no")));
    let said = send(&poster, "POST", post, &[PROTOBUF], spans(1)).await;
    assert_eq!(said.status.as_u16(), 400);
    // No pipeline takes logs.
    let said = send(&poster, "POST", format!("http://{}/v1/logs", addrs[1]), &[PROTOBUF], logs(1)).await;
    assert_eq!(said.status.as_u16(), 404);

    stop.cancel();
    running.await.unwrap().unwrap();
    engine.stop(Instant::now() + Duration::from_secs(120)).await;
    assert_eq!(unstruck(), [""; 0]);
}

#[tokio::test]
async fn an_exporter_that_panics_harms_one_request_and_not_the_connection() {
    let (budget, backend) = (Budget::new(64 << 20), Arc::new(Fake::default()));
    let engine = engine(&budget, &backend);
    let receiver: Box<dyn contract::Receiver> = Box::new(open(&budget).await);
    let grpc = receiver.local_addrs()[0];
    let stop = CancellationToken::new();
    let running = tokio::spawn(receiver.run(engine.inlet("otlp"), stop.clone()));

    let stream = hyper_util::rt::TokioIo::new(tokio::net::TcpStream::connect(grpc).await.unwrap());
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let mut codes = Vec::new();
    for count in [1, UNLUCKY as usize, 2] {
        let request = Request::post(format!("http://{grpc}{TRACE_EXPORT}")).header(GRPC.0, GRPC.1);
        let request = request.body(Full::new(Bytes::from(framed(0, &spans(count))))).unwrap();
        let answer = client.send_request(request).await.unwrap();
        let headers = answer.headers().clone();
        let trailers = answer.into_body().collect().await.unwrap().trailers().cloned();
        codes.push(tonic::Status::from_header_map(&trailers.unwrap_or(headers)).unwrap().code() as i32);
    }
    assert_eq!(codes, [0, 14, 0]);
    assert_eq!(backend.seen().iter().map(|telemetry| telemetry.records).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(budget.used_bytes(), 0);

    stop.cancel();
    running.await.unwrap().unwrap();
    engine.stop(Instant::now() + Duration::from_secs(120)).await;
}
