//! Protobuf to OTLP/JSON (OTLP specification, "JSON Protobuf Encoding"), in one pass and without a message in memory: ids are
//! hexadecimal, 64-bit integers are strings, enumerations are numbers, keys are lowerCamelCase. What this writes has no newline.
//!
//! The other way is the business of the `otlp` receiver; both read the same [`schema`].

pub mod schema;

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use self::schema::{Kind, Message};
use super::wire::{self, Field};
use crate::batch::Signal;

/// Appends the request that `body` holds. The body must have passed [`super::walk`]; of any other what comes before its first fault
/// is written. Fields that OTLP does not know are left out, for JSON has no names for them.
pub fn write(signal: Signal, body: &[u8], out: &mut Vec<u8>) {
    Writer { fields: Vec::new(), out }.message(schema::request(signal), body);
}

/// A message on its way to JSON.
struct Writer<'a, 'o> {
    /// The fields of the messages around and of this one, by their places in the schema; a message leaves none behind.
    fields: Vec<(usize, Field<'a>)>,
    out: &'o mut Vec<u8>,
}

impl<'a> Writer<'a, '_> {
    fn message(&mut self, message: &'static Message, mut bytes: &'a [u8]) {
        let start = self.fields.len();
        while let Some((tag, value)) = wire::next(&mut bytes) {
            if let Some(place) = message.tagged(tag) {
                self.fields.push((place, value));
            }
        }
        in_one_place(&mut self.fields[start..]);
        self.out.push(b'{');
        let (mut at, end) = (start, self.fields.len());
        while at < end {
            let place = self.fields[at].0;
            let count = self.fields[at..end].iter().take_while(|(other, _)| *other == place).count();
            self.field(message.at(place), at, at + count);
            at += count;
            if at < end {
                self.out.push(b',');
            }
        }
        self.out.push(b'}');
        self.fields.truncate(start);
    }

    /// A key and what all of its occurrences come to.
    fn field(&mut self, field: &'static schema::Field, from: usize, to: usize) {
        self.out.push(b'"');
        self.out.extend_from_slice(field.name.as_bytes());
        self.out.extend_from_slice(b"\":");
        if field.is_list {
            self.out.push(b'[');
            let first = self.out.len();
            for at in from..to {
                self.elements(&field.kind, self.fields[at].1, first);
            }
            self.out.push(b']');
            return;
        }
        match (&field.kind, to - from) {
            // A message that comes in parts is their concatenation (protobuf.dev, "Last One Wins").
            (Kind::Message(message), 2..) => {
                let parts = self.fields[from..to].iter().map(|(_, part)| part.bytes());
                let whole: Vec<u8> = parts.flatten().copied().collect();
                Writer { fields: Vec::new(), out: &mut *self.out }.message(message, &whole);
            }
            _ => self.value(&field.kind, self.fields[to - 1].1),
        }
    }

    /// One occurrence of a list: an element, or packed numbers.
    fn elements(&mut self, kind: &Kind, value: Field<'a>, first: usize) {
        let (Some(width), Field::Bytes(mut packed)) = (packed(kind), value) else {
            self.comma(first);
            self.value(kind, value);
            return;
        };
        while let Some((number, rest)) = width.split(packed) {
            packed = rest;
            self.comma(first);
            self.value(kind, number);
        }
    }

    fn comma(&mut self, first: usize) {
        if self.out.len() > first {
            self.out.push(b',');
        }
    }

    fn value(&mut self, kind: &Kind, value: Field<'a>) {
        match kind {
            Kind::Bool => self.plain(value.number() != 0),
            Kind::Int32 | Kind::Enum(_) => self.plain(value.number() as i32),
            Kind::Uint32 | Kind::Fixed32 => self.plain(value.number() as u32),
            Kind::Sint32 => {
                let zigzag = value.number() as u32;
                self.plain((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
            }
            Kind::Int64 | Kind::Sfixed64 => self.quoted(value.number().cast_signed()),
            Kind::Uint64 | Kind::Fixed64 => self.quoted(value.number()),
            Kind::Double => self.double(f64::from_bits(value.number())),
            Kind::Text => self.text(&String::from_utf8_lossy(value.bytes())),
            Kind::Hex => {
                self.out.push(b'"');
                for byte in value.bytes() {
                    const DIGITS: &[u8; 16] = b"0123456789abcdef";
                    self.out.extend([byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
                }
                self.out.push(b'"');
            }
            Kind::Base64 => self.quoted(STANDARD.encode(value.bytes())),
            Kind::Message(message) => self.message(message, value.bytes()),
        }
    }

    fn double(&mut self, value: f64) {
        if value.is_finite() {
            let written = serde_json::to_writer(&mut *self.out, &value);
            debug_assert!(written.is_ok(), "memory takes every number");
        } else if value.is_nan() {
            self.quoted("NaN");
        } else {
            self.quoted(if value > 0.0 { "Infinity" } else { "-Infinity" });
        }
    }

    fn text(&mut self, text: &str) {
        let written = serde_json::to_writer(&mut *self.out, text);
        debug_assert!(written.is_ok(), "memory takes every text");
    }

    fn plain(&mut self, value: impl std::fmt::Display) {
        let written = write!(self.out, "{value}");
        debug_assert!(written.is_ok(), "memory takes every number");
    }

    fn quoted(&mut self, value: impl std::fmt::Display) {
        self.plain(format_args!("\"{value}\""));
    }
}

/// Brings what belongs to one field together, in order: of fields of which only one may be set the last one wins, so it stays last.
fn in_one_place(fields: &mut [(usize, Field<'_>)]) {
    if fields.is_sorted_by_key(|(place, _)| *place) {
        return;
    }
    let mut last = [0; PLACES_MAX];
    for (at, (place, _)) in fields.iter().enumerate() {
        last[*place] = at;
    }
    fields.sort_by_key(|(place, _)| last[*place]);
}

/// No message of OTLP has more fields.
const PLACES_MAX: usize = 32;

/// How the numbers of a packed list follow one another.
#[derive(Clone, Copy)]
enum Packed {
    Varint,
    Fixed64,
}

impl Packed {
    fn split<'a>(self, bytes: &'a [u8]) -> Option<(Field<'a>, &'a [u8])> {
        match self {
            Packed::Varint => {
                let mut at = 0;
                let number = wire::varint(bytes, &mut at).ok()?;
                Some((Field::Varint(number), bytes.get(at..)?))
            }
            Packed::Fixed64 => {
                let (number, rest) = bytes.split_first_chunk()?;
                Some((Field::Fixed64(u64::from_le_bytes(*number)), rest))
            }
        }
    }
}

/// How a list of this kind is packed; none where each element has its key.
fn packed(kind: &Kind) -> Option<Packed> {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Some(Packed::Fixed64),
        Kind::Int64
        | Kind::Uint64
        | Kind::Int32
        | Kind::Uint32
        | Kind::Sint32
        | Kind::Bool
        | Kind::Enum(_) => Some(Packed::Varint),
        // No list of OTLP holds numbers of 32 bits.
        Kind::Fixed32 | Kind::Text | Kind::Hex | Kind::Base64 | Kind::Message(_) => None,
    }
}
