//! `filter` drops the records that a selector matches, before they are forwarded.
//!
//! ```yaml
//! processors:
//!   filter:
//!     spans: ['name == "GET /healthz" and kind == SERVER']
//!     logs: ['severity < INFO']
//!     metrics: ['name == "process.runtime.gc"']     # data points; `name` is that of their metric
//!   filter/collector:
//!     error_mode: ignore
//!     traces: { span: ['attributes["url.path"] == "/healthz"'] }
//!     metrics: { metric: ['name == "queue.size"'], datapoint: ['attributes["host"] == "test"'] }
//!     logs: { log_record: ['severity_number < SEVERITY_NUMBER_WARN'] }
//! ```
//!
//! A record goes when any selector of its signal matches. It stands after `tag`, so what is dropped has been judged and is only not
//! forwarded. The bytes of what goes are cut out, and what stays is not decoded; a request from which something was cut goes out as
//! plain protobuf, unless the exporter compresses. If nothing stays, nothing is forwarded, and the answer is OK. A request in which no
//! text of any selector occurs is not looked at.
//!
//! A Collector's OTTL conditions are taken where a selector can say the same; others are errors with their place.

mod ottl;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use homeostat_pipeline::batch::{Batch, Compression, Content, Frame, Signal, Telemetry};
use homeostat_pipeline::budget::{Budget, Charge, Class};
use homeostat_pipeline::contract::Processor;
use homeostat_pipeline::drops;
use homeostat_pipeline::otlp::{self, LogView, Part, PointView, Resource, Scope, SpanView, Value};
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::{Component, Context, Role, Settings};
use homeostat_pipeline::selector::{Fields, Selector};
use homeostat_pipeline::settings::{At, Files, Node, Problem, read};
use memchr::memmem::Finder;
use metrics::Counter;
use schemars::JsonSchema;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize};

use crate::tag::body;
use crate::tag::level::BODY_BYTES_MAX;
use crate::tag::point::PointRecord;
use crate::tag::record::{Around, LogRecord, SpanRecord, severity};
use ottl::Subject;

/// Parts of a Collector's block that nothing here does, where they stand, and what to do instead.
const UNSUPPORTED: [(&[&str], &str, &str); 8] = [
    (&[], "trace_conditions", "write `traces: { span: […] }`, or selectors under `spans`"),
    (&[], "log_conditions", "write `logs: { log_record: […] }`, or selectors under `logs`"),
    (
        &[],
        "metric_conditions",
        "write `metrics: { metric: […], datapoint: […] }`, or selectors under `metrics`",
    ),
    (&["traces"], "spanevent", "events of spans cannot be dropped"),
    (&["traces", "logs", "metrics"], "resource", "select records by their `resource.attributes`"),
    (&["spans", "logs", "metrics"], "include", "write selectors of what is to be dropped"),
    (&["spans", "logs", "metrics"], "exclude", "write selectors of what is to be dropped"),
    (&[], "profiles", "profiles are not taken"),
];

/// Reads a block: a part of a Collector's that is not supported is named as such, before the general error would.
///
/// # Errors
/// At the first thing that does not fit.
pub fn read_block(node: &Node) -> Result<Box<dyn Settings>, Problem> {
    for (homes, key, remedy) in UNSUPPORTED {
        let below: Vec<&Node> = if homes.is_empty() {
            vec![node]
        } else {
            homes.iter().filter_map(|home| node.get(home)).collect()
        };
        if let Some(found) = below.into_iter().find_map(|node| node.get(key)) {
            let message = format!("`{key}` of the Collector's filter is not supported here ({remedy})");
            return Err(Problem::error(&found.at, message));
        }
    }
    Ok(Box::new(read::<Filter>(node)?))
}

/// The settings of `filter`; see the module for the YAML.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Selectors of spans.
    pub spans: Vec<At<String>>,
    /// Selectors of log records, or a Collector's conditions.
    pub logs: Conditions<LogConditions>,
    /// Selectors of data points, or a Collector's conditions.
    pub metrics: Conditions<MetricConditions>,
    /// A Collector's conditions for spans.
    pub traces: TraceConditions,
    /// Accepted, for a Collector's block has it: a selector cannot fail.
    pub error_mode: Option<ErrorMode>,
}

/// What a Collector does when a condition fails.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErrorMode {
    /// Logs it.
    Ignore,
    /// Says nothing.
    Silent,
    /// Refuses the request.
    Propagate,
}

/// A Collector's `traces`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TraceConditions {
    /// OTTL conditions of spans.
    pub span: Vec<At<String>>,
}

