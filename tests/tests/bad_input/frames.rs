//! HTTP/2 frame by frame (RFC 9113), so that a test can send what no library would.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::ask::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
/// On HEADERS and DATA.
pub const END_STREAM: u8 = 1;
/// On HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;
/// GOAWAY's reason for floods.
pub const ENHANCE_YOUR_CALM: u32 = 11;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its stream.
    pub stream: u32,
    /// What it holds.
    pub payload: Vec<u8>,
}

/// A frame as it goes onto the wire.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("frames are small");
    let mut out = length.to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A header in HPACK (RFC 7541), as it is and not remembered.
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let mut out = Vec::new();
        let mut length = text.len();
        if length < 127 {
            out.push(length.to_le_bytes()[0]);
        } else {
            out.push(127);
            length -= 127;
            while length >= 128 {
                out.push(length.to_le_bytes()[0] | 128);
                length >>= 7;
            }
            out.push(length.to_le_bytes()[0]);
        }
        out.extend_from_slice(text.as_bytes());
        out
    };
    [vec![0], text(name), text(value)].concat()
}

/// The head of an export call.
pub fn call_head() -> Vec<u8> {
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", homeostat_tests::client::TRACES.0),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    headers.into_iter().flat_map(|(name, value)| literal(name, value)).collect()
}

/// A connection; its reader sees every frame.
pub struct Wire {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
}

impl Wire {
    /// Connects, says the preface and empty settings.
    pub async fn open(to: SocketAddr) -> Wire {
        let (reader, writer) = TcpStream::connect(to).await.expect("it listens").into_split();
        let mut wire = Wire { reader, writer };
        wire.write(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        wire
    }

    /// Writes; whether the peer still takes it.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        self.writer.write_all(bytes).await.is_ok()
    }

    /// The next frame; none when the connection is over.
    pub async fn read(&mut self) -> Option<Frame> {
        next(&mut self.reader).await
    }

    /// Writes `times` pieces while reading what comes, or fewer when the peer hangs up; then says goodbye and reads to the
    /// end. Says how many were written and all that came.
    pub async fn flood(self, times: usize, mut piece: impl FnMut(usize) -> Vec<u8>) -> (usize, Vec<Frame>) {
        let Wire { mut reader, mut writer } = self;
        let write = async {
            let mut written = 0;
            while written < times {
                // Many frames a write: it is a flood.
                let upto = (written + 64).min(times);
                let bytes: Vec<u8> = (written..upto).flat_map(&mut piece).collect();
                if writer.write_all(&bytes).await.is_err() {
                    break;
                }
                written = upto;
            }
            let _ = writer.shutdown().await;
            written
        };
        let read = async {
            let mut frames = Vec::new();
            while let Some(frame) = next(&mut reader).await {
                frames.push(frame);
            }
            frames
        };
        tokio::join!(write, read)
    }
}

async fn next(reader: &mut OwnedReadHalf) -> Option<Frame> {
    let read = async {
        let mut head = [0; 9];
        reader.read_exact(&mut head).await.ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        reader.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        Some(Frame { kind: head[3], stream, payload })
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the connection ends or says something")
}

/// The reasons of the GOAWAYs among `frames`.
pub fn goaways(frames: &[Frame]) -> Vec<u32> {
    let goaway = |frame: &Frame| {
        let code = frame.payload.get(4..8)?;
        Some(u32::from_be_bytes([code[0], code[1], code[2], code[3]]))
    };
    frames.iter().filter(|frame| frame.kind == GOAWAY).filter_map(goaway).collect()
}
