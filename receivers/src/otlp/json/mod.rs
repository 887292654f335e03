//! OTLP/JSON (OTLP specification, "JSON Protobuf Encoding") to protobuf, in one pass and without a message in memory: the
//! schema says what each key means, and what JSON says is written at once as the protobuf it stands for.
//!
//! As the specification wants it: ids are hexadecimal, 64-bit integers are strings or numbers, keys are lowerCamelCase, and
//! unknown ones are skipped. Names of enumerations are taken too, because encoders write them all the same.
//!
//! Bounded: nesting at 128 levels of JSON, the message at `cap` bytes, charged to the account before it is allocated.

mod sink;
#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::otlp::json::schema::{self, Field, Kind, Message};
use homeostat_pipeline::refusal::Refusal;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use self::sink::{DELIMITED, FIXED32, FIXED64, Sink, VARINT};
use super::account::Account;

/// What of an error is told: its text may quote the sender's.
const WORDS_MAX: usize = 200;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The protobuf message that `json` stands for; `held_bytes` is what the request holds already.
///
/// # Errors
/// Not OTLP/JSON, larger than `cap`, or over the memory budget.
pub fn transcode(
    signal: Signal,
    json: &[u8],
    cap: usize,
    held_bytes: usize,
    account: &mut Account,
) -> Result<Bytes, Refusal> {
    // The parser unescapes a string into a buffer of its own, at most as long as the whole.
    let held_bytes = held_bytes + json.len();
    account.cover(held_bytes)?;
    let mut sink = Sink::new(cap, held_bytes, account);
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = Fields { sink: &mut sink, message: schema::request(signal) }
        .deserialize(&mut reader)
        .and_then(|()| reader.end());
    match (read, sink.refusal.take()) {
        (_, Some(refusal)) => Err(refusal),
        (Ok(()), None) => Ok(sink.out.into()),
        (Err(error), None) => {
            let words = error.to_string();
            let words = &words[..words.floor_char_boundary(WORDS_MAX)];
            Err(Refusal::malformed(format!("malformed OTLP/JSON: {words}")))
        }
    }
}

/// An object: the fields of a message, without the message's own key and length.
struct Fields<'s, 'a> {
    sink: &'s mut Sink<'a>,
    message: &'static Message,
}

impl<'de> DeserializeSeed<'de> for Fields<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(Name(self.message))? {
            match field {
                Some(field) => {
                    map.next_value_seed(Slot { sink: &mut *self.sink, field, place: Place::Field })?
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// A key: the field of that name.
struct Name(&'static Message);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.field(name))
    }
}

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// After its key; a list when the field is one.
    Field,
    /// In a list, each with its key in protobuf.
    Element,
    /// In a list that has one key in protobuf.
    Packed,
}

/// The value of a field, or one of its list.
struct Slot<'s, 'a> {
    sink: &'s mut Sink<'a>,
    field: &'static Field,
    place: Place,
}

impl Slot<'_, '_> {
    fn is_one(&self) -> bool {
        self.place != Place::Field || !self.field.is_list
    }

    fn key<E: Error>(&mut self, wire: u64) -> Result<(), E> {
        match self.place {
            Place::Field | Place::Element => self.sink.varint(u64::from(self.field.tag) << 3 | wire),
            Place::Packed => Ok(()),
        }
    }

    fn varint<E: Error>(mut self, value: u64) -> Result<(), E> {
        self.key(VARINT)?;
        self.sink.varint(value)
    }

    fn fixed<E: Error>(mut self, wire: u64, bytes: &[u8]) -> Result<(), E> {
        self.key(wire)?;
        self.sink.bytes(bytes)
    }

    fn delimited<E: Error>(mut self, bytes: &[u8]) -> Result<(), E> {
        self.key(DELIMITED)?;
        self.sink.varint(bytes.len() as u64)?;
        self.sink.bytes(bytes)
    }

    fn fault<E: Error>(&self, what: &str) -> E {
        E::custom(format_args!("`{}` {what}", self.field.name))
    }

