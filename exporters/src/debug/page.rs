//! Text with a limit, and how values, attributes and times are written.

use std::fmt::{self, Write as _};

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::hex;
use homeostat_pipeline::otlp::{Attributes, Resource, Scope, Value};

/// Values that nest deeper are not shown.
const DEPTH_MAX: u32 = 16;

/// Lines until there is no room.
pub(super) struct Page {
    text: String,
    room: usize,
    is_cut: bool,
}

impl Page {
    pub(super) fn new(room: usize) -> Page {
        Page { text: String::new(), room, is_cut: false }
    }

    /// Whether more lines would be left out.
    pub(super) fn is_full(&self) -> bool {
        self.is_cut
    }

    /// One line, unless there is no room for it.
    pub(super) fn line(&mut self, line: fmt::Arguments<'_>) {
        if self.is_cut {
            return;
        }
        let before = self.text.len();
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
        if self.text.len() > self.room {
            self.text.truncate(before);
            self.is_cut = true;
        }
    }

    pub(super) fn finish(mut self) -> String {
        if self.is_cut {
            self.text.push_str("… the rest is not shown: too much in one second\n");
        }
        self.text
    }

    /// `header:` and a line for each attribute; nothing where there are none.
    pub(super) fn attributes(&mut self, indent: &str, header: &str, attributes: Attributes<'_>) {
        if attributes.is_empty() {
            return;
        }
        self.line(format_args!("{header}:"));
        for (key, value) in attributes {
            self.line(format_args!("{indent}     -> {key}: {}", Typed(value)));
        }
    }

    /// What stands before the records of a scope.
    pub(super) fn scope(&mut self, kind: &str, index: usize, schema_url: &str, scope: &Scope<'_>) {
        self.line(format_args!("Scope{kind} #{index}"));
        self.line(format_args!("Scope{kind} SchemaURL: {schema_url}"));
        self.line(format_args!("InstrumentationScope {} {}", scope.name(), scope.version()));
        self.attributes("", "InstrumentationScope attributes", scope.attributes());
    }

    /// What stands before the scopes of a resource.
    pub(super) fn resource(&mut self, title: &str, index: usize, schema_url: &str, resource: &Resource<'_>) {
        self.line(format_args!("{title} #{index}"));
        self.line(format_args!("Resource SchemaURL: {schema_url}"));
        self.attributes("", "Resource attributes", resource.attributes());
    }
}

/// `Str(text)`, `Int(1)` …
pub(super) struct Typed<'a>(pub(super) Value<'a>);

impl fmt::Display for Typed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            Value::Empty => "Empty",
            Value::Str(_) => "Str",
            Value::Bool(_) => "Bool",
            Value::Int(_) => "Int",
            Value::Double(_) => "Double",
            Value::Bytes(_) => "Bytes",
            Value::Array(_) => "Slice",
            Value::Map(_) => "Map",
        };
        write!(f, "{kind}({})", Plain(self.0))
    }
}

/// The value alone; maps and arrays as JSON, bytes in hex.
pub(super) struct Plain<'a>(pub(super) Value<'a>);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Str(text) => f.write_str(text),
            Value::Empty => Ok(()),
            value @ (Value::Bool(_) | Value::Int(_) | Value::Double(_) | Value::Array(_) | Value::Map(_)) => {
                json(value, DEPTH_MAX).fmt(f)
            }
            Value::Bytes(bytes) => f.write_str(&hex(bytes)),
        }
    }
}

fn json(value: Value<'_>, depth: u32) -> serde_json::Value {
    match value {
        Value::Empty => serde_json::Value::Null,
        Value::Str(text) => text.into(),
        Value::Bool(value) => value.into(),
        Value::Int(value) => value.into(),
        Value::Double(value) if value.is_finite() => value.into(),
        Value::Double(value) => value.to_string().into(),
        Value::Bytes(bytes) => hex(bytes).into(),
        Value::Array(_) | Value::Map(_) if depth == 0 => "…".into(),
        Value::Array(list) => list.iter().map(|value| json(value, depth - 1)).collect(),
        Value::Map(map) => serde_json::Value::Object(
            map.into_iter().map(|(key, value)| (key.to_owned(), json(value, depth - 1))).collect(),
        ),
    }
}

/// `k=v k=v` with `between` between them.
pub(super) struct Pairs<'a>(pub(super) Attributes<'a>, pub(super) &'static str);

impl fmt::Display for Pairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.0.into_iter().enumerate() {
            let between = if index == 0 { "" } else { self.1 };
            write!(f, "{between}{key}={}", Plain(value))?;
        }
        Ok(())
    }
}

/// `2020-02-11 20:26:12.000000321 +0000 UTC`.
pub(super) fn time(nanos: u64) -> String {
    let at = Timestamp::from_unix_nanos(nanos).to_string();
    format!("{} +0000 UTC", at.trim_end_matches('Z').replacen('T', " ", 1))
}

/// In hex; nothing for zeros, which say that there is no id.
pub(super) fn id(bytes: &[u8]) -> String {
    if bytes.iter().all(|byte| *byte == 0) { String::new() } else { hex(bytes) }
}
