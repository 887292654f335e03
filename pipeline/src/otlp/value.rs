//! Attributes and values in place.
//!
//! Protobuf lets a message that occurs once be written in several parts, which merge. So what holds attributes is not
//! always one slice; [`Parts`] walks the parts where they are.

use std::fmt;

use super::wire::{self, Field};

/// Repeated messages at a path below `of`: the tags of the parts that hold them, then their own.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    of: &'a [u8],
    /// From the outside in; the last one is the messages' own, unused ones are 0.
    path: [u32; 3],
    /// Parts of the last level but one that begin before this address belong to an earlier value of a oneof.
    from: usize,
}

impl<'a> Parts<'a> {
    /// The fields `tag` of one message.
    pub(super) const fn of(of: &'a [u8], tag: u32) -> Parts<'a> {
        Parts { of, path: [tag, 0, 0], from: 0 }
    }

    /// The fields `tag` of every part `part` of a message.
    pub(super) const fn within(of: &'a [u8], part: u32, tag: u32) -> Parts<'a> {
        Parts { of, path: [part, tag, 0], from: 0 }
    }

    /// The same for those parts only that do not begin before `first`, which is one of them.
    pub(super) fn since(of: &'a [u8], part: u32, tag: u32, first: &'a [u8]) -> Parts<'a> {
        Parts { of, path: [part, tag, 0], from: address(first) }
    }

    #[inline]
    pub(super) fn iter(self) -> Chunks<'a> {
        let none: &[u8] = &[];
        let Parts { of, path, from } = self;
        match path {
            [tag, 0, _] => Chunks { rest: of, tag, above: [(none, 0); 2], from },
            [part, tag, 0] => Chunks { rest: none, tag, above: [(none, 0), (of, part)], from },
            [outer, part, tag] => Chunks { rest: none, tag, above: [(of, outer), (none, part)], from },
        }
    }
}

/// The messages of [`Parts`], in the order of the bytes.
#[derive(Clone)]
pub(super) struct Chunks<'a> {
    rest: &'a [u8],
    tag: u32,
    above: [(&'a [u8], u32); 2],
    from: usize,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if let Some(chunk) = find(&mut self.rest, self.tag) {
                return Some(chunk);
            }
            self.rest = self.part()?;
        }
    }
}

impl<'a> Chunks<'a> {
    fn part(&mut self) -> Option<&'a [u8]> {
        let [outer, inner] = &mut self.above;
        loop {
            while let Some(part) = find(&mut inner.0, inner.1) {
                if address(part) >= self.from {
                    return Some(part);
                }
            }
            inner.0 = find(&mut outer.0, outer.1)?;
        }
    }
}

/// The next field `tag` that holds bytes.
#[inline]
fn find<'a>(rest: &mut &'a [u8], tag: u32) -> Option<&'a [u8]> {
    while let Some((found, field)) = wire::next(rest) {
        if let Field::Bytes(bytes) = field
            && found == tag
        {
            return Some(bytes);
        }
    }
    None
}

/// Where a slice begins; only ever compared with another slice of the same body.
fn address(bytes: &[u8]) -> usize {
    bytes.as_ptr().addr()
}

/// The string in `bytes`; empty where they are not UTF-8, which the walk refuses.
#[inline]
pub(super) fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}

/// What an `AnyValue` holds.
#[derive(Clone, Copy, Debug, Default)]
pub enum Value<'a> {
    /// Nothing, or what only profiles use.
    #[default]
    Empty,
    /// `string_value`.
    Str(&'a str),
    /// `bool_value`.
    Bool(bool),
    /// `int_value`.
    Int(i64),
    /// `double_value`; may be NaN or infinite.
    Double(f64),
    /// `bytes_value`.
    Bytes(&'a [u8]),
    /// `array_value`.
    Array(List<'a>),
    /// `kvlist_value`.
    Map(Attributes<'a>),
}

impl<'a> Value<'a> {
    /// The string, where it is one.
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Value::Str(text) => Some(text),
            Value::Empty
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Double(_)
            | Value::Bytes(_)
            | Value::Array(_)
            | Value::Map(_) => None,
        }
    }

    /// The value of an `AnyValue` in one piece.
    #[inline]
    fn read(any: &'a [u8]) -> Value<'a> {
        if let [0x0a, length @ ..0x80, string @ ..] = any
            && string.len() == usize::from(*length)
        {
            return Value::Str(text(string));
        }
        let mut value = Value::Empty;
        value.merge(any, Home { of: any, part: 0 });
        value
    }

    /// The value of the `AnyValue` that is the field `part` of `of`, in however many pieces.
    pub(super) fn within(of: &'a [u8], part: u32) -> Value<'a> {
        let mut value = Value::Empty;
        for any in Parts::of(of, part).iter() {
            value.merge(any, Home { of, part });
        }
        value
    }

    /// Folds one piece in: the last member of the oneof wins, but lists and maps that follow their like are joined.
    fn merge(&mut self, any: &'a [u8], home: Home<'a>) {
        let mut rest = any;
        while let Some((tag, field)) = wire::next(&mut rest) {
            *self = match (tag, field) {
                (1, Field::Bytes(bytes)) => Value::Str(text(bytes)),
                (2, Field::Varint(number)) => Value::Bool(number != 0),
                (3, Field::Varint(number)) => Value::Int(number as i64),
                (4, Field::Fixed64(bits)) => Value::Double(f64::from_bits(bits)),
                (5, Field::Bytes(bytes)) => match self {
                    Value::Array(list) => Value::Array(List { parts: home.joined(list.parts, tag) }),
                    _ => Value::Array(List { parts: Parts::of(bytes, 1) }),
                },
                (6, Field::Bytes(bytes)) => match self {
                    Value::Map(map) => Value::Map(Attributes { parts: home.joined(map.parts, tag) }),
                    _ => Value::Map(Attributes { parts: Parts::of(bytes, 1) }),
                },
                (7, Field::Bytes(bytes)) => Value::Bytes(bytes),
                (8, Field::Varint(_)) => Value::Empty,
                _ => continue,
            };
        }
    }
}

/// Where the pieces of an `AnyValue` are: the fields `part` of a message, or, where `part` is 0, the message itself.
#[derive(Clone, Copy)]
struct Home<'a> {
    of: &'a [u8],
    part: u32,
}

impl<'a> Home<'a> {
    /// The list or map that began with `first` and goes on in a later field `tag`.
    fn joined(self, first: Parts<'a>, tag: u32) -> Parts<'a> {
        let path = if self.part == 0 { [tag, 1, 0] } else { [self.part, tag, 1] };
        let from = if first.from == 0 { address(first.of) } else { first.from };
        Parts { of: self.of, path, from }
    }
}

/// A list of values.
#[derive(Clone, Copy)]
pub struct List<'a> {
    parts: Parts<'a>,
}

impl<'a> List<'a> {
    /// The values in order.
    pub fn iter(self) -> ListIter<'a> {
        ListIter { chunks: self.parts.iter() }
    }
}

impl<'a> IntoIterator for List<'a> {
    type Item = Value<'a>;
    type IntoIter = ListIter<'a>;

    fn into_iter(self) -> ListIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Iterates over a [`List`].
#[derive(Clone)]
pub struct ListIter<'a> {
    chunks: Chunks<'a>,
}

impl<'a> Iterator for ListIter<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.chunks.next().map(Value::read)
    }
}

