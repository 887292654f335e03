//! The structural walk: every field of a request, once, before anything of it is taken.

use std::fmt;

use super::schema::{self, Kind, Schema};
use super::wire::{self, Fault};
use crate::batch::Signal;
use crate::refusal::Refusal;

/// How deeply messages may nest below the request; protobuf's own limit in most of its implementations, prost's too.
/// A map in a map takes three levels.
pub const LEVELS_MAX: u32 = 100;

/// Why a body is not an OTLP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    fault: Fault,
    at: usize,
}

impl Malformed {
    /// The byte of the inflated body at which it shows.
    pub fn at(&self) -> usize {
        self.at
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fault {
            Fault::Truncated => "a value ends beyond the message that holds it",
            Fault::Varint => "a varint has more than 64 bits",
            Fault::Key => "a field number is out of range",
            Fault::WireType => "a field has the wrong wire type",
            Fault::Group => "a group ends that did not begin",
            Fault::Text => "a string is not UTF-8",
            Fault::Depth => {
                return write!(
                    f,
                    "malformed OTLP: messages nest deeper than {LEVELS_MAX} levels at byte {}",
                    self.at
                );
            }
        };
        write!(f, "malformed OTLP: {what} at byte {}", self.at)
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Refusal {
        Refusal::malformed(malformed.to_string())
    }
}

/// Visits every field of an export request down to the bottom, and returns how many spans, data points or log records
/// it holds. Accepts exactly what prost decodes: lengths, wire types, groups, UTF-8 of every string, nesting up to
/// [`LEVELS_MAX`]. Fields that OTLP does not know are skipped. Allocates nothing and never panics.
pub fn walk(signal: Signal, body: &[u8]) -> Result<u64, Malformed> {
    let mut walk = Walk { body, at: 0, records: 0 };
    match walk.message(schema::request(signal), body.len(), LEVELS_MAX) {
        Ok(()) => Ok(walk.records),
        Err(fault) => Err(Malformed { fault, at: walk.at }),
    }
}

struct Walk<'a> {
    body: &'a [u8],
    at: usize,
    records: u64,
}

impl Walk<'_> {
    /// Walks the message that goes on up to `end`; messages may nest `levels` deeper.
    fn message(&mut self, schema: &'static Schema, end: usize, levels: u32) -> Result<(), Fault> {
        let bytes = &self.body[..end];
        while self.at < end {
            let start = self.at;
            let (tag, wire) = wire::key(bytes, &mut self.at)?;
            let kind = schema.field(tag);
            match (kind, wire) {
                (Kind::Text, 2) => {
                    if !is_text(wire::delimited(bytes, &mut self.at)?) {
                        self.at = start;
                        return Err(Fault::Text);
                    }
                }
                (Kind::Message(inner), 2) if levels > 1 && std::ptr::eq(inner, &schema::PAIR) => {
                    if !self.usual_pairs(bytes, start) {
                        self.nested(inner, bytes, levels)?;
                    }
                }
                (Kind::Message(inner), 2) => self.nested(inner, bytes, levels)?,
                (Kind::Record(inner), 2) => {
                    self.records += 1;
                    self.nested(inner, bytes, levels)?;
                }
                (Kind::Bytes, 2) => {
                    wire::delimited(bytes, &mut self.at)?;
                }
                (Kind::Varint | Kind::Varints, 0) => {
                    wire::varint(bytes, &mut self.at)?;
                }
                (Kind::Fixed64 | Kind::Fixed64s, 1) => wire::fixed(bytes, &mut self.at, 8)?,
                (Kind::Fixed32, 5) => wire::fixed(bytes, &mut self.at, 4)?,
                (Kind::Varints, 2) => {
                    let packed = wire::delimited(bytes, &mut self.at)?;
                    let mut at = 0;
                    while at < packed.len() {
                        wire::varint(packed, &mut at)?;
                    }
                }
                (Kind::Fixed64s, 2) => {
                    if wire::delimited(bytes, &mut self.at)?.len() % 8 != 0 {
                        self.at = start;
                        return Err(Fault::Truncated);
                    }
                }
                (Kind::Unknown, _) => wire::skip(bytes, &mut self.at, tag, wire, levels)?,
                (
                    Kind::Varint
                    | Kind::Fixed32
                    | Kind::Fixed64
                    | Kind::Text
                    | Kind::Bytes
                    | Kind::Message(_)
                    | Kind::Record(_)
                    | Kind::Varints
                    | Kind::Fixed64s,
                    _,
                ) => {
                    self.at = start;
                    return Err(Fault::WireType);
                }
            }
        }
        Ok(())
    }

    /// Walks the message whose length comes next.
    #[inline]
    fn nested(&mut self, schema: &'static Schema, bytes: &[u8], levels: u32) -> Result<(), Fault> {
        let mut end = self.at;
        let message = wire::delimited(bytes, &mut end)?;
        if levels == 0 {
            return Err(Fault::Depth);
        }
        self.at = end - message.len();
        self.message(schema, end, levels - 1)
    }

    /// Passes over the attributes from the field at `start` on, one after the other, as long as they are as nearly every
    /// encoder writes them: half of what the walk sees. False, and nothing passed, where the first one is not.
    #[inline]
    fn usual_pairs(&mut self, bytes: &[u8], start: usize) -> bool {
        let [key @ ..0x80, ..] = bytes[start..] else { return false };
        let mut rest = &bytes[start..];
        while let [found, length @ ..0x80, after @ ..] = rest
            && *found == key
            && let Some((pair, after)) = after.split_at_checked(usize::from(*length))
            && is_usual_pair(pair)
        {
            rest = after;
        }
        let end = bytes.len() - rest.len();
        if end > start {
            self.at = end;
        }
        end > start
    }
}

/// Whether it is a key with a string or a number as nearly every attribute is, and well-formed.
#[inline]
fn is_usual_pair(message: &[u8]) -> bool {
    let Some((key, any)) = wire::pair(message) else { return false };
    match any {
        // What stands around key and string is ASCII too, so both are looked at in one go.
        [0x0a, length @ ..0x80, string @ ..] => {
            string.len() == usize::from(*length) && (is_ascii(message) || (is_text(key) && is_text(string)))
        }
        [0x10 | 0x18, (..0x80)] | [0x10 | 0x18, (0x80..), (..0x80)] => is_text(key),
        [0x10 | 0x18, number @ ..] => {
            let mut at = 0;
            wire::varint(number, &mut at).is_ok() && at == number.len() && is_text(key)
        }
        [0x21, number @ ..] => number.len() == 8 && is_text(key),
        _ => false,
    }
}

/// Whether it is UTF-8. Most strings are short ASCII.
#[inline]
fn is_text(bytes: &[u8]) -> bool {
    is_ascii(bytes) || str::from_utf8(bytes).is_ok()
}

/// Whether no byte has its high bit, which eight bytes at a time find out fastest.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut high = 0;
    for word in words {
        high |= u64::from_le_bytes(*word);
    }
    if words.is_empty() {
        for byte in rest {
            high |= u64::from(*byte);
        }
    } else if let Some(last) = bytes.last_chunk::<8>() {
        high |= u64::from_le_bytes(*last);
    }
    high & HIGH == 0
}
