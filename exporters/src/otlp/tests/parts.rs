//! Requests that are too large for the backend go out in parts, each taken once.

use homeostat_pipeline::otlp::walk;

use super::*;

/// A message field: key, length, content.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push((length & 0x7f | 0x80) as u8);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

/// A traces request of `resources` with one span each, whose name has `bytes`.
pub fn large(resources: usize, bytes: usize) -> Telemetry {
    let span = field(2, &field(5, &vec![b'x'; bytes]));
    let body = Bytes::from(field(1, &field(2, &span)).repeat(resources));
    assert_eq!(walk(Signal::Traces, &body).unwrap(), resources as u64);
    let frame = Frame { content: Content::Protobuf, compression: Encoded::None, bytes: body.clone() };
    Telemetry { signal: Signal::Traces, frame, body, records: resources as u64 }
}

fn too_large(protocol: Protocol) -> Act {
    say(match protocol {
        Protocol::Http => http(413, ""),
        Protocol::Grpc => grpc(8, None),
    })
}

fn busy(protocol: Protocol) -> Act {
    say(match protocol {
        Protocol::Http => http(503, ""),
        Protocol::Grpc => grpc(14, None),
    })
}

fn bad(protocol: Protocol) -> Act {
    say(match protocol {
        Protocol::Http => http(400, ""),
        Protocol::Grpc => grpc(3, None),
    })
}

/// The messages that came, without gRPC's prefix.
fn messages(backend: &Backend) -> Vec<Bytes> {
    let skip = if backend.protocol == Protocol::Grpc { 5 } else { 0 };
    backend.seen.lock().unwrap().iter().map(|seen| seen.body.slice(skip..)).collect()
}

#[tokio::test]
async fn a_request_beyond_the_known_limit_is_cut_before_it_is_sent() {
    for protocol in PROTOCOLS {
        let backend = Backend::start(protocol, vec![]).await;
        let exporter = backend.exporter(vec![("max_request_bytes", Value::Integer(10_000))]);
        let request = large(20, 1_000);
        assert_eq!(exporter.export(&request, far()).await, Ok(Taken::default()));
        let messages = messages(&backend);
        assert_eq!(messages.concat(), request.body);
        assert_eq!(messages.len(), 3);
        assert!(messages.iter().all(|message| message.len() <= 10_000));
    }
}

#[tokio::test]
async fn a_request_that_the_backend_finds_too_large_is_halved_until_it_fits() {
    for protocol in PROTOCOLS {
        let request = large(100, 2_000);
        let script = vec![too_large(protocol), too_large(protocol)];
        let backend = Backend::start(protocol, script).await;
        assert_eq!(backend.exporter(vec![]).export(&request, far()).await, Ok(Taken::default()));
        let messages = messages(&backend);
        assert_eq!(messages[0], request.body);
        assert_eq!(messages[2..].concat(), request.body, "{protocol:?}");
        assert_eq!(messages.len(), 5, "whole, a half, two quarters, the other half");
    }
}

#[tokio::test]
async fn a_part_that_was_taken_is_not_sent_again_when_another_must_wait() {
    for protocol in PROTOCOLS {
        let script = vec![too_large(protocol), say(ok(protocol, b"")), busy(protocol), busy(protocol)];
        let backend = Backend::start(protocol, script).await;
        let request = large(100, 2_000);
        assert_eq!(backend.exporter(vec![]).export(&request, far()).await, Ok(Taken::default()));
        let messages = messages(&backend);
        assert_eq!(messages.len(), 5);
        assert_eq!([&messages[1][..], &messages[4][..]].concat(), request.body);
        assert!(messages[2] == messages[4] && messages[3] == messages[4]);
    }
}

#[tokio::test]
async fn what_the_parts_came_to_is_one_partial_success() {
    for protocol in PROTOCOLS {
        let partial = Answered { rejected: 3, message: "three were old".to_owned() };
        let script = vec![too_large(protocol), say(ok(protocol, &partial.encode())), bad(protocol)];
        let backend = Backend::start(protocol, script).await;
        let taken = backend.exporter(vec![]).export(&large(100, 2_000), far()).await.unwrap();
        assert_eq!(taken.rejected, 53, "{protocol:?}");
        assert!(taken.message.starts_with("three were old; the backend answered "), "{}", taken.message);
    }
}

/// What the backend got when the whole request came again after its first half was taken.
fn rest_only(backend: &Backend, request: &Telemetry) {
    let messages = messages(backend);
    assert_eq!(messages.len(), 4, "whole, a half, the other half, and that again");
    assert_eq!(messages[0], request.body);
    assert_eq!([&messages[1][..], &messages[3][..]].concat(), request.body);
    assert_eq!(messages[2], messages[3]);
}

#[tokio::test]
async fn a_repeat_of_what_was_taken_in_part_goes_on_where_it_was() {
    for protocol in PROTOCOLS {
        let partial = Answered { rejected: 3, message: "three were old".to_owned() };
        let script = vec![too_large(protocol), say(ok(protocol, &partial.encode())), busy(protocol)];
        let backend = Backend::start(protocol, script).await;
        let request = large(100, 2_000);
        let exporter =
            backend.exporter(vec![("retry_on_failure", map(vec![("enabled", Value::Bool(false))]))]);
        assert!(exporter.export(&request, far()).await.unwrap_err().is_retryable());
        let taken = exporter.export(&request, far()).await.unwrap();
        assert_eq!((taken.rejected, taken.message.as_str()), (3, "three were old"), "{protocol:?}");
        rest_only(&backend, &request);
        assert!(exporter.export(&request, far()).await.is_ok());
        assert_eq!(messages(&backend)[4], request.body, "when it is taken it is forgotten");
    }
}

#[tokio::test]
async fn a_sender_that_goes_half_way_finds_what_was_taken_when_it_comes_again() {
    for protocol in PROTOCOLS {
        let script = vec![too_large(protocol), say(ok(protocol, b"")), Act::Hang];
        let backend = Backend::start(protocol, script).await;
        let (exporter, request) = (backend.exporter(vec![]), large(100, 2_000));
        let gone = async {
            while backend.count() < 3 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            outcome = exporter.export(&request, far()) => panic!("{outcome:?}"),
            () = gone => {}
        }
        assert_eq!(exporter.export(&request, far()).await, Ok(Taken::default()));
        rest_only(&backend, &request);
    }
}

#[tokio::test]
async fn a_span_that_is_too_large_alone_costs_only_itself() {
    let mut request = large(2, 100);
    let giant = large(1, 100_000);
    request.body = [&request.body[..], &giant.body[..]].concat().into();
    request.frame.bytes = request.body.clone();
    request.records = 3;
    for protocol in PROTOCOLS {
        let script = vec![too_large(protocol), say(ok(protocol, b"")), too_large(protocol)];
        let backend = Backend::start(protocol, script).await;
        let taken = backend.exporter(vec![]).export(&request, far()).await.unwrap();
        assert_eq!((taken.rejected, backend.count()), (1, 3), "{protocol:?}");
    }
}

#[tokio::test]
async fn a_quota_that_looks_like_a_limit_is_not_answered_by_a_flood() {
    for protocol in PROTOCOLS {
        let script = (0..100).map(|_| too_large(protocol)).collect();
        let backend = Backend::start(protocol, script).await;
        let refusal = backend.exporter(vec![]).export(&large(1_000, 1_000), far()).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Rejected { cause: Cause::TooLarge, .. }), "{refusal:?}");
        assert!(backend.count() <= 6, "{} requests", backend.count());
    }
}
