//! What a resource, a scope or a record itself carries: keys, `sea.*` texts, labels, numeric fields.

use homeostat_pipeline::otlp::{Attributes, Pair, Value};
use homeostat_pipeline::selector::Scalar;

use super::keys::{Grammar, Key};
use super::vocabulary::{SeaTexts, Target, Vocabulary};
use homeostat_pipeline::evidence::Method;

/// Attributes beyond so many are not looked at.
pub const ATTRIBUTES_MAX: usize = 128;
/// Text of an attribute beyond so many bytes is not looked at, and not put into evidence.
pub const VALUE_BYTES_MAX: usize = 4 * 1024;
/// Text of a log record's body beyond so many bytes is not looked at.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Keys of one observation beyond so many are left out: each is a row.
pub const KEYS_MAX: usize = 32;
/// How deeply maps and arrays are searched.
const DEPTH_MAX: u8 = 4;

/// How often a limit cut something off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Records, scopes or resources with too many attributes.
    pub attributes: u64,
    /// Texts that were too long.
    pub values: u64,
    /// Bodies that were too long, or had too many fields.
    pub bodies: u64,
    /// Observations with too many keys.
    pub keys: u64,
    /// Data points that say only that they have no value.
    pub unrecorded: u64,
    /// Data points without what their kind needs: a value, a temporality.
    pub unusable: u64,
}

/// A key and where it stood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found<'a> {
    /// The key.
    pub key: Key<'a>,
    /// Where it stood.
    pub method: Method,
}

/// Keys in order of first appearance, each once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keys<'a>(Vec<Found<'a>>);

impl<'a> Keys<'a> {
    /// Forgets them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// All of them.
    pub fn all(&self) -> &[Found<'a>] {
        &self.0
    }

    /// Adds one, unless it is there; a version that was missing is taken over.
    pub fn add(&mut self, found: Found<'a>, cut: &mut Cut) {
        if let Some(known) = self.0.iter_mut().find(|known| known.key.is_same(&found.key)) {
            if known.key.version.is_empty() {
                known.key.version = found.key.version;
            }
        } else if self.0.len() < KEYS_MAX {
            self.0.push(found);
        } else {
            cut.keys += 1;
        }
    }

    /// Adds those of `text`, of which at most `bytes_max` are looked at.
    pub fn scan(
        &mut self,
        grammar: &Grammar,
        text: &'a str,
        bytes_max: usize,
        method: Method,
        cut: &mut Cut,
    ) {
        let text = shorten(text, bytes_max, &mut cut.values);
        grammar.scan(text, |key| self.add(Found { key, method }, cut));
    }

    /// Adds those of all texts in `value`.
    pub fn scan_value(&mut self, grammar: &Grammar, value: Value<'a>, method: Method, cut: &mut Cut) {
        self.scan_deep(grammar, value, method, DEPTH_MAX, cut);
    }

    fn scan_deep(&mut self, grammar: &Grammar, value: Value<'a>, method: Method, depth: u8, cut: &mut Cut) {
        match value {
            Value::Str(text) => self.scan(grammar, text, VALUE_BYTES_MAX, method, cut),
            Value::Array(list) if depth > 0 => {
                for value in list.into_iter().take(ATTRIBUTES_MAX) {
                    self.scan_deep(grammar, value, method, depth - 1, cut);
                }
            }
            Value::Map(map) if depth > 0 => {
                for (_, value) in map.into_iter().take(ATTRIBUTES_MAX) {
                    self.scan_deep(grammar, value, method, depth - 1, cut);
                }
            }
            Value::Empty
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Double(_)
            | Value::Bytes(_)
            | Value::Array(_)
            | Value::Map(_) => {}
        }
    }

    /// Looks for names that hold keys in the maps of `value`.
    fn search(&mut self, names: &Vocabulary, value: Value<'a>, method: Method, depth: u8, cut: &mut Cut) {
        match value {
            Value::Map(map) if depth > 0 => {
                for (name, value) in map.into_iter().take(ATTRIBUTES_MAX) {
                    if names.get(name.as_bytes()).is_some_and(|target| target.is_key) {
                        self.scan_deep(&names.grammar, value, method, depth - 1, cut);
                    } else {
                        self.search(names, value, method, depth - 1, cut);
                    }
                }
            }
            Value::Array(list) if depth > 0 => {
                for value in list.into_iter().take(ATTRIBUTES_MAX) {
                    self.search(names, value, method, depth - 1, cut);
                }
            }
            Value::Empty
            | Value::Str(_)
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Double(_)
            | Value::Bytes(_)
            | Value::Array(_)
            | Value::Map(_) => {}
        }
    }

