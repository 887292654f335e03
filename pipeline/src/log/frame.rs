//! The bytes of a frame: magic, length, index, CRC32C (little-endian), payload.

use std::io;

/// The largest payload: 256 MiB, far beyond what the memory budget lets one group commit hold.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 20;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 20;

/// Begins each frame. Its first byte occurs in no UTF-8 text.
pub(super) const MAGIC: [u8; 4] = [0xf5, b'h', b'f', b'r'];

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub payload_bytes: usize,
    pub index: u64,
    crc: u32,
}

impl Header {
    /// Reads the first [`HEADER_BYTES`] of `bytes`; none when they are no header.
    pub fn read(bytes: &[u8]) -> Option<Header> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (index, rest) = rest.split_first_chunk::<8>()?;
        let (crc, _) = rest.split_first_chunk::<4>()?;
        let payload_bytes = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        (*magic == MAGIC && payload_bytes <= PAYLOAD_BYTES_MAX).then_some(Header {
            payload_bytes,
            index: u64::from_le_bytes(*index),
            crc: u32::from_le_bytes(*crc),
        })
    }

    /// Whether `payload` is the one that was written with it.
    pub fn fits(&self, payload: &[u8]) -> bool {
        u32::try_from(payload.len()).is_ok_and(|length| crc(length, self.index, &[payload]) == self.crc)
    }
}

fn crc(length: u32, index: u64, parts: &[&[u8]]) -> u32 {
    let start = crc32c::crc32c_append(crc32c::crc32c(&length.to_le_bytes()), &index.to_le_bytes());
    parts.iter().fold(start, |crc, part| crc32c::crc32c_append(crc, part))
}

/// Appends the frame of `parts` to `out`.
///
/// # Errors
/// The parts are larger than [`PAYLOAD_BYTES_MAX`] together.
pub(super) fn write(out: &mut Vec<u8>, index: u64, parts: &[&[u8]]) -> io::Result<()> {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= PAYLOAD_BYTES_MAX).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a log entry of {bytes} bytes is larger than the limit of {PAYLOAD_BYTES_MAX}"),
        )
    })?;
    out.reserve(HEADER_BYTES + bytes);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&index.to_le_bytes());
    out.extend_from_slice(&crc(length, index, parts).to_le_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    Ok(())
}
