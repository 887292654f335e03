//! The encoding that the settings want, and what becomes of one that the backend does not take.

use super::*;

/// 415 or UNIMPLEMENTED, the latter with a list of what is taken when there is one.
fn unspoken(protocol: Protocol, takes: Option<&'static str>) -> Act {
    let mut answer = match protocol {
        Protocol::Http => http(415, ""),
        Protocol::Grpc => grpc(12, None),
    };
    if let Some(takes) = takes {
        answer.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static(takes));
    }
    say(answer)
}

fn encoding_of(seen: &Seen) -> Option<String> {
    let names = ["content-encoding", "grpc-encoding"];
    let value = names.into_iter().find_map(|name| seen.headers.get(name))?;
    Some(value.to_str().unwrap().to_owned())
}

fn encodings(backend: &Backend) -> Vec<Option<String>> {
    backend.seen.lock().unwrap().iter().map(encoding_of).collect()
}

#[tokio::test]
async fn a_chosen_encoding_is_made_only_where_the_frame_has_another() {
    for protocol in PROTOCOLS {
        let backend = Backend::start(protocol, vec![]).await;
        for (wanted, magic) in [("gzip", &b"\x1f\x8b"[..]), ("zstd", &b"\x28\xb5\x2f\xfd"[..])] {
            let exporter = backend.exporter(vec![("compression", text(wanted))]);
            for (came, is_kept) in
                [(Encoded::None, false), (Encoded::Gzip, wanted == "gzip"), (Encoded::Zstd, wanted == "zstd")]
            {
                let sent = exporter.export(&telemetry(Signal::Logs, came, b"as it came"), far()).await;
                assert_eq!(sent, Ok(Taken::default()));
                let seen = backend.seen.lock().unwrap().pop().unwrap();
                assert_eq!(encoding_of(&seen).as_deref(), Some(wanted), "{came:?}");
                let message = if protocol == Protocol::Grpc { seen.body.slice(5..) } else { seen.body };
                assert_eq!(message == b"as it came"[..], is_kept, "{came:?} {wanted}");
                assert_eq!(message.starts_with(magic), !is_kept, "{came:?} {wanted}");
            }
        }
    }
}

#[tokio::test]
async fn an_encoding_that_is_not_taken_is_given_up_and_remembered() {
    for protocol in PROTOCOLS {
        let backend = Backend::start(protocol, vec![unspoken(protocol, Some("identity"))]).await;
        let exporter = backend.exporter(vec![]);
        for _ in 0..2 {
            assert_eq!(export(&exporter).await, Ok(Taken::default()), "{protocol:?}");
        }
        assert_eq!(encodings(&backend), [Some("gzip".to_owned()), None, None], "{protocol:?}");
        let zstd = telemetry(Signal::Traces, Encoded::Zstd, b"x");
        assert_eq!(exporter.export(&zstd, far()).await, Ok(Taken::default()));
        assert_eq!(encodings(&backend)[3].as_deref(), Some("zstd"), "only that one is given up");
    }
}

#[tokio::test]
async fn where_plain_is_not_taken_either_the_encoding_is_not_to_blame() {
    for protocol in PROTOCOLS {
        let script = vec![unspoken(protocol, None), unspoken(protocol, None)];
        let backend = Backend::start(protocol, script).await;
        let exporter = backend.exporter(vec![]);
        let refusal = export(&exporter).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Rejected { cause: Cause::Backend, .. }), "{refusal:?}");
        assert_eq!(export(&exporter).await, Ok(Taken::default()));
        let gzip = || Some("gzip".to_owned());
        assert_eq!(encodings(&backend), [gzip(), None, gzip()], "{protocol:?}");
    }
}

#[tokio::test]
async fn a_backend_that_lists_the_encoding_is_not_asked_twice() {
    let backend =
        Backend::start(Protocol::Grpc, vec![unspoken(Protocol::Grpc, Some("identity, gzip"))]).await;
    assert!(export(&backend.exporter(vec![])).await.is_err_and(|refusal| !refusal.is_retryable()));
    assert_eq!(backend.count(), 1);
}