    /// Adds the explicit keys among `attributes`, and no others: what events and links are searched for.
    pub fn search_attributes(
        &mut self,
        names: &Vocabulary,
        attributes: Attributes<'a>,
        method: Method,
        cut: &mut Cut,
    ) {
        self.search(names, Value::Map(attributes), method, DEPTH_MAX + 1, cut);
    }
}

/// What one level carries.
#[derive(Debug, Default)]
pub struct Level<'a> {
    /// Explicit keys.
    pub keys: Keys<'a>,
    /// `sea.*` texts.
    pub sea: SeaTexts<'a>,
    /// A value per label.
    pub labels: Vec<Option<Scalar<'a>>>,
    /// A number per log field.
    pub fields: Vec<Option<f64>>,
    /// Values of attributes that hold free text.
    pub texts: Vec<Value<'a>>,
    /// Attributes that came by.
    seen: usize,
}

impl<'a> Level<'a> {
    /// Reads all `attributes` once, forgetting what was there.
    pub fn read(&mut self, names: &Vocabulary, attributes: Attributes<'a>, method: Method, cut: &mut Cut) {
        self.begin(names);
        for pair in attributes.pairs() {
            self.take(names, pair, method, cut);
        }
    }

    /// Forgets what was there.
    pub fn begin(&mut self, names: &Vocabulary) {
        self.keys.clear();
        self.sea = SeaTexts::default();
        self.texts.clear();
        self.labels.clear();
        self.labels.resize(names.labels.len(), None);
        self.fields.clear();
        self.fields.resize(names.fields.len(), None);
        self.seen = 0;
    }

    /// Reads the next attribute. Nearly every one is left undecoded, for its name says nothing.
    #[inline]
    pub fn take(&mut self, names: &Vocabulary, pair: Pair<'a>, method: Method, cut: &mut Cut) {
        self.seen += 1;
        if self.seen > ATTRIBUTES_MAX {
            cut.attributes += u64::from(self.seen == ATTRIBUTES_MAX + 1);
            return;
        }
        match names.get(pair.key()) {
            Some(target) => self.take_known(names, target, pair.value(), method, cut),
            None if pair.is_flat() => {}
            None => self.keys.search(names, pair.value(), method, DEPTH_MAX, cut),
        }
    }

    fn take_known(
        &mut self,
        names: &Vocabulary,
        target: &Target,
        value: Value<'a>,
        method: Method,
        cut: &mut Cut,
    ) {
        if target.is_key {
            self.keys.scan_value(&names.grammar, value, method, cut);
        }
        if target.is_text {
            self.texts.push(value);
        }
        if let (Some((sea, is_alias)), Value::Str(text)) = (target.sea, value) {
            self.take_sea(sea as usize, text, is_alias);
        }
        if let Some(label) = target.label {
            self.labels[label] = self.labels[label].or(scalar(value));
        }
        if let Some(field) = target.field {
            self.fields[field] = self.fields[field].or(number(scalar(value)));
        }
    }

    /// The name itself comes before its aliases; otherwise the first one holds.
    pub fn take_sea(&mut self, sea: usize, text: &'a str, is_alias: bool) {
        let slot = &mut self.sea[sea];
        if !text.is_empty() && (slot.is_none() || (!is_alias && slot.is_some_and(|(_, by_alias)| by_alias))) {
            *slot = Some((text, is_alias));
        }
    }
}

/// An attribute's value as selectors see it.
pub fn scalar(value: Value<'_>) -> Option<Scalar<'_>> {
    match value {
        Value::Empty => None,
        Value::Str(text) => Some(Scalar::Text(text)),
        Value::Bool(value) => Some(Scalar::Bool(value)),
        Value::Int(value) => Some(Scalar::Integer(value)),
        Value::Double(value) => Some(Scalar::Float(value)),
        Value::Bytes(_) | Value::Array(_) | Value::Map(_) => Some(Scalar::Composite),
    }
}

/// The finite number that a value is.
#[expect(clippy::cast_precision_loss, reason = "measures are doubles")]
pub fn number(scalar: Option<Scalar<'_>>) -> Option<f64> {
    match scalar? {
        Scalar::Integer(value) => Some(value as f64),
        Scalar::Float(value) => Some(value).filter(|value| value.is_finite()),
        Scalar::Text(_) | Scalar::Bool(_) | Scalar::Composite => None,
    }
}

/// At most `bytes_max` bytes of `text`, cut between two characters.
pub fn shorten<'a>(text: &'a str, bytes_max: usize, cut: &mut u64) -> &'a str {
    if text.len() <= bytes_max {
        return text;
    }
    *cut += 1;
    &text[..text.floor_char_boundary(bytes_max)]
}
