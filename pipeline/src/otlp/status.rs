//! The few tiny messages in which OTLP says how a request went: `google.rpc.Status` with `RetryInfo`, and the export response
//! with its partial success. Written and read by hand, so that receivers and exporters share them and nobody needs a code
//! generator for five fields. The response and the partial success have the same field numbers in all three signals.
//!
//! Reading is lenient as protobuf is: unknown fields are skipped, the last of a repeated scalar counts.

use std::time::Duration;

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// `google.rpc.Status`: the body of an OTLP/HTTP error, and gRPC's `grpc-status-details-bin`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// gRPC's number for the kind of error.
    pub code: i32,
    /// For people.
    pub message: String,
    /// `RetryInfo.retry_delay`: when the same request may come again.
    pub retry_after: Option<Duration>,
}

impl Status {
    /// The message as protobuf.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.message.len() + 80);
        put_varint(&mut out, 1, i64::from(self.code).cast_unsigned());
        put_bytes(&mut out, 2, self.message.as_bytes());
        if let Some(delay) = self.retry_after {
            let mut duration = Vec::with_capacity(16);
            put_varint(&mut duration, 1, delay.as_secs().min(315_576_000_000));
            put_varint(&mut duration, 2, u64::from(delay.subsec_nanos()));
            let mut info = Vec::with_capacity(24);
            put_message(&mut info, 1, &duration);
            let mut any = Vec::with_capacity(80);
            put_bytes(&mut any, 1, RETRY_INFO.as_bytes());
            put_message(&mut any, 2, &info);
            put_message(&mut out, 3, &any);
        }
        out
    }

    /// Reads what [`Status::encode`] and every other peer writes; nothing when it is no such message.
    pub fn decode(bytes: &[u8]) -> Option<Status> {
        let mut status = Status::default();
        each_field(bytes, |number, value| {
            match (number, value) {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "an int32 is sign-extended to 64 bits on the wire"
                )]
                (1, Value::Varint(code)) => status.code = code as i32,
                (2, Value::Bytes(text)) => status.message = String::from_utf8_lossy(text).into_owned(),
                (3, Value::Bytes(any)) => status.retry_after = retry_delay(any)?.or(status.retry_after),
                (_, Value::Varint(_) | Value::Bytes(_) | Value::Other) => {}
            }
            Some(())
        })?;
        Some(status)
    }
}

/// The delay when `any` is a `RetryInfo`; the outer nothing when it cannot be read.
fn retry_delay(any: &[u8]) -> Option<Option<Duration>> {
    let (mut is_retry_info, mut info) = (false, None);
    each_field(any, |number, value| {
        match (number, value) {
            (1, Value::Bytes(url)) => is_retry_info = url == RETRY_INFO.as_bytes(),
            (2, Value::Bytes(value)) => info = Some(value),
            (_, Value::Varint(_) | Value::Bytes(_) | Value::Other) => {}
        }
        Some(())
    })?;
    if !is_retry_info {
        return Some(None);
    }
    let mut delay = Duration::ZERO;
    each_field(info.unwrap_or_default(), |number, value| {
        if let (1, Value::Bytes(duration)) = (number, value) {
            delay = read_duration(duration)?;
        }
        Some(())
    })?;
    Some(Some(delay))
}

/// `google.protobuf.Duration`; a negative one is zero.
fn read_duration(bytes: &[u8]) -> Option<Duration> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    each_field(bytes, |number, value| {
        match (number, value) {
            (1, Value::Varint(value)) => seconds = value.cast_signed(),
            (2, Value::Varint(value)) => nanos = value.cast_signed(),
            (_, Value::Varint(_) | Value::Bytes(_) | Value::Other) => {}
        }
        Some(())
    })?;
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
        return Some(Duration::ZERO);
    };
    Some(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(u64::from(nanos))))
}

/// `Export{Trace,Metrics,Logs}ServiceResponse`, which only says what of the request was not taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// `partial_success.rejected_*`.
    pub rejected: u64,
    /// `partial_success.error_message`.
    pub message: String,
}

impl Response {
    /// The message as protobuf: empty when everything was taken and there is nothing to say, as the specification wants it.
    pub fn encode(&self) -> Vec<u8> {
        let mut partial = Vec::new();
        put_varint(&mut partial, 1, self.rejected.min(i64::MAX.cast_unsigned()));
        put_bytes(&mut partial, 2, self.message.as_bytes());
        let mut out = Vec::new();
        if !partial.is_empty() {
            put_message(&mut out, 1, &partial);
        }
        out
    }

    /// What the first bytes of a response say: lengths that reach beyond them are cut, and what comes behind is not known.
    pub fn decode_start(bytes: &[u8]) -> Response {
        let mut response = Response::default();
        each_start(bytes, |number, value| {
            let (1, Value::Bytes(partial)) = (number, value) else { return };
            each_start(partial, |number, value| match (number, value) {
                (1, Value::Varint(count)) => {
                    response.rejected = u64::try_from(count.cast_signed()).unwrap_or(0);
                }
                (2, Value::Bytes(text)) => response.message = String::from_utf8_lossy(text).into_owned(),
                (_, Value::Varint(_) | Value::Bytes(_) | Value::Other) => {}
            });
        });
        response
    }

    /// Reads a response; nothing when it is no such message. A negative count is zero.
    pub fn decode(bytes: &[u8]) -> Option<Response> {
        let mut response = Response::default();
        each_field(bytes, |number, value| {
            let (1, Value::Bytes(partial)) = (number, value) else { return Some(()) };
            each_field(partial, |number, value| {
                match (number, value) {
                    (1, Value::Varint(count)) => {
                        response.rejected = u64::try_from(count.cast_signed()).unwrap_or(0)
                    }
                    (2, Value::Bytes(text)) => response.message = String::from_utf8_lossy(text).into_owned(),
                    (_, Value::Varint(_) | Value::Bytes(_) | Value::Other) => {}
                }
                Some(())
            })
        })?;
        Some(response)
    }
}

fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// A varint field; zero is left out, as proto3 does.
fn put_varint(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(field << 3);
        put_number(out, value);
    }
}

/// A string field; the empty one is left out.
fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_message(out, field, bytes);
    }
}

fn put_message(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Fixed-width fields: none of these messages has one.
    Other,
}

/// Calls `visit` with each field up to where the bytes end or are no message; a value that ends later is cut.
fn each_start<'a>(mut rest: &'a [u8], mut visit: impl FnMut(u64, Value<'a>)) {
    while let Some(tag) = take_number(&mut rest) {
        let value = match tag & 7 {
            0 => take_number(&mut rest).map(Value::Varint),
            1 => take(&mut rest, 8).map(|_| Value::Other),
            2 => take_number(&mut rest).and_then(|length| {
                let length = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
                take(&mut rest, length).map(Value::Bytes)
            }),
            5 => take(&mut rest, 4).map(|_| Value::Other),
            _ => None,
        };
        let Some(value) = value else { return };
        visit(tag >> 3, value);
    }
}

/// Calls `visit` with each field; nothing when the bytes are no protobuf message or `visit` says so.
fn each_field<'a>(mut rest: &'a [u8], mut visit: impl FnMut(u64, Value<'a>) -> Option<()>) -> Option<()> {
    while !rest.is_empty() {
        let tag = take_number(&mut rest)?;
        let value = match tag & 7 {
            0 => Value::Varint(take_number(&mut rest)?),
            1 => take(&mut rest, 8).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(take_number(&mut rest)?).ok()?;
                Value::Bytes(take(&mut rest, length)?)
            }
            5 => take(&mut rest, 4).map(|_| Value::Other)?,
            _ => return None,
        };
        visit(tag >> 3, value)?;
    }
    Some(())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(taken)
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceResponse,
    };
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    #[test]
    fn a_status_has_the_bytes_that_every_grpc_library_writes() {
        let status =
            Status { code: 14, message: "full".to_owned(), retry_after: Some(Duration::from_millis(1500)) };
        let expected = b"\x08\x0e\x12\x04full\x1a\x36\x0a\x28type.googleapis.com/google.rpc.RetryInfo\
            \x12\x0a\x0a\x08\x08\x01\x10\x80\xca\xb5\xee\x01";
        assert_eq!(status.encode(), expected);
    }

    #[test]
    fn what_is_not_retry_info_is_skipped() {
        let mut any = Vec::new();
        put_bytes(&mut any, 1, b"type.googleapis.com/google.rpc.DebugInfo");
        put_bytes(&mut any, 2, b"\xff\xff\xff");
        let mut bytes = Status { code: 8, message: "quota".to_owned(), retry_after: None }.encode();
        put_message(&mut bytes, 3, &any);
        bytes.extend_from_slice(b"\x3d\x01\x02\x03\x04");
        assert_eq!(
            Status::decode(&bytes),
            Some(Status { code: 8, message: "quota".to_owned(), retry_after: None })
        );
    }

    #[test]
    fn a_negative_code_and_a_negative_delay_are_read() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, 1, (-1_i64).cast_unsigned());
        assert_eq!(Status::decode(&bytes).map(|status| status.code), Some(-1));
        let mut duration = Vec::new();
        put_varint(&mut duration, 1, (-5_i64).cast_unsigned());
        assert_eq!(read_duration(&duration), Some(Duration::ZERO));
    }

    #[test]
    fn full_success_is_the_empty_message() {
        assert_eq!(Response::default().encode(), b"");
        assert_eq!(Response::decode(b""), Some(Response::default()));
    }

    #[test]
    fn the_start_of_a_response_says_what_it_says_so_far() {
        let whole = Response { rejected: 300, message: "too old".to_owned() }.encode();
        assert_eq!(Response::decode_start(&whole), Response { rejected: 300, message: "too old".to_owned() });
        for (bytes, rejected, message) in
            [(whole.len() - 3, 300, "too "), (5, 300, ""), (4, 0, ""), (0, 0, "")]
        {
            let expected = Response { rejected, message: message.to_owned() };
            assert_eq!(Response::decode_start(&whole[..bytes]), expected, "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn a_response_is_what_prost_reads_and_writes(rejected in 0..i64::MAX, message in ".*") {
            let ours = Response { rejected: rejected.cast_unsigned(), message: message.clone() };
            let theirs = ExportTraceServiceResponse {
                partial_success: (rejected != 0 || !message.is_empty())
                    .then_some(ExportTracePartialSuccess { rejected_spans: rejected, error_message: message }),
            };
            prop_assert_eq!(ours.encode(), theirs.encode_to_vec());
            prop_assert_eq!(Response::decode(&theirs.encode_to_vec()), Some(ours));
        }

        #[test]
        fn a_status_comes_back_as_it_went(code in any::<i32>(), message in ".*", delay in proptest::option::of((0..315_576_000_000_u64, 0..1_000_000_000_u32))) {
            let status = Status { code, message, retry_after: delay.map(|(seconds, nanos)| Duration::new(seconds, nanos)) };
            prop_assert_eq!(Status::decode(&status.encode()), Some(status));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Status::decode(&bytes), Response::decode(&bytes), Response::decode_start(&bytes));
        }
    }
}
