//! SIGHUP, in whole programs: what changes changes at once or not at all, and no connection, request, window or deviation is lost or
//! doubled by it.

mod found;
mod sinks;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use homeostat_tests::backend::Backend;
use homeostat_tests::client::{Sender, TRACES};
use homeostat_tests::homeostat::{Homeostat, write};
use homeostat_tests::process::{eventually, free_port};
use homeostat_tests::telemetry::{Spans, now, traces};
use homeostat_tests::world::latency_model;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use found::{Found, epochs, sequence, trail_is_whole};

const CONFIG: &str = r#"
receivers:
  otlp:
    protocols:
      grpc: { endpoint: 127.0.0.1:GRPC }
      http: { endpoint: 127.0.0.1:HTTP }
processors:
  tag: {}
  homeostasis: { model: model.yml }
exporters:
  otlp/backend: { endpoint: "http://BACKEND" }
  file: { path: findings.jsonl }
service:
  storage: { directory: data }
  telemetry: { metrics: { endpoint: 127.0.0.1:0 } }
  pipelines:
    feedback:
      receivers: [otlp]
      processors: [tag, homeostasis]
      exporters: [otlp/backend, file]
"#;

const REQ: &str = "REQ-NFR-PERF-001";

fn model(critical: u32) -> String {
    latency_model([REQ.to_owned()], "1h").replace("critical: 500", &format!("critical: {critical}"))
}

fn config(backend: &Backend) -> String {
    CONFIG.replace(":GRPC", ":0").replace(":HTTP", ":0").replace("BACKEND", &backend.address.to_string())
}

fn slow() -> Bytes {
    let duration = Duration::from_millis(900);
    traces(&Spans { count: 2, req: REQ.to_owned(), node: ("shop", "Work"), duration, is_error: false }, now())
}

/// The number of reloads that ended so.
async fn reloads(homeostat: &Homeostat, outcome: &str) -> u64 {
    let sample = format!("homeostat_config_reloads_total{{outcome=\"{outcome}\"}} ");
    let page = homeostat.metrics().await;
    page.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok()).unwrap_or(0)
}

/// SIGHUP, until it has led to this.
async fn reload(homeostat: &Homeostat, outcome: &str) {
    let before = reloads(homeostat, outcome).await;
    homeostat.process.signal("HUP");
    eventually(&format!("a reload is {outcome}\n{}", homeostat.process.output()), async || {
        (reloads(homeostat, outcome).await == before + 1).then_some(())
    })
    .await;
}

/// Where it listens after a reload.
fn addresses(folder: &Path) -> (SocketAddr, SocketAddr) {
    let text = std::fs::read_to_string(folder.join("ready.json")).expect("the ready file is there");
    let ready: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let at = |number: usize| {
        let text = ready["receivers"]["otlp"][number].as_str().expect("it is an address");
        text.parse().expect("it is an address")
    };
    (at(0), at(1))
}

