//! The bytes of a checkpoint's values: variable-length integers, floats by their bits, length-prefixed text.

use anyhow::{Context, ensure};

/// Appends values.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Seven bits a byte, the lowest first.
    pub fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Zigzag, so that small negative numbers are short too.
    pub fn signed(&mut self, value: i64) {
        self.unsigned(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    /// Sixteen bytes, little endian.
    pub fn wide(&mut self, value: i128) {
        self.raw(&value.to_le_bytes());
    }

    /// Eight bytes, bit for bit.
    pub fn float(&mut self, value: f64) {
        self.raw(&value.to_bits().to_le_bytes());
    }

    /// Length and bytes.
    pub fn text(&mut self, text: &str) {
        self.unsigned(text.len() as u64);
        self.raw(text.as_bytes());
    }

    /// The bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes values in the order in which they were appended. Never panics: damage is an error.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `bytes` from their start.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    /// # Errors
    /// The bytes end, or the number has more than 64 bits.
    pub fn unsigned(&mut self) -> anyhow::Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().context("a value of the checkpoint ends too early")?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        anyhow::bail!("a number of the checkpoint has more than 64 bits")
    }

    /// # Errors
    /// As [`Reader::unsigned`].
    pub fn signed(&mut self) -> anyhow::Result<i64> {
        let value = self.unsigned()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// # Errors
    /// The bytes end.
    pub fn wide(&mut self) -> anyhow::Result<i128> {
        Ok(i128::from_le_bytes(self.array()?))
    }

    /// # Errors
    /// The bytes end.
    pub fn float(&mut self) -> anyhow::Result<f64> {
        Ok(f64::from_bits(u64::from_le_bytes(self.array()?)))
    }

    /// # Errors
    /// The bytes end, or are no UTF-8.
    pub fn text(&mut self) -> anyhow::Result<&'a str> {
        let length = self.length(self.0.len())?;
        Ok(std::str::from_utf8(self.raw(length)?)?)
    }

    /// A length that must not be more than `max`.
    ///
    /// # Errors
    /// It is, or the bytes end.
    pub fn length(&mut self, max: usize) -> anyhow::Result<usize> {
        let length = usize::try_from(self.unsigned()?)?;
        ensure!(length <= max, "a length of the checkpoint is {length}, at most {max} was expected");
        Ok(length)
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn raw(&mut self, length: usize) -> anyhow::Result<&'a [u8]> {
        let (bytes, rest) =
            self.0.split_at_checked(length).context("a value of the checkpoint ends too early")?;
        self.0 = rest;
        Ok(bytes)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn array<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        Ok(self.raw(N)?.try_into()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_damage_is_an_error() {
        let mut out = Writer::default();
        out.unsigned(u64::MAX);
        out.signed(i64::MIN);
        out.signed(-1);
        out.wide(-(1_i128 << 100));
        out.float(-0.0);
        out.text("größe");
        let bytes = out.finish();
        let mut input = Reader::new(&bytes);
        assert_eq!(input.unsigned().ok(), Some(u64::MAX));
        assert_eq!(input.signed().ok(), Some(i64::MIN));
        assert_eq!(input.signed().ok(), Some(-1));
        assert_eq!(input.wide().ok(), Some(-(1_i128 << 100)));
        assert_eq!(input.float().map(f64::to_bits).ok(), Some((-0.0_f64).to_bits()));
        assert_eq!(input.text().ok(), Some("größe"));
        assert!(input.unsigned().is_err());
        assert!(Reader::new(&[0xff; 11]).unsigned().is_err());
        assert!(Reader::new(&[200, 1, b'x']).text().is_err());
    }
}
