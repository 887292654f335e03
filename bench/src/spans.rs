//! How many spans a message holds, found by its lengths alone: for the sink, when a rival has batched anew.

use std::io::Read;

use flate2::read::MultiGzDecoder;

/// The spans of a trace request; `None` when it is not one.
pub fn count(message: &[u8], is_gzip: bool) -> Option<u64> {
    if is_gzip {
        let mut body = Vec::with_capacity(message.len() * 8);
        MultiGzDecoder::new(message).read_to_end(&mut body).ok()?;
        return in_request(&body);
    }
    in_request(message)
}

/// ExportTraceServiceRequest.resource_spans 1, ResourceSpans.scope_spans 2, ScopeSpans.spans 2.
fn in_request(body: &[u8]) -> Option<u64> {
    sum(body, 1, &|resource| sum(resource, 2, &|scope| sum(scope, 2, &|_| Some(1))))
}

/// What `of` says of each length-delimited field of that number, added up.
fn sum(mut message: &[u8], number: u64, of: &dyn Fn(&[u8]) -> Option<u64>) -> Option<u64> {
    let mut total = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => drop(varint(&mut message)?),
            1 => drop(take(&mut message, 8)?),
            2 => {
                let length = varint(&mut message)?;
                let field = take(&mut message, usize::try_from(length).ok()?)?;
                if tag >> 3 == number {
                    total += of(field)?;
                }
            }
            5 => drop(take(&mut message, 4)?),
            _ => return None,
        }
    }
    Some(total)
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (field, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(field)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;
    use crate::payload::{Compression, Payloads, Shape};

    #[test]
    fn every_span_of_a_sending_is_counted_whether_compressed_or_not() {
        for (compression, is_gzip) in [(Compression::Plain, false), (Compression::Gzip, true)] {
            let shape =
                Shape { compression, tagged_percent: 10, batch: 37, bytes: 60_000, from: 1, over: 1000 };
            let mut sending = Payloads::new(shape).sending(5);
            let message = sending.copy_to_bytes(sending.remaining());
            assert_eq!(count(&message, is_gzip), Some(37));
            assert_eq!(count(&message[..message.len() - 1], is_gzip), None, "it was cut");
        }
        assert_eq!(count(&[], false), Some(0));
    }
}
