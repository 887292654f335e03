//! What each outcome says to each sender: the table of delivery, row by row.

use homeostat_pipeline::batch::{Compression, Content};
use homeostat_pipeline::refusal::Cause;

use super::*;

type Compress = fn(&[u8]) -> Vec<u8>;

const COMPRESSED: [(Compression, Compress); 2] = [(Compression::Gzip, gzip), (Compression::Zstd, zstd)];

#[tokio::test]
async fn what_was_taken_is_ok_and_says_nothing_more() {
    let server = start(Fake::default()).await;
    let said = server.call_traces().await;
    assert_eq!(said.grpc_answer(), Answered::default());
    assert_eq!(said.body.len(), 5);
    let said = server.post_traces().await;
    assert_eq!((said.status, said.body.len()), (StatusCode::OK, 0));
    assert_eq!(said.headers["content-type"], "application/x-protobuf");
}

#[tokio::test]
async fn a_partial_success_is_passed_on() {
    let server = start(Fake::default()).await;
    let taken = Taken { rejected: 3, share: 0, message: "three spans have no name".to_owned() };
    let expected = Answered { rejected: 3, message: taken.message.clone() };
    server.gate.will_say(Ok(taken.clone()));
    assert_eq!(server.call_traces().await.grpc_answer(), expected);
    server.gate.will_say(Ok(taken));
    let said = server.post_traces().await;
    assert_eq!((said.status, Answered::decode(&said.body)), (StatusCode::OK, Some(expected)));
}

#[tokio::test]
async fn busy_says_when_to_come_back() {
    let server = start(Fake::default()).await;
    let range = Duration::from_secs(1)..=Duration::from_secs(30);
    for asked in [1, 20, 300] {
        let refusal =
            Refusal::Unavailable { retry_after: Duration::from_secs(asked), reason: "full".to_owned() };
        server.gate.will_say(Err(refusal.clone()));
        let said = server.call_traces().await;
        assert_eq!(said.grpc_code(), 14);
        let after = said.grpc_details().retry_after.unwrap();
        assert!(range.contains(&after) && after >= Duration::from_secs(asked.min(30)), "{after:?}");

        server.gate.will_say(Err(refusal));
        let said = server.post_traces().await;
        assert_eq!((said.status.as_u16(), said.http_details().code), (503, 14));
        let after: u64 = said.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((asked.min(30)..=30).contains(&after), "{after}");
    }
}

#[tokio::test]
async fn what_will_never_be_taken_says_so_without_a_time() {
    let server = start(Fake::default()).await;
    for (cause, grpc, http) in [
        (Cause::Malformed, 3, 400),
        (Cause::TooLarge, 8, 413),
        (Cause::Unauthenticated, 16, 401),
        (Cause::Unknown, 12, 404),
        (Cause::Unsupported, 12, 415),
        (Cause::Backend, 3, 400),
    ] {
        server.gate.will_say(Err(Refusal::rejected(cause, "because")));
        let said = server.call_traces().await;
        assert_eq!((said.grpc_code(), said.grpc().message()), (grpc, "because"), "{cause:?}");
        assert!(said.grpc().details().is_empty(), "{cause:?}");
        server.gate.will_say(Err(Refusal::rejected(cause, "because")));
        let said = server.post_traces().await;
        let details = said.http_details();
        assert_eq!((said.status.as_u16(), details.code, details.message.as_str()), (http, grpc, "because"));
        assert!(!said.headers.contains_key("retry-after"), "{cause:?}");
    }
}

