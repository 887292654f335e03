//! The fields of a log record's body: of a map, or of a string that is a JSON object.

use std::borrow::Cow;

use homeostat_pipeline::otlp::Value;
use homeostat_pipeline::selector::Scalar;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What nests deeper is not looked at.
const DEPTH_MAX: u8 = 4;
/// What comes after so many fields is not looked at.
const FIELDS_MAX: usize = 128;

/// One field, at any depth. An array's elements are fields of its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf<'a> {
    /// Its name, without those of the maps around it.
    pub key: Cow<'a, str>,
    /// What it holds.
    pub value: LeafValue<'a>,
    /// The index of the map around it; none at the top.
    parent: Option<usize>,
    /// Whether it is an element of an array.
    is_element: bool,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
pub enum LeafValue<'a> {
    /// Text; owned where JSON wrote it with escapes.
    Text(Cow<'a, str>),
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A map or an array, whose fields follow; or bytes.
    Composite,
}

impl Leaf<'_> {
    /// The text, where it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            LeafValue::Text(text) => Some(text),
            LeafValue::Bool(_) | LeafValue::Integer(_) | LeafValue::Float(_) | LeafValue::Composite => None,
        }
    }

    /// As selectors see it.
    pub fn scalar(&self) -> Scalar<'_> {
        match &self.value {
            LeafValue::Text(text) => Scalar::Text(text),
            LeafValue::Bool(value) => Scalar::Bool(*value),
            LeafValue::Integer(value) => Scalar::Integer(*value),
            LeafValue::Float(value) => Scalar::Float(*value),
            LeafValue::Composite => Scalar::Composite,
        }
    }
}

/// The field at `path`.
pub fn at<'l>(leaves: &'l [Leaf<'_>], path: &[String]) -> Option<&'l Leaf<'l>> {
    let mut parent = None;
    for key in path {
        parent = Some(
            leaves.iter().position(|leaf| leaf.parent == parent && !leaf.is_element && leaf.key == *key)?,
        );
    }
    parent.map(|index| &leaves[index])
}

/// Puts the fields of `body` into `leaves`; none when it is neither a map nor a JSON object. Answers whether there was more
/// than it looks at.
pub fn fields<'a>(body: Value<'a>, leaves: &mut Vec<Leaf<'a>>) -> bool {
    leaves.clear();
    let mut is_cut = false;
    match body {
        Value::Map(map) => {
            for (key, value) in map {
                flatten(key, value, None, false, DEPTH_MAX, leaves, &mut is_cut);
            }
        }
        Value::Str(text) if text.trim_start().starts_with('{') => {
            let mut json = serde_json::Deserializer::from_str(text);
            let place = Place { key: None, parent: None, depth: DEPTH_MAX, is_element: false };
            let read = Json { leaves, is_cut: &mut is_cut, place }.deserialize(&mut json);
            if read.is_err() || json.end().is_err() {
                leaves.clear();
            }
        }
        Value::Empty
        | Value::Str(_)
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Double(_)
        | Value::Bytes(_)
        | Value::Array(_) => {}
    }
    is_cut
}

fn flatten<'a>(
    key: &'a str,
    value: Value<'a>,
    parent: Option<usize>,
    is_element: bool,
    depth: u8,
    leaves: &mut Vec<Leaf<'a>>,
    is_cut: &mut bool,
) {
    if leaves.len() >= FIELDS_MAX || depth == 0 {
        *is_cut = true;
        return;
    }
    let index = leaves.len();
    let plain = match value {
        Value::Empty => return,
        Value::Str(text) => LeafValue::Text(Cow::Borrowed(text)),
        Value::Bool(value) => LeafValue::Bool(value),
        Value::Int(value) => LeafValue::Integer(value),
        Value::Double(value) => LeafValue::Float(value),
        Value::Bytes(_) | Value::Array(_) | Value::Map(_) => LeafValue::Composite,
    };
    leaves.push(Leaf { key: Cow::Borrowed(key), value: plain, parent, is_element });
    match value {
        Value::Map(map) => {
            for (key, value) in map {
                flatten(key, value, Some(index), false, depth - 1, leaves, is_cut);
            }
        }
        Value::Array(list) => {
            for value in list {
                flatten(key, value, Some(index), true, depth - 1, leaves, is_cut);
            }
        }
        Value::Empty
        | Value::Str(_)
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Double(_)
        | Value::Bytes(_) => {}
    }
}

/// Where a JSON value stands.
#[derive(Clone)]
struct Place<'a> {
    /// None for the object that is the body.
    key: Option<Cow<'a, str>>,
    parent: Option<usize>,
    depth: u8,
    is_element: bool,
}

/// Reads a JSON value into leaves without building it.
struct Json<'l, 'a> {
    leaves: &'l mut Vec<Leaf<'a>>,
    is_cut: &'l mut bool,
    place: Place<'a>,
}