    fn integer<E: Error>(self, value: i128) -> Result<(), E> {
        if !self.is_one() {
            return Err(self.fault("is a list"));
        }
        let beyond = |slot: &Self| slot.fault("is a number out of range");
        match self.field.kind {
            Kind::Double => self.fixed(FIXED64, &(value as f64).to_le_bytes()),
            Kind::Int32 | Kind::Enum(_) => {
                let value = i32::try_from(value).map_err(|_| beyond(&self))?;
                self.varint(i64::from(value).cast_unsigned())
            }
            Kind::Sint32 => {
                let value = i32::try_from(value).map_err(|_| beyond(&self))?;
                self.varint(u64::from((value << 1 ^ value >> 31).cast_unsigned()))
            }
            Kind::Int64 => {
                let value = i64::try_from(value).map_err(|_| beyond(&self))?;
                self.varint(value.cast_unsigned())
            }
            Kind::Uint32 => {
                let value = u32::try_from(value).map_err(|_| beyond(&self))?;
                self.varint(u64::from(value))
            }
            Kind::Uint64 => {
                let value = u64::try_from(value).map_err(|_| beyond(&self))?;
                self.varint(value)
            }
            Kind::Fixed32 => {
                let value = u32::try_from(value).map_err(|_| beyond(&self))?;
                self.fixed(FIXED32, &value.to_le_bytes())
            }
            Kind::Fixed64 => {
                let value = u64::try_from(value).map_err(|_| beyond(&self))?;
                self.fixed(FIXED64, &value.to_le_bytes())
            }
            Kind::Sfixed64 => {
                let value = i64::try_from(value).map_err(|_| beyond(&self))?;
                self.fixed(FIXED64, &value.to_le_bytes())
            }
            Kind::Bool | Kind::Text | Kind::Hex | Kind::Base64 | Kind::Message(_) => {
                Err(self.fault("is no number"))
            }
        }
    }

    fn number_in_text<E: Error>(self, text: &str) -> Result<(), E> {
        match text.parse::<i128>() {
            Ok(value) => self.integer(value),
            Err(_) => Err(self.fault("is text that is no whole number")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Slot<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Slot<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value of `{}`", self.field.name)
    }

    /// `null` is the default, as everywhere in protobuf's JSON.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.place == Place::Field { Ok(()) } else { Err(self.fault("has null in its list")) }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if matches!(self.field.kind, Kind::Bool) && self.is_one() {
            self.varint(u64::from(value))
        } else {
            Err(self.fault("is no truth value"))
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(i128::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(i128::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        if matches!(self.field.kind, Kind::Double) && self.is_one() {
            return self.fixed(FIXED64, &value.to_le_bytes());
        }
        // `1.0` and `1e3` are whole numbers.
        if value.fract() == 0.0 && value.abs() < 1e19 {
            return self.integer(value as i128);
        }
        Err(self.fault("is no whole number"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if !self.is_one() {
            return Err(self.fault("is a list"));
        }
        match self.field.kind {
            Kind::Text => self.delimited(text.as_bytes()),
            Kind::Hex => match read_hex(text) {
                Some(id) => self.delimited(&id),
                None => Err(self.fault("is not hexadecimal")),
            },
            Kind::Base64 => match STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)) {
                Ok(bytes) => self.delimited(&bytes),
                Err(_) => Err(self.fault("is not base64")),
            },
            Kind::Double => match text.parse::<f64>() {
                Ok(value) => self.fixed(FIXED64, &value.to_le_bytes()),
                Err(_) => Err(self.fault("is text that is no number")),
            },
            Kind::Enum(names) => match names.iter().position(|name| *name == text) {
                Some(number) => self.varint(number as u64),
                None => self.number_in_text(text),
            },
            Kind::Int32
            | Kind::Int64
            | Kind::Uint32
            | Kind::Uint64
            | Kind::Sint32
            | Kind::Fixed32
            | Kind::Fixed64
            | Kind::Sfixed64 => self.number_in_text(text),
            Kind::Bool | Kind::Message(_) => Err(self.fault("is no text")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        if self.is_one() {
            return Err(self.fault("is no list"));
        }
        let field = self.field;
        let is_delimited = matches!(field.kind, Kind::Text | Kind::Hex | Kind::Base64 | Kind::Message(_));
        let place = if is_delimited { Place::Element } else { Place::Packed };
        let start = match place {
            Place::Packed => {
                self.key(DELIMITED)?;
                Some(self.sink.open()?)
            }
            Place::Field | Place::Element => None,
        };
        while list.next_element_seed(Slot { sink: &mut *self.sink, field, place })?.is_some() {}
        start.map_or(Ok(()), |start| self.sink.close(start))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        let Kind::Message(message) = self.field.kind else { return Err(self.fault("is no object")) };
        if !self.is_one() {
            return Err(self.fault("is a list"));
        }
        self.key(DELIMITED)?;
        let start = self.sink.open()?;
        Fields { sink: &mut *self.sink, message }.visit_map(map)?;
        self.sink.close(start)
    }
}

fn read_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}
