//! What is sent: distinct trace requests of one service, built once, and made distinct again each time by a small tail.
//!
//! An OTLP request is one repeated field, so a second resource may be appended to it as bytes: each sending ends in one
//! that holds its number. A repeat would be recognised by its hash and folded once, which would flatter us. A gzip
//! stream takes the tail too: its blocks are flushed to a byte boundary, and a stored block, the checksum and the length
//! follow. So nothing is compressed while it is measured.

use bytes::{Buf, Bytes, BytesMut, buf::Chain};
use flate2::{Compress, Crc, FlushCompress, Status as Deflated};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

/// How requests are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// gzip, level 6, as SDKs do.
    Gzip,
}

impl Compression {
    /// Its word in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::Plain => "plain",
            Compression::Gzip => "gzip",
        }
    }
}

/// What the requests are to be.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How they are compressed.
    pub compression: Compression,
    /// Of a hundred spans, how many carry a requirement.
    pub tagged_percent: u64,
    /// Spans in a request.
    pub batch: u64,
    /// Inflated bytes of all requests together; 60 MB and more are beyond any cache.
    pub bytes: usize,
    /// When the first span ends, in nanoseconds since the epoch.
    pub from: u64,
    /// Over how many nanoseconds the ends of the spans are spread.
    pub over: u64,
}

/// A message to send, without gRPC's prefix.
pub type Sending = Chain<Bytes, Bytes>;

/// Requests to be sent round and round.
pub struct Payloads {
    heads: Vec<Head>,
    compression: Compression,
    /// Spans in each.
    pub batch: u64,
    /// Inflated bytes per span.
    pub bytes_per_span: f64,
}

struct Head {
    bytes: Bytes,
    /// CRC-32 of what was compressed.
    crc: u32,
    length: u32,
}

impl Payloads {
    /// Builds them.
    pub fn new(shape: Shape) -> Payloads {
        let sample = request(&shape, 0, 0).len().max(1);
        let requests = (shape.bytes / sample).clamp(2, 1 << 20) as u64;
        let heads = (0..requests).map(|number| {
            let at = shape.from + shape.over / requests * number;
            head(shape.compression, request(&shape, number, at))
        });
        let heads: Vec<Head> = heads.collect();
        let bytes: f64 = heads.iter().map(|head| f64::from(head.length)).sum();
        let bytes_per_span = bytes / (requests * shape.batch) as f64;
        Payloads { heads, compression: shape.compression, batch: shape.batch, bytes_per_span }
    }

    /// The message to send as the `sequence`th; no two are the same.
    pub fn sending(&self, sequence: u64) -> Sending {
        let head = &self.heads[(sequence % self.heads.len() as u64) as usize];
        let tail = tail(sequence);
        match self.compression {
            Compression::Plain => head.bytes.clone().chain(tail),
            Compression::Gzip => head.bytes.clone().chain(gzip_end(head, &tail)),
        }
    }

    /// How they are compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }
}

fn head(compression: Compression, body: Vec<u8>) -> Head {
    let length = body.len() as u32;
    match compression {
        Compression::Plain => Head { bytes: body.into(), crc: 0, length },
        Compression::Gzip => {
            let mut crc = Crc::new();
            crc.update(&body);
            Head { bytes: gzip_begin(&body).into(), crc: crc.sum(), length }
        }
    }
}

/// A gzip header and the body's blocks, up to a byte boundary (RFC 1951, 3.2.3; RFC 1952, 2.3).
fn gzip_begin(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() / 2 + 1024);
    out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    let mut deflate = Compress::new(flate2::Compression::new(6), false);
    loop {
        let rest = &body[deflate.total_in() as usize..];
        let before = deflate.total_out();
        let status = deflate.compress_vec(rest, &mut out, FlushCompress::Sync);
        let is_all_in = deflate.total_in() as usize == body.len();
        match status {
            Ok(Deflated::Ok) if is_all_in && out.len() < out.capacity() => return out,
            Ok(Deflated::BufError) if is_all_in && before == deflate.total_out() => return out,
            Ok(Deflated::Ok | Deflated::BufError | Deflated::StreamEnd) => out.reserve(16 * 1024),
            Err(error) => unreachable!("deflate takes any bytes: {error}"),
        }
    }
}

/// The tail as the last, stored block, and what ends the stream.
fn gzip_end(head: &Head, tail: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(tail.len() + 13);
    let length = tail.len() as u16;
    out.extend_from_slice(&[1]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(tail);
    out.extend_from_slice(&crc32(head.crc, tail).to_le_bytes());
    out.extend_from_slice(&(head.length + u32::from(length)).to_le_bytes());
    out.freeze()
}

/// CRC-32 (IEEE 802.3) of what had `crc`, with `bytes` behind it.
fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!crc, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
        crc
    })
}

/// A resource without spans that holds the number of the sending.
fn tail(sequence: u64) -> Bytes {
    let resource = Resource {
        attributes: vec![text("bench.sending", format!("{sequence:016x}"))],
        ..Resource::default()
    };
    let resources = vec![ResourceSpans { resource: Some(resource), ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans: resources }.encode_to_vec().into()
}

fn pair(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    pair(key, any_value::Value::StringValue(value.into()))
}

fn request(shape: &Shape, number: u64, at: u64) -> Vec<u8> {
    let first = number * shape.batch;
    let spans = (first..first + shape.batch).map(|number| span(shape, number, at)).collect();
    let scope =
        InstrumentationScope { name: "io.shop.cart".into(), version: "2.1.0".into(), ..Default::default() };
    let resource = Resource {
        attributes: vec![
            text("service.name", "cart"),
            text("service.version", "3.4.1"),
            text("deployment.environment.name", "production"),
            text("host.name", format!("cart-{}", number % 13)),
        ],
        ..Resource::default()
    };
    let resources = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![resources] }.encode_to_vec()
}

