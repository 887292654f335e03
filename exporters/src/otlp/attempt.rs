//! One attempt to hand a request to the backend, and what its answer means (OTLP specification, "Failures").

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use homeostat_pipeline::batch::{Compression, Content, Signal};
use homeostat_pipeline::contract::Taken;
use homeostat_pipeline::otlp::status::{Response as Answered, Status as Details};
use homeostat_pipeline::refusal::Cause;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use tonic::Code;

/// What is read of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What is kept of a backend's words.
const WORDS_MAX: usize = 1024;
const PREFIX_BYTES: usize = 5;
const JSON: &str = "application/json";

/// What an attempt came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend took it, or the part that it ever will.
    Taken(Taken),
    /// The same request may be sent again.
    Later {
        /// When, if the backend says so.
        after: Option<Duration>,
        /// For people.
        reason: String,
    },
    /// The same request must not be sent again.
    Never {
        /// What to tell the sender.
        cause: Cause,
        /// For people.
        reason: String,
    },
}

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

/// Reads OTLP/HTTP's answer.
pub async fn read_http(response: http::Response<Incoming>) -> Outcome {
    let (parts, body) = response.into_parts();
    let (body, _) = match read_body(body).await {
        Ok(body) => body,
        // What the status says of success holds; the rest may be read at the next attempt.
        Err(_) if parts.status.is_success() => return Outcome::Taken(Taken::default()),
        Err(reason) => return later(None, reason),
    };
    let is_json = is_json(&parts.headers);
    if parts.status.is_success() {
        return if is_json { taken_json(&body) } else { taken(&body) };
    }
    let words = if is_json {
        serde_json::from_slice::<JsonStatus>(&body).map(|status| status.message)
    } else {
        Ok(Details::decode(&body).map(|details| details.message).unwrap_or_default())
    };
    let words = words.unwrap_or_default();
    let reason = format!("the backend answered {}{}", parts.status, said(&words));
    match parts.status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => later(retry_after(&parts.headers), reason),
        StatusCode::PAYLOAD_TOO_LARGE => Outcome::Never { cause: Cause::TooLarge, reason },
        _ => Outcome::Never { cause: Cause::Backend, reason },
    }
}

/// Reads OTLP/gRPC's answer: the status is in the trailers, or in the headers where there is no body.
pub async fn read_grpc(response: http::Response<Incoming>) -> Outcome {
    let (parts, body) = response.into_parts();
    if let Some(status) = GrpcStatus::read(&parts.headers) {
        return status.outcome(&[]);
    }
    if parts.status != StatusCode::OK {
        let reason = format!("the backend answered {} without a gRPC status", parts.status);
        return match parts.status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => later(None, reason),
            _ => Outcome::Never { cause: Cause::Backend, reason },
        };
    }
    match read_body(body).await {
        Err(reason) => later(None, reason),
        Ok((message, trailers)) => match trailers.as_ref().and_then(GrpcStatus::read) {
            Some(status) => status.outcome(&message),
            None => later(None, "the backend's answer has no gRPC status".to_owned()),
        },
    }
}