/// Keys and values, in the order of the bytes; keys may repeat.
#[derive(Clone, Copy)]
pub struct Attributes<'a> {
    parts: Parts<'a>,
}

impl<'a> Attributes<'a> {
    /// No attributes.
    pub const EMPTY: Attributes<'static> = Attributes { parts: Parts::of(&[], 1) };

    pub(super) const fn new(parts: Parts<'a>) -> Attributes<'a> {
        Attributes { parts }
    }

    /// Keys and values in order.
    pub fn iter(self) -> AttributesIter<'a> {
        AttributesIter { chunks: self.parts.iter() }
    }

    /// The same in order, none of them decoded yet.
    pub fn pairs(self) -> impl Iterator<Item = Pair<'a>> + Clone + use<'a> {
        self.parts.iter().map(Pair::new)
    }

    /// The value of the first attribute with this key.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.parts.iter().find(|pair| name(pair) == key.as_bytes()).map(|pair| Value::within(pair, 2))
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.parts.iter().next().is_none()
    }
}

/// An attribute of which nothing is decoded: for whoever knows by most keys that the value does not matter.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    message: &'a [u8],
}

impl<'a> Pair<'a> {
    pub(super) const fn new(message: &'a [u8]) -> Pair<'a> {
        Pair { message }
    }

    /// The bytes of the key.
    #[inline]
    pub fn key(self) -> &'a [u8] {
        name(self.message)
    }

    /// Whether the value is, at a glance, a string, a number or a boolean. A no may be wrong, a yes is not.
    #[inline]
    pub fn is_flat(self) -> bool {
        match wire::pair(self.message) {
            Some((_, [0x0a, length @ ..0x80, string @ ..])) => string.len() == usize::from(*length),
            Some((_, [0x10 | 0x18, (..0x80)])) => true,
            Some((_, [0x21, number @ ..])) => number.len() == 8,
            Some(_) | None => false,
        }
    }

    /// The value.
    #[inline]
    pub fn value(self) -> Value<'a> {
        match wire::pair(self.message) {
            Some((_, any)) => Value::read(any),
            None => Value::within(self.message, 2),
        }
    }
}

/// The key of a `KeyValue`; the last one, where there are several.
#[inline]
fn name(pair: &[u8]) -> &[u8] {
    if let Some((key, _)) = wire::pair(pair) {
        return key;
    }
    Parts::of(pair, 1).iter().last().unwrap_or_default()
}

impl<'a> IntoIterator for Attributes<'a> {
    type Item = (&'a str, Value<'a>);
    type IntoIter = AttributesIter<'a>;

    fn into_iter(self) -> AttributesIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Attributes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Iterates over [`Attributes`].
#[derive(Clone)]
pub struct AttributesIter<'a> {
    chunks: Chunks<'a>,
}

impl<'a> Iterator for AttributesIter<'a> {
    type Item = (&'a str, Value<'a>);

    #[inline]
    fn next(&mut self) -> Option<(&'a str, Value<'a>)> {
        let pair = self.chunks.next()?;
        if let Some((key, any)) = wire::pair(pair) {
            return Some((text(key), Value::read(any)));
        }
        let (mut key, mut value): (&[u8], _) = (&[], Value::Empty);
        let mut rest = pair;
        while let Some((tag, field)) = wire::next(&mut rest) {
            match (tag, field) {
                (1, Field::Bytes(bytes)) => key = bytes,
                (2, Field::Bytes(any)) => value.merge(any, Home { of: pair, part: 2 }),
                _ => {}
            }
        }
        Some((text(key), value))
    }
}
