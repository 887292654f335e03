//! OTLP/gRPC: one unary call, read and answered without a codec, so that the message stays the bytes it came as.
//!
//! Deliberately absent: reflection, streaming, trailers of the client. Profiles are answered UNIMPLEMENTED like every path that
//! is not OTLP's.

use std::net::IpAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use homeostat_pipeline::batch::{Compression, Content, Signal};
use homeostat_pipeline::contract::Taken;
use homeostat_pipeline::otlp::status::{Response as Answered, Status as Details};
use homeostat_pipeline::refusal::{Cause, Refusal};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::body::{self, Framing, PREFIX_BYTES};
use super::intake::{Arrival, Intake, PATIENCE, PATIENCE_MAX, read_encoding};
use super::reply::Reply;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const ACCEPTS: HeaderValue = HeaderValue::from_static("identity,gzip,zstd");

/// Answers one call. What is no gRPC at all gets HTTP's 415 or 405, as gRPC wants it.
pub async fn answer(intake: &Intake, request: Request<Incoming>, peer: IpAddr) -> Response<Reply> {
    let is_post = request.method() == Method::POST;
    if !is_post || !is_grpc(request.headers()) {
        intake.meter.answered(&Err(Refusal::rejected(Cause::Unsupported, "not gRPC")));
        let mut response = Response::new(Reply::default());
        *response.status_mut() =
            if is_post { StatusCode::UNSUPPORTED_MEDIA_TYPE } else { StatusCode::METHOD_NOT_ALLOWED };
        return response;
    }
    let result = call(intake, request, peer).await;
    intake.meter.answered(&result);
    let mut response = match result {
        Ok(taken) => success(taken),
        Err(refusal) => failure(intake, &refusal),
    };
    response.headers_mut().insert("grpc-accept-encoding", ACCEPTS);
    response
}

async fn call(intake: &Intake, request: Request<Incoming>, peer: IpAddr) -> Result<Taken, Refusal> {
    intake.authenticate(request.headers()).await?;
    let signal = route(request.uri().path()).ok_or_else(|| {
        Refusal::rejected(Cause::Unknown, format!("{} is not served here", request.uri().path()))
    })?;
    intake.admit(signal)?;
    let patience = match request.headers().get("grpc-timeout") {
        None => PATIENCE,
        Some(value) => read_timeout(value.as_bytes())
            .ok_or_else(|| Refusal::malformed("the header grpc-timeout cannot be read"))?
            .min(PATIENCE_MAX),
    };
    let deadline = Instant::now() + patience;
    let span = intake.span(signal, request.headers());
    let encoding = read_encoding(request.headers().get_all("grpc-encoding"))?;
    let mut account = intake.account(peer, request.headers())?;
    let mut body = request.into_body();
    let whole =
        body::read(&mut body, Framing::Grpc, intake.message_bytes_max, intake.pace, &mut account).await?;
    let compression = match (whole.first(), encoding) {
        (Some(0), _) => Compression::None,
        (Some(1), Compression::Gzip | Compression::Zstd) => encoding,
        (Some(1), Compression::None) => {
            return Err(Refusal::malformed(
                "the message says it is compressed, but no grpc-encoding says how",
            ));
        }
        (Some(_) | None, _) => return Err(Refusal::malformed("the message has an unknown flag")),
    };
    let wire = whole.slice(PREFIX_BYTES..);
    intake
        .take(Arrival { signal, content: Content::Protobuf, compression, wire, deadline, span }, &mut account)
        .await
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/grpc") || kind.eq_ignore_ascii_case(b"application/grpc+proto")
}

fn route(path: &str) -> Option<Signal> {
    match path {
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Signal::Traces),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(Signal::Metrics),
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Signal::Logs),
        _ => None,
    }
}

/// gRPC over HTTP/2: up to eight digits and a unit.
pub fn read_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(value * 3600)),
        b'M' => Some(Duration::from_secs(value * 60)),
        b'S' => Some(Duration::from_secs(value)),
        b'm' => Some(Duration::from_millis(value)),
        b'u' => Some(Duration::from_micros(value)),
        b'n' => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

fn success(taken: Taken) -> Response<Reply> {
    let message = Answered { rejected: taken.rejected, message: taken.message }.encode();
    let mut data = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    data.put_u8(0);
    data.put_u32(u32::try_from(message.len()).unwrap_or(0));
    data.put_slice(&message);
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(Reply::with_trailers(data.freeze(), trailers));
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

fn failure(intake: &Intake, refusal: &Refusal) -> Response<Reply> {
    let answer = intake.answer(refusal);
    let code = answer.grpc as i32;
    let message = refusal.to_string();
    let details = match answer.retry_after {
        None => Bytes::new(),
        Some(_) => {
            Details { code, message: message.clone(), retry_after: answer.retry_after }.encode().into()
        }
    };
    Status::with_details(Code::from_i32(code), message, details).into_http()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        for (text, millis) in [("1S", 1000), ("250m", 250), ("2M", 120_000), ("1H", 3_600_000), ("5000u", 5)]
        {
            assert_eq!(read_timeout(text.as_bytes()), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "S", "5", "123456789S", "-1S", "5s", "1.5S"] {
            assert_eq!(read_timeout(text.as_bytes()), None, "{text}");
        }
    }
}
