//! HTTP/1.1 as no client library writes it: two lengths, a length and chunks, heads without end, methods and lines that are
//! none. A request that is read in two ways is answered once or not at all.

use homeostat_tests::process::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ask::{PATIENCE, raw, statuses};
use crate::site::Site;

const HEAD: &str = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n";
/// A second request, to be smuggled in the body of the first.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";

/// What is written, what is answered, and whether it is no HTTP at all, which is counted with the connection.
fn shapes() -> Vec<(&'static str, String, &'static [u16], bool)> {
    let with = |lines: &str, body: &str| format!("{HEAD}{lines}\r\n{body}");
    let last = "connection: close\r\n";
    let chunks = "0\r\n\r\n";
    vec![
        ("two lengths", with("content-length: 0\r\ncontent-length: 33\r\n", SMUGGLED), &[400], true),
        ("a list of lengths", with("content-length: 0, 33\r\n", SMUGGLED), &[400], true),
        ("a negative length", with("content-length: -1\r\n", ""), &[400], true),
        ("a signed length", with("content-length: +0\r\n", ""), &[400], true),
        ("a hexadecimal length", with("content-length: 0x0\r\n", ""), &[400], true),
        ("a length of 30 digits", with(&format!("content-length: {}\r\n", "9".repeat(30)), ""), &[400], true),
        // RFC 9112, section 6.3: the chunks count, and the connection is closed behind them.
        (
            "a length and chunks",
            with("content-length: 99\r\ntransfer-encoding: chunked\r\n", &[chunks, SMUGGLED].concat()),
            &[200],
            false,
        ),
        (
            "chunks and a length",
            with("transfer-encoding: chunked\r\ncontent-length: 4\r\n", &[chunks, SMUGGLED].concat()),
            &[200],
            false,
        ),
        ("chunks, then identity", with("transfer-encoding: chunked, identity\r\n", chunks), &[400], true),
        ("unknown chunks", with("transfer-encoding: xchunked\r\n", chunks), &[400], true),
        (
            "chunks before HTTP/1.1",
            with("transfer-encoding: chunked\r\n", chunks).replace("HTTP/1.1", "HTTP/1.0"),
            &[400],
            true,
        ),
        ("a blank before the colon", with("content-length : 0\r\n", ""), &[400], true),
        ("a folded line", with("x: a\r\n b\r\ncontent-length: 0\r\n", ""), &[400], true),
        ("a NUL in a header", with("x: a\0b\r\ncontent-length: 0\r\n", ""), &[400], true),
        ("no request at all", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned(), &[400], true),
        ("a TLS hello", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\r\n\r\n".to_owned(), &[400], true),
        ("HTTP/3.0", "POST /v1/traces HTTP/3.0\r\nhost: x\r\n\r\n".to_owned(), &[400], true),
        ("too many headers", with(&"x: y\r\n".repeat(200), ""), &[431], true),
        ("a head of 100 KiB", with(&format!("x: {}\r\n", "y".repeat(100 << 10)), ""), &[431], true),
        (
            "a chunk that is no number",
            with(&format!("transfer-encoding: chunked\r\n{last}"), "xyz\r\n"),
            &[400],
            false,
        ),
        (
            "a chunk of 2^64 bytes",
            with(&format!("transfer-encoding: chunked\r\n{last}"), "fffffffffffffffff\r\n"),
            &[400],
            false,
        ),
        (
            "endless words behind a chunk's length",
            with(&format!("transfer-encoding: chunked\r\n{last}"), &format!("1;{}", "x".repeat(100 << 10))),
            &[400],
            false,
        ),
        (
            "one after another",
            format!(
                "{}{}",
                with("content-length: 0\r\n", ""),
                with(&format!("content-length: 0\r\n{last}"), "")
            ),
            &[200, 200],
            false,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_in_two_ways_is_read_in_one_and_the_connection_ends() {
    let site = Site::start().await;
    for (name, bytes, expected, is_fault) in shapes() {
        let (cut, asked) = (site.cut_for("http", "fault").await, site.outcomes().await);
        let answer = raw(site.http(), bytes.as_bytes()).await;
        assert_eq!(statuses(&answer), expected, "{name}: {answer}");
        let counted = eventually(name, async || {
            let (now, outcomes) = (site.cut_for("http", "fault").await, site.outcomes().await);
            (now + outcomes.values().sum::<u64>() > cut + asked.values().sum::<u64>()).then_some(now)
        })
        .await;
        assert_eq!(counted - cut, u64::from(is_fault), "{name}: counted as the other kind");
    }
    let unknown = site.outcomes().await.get(&("http".to_owned(), "unknown".to_owned())).copied();
    assert_eq!(unknown, None, "a smuggled request was answered");
    site.is_well("HTTP/1.1 of two minds").await;
}

/// Reads one answer's head, without the end of the connection.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("there is an answer");
        head.push(byte.expect("the connection lives"));
    }
    String::from_utf8_lossy(&head).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_asked_for_only_when_it_is_wanted() {
    let site = Site::start().await;
    let expect = "expect: 100-continue\r\ncontent-length: 1000000\r\n\r\n";
    for (name, lines, status) in [
        ("an unknown path", HEAD.replace("/v1/traces", "/v1/nothing"), "404"),
        ("an unknown content type", HEAD.replace("x-protobuf", "x-nothing"), "415"),
        ("another method", HEAD.replace("POST", "PUT"), "405"),
    ] {
        let mut stream = TcpStream::connect(site.http()).await.expect("it listens");
        stream.write_all(format!("{lines}{expect}").as_bytes()).await.expect("it reads");
        let answer = head(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
    }
    let mut stream = TcpStream::connect(site.http()).await.expect("it listens");
    let wanted = format!("{HEAD}expect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    stream.write_all(wanted.as_bytes()).await.expect("it reads");
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 100 "));
    stream.write_all(&[0xff, 0xff]).await.expect("it reads");
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 400 "));
    site.is_well("bodies that nobody asked for").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_refused_before_the_body_was_sent() {
    let auth = "auth: { authenticator: bearertokenauth }";
    let site = Site::start_with(auth, auth, 64).await;
    for token in [
        "",
        "authorization: Bearer wrong\r\n",
        "authorization: Basic c2VzYW1l\r\n",
        "authorization: Bearer sesame2\r\n",
    ] {
        for path in ["/v1/traces", "/v1/nothing"] {
            let mut stream = TcpStream::connect(site.http()).await.expect("it listens");
            let lines = HEAD.replace("/v1/traces", path);
            let request = format!("{lines}{token}content-length: 10000000\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("it reads");
            let answer = head(&mut stream).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{token}: {answer}");
            assert!(answer.to_ascii_lowercase().contains("www-authenticate: bearer"), "{token}: {answer}");
        }
        let framed = crate::ask::framed(0, &[0xff; 100]);
        let mut call = crate::ask::Ask::grpc(homeostat_tests::client::TRACES.0, framed);
        if let Some((_, value)) = token.trim_end().split_once(": ") {
            call = call.with("authorization", value);
        }
        let said = crate::ask::ask(site.grpc(), true, call).await.expect("there is an answer");
        assert_eq!((said.status, said.code, said.has_retry), (200, Some(16), false), "{token}");
    }
    let outcomes = site.outcomes().await;
    for (transport, count) in [("http", 8), ("grpc", 4)] {
        assert_eq!(outcomes.get(&(transport.to_owned(), "unauthenticated".to_owned())), Some(&count));
    }
    let good = crate::ask::Ask::http("/v1/traces", "application/x-protobuf", crate::bytes_of::good(1));
    let said = crate::ask::ask(site.http(), false, good.with("authorization", "Bearer sesame")).await;
    assert_eq!(said.expect("there is an answer").status, 200);
}
