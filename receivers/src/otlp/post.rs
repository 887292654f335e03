//! OTLP/HTTP: one POST. Answers have the request's content type; errors are a protobuf `Status` in the body.

use std::net::IpAddr;
use std::time::Duration;

use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::contract::Taken;
use homeostat_pipeline::otlp::status::{Response as Answered, Status};
use homeostat_pipeline::refusal::{Cause, Refusal};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::body::{self, Framing};
use super::intake::{Arrival, Intake, PATIENCE, read_encoding};
use super::reply::Reply;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const ACCEPTS: HeaderValue = HeaderValue::from_static("gzip, zstd, identity");
/// What is read away of a refused body, in messages of the largest size, and for how long.
const DISCARD_MESSAGES: usize = 4;
const DISCARD_LONGEST: Duration = Duration::from_secs(5);

/// Where each signal is posted, in the order of [`Signal::ALL`].
pub struct Paths(pub [String; 3]);

impl Paths {
    fn route(&self, path: &str) -> Option<Signal> {
        Signal::ALL.into_iter().zip(&self.0).find(|(_, own)| *own == path).map(|(signal, _)| signal)
    }
}

/// Answers one request.
pub async fn answer(
    intake: &Intake,
    paths: &Paths,
    request: Request<Incoming>,
    peer: IpAddr,
) -> Response<Reply> {
    let (parts, mut body) = request.into_parts();
    let result = match paths.route(parts.uri.path()) {
        Some(_) if parts.method != Method::POST => {
            let refusal = Refusal::rejected(Cause::Unsupported, "only POST is spoken here");
            intake.meter.answered(&Err(refusal.clone()));
            let mut response = failure(intake, &parts.headers, &refusal);
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        Some(signal) => post(intake, signal, &parts, &mut body, peer).await,
        None => Err(Refusal::rejected(Cause::Unknown, format!("{} is not served here", parts.uri.path()))),
    };
    intake.meter.answered(&result);
    match result {
        Ok(taken) => success(taken),
        Err(refusal) => {
            if parts.version < Version::HTTP_2 && !parts.headers.contains_key(header::EXPECT) {
                body::discard(&mut body, DISCARD_MESSAGES * intake.message_bytes_max, DISCARD_LONGEST).await;
            }
            failure(intake, &parts.headers, &refusal)
        }
    }
}

async fn post(
    intake: &Intake,
    signal: Signal,
    parts: &Parts,
    body: &mut Incoming,
    peer: IpAddr,
) -> Result<Taken, Refusal> {
    intake.admit(signal)?;
    if !is_kind(&parts.headers, &PROTOBUF) {
        let reason = if is_kind(&parts.headers, &JSON) {
            "OTLP/JSON is not spoken here: send application/x-protobuf"
        } else {
            "the content type is not spoken here: send application/x-protobuf"
        };
        return Err(Refusal::rejected(Cause::Unsupported, reason));
    }
    let deadline = Instant::now() + PATIENCE;
    let compression = read_encoding(parts.headers.get_all(header::CONTENT_ENCODING))?;
    let mut account = intake.account(peer);
    let framing = Framing::Whole { length: body.size_hint().exact() };
    let wire = body::read(body, framing, intake.message_bytes_max, intake.pace, &mut account).await?;
    intake.take(Arrival { signal, compression, wire, deadline }, &mut account).await
}

/// Whether the content type, without its parameters, is `kind`.
fn is_kind(headers: &HeaderMap, kind: &HeaderValue) -> bool {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(kind.as_bytes())
}

fn success(taken: Taken) -> Response<Reply> {
    let message = Answered { rejected: taken.rejected, message: taken.message }.encode();
    let mut response = Response::new(Reply::new(message));
    response.headers_mut().insert(header::CONTENT_TYPE, PROTOBUF);
    response
}

fn failure(intake: &Intake, asked: &HeaderMap, refusal: &Refusal) -> Response<Reply> {
    let answer = intake.answer(refusal);
    let status = Status { code: answer.grpc as i32, message: refusal.to_string(), retry_after: None };
    let is_json = is_kind(asked, &JSON);
    let body = if is_json {
        // The same message in protobuf's JSON form.
        format!("{{\"code\":{},\"message\":{}}}", status.code, json_string(&status.message)).into_bytes()
    } else {
        status.encode()
    };
    let mut response = Response::new(Reply::new(body));
    *response.status_mut() = StatusCode::from_u16(answer.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, if is_json { JSON } else { PROTOBUF });
    if answer.http == 415 {
        headers.insert(header::ACCEPT_ENCODING, ACCEPTS);
    }
    if let Some(after) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1000) as u64));
    }
    response
}

/// `text` in quotes, with everything escaped that JSON does not take as it is (RFC 8259, section 7).
fn json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\0'..='\x1f' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_does_not_take_is_escaped() {
        assert_eq!(json_string("a \"b\" \\ \n é"), "\"a \\\"b\\\" \\\\ \\u000a é\"");
    }

    #[test]
    fn content_types_are_compared_without_case_and_parameters() {
        let mut headers = HeaderMap::new();
        headers
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("Application/X-Protobuf; charset=utf-8"));
        assert!(is_kind(&headers, &PROTOBUF) && !is_kind(&headers, &JSON));
    }
}
