//! What came as JSON: as it came over HTTP, as protobuf over gRPC and where the settings say so.

use super::*;

fn came_as_json() -> Telemetry {
    let frame = Frame {
        content: Content::Json,
        compression: Encoded::Gzip,
        bytes: Bytes::from_static(b"the JSON as it came"),
    };
    Telemetry { signal: Signal::Logs, frame, body: Bytes::from_static(b"the protobuf"), records: 1 }
}

fn json(status: u16, body: &'static str) -> Act {
    let mut answer = http(status, body);
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    say(answer)
}

#[tokio::test]
async fn json_passes_over_http_and_is_protobuf_elsewhere() {
    let proto = || vec![("encoding", text("proto"))];
    let none = || vec![("compression", text("none"))];
    for (protocol, more, kind, encoding, message) in [
        (Protocol::Http, vec![], "application/json", Some("gzip"), "the JSON as it came"),
        (Protocol::Http, proto(), "application/x-protobuf", None, "the protobuf"),
        (Protocol::Http, none(), "application/x-protobuf", None, "the protobuf"),
        (Protocol::Grpc, vec![], "application/grpc", None, "\0\0\0\0\x0cthe protobuf"),
    ] {
        let backend = Backend::start(protocol, vec![]).await;
        let sent = backend.exporter(more).export(&came_as_json(), far()).await;
        assert_eq!(sent, Ok(Taken::default()));
        let seen = backend.seen.lock().unwrap().pop().unwrap();
        assert_eq!(
            (&seen.headers["content-type"], &*seen.body),
            (&HeaderValue::from_static(kind), message.as_bytes())
        );
        let names = ["content-encoding", "grpc-encoding"];
        let named =
            names.into_iter().find_map(|name| seen.headers.get(name)).map(|value| value.to_str().unwrap());
        assert_eq!(named, encoding, "{protocol:?}");
    }
}

#[tokio::test]
async fn an_answer_in_json_is_understood() {
    for (body, rejected, message) in [
        ("{}", 0, ""),
        ("", 0, ""),
        ("{\"partialSuccess\":{\"rejectedLogRecords\":\"2\",\"errorMessage\":\"old\",\"new\":1}}", 2, "old"),
        ("{\"partialSuccess\":{\"rejectedSpans\":3}}", 3, ""),
        ("{\"partialSuccess\":null}", 0, ""),
        ("no JSON at all", 0, ""),
    ] {
        let backend = Backend::start(Protocol::Http, vec![json(200, body)]).await;
        let taken = Taken { rejected, share: 0, message: message.to_owned() };
        assert_eq!(backend.exporter(vec![]).export(&came_as_json(), far()).await, Ok(taken), "{body}");
    }
    let act = json(400, "{\"code\":3,\"message\":\"the record is bad\"}");
    let backend = Backend::start(Protocol::Http, vec![act]).await;
    match backend.exporter(vec![]).export(&came_as_json(), far()).await {
        Err(Refusal::Rejected { cause: Cause::Backend, reason }) => {
            assert!(reason.ends_with("400 Bad Request: the record is bad"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}
