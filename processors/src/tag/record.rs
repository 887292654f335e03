//! Spans and log records as selectors see them.

use homeostat_pipeline::evidence::Kind;
use homeostat_pipeline::otlp::{Attributes, LogView, Scope, SpanView, Value};
use homeostat_pipeline::selector::{Fields, Scalar, Status};

use super::body::{self, Leaf};
use super::level::scalar;

/// What is around a record.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// The attributes of its resource.
    pub resource: Attributes<'a>,
    /// Its scope.
    pub scope: Option<Scope<'a>>,
}

impl<'a> Around<'a> {
    /// An attribute of the scope.
    pub fn scope_attribute(&self, key: &str) -> Option<Scalar<'a>> {
        self.scope.and_then(|scope| get(scope.attributes(), key))
    }
    /// The name of the scope.
    pub fn scope_name(&self) -> &'a str {
        self.scope.map_or("", |scope| scope.name())
    }
    /// The version of the scope.
    pub fn scope_version(&self) -> &'a str {
        self.scope.map_or("", |scope| scope.version())
    }
}

/// A span and what is around it.
pub struct SpanRecord<'r, 'a> {
    /// The span.
    pub span: &'r SpanView<'a>,
    /// What is around it.
    pub around: Around<'a>,
}

/// A log record, the fields of its body, and what is around it.
pub struct LogRecord<'r, 'a> {
    /// The record.
    pub log: &'r LogView<'a>,
    /// The fields of its body.
    pub leaves: &'r [Leaf<'a>],
    /// Its severity, 1 to 24, wherever it says so; zero when nowhere.
    pub severity: u8,
    /// What is around it.
    pub around: Around<'a>,
}

/// The value of an attribute.
pub fn get<'a>(attributes: Attributes<'a>, key: &str) -> Option<Scalar<'a>> {
    attributes.get(key).and_then(scalar)
}

impl Fields for SpanRecord<'_, '_> {
    fn kind(&self) -> Kind {
        Kind::from_otlp(self.span.kind())
    }
    fn name(&self) -> &str {
        self.span.name()
    }
    fn status(&self) -> Option<Status> {
        Some(Status::from_otlp(self.span.status_code()))
    }
    fn severity(&self) -> u8 {
        0
    }
    fn severity_text(&self) -> &str {
        ""
    }
    fn body(&self, _path: &[String]) -> Option<Scalar<'_>> {
        None
    }
    fn attribute(&self, key: &str) -> Option<Scalar<'_>> {
        get(self.span.attributes(), key)
    }
    fn resource(&self, key: &str) -> Option<Scalar<'_>> {
        get(self.around.resource, key)
    }
    fn scope(&self, key: &str) -> Option<Scalar<'_>> {
        self.around.scope_attribute(key)
    }
    fn scope_name(&self) -> &str {
        self.around.scope_name()
    }
    fn scope_version(&self) -> &str {
        self.around.scope_version()
    }
}

impl Fields for LogRecord<'_, '_> {
    fn kind(&self) -> Kind {
        Kind::Unspecified
    }
    fn name(&self) -> &str {
        self.log.event_name()
    }
    fn status(&self) -> Option<Status> {
        None
    }
    fn severity(&self) -> u8 {
        self.severity
    }
    fn severity_text(&self) -> &str {
        self.log.severity_text()
    }
    fn body(&self, path: &[String]) -> Option<Scalar<'_>> {
        if path.is_empty() {
            return scalar(self.log.body());
        }
        body::at(self.leaves, path).map(Leaf::scalar)
    }
    fn attribute(&self, key: &str) -> Option<Scalar<'_>> {
        get(self.log.attributes(), key)
    }
    fn resource(&self, key: &str) -> Option<Scalar<'_>> {
        get(self.around.resource, key)
    }
    fn scope(&self, key: &str) -> Option<Scalar<'_>> {
        self.around.scope_attribute(key)
    }
    fn scope_name(&self) -> &str {
        self.around.scope_name()
    }
    fn scope_version(&self) -> &str {
        self.around.scope_version()
    }
}

/// The severity of a log record: its number, else what its text means, else what `level` or `severity` in its body means.
pub fn severity(log: &LogView<'_>, leaves: &[Leaf<'_>]) -> u8 {
    if let Ok(number @ 1..=24) = u8::try_from(log.severity_number()) {
        return number;
    }
    let named = |name: &str| leaves.iter().find(|leaf| leaf.key == name).and_then(Leaf::text);
    severity_of(log.severity_text())
        .or_else(|| named("level").and_then(severity_of))
        .or_else(|| named("severity").and_then(severity_of))
        .unwrap_or(0)
}

/// The first number of the class that a word names, as the specification's appendix maps those of other systems.
fn severity_of(word: &str) -> Option<u8> {
    let any = |words: &[&str]| words.iter().any(|known| known.eq_ignore_ascii_case(word.trim()));
    if any(&["fatal", "critical", "crit", "emergency", "emerg", "alert", "panic"]) {
        Some(21)
    } else if any(&["error", "err", "severe"]) {
        Some(17)
    } else if any(&["warn", "warning"]) {
        Some(13)
    } else if any(&["info", "information", "informational", "notice"]) {
        Some(9)
    } else if any(&["debug"]) {
        Some(5)
    } else if any(&["trace", "verbose"]) {
        Some(1)
    } else {
        None
    }
}

/// The text of a resource's attribute.
pub fn text_of<'a>(attributes: Attributes<'a>, key: &str) -> &'a str {
    attributes.get(key).and_then(Value::as_str).unwrap_or_default()
}