/// A Collector's `logs`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConditions {
    /// OTTL conditions of log records.
    pub log_record: Vec<At<String>>,
}

/// A Collector's `metrics`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetricConditions {
    /// OTTL conditions of metrics, which go with all their points.
    pub metric: Vec<At<String>>,
    /// OTTL conditions of data points.
    pub datapoint: Vec<At<String>>,
}

/// A list of selectors, or a mapping as the Collector has it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Conditions<T> {
    /// Ours.
    Selectors(Vec<At<String>>),
    /// The Collector's.
    Collector(T),
}

impl<T> Default for Conditions<T> {
    fn default() -> Conditions<T> {
        Conditions::Selectors(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Conditions<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Conditions<T>, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Conditions<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of selectors, or a mapping with the Collector's conditions")
            }
            fn visit_unit<E>(self) -> Result<Conditions<T>, E> {
                Ok(Conditions::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Conditions<T>, A::Error> {
                let mut selectors = Vec::new();
                while let Some(selector) = list.next_element()? {
                    selectors.push(selector);
                }
                Ok(Conditions::Selectors(selectors))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Conditions<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Conditions::Collector)
            }
        }
        deserializer.deserialize_any(Read(PhantomData))
    }
}

/// One selector, and whether it was a Collector's condition: those see a log record's severity and body as they came.
#[derive(Clone, Debug)]
struct Rule {
    selector: Selector,
    is_ottl: bool,
}

/// What drops records of one signal.
#[derive(Default)]
struct Rules {
    /// Whole metrics.
    metrics: Vec<Rule>,
    records: Vec<Rule>,
}

impl Rules {
    fn all(&self) -> impl Iterator<Item = &Rule> {
        self.metrics.iter().chain(&self.records)
    }
}

impl Filter {
    /// The rules of the three signals, in the order of [`Signal::ALL`], and all that is wrong.
    fn rules(&self) -> ([Rules; 3], Vec<Problem>) {
        let mut problems = Vec::new();
        let mut compile = |texts: &[At<String>], subject: Option<Subject>| {
            let mut rules = Vec::new();
            for text in texts {
                let selector = match subject {
                    None => Selector::parse(&text.value).map_err(|error| error.to_string()),
                    Some(subject) => ottl::selector(&text.value, subject),
                };
                match selector {
                    Ok(selector) => rules.push(Rule { selector, is_ottl: subject.is_some() }),
                    Err(message) => problems.push(Problem::error(&text.at, message)),
                }
            }
            rules
        };
        let mut spans = compile(&self.spans, None);
        spans.extend(compile(&self.traces.span, Some(Subject::Span)));
        let (metrics, points) = match &self.metrics {
            Conditions::Selectors(texts) => (Vec::new(), compile(texts, None)),
            Conditions::Collector(of) => {
                (compile(&of.metric, Some(Subject::Metric)), compile(&of.datapoint, Some(Subject::Point)))
            }
        };
        let logs = match &self.logs {
            Conditions::Selectors(texts) => compile(texts, None),
            Conditions::Collector(of) => compile(&of.log_record, Some(Subject::Log)),
        };
        let records = |records| Rules { metrics: Vec::new(), records };
        ([records(spans), Rules { metrics, records: points }, records(logs)], problems)
    }

    /// The processor; what it rewrites is charged to `budget`.
    pub fn processor(&self, id: &str, budget: Budget) -> Arc<dyn Processor> {
        Arc::new(self.dropper(id, budget))
    }

    fn dropper(&self, id: &str, budget: Budget) -> Dropper {
        let label = || id.to_owned();
        let counters = [
            metrics::counter!("otelcol_processor_filter_spans_filtered", "filter" => label()),
            metrics::counter!("otelcol_processor_filter_datapoints_filtered", "filter" => label()),
            metrics::counter!("otelcol_processor_filter_logs_filtered", "filter" => label()),
        ];
        let mut counters = counters.into_iter();
        let lanes = self.rules().0.map(|rules| Lane {
            needles: needles(&rules),
            rules,
            dropped: counters.next().unwrap_or_else(Counter::noop),
        });
        Dropper { lanes, budget }
    }
}

#[async_trait]
impl Settings for Filter {
    fn role(&self) -> Role {
        Role::Processor
    }

    fn check(&self, _files: &Files) -> Vec<Problem> {
        let (rules, mut problems) = self.rules();
        if problems.is_empty() && rules.iter().all(|rules| rules.all().next().is_none()) {
            let message = "`filter` has no selector and drops nothing (write `spans`, `logs` or `metrics`, or leave it out)";
            problems.push(Problem { is_warning: true, ..Problem::somewhere(message.to_owned()) });
        }
        problems
    }

