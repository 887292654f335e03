//! What the answer to an attempt means (OTLP specification, "Failures").

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use homeostat_pipeline::batch::Compression;
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::contract::Taken;
use homeostat_pipeline::otlp::status::{Response as Answered, Status as Details};
use homeostat_pipeline::refusal::Cause;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use tonic::Code;

use super::attempt::{JSON, PREFIX_BYTES};
use super::retry_after;

/// What is kept of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What is read of one, so that the status behind it is found: what gRPC lets a message have by default.
const READ_BYTES_MAX: usize = 4 << 20;
/// What is kept of a backend's words.
const WORDS_MAX: usize = 1024;

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

/// Reads OTLP/HTTP's answer; `now` is for a `Retry-After` that is a date.
pub async fn read_http(response: http::Response<Incoming>, now: Timestamp) -> Outcome {
    let (parts, body) = response.into_parts();
    let read = read_body(body).await;
    let is_json = is_json(&parts.headers);
    if parts.status.is_success() {
        // What the status says of success holds, whatever becomes of the body.
        return if is_json { taken_json(&read.start) } else { Outcome::Taken(partial(&read.start)) };
    }
    if let Some(reason) = read.broken {
        return later(None, reason);
    }
    let words = if is_json {
        serde_json::from_slice::<JsonStatus>(&read.start).map(|status| status.message)
    } else {
        Ok(Details::decode(&read.start).map(|details| details.message).unwrap_or_default())
    };
    let words = words.unwrap_or_default();
    let reason = format!("the backend answered {}{}", parts.status, said(&words));
    match parts.status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            let after = parts.headers.get(header::RETRY_AFTER).map(HeaderValue::as_bytes);
            later(after.and_then(|after| retry_after::read(after, now)), reason)
        }
        StatusCode::PAYLOAD_TOO_LARGE => Outcome::Never { cause: Cause::TooLarge, reason },
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Outcome::Never { cause: Cause::Unsupported, reason },
        _ => Outcome::Never { cause: Cause::Backend, reason },
    }
}

/// Reads OTLP/gRPC's answer to a message that was sent with `sent`: the status is in the trailers, or in the headers where
/// there is no body.
pub async fn read_grpc(response: http::Response<Incoming>, sent: Compression) -> Outcome {
    let (parts, body) = response.into_parts();
    if let Some(status) = GrpcStatus::read(&parts.headers) {
        return status.outcome(&[], takes(&parts.headers, sent));
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
    let read = read_body(body).await;
    match read.trailers.as_ref().and_then(GrpcStatus::read) {
        Some(status) => status.outcome(&read.start, takes(&parts.headers, sent)),
        // What was taken in part must not come again, even where the end of the answer is missing.
        None => match partial(message(&read.start)) {
            Taken { rejected: 0, .. } => {
                let none = || "the backend's answer has no gRPC status".to_owned();
                later(None, read.broken.unwrap_or_else(none))
            }
            taken => Outcome::Taken(taken),
        },
    }
}

/// Whether a backend that answered with these headers may take `sent`: yes, unless it lists what it takes without it.
fn takes(headers: &HeaderMap, sent: Compression) -> bool {
    let list = headers.get("grpc-accept-encoding").and_then(|value| value.to_str().ok());
    list.is_some_and(|list| list.split(',').any(|token| token.trim() == sent.token()))
}

/// What was read of an answer.
#[derive(Default)]
struct Read {
    /// Its first bytes.
    start: Bytes,
    trailers: Option<HeaderMap>,
    /// Why it did not come to its end.
    broken: Option<String>,
}

/// Reads on behind what is kept, for gRPC's status is there.
async fn read_body(mut body: Incoming) -> Read {
    let (mut start, mut trailers, mut broken, mut bytes) = (BytesMut::new(), None, None, 0);
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => {
                let room = ANSWER_BYTES_MAX - start.len();
                start.extend_from_slice(&data[..data.len().min(room)]);
                bytes += data.len();
                if bytes > READ_BYTES_MAX {
                    broken = Some("the backend's answer does not end".to_owned());
                    break;
                }
            }
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            Err(error) => {
                broken = Some(format!("the backend's answer broke off: {error}"));
                break;
            }
        }
    }
    Read { start: start.freeze(), trailers, broken }
}

fn later(after: Option<Duration>, reason: String) -> Outcome {
    Outcome::Later { after, reason }
}

/// What the start of an answer says of a partial success. What cannot be read takes nothing back from a success.
fn partial(start: &[u8]) -> Taken {
    let answered = Answered::decode_start(start);
    Taken { rejected: answered.rejected, share: 0, message: shorten(answered.message) }
}

/// The message behind gRPC's prefix; nothing where it is compressed, which nobody asked for.
fn message(body: &[u8]) -> &[u8] {
    let mut prefix = body;
    if prefix.len() < PREFIX_BYTES || prefix.get_u8() != 0 { &[] } else { &body[PREFIX_BYTES..] }
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
    Outcome::Taken(Taken {
        rejected: rejected.unwrap_or(0),
        share: 0,
        message: shorten(partial.error_message),
    })
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

    /// `takes_encoding`: the backend is known to take the encoding that was sent.
    fn outcome(self, body: &[u8], takes_encoding: bool) -> Outcome {
        let reason = format!("the backend answered {:?}{}", self.code, said(&self.message));
        match self.code {
            Code::Ok => Outcome::Taken(partial(message(body))),
            // What tonic says to a message beyond its limit; elsewhere the code means that it may come again.
            Code::OutOfRange if self.message.contains("too large") => {
                Outcome::Never { cause: Cause::TooLarge, reason }
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
            Code::Unimplemented if !takes_encoding => Outcome::Never { cause: Cause::Unsupported, reason },
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
        GrpcStatus::read(&headers).map(|status| status.outcome(&[], true)).unwrap()
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
    fn a_message_beyond_tonics_limit_is_too_large_and_not_for_later() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", HeaderValue::from_static("11"));
        let words = "Error,%20decoded%20message%20length%20too%20large:%20found%209%20bytes";
        headers.insert("grpc-message", HeaderValue::from_static(words));
        let outcome = GrpcStatus::read(&headers).map(|status| status.outcome(&[], true)).unwrap();
        assert_eq!(kind(&outcome), "too large");
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
