//! The bodies: good ones, broken ones, deep ones, and streams of ten gibibytes that fit into some of them.

use bytes::Bytes;
use flate2::{Crc, write::GzEncoder};
use homeostat_tests::telemetry::{Spans, now, text, traces};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::io::Write;
use std::time::Duration;

/// What a bomb inflates to.
pub const BOMB_BYTES: u64 = 10 << 30;

/// A good traces request of `count` spans.
pub fn good(count: usize) -> Bytes {
    let spans = Spans {
        count,
        req: String::new(),
        node: ("", ""),
        duration: Duration::from_millis(5),
        is_error: false,
    };
    traces(&spans, now())
}

/// A good traces request whose only span has these attributes.
pub fn with_attributes(attributes: impl IntoIterator<Item = (String, String)>) -> Bytes {
    let mut request = ExportTraceServiceRequest::decode(good(1)).expect("it is a request");
    let span = &mut request.resource_spans[0].scope_spans[0].spans[0];
    span.attributes.extend(attributes.into_iter().map(|(key, value)| text(&key, &value)));
    request.encode_to_vec().into()
}

/// The field `tag` that holds `bytes`.
pub fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![tag << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    out.push(length.to_le_bytes()[0]);
    out.extend_from_slice(bytes);
    out
}

/// A traces request whose only span has the attribute `key` with this encoded `AnyValue`.
pub fn with_value(value: &[u8]) -> Vec<u8> {
    let pair = [field(1, b"key"), field(2, value)].concat();
    [9, 2, 2, 1].iter().fold(pair, |message, tag| field(*tag, &message))
}

/// Lists in lists, `levels` deep: written from the outside in, because the inside is copied by nobody then.
pub fn deep_value(levels: usize) -> Vec<u8> {
    // The lengths from the inside out, then the bytes from the outside in: tag 5 (array), tag 1 (values).
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut length = 0;
    for _ in 0..levels {
        for tag in [1_u8, 5] {
            let mut head = vec![tag << 3 | 2];
            let mut rest: usize = length;
            while rest >= 0x80 {
                head.push(rest.to_le_bytes()[0] | 0x80);
                rest >>= 7;
            }
            head.push(rest.to_le_bytes()[0]);
            length += head.len();
            parts.push(head);
        }
    }
    parts.into_iter().rev().flatten().collect()
}

/// `count` bytes that are the same in every run.
pub fn random(seed: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// A JSON traces request whose only span has `attributes`, which is JSON itself.
pub fn json(attributes: &str) -> Vec<u8> {
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","name":"work","attributes":[{attributes}]}}]}}]}}]}}"#
    )
    .into_bytes()
}

/// A JSON attribute with this JSON value.
pub fn json_attribute(value: &str) -> String {
    format!(r#"{{"key":"key","value":{value}}}"#)
}

/// gzip of [`BOMB_BYTES`] zeros: one piece of a mebibyte that ends on a byte, as often as it takes. `size` is what the trailer
/// says of it; the truth where there is none.
pub fn gzip_bomb(size: Option<u32>) -> Bytes {
    const PIECE: usize = 1 << 20;
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
    let flushed = |encoder: &mut GzEncoder<Vec<u8>>| {
        encoder.write_all(&[0; PIECE]).and_then(|()| encoder.flush()).expect("memory takes everything");
        encoder.get_ref().len()
    };
    let (first, second) = (flushed(&mut encoder), flushed(&mut encoder));
    let made = encoder.get_ref().clone();
    let mut bomb = made[..first].to_vec();
    let pieces = usize::try_from(BOMB_BYTES).expect("64 bits") / PIECE;
    for _ in 1..pieces {
        bomb.extend_from_slice(&made[first..second]);
    }
    // An empty last block, then the checksum of so many zeros, and their number modulo 2^32.
    bomb.extend_from_slice(&[3, 0]);
    bomb.extend_from_slice(&zeros_crc(BOMB_BYTES).to_le_bytes());
    let truth = u32::try_from(BOMB_BYTES & 0xffff_ffff).expect("it was cut to 32 bits");
    bomb.extend_from_slice(&size.unwrap_or(truth).to_le_bytes());
    bomb.into()
}

/// The checksum of `count` zeros, a power of two times five, without making them.
fn zeros_crc(count: u64) -> u32 {
    let mut crc = Crc::new();
    crc.update(&[0; 5]);
    let mut have = 5_u64;
    while have < count {
        let same = {
            let mut copy = Crc::new();
            copy.combine(&crc);
            copy
        };
        crc.combine(&same);
        have *= 2;
    }
    assert_eq!(have, count);
    crc.sum()
}

/// zstd of [`BOMB_BYTES`] zeros (RFC 8878): blocks that say "128 KiB of this byte". With or without the size in its head.
pub fn zstd_bomb(says_size: bool) -> Bytes {
    const BLOCK: u64 = 128 * 1024;
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd];
    if says_size {
        // A content size of eight bytes, then the window.
        bomb.extend_from_slice(&[0xc0, 0x58]);
        bomb.extend_from_slice(&BOMB_BYTES.to_le_bytes());
    } else {
        bomb.extend_from_slice(&[0x00, 0x58]);
    }
    let blocks = BOMB_BYTES / BLOCK;
    for number in 1..=blocks {
        let head = (BLOCK << 3) | 1 << 1 | u64::from(number == blocks);
        bomb.extend_from_slice(&head.to_le_bytes()[..3]);
        bomb.push(0);
    }
    bomb.into()
}

/// zstd frames of a mebibyte each, ten gibibytes of them: no frame says what comes of them all.
pub fn zstd_frames_bomb() -> Bytes {
    let frame = zstd::bulk::compress(&[0; 1 << 20], 1).expect("memory takes everything");
    let frames = usize::try_from(BOMB_BYTES >> 20).expect("64 bits");
    frame.repeat(frames).into()
}

#[test]
fn the_bombs_are_what_they_say() {
    use std::io::Read;
    const LOOK: u64 = 8 << 20;
    let readers: [Box<dyn Read>; 3] = [
        Box::new(flate2::read::GzDecoder::new(&*Vec::leak(gzip_bomb(None).to_vec()))),
        Box::new(zstd::Decoder::new(&*Vec::leak(zstd_bomb(true).to_vec())).expect("it is zstd")),
        Box::new(zstd::Decoder::new(&*Vec::leak(zstd_bomb(false).to_vec())).expect("it is zstd")),
    ];
    for reader in readers {
        let mut zeros = Vec::new();
        reader.take(LOOK).read_to_end(&mut zeros).expect("it is what it says");
        assert!(zeros.len() as u64 == LOOK && zeros.iter().all(|byte| *byte == 0));
    }
    let mut crc = Crc::new();
    crc.update(&[0; 640]);
    assert_eq!(zeros_crc(640), crc.sum());
}
