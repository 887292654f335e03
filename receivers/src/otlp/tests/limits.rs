//! What is too large, too much or too many is refused, and costs no more than its limit.

use homeostat_pipeline::budget::Class;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

#[tokio::test]
async fn too_large_on_the_wire_is_final() {
    let server = start(Fake::default()).await;
    let said = server.call(TRACE_EXPORT, &[GRPC], framed(0, &vec![0; (1 << 20) + 1])).await;
    assert_eq!(said.grpc_code(), 8);
    assert!(said.grpc().details().is_empty(), "with RetryInfo clients would send it again");
    let said = server.post("/v1/traces", &[PROTOBUF], vec![0; (2 << 20) + 1]).await;
    assert_eq!((said.status.as_u16(), said.http_details().code), (413, 8));
    assert!(server.gate.seen().is_empty());
}

#[tokio::test]
async fn a_body_without_a_length_is_cut_at_the_limit() {
    let server = start(Fake::default()).await;
    let piece = Bytes::from(vec![0; 64 * 1024]);
    let pieces = (0..40).map(move |_| Ok::<_, std::convert::Infallible>(Frame::data(piece.clone())));
    let body = StreamBody::new(futures::stream::iter(pieces));
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::post(format!("http://{}/v1/traces", server.http)).header(PROTOBUF.0, PROTOBUF.1);
    let response = client.request(request.body(body).unwrap()).await.unwrap();
    assert_eq!(response.status().as_u16(), 413);
}

#[tokio::test]
async fn bombs_are_too_large_over_both_protocols() {
    let server = start(Fake::default()).await;
    let zeros = vec![0; 64 << 20];
    for (token, bomb) in [("gzip", gzip(&zeros)), ("zstd", zstd(&zeros))] {
        assert!(bomb.len() < 1 << 20);
        let said = server.call(TRACE_EXPORT, &[GRPC, ("grpc-encoding", token)], framed(1, &bomb)).await;
        assert_eq!(said.grpc_code(), 8, "{token}");
        let said = server.post("/v1/traces", &[PROTOBUF, ("content-encoding", token)], bomb).await;
        assert_eq!(said.status.as_u16(), 413, "{token}");
    }
    assert_eq!(server.budget.used_bytes(), 0, "all of it was given back");
}

#[tokio::test]
async fn over_the_memory_budget_senders_come_back_later() {
    let budget = Budget::new(64 << 20);
    let server = run(open(&budget).await, Fake::default());
    let mut held = budget.try_charge(Some(localhost()), Class::Telemetry, 15 << 20).unwrap();
    while held.grow(64 << 10).is_ok() {}
    let body = spans(20_000);
    assert!((300_000..1 << 20).contains(&body.len()));
    assert_eq!(server.call(TRACE_EXPORT, &[GRPC], framed(0, &body)).await.grpc_code(), 14);
    assert_eq!(server.post("/v1/traces", &[PROTOBUF], body.clone()).await.status.as_u16(), 503);
    drop(held);
    assert_eq!(server.call(TRACE_EXPORT, &[GRPC], framed(0, &body)).await.grpc_code(), 0);
    assert_eq!(server.post("/v1/traces", &[PROTOBUF], body).await.status.as_u16(), 200);
}

#[tokio::test]
async fn the_largest_legal_body_is_taken_though_it_is_more_than_a_peers_quarter() {
    let budget = Budget::new(6 << 20);
    let server = run(open(&budget).await, Fake::default());
    let body =
        (1..).map(|count| spans(count * 5_000)).take_while(|body| body.len() <= 2 << 20).last().unwrap();
    assert!(body.len() > 6 << 18, "{} bytes are no more than the quarter", body.len());
    assert_eq!(server.post("/v1/traces", &[PROTOBUF], body).await.status.as_u16(), 200);
    assert_eq!(budget.used_bytes(), 0);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let unstruck = drops::unstruck(&[&drops::RECEIVER_CONNECTIONS]);
    let mut receiver = open(&Budget::new(1 << 30)).await;
    receiver.listeners[1].connections_max = 1;
    let server = run(receiver, Fake::default());
    let kept = client(false);
    let uri = format!("http://{}/v1/traces", server.http);
    assert_eq!(send(&kept, "POST", uri.clone(), &[PROTOBUF], spans(1)).await.status, StatusCode::OK);
    let mut second = TcpStream::connect(server.http).await.unwrap();
    let mut nothing = Vec::new();
    assert!(matches!(second.read_to_end(&mut nothing).await, Ok(0) | Err(_)), "{nothing:?}");
    assert_eq!(send(&kept, "POST", uri, &[PROTOBUF], spans(1)).await.status, StatusCode::OK);
    assert_eq!(unstruck(), [""; 0]);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let server = start(Fake::default()).await;
    let long = "x".repeat(100 * 1024);
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = format!("POST /v1/traces HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\ncontent-length: 0\r\n\r\n");
    // The server may hang up before all of it is written.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    assert!(server.gate.seen().is_empty());
}

#[tokio::test]
async fn a_connection_that_asks_nothing_or_nothing_more_is_closed() {
    let mut receiver = open(&Budget::new(1 << 30)).await;
    for listener in &mut receiver.listeners {
        listener.limits.first_request = Duration::from_millis(20);
        listener.limits.idle = Duration::from_millis(20);
    }
    let server = run(receiver, Fake::default());
    for silent in [server.http, server.grpc] {
        let mut stream = TcpStream::connect(silent).await.unwrap();
        let mut nothing = Vec::new();
        let _ = stream.read_to_end(&mut nothing).await;
    }
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream.write_all(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(server.gate.seen().is_empty());

    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = "POST /v1/nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let _ = stream.read_to_end(&mut answer).await;
}
