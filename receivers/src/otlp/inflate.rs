//! From the bytes on the wire to the message, once, under an absolute cap. A bomb costs at most the cap, for as long as its
//! request lives, and every byte of it is charged before it is allocated.
//!
//! gzip (RFC 1952) goes through libdeflate, which is twice as fast as any streaming decoder but inflates one member into a
//! buffer whose size must be known: the last four bytes say it. What may be several members, or says its size wrongly, goes
//! through a streaming decoder. zstd (RFC 8878) goes in one piece too, so that no window is allocated; where the frame does not
//! say its size, the size is guessed and the guess grows.

use std::cell::RefCell;
use std::io::Read;

use bytes::Bytes;
use homeostat_pipeline::batch::Compression;
use homeostat_pipeline::refusal::{Cause, Refusal};
use libdeflater::{DecompressionError, Decompressor};
use memchr::memmem;
use zstd::zstd_safe::{self, DCtx};

use super::account::Account;

const CHUNK_BYTES: usize = 64 * 1024;
/// Header and trailer of a gzip member, without any content.
const GZIP_BYTES_MIN: usize = 18;
/// Deflate cannot do better than this (258 bytes for two bits).
const DEFLATE_RATIO_MAX: usize = 1032;
/// What a gzip member begins with: magic and the only method there is.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b, 0x08];

