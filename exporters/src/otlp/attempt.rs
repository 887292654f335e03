//! The requests of OTLP/HTTP and OTLP/gRPC: a message that is never copied, its headers, its paths.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use homeostat_pipeline::batch::{Compression, Content, Signal};
use http::{HeaderMap, HeaderValue, Request, header};
use http_body::{Body, Frame, SizeHint};

/// One byte that says whether a gRPC message is compressed, four of its length.
pub const PREFIX_BYTES: usize = 5;
/// The content type of OTLP/JSON.
pub const JSON: &str = "application/json";

/// A message and, for gRPC, its prefix; the message is never copied.
pub struct Payload {
    prefix: Bytes,
    message: Bytes,
}

impl Payload {
    /// For HTTP.
    pub fn plain(message: Bytes) -> Payload {
        Payload { prefix: Bytes::new(), message }
    }

    /// For gRPC: one byte that says whether it is compressed, four of length.
    pub fn prefixed(message: Bytes, compression: Compression) -> Payload {
        let mut prefix = BytesMut::with_capacity(PREFIX_BYTES);
        prefix.put_u8(u8::from(compression != Compression::None));
        prefix.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        Payload { prefix: prefix.freeze(), message }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let next = if this.prefix.is_empty() { &mut this.message } else { &mut this.prefix };
        let piece = std::mem::take(next);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.is_empty() && self.message.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.prefix.len() + self.message.len()) as u64)
    }
}

/// The path of a signal's export call.
pub const fn grpc_path(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    }
}

/// The path of a signal below an OTLP/HTTP endpoint.
pub const fn http_path(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/v1/traces",
        Signal::Metrics => "/v1/metrics",
        Signal::Logs => "/v1/logs",
    }
}

/// An OTLP/HTTP request.
pub fn http_request(
    uri: http::Uri,
    headers: &HeaderMap,
    (content, compression): (Content, Compression),
    message: Bytes,
) -> Request<Payload> {
    let mut request = Request::new(Payload::plain(message));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers.clone();
    let own = request.headers_mut();
    let kind = match content {
        Content::Protobuf => "application/x-protobuf",
        Content::Json => JSON,
    };
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if compression != Compression::None {
        own.insert(header::CONTENT_ENCODING, HeaderValue::from_static(compression.token()));
    }
    request
}

/// An OTLP/gRPC request whose caller waits for `patience`.
pub fn grpc_request(
    uri: http::Uri,
    headers: &HeaderMap,
    compression: Compression,
    message: Bytes,
    patience: Duration,
) -> Request<Payload> {
    let mut request = Request::new(Payload::prefixed(message, compression));
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers.clone();
    let own = request.headers_mut();
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    own.insert(header::TE, HeaderValue::from_static("trailers"));
    if compression != Compression::None {
        own.insert("grpc-encoding", HeaderValue::from_static(compression.token()));
    }
    // Eight digits at most; the deadline is minutes away, not days.
    let millis = patience.as_millis().clamp(1, 99_999_999) as u64;
    if let Ok(value) = HeaderValue::try_from(format!("{millis}m")) {
        own.insert("grpc-timeout", value);
    }
    request
}
