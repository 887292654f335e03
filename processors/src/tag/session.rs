//! One request: from resources to scopes to records to rows. Its buffers are used again for each record.

use std::borrow::Cow;

use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::evidence::{Kind, Method, Row, Rows};
use homeostat_pipeline::otlp::{Attributes, LogView, Scope, SpanView, Value};
use homeostat_pipeline::selector::Scalar;

use super::body::{self, Leaf, LeafValue};
use super::emit::{Texts, blank};
use super::keys::Key;
use super::level::{
    ATTRIBUTES_MAX, BODY_BYTES_MAX, Cut, Found, Keys, Level, VALUE_BYTES_MAX, number, shorten,
};
use super::plan::Plan;
use super::prefilter::Cursor;
use super::record::{Around, LogRecord, SpanRecord, severity, text_of};

/// One request being read.
pub struct Session<'p, 'a> {
    pub(super) plan: &'p Plan,
    /// Where the prefilter hits.
    pub cursor: Cursor<'p, 'a>,
    pub(super) around: Around<'a>,
    pub(super) service: &'a str,
    pub(super) environment: &'a str,
    pub(super) resource: Level<'a>,
    pub(super) scope: Level<'a>,
    pub(super) record: Level<'a>,
    pub(super) keys: Keys<'a>,
    pub(super) texts: Texts,
    leaves: Vec<Leaf<'a>>,
    /// Hash of resource and scope, once a series needed it.
    pub(super) origin: Option<[u8; 16]>,
    is_resource_hit: bool,
    is_scope_hit: bool,
    /// What has been found.
    pub rows: Rows,
    /// What limits cut off.
    pub cut: Cut,
}

impl<'p, 'a> Session<'p, 'a> {
    /// Nothing of `body` has been read yet.
    pub fn new(plan: &'p Plan, body: &'a [u8]) -> Session<'p, 'a> {
        Session {
            plan,
            cursor: plan.prefilter.cursor(body),
            around: Around { resource: Attributes::EMPTY, scope: None },
            service: "",
            environment: "",
            resource: Level::default(),
            scope: Level::default(),
            record: Level::default(),
            keys: Keys::default(),
            texts: Texts::default(),
            leaves: Vec::new(),
            origin: None,
            is_resource_hit: false,
            is_scope_hit: false,
            rows: Rows::new(),
            cut: Cut::default(),
        }
    }

    /// What follows is of this resource.
    pub fn enter_resource(&mut self, attributes: Attributes<'a>) {
        self.around.resource = attributes;
        self.resource.read(&self.plan.vocabulary, attributes, Method::Resource, &mut self.cut);
        self.is_resource_hit = self.says_something(attributes, "", "");
        self.service = text_of(attributes, "service.name");
        self.environment = match text_of(attributes, "deployment.environment.name") {
            "" => text_of(attributes, "deployment.environment"),
            name => name,
        };
    }

    /// What follows is of this scope of the resource.
    pub fn enter_scope(&mut self, scope: Scope<'a>) {
        self.origin = None;
        self.around.scope = Some(scope);
        self.scope.read(&self.plan.vocabulary, scope.attributes(), Method::Scope, &mut self.cut);
        self.is_scope_hit = self.says_something(scope.attributes(), scope.name(), scope.version());
    }

    /// Whether records have to be read even if nothing in their own bytes says so.
    fn says_something(&self, attributes: Attributes<'a>, name: &str, version: &str) -> bool {
        let prefilter = &self.plan.prefilter;
        prefilter.hits(name.as_bytes())
            || prefilter.hits(version.as_bytes())
            || attributes.into_iter().any(|(key, value)| {
                prefilter.hits(key.as_bytes())
                    || match value {
                        Value::Str(text) => prefilter.hits(text.as_bytes()),
                        Value::Array(_) | Value::Map(_) => true,
                        Value::Empty
                        | Value::Bool(_)
                        | Value::Int(_)
                        | Value::Double(_)
                        | Value::Bytes(_) => false,
                    }
            })
    }

    /// Whether a record of these bytes, here, may yield a row.
    #[inline]
    pub fn is_worth_reading(&mut self, record: &[u8]) -> bool {
        self.is_resource_hit || self.is_scope_hit || self.cursor.hits(record)
    }