thread_local! {
    static GZIP: RefCell<Decompressor> = RefCell::new(Decompressor::new());
    static ZSTD: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// The message in `wire`: the same bytes where they are plain.
///
/// # Errors
/// Malformed, larger than `cap` bytes once inflated, or over the memory budget.
pub fn inflate(
    compression: Compression,
    wire: &Bytes,
    cap: usize,
    account: &mut Account,
) -> Result<Bytes, Refusal> {
    if wire.is_empty() {
        return Ok(Bytes::new());
    }
    match compression {
        Compression::None => Ok(wire.clone()),
        Compression::Gzip => gunzip(wire, cap, account),
        Compression::Zstd => unzstd(wire, cap, account),
    }
}

/// The refusal of what is larger than `cap` bytes.
pub fn too_large(cap: usize) -> Refusal {
    Refusal::rejected(Cause::TooLarge, format!("the message is larger than the limit of {cap} bytes"))
}

fn no_gzip() -> Refusal {
    Refusal::malformed("the body is no valid gzip")
}

fn gunzip(wire: &[u8], cap: usize, account: &mut Account) -> Result<Bytes, Refusal> {
    let Some((_, size)) = wire.split_last_chunk::<4>() else { return Err(no_gzip()) };
    let size = u32::from_le_bytes(*size) as usize;
    if wire.len() < GZIP_BYTES_MIN || !wire.starts_with(GZIP_MAGIC) || size / DEFLATE_RATIO_MAX > wire.len() {
        return Err(no_gzip());
    }
    // The size of the last member: the whole cannot be smaller.
    if size > cap {
        return Err(too_large(cap));
    }
    // libdeflate stops at the end of the first member and does not say where that was.
    if memmem::find(&wire[GZIP_MAGIC.len()..], GZIP_MAGIC).is_some() {
        return gunzip_members(wire, cap, account);
    }
    account.cover(wire.len() + size)?;
    let mut out = vec![0; size];
    match GZIP.with_borrow_mut(|decompressor| decompressor.gzip_decompress(wire, &mut out)) {
        Ok(written) if written == size && ends_with_checksum(wire, &out) => Ok(out.into()),
        Ok(_) | Err(DecompressionError::InsufficientSpace) => {
            drop(out);
            gunzip_members(wire, cap, account)
        }
        Err(DecompressionError::BadData) => Err(no_gzip()),
    }
}

/// Whether the trailer at the end of `wire` is that of `content`. libdeflate compares it with the one behind the first member,
/// wherever that ends: with damage behind it, what it inflated would not be all. Junk that repeats the trailer passes; nobody
/// writes it, and it holds nothing.
fn ends_with_checksum(wire: &[u8], content: &[u8]) -> bool {
    wire.last_chunk::<8>().is_some_and(|trailer| trailer[..4] == libdeflater::crc32(content).to_le_bytes())
}

/// The slow way, which takes any number of members of any size.
fn gunzip_members(wire: &[u8], cap: usize, account: &mut Account) -> Result<Bytes, Refusal> {
    account.cover(wire.len() + CHUNK_BYTES)?;
    let mut decoder = flate2::read::MultiGzDecoder::new(wire);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut out = Vec::new();
    loop {
        let read = decoder.read(&mut chunk).map_err(|_| no_gzip())?;
        if read == 0 {
            return Ok(out.into());
        }
        let needed = out.len() + read;
        if needed > cap {
            return Err(too_large(cap));
        }
        if needed > out.capacity() {
            let capacity = (out.capacity() * 2).clamp(needed, cap);
            account.cover(wire.len() + CHUNK_BYTES + capacity)?;
            out.reserve_exact(capacity - out.len());
        }
        out.extend_from_slice(&chunk[..read]);
    }
}

fn unzstd(wire: &[u8], cap: usize, account: &mut Account) -> Result<Bytes, Refusal> {
    let no_zstd = || Refusal::malformed("the body is no valid zstd");
    let mut capacity = match zstd_safe::get_frame_content_size(wire) {
        Err(_) => return Err(no_zstd()),
        Ok(Some(size)) => {
            usize::try_from(size).ok().filter(|size| *size <= cap).ok_or_else(|| too_large(cap))?
        }
        Ok(None) => wire.len().saturating_mul(8).max(CHUNK_BYTES).min(cap),
    };
    loop {
        account.cover(wire.len() + capacity)?;
        let mut out = Vec::with_capacity(capacity);
        match ZSTD.with_borrow_mut(|context| context.decompress(&mut out, wire)) {
            Ok(_) => return Ok(out.into()),
            // The name of ZSTD_error_dstSize_tooSmall; the safe binding has no constant for it, a test holds us to it.
            Err(code) if zstd_safe::get_error_name(code) != "Destination buffer is too small" => {
                return Err(no_zstd());
            }
            Err(_) if capacity >= cap => return Err(too_large(cap)),
            Err(_) => capacity = capacity.saturating_mul(4).clamp(CHUNK_BYTES.min(cap), cap),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::super::account::tests::roomy;
    use super::*;

    const CAP: usize = 1 << 20;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    /// A frame that does not say its size.
    fn zstd_stream(content: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn run(compression: Compression, wire: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        inflate(compression, &wire.into(), CAP, &mut roomy()).map(Vec::from)
    }

    fn cause(result: Result<Vec<u8>, Refusal>) -> Option<Cause> {
        match result {
            Err(Refusal::Rejected { cause, .. }) => Some(cause),
            Ok(_) | Err(Refusal::Unavailable { .. }) => None,
        }
    }

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| ((at * at) >> 3).to_le_bytes()[0]).collect()
    }

    #[test]
    fn what_was_compressed_comes_back() {
        for size in [1, 17, 1_000, 100_000, CAP] {
            let content = content(size);
            assert_eq!(run(Compression::Gzip, gzip(&content)).as_ref(), Ok(&content), "gzip {size}");
            let whole = zstd::bulk::compress(&content, 1).unwrap();
            assert_eq!(run(Compression::Zstd, whole).as_ref(), Ok(&content), "zstd {size}");
            assert_eq!(
                run(Compression::Zstd, zstd_stream(&content)).as_ref(),
                Ok(&content),
                "zstd stream {size}"
            );
            assert_eq!(run(Compression::None, content.clone()), Ok(content), "plain {size}");
        }
    }

    #[test]
    fn plain_bytes_are_the_same_bytes() {
        let wire = Bytes::from(content(100));
        let body = inflate(Compression::None, &wire, CAP, &mut roomy()).unwrap();
        assert_eq!(body.as_ptr(), wire.as_ptr());
    }

    #[test]
    fn several_members_and_several_frames_are_all_read() {
        // The same member twice has the trailer that one of them alone would have.
        let one = content(5_000);
        let twice = [one.clone(), one.clone()].concat();
        assert_eq!(run(Compression::Gzip, [gzip(&one), gzip(&one)].concat()).as_ref(), Ok(&twice));
        let frames = [zstd::bulk::compress(&one, 1).unwrap(), zstd_stream(&one)].concat();
        assert_eq!(run(Compression::Zstd, frames), Ok(twice));
        assert_eq!(run(Compression::Gzip, [gzip(&one), gzip(b"")].concat()), Ok(one));
    }

    #[test]
    fn a_bomb_is_refused_at_the_cap_and_charged_no_more_than_that() {
        let zeros = vec![0; 200 << 20];
        for (compression, wire) in [
            (Compression::Gzip, gzip(&zeros)),
            (Compression::Gzip, [gzip(&zeros), gzip(b"x")].concat()),
            (Compression::Zstd, zstd::bulk::compress(&zeros, 1).unwrap()),
            (Compression::Zstd, zstd_stream(&zeros)),
        ] {
            let mut account = roomy();
            let wire = Bytes::from(wire);
            let refusal = inflate(compression, &wire, CAP, &mut account).unwrap_err();
            assert_eq!(refusal, too_large(CAP));
            assert!(account.held_bytes() <= wire.len() + CAP + 2 * CHUNK_BYTES, "{}", account.held_bytes());
        }
    }

    #[test]
    fn one_byte_over_the_cap_is_too_large_and_the_cap_itself_is_not() {
        let over = content(CAP + 1);
        for (compression, wire) in [
            (Compression::Gzip, gzip(&over)),
            (Compression::Zstd, zstd_stream(&over)),
            (Compression::Zstd, zstd::bulk::compress(&over, 1).unwrap()),
        ] {
            assert_eq!(cause(run(compression, wire)), Some(Cause::TooLarge));
        }
    }

    #[test]
    fn damage_is_malformed() {
        let whole = gzip(&content(5_000));
        let mut flipped = whole.clone();
        flipped[100] ^= 0x55;
        let mut longer = whole.clone();
        longer.extend_from_slice(b"and something else");
        for wire in [
            whole[..whole.len() - 9].to_vec(),
            flipped,
            longer,
            b"no gzip at all, but long enough".to_vec(),
            vec![0x1f],
        ] {
            assert_eq!(cause(run(Compression::Gzip, wire)), Some(Cause::Malformed));
        }
        // A second member that is none, of the size of the first.
        let mut second = gzip(b"two");
        second[1] ^= 0x5c;
        assert_eq!(cause(run(Compression::Gzip, [gzip(b"one"), second].concat())), Some(Cause::Malformed));
        let whole = zstd::bulk::compress(&content(5_000), 1).unwrap();
        for wire in [whole[..whole.len() - 9].to_vec(), b"no zstd".to_vec(), whole[..3].to_vec()] {
            assert_eq!(cause(run(Compression::Zstd, wire)), Some(Cause::Malformed));
        }
    }

    #[test]
    fn an_exhausted_budget_refuses_before_anything_is_allocated() {
        let budget = homeostat_pipeline::budget::Budget::new(8 << 20);
        let mut other = Account::new(budget.clone(), std::net::Ipv4Addr::LOCALHOST.into());
        assert_eq!(other.cover(3 << 19), Ok(()));
        let mut account = Account::new(budget, std::net::Ipv4Addr::LOCALHOST.into());
        let refusal = inflate(Compression::Gzip, &gzip(&vec![0; CAP]).into(), CAP, &mut account).unwrap_err();
        assert!(refusal.is_retryable(), "{refusal}");
        assert_eq!(account.held_bytes(), 0);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_never_exceed_the_cap(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            head in 0..3_usize,
            cap in 1..300_usize,
        ) {
            let magic: &[u8] = [&b""[..], GZIP_MAGIC, &[0x28, 0xb5, 0x2f, 0xfd]][head];
            let wire = Bytes::from([magic, &bytes].concat());
            for compression in [Compression::Gzip, Compression::Zstd] {
                if let Ok(body) = inflate(compression, &wire, cap, &mut roomy()) {
                    prop_assert!(body.len() <= cap);
                }
            }
        }

        #[test]
        fn a_flipped_bit_is_found_or_harmless(content in proptest::collection::vec(any::<u8>(), 1..300), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut wire = gzip(&content);
            let at = at.index(wire.len());
            wire[at] ^= 1_u8 << bit;
            if let Ok(body) = run(Compression::Gzip, wire) {
                prop_assert_eq!(body, content);
            }
        }
    }
}