/// The answer's body and trailers; of a body that is too large only the trailers, which is where the answer is.
async fn read_body(mut body: Incoming) -> Result<(Bytes, Option<HeaderMap>), String> {
    let (mut whole, mut trailers, mut read) = (BytesMut::new(), None, 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the backend's answer broke off: {error}"))?;
        match frame.into_data() {
            Ok(data) => {
                read += data.len();
                if read > 16 * ANSWER_BYTES_MAX {
                    return Err("the backend's answer does not end".to_owned());
                }
                if read <= ANSWER_BYTES_MAX {
                    whole.extend_from_slice(&data);
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let whole = if read > ANSWER_BYTES_MAX { Bytes::new() } else { whole.freeze() };
    Ok((whole, trailers))
}

fn later(after: Option<Duration>, reason: String) -> Outcome {
    Outcome::Later { after, reason }
}

/// A body that cannot be read takes nothing back from an answer that is a success.
fn taken(body: &[u8]) -> Outcome {
    let answered = Answered::decode(body).unwrap_or_default();
    Outcome::Taken(Taken { rejected: answered.rejected, message: shorten(answered.message) })
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(JSON.as_bytes())
}

/// An error in JSON.
#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonStatus {
    message: String,
}

/// The answer to a request that was JSON.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonAnswer {
    partial_success: Option<JsonPartial>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JsonPartial {
    #[serde(alias = "rejectedDataPoints", alias = "rejectedLogRecords")]
    rejected_spans: serde_json::Value,
    error_message: String,
}

fn taken_json(body: &[u8]) -> Outcome {
    let answered: JsonAnswer = serde_json::from_slice(body).unwrap_or_default();
    let partial = answered.partial_success.unwrap_or_default();
    let rejected = match &partial.rejected_spans {
        serde_json::Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    Outcome::Taken(Taken { rejected: rejected.unwrap_or(0), message: shorten(partial.error_message) })
}

fn shorten(mut words: String) -> String {
    words.truncate(words.floor_char_boundary(WORDS_MAX));
    words
}

fn said(words: &str) -> String {
    if words.is_empty() {
        String::new()
    } else {
        format!(": {}", &words[..words.floor_char_boundary(WORDS_MAX)])
    }
}

/// Seconds; a date would need a clock, and is treated as none.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

struct GrpcStatus {
    code: Code,
    message: String,
    retry_after: Option<Duration>,
}

impl GrpcStatus {
    fn read(headers: &HeaderMap) -> Option<GrpcStatus> {
        // tonic panics on details that are no base64, so they are read here.
        let mut headers = headers.clone();
        let details = headers.remove(tonic::Status::GRPC_STATUS_DETAILS);
        let status = tonic::Status::from_header_map(&headers)?;
        let retry_after = details
            .and_then(|value| decode_base64(value.as_bytes()))
            .and_then(|bytes| Details::decode(&bytes))
            .and_then(|details| details.retry_after);
        Some(GrpcStatus { code: status.code(), message: status.message().to_owned(), retry_after })
    }

    fn outcome(self, body: &[u8]) -> Outcome {
        let reason = format!("the backend answered {:?}{}", self.code, said(&self.message));
        match self.code {
            Code::Ok => {
                let mut prefix = body;
                if prefix.len() < PREFIX_BYTES || prefix.get_u8() != 0 {
                    return Outcome::Taken(Taken::default());
                }
                taken(&body[PREFIX_BYTES..])
            }
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => later(self.retry_after, reason),
            Code::ResourceExhausted => match self.retry_after {
                Some(_) => later(self.retry_after, reason),
                None => Outcome::Never { cause: Cause::TooLarge, reason },
            },
            Code::Unknown
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::Internal
            | Code::Unauthenticated => Outcome::Never { cause: Cause::Backend, reason },
        }
    }
}

/// RFC 4648, section 4, with or without padding, as gRPC's binary headers have it.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii_end();
    let end = text.iter().position(|byte| *byte == b'=').unwrap_or(text.len());
    let (mut out, mut bits, mut held) = (Vec::with_capacity(end * 3 / 4), 0_u32, 0);
    for byte in &text[..end] {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held).to_le_bytes()[0]);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: &'static str, details: Option<&'static str>) -> Outcome {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", HeaderValue::from_static(code));
        headers.insert("grpc-message", HeaderValue::from_static("it%20is%20full"));
        if let Some(details) = details {
            headers.insert("grpc-status-details-bin", HeaderValue::from_static(details));
        }
        GrpcStatus::read(&headers).map(|status| status.outcome(&[])).unwrap()
    }

    fn kind(outcome: &Outcome) -> &'static str {
        match outcome {
            Outcome::Taken(_) => "taken",
            Outcome::Later { .. } => "later",
            Outcome::Never { cause: Cause::TooLarge, .. } => "too large",
            Outcome::Never { .. } => "never",
        }
    }

    #[test]
    fn each_grpc_code_means_what_the_specification_says() {
        let expected = [
            "taken",
            "later",
            "never",
            "never",
            "later",
            "never",
            "never",
            "never",
            "too large",
            "never",
            "later",
            "later",
            "never",
            "never",
            "later",
            "later",
            "never",
        ];
        let codes =
            ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
        for (code, expected) in codes.into_iter().zip(expected) {
            assert_eq!(kind(&status(code, None)), expected, "code {code}");
        }
    }

    #[test]
    fn exhausted_with_retry_info_is_for_later() {
        // Status { code: 8, details: [RetryInfo { retry_delay: 2 s }] }
        let details = "CAgaMAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIECgIIAg";
        assert_eq!(
            status("8", Some(details)),
            Outcome::Later {
                after: Some(Duration::from_secs(2)),
                reason: "the backend answered ResourceExhausted: it is full".to_owned(),
            }
        );
    }

    #[test]
    fn details_that_are_no_base64_change_nothing() {
        assert_eq!(kind(&status("14", Some("not base64!"))), "later");
        assert_eq!(kind(&status("8", Some("====A"))), "too large");
    }

    #[test]
    fn base64_is_read_with_and_without_padding() {
        for (text, expected) in [("", ""), ("TQ==", "M"), ("TQ", "M"), ("TWE=", "Ma"), ("TWFu", "Man")] {
            assert_eq!(decode_base64(text.as_bytes()), Some(expected.as_bytes().to_vec()), "{text}");
        }
    }
}