#[tokio::test]
async fn frames_are_kept_as_they_came_for_every_signal_and_encoding() {
    let server = start(Fake::default()).await;
    let signals = [
        (Signal::Traces, TRACE_EXPORT, "/v1/traces", spans(40), 40),
        (Signal::Metrics, METRICS_EXPORT, "/v1/metrics", points(30), 30),
        (Signal::Logs, LOGS_EXPORT, "/v1/logs", logs(20), 20),
    ];
    let mut expected = Vec::new();
    for (signal, call, post, body, records) in signals {
        for (compression, compress) in COMPRESSED {
            let (wire, token) = (compress(&body), compression.token());
            let said = server.call(call, &[GRPC, ("grpc-encoding", token)], framed(1, &wire)).await;
            assert_eq!(said.grpc_code(), 0, "{signal:?} {token}");
            let said = server.post(post, &[PROTOBUF, ("content-encoding", token)], wire.clone()).await;
            assert_eq!(said.status, StatusCode::OK, "{signal:?} {token}");
            expected.extend(std::iter::repeat_n((signal, compression, wire, body.clone(), records), 2));
        }
        // An uncompressed message is allowed whatever the encoding is.
        let said = server.call(call, &[GRPC, ("grpc-encoding", "gzip")], framed(0, &body)).await;
        assert_eq!(said.grpc_code(), 0, "{signal:?}");
        let said = server.post(post, &[PROTOBUF, ("content-encoding", "identity")], body.clone()).await;
        assert_eq!(said.status, StatusCode::OK, "{signal:?}");
        expected.extend(std::iter::repeat_n((signal, Compression::None, body.clone(), body, records), 2));
    }
    let seen = server.gate.seen();
    assert_eq!(seen.len(), expected.len());
    for (telemetry, (signal, compression, wire, body, records)) in seen.iter().zip(expected) {
        assert_eq!(
            (telemetry.signal, telemetry.frame.compression, telemetry.records),
            (signal, compression, records)
        );
        assert!(telemetry.frame.bytes == wire && telemetry.body == body, "{signal:?} {compression:?}");
        if compression == Compression::None {
            assert_eq!(telemetry.frame.bytes.as_ptr(), telemetry.body.as_ptr(), "the same bytes, not a copy");
        }
    }
}

#[tokio::test]
async fn the_empty_request_is_taken_and_goes_nowhere() {
    let server = start(Fake::default()).await;
    assert_eq!(server.call(TRACE_EXPORT, &[GRPC], framed(0, b"")).await.grpc_answer(), Answered::default());
    assert_eq!(server.post("/v1/logs", &[PROTOBUF], "").await.status, StatusCode::OK);
    assert!(server.gate.seen().is_empty());
}

#[tokio::test]
async fn what_cannot_be_decoded_is_malformed() {
    let server = start(Fake::default()).await;
    let body = spans(3);
    let (cut, gzipped) = (&body[..body.len() - 1], gzip(&body));
    let encoded = [GRPC, ("grpc-encoding", "gzip")];
    for (headers, frame) in [
        (&encoded[..1], framed(0, cut)),
        (&encoded[..1], framed(0, &body)[..body.len()].to_vec()),
        (&encoded[..1], [framed(0, &body), framed(0, &body)].concat()),
        (&encoded[..1], b"\0\0".to_vec()),
        (&encoded[..1], Vec::new()),
        (&encoded[..1], framed(2, &body)),
        (&encoded[..1], framed(1, &gzipped)),
        (&encoded[..], framed(1, &gzipped[..gzipped.len() - 2])),
        (&encoded[..], framed(1, &body)),
    ] {
        assert_eq!(server.call(TRACE_EXPORT, headers, frame).await.grpc_code(), 3);
    }
    assert_eq!(server.post("/v1/traces", &[PROTOBUF], cut.to_vec()).await.status.as_u16(), 400);
    for encoding in ["gzip", "zstd"] {
        let said = server.post("/v1/traces", &[PROTOBUF, ("content-encoding", encoding)], body.clone()).await;
        assert_eq!((said.status.as_u16(), said.http_details().code), (400, 3));
    }
    assert!(server.gate.seen().is_empty());
}

#[tokio::test]
async fn what_is_not_spoken_here_is_unimplemented() {
    let server = start(Fake { refuses: vec![Signal::Metrics], ..Fake::default() }).await;
    let frame = framed(0, &spans(1));
    for path in [
        METRICS_EXPORT,
        "/opentelemetry.proto.collector.trace.v1.TraceService/Import",
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        "/",
    ] {
        assert_eq!(server.call(path, &[GRPC], frame.clone()).await.grpc_code(), 12, "{path}");
    }
    let said = server.call(TRACE_EXPORT, &[GRPC, ("grpc-encoding", "snappy")], framed(1, b"x")).await;
    assert_eq!(said.grpc_code(), 12);
    for kind in ["application/json", "application/grpc+json", "text/plain"] {
        let said = server.call(TRACE_EXPORT, &[("content-type", kind)], frame.clone()).await;
        assert_eq!(said.status.as_u16(), 415, "{kind}");
    }
    for path in ["/v1/metrics", "/v1/traces/", "/", "/v1development/profiles"] {
        assert_eq!(server.post(path, &[PROTOBUF], points(1)).await.status.as_u16(), 404, "{path}");
    }
    for encoding in ["br", "gzip, gzip", "gzip, zstd"] {
        let said =
            server.post("/v1/traces", &[PROTOBUF, ("content-encoding", encoding)], gzip(&spans(1))).await;
        assert_eq!(said.status.as_u16(), 415, "{encoding}");
        assert_eq!(said.headers["accept-encoding"], "gzip, zstd, identity");
    }
    assert!(server.gate.seen().is_empty());
}

