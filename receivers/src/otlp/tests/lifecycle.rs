//! Connections: what they carry at the same time, and how they end.

use tokio::sync::Barrier;

use super::*;

#[tokio::test]
async fn requests_of_one_connection_run_at_the_same_time() {
    let count = 20;
    let server = start(Fake { barrier: Some(Barrier::new(count)), ..Fake::default() }).await;
    let client = client(true);
    let uri = format!("http://{}{TRACE_EXPORT}", server.grpc);
    let frame = framed(0, &spans(1));
    // None of them is answered before all of them have arrived.
    let calls = (0..count).map(|_| send(&client, "POST", uri.clone(), &[GRPC], frame.clone()));
    for said in futures::future::join_all(calls).await {
        assert_eq!(said.grpc_code(), 0);
    }
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another_refused_ones_too() {
    let server = start(Fake::default()).await;
    for (http2, address) in [(false, server.http), (true, server.http)] {
        let client = client(http2);
        let uri = format!("http://{address}/v1/traces");
        for expected in [200, 503, 413, 404, 200] {
            let (mut uri, mut body) = (uri.clone(), spans(2));
            match expected {
                503 => server.gate.will_say(Err(Refusal::busy("full"))),
                413 => body = vec![0; (2 << 20) + 1],
                404 => uri.push_str("/nowhere"),
                _ => {}
            }
            let said = send(&client, "POST", uri, &[PROTOBUF], body).await;
            assert_eq!(said.status.as_u16(), expected, "http2: {http2}");
        }
    }
}

#[tokio::test]
async fn a_stop_finishes_what_was_taken_and_then_returns() {
    let server = start(Fake { barrier: Some(Barrier::new(3)), ..Fake::default() }).await;
    let (grpc_addr, http_addr) = (server.grpc, server.http);
    let call = tokio::spawn(async move {
        let uri = format!("http://{grpc_addr}{TRACE_EXPORT}");
        send(&client(true), "POST", uri, &[GRPC], framed(0, &spans(1))).await
    });
    let post = tokio::spawn(async move {
        send(&client(false), "POST", format!("http://{http_addr}/v1/traces"), &[PROTOBUF], spans(1)).await
    });
    while server.gate.seen().len() < 2 {
        tokio::task::yield_now().await;
    }
    server.stop.cancel();
    // The sockets are closed before the requests are done.
    while tokio::net::TcpStream::connect(http_addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.task.is_finished());
    server.gate.barrier.as_ref().unwrap().wait().await;
    assert_eq!(call.await.unwrap().grpc_code(), 0);
    assert_eq!(post.await.unwrap().status, StatusCode::OK);
    server.task.await.unwrap();
}

/// One request over a connection that is open already; says whether the answer announces its end.
async fn ask(stream: &mut tokio::net::TcpStream) -> (String, bool) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let body = spans(1);
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    let mut said = Vec::new();
    // The answer to what was taken whole is empty.
    while !said.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.unwrap();
        said.push(byte);
    }
    let said = String::from_utf8(said).unwrap();
    let is_last = said.contains("connection: close");
    (said, is_last)
}

#[tokio::test]
async fn who_gives_way_says_goodbye_with_an_answer_and_refuses_nothing() {
    let server = start(Fake::default()).await;
    let mut early = tokio::net::TcpStream::connect(server.http).await.unwrap();
    assert!(!ask(&mut early).await.1);
    let grpc = client(true);
    let uri = format!("http://{}{TRACE_EXPORT}", server.grpc);
    assert_eq!(send(&grpc, "POST", uri.clone(), &[GRPC], framed(0, &spans(1))).await.grpc_code(), 0);
    server.leaving.cancel();
    while tokio::net::TcpStream::connect(server.http).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let (said, is_last) = ask(&mut early).await;
    assert!(said.starts_with("HTTP/1.1 200") && is_last, "{said}");
    // The idle gRPC connection is told to go, and nothing else holds the receiver.
    server.task.await.unwrap();
    assert_eq!(server.gate.seen().len(), 3);
    drop(grpc);
}

#[tokio::test]
async fn while_it_stops_new_requests_are_told_to_come_back() {
    let intake = Intake {
        gate: Box::new(Arc::new(Fake::default())),
        guard: None,
        meter: Meter::new("otlp", "grpc"),
        budget: Budget::new(1 << 20),
        message_bytes_max: 1 << 20,
        pace: Pace::default(),
        ends: Ends { leaving: CancellationToken::new(), stopping: CancellationToken::new() },
        dice: AtomicU64::new(0),
    };
    assert_eq!(intake.admit(Signal::Traces), Ok(()));
    intake.ends.leaving.cancel();
    assert_eq!(intake.admit(Signal::Traces), Ok(()), "who gives way takes what its connections bring");
    intake.ends.stopping.cancel();
    assert!(intake.admit(Signal::Traces).is_err_and(|refusal| refusal.is_retryable()));
}

#[tokio::test]
async fn a_panic_costs_one_connection_and_not_the_receiver() {
    let server = start(Fake { panics: true, ..Fake::default() }).await;
    let request = Request::post(format!("http://{}/v1/traces", server.http)).header(PROTOBUF.0, PROTOBUF.1);
    let request = request.body(Full::new(Bytes::from(spans(1)))).unwrap();
    assert!(client(false).request(request).await.is_err());
    // The empty request does not get as far as the gate.
    assert_eq!(server.post("/v1/traces", &[PROTOBUF], "").await.status, StatusCode::OK);
    assert!(!server.task.is_finished());
}

#[tokio::test]
async fn records_whose_sender_has_gone_before_the_answer_are_counted_as_failed() {
    let unstruck = drops::unstruck(&[&drops::RECEIVER_FAILED]);
    // Nobody else comes to the barrier, so there never is an answer.
    let barrier = Some(tokio::sync::Barrier::new(2));
    let server = start(Fake { barrier, ..Fake::default() }).await;
    let waiting = tokio::spawn({
        let (uri, body) = (format!("http://{}{TRACE_EXPORT}", server.grpc), framed(0, &spans(2)));
        async move { send(&client(true), "POST", uri, &[GRPC], body).await.status }
    });
    while server.gate.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    while !unstruck().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(unstruck(), [""; 0]);
}