    /// Reads a span: one pass over its fields and attributes.
    pub fn span(&mut self, message: &'a [u8]) {
        let Plan { vocabulary, .. } = self.plan;
        let (record, cut) = (&mut self.record, &mut self.cut);
        record.begin(vocabulary);
        let take = |pair| record.take(vocabulary, pair, Method::Attribute, cut);
        let span = &SpanView::read_with(message, take);
        let name = span.name();
        self.begin_keys();
        for event in span.events().take(ATTRIBUTES_MAX) {
            self.keys.search_attributes(vocabulary, event.attributes(), Method::Nested, &mut self.cut);
        }
        for link in span.links().take(ATTRIBUTES_MAX) {
            self.keys.search_attributes(vocabulary, link.attributes(), Method::Nested, &mut self.cut);
        }
        self.add_outer_keys();
        for text in [name, span.status_message()] {
            // What has no literal has no key; what is cut is counted all the same.
            if text.len() > VALUE_BYTES_MAX || (!text.is_empty() && self.cursor.hits_key(text.as_bytes())) {
                self.keys.scan(&vocabulary.grammar, text, VALUE_BYTES_MAX, Method::Text, &mut self.cut);
            }
        }
        let value = match (span.start(), span.end()) {
            (0, _) | (_, 0) => f64::NAN,
            #[expect(clippy::cast_precision_loss, reason = "durations beyond 104 days lose nanoseconds")]
            (start, end) => end.checked_sub(start).map_or(f64::NAN, |nanos| nanos as f64),
        };
        let base = Row {
            time: Timestamp::from_unix_nanos(if span.end() == 0 { span.start() } else { span.end() }),
            is_error: span.status_code() == 2,
            kind: Kind::from_otlp(span.kind()),
            value,
            trace_id: span.trace_id(),
            span_id: span.span_id(),
            ..blank(Signal::Traces)
        };
        let record = SpanRecord { span, around: self.around };
        self.emit(base, name, "ns", &record);
    }

    /// Reads a log record.
    pub fn log(&mut self, log: &LogView<'a>) {
        let Plan { vocabulary, .. } = self.plan;
        self.record.read(vocabulary, log.attributes(), Method::Attribute, &mut self.cut);
        let mut leaves = std::mem::take(&mut self.leaves);
        let body = log.body();
        // A JSON body that is cut is no JSON; it is searched as text.
        let whole = body.as_str().is_none_or(|text| text.len() <= BODY_BYTES_MAX);
        if body::fields(if whole { body } else { Value::Empty }, &mut leaves) {
            self.cut.bodies += 1;
        }
        // JSON may write any character as an escape, which the prefilter does not see. So a JSON body is searched only if its
        // own text hits; then a miss of the prefilter still means that nothing is found.
        let raw = body.as_str().unwrap_or_default();
        let is_searched = raw.is_empty() || self.plan.prefilter.hits_vocabulary(raw.as_bytes());
        self.read_leaves(&leaves);
        self.begin_keys();
        if is_searched {
            self.add_leaf_keys(raw, &leaves, true);
        }
        self.add_outer_keys();
        self.keys.scan(&vocabulary.grammar, log.event_name(), VALUE_BYTES_MAX, Method::Text, &mut self.cut);
        if leaves.is_empty() {
            let text = shorten(raw, BODY_BYTES_MAX, &mut self.cut.bodies);
            self.keys.scan(&vocabulary.grammar, text, BODY_BYTES_MAX, Method::Text, &mut self.cut);
        } else if is_searched {
            self.add_leaf_keys(raw, &leaves, false);
        }
        let severity = severity(log, &leaves);
        let base = Row {
            time: Timestamp::from_unix_nanos(if log.time() == 0 { log.observed_time() } else { log.time() }),
            is_error: severity >= 17,
            value: f64::NAN,
            trace_id: log.trace_id(),
            span_id: log.span_id(),
            ..blank(Signal::Logs)
        };
        let record = LogRecord { log, leaves: &leaves, severity, around: self.around };
        let (service, environment) = (self.service, self.environment);
        if service.is_empty() {
            self.service = named(&leaves, &["service.name", "service"]);
        }
        if environment.is_empty() {
            self.environment = named(&leaves, &["deployment.environment.name", "environment"]);
        }
        self.emit(base, log.event_name(), "", &record);
        (self.service, self.environment) = (service, environment);
        leaves.clear();
        self.leaves = leaves;
    }

