//! OTLP/HTTP: protobuf, JSON, encodings, content types, methods, paths, sizes.

use bytes::Bytes;
use homeostat_tests::telemetry::{gzip, zstd};
use http::Method;

use crate::ask::Ask;
use crate::bytes_of::{deep_value, field, good, json, json_attribute, random, with_attributes, with_value};
use crate::site::Site;
use crate::table::{Row, check};

const PATHS: [&str; 3] = ["/v1/traces", "/v1/metrics", "/v1/logs"];
const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const LIMIT_BYTES: usize = 20 << 20;

fn row(name: impl Into<String>, status: u16, outcome: &'static str, ask: Ask) -> Row {
    Row { name: name.into(), ask, said: (status, None), outcome }
}

fn malformed(name: impl Into<String>, ask: Ask) -> Row {
    row(name, 400, "malformed", ask)
}

fn traces(body: impl Into<Bytes>) -> Ask {
    Ask::http(PATHS[0], PROTOBUF, body)
}

fn traces_json(body: impl Into<Bytes>) -> Ask {
    Ask::http(PATHS[0], JSON, body)
}

fn protobuf_rows() -> Vec<Row> {
    let whole = good(40);
    let mut rows: Vec<Row> = [1, 7, whole.len() / 4, whole.len() / 2, whole.len() - 1]
        .map(|end| malformed(format!("protobuf cut at {end}"), traces(whole.slice(..end))))
        .into();
    for (seed, path) in (0..).zip(PATHS) {
        // A first byte that is no key, so that no chance makes it a message.
        let noise = [vec![0xff; 11], random(seed, 4_000)].concat();
        rows.push(malformed(format!("noise to {path}"), Ask::http(path, PROTOBUF, noise)));
    }
    rows.extend([
        malformed("a value 100,000 lists deep", traces(with_value(&deep_value(100_000)))),
        malformed("a value 60 lists deep", traces(with_value(&deep_value(60)))),
        row("a value 20 lists deep", 200, "taken", traces(with_value(&deep_value(20)))),
        malformed("groups 100,000 deep", traces([vec![0x1b; 100_000], vec![0x1c; 100_000]].concat())),
        malformed("a string that is not UTF-8", traces(with_value(&field(1, b"\xff\xfe\xc0")))),
        row("a string with NUL", 200, "taken", traces(with_value(&field(1, b"a\0b")))),
        row(
            "100,000 attributes",
            200,
            "taken",
            traces(with_attributes((0..100_000).map(|at| (format!("key-{at}"), format!("REQ-{at}"))))),
        ),
        row(
            "an attribute of a megabyte",
            200,
            "taken",
            traces(with_attributes([("REQ-".repeat(250_000), "sea.flow".repeat(125_000))])),
        ),
        row("nothing", 200, "taken", traces(Bytes::new())),
        row("an unknown field", 200, "taken", traces([&whole[..], &field(15, b"new")[..]].concat())),
        row("JSON that calls itself protobuf", 400, "malformed", traces(json(""))),
    ]);
    rows
}

