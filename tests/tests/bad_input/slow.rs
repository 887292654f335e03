//! Senders that take their time: heads, bodies, connections that say nothing, chunks without end.

use std::time::Duration;

use homeostat_tests::client::TRACES;
use homeostat_tests::process::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ask::{PATIENCE, framed, raw, statuses};
use crate::bytes_of::good;
use crate::frames::{DATA, END_HEADERS, HEADERS, Wire, call_head, frame};
use crate::site::Site;

/// Connections that say nothing, and how many of them a listener keeps.
const IDLE: usize = 2_000;
const CONNECTIONS_MAX: usize = 1_024;
const HEAD: &str = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n";
/// Short enough for a test, for a head and for a body.
const QUICK: &str = "read_header_timeout: 1s, read_timeout: 2s";

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_head_is_hung_up_on_and_counted() {
    let site = Site::start_with("", QUICK, 64).await;
    for (name, to, transport, start) in [
        ("half a head", site.http(), "http", HEAD.as_bytes()),
        ("nothing", site.http(), "http", b""),
        ("nothing over gRPC", site.grpc(), "grpc", b""),
        ("half a preface", site.grpc(), "grpc", b"PRI * HTTP/2"),
    ] {
        let before = site.cut_for(transport, "silent").await;
        let answer = raw(to, start).await;
        // A server of HTTP/2 says its settings unasked.
        assert!(answer.is_empty() || transport == "grpc" && statuses(&answer).is_empty(), "{name}: {answer}");
        eventually(name, async || (site.cut_for(transport, "silent").await == before + 1).then_some(()))
            .await;
    }
    // A byte of the head now and then does not help.
    let (mut reader, mut writer) = TcpStream::connect(site.http()).await.expect("it listens").into_split();
    let drip = async {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        for byte in HEAD.bytes().chain(std::iter::repeat(b'x')) {
            tick.tick().await;
            if writer.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        read = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut answer)) => drop(read.expect("it hangs up")),
        () = drip => {}
    }
    assert_eq!(answer, b"");
    site.is_well("slow heads").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_told_to_come_back() {
    let site = Site::start_with("", QUICK, 64).await;
    let body = good(10);
    let announced = format!("{HEAD}content-length: {}\r\n\r\n", body.len());
    let chunked = format!("{HEAD}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    for (name, start) in
        [("a length", [announced.as_bytes(), &body[..9]].concat()), ("chunks", chunked.into_bytes())]
    {
        let answer = raw(site.http(), &start).await;
        assert_eq!(statuses(&answer), [503], "{name}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("retry-after: "), "{name}: {answer}");
    }
    let mut wire = Wire::open(site.grpc()).await;
    let message = framed(0, &body);
    let start = [frame(HEADERS, END_HEADERS, 1, &call_head()), frame(DATA, 0, 1, &message[..9])].concat();
    assert!(wire.write(&start).await);
    let head = loop {
        let frame = wire.read().await.expect("the call is answered");
        if frame.kind == HEADERS {
            break frame.payload;
        }
    };
    assert!(head.len() > 20, "the answer carries a status and RetryInfo: {head:?}");
    let outcomes = site.outcomes().await;
    for (transport, count) in [("http", 2), ("grpc", 1)] {
        let counted = outcomes.get(&(transport.to_owned(), "unavailable".to_owned()));
        assert_eq!(counted, Some(&count), "{outcomes:?}");
    }
    site.is_well("slow bodies").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_without_end_are_too_large_where_they_pass_the_limit() {
    let site = Site::start().await;
    let (mut reader, mut writer) = TcpStream::connect(site.http()).await.expect("it listens").into_split();
    let chunk = [b"10000\r\n".as_slice(), &[0x0a; 0x10000], b"\r\n"].concat();
    let write = async {
        let head = format!("{HEAD}transfer-encoding: chunked\r\n\r\n");
        let mut is_read = writer.write_all(head.as_bytes()).await.is_ok();
        while is_read {
            is_read = writer.write_all(&chunk).await.is_ok();
        }
    };
    let read = async {
        let mut answer = Vec::new();
        let _ = reader.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let both = async { tokio::join!(read, write) };
    let (answer, ()) = tokio::time::timeout(PATIENCE, both).await.expect("it hangs up");
    assert!(answer.is_empty() || statuses(&answer) == [413], "{answer}");
    eventually("it is counted", async || {
        site.outcomes().await.get(&("http".to_owned(), "too_large".to_owned())).copied()
    })
    .await;
    site.is_well("chunks without end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_idle_connections_are_turned_away_or_hung_up_on() {
    let wanted = rustix::process::Rlimit { current: Some(8_192), maximum: Some(8_192) };
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current.is_some_and(|current| current < 8_192) {
        let wanted = rustix::process::Rlimit { maximum: limit.maximum, ..wanted };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted)
            .expect("8,192 files may be open");
    }
    let site = Site::start().await;
    for (transport, to) in [("http", site.http()), ("grpc", site.grpc())] {
        let refused =
            || async { site.homeostat.metric("homeostat_receiver_connections_refused_total").await };
        let (before, silent) = (refused().await, site.cut_for(transport, "silent").await);
        let mut idle = Vec::new();
        for _ in 0..IDLE {
            idle.push(TcpStream::connect(to).await.expect("the kernel accepts"));
        }
        let least = (IDLE - CONNECTIONS_MAX) as f64;
        eventually("the rest are turned away", async || (refused().await >= before + least).then_some(()))
            .await;
        // They are all held by us; that a fresh event gets through is the server's doing.
        site.works().await;
        site.works().await;
        let kept = IDLE as u64 - (refused().await - before) as u64;
        eventually("those that were kept are hung up on", async || {
            (site.cut_for(transport, "silent").await >= silent + kept.min(CONNECTIONS_MAX as u64 - 8))
                .then_some(())
        })
        .await;
        drop(idle);
    }
    site.is_well("2,000 idle connections").await;
    assert_eq!(TRACES.1, "/v1/traces");
}
