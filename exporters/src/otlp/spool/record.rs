//! One request as the spool keeps it: a head of 56 bytes, the frame as it came, and, where that is JSON, the protobuf message
//! behind it, because only receivers read JSON.
//!
//! ```text
//! version 1, signal, content, compression; 4 bytes of zero
//! u64 when it was accepted, in nanoseconds since 1970      u64 records
//! u64 records and u64 bytes of all requests up to this one, so that what waits is known without reading it
//! u64 bytes of the frame                                   u64 bytes of the inflated protobuf message
//! ```

use bytes::Bytes;
use homeostat_pipeline::batch::{Compression, Content, Frame, Signal, Telemetry};
use homeostat_pipeline::clock::Timestamp;

use super::super::parcel::Parcel;
use super::room::Size;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 56;

/// One request that waits.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it was accepted.
    pub time: Timestamp,
    /// What is sent.
    pub parcel: Parcel,
    /// What it takes of the queue.
    pub size: Size,
    /// All requests up to and with this one, since the spool began.
    pub total: Size,
}

/// What a request will take of the queue.
pub fn size(telemetry: &Telemetry) -> Size {
    let bytes = HEAD_BYTES + telemetry.frame.bytes.len() + extra(telemetry).len();
    Size { requests: 1, items: telemetry.records, bytes: bytes as u64 }
}

/// What is kept behind the frame.
pub fn extra(telemetry: &Telemetry) -> Bytes {
    match telemetry.frame.content {
        Content::Protobuf => Bytes::new(),
        Content::Json => telemetry.body.clone(),
    }
}

/// The head of a request; `total` counts it already.
pub fn head(telemetry: &Telemetry, time: Timestamp, total: Size) -> [u8; HEAD_BYTES] {
    let signal = match telemetry.signal {
        Signal::Traces => 0,
        Signal::Metrics => 1,
        Signal::Logs => 2,
    };
    let content = match telemetry.frame.content {
        Content::Protobuf => 0,
        Content::Json => 1,
    };
    let compression = match telemetry.frame.compression {
        Compression::None => 0,
        Compression::Gzip => 1,
        Compression::Zstd => 2,
    };
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&[VERSION, signal, content, compression]);
    let numbers = [
        time.as_nanos().cast_unsigned(),
        telemetry.records,
        total.items,
        total.bytes,
        telemetry.frame.bytes.len() as u64,
        telemetry.body.len() as u64,
    ];
    for (place, number) in head[8..].chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    head
}

/// Reads the frame `index` of the log; none when it is of another version.
pub fn read(index: u64, bytes: &Bytes) -> Option<Record> {
    let (head, _) = bytes.split_at_checked(HEAD_BYTES)?;
    let signal = match head[1] {
        0 => Signal::Traces,
        1 => Signal::Metrics,
        2 => Signal::Logs,
        _ => return None,
    };
    let content = match head[2] {
        0 => Content::Protobuf,
        1 => Content::Json,
        _ => return None,
    };
    let compression = match head[3] {
        0 => Compression::None,
        1 => Compression::Gzip,
        2 => Compression::Zstd,
        _ => return None,
    };
    if head[0] != VERSION {
        return None;
    }
    let mut numbers = head[8..].as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number));
    let mut number = || numbers.next();
    let time = Timestamp::from_nanos(number()?.cast_signed());
    let (records, items_total, bytes_total) = (number()?, number()?, number()?);
    let (frame_bytes, body_bytes) = (usize::try_from(number()?).ok()?, usize::try_from(number()?).ok()?);
    let end = HEAD_BYTES.checked_add(frame_bytes).filter(|end| *end <= bytes.len())?;
    let frame = Frame { content, compression, bytes: bytes.slice(HEAD_BYTES..end) };
    let body = (content == Content::Json).then(|| bytes.slice(end..));
    Some(Record {
        time,
        parcel: Parcel::kept(signal, frame, records, body_bytes, body),
        size: Size { requests: 1, items: records, bytes: bytes.len() as u64 },
        total: Size { requests: index + 1, items: items_total, bytes: bytes_total },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_back_as_it_was_kept() {
        for signal in Signal::ALL {
            for content in [Content::Protobuf, Content::Json] {
                for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                    let frame = Frame { content, compression, bytes: Bytes::from_static(b"as it came") };
                    let body = match (content, compression) {
                        (Content::Protobuf, Compression::None) => frame.bytes.clone(),
                        _ => Bytes::from_static(b"the body"),
                    };
                    let telemetry = Telemetry { signal, frame, body, records: 3 };
                    let total = Size { requests: 8, items: 300, bytes: 4_000 };
                    let time = Timestamp::from_millis(5);
                    let whole =
                        [&head(&telemetry, time, total)[..], &telemetry.frame.bytes, &extra(&telemetry)]
                            .concat();
                    let record = read(7, &Bytes::from(whole)).unwrap();
                    assert_eq!((record.time, record.total, record.size), (time, total, size(&telemetry)));
                    let Parcel { signal: its, frame, records, body_bytes, .. } = &record.parcel;
                    assert_eq!((*its, frame, *records), (signal, &telemetry.frame, 3));
                    assert_eq!(*body_bytes, telemetry.body.len());
                    if content == Content::Json || compression == Compression::None {
                        assert_eq!(record.parcel.body(), Ok(telemetry.body));
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_record_is_none() {
        let telemetry = Parcel::plain(Signal::Logs, Bytes::from_static(b"x"), 1);
        let telemetry = Telemetry {
            signal: Signal::Logs,
            body: telemetry.frame.bytes.clone(),
            frame: telemetry.frame,
            records: 1,
        };
        let head = head(&telemetry, Timestamp::ZERO, Size::default());
        assert!(read(0, &Bytes::copy_from_slice(&head)).is_none(), "its frame is missing");
        assert!(read(0, &Bytes::copy_from_slice(&head[..20])).is_none());
        let mut other = [&head[..], b"x"].concat();
        assert!(read(0, &Bytes::from(other.clone())).is_some());
        other[0] = 9;
        assert!(read(0, &Bytes::from(other)).is_none(), "another version");
    }
}
