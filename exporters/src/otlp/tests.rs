//! The whole exporter against a backend that says what the test wants.

mod encoding;
mod json;
mod parts;
mod queue;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;

use homeostat_pipeline::batch::{Compression as Encoded, Frame};
use homeostat_pipeline::otlp::status::{Response as Answered, Status as Details};
use homeostat_pipeline::refusal::Cause;
use homeostat_pipeline::settings::{Field, Node, Position, Value};
use homeostat_pipeline::sockets::Sockets;
use homeostat_pipeline::tasks::Tasks;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

use super::*;
use bytes::Bytes;
use homeostat_pipeline::batch::Content;
use http::{HeaderMap, HeaderValue, header};

type Answer = Response<BoxBody<Bytes, std::convert::Infallible>>;

/// What the backend does with a request.
enum Act {
    Say(Box<Answer>),
    /// Cuts the connection.
    Cut,
    /// Never answers.
    Hang,
}

struct Seen {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// A backend that does what it was told, and says OK when it was told nothing.
struct Backend {
    addr: SocketAddr,
    protocol: Protocol,
    script: Arc<Mutex<VecDeque<Act>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::Http];

impl Backend {
    async fn start(protocol: Protocol, script: Vec<Act>) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (script, seen) = (Arc::new(Mutex::new(VecDeque::from(script))), Arc::new(Mutex::new(Vec::new())));
        let (acts, log) = (script.clone(), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acts, log) = (acts.clone(), log.clone());
                tokio::spawn(async move {
                    let service =
                        service_fn(move |request| play(request, protocol, acts.clone(), log.clone()));
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Backend { addr, protocol, script, seen }
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn exporter(&self, more: Vec<(&str, Value)>) -> Exporter {
        exporter(self.addr, self.protocol, more)
    }

    /// The script was played to its end.
    fn assert_played(&self) {
        assert!(self.script.lock().unwrap().is_empty());
    }
}

async fn play(
    request: Request<Incoming>,
    protocol: Protocol,
    acts: Arc<Mutex<VecDeque<Act>>>,
    log: Arc<Mutex<Vec<Seen>>>,
) -> Result<Answer, &'static str> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| "the request broke off")?.to_bytes();
    log.lock().unwrap().push(Seen { path: parts.uri.path().to_owned(), headers: parts.headers, body });
    let act = acts.lock().unwrap().pop_front();
    match act {
        Some(Act::Say(answer)) => Ok(*answer),
        Some(Act::Cut) => Err("cut"),
        Some(Act::Hang) => std::future::pending().await,
        None => Ok(ok(protocol, b"")),
    }
}

fn http(status: u16, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).boxed());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

fn ok(protocol: Protocol, message: &[u8]) -> Answer {
    match protocol {
        Protocol::Http => http(200, message.to_vec()),
        Protocol::Grpc => {
            let mut body = vec![0];
            body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
            body.extend_from_slice(message);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let body = Full::new(Bytes::from(body)).with_trailers(async { Some(Ok(trailers)) });
            Response::new(body.boxed())
        }
    }
}

fn grpc(code: i32, retry_after: Option<Duration>) -> Answer {
    let details = Details { code, message: "x".to_owned(), retry_after };
    let details = if retry_after.is_some() { details.encode() } else { Vec::new() };
    let status = tonic::Status::with_details(tonic::Code::from_i32(code), "x", details.into());
    status.into_http::<Full<Bytes>>().map(BodyExt::boxed)
}

fn say(answer: Answer) -> Act {
    Act::Say(Box::new(answer))
}

fn node(value: Value) -> Node {
    Node { at: Position { source: "test.yaml".into(), line: 1, column: 1 }, value }
}

fn map(fields: Vec<(&str, Value)>) -> Value {
    let at = node(Value::Null).at;
    let field =
        |(key, value): (&str, Value)| Field { key: key.to_owned(), at: at.clone(), node: node(value) };
    Value::Map(fields.into_iter().map(field).collect())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// Patient beyond what any machine needs, and quick to repeat, unless `more` says otherwise.
fn exporter(addr: SocketAddr, protocol: Protocol, more: Vec<(&str, Value)>) -> Exporter {
    let mut fields = vec![("endpoint", text(&format!("http://{addr}")))];
    for (key, default) in
        [("timeout", text("120s")), ("retry_on_failure", map(vec![("initial_interval", text("1ms"))]))]
    {
        if more.iter().all(|(own, _)| *own != key) {
            fields.push((key, default));
        }
    }
    fields.extend(more);
    let settings = read::<Otlp>(&node(map(fields))).unwrap();
    Exporter::new(Kind { settings, protocol }.way(&context()).unwrap())
}

fn telemetry(signal: Signal, compression: Encoded, bytes: &'static [u8]) -> Telemetry {
    let frame = Frame { content: Content::Protobuf, compression, bytes: Bytes::from_static(bytes) };
    Telemetry { signal, frame, body: Bytes::from_static(b"the inflated body"), records: 1 }
}

fn traces() -> Telemetry {
    telemetry(Signal::Traces, Encoded::Gzip, b"as it came")
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

async fn export(exporter: &Exporter) -> Result<Taken, Refusal> {
    exporter.export(&traces(), far()).await
}

#[tokio::test]
async fn frames_go_out_byte_for_byte_over_both_protocols() {
    for protocol in PROTOCOLS {
        let backend = Backend::start(protocol, vec![]).await;
        let exporter = backend.exporter(vec![]);
        for (signal, grpc_path, http_path) in [
            (Signal::Traces, "/opentelemetry.proto.collector.trace.v1.TraceService/Export", "/v1/traces"),
            (
                Signal::Metrics,
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
                "/v1/metrics",
            ),
            (Signal::Logs, "/opentelemetry.proto.collector.logs.v1.LogsService/Export", "/v1/logs"),
        ] {
            for (compression, token) in
                [(Encoded::None, None), (Encoded::Gzip, Some("gzip")), (Encoded::Zstd, Some("zstd"))]
            {
                let frame = b"any bytes, never looked at";
                let taken = exporter.export(&telemetry(signal, compression, frame), far()).await;
                assert_eq!(taken, Ok(Taken::default()));
                let seen = backend.seen.lock().unwrap().pop().unwrap();
                let header = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap());
                match protocol {
                    Protocol::Http => {
                        assert_eq!((seen.path.as_str(), header("content-encoding")), (http_path, token));
                        assert_eq!(header("content-type"), Some("application/x-protobuf"));
                        assert_eq!(seen.body, frame.as_slice());
                    }
                    Protocol::Grpc => {
                        assert_eq!((seen.path.as_str(), header("grpc-encoding")), (grpc_path, token));
                        assert_eq!(
                            (header("content-type"), header("te")),
                            (Some("application/grpc"), Some("trailers"))
                        );
                        assert_eq!(seen.body[..5], [u8::from(token.is_some()), 0, 0, 0, 26]);
                        assert_eq!(seen.body[5..], frame[..]);
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn compression_none_sends_the_body_plain() {
    for protocol in PROTOCOLS {
        let backend = Backend::start(protocol, vec![]).await;
        assert_eq!(
            export(&backend.exporter(vec![("compression", text("none"))])).await,
            Ok(Taken::default())
        );
        let seen = backend.seen.lock().unwrap().pop().unwrap();
        assert!(
            !seen.headers.contains_key("content-encoding") && !seen.headers.contains_key("grpc-encoding")
        );
        assert!(seen.body.ends_with(b"the inflated body"));
    }
}

#[tokio::test]
async fn headers_and_paths_are_sent_as_configured() {
    let backend = Backend::start(Protocol::Http, vec![]).await;
    let exporter = backend.exporter(vec![
        ("headers", map(vec![("api-key", text("k1"))])),
        ("logs_endpoint", text(&format!("http://{}/ingest/logs/", backend.addr))),
    ]);
    for (signal, path) in [(Signal::Logs, "/ingest/logs"), (Signal::Traces, "/v1/traces")] {
        assert!(exporter.export(&telemetry(signal, Encoded::None, b"x"), far()).await.is_ok());
        let seen = backend.seen.lock().unwrap().pop().unwrap();
        assert_eq!((seen.path.as_str(), &seen.headers["api-key"]), (path, &HeaderValue::from_static("k1")));
        assert!(seen.headers["user-agent"].to_str().unwrap().starts_with("homeostat/"));
    }
}

#[tokio::test]
async fn what_may_come_later_is_sent_again_until_it_is_taken() {
    let http = [429, 502, 503, 504].map(|status| say(http(status, ""))).into_iter().collect();
    let grpc = [1, 4, 10, 11, 14, 15].map(|code| say(grpc(code, None))).into_iter().collect();
    for (protocol, script, attempts) in [(Protocol::Http, http, 5), (Protocol::Grpc, grpc, 7)] {
        let backend = Backend::start(protocol, script).await;
        assert_eq!(export(&backend.exporter(vec![])).await, Ok(Taken::default()), "{protocol:?}");
        backend.assert_played();
        let seen = backend.seen.lock().unwrap();
        assert_eq!(seen.len(), attempts);
        assert!(seen.iter().all(|one| one.body == seen[0].body));
    }
}

#[tokio::test]
async fn a_cut_connection_is_made_anew() {
    for protocol in PROTOCOLS {
        let backend = Backend::start(protocol, vec![Act::Cut, say(ok(protocol, b"")), Act::Cut]).await;
        let exporter = backend.exporter(vec![]);
        assert_eq!(export(&exporter).await, Ok(Taken::default()), "{protocol:?}");
        assert_eq!(export(&exporter).await, Ok(Taken::default()), "{protocol:?}");
        backend.assert_played();
    }
}

#[tokio::test]
async fn the_time_that_the_backend_names_is_kept() {
    // The exporter's own waits would be beyond its time-out.
    let slow =
        || ("retry_on_failure", map(vec![("initial_interval", text("10m")), ("max_interval", text("10m"))]));
    for code in [8, 14] {
        let script = vec![say(grpc(code, Some(Duration::from_millis(20))))];
        let backend = Backend::start(Protocol::Grpc, script).await;
        assert_eq!(export(&backend.exporter(vec![slow()])).await, Ok(Taken::default()), "{code}");
        assert_eq!(backend.count(), 2);
    }
    let mut answer = http(503, "");
    answer.headers_mut().insert("retry-after", HeaderValue::from_static("0"));
    let backend = Backend::start(Protocol::Http, vec![say(answer)]).await;
    assert_eq!(export(&backend.exporter(vec![slow()])).await, Ok(Taken::default()));
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn a_time_beyond_the_deadline_is_passed_to_the_sender() {
    let in_time = || vec![("timeout", text("28s"))];
    let mut answer = http(429, "");
    answer.headers_mut().insert("retry-after", HeaderValue::from_static("29"));
    let http = Backend::start(Protocol::Http, vec![say(answer)]).await;
    let grpc = Backend::start(Protocol::Grpc, vec![say(grpc(8, Some(Duration::from_secs(29))))]).await;
    for backend in [http, grpc] {
        let refusal = export(&backend.exporter(in_time())).await.unwrap_err();
        assert!(
            matches!(refusal, Refusal::Unavailable { retry_after, .. } if retry_after == Duration::from_secs(29)),
            "{refusal:?}"
        );
        assert_eq!(backend.count(), 1);
    }
}

#[tokio::test]
async fn what_the_backend_refuses_for_good_is_sent_once() {
    for (status, cause) in [
        (400, Cause::Backend),
        (401, Cause::Backend),
        (404, Cause::Backend),
        (413, Cause::TooLarge),
        (500, Cause::Backend),
    ] {
        let words = Details { code: 3, message: "the span is bad".to_owned(), retry_after: None };
        check_final(Protocol::Http, say(http(status, words.encode())), cause, "the span is bad").await;
    }
    for (code, cause) in [(3, Cause::Backend), (8, Cause::TooLarge), (16, Cause::Backend)] {
        check_final(Protocol::Grpc, say(grpc(code, None)), cause, "the backend answered").await;
    }
}

async fn check_final(protocol: Protocol, act: Act, expected: Cause, words: &str) {
    let backend = Backend::start(protocol, vec![act]).await;
    match export(&backend.exporter(vec![])).await {
        Err(Refusal::Rejected { cause, reason }) => {
            assert_eq!(cause, expected);
            // The sender hears the words of the backend, and not where it is.
            let place = backend.addr.to_string();
            assert!(reason.contains(words) && !reason.contains(&place), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn a_partial_success_is_final_and_passed_on() {
    for protocol in PROTOCOLS {
        let answered = Answered { rejected: 2, message: "two were too old".to_owned() };
        let backend = Backend::start(protocol, vec![say(ok(protocol, &answered.encode()))]).await;
        let taken = Taken { rejected: 2, share: 0, message: "two were too old".to_owned() };
        assert_eq!(export(&backend.exporter(vec![])).await, Ok(taken), "{protocol:?}");
        assert_eq!(backend.count(), 1);
    }
}

#[tokio::test]
async fn of_a_long_answer_the_partial_success_is_kept_and_it_is_never_repeated() {
    for protocol in PROTOCOLS {
        for bytes in [200 * 1024, 5 << 20] {
            let answered = Answered { rejected: 1, message: "x".repeat(bytes) };
            let backend = Backend::start(protocol, vec![say(ok(protocol, &answered.encode()))]).await;
            let taken = Taken { rejected: 1, share: 0, message: "x".repeat(1024) };
            assert_eq!(export(&backend.exporter(vec![])).await, Ok(taken), "{protocol:?} {bytes}");
            assert_eq!(backend.count(), 1);
        }
    }
}

#[tokio::test]
async fn a_time_to_come_back_may_be_a_date() {
    let mut answer = http(503, "");
    let passed = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
    answer.headers_mut().insert("retry-after", passed);
    let backend = Backend::start(Protocol::Http, vec![say(answer)]).await;
    let slow = map(vec![("initial_interval", text("10m")), ("max_interval", text("10m"))]);
    assert_eq!(export(&backend.exporter(vec![("retry_on_failure", slow)])).await, Ok(Taken::default()));
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn where_nobody_listens_the_sender_is_asked_to_come_back() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for protocol in PROTOCOLS {
        let exporter = exporter(gone, protocol, vec![("timeout", text("50ms"))]);
        match export(&exporter).await {
            Err(Refusal::Unavailable { retry_after, reason }) => {
                assert_eq!(retry_after, Duration::from_secs(1));
                assert!(reason.starts_with(&format!("http://{gone}: ")), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_backend_that_hangs_costs_no_more_than_the_deadline() {
    for protocol in PROTOCOLS {
        let backend = Backend::start(protocol, vec![Act::Hang, Act::Hang]).await;
        let own = backend.exporter(vec![("timeout", text("50ms"))]);
        assert!(export(&own).await.is_err_and(|refusal| refusal.is_retryable()), "{protocol:?}");
        // The sender's deadline counts where it is earlier.
        let patient = backend.exporter(vec![]);
        let deadline = Instant::now() + Duration::from_millis(50);
        let refused = patient.export(&traces(), deadline).await;
        assert!(refused.is_err_and(|refusal| refusal.is_retryable()), "{protocol:?}");
    }
}

#[tokio::test]
async fn with_retries_off_the_sender_repeats() {
    let backend = Backend::start(Protocol::Http, vec![say(http(503, ""))]).await;
    let off = vec![("retry_on_failure", map(vec![("enabled", Value::Bool(false))]))];
    assert!(export(&backend.exporter(off)).await.is_err_and(|refusal| refusal.is_retryable()));
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn the_type_says_the_protocol_where_the_settings_do_not() {
    for (registration, own) in registrations().into_iter().zip(PROTOCOLS) {
        for (written, expected) in
            [(None, own), (Some("grpc"), Protocol::Grpc), (Some("http/protobuf"), Protocol::Http)]
        {
            let backend = Backend::start(expected, vec![]).await;
            let mut fields =
                vec![("endpoint", text(&format!("http://{}", backend.addr))), ("timeout", text("120s"))];
            fields.extend(written.map(|written| ("protocol", text(written))));
            let settings = (registration.read)(&node(map(fields))).unwrap();
            assert_eq!(settings.role(), Role::TelemetryExporter);
            let Component::TelemetryExporter(exporter) = settings.open(context()).await.unwrap() else {
                panic!("{} is a telemetry exporter", registration.kind);
            };
            let taken = exporter.export(&traces(), far()).await;
            assert_eq!(taken, Ok(Taken::default()), "{} {written:?}", registration.kind);
            let path = backend.seen.lock().unwrap().pop().unwrap().path;
            assert_eq!(path == "/v1/traces", expected == Protocol::Http, "{} {written:?}", registration.kind);
        }
    }
}

fn context() -> Context {
    Context {
        id: "otlp/test".to_owned(),
        clock: Arc::new(homeostat_pipeline::clock::SystemClock),
        budget: homeostat_pipeline::budget::Budget::new(1 << 20),
        directory: None,
        files: Files {
            base: ".".into(),
            embedded: std::collections::BTreeMap::new(),
            parse: |_, _| Err(Problem::somewhere("no files here")),
        },
        interest: Arc::default(),
        ledger: None,
        extensions: Arc::default(),
        sockets: Sockets::default(),
        stop: tokio_util::sync::CancellationToken::new(),
        tasks: Tasks::default(),
    }
}
