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

#[tokio::test]
async fn while_it_stops_new_requests_are_told_to_come_back() {
    let intake = Intake {
        gate: Box::new(Arc::new(Fake::default())),
        guard: None,
        meter: Meter::new("otlp", "grpc"),
        budget: Budget::new(1 << 20),
        message_bytes_max: 1 << 20,
        pace: Pace::default(),
        stop: CancellationToken::new(),
        dice: AtomicU64::new(0),
    };
    assert_eq!(intake.admit(Signal::Traces), Ok(()));
    intake.stop.cancel();
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