    async fn open(&self, context: Context) -> anyhow::Result<Component> {
        Ok(Component::Processor(self.processor(&context.id, context.budget)))
    }
}

/// Texts of which one stands in every body that loses something; none when nothing can be said.
fn needles(rules: &Rules) -> Option<Vec<Finder<'static>>> {
    let mut literals = Vec::new();
    for rule in rules.all() {
        literals.extend(rule.selector.literals()?);
    }
    literals.sort();
    literals.dedup();
    Some(literals.iter().map(|literal| Finder::new(literal).into_owned()).collect())
}

/// One signal.
struct Lane {
    rules: Rules,
    needles: Option<Vec<Finder<'static>>>,
    dropped: Counter,
}

struct Dropper {
    lanes: [Lane; 3],
    budget: Budget,
}

impl Processor for Dropper {
    fn process(&self, batch: Batch, out: &mut Vec<Batch>) -> Result<(), Refusal> {
        let Batch::Telemetry(telemetry) = batch else {
            out.push(batch);
            return Ok(());
        };
        let lane = &self.lanes[telemetry.signal as usize];
        let Some(cut) = lane.cut(telemetry.signal, &telemetry.body) else {
            out.push(Batch::Telemetry(telemetry));
            return Ok(());
        };
        if cut.kept > 0 {
            let charge = self.budget.try_charge(None, Class::Telemetry, cut.body.len() as u64)?;
            let body = Bytes::from_owner(Charged { bytes: cut.body, _charge: charge });
            let frame =
                Frame { content: Content::Protobuf, compression: Compression::None, bytes: body.clone() };
            out.push(Batch::Telemetry(Telemetry { frame, body, records: cut.kept, ..telemetry }));
        }
        lane.dropped.increment(cut.dropped);
        drops::FILTER_DROPPED.count(cut.dropped);
        Ok(())
    }
}

/// Bytes that hold their part of the memory budget as long as anybody has them.
struct Charged {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Lane {
    /// The body without what goes; none when all of it stays.
    fn cut(&self, signal: Signal, body: &[u8]) -> Option<otlp::Cut> {
        let has = |needles: &Vec<Finder<'_>>| needles.iter().any(|needle| needle.find(body).is_some());
        if !self.needles.as_ref().is_none_or(has) {
            return None;
        }
        otlp::cut(signal, body, |resource, scope, part| match (signal, part) {
            (Signal::Logs, Part::Record(message)) => self.log(message, around(resource, scope)),
            (_, part) => self.goes(around(resource, scope), part),
        })
    }

    fn goes(&self, around: Around<'_>, part: Part<'_>) -> bool {
        let any =
            |rules: &[Rule], record: &dyn Fields| rules.iter().any(|rule| rule.selector.matches(record));
        match part {
            Part::Record(message) => {
                any(&self.rules.records, &SpanRecord { span: &SpanView::read(message), around })
            }
            Part::Metric(metric) => {
                let point = PointView::default();
                any(&self.rules.metrics, &PointRecord { metric, point: &point, around })
            }
            Part::Point(metric, message) => {
                if self.rules.records.is_empty() {
                    return false;
                }
                let point = PointView::read(metric.kind(), message);
                any(&self.rules.records, &PointRecord { metric, point: &point, around })
            }
        }
    }

    fn log(&self, message: &[u8], around: Around<'_>) -> bool {
        let mut leaves = Vec::new();
        let log = LogView::read(message);
        let raw = log.body();
        let is_read = raw.as_str().is_none_or(|text| text.len() <= BODY_BYTES_MAX);
        body::fields(if is_read { raw } else { Value::Empty }, &mut leaves);
        let own = LogRecord { log: &log, leaves: &leaves, severity: severity(&log, &leaves), around };
        let as_it_came = LogRecord {
            log: &log,
            leaves: if matches!(raw, Value::Map(_)) { &leaves } else { &[] },
            severity: u8::try_from(log.severity_number()).unwrap_or(0),
            around,
        };
        let matches = |rule: &Rule| rule.selector.matches(if rule.is_ottl { &as_it_came } else { &own });
        self.rules.records.iter().any(matches)
    }
}

fn around<'a>(resource: &Resource<'a>, scope: &Scope<'a>) -> Around<'a> {
    Around { resource: resource.attributes(), scope: Some(*scope) }
}