fn json_rows() -> Vec<Row> {
    let whole = json(&json_attribute(r#"{"stringValue":"x"}"#));
    // What is unknown is passed over without going down into it.
    let deep = |open: &str, close: &str| {
        traces_json(format!("{{\"new\":{}1{}}}", open.repeat(100_000), close.repeat(100_000)))
    };
    let mut rows: Vec<Row> = [1, 20, whole.len() / 2, whole.len() - 1]
        .map(|end| malformed(format!("JSON cut at {end}"), traces_json(whole[..end].to_vec())))
        .into();
    for (seed, path) in (10..).zip(PATHS) {
        rows.push(malformed(format!("noise as JSON to {path}"), Ask::http(path, JSON, random(seed, 4_000))));
    }
    for (name, text) in [
        ("a list", "[]".to_owned()),
        ("a number", "7".to_owned()),
        ("two objects", "{}{}".to_owned()),
        ("protobuf that calls itself JSON", String::from_utf8_lossy(&good(1)).into_owned()),
        ("unknown lists that never close", format!("{{\"new\":{}", "[".repeat(1_000_000))),
        ("a span that is text", r#"{"resourceSpans":[{"scopeSpans":[{"spans":["x"]}]}]}"#.to_owned()),
        ("resources that are an object", r#"{"resourceSpans":{}}"#.to_owned()),
    ] {
        rows.push(malformed(format!("JSON: {name}"), traces_json(text)));
    }
    let values = format!(
        "{}{}{}",
        r#"{"arrayValue":{"values":["#.repeat(100_000),
        r#"{"intValue":"1"}"#,
        "]}}".repeat(100_000)
    );
    for (name, value) in [
        ("a value 100,000 lists deep", values.as_str()),
        ("an integer beyond 64 bits", r#"{"intValue":"99999999999999999999"}"#),
        ("an integer that is none", r#"{"intValue":"x"}"#),
        ("bytes that are no base64", r#"{"bytesValue":"*"}"#),
        ("half a surrogate", r#"{"stringValue":"\ud800"}"#),
        ("a bare NUL", "{\"stringValue\":\"a\0b\"}"),
    ] {
        rows.push(malformed(format!("JSON: {name}"), traces_json(json(&json_attribute(value)))));
    }
    let mut latin = whole.clone();
    let at = latin.windows(4).position(|four| four == b"work").expect("the span has its name");
    latin[at] = 0xe9;
    rows.extend([
        malformed("JSON that is not UTF-8", traces_json(latin)),
        malformed(
            "JSON: an id that is no hexadecimal",
            traces_json(String::from_utf8_lossy(&whole).replace("01020304050607", "zz020304050607")),
        ),
        row(
            "JSON: an escaped NUL",
            200,
            "taken",
            traces_json(json(&json_attribute(r#"{"stringValue":"a\u0000b"}"#))),
        ),
        row("JSON: an unknown key", 200, "taken", traces_json(r#"{"new":[{"a":[1,2,{}]}]}"#)),
        row("JSON: unknown lists 100,000 deep", 200, "taken", deep("[", "]")),
        row("JSON: unknown objects 100,000 deep", 200, "taken", deep("{\"a\":", "}")),
        row("JSON: nothing", 200, "taken", traces_json(Bytes::new())),
        row(
            "JSON: 100,000 attributes",
            200,
            "taken",
            traces_json(json(&vec![json_attribute(r#"{"intValue":1}"#); 100_000].join(","))),
        ),
    ]);
    rows
}

fn encoding_rows() -> Vec<Row> {
    let encoded = |name: &str, body: &[u8]| traces(body.to_vec()).with("content-encoding", name);
    let whole = good(40);
    let (gzipped, zstded) = (gzip(&whole), zstd(&whole));
    let mut wrong_crc = gzipped.to_vec();
    let at = wrong_crc.len() - 6;
    wrong_crc[at] ^= 1;
    let mut rows = vec![
        row("gzip", 200, "taken", encoded("gzip", &gzipped)),
        row("zstd", 200, "taken", encoded("zstd", &zstded)),
        malformed("a gzip of a gzip", encoded("gzip", &gzip(&gzipped))),
        malformed("a zstd of a zstd", encoded("zstd", &zstd(&zstded))),
        malformed("plain that calls itself gzip", encoded("gzip", &whole)),
        malformed("plain that calls itself zstd", encoded("zstd", &whole)),
        malformed("gzip that calls itself plain", traces(gzipped.clone())),
        malformed("half a gzip", encoded("gzip", &gzipped[..gzipped.len() / 2])),
        malformed("half a zstd", encoded("zstd", &zstded[..zstded.len() / 2])),
        malformed("a gzip with a wrong checksum", encoded("gzip", &wrong_crc)),
        malformed("a gzip with something behind it", encoded("gzip", &[&gzipped[..], b"more"].concat())),
        malformed("half a gzip of JSON", {
            let body = gzip(&json(""));
            traces_json(body.slice(..body.len() - 3)).with("content-encoding", "gzip")
        }),
        row(
            "stacked in two headers",
            415,
            "unsupported",
            encoded("gzip", &gzip(&gzipped)).with("content-encoding", "gzip"),
        ),
    ];
    for token in ["gzip, gzip", "gzip,zstd", "br", "deflate", "x-gzip", "snappy", "", "\u{fffd}"] {
        let name = format!("content-encoding {token:?}");
        rows.push(row(name, 415, "unsupported", encoded(token, &gzipped)));
    }
    rows
}

fn size_rows() -> Vec<Row> {
    let over = vec![0x0a; LIMIT_BYTES + 1];
    let large = |name: &str, ask| row(name, 413, "too_large", ask);
    vec![
        large("a byte too many", traces(over.clone())),
        large("a byte too many of JSON", traces_json(over.clone())),
        large("a byte too many in gzip", traces(gzip(&over)).with("content-encoding", "gzip")),
        large("a byte too many in zstd", traces(zstd(&over)).with("content-encoding", "zstd")),
        large("a byte too many of JSON in gzip", traces_json(gzip(&over)).with("content-encoding", "gzip")),
    ]
}

fn request_rows() -> Vec<Row> {
    let body = good(1);
    let mut rows = Vec::new();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/grpc",
        "application/protobuf2",
        "json",
        "",
    ] {
        rows.push(row(
            format!("content type {kind:?}"),
            415,
            "unsupported",
            Ask::http(PATHS[0], kind, body.clone()),
        ));
    }
    let mut none = traces(body.clone());
    none.headers.clear();
    rows.push(row("no content type", 415, "unsupported", none));
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        rows.push(row(format!("{method}"), 405, "unsupported", traces(Bytes::new()).by(method)));
    }
    for path in [
        "/",
        "/v1/trace",
        "/v1/traces/",
        "/v1/traces/../logs",
        "/v1development/profiles",
        "/metrics",
        "/%2e%2e/etc/passwd",
    ] {
        rows.push(row(format!("path {path}"), 404, "unknown", Ask::http(path, PROTOBUF, body.clone())));
        rows.push(row(format!("path {path}, JSON"), 404, "unknown", Ask::http(path, JSON, "{}")));
    }
    rows.push(row("a query behind the path", 200, "taken", Ask::http("/v1/traces?a=b", PROTOBUF, body)));
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_http_request_is_answered_and_counted_as_the_table_says() {
    let site = Site::start_with("", "", 128).await;
    for rows in [protobuf_rows(), json_rows(), encoding_rows(), size_rows(), request_rows()] {
        check(&site, "http", rows).await;
    }
    site.is_well("bad HTTP requests").await;
}