    /// Takes `sea.*` texts, labels and numbers from the body, where no attribute has them.
    fn read_leaves(&mut self, leaves: &[Leaf<'a>]) {
        for leaf in leaves {
            let Some(target) = self.plan.vocabulary.get(leaf.key.as_bytes()) else { continue };
            // A name or a text with escapes is passed over: the prefilter does not see it either.
            if let (Some((sea, is_alias)), Cow::Borrowed(_)) = (target.sea, &leaf.key)
                && let Some(text) = borrowed(leaf)
                && self.record.sea[sea as usize].is_none()
            {
                self.record.take_sea(sea as usize, text, is_alias);
            }
            if let Some(label) = target.label
                && self.record.labels[label].is_none()
            {
                self.record.labels[label] = match &leaf.value {
                    LeafValue::Text(_) => borrowed(leaf).map(Scalar::Text),
                    LeafValue::Bool(value) => Some(Scalar::Bool(*value)),
                    LeafValue::Integer(value) => Some(Scalar::Integer(*value)),
                    LeafValue::Float(value) => Some(Scalar::Float(*value)),
                    LeafValue::Composite => None,
                };
            }
            if let Some(field) = target.field
                && self.record.fields[field].is_none()
            {
                self.record.fields[field] = number(Some(leaf.scalar()));
            }
        }
    }

    /// Adds the keys of the body's fields: of those that hold keys, or of the text in all others.
    fn add_leaf_keys(&mut self, raw: &'a str, leaves: &[Leaf<'a>], is_explicit: bool) {
        let Plan { vocabulary, .. } = self.plan;
        let grammar = &vocabulary.grammar;
        let (method, bytes_max) =
            if is_explicit { (Method::Attribute, VALUE_BYTES_MAX) } else { (Method::Text, BODY_BYTES_MAX) };
        for leaf in leaves {
            let is_key = vocabulary.get(leaf.key.as_bytes()).is_some_and(|target| target.is_key);
            let LeafValue::Text(text) = &leaf.value else { continue };
            if is_key != is_explicit {
                continue;
            }
            match text {
                Cow::Borrowed(text) => self.keys.scan(grammar, text, bytes_max, method, &mut self.cut),
                // The key itself stands in the JSON as it is, unless it was written with escapes.
                Cow::Owned(text) => grammar.scan(shorten(text, bytes_max, &mut self.cut.values), |key| {
                    if let Some(written) = place_in(raw, key.written) {
                        let version = place_in(raw, key.version).unwrap_or_default();
                        self.keys.add(Found { key: Key { written, version, ..key }, method }, &mut self.cut);
                    }
                }),
            }
        }
    }

    pub(super) fn begin_keys(&mut self) {
        self.keys.clear();
        for found in self.record.keys.all() {
            self.keys.add(*found, &mut self.cut);
        }
    }

    /// Adds those of the scope and the resource, then those in the record's attributes of free text.
    pub(super) fn add_outer_keys(&mut self) {
        for found in self.scope.keys.all().iter().chain(self.resource.keys.all()) {
            self.keys.add(*found, &mut self.cut);
        }
        for value in &self.record.texts {
            self.keys.scan_value(&self.plan.vocabulary.grammar, *value, Method::Text, &mut self.cut);
        }
    }
}

/// The text of a field of the body, where it stands in the body as it is.
fn borrowed<'a>(leaf: &Leaf<'a>) -> Option<&'a str> {
    match &leaf.value {
        LeafValue::Text(Cow::Borrowed(text)) => Some(text),
        LeafValue::Text(Cow::Owned(_))
        | LeafValue::Bool(_)
        | LeafValue::Integer(_)
        | LeafValue::Float(_)
        | LeafValue::Composite => None,
    }
}

/// The text of the first of `names` that the body has.
fn named<'a>(leaves: &[Leaf<'a>], names: &[&str]) -> &'a str {
    let text = |name: &&str| leaves.iter().find(|leaf| leaf.key == **name).and_then(borrowed);
    names.iter().find_map(text).unwrap_or_default()
}

/// Where `part` stands in `raw`.
fn place_in<'a>(raw: &'a str, part: &str) -> Option<&'a str> {
    raw.find(part).map(|at| &raw[at..at + part.len()])
}
