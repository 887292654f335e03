//! From a [`Node`] into any `Deserialize` type. What does not fit says where, what is known, and which known name is nearest.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;
use serde::{Deserialize, Serialize, Serializer};

use super::{Field, Node, Position, Problem, Value, did_you_mean};

/// Reads `node` as a `T`. Nothing (an empty block) is read as an empty mapping where `T` is a struct.
///
/// # Errors
/// The first thing that does not fit, with its place.
pub fn read<T: DeserializeOwned>(node: &Node) -> Result<T, Problem> {
    T::deserialize(Reader(node))
        .map_err(|fault| Problem::error(fault.at.as_ref().unwrap_or(&node.at), fault.message))
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// Where.
    pub at: Position,
    /// What.
    pub value: T,
}

const AT: &str = "$homeostat::At";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<At<T>, D::Error> {
        struct Read<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = At<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<At<T>, A::Error> {
                let gone = || de::Error::custom("a place was read from something that is no configuration");
                let source: String = parts.next_element()?.ok_or_else(gone)?;
                let line = parts.next_element()?.ok_or_else(gone)?;
                let column = parts.next_element()?.ok_or_else(gone)?;
                let value = parts.next_element()?.ok_or_else(gone)?;
                Ok(At { at: Position { source: Arc::from(source), line, column }, value })
            }
        }
        deserializer.deserialize_newtype_struct(AT, Read(std::marker::PhantomData))
    }
}

/// Its place is not repeated.
impl<T: Serialize> Serialize for At<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

#[derive(Debug)]
struct Fault {
    at: Option<Position>,
    message: String,
}