/// One HTTP/1.1 or HTTP/2 connection, which is never opened again.
enum Connection {
    One(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Two(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    async fn open(to: SocketAddr, is_http2: bool) -> Connection {
        let io = TokioIo::new(TcpStream::connect(to).await.expect("it listens"));
        if is_http2 {
            let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                .await
                .expect("it speaks HTTP/2");
            tokio::spawn(connection);
            Connection::Two(sender)
        } else {
            let (sender, connection) =
                hyper::client::conn::http1::handshake(io).await.expect("it speaks HTTP/1");
            tokio::spawn(connection);
            Connection::One(sender)
        }
    }

    /// The status, and whether the answer says that it is the last.
    async fn send(&mut self, to: SocketAddr, body: &Bytes) -> (u16, bool) {
        let response = match self {
            Connection::One(sender) => {
                let request = Request::post(TRACES.1)
                    .header("host", to.to_string())
                    .header("content-type", "application/x-protobuf")
                    .body(Full::new(body.clone()))
                    .expect("the request is plain");
                sender.send_request(request).await
            }
            Connection::Two(sender) => {
                let request = Request::post(format!("http://{to}{}", TRACES.0))
                    .version(Version::HTTP_2)
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(Full::new(framed(body)))
                    .expect("the request is plain");
                sender.send_request(request).await
            }
        };
        let response = response.expect("the connection lives");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let collected = response.into_body().collect().await.expect("the answer comes whole");
        let grpc = collected.trailers().and_then(|trailers| trailers.get("grpc-status"));
        assert!(grpc.is_none_or(|status| status == "0"), "{grpc:?}");
        (status, headers.get("connection").is_some_and(|value| value == "close"))
    }
}

/// gRPC's five bytes before the message.
fn framed(message: &Bytes) -> Bytes {
    let length = u32::try_from(message.len()).expect("the message is small").to_be_bytes();
    [&[0], length.as_slice(), message].concat().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_outlive_a_reload_of_what_is_behind_them_and_the_next_request_goes_the_new_way() {
    let (old, new) = (Backend::start().await, Backend::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "model.yml", &model(500));
    write(folder.path(), "config.yaml", &config(&old));
    let homeostat = Homeostat::start(folder.path()).await;
    let mut http = Connection::open(homeostat.http, false).await;
    let mut grpc = Connection::open(homeostat.grpc, true).await;
    let (one, two) = (slow(), slow());
    assert_eq!(http.send(homeostat.http, &one).await, (200, false));
    assert_eq!(grpc.send(homeostat.grpc, &one).await, (200, false));
    let text = config(&new)
        .replace("tag: {}", "tag: { keys: { attributes: [ticket] } }")
        .replace("  homeostasis:", "  memory_limiter: { limit_mib: 20 }\n  homeostasis:")
        .replace("[tag,", "[memory_limiter, tag,");
    write(folder.path(), "config.yaml", &text);
    reload(&homeostat, "applied").await;
    assert_eq!(http.send(homeostat.http, &two).await, (200, false));
    assert_eq!(grpc.send(homeostat.grpc, &two).await, (200, false));
    let frames = |backend: &Backend| backend.received().into_iter().map(|one| one.frame).collect::<Vec<_>>();
    assert_eq!(frames(&old), [one.clone(), one]);
    assert_eq!(frames(&new), [two.clone(), two]);
    assert!((homeostat.metric("homeostat_budget_limit_bytes").await - f64::from(20 << 20)).abs() < 1.0);
    let output = homeostat.stop().await.1;
    let changed =
        "added memory_limiter, changed tag, changed otlp/backend, service.pipelines, service.memory_mib";
    assert!(output.contains(changed), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_cannot_be_changes_nothing_and_says_why() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "model.yml", &model(500));
    let good = config(&backend);
    write(folder.path(), "config.yaml", &good);
    let homeostat = Homeostat::start(folder.path()).await;
    let mut http = Connection::open(homeostat.http, false).await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let taken = taken.local_addr().expect("it is bound");
    let with_taken = good.replace(
        "receivers:\n",
        &format!("receivers:\n  otlp/b: {{ protocols: {{ http: {{ endpoint: \"{taken}\" }} }} }}\n"),
    );
    let broken_model = model(500).replace("value > threshold.critical", "value >");
    let cases = [
        (good.replace("tag: {}", "tga: {}"), model(500), "config.yaml:8:3: unknown processor type `tga`"),
        (good.clone(), broken_model, "model.yml:"),
        (
            good.replace("directory: data", "directory: other"),
            model(500),
            "`service.storage.directory` cannot change",
        ),
        (
            with_taken.replace("receivers: [otlp]", "receivers: [otlp, otlp/b]"),
            model(500),
            "cannot start `otlp/b`",
        ),
        (
            good.replace("BACKEND", "x").replace("path: findings.jsonl", "path: findings.jsonl/x"),
            model(500),
            "cannot start `file`",
        ),
    ];
    for (text, model, expected) in cases {
        write(folder.path(), "config.yaml", &text);
        write(folder.path(), "model.yml", &model);
        reload(&homeostat, "refused").await;
        assert!(homeostat.process.output().contains(expected), "{expected}\n{}", homeostat.process.output());
        assert_eq!(http.send(homeostat.http, &slow()).await, (200, false));
        assert!(homeostat.metric("homeostat_config_last_reload_successful").await < 0.5);
    }
    write(folder.path(), "config.yaml", &good);
    write(folder.path(), "model.yml", &self::model(500));
    reload(&homeostat, "unchanged").await;
    assert!(homeostat.metric("homeostat_config_last_reload_successful").await > 0.5);
    // What was paused for a reload that failed goes on.
    eventually("the findings go on", async || {
        let text = std::fs::read_to_string(folder.path().join("findings.jsonl")).unwrap_or_default();
        text.contains("deviation").then_some(())
    })
    .await;
    assert_eq!(backend.received().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_changes_keeps_its_address_and_one_that_moves_leaves_it() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "model.yml", &model(500));
    let guarded = |token: &str| {
        config(&backend)
            .replace("http: { endpoint: 127.0.0.1:0 }", "http: { endpoint: 127.0.0.1:0, auth: { authenticator: bearertokenauth } }")
            .replace("service:\n", &format!("extensions: {{ bearertokenauth: {{ token: {token} }} }}\nservice:\n  extensions: [bearertokenauth]\n"))
    };
    write(folder.path(), "config.yaml", &config(&backend));
    let homeostat = Homeostat::start(folder.path()).await;
    let mut early = Connection::open(homeostat.http, false).await;
    assert_eq!(early.send(homeostat.http, &slow()).await, (200, false));
    write(folder.path(), "config.yaml", &guarded("one"));
    reload(&homeostat, "applied").await;
    assert_eq!(addresses(folder.path()), (homeostat.grpc, homeostat.http), "the sockets are the same");
    assert_eq!(
        early.send(homeostat.http, &slow()).await,
        (200, true),
        "the old connection ends with an answer"
    );
    let answered = async |token: &str| {
        let request = Request::post(TRACES.1)
            .header("host", "x")
            .header("content-type", "application/x-protobuf")
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(slow()))
            .expect("the request is plain");
        let Connection::One(mut sender) = Connection::open(homeostat.http, false).await else { return 0 };
        sender.send_request(request).await.map_or(0, |response| response.status().as_u16())
    };
    assert_eq!((answered("one").await, answered("two").await), (200, 401));
    write(folder.path(), "config.yaml", &guarded("two"));
    reload(&homeostat, "applied").await;
    assert_eq!((answered("one").await, answered("two").await), (401, 200));
    let port = free_port();
    let moved = config(&backend)
        .replace("http: { endpoint: 127.0.0.1:0 }", &format!("http: {{ endpoint: 127.0.0.1:{port} }}"));
    write(folder.path(), "config.yaml", &moved);
    reload(&homeostat, "applied").await;
    let expected = (homeostat.grpc, ([127, 0, 0, 1], port).into());
    eventually("the ready file says where", async || (addresses(folder.path()) == expected).then_some(()))
        .await;
    eventually("nobody listens at the old address", async || {
        TcpStream::connect(homeostat.http).await.is_err().then_some(())
    })
    .await;
    let answer = Sender::default().http(([127, 0, 0, 1], port).into(), TRACES.1, "identity", slow()).await;
    assert!(answer.as_ref().is_ok_and(homeostat_tests::client::Answer::is_ok), "{answer:?}");
    let (status, output) = homeostat.stop().await;
    assert!(status.success(), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_renamed_takes_what_its_senders_were_sending() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "model.yml", &model(500));
    write(folder.path(), "config.yaml", &config(&backend));
    let homeostat = Homeostat::start(folder.path()).await;
    let body = slow();
    let (first, rest) = body.split_at(body.len() / 2);
    let mut sender = TcpStream::connect(homeostat.http).await.expect("it listens");
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        TRACES.1,
        body.len()
    );
    sender.write_all(&[head.as_bytes(), first].concat()).await.expect("it reads");
    let renamed = config(&backend)
        .replace("  otlp:\n    protocols", "  otlp/main:\n    protocols")
        .replace("[otlp]", "[otlp/main]");
    write(folder.path(), "config.yaml", &renamed);
    reload(&homeostat, "applied").await;
    sender.write_all(rest).await.expect("it reads on");
    let mut answer = Vec::new();
    sender.read_to_end(&mut answer).await.expect("it answers and closes");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(backend.received().into_iter().map(|one| one.frame).collect::<Vec<_>>(), [body]);
    let (status, output) = homeostat.stop().await;
    assert!(status.success() && output.contains("removed otlp, added otlp/main"), "{output}");
}

/// What a client sees of a connection that is closed while it sends the next request on it. Nothing of that request was read, and
/// gRPC and HTTP clients send it again on another connection (RFC 9113, 6.8; RFC 9110, 9.2.2). `Canceled` is hyper's word for a
/// request that was still in its queue, whole, when the connection closed.
fn is_closed(answer: &Result<homeostat_tests::client::Answer, String>) -> bool {
    answer.as_ref().is_err_and(|error| {
        [
            "GoAway",
            "IncompleteMessage",
            "ConnectionReset",
            "BrokenPipe",
            "ChannelClosed",
            "Canceled",
            "REFUSED_STREAM",
        ]
        .iter()
        .any(|closed| error.contains(closed))
    })
}

/// Sends until told to stop; every request that was read is answered OK the first time. Says what it sent.
async fn load(to: SocketAddr, is_grpc: bool, stop: Arc<AtomicBool>) -> Vec<Bytes> {
    let sender = Sender::default();
    let mut sent = Vec::new();
    while !stop.load(Ordering::Acquire) {
        let body = slow();
        let send = async || {
            if is_grpc {
                sender.grpc(to, TRACES.0, "identity", body.clone()).await
            } else {
                sender.http(to, TRACES.1, "identity", body.clone()).await
            }
        };
        let mut answer = send().await;
        for _ in 0..5 {
            if is_closed(&answer) {
                answer = send().await;
            }
        }
        assert!(
            answer.as_ref().is_ok_and(homeostat_tests::client::Answer::is_ok),
            "request {} of grpc: {is_grpc}: {answer:?}",
            sent.len()
        );
        sent.push(body);
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reloads_under_load_lose_nothing_and_double_nothing() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    write(path, "model.yml", &model(500));
    let text = config(&backend);
    write(path, "config.yaml", &text);
    let homeostat = Homeostat::start(path).await;
    let stop = Arc::new(AtomicBool::new(false));
    let loads = [(homeostat.grpc, true), (homeostat.http, false)]
        .map(|(to, is_grpc)| tokio::spawn(load(to, is_grpc, Arc::clone(&stop))));
    let mut models = 0;
    for number in 0..100_u32 {
        match number % 4 {
            0 => {
                models += 1;
                write(path, "model.yml", &model(500 + 10 * (models % 2)));
                reload(&homeostat, "applied").await;
            }
            1 => reload(&homeostat, "unchanged").await,
            // The receiver and both exporters.
            2 => {
                let (size, timeout) = (1_000_000 + number, 60 + number);
                let text = text
                    .replace("http: { endpoint", &format!("http: {{ max_request_body_size: {size}, endpoint"))
                    .replace("{ endpoint: \"http", &format!("{{ timeout: {timeout}s, endpoint: \"http"))
                    .replace(
                        "findings.jsonl }",
                        &format!("findings.jsonl, rotation: {{ max_megabytes: {number} }} }}"),
                    );
                write(path, "config.yaml", &text);
                reload(&homeostat, "applied").await;
            }
            _ => {
                write(path, "config.yaml", &text);
                reload(&homeostat, "applied").await;
            }
        }
    }
    stop.store(true, Ordering::Release);
    let mut sent = Vec::new();
    for load in loads {
        sent.extend(load.await.expect("the load ran"));
    }
    let spans = 2 * sent.len() as u64;
    eventually(&format!("{spans} spans are judged"), async || {
        let judged = Found::read(path).spans();
        assert!(judged <= spans, "{judged} spans are judged, and {spans} were sent");
        (judged == spans).then_some(())
    })
    .await;
    let (status, output) = homeostat.stop().await;
    assert!(status.success(), "{output}");
    let mut received: Vec<Bytes> = backend.received().into_iter().map(|one| one.frame).collect();
    received.sort();
    sent.sort();
    assert!(received == sent, "{} requests were sent and {} received", sent.len(), received.len());
    let epochs = epochs(path);
    assert_eq!(epochs.len(), 26, "one of the start, and one of each changed model");
    assert!(epochs.windows(2).all(|pair| pair[0].1 != pair[1].1), "an epoch is a change");
    let found = Found::read(path);
    found.has_one_deviation();
    found.has_each(&epochs);
    let lines = std::fs::read_to_string(path.join("findings.jsonl")).expect("findings were written");
    let sequences: Vec<u64> = lines.lines().map(sequence).collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>(), "each finding once, in order");
    trail_is_whole(path).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_file_that_is_watched_is_taken_over_when_it_changes_and_is_valid() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    write(path, "model.yml", &model(500));
    write(
        path,
        "config.yaml",
        &config(&backend).replace("model: model.yml", "model: model.yml, reload_interval: 1s"),
    );
    let homeostat = Homeostat::start(path).await;
    // Nobody said that this is done.
    write(path, "config.yaml", "half a configuration: [");
    let replace = |text: &str| {
        write(path, "model.new", text);
        std::fs::rename(path.join("model.new"), path.join("model.yml")).expect("the model is a plain file");
    };
    replace("homeostasis_model: {");
    eventually("the broken model is refused", async || {
        (reloads(&homeostat, "refused").await == 1).then_some(())
    })
    .await;
    replace(&model(510));
    eventually("the model is taken over", async || (reloads(&homeostat, "applied").await == 1).then_some(()))
        .await;
    assert_eq!(reloads(&homeostat, "refused").await, 1, "a content that was refused is not tried again");
    assert_eq!(epochs(path).len(), 2);
    homeostat.stop().await;
}