impl<'a> Json<'_, 'a> {
    /// Adds a leaf and gives its index; none for the body itself.
    fn push(&mut self, value: LeafValue<'a>) -> Option<usize> {
        let Place { key, parent, is_element, .. } = self.place.clone();
        self.leaves.push(Leaf { key: key?, value, parent, is_element });
        Some(self.leaves.len() - 1)
    }

    fn is_full(&self) -> bool {
        self.leaves.len() >= FIELDS_MAX || self.place.depth == 0
    }
}

impl<'a> DeserializeSeed<'a> for Json<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.is_full() {
            *self.is_cut = true;
            return deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Json<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(mut self, value: bool) -> Result<(), E> {
        self.push(LeafValue::Bool(value));
        Ok(())
    }

    fn visit_i64<E>(mut self, value: i64) -> Result<(), E> {
        self.push(LeafValue::Integer(value));
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "what i64 cannot hold is a double, as in JSON itself")]
    fn visit_u64<E>(mut self, value: u64) -> Result<(), E> {
        self.push(i64::try_from(value).map_or(LeafValue::Float(value as f64), LeafValue::Integer));
        Ok(())
    }

    fn visit_f64<E>(mut self, value: f64) -> Result<(), E> {
        self.push(LeafValue::Float(value));
        Ok(())
    }

    fn visit_borrowed_str<E>(mut self, text: &'a str) -> Result<(), E> {
        self.push(LeafValue::Text(Cow::Borrowed(text)));
        Ok(())
    }

    fn visit_str<E>(mut self, text: &str) -> Result<(), E> {
        self.push(LeafValue::Text(Cow::Owned(text.to_owned())));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut list: A) -> Result<(), A::Error> {
        let parent = self.push(LeafValue::Composite);
        let place = Place { parent, depth: self.place.depth - 1, is_element: true, key: self.place.key };
        let (leaves, is_cut) = (self.leaves, self.is_cut);
        while list.next_element_seed(Json { leaves, is_cut, place: place.clone() })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        let is_body = self.place.key.is_none();
        let parent = self.push(LeafValue::Composite);
        let depth = if is_body { self.place.depth } else { self.place.depth - 1 };
        while let Some(key) = map.next_key_seed(Name)? {
            let place = Place { key: Some(key), parent, depth, is_element: false };
            map.next_value_seed(Json { leaves: self.leaves, is_cut: self.is_cut, place })?;
        }
        Ok(())
    }
}

/// A key of a JSON object, borrowed where it has no escapes.
struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Cow<'a, str>;
    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Cow<'a, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Name {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Cow<'a, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'a, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Vec<Leaf<'_>> {
        let mut leaves = Vec::new();
        fields(Value::Str(text), &mut leaves);
        leaves
    }

    #[track_caller]
    fn check(text: &str, path: &[&str], expected: Option<Scalar<'_>>) {
        let leaves = json(text);
        let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        assert_eq!(at(&leaves, &path).map(Leaf::scalar), expected, "{text} {path:?}");
    }

    #[test]
    fn fields_are_found_by_their_path() {
        let line = r#" {"level":"ERROR","latency_ms":120,"a":{"b":1.5,"level":true},"big":18446744073709551615,
            "list":["x",{"c":2}],"none":null,"esc":"a\nb","k\u0065y":"v"}"#;
        check(line, &["level"], Some(Scalar::Text("ERROR")));
        check(line, &["latency_ms"], Some(Scalar::Integer(120)));
        check(line, &["a"], Some(Scalar::Composite));
        check(line, &["a", "b"], Some(Scalar::Float(1.5)));
        check(line, &["a", "level"], Some(Scalar::Bool(true)));
        check(line, &["b"], None);
        check(line, &["big"], Some(Scalar::Float(18_446_744_073_709_551_615.0)));
        check(line, &["list"], Some(Scalar::Composite));
        check(line, &["list", "list"], None);
        check(line, &["none"], None);
        check(line, &["esc"], Some(Scalar::Text("a\nb")));
        check(line, &["key"], Some(Scalar::Text("v")));
    }

    #[test]
    fn elements_carry_the_name_of_their_array() {
        let leaves = json(r#"{"req":["REQ-F-A-001","REQ-F-B-002"]}"#);
        let texts: Vec<_> = leaves.iter().filter(|leaf| leaf.key == "req").filter_map(Leaf::text).collect();
        assert_eq!(texts, ["REQ-F-A-001", "REQ-F-B-002"]);
    }

    #[test]
    fn what_is_no_json_object_has_no_fields() {
        for text in ["", "plain", "[1]", "{", "{\"a\":1", "{\"a\":1} tail", "{'a':1}", "null"] {
            assert_eq!(json(text), [], "{text}");
        }
    }

    #[test]
    fn depth_and_number_of_fields_are_bounded() {
        let deep = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
        assert_eq!(json(&deep).len(), usize::from(DEPTH_MAX));
        let wide = format!("{{{}\"z\":1}}", "\"a\":1,".repeat(5000));
        assert_eq!(json(&wide).len(), FIELDS_MAX);
        let mut leaves = Vec::new();
        assert!(fields(Value::Str(&wide), &mut leaves));
        assert!(fields(Value::Str(&deep), &mut leaves));
        assert!(!fields(Value::Str("{\"a\":1}"), &mut leaves));
    }
}