const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

fn json_of(said: &Said) -> serde_json::Value {
    assert_eq!(said.headers["content-type"], "application/json");
    serde_json::from_slice(&said.body).unwrap()
}

#[tokio::test]
async fn json_is_taken_as_the_same_message_and_its_frame_is_kept() {
    let server = start(Fake::default()).await;
    let json = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[
        {"traceId":"01010101010101010101010101010101","name":"span 0"},
        {"traceId":"01010101010101010101010101010101","name":"span 1"}]}]}]}"#;
    let packed = gzip(json.as_bytes());
    let said = server.post("/v1/traces", &[JSON], json).await;
    assert_eq!((said.status.as_u16(), json_of(&said)), (200, serde_json::json!({})));
    let said = server.post("/v1/traces", &[JSON, ("content-encoding", "gzip")], packed.clone()).await;
    assert_eq!((said.status.as_u16(), json_of(&said)), (200, serde_json::json!({})));
    let seen = server.gate.seen();
    for (telemetry, wire) in seen.iter().zip([json.as_bytes(), &packed]) {
        assert_eq!((telemetry.frame.content, &*telemetry.frame.bytes), (Content::Json, wire));
        assert_eq!((&*telemetry.body, telemetry.records), (&*spans(2), 2));
    }
    assert_eq!(seen.len(), 2);
    for (path, empty) in [("/v1/logs", "{}"), ("/v1/metrics", "")] {
        let said = server.post(path, &[JSON], empty).await;
        assert_eq!((said.status.as_u16(), json_of(&said)), (200, serde_json::json!({})), "{path}");
    }
    assert_eq!(server.gate.seen().len(), 2);
}

#[tokio::test]
async fn what_json_asked_is_answered_in_json() {
    let server = start(Fake::default()).await;
    for (path, body, key) in [
        ("/v1/traces", "{\"resourceSpans\":[{}]}", "rejectedSpans"),
        ("/v1/metrics", "{\"resourceMetrics\":[{}]}", "rejectedDataPoints"),
        ("/v1/logs", "{\"resourceLogs\":[{}]}", "rejectedLogRecords"),
    ] {
        server.gate.will_say(Ok(Taken { rejected: 3, share: 0, message: "old".to_owned() }));
        let said = json_of(&server.post(path, &[JSON], body).await);
        assert_eq!(said, serde_json::json!({ "partialSuccess": { key: "3", "errorMessage": "old" } }));
    }
    server.gate.will_say(Err(Refusal::busy("full")));
    let said = server.post("/v1/traces", &[JSON], "{\"resourceSpans\":[{}]}").await;
    assert_eq!((said.status.as_u16(), &json_of(&said)["code"]), (503, &14.into()));
    assert!(said.headers.contains_key("retry-after"));
    for (body, status, code) in [
        ("{\"resourceSpans\":7}".to_owned(), 400, 3),
        (format!("{{\"x\":\"{}\"}}", "y".repeat(2 << 20)), 413, 8),
    ] {
        let said = server.post("/v1/traces", &[JSON], body).await;
        assert_eq!((said.status.as_u16(), &json_of(&said)["code"]), (status, &code.into()));
    }
}

#[tokio::test]
async fn other_methods_are_refused_politely() {
    let server = start(Fake::default()).await;
    let uri = format!("http://{}/v1/traces", server.http);
    for method in ["GET", "PUT", "OPTIONS"] {
        let said = send(&client(false), method, uri.clone(), &[PROTOBUF], "").await;
        assert_eq!(
            (said.status.as_u16(), &said.headers["allow"]),
            (405, &"POST".parse().unwrap()),
            "{method}"
        );
    }
}

#[tokio::test]
async fn the_http_port_speaks_http_2_as_well() {
    let server = start(Fake::default()).await;
    let uri = format!("http://{}/v1/traces", server.http);
    let said = send(&client(true), "POST", uri, &[PROTOBUF], spans(2)).await;
    assert_eq!(said.status, StatusCode::OK);
    assert_eq!(server.gate.seen().len(), 1);
}

#[tokio::test]
async fn a_timeout_that_cannot_be_read_is_malformed() {
    let server = start(Fake::default()).await;
    let frame = framed(0, &spans(1));
    let said = server.call(TRACE_EXPORT, &[GRPC, ("grpc-timeout", "soon")], frame.clone()).await;
    assert_eq!(said.grpc_code(), 3);
    assert_eq!(server.call(TRACE_EXPORT, &[GRPC, ("grpc-timeout", "10S")], frame).await.grpc_code(), 0);
}
