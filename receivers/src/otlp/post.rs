//! OTLP/HTTP: one POST of protobuf or JSON. Answers have the request's content type; errors are a `Status` in the body.

use std::net::IpAddr;
use std::time::Duration;

use homeostat_pipeline::batch::{Content, Signal};
use homeostat_pipeline::contract::Taken;
use homeostat_pipeline::otlp::status::{Response as Answered, Status};
use homeostat_pipeline::refusal::{Cause, Refusal};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use serde_json::json;
use tokio::time::Instant;

use super::body::{self, Framing};
use super::cors::Cors;
use super::intake::{Arrival, Intake, PATIENCE, read_encoding};
use super::reply::Reply;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const ACCEPTS: HeaderValue = HeaderValue::from_static("gzip, zstd, identity");
/// What is read away of a refused body, in messages of the largest size, and for how long.
const DISCARD_MESSAGES: usize = 4;
const DISCARD_LONGEST: Duration = Duration::from_secs(5);
const DISCARD_STRANGER_BYTES: usize = 64 * 1024;
const DISCARD_STRANGER: Duration = Duration::from_secs(1);

/// What is served.
pub struct Paths {
    /// Where each signal is posted, in the order of [`Signal::ALL`].
    pub signals: [String; 3],
    /// Which pages of browsers may post; none where it is off.
    pub cors: Option<Cors>,
}

impl Paths {
    fn route(&self, path: &str) -> Option<Signal> {
        Signal::ALL.into_iter().zip(&self.signals).find(|(_, own)| *own == path).map(|(signal, _)| signal)
    }
}

/// Answers one request, and says to browsers who may read the answer. A preflight has no credentials, so it comes before them.
pub async fn answer(
    intake: &Intake,
    paths: &Paths,
    request: Request<Incoming>,
    peer: IpAddr,
) -> Response<Reply> {
    let Some(cors) = &paths.cors else { return respond(intake, paths, request, peer).await };
    if let Some(preflight) = cors.preflight(request.method(), request.headers()) {
        return preflight;
    }
    let grant = cors.grant(request.headers());
    let mut response = respond(intake, paths, request, peer).await;
    response.headers_mut().extend(grant);
    response
}

async fn respond(
    intake: &Intake,
    paths: &Paths,
    request: Request<Incoming>,
    peer: IpAddr,
) -> Response<Reply> {
    let (parts, mut body) = request.into_parts();
    let content = if is_kind(&parts.headers, &JSON) { Content::Json } else { Content::Protobuf };
    if let Err(refusal) = intake.authenticate(&parts.headers).await {
        return turned_away(intake, content, &parts, &mut body, refusal).await;
    }
    let refusal = match paths.route(parts.uri.path()) {
        Some(_) if parts.method != Method::POST => {
            let refusal = Refusal::rejected(Cause::Unsupported, "only POST is spoken here");
            intake.meter.answered(&Err(refusal.clone()));
            let mut response = failure(intake, content, &refusal);
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        Some(signal) => {
            let result = post(intake, signal, &parts, &mut body, peer).await;
            intake.meter.answered(&result);
            match result {
                Ok(taken) => return success(signal, content, taken),
                Err(refusal) => refusal,
            }
        }
        None => {
            let reason = format!("{} is not served here", parts.uri.path());
            let refusal = Refusal::rejected(Cause::Unknown, reason);
            intake.meter.answered(&Err(refusal.clone()));
            refusal
        }
    };
    if parts.version < Version::HTTP_2 && !parts.headers.contains_key(header::EXPECT) {
        body::discard(&mut body, DISCARD_MESSAGES * intake.message_bytes_max, DISCARD_LONGEST).await;
    }
    failure(intake, content, &refusal)
}

/// Nothing of a stranger's body is read but what lets an HTTP/1.1 client see the answer.
async fn turned_away(
    intake: &Intake,
    content: Content,
    parts: &Parts,
    body: &mut Incoming,
    refusal: Refusal,
) -> Response<Reply> {
    let mut response = failure(intake, content, &refusal);
    if let (Some(guard), false) = (&intake.guard, refusal.is_retryable()) {
        let challenge = HeaderValue::from_static(guard.challenge());
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    intake.meter.answered(&Err(refusal));
    if parts.version < Version::HTTP_2 && !parts.headers.contains_key(header::EXPECT) {
        body::discard(body, DISCARD_STRANGER_BYTES, DISCARD_STRANGER).await;
    }
    response
}

async fn post(
    intake: &Intake,
    signal: Signal,
    parts: &Parts,
    body: &mut Incoming,
    peer: IpAddr,
) -> Result<Taken, Refusal> {
    intake.admit(signal)?;
    let content = match (is_kind(&parts.headers, &PROTOBUF), is_kind(&parts.headers, &JSON)) {
        (true, _) => Content::Protobuf,
        (false, true) => Content::Json,
        (false, false) => {
            let reason =
                "the content type is not spoken here: send application/x-protobuf or application/json";
            return Err(Refusal::rejected(Cause::Unsupported, reason));
        }
    };
    let deadline = Instant::now() + PATIENCE;
    let span = intake.span(signal, &parts.headers);
    let compression = read_encoding(parts.headers.get_all(header::CONTENT_ENCODING))?;
    let mut account = intake.account(peer, &parts.headers)?;
    let framing = Framing::Whole { length: body.size_hint().exact() };
    let wire = body::read(body, framing, intake.message_bytes_max, intake.pace, &mut account).await?;
    intake.take(Arrival { signal, content, compression, wire, deadline, span }, &mut account).await
}

/// Whether the content type, without its parameters, is `kind`.
fn is_kind(headers: &HeaderMap, kind: &HeaderValue) -> bool {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(kind.as_bytes())
}

fn success(signal: Signal, content: Content, taken: Taken) -> Response<Reply> {
    let (kind, message) = match content {
        Content::Protobuf => {
            (PROTOBUF, Answered { rejected: taken.rejected, message: taken.message }.encode())
        }
        Content::Json => (JSON, json_answer(signal, &taken).to_string().into_bytes()),
    };
    let mut response = Response::new(Reply::new(message));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// `{}` where everything was taken and there is nothing to say.
fn json_answer(signal: Signal, taken: &Taken) -> serde_json::Value {
    if *taken == Taken::default() {
        return json!({});
    }
    let rejected = match signal {
        Signal::Traces => "rejectedSpans",
        Signal::Metrics => "rejectedDataPoints",
        Signal::Logs => "rejectedLogRecords",
    };
    json!({ "partialSuccess": { rejected: taken.rejected.to_string(), "errorMessage": taken.message } })
}

fn failure(intake: &Intake, content: Content, refusal: &Refusal) -> Response<Reply> {
    let answer = intake.answer(refusal);
    let status = Status { code: answer.grpc as i32, message: refusal.to_string(), retry_after: None };
    let (kind, body) = match content {
        Content::Protobuf => (PROTOBUF, status.encode()),
        Content::Json => {
            (JSON, json!({ "code": status.code, "message": status.message }).to_string().into_bytes())
        }
    };
    let mut response = Response::new(Reply::new(body));
    *response.status_mut() = StatusCode::from_u16(answer.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    if answer.http == 415 {
        headers.insert(header::ACCEPT_ENCODING, ACCEPTS);
    }
    if let Some(after) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1000) as u64));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_compared_without_case_and_parameters() {
        let mut headers = HeaderMap::new();
        headers
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("Application/X-Protobuf; charset=utf-8"));
        assert!(is_kind(&headers, &PROTOBUF) && !is_kind(&headers, &JSON));
    }
}
