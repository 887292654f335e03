//! OTLP/gRPC: framing, flags, encodings, timeouts, paths, sizes; and the same bodies as over HTTP.

use bytes::Bytes;
use homeostat_tests::client::{LOGS, TRACES};
use homeostat_tests::telemetry::{gzip, zstd};
use http::Method;

use crate::ask::{Ask, framed};
use crate::bytes_of::{deep_value, field, good, random, with_attributes, with_value};
use crate::site::Site;
use crate::table::{Row, check};

const LIMIT_BYTES: usize = 4 << 20;
const OK: (i32, &str) = (0, "taken");
const MALFORMED: (i32, &str) = (3, "malformed");
const TOO_LARGE: (i32, &str) = (8, "too_large");
const UNKNOWN: (i32, &str) = (12, "unknown");
const UNSUPPORTED: (i32, &str) = (12, "unsupported");

fn row(name: impl Into<String>, (code, outcome): (i32, &'static str), ask: Ask) -> Row {
    Row { name: name.into(), ask, said: (200, Some(code)), outcome }
}

fn traces(body: impl Into<Bytes>) -> Ask {
    Ask::grpc(TRACES.0, body)
}

fn body_rows() -> Vec<Row> {
    let whole = good(40);
    let plain = |message: &[u8]| traces(framed(0, message));
    let mut rows: Vec<Row> = [1, 7, whole.len() / 2, whole.len() - 1]
        .map(|end| row(format!("protobuf cut at {end}"), MALFORMED, plain(&whole[..end])))
        .into();
    let noise = [vec![0xff; 11], random(1, 4_000)].concat();
    let many = with_attributes((0..100_000).map(|at| (format!("key-{at}"), format!("REQ-{at}"))));
    rows.extend([
        row("noise", MALFORMED, plain(&noise)),
        row("noise to logs", MALFORMED, Ask::grpc(LOGS.0, framed(0, &noise))),
        row("a value 100,000 lists deep", MALFORMED, plain(&with_value(&deep_value(100_000)))),
        row("a string that is not UTF-8", MALFORMED, plain(&with_value(&field(1, b"\xff\xfe")))),
        row("a string with NUL", OK, plain(&with_value(&field(1, b"a\0b")))),
        row("100,000 attributes", OK, plain(&many)),
        row(
            "an attribute of a megabyte",
            OK,
            plain(&with_attributes([("a".repeat(9), "x".repeat(1 << 20))])),
        ),
        row("an empty message", OK, plain(b"")),
    ]);
    rows
}

fn framing_rows() -> Vec<Row> {
    let whole = good(3);
    let one = framed(0, &whole);
    let mut beyond = one.to_vec();
    beyond[4] = beyond[4].wrapping_add(1);
    let announced = |length: u32| [&[0][..], &length.to_be_bytes(), b"xyz"].concat();
    let limit = u32::try_from(LIMIT_BYTES).expect("the limit is small");
    vec![
        row("no message", MALFORMED, traces(Bytes::new())),
        row("half a prefix", MALFORMED, traces(one.slice(..3))),
        row("a prefix and nothing else", MALFORMED, traces(one.slice(..5))),
        row("a length beyond the body", MALFORMED, traces(beyond)),
        row("bytes behind the message", MALFORMED, traces([&one[..], b"\0"].concat())),
        row("two messages", MALFORMED, traces([&one[..], &one[..]].concat())),
        row("a hundred messages", MALFORMED, traces(one.repeat(100))),
        row("flag 2", MALFORMED, traces(framed(2, &whole))),
        row("flag 255", MALFORMED, traces(framed(255, &whole))),
        row("compressed, and no word how", MALFORMED, traces(framed(1, &gzip(&whole)))),
        row("compressed by identity", MALFORMED, traces(framed(1, &whole)).with("grpc-encoding", "identity")),
        row("an announced byte too many", TOO_LARGE, traces(announced(limit + 1))),
        row("an announced 4 GiB", TOO_LARGE, traces(announced(u32::MAX))),
        row("a byte too many", TOO_LARGE, traces(framed(0, &vec![0x0a; LIMIT_BYTES + 1]))),
    ]
}

fn encoding_rows() -> Vec<Row> {
    let whole = good(40);
    let encoded = |name: &str, message: &[u8]| traces(framed(1, message)).with("grpc-encoding", name);
    let over = vec![0x0a; LIMIT_BYTES + 1];
    let mut rows = vec![
        row("gzip", OK, encoded("gzip", &gzip(&whole))),
        row("zstd", OK, encoded("zstd", &zstd(&whole))),
        row("plain beside an encoding", OK, traces(framed(0, &whole)).with("grpc-encoding", "gzip")),
        row("a gzip of a gzip", MALFORMED, encoded("gzip", &gzip(&gzip(&whole)))),
        row("plain that calls itself gzip", MALFORMED, encoded("gzip", &whole)),
        row("plain that calls itself zstd", MALFORMED, encoded("zstd", &whole)),
        row("half a gzip", MALFORMED, encoded("gzip", &gzip(&whole)[..90])),
        row("half a zstd", MALFORMED, encoded("zstd", &zstd(&whole)[..90])),
        row("a byte too many in gzip", TOO_LARGE, encoded("gzip", &gzip(&over))),
        row("a byte too many in zstd", TOO_LARGE, encoded("zstd", &zstd(&over))),
    ];
    for token in ["gzip, gzip", "gzip,zstd", "br", "deflate", "snappy", ""] {
        rows.push(row(format!("grpc-encoding {token:?}"), UNSUPPORTED, encoded(token, &gzip(&whole))));
    }
    rows
}

fn request_rows() -> Vec<Row> {
    let body = framed(0, &good(1));
    let mut rows = Vec::new();
    for timeout in ["", "S", "5", "-1S", "1.5S", "123456789S", "5s", "forever", "\u{fffd}"] {
        rows.push(row(
            format!("grpc-timeout {timeout:?}"),
            MALFORMED,
            traces(body.clone()).with("grpc-timeout", timeout),
        ));
    }
    for path in [
        "/",
        "/v1/traces",
        "/opentelemetry.proto.collector.trace.v1.TraceService/Exports",
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        rows.push(row(format!("path {path}"), UNKNOWN, Ask::grpc(path, body.clone())));
    }
    let no_grpc = |name: String, status, ask| Row { name, ask, said: (status, None), outcome: "unsupported" };
    for kind in ["text/plain", "application/json", "application/grpc-web", "application/grpc+json", ""] {
        let mut ask = traces(body.clone());
        ask.headers[0].1 = kind.to_owned();
        rows.push(no_grpc(format!("content type {kind:?}"), 415, ask));
    }
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        rows.push(no_grpc(format!("{method}"), 405, traces(body.clone()).by(method)));
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_grpc_call_is_answered_and_counted_as_the_table_says() {
    let site = Site::start_with("", "", 128).await;
    for rows in [body_rows(), framing_rows(), encoding_rows(), request_rows()] {
        check(&site, "grpc", rows).await;
    }
    site.is_well("bad gRPC calls").await;
}
