//! What comes over the network: protobuf, JSON, compressed bytes, gRPC's frames, and the details of refusals.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::Read;
use std::net::Ipv4Addr;

use bytes::Bytes;
use futures::stream;
use homeostat_pipeline::batch::{Compression, Signal};
use homeostat_pipeline::budget::Budget;
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::extension;
use homeostat_pipeline::otlp::status::{Response, Status};
use homeostat_pipeline::otlp::walk;
use homeostat_pipeline::tracer::Parent;
use homeostat_receivers::otlp::account::Account;
use homeostat_receivers::otlp::body::{self, Framing, PREFIX_BYTES, Pace};
use homeostat_receivers::otlp::{inflate as inflating, json as transcoding};
use http_body::Frame;
use http_body_util::StreamBody;

use crate::{oracle, retry_after};

/// The largest message in here.
const CAP: usize = 1 << 16;

fn account() -> Account {
    Account::new(Budget::new(1 << 30), Ipv4Addr::LOCALHOST.into())
}

/// The first byte chooses, the rest is the body.
fn split(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(first, rest)| (*first, rest))
}

fn signal_of(choice: u8) -> Signal {
    Signal::ALL[usize::from(choice) % Signal::ALL.len()]
}

/// The walk accepts what prost decodes, and on that the views say what prost says.
pub fn otlp(data: &[u8]) {
    if let Some((choice, body)) = split(data) {
        oracle::check(signal_of(choice), body);
    }
}

/// What is transcoded is within the cap, well-formed, and empty or not as the JSON was; nesting is the only thing that the
/// walk may still refuse.
pub fn json(data: &[u8]) {
    let Some((choice, text)) = split(data) else { return };
    let signal = signal_of(choice);
    if let Ok(message) = transcoding::transcode(signal, text, CAP, 0, &mut account()) {
        assert!(message.len() <= CAP, "{} bytes came of a cap of {CAP}", message.len());
        if let Err(malformed) = walk(signal, &message) {
            assert!(malformed.to_string().contains("nest deeper"), "{malformed}: {message:x?}");
        }
        oracle::check(signal, &message);
    }
}

/// What is inflated is within the cap, and what a streaming decoder makes of the same bytes.
pub fn inflate(data: &[u8]) {
    let Some((choice, wire)) = split(data) else { return };
    let compression = if choice & 1 == 0 { Compression::Gzip } else { Compression::Zstd };
    let cap = if choice & 2 == 0 { CAP } else { 100 };
    let wire = Bytes::copy_from_slice(wire);
    let Ok(body) = inflating::inflate(compression, &wire, cap, &mut account()) else { return };
    assert!(body.len() <= cap, "{} bytes came of a cap of {cap}", body.len());
    if wire.is_empty() {
        return;
    }
    let mut expected = Vec::new();
    let read = match compression {
        Compression::Gzip => flate2::read::MultiGzDecoder::new(&wire[..]).read_to_end(&mut expected),
        Compression::Zstd | Compression::None => {
            zstd::Decoder::new(&wire[..]).and_then(|mut decoder| decoder.read_to_end(&mut expected))
        }
    };
    // A streaming decoder wants the window that the frame names; in one piece none is allocated.
    if read.as_ref().is_err_and(|error| error.to_string().contains("too much memory")) {
        return;
    }
    let is_same = read.is_ok() && body == expected;
    assert!(
        is_same || compression == Compression::Gzip && repeats_trailer(&wire, &body),
        "another decoder says {read:?}, {} bytes",
        expected.len()
    );
}

/// Behind the first member stands what is none, and ends with the first one's trailer: the only junk that is not found out, for
/// nobody writes it and it holds nothing.
fn repeats_trailer(wire: &[u8], body: &[u8]) -> bool {
    let mut first = Vec::new();
    let mut decoder = flate2::bufread::GzDecoder::new(wire);
    if decoder.read_to_end(&mut first).is_err() || first != body {
        return false;
    }
    let rest = decoder.into_inner();
    let member = &wire[..wire.len() - rest.len()];
    member.last_chunk::<8>() == wire.last_chunk::<8>()
}

thread_local! {
    static RUNTIME: RefCell<tokio::runtime::Runtime> = RefCell::new(
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime without threads"),
    );
}

/// However a body is cut into pieces, it is taken exactly when it is one message with its prefix.
pub fn grpc_frame(data: &[u8]) {
    let Some((step, body)) = split(data) else { return };
    let pieces: Vec<_> = body.chunks(usize::from(step).max(1)).map(Bytes::copy_from_slice).collect();
    let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    let mut source = StreamBody::new(stream::iter(frames));
    let read = RUNTIME.with_borrow(|runtime| {
        runtime.block_on(body::read(&mut source, Framing::Grpc, CAP, Pace::default(), &mut account()))
    });
    let length = body.get(1..PREFIX_BYTES).and_then(|length| <[u8; 4]>::try_from(length).ok());
    let length = length.map(|length| u32::from_be_bytes(length) as usize);
    let is_one = length.is_some_and(|length| length <= CAP && body.len() == PREFIX_BYTES + length);
    assert_eq!(read.is_ok(), is_one, "{read:?}");
    if let Ok(read) = read {
        assert_eq!(read, body);
    }
}

/// What is read is what it is written as again.
pub fn status(data: &[u8]) {
    if let Some(status) = Status::decode(data) {
        let again = Status::decode(&status.encode()).expect("our own bytes are read");
        assert_eq!((again.code, &again.message), (status.code, &status.message));
        assert_eq!(again.retry_after.is_some(), status.retry_after.is_some());
    }
    if let Some(response) = Response::decode(data) {
        let again = Response::decode(&response.encode()).expect("our own bytes are read");
        assert_eq!((again.rejected, &again.message), (response.rejected, &response.message));
    }
}

/// `traceparent`, `authorization` of the Basic scheme, and `Retry-After`: what is read of the first is what it is written as again.
pub fn headers(data: &[u8]) {
    if let Some(parent) = Parent::read(data) {
        assert_eq!(Parent::read(parent.write().as_bytes()), Some(parent));
        assert!(parent.trace_id != [0; 16] && parent.span_id != [0; 8]);
    }
    if let Some(pair) = extension::basic(data) {
        assert!(pair.len() < data.len(), "base64 is longer than what it stands for");
    }
    let now = Timestamp::from_millis(1_700_000_000_000);
    let _ = retry_after::read(data, now);
}
