//! Protobuf, written front to back into one buffer that grows within its cap and its account.

use homeostat_pipeline::refusal::Refusal;
use serde::de::Error;

use super::super::account::Account;
use super::super::inflate::too_large;

/// Protobuf's wire types.
pub const VARINT: u64 = 0;
/// Eight bytes.
pub const FIXED64: u64 = 1;
/// A length and as many bytes.
pub const DELIMITED: u64 = 2;
/// Four bytes.
pub const FIXED32: u64 = 5;

const FIRST_BYTES: usize = 4 * 1024;
const VARINT_BYTES_MAX: usize = 10;

/// The message so far.
pub struct Sink<'a> {
    /// Its bytes.
    pub out: Vec<u8>,
    /// Why it cannot go on; the parser's own error only says that it cannot.
    pub refusal: Option<Refusal>,
    cap: usize,
    held_bytes: usize,
    account: &'a mut Account,
}

impl<'a> Sink<'a> {
    /// An empty message of at most `cap` bytes, beside `held_bytes` that the request holds.
    pub fn new(cap: usize, held_bytes: usize, account: &'a mut Account) -> Sink<'a> {
        Sink { out: Vec::new(), refusal: None, cap, held_bytes, account }
    }

    fn room<E: Error>(&mut self, more: usize) -> Result<(), E> {
        let needed = self.out.len() + more;
        if needed <= self.out.capacity() {
            return Ok(());
        }
        let capacity =
            (self.out.capacity() * 2).max(FIRST_BYTES).min(self.cap + VARINT_BYTES_MAX).max(needed);
        let refusal = if needed > self.cap + VARINT_BYTES_MAX {
            Some(too_large(self.cap))
        } else {
            // While the buffer moves, both are there.
            self.account.cover(self.held_bytes + self.out.capacity() + capacity).err()
        };
        if let Some(refusal) = refusal {
            self.refusal = Some(refusal);
            return Err(E::custom("there is no room"));
        }
        self.out.reserve_exact(capacity - self.out.len());
        Ok(())
    }

    /// A number as a varint.
    ///
    /// # Errors
    /// There is no room; so everywhere here.
    pub fn varint<E: Error>(&mut self, value: u64) -> Result<(), E> {
        self.room(VARINT_BYTES_MAX)?;
        let mut rest = value;
        while rest >= 0x80 {
            self.out.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.out.push(rest.to_le_bytes()[0]);
        Ok(())
    }

    /// Bytes as they are.
    ///
    /// # Errors
    /// As [`Sink::varint`].
    pub fn bytes<E: Error>(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.room(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Begins something whose length comes first and is not known yet; returns where.
    ///
    /// # Errors
    /// As [`Sink::varint`].
    pub fn open<E: Error>(&mut self) -> Result<usize, E> {
        self.room(1)?;
        self.out.push(0);
        Ok(self.out.len())
    }

    /// Ends what began at `start`: one byte was left for its length, and what follows is moved when it needs more.
    ///
    /// # Errors
    /// As [`Sink::varint`].
    pub fn close<E: Error>(&mut self, start: usize) -> Result<(), E> {
        let end = self.out.len();
        self.varint((end - start) as u64)?;
        let width = self.out.len() - end;
        self.out[start - 1] = self.out[end];
        // The length stands behind what it is the length of; all but its first byte goes before it.
        self.out[start..].rotate_right(width - 1);
        self.out.truncate(end + width - 1);
        Ok(())
    }
}