/// Of some 450 bytes, with ten attributes; the numbers look random to a compressor.
fn span(shape: &Shape, number: u64, at: u64) -> Span {
    let noise =
        (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 29;
    let duration = 20_000_000 + noise % 90_000_000;
    let last = if number % 100 < shape.tagged_percent {
        text("req", "REQ-NFR-PERF-001")
    } else {
        text("thread.name", format!("worker-{}", noise % 64))
    };
    Span {
        trace_id: [noise.to_le_bytes(), (number ^ at).to_le_bytes()].concat(),
        span_id: noise.rotate_left(17).to_be_bytes().to_vec(),
        parent_span_id: (!noise).to_be_bytes().to_vec(),
        name: format!("POST /api/v1/cart/{}/items", noise % 97),
        kind: 2,
        start_time_unix_nano: at.saturating_sub(duration),
        end_time_unix_nano: at,
        attributes: vec![
            text("http.request.method", ["GET", "POST", "PUT"][(noise % 3) as usize]),
            text("url.path", format!("/api/v1/cart/{}/items", noise % 9973)),
            pair("http.response.status_code", any_value::Value::IntValue(200 + (noise % 5) as i64)),
            text("server.address", format!("shop-{}.internal", noise % 31)),
            text("network.protocol.version", "1.1"),
            text("user_agent.original", "okhttp/4.12.0"),
            text("client.address", format!("10.{}.{}.7", noise % 251, noise % 241)),
            text("session.id", format!("{noise:016x}")),
            pair("cart.total", any_value::Value::DoubleValue((noise % 10_000) as f64 / 100.0)),
            last,
        ],
        status: Some(Status { message: String::new(), code: 1 }),
        flags: 1,
        ..Span::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn shape(compression: Compression, tagged_percent: u64) -> Shape {
        let (from, over) = (1_790_000_000_000_000_000, 10_000_000_000);
        Shape { compression, tagged_percent, batch: 200, bytes: 400_000, from, over }
    }

    fn decoded(payloads: &Payloads, sequence: u64) -> ExportTraceServiceRequest {
        let mut message = payloads.sending(sequence);
        let mut bytes = message.copy_to_bytes(message.remaining()).to_vec();
        if payloads.compression() == Compression::Gzip {
            let mut body = Vec::new();
            GzDecoder::new(bytes.as_slice()).read_to_end(&mut body).expect("one intact gzip member");
            bytes = body;
        }
        ExportTraceServiceRequest::decode(bytes.as_slice()).expect("a well-formed request")
    }

    #[test]
    fn a_sending_is_a_whole_request_whether_compressed_or_not() {
        let (plain, gzip) =
            (Payloads::new(shape(Compression::Plain, 1)), Payloads::new(shape(Compression::Gzip, 1)));
        for sequence in [0, 1, 7, 1_000_000] {
            let request = decoded(&plain, sequence);
            assert_eq!(request, decoded(&gzip, sequence));
            assert_eq!(request.resource_spans[0].scope_spans[0].spans.len(), 200);
            assert_eq!(request.resource_spans.len(), 2, "the requests and the tail");
        }
        let requests = plain.heads.len() as u64;
        assert_ne!(decoded(&plain, 0), decoded(&plain, requests), "a later round is not the same bytes");
    }

    #[test]
    fn spans_are_distinct_and_about_450_bytes_long() {
        let payloads = Payloads::new(shape(Compression::Plain, 0));
        assert!((400.0..500.0).contains(&payloads.bytes_per_span), "{}", payloads.bytes_per_span);
        let mut ids = BTreeSet::new();
        for sequence in 0..payloads.heads.len() as u64 {
            for span in &decoded(&payloads, sequence).resource_spans[0].scope_spans[0].spans {
                assert_eq!(span.attributes.len(), 10);
                assert!(ids.insert(span.trace_id.clone()));
            }
        }
    }

    #[test]
    fn as_many_spans_carry_a_requirement_as_the_shape_says() {
        for (percent, expected) in [(0, 0), (1, 2), (100, 200)] {
            let request = decoded(&Payloads::new(shape(Compression::Plain, percent)), 3);
            let spans = &request.resource_spans[0].scope_spans[0].spans;
            let is_tagged = |span: &&Span| span.attributes.iter().any(|pair| pair.key == "req");
            assert_eq!(spans.iter().filter(is_tagged).count(), expected, "{percent} %");
        }
    }

    #[test]
    fn ends_are_spread_over_the_run() {
        let payloads = Payloads::new(shape(Compression::Plain, 0));
        let end = |sequence| {
            decoded(&payloads, sequence).resource_spans[0].scope_spans[0].spans[0].end_time_unix_nano
        };
        let requests = payloads.heads.len() as u64;
        assert_eq!(end(0), 1_790_000_000_000_000_000);
        assert_eq!(end(requests - 1) - end(0), 10_000_000_000 / requests * (requests - 1));
    }
}
