//! What goes to the backend: a request as it came or was kept, and the message that is made of it for the peer. The body is
//! inflated only where somebody must look into it.
//!
//! Compressing costs 1 to 5 µs per span, more than everything else together; so nothing is compressed that has the wanted
//! encoding already.

use std::cell::RefCell;
use std::io::Read as _;
use std::sync::OnceLock;

use bytes::Bytes;
use homeostat_pipeline::batch::{Compression, Content, Frame, Signal, Telemetry};
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use zstd::bulk;

/// Two thirds of the time of gzip's default level, for some percent more bytes.
const GZIP_LEVEL: i32 = 4;
const ZSTD_LEVEL: i32 = 1;

thread_local! {
    static GUNZIP: RefCell<Decompressor> = RefCell::new(Decompressor::new());
    static GZIP: RefCell<Compressor> =
        RefCell::new(Compressor::new(CompressionLvl::new(GZIP_LEVEL).unwrap_or_default()));
    static ZSTD: RefCell<Option<bulk::Compressor<'static>>> =
        RefCell::new(bulk::Compressor::new(ZSTD_LEVEL).ok());
}

/// One request to send.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Which of the three requests it is.
    pub signal: Signal,
    /// As it came.
    pub frame: Frame,
    /// Spans, data points or log records in it.
    pub records: u64,
    /// Bytes of the inflated protobuf message.
    pub body_bytes: usize,
    body: OnceLock<Bytes>,
}

impl Parcel {
    /// A request as it comes along.
    pub fn new(telemetry: &Telemetry) -> Parcel {
        let body = OnceLock::from(telemetry.body.clone());
        let (signal, frame, records) = (telemetry.signal, telemetry.frame.clone(), telemetry.records);
        Parcel { signal, frame, records, body_bytes: telemetry.body.len(), body }
    }

    /// A request whose inflated protobuf message is `body`, in a frame of its own.
    pub fn plain(signal: Signal, body: Bytes, records: u64) -> Parcel {
        let frame = Frame { content: Content::Protobuf, compression: Compression::None, bytes: body.clone() };
        Parcel { signal, frame, records, body_bytes: body.len(), body: OnceLock::from(body) }
    }

    /// A request whose message is not inflated yet, unless `body` is given, as it must be where the frame is no protobuf.
    pub fn kept(
        signal: Signal,
        frame: Frame,
        records: u64,
        body_bytes: usize,
        body: Option<Bytes>,
    ) -> Parcel {
        let body = body.map_or_else(OnceLock::new, OnceLock::from);
        Parcel { signal, frame, records, body_bytes, body }
    }

    /// The inflated protobuf message.
    ///
    /// # Errors
    /// The frame is not what it says it is.
    pub fn body(&self) -> Result<Bytes, String> {
        if let Some(body) = self.body.get() {
            return Ok(body.clone());
        }
        let body = match self.frame.content {
            Content::Protobuf => inflate(&self.frame, self.body_bytes)?,
            Content::Json => return Err("a request in JSON was kept without its message".to_owned()),
        };
        Ok(self.body.get_or_init(|| body).clone())
    }

    /// The message with `wanted` and in JSON only where `takes_json`: the frame's own bytes where they are just that.
    ///
    /// # Errors
    /// As [`Parcel::body`].
    pub fn message(&self, wanted: Compression, takes_json: bool) -> Result<(Content, Bytes), String> {
        let Frame { content, compression, bytes } = &self.frame;
        let is_spoken = *content == Content::Protobuf || takes_json;
        if is_spoken && *compression == wanted {
            return Ok((*content, bytes.clone()));
        }
        if is_spoken && *compression == Compression::None {
            return Ok((*content, compress(bytes, wanted)?));
        }
        Ok((Content::Protobuf, compress(&self.body()?, wanted)?))
    }
}