impl Fault {
    fn or_at(mut self, at: &Position) -> Fault {
        self.at.get_or_insert_with(|| at.clone());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl Node {
    /// `text`, `a list` …: what this is without what it says, which may be a secret.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(true) => "`true`",
            Value::Bool(false) => "`false`",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// What serde found, in the words of YAML and without what it says, which may be a secret.
fn found(unexpected: de::Unexpected<'_>) -> String {
    match unexpected {
        de::Unexpected::Bool(value) => format!("`{value}`"),
        de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) | de::Unexpected::Float(_) => {
            "a number".to_owned()
        }
        de::Unexpected::Char(_) | de::Unexpected::Str(_) | de::Unexpected::Bytes(_) => "text".to_owned(),
        de::Unexpected::Unit | de::Unexpected::Option => "nothing".to_owned(),
        de::Unexpected::Seq => "a list".to_owned(),
        de::Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

/// What serde wanted, in the words of YAML.
fn wanted(expected: &dyn de::Expected) -> String {
    match expected.to_string().as_str() {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a string" => "text".to_owned(),
        "a sequence" => "a list (write `[…]`)".to_owned(),
        "a map" => "a mapping".to_owned(),
        other => other.to_owned(),
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Fault {
        Fault { at: None, message: message.to_string() }
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Fault {
        Fault::custom(format!("{} is not {}", found(unexpected), wanted(expected)))
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Fault {
        let found = match unexpected {
            de::Unexpected::Unsigned(value) => format!("`{value}`"),
            de::Unexpected::Signed(value) => format!("`{value}`"),
            de::Unexpected::Float(value) => format!("`{value}`"),
            other => found(other),
        };
        Fault::custom(format!("{found} is not {}", wanted(expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Fault {
        let near = did_you_mean(field, expected.iter().copied());
        let known = if expected.is_empty() {
            "there are none here".to_owned()
        } else {
            format!("known: {}", list(expected))
        };
        Fault::custom(format!("unknown key `{field}`{near}; {known}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Fault {
        let near = did_you_mean(variant, expected.iter().copied());
        Fault::custom(format!("`{variant}` is none of {}{near}", list(expected)))
    }

    fn missing_field(field: &'static str) -> Fault {
        Fault::custom(format!("the key `{field}` is missing"))
    }
}

#[derive(Clone, Copy)]
struct Reader<'a>(&'a Node);

impl<'a> Reader<'a> {
    fn unexpected(self, expected: &dyn de::Expected) -> Fault {
        Fault { at: Some(self.0.at.clone()), message: format!("{} is not {expected}", self.0.kind()) }
    }

    /// Text that is a number or a boolean where one is wanted: what a reference such as `${env:PORT}` gives is text, and only
    /// the settings know what it is for.
    fn written<T: FromStr>(self) -> Option<T> {
        self.0.as_text()?.parse().ok()
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let at = &self.0.at;
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(nodes) => visitor.visit_seq(Elements(nodes.iter())),
            Value::Map(fields) => visitor.visit_map(Fields { fields: fields.iter(), current: None }),
        }
        .map_err(|fault: Fault| fault.or_at(at))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name == AT {
            visitor.visit_seq(Place { node: self.0, part: 0 })
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Null => visitor.visit_map(Fields { fields: [].iter(), current: None }),
            Value::Map(_) => self.deserialize_any(visitor),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::List(_) => {
                Err(self.unexpected(&"a mapping"))
            }
        }
        .map_err(|fault: Fault| fault.or_at(&self.0.at))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.written() {
            Some(value) => visitor.visit_bool(value),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.written() {
            Some(value) => visitor.visit_i64(value).map_err(|fault: Fault| fault.or_at(&self.0.at)),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if let Some(value) = self.written().filter(|value: &f64| value.is_finite()) {
            return visitor.visit_f64(value);
        }
        match self.0.value {
            #[expect(clippy::cast_precision_loss, reason = "whole numbers beyond 2^53 are no thresholds")]
            Value::Integer(value) => visitor.visit_f64(value as f64),
            Value::Null
            | Value::Bool(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Text(text) => visitor.visit_str(text).map_err(|fault: Fault| fault.or_at(&self.0.at)),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                Err(self.unexpected(&"text (put it in quotes)"))
            }
            Value::Null | Value::List(_) | Value::Map(_) => Err(self.unexpected(&"text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let at = &self.0.at;
        match &self.0.value {
            Value::Text(text) => visitor.visit_enum(Variant { name: text, node: None }),
            Value::Map(fields) if fields.len() == 1 => {
                visitor.visit_enum(Variant { name: &fields[0].key, node: Some(&fields[0].node) })
            }
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::List(_)
            | Value::Map(_) => Err(self.unexpected(&"one word, or a mapping with one key")),
        }
        .map_err(|fault: Fault| fault.or_at(at))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 char bytes byte_buf unit unit_struct seq tuple tuple_struct
        identifier ignored_any
    }
}

struct Elements<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Fault;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.0
            .next()
            .map(|node| seed.deserialize(Reader(node)).map_err(|fault| fault.or_at(&node.at)))
            .transpose()
    }
}

struct Fields<'a> {
    fields: std::slice::Iter<'a, Field>,
    current: Option<&'a Field>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.current = self.fields.next();
        let Some(field) = self.current else { return Ok(None) };
        seed.deserialize(de::value::StrDeserializer::<Fault>::new(&field.key))
            .map(Some)
            .map_err(|fault| fault.or_at(&field.at))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(field) = self.current else {
            return Err(de::Error::custom("a value was read before its key"));
        };
        seed.deserialize(Reader(&field.node)).map_err(|fault| fault.or_at(&field.node.at))
    }
}

/// Source, line, column, value: what [`At`] reads.
struct Place<'a> {
    node: &'a Node,
    part: u8,
}

impl<'de> SeqAccess<'de> for Place<'_> {
    type Error = Fault;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.part += 1;
        let at = &self.node.at;
        match self.part {
            1 => seed.deserialize(de::value::StrDeserializer::<Fault>::new(&at.source)).map(Some),
            2 => seed.deserialize(de::value::U32Deserializer::<Fault>::new(at.line)).map(Some),
            3 => seed.deserialize(de::value::U32Deserializer::<Fault>::new(at.column)).map(Some),
            4 => seed.deserialize(Reader(self.node)).map(Some),
            _ => Ok(None),
        }
    }
}

struct Variant<'a> {
    name: &'a str,
    node: Option<&'a Node>,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Fault;
    type Variant = Content<'a>;
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<'a>), Fault> {
        let name = seed.deserialize(de::value::StrDeserializer::<Fault>::new(self.name))?;
        Ok((name, Content(self.node)))
    }
}

struct Content<'a>(Option<&'a Node>);

impl<'a> Content<'a> {
    fn node(&self) -> Result<&'a Node, Fault> {
        self.0.ok_or_else(|| de::Error::custom("this word takes a value: write it as a mapping with one key"))
    }
}

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Fault;
    fn unit_variant(self) -> Result<(), Fault> {
        match self.0 {
            None => Ok(()),
            Some(_) => Err(de::Error::custom("this word takes no value")),
        }
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(Reader(self.node()?))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Fault> {
        Reader(self.node()?).deserialize_any(visitor)
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        Reader(self.node()?).deserialize_map(visitor)
    }
}

#[cfg(test)]
mod tests;