fn inflate(frame: &Frame, bytes: usize) -> Result<Bytes, String> {
    let wire = &frame.bytes;
    let broken = || format!("a kept frame is no valid {} any more", frame.compression.token());
    let body: Bytes = match frame.compression {
        Compression::None => wire.clone(),
        Compression::Gzip => {
            let mut out = vec![0; bytes];
            let written = GUNZIP.with_borrow_mut(|gunzip| gunzip.gzip_decompress(wire, &mut out));
            if written.is_ok_and(|written| written == bytes) {
                out.into()
            } else {
                // Several members, which libdeflate does not take.
                let mut out = Vec::with_capacity(bytes);
                let decoder = flate2::read::MultiGzDecoder::new(&wire[..]);
                decoder.take(bytes as u64 + 1).read_to_end(&mut out).map_err(|_| broken())?;
                out.into()
            }
        }
        Compression::Zstd => bulk::decompress(wire, bytes).map_err(|_| broken())?.into(),
    };
    if body.len() == bytes { Ok(body) } else { Err(broken()) }
}

fn compress(message: &Bytes, wanted: Compression) -> Result<Bytes, String> {
    let cannot = |error: String| format!("the request cannot be compressed: {error}");
    match wanted {
        Compression::None => Ok(message.clone()),
        Compression::Gzip => GZIP.with_borrow_mut(|gzip| {
            let mut out = vec![0; gzip.gzip_compress_bound(message.len())];
            let written = gzip.gzip_compress(message, &mut out).map_err(|error| cannot(error.to_string()))?;
            out.truncate(written);
            Ok(out.into())
        }),
        Compression::Zstd => ZSTD.with_borrow_mut(|zstd| {
            let zstd = zstd.as_mut().ok_or_else(|| cannot("there is no memory for zstd".to_owned()))?;
            zstd.compress(message).map(Bytes::from).map_err(|error| cannot(error.to_string()))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

    fn body() -> Bytes {
        Bytes::from((0..50_000_u32).map(|at| ((at * at) >> 3).to_le_bytes()[0]).collect::<Vec<_>>())
    }

    fn kept(compression: Compression) -> Parcel {
        let bytes = compress(&body(), compression).unwrap();
        let frame = Frame { content: Content::Protobuf, compression, bytes };
        Parcel::kept(Signal::Logs, frame, 1, body().len(), None)
    }

    #[test]
    fn a_message_has_the_wanted_encoding_and_is_the_frame_where_that_has_it() {
        for came in ALL {
            for wanted in ALL {
                let parcel = kept(came);
                let (content, bytes) = parcel.message(wanted, true).unwrap();
                assert_eq!(content, Content::Protobuf);
                assert_eq!(
                    bytes.as_ptr() == parcel.frame.bytes.as_ptr(),
                    came == wanted,
                    "{came:?} {wanted:?}"
                );
                let frame = Frame { content, compression: wanted, bytes };
                assert_eq!(inflate(&frame, body().len()).unwrap(), body(), "{came:?} {wanted:?}");
            }
        }
    }

    #[test]
    fn several_members_of_gzip_are_one_body() {
        let half = body().slice(..25_000);
        let member = compress(&half, Compression::Gzip).unwrap();
        let frame = Frame {
            content: Content::Protobuf,
            compression: Compression::Gzip,
            bytes: [&member[..], &member[..]].concat().into(),
        };
        assert_eq!(inflate(&frame, 50_000).unwrap(), [&half[..], &half[..]].concat());
        assert!(inflate(&frame, 49_999).is_err() && inflate(&frame, 50_001).is_err());
    }

    #[test]
    fn json_stays_json_where_it_is_spoken() {
        let json = |compression| {
            let bytes = compress(&Bytes::from_static(b"{}"), compression).unwrap();
            let frame = Frame { content: Content::Json, compression, bytes };
            Parcel::kept(Signal::Logs, frame, 1, 3, Some(Bytes::from_static(b"pb!")))
        };
        for (came, wanted, takes_json, expected) in [
            (Compression::Gzip, Compression::Gzip, true, Content::Json),
            (Compression::None, Compression::Gzip, true, Content::Json),
            (Compression::Gzip, Compression::None, true, Content::Protobuf),
            (Compression::None, Compression::None, false, Content::Protobuf),
        ] {
            let (content, bytes) = json(came).message(wanted, takes_json).unwrap();
            assert_eq!(content, expected, "{came:?} {wanted:?} {takes_json}");
            let plain = if content == Content::Json { &b"{}"[..] } else { b"pb!" };
            let frame = Frame { content, compression: wanted, bytes };
            assert_eq!(inflate(&frame, plain.len()).unwrap(), plain);
        }
    }
}
