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

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use homeostat_pipeline::batch::{Batch, Compression, Content, Frame, Signal, Telemetry};
use homeostat_pipeline::budget::{Budget, Charge, Class};
use homeostat_pipeline::contract::Processor;
use homeostat_pipeline::otlp::{self, LogView, Part, PointView, Resource, Scope, SpanView, Value};
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::{Component, Context, Role, Settings};
use homeostat_pipeline::selector::{Fields, Selector};
use homeostat_pipeline::settings::{At, Files, Problem};
use memchr::memmem::Finder;
use metrics::Counter;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};

use crate::tag::body;
use crate::tag::level::BODY_BYTES_MAX;
use crate::tag::point::PointRecord;
use crate::tag::record::{Around, LogRecord, SpanRecord, severity};
use ottl::Subject;

/// The settings of `filter`; see the module for the YAML.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Selectors of spans.
    pub spans: Vec<At<String>>,
    /// Selectors of log records, or a Collector's conditions.
    pub logs: Conditions,
    /// Selectors of data points, or a Collector's conditions.
    pub metrics: Conditions,
    /// A Collector's conditions for spans.
    pub traces: Collector,
    /// Accepted, for a Collector's block has it: a selector cannot fail.
    pub error_mode: Option<ErrorMode>,
    /// Not supported.
    pub trace_conditions: Option<At<IgnoredAny>>,
    /// Not supported.
    pub log_conditions: Option<At<IgnoredAny>>,
    /// Not supported.
    pub metric_conditions: Option<At<IgnoredAny>>,
}

/// What a Collector does when a condition fails.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorMode {
    /// Logs it.
    Ignore,
    /// Says nothing.
    Silent,
    /// Refuses the request.
    Propagate,
}

/// A list of selectors, or a mapping as the Collector has it.
#[derive(Debug)]
pub enum Conditions {
    /// Ours.
    Selectors(Vec<At<String>>),
    /// The Collector's.
    Collector(Box<Collector>),
}

/// Lists of OTTL conditions by what they are asked about.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Collector {
    /// Of spans.
    pub span: Vec<At<String>>,
    /// Of log records.
    pub log_record: Vec<At<String>>,
    /// Of metrics, with all their points.
    pub metric: Vec<At<String>>,
    /// Of data points.
    pub datapoint: Vec<At<String>>,
    /// Not supported.
    pub spanevent: Option<At<IgnoredAny>>,
    /// Not supported.
    pub resource: Option<At<IgnoredAny>>,
    /// Not supported.
    pub include: Option<At<IgnoredAny>>,
    /// Not supported.
    pub exclude: Option<At<IgnoredAny>>,
}

impl Default for Conditions {
    fn default() -> Conditions {
        Conditions::Selectors(Vec::new())
    }
}

impl<'de> Deserialize<'de> for Conditions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Conditions, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Conditions;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of selectors, or a mapping with the Collector's conditions")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Conditions, A::Error> {
                let mut selectors = Vec::new();
                while let Some(selector) = list.next_element()? {
                    selectors.push(selector);
                }
                Ok(Conditions::Selectors(selectors))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Conditions, A::Error> {
                let conditions = Collector::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Conditions::Collector(Box::new(conditions)))
            }
        }
        deserializer.deserialize_any(Read)
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
        let mut problems = self.unsupported();
        let mut read = |texts: &[At<String>], subject: Option<Subject>| {
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
        let mut spans = read(&self.spans, None);
        spans.extend(read(&self.traces.span, Some(Subject::Span)));
        let (metrics, points) = match &self.metrics {
            Conditions::Selectors(texts) => (Vec::new(), read(texts, None)),
            Conditions::Collector(of) => {
                (read(&of.metric, Some(Subject::Metric)), read(&of.datapoint, Some(Subject::Point)))
            }
        };
        let logs = match &self.logs {
            Conditions::Selectors(texts) => read(texts, None),
            Conditions::Collector(of) => read(&of.log_record, Some(Subject::Log)),
        };
        let records = |records| Rules { metrics: Vec::new(), records };
        ([records(spans), Rules { metrics, records: points }, records(logs)], problems)
    }

    /// Parts of a Collector's block that nothing here does.
    fn unsupported(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut no = |at: &Option<At<IgnoredAny>>, name: &str, remedy: &str| {
            if let Some(at) = at {
                problems.push(Problem::error(&at.at, format!("`{name}` is not supported ({remedy})")));
            }
        };
        no(
            &self.trace_conditions,
            "trace_conditions",
            "write `traces: { span: […] }`, or selectors under `spans`",
        );
        no(
            &self.log_conditions,
            "log_conditions",
            "write `logs: { log_record: […] }`, or selectors under `logs`",
        );
        no(
            &self.metric_conditions,
            "metric_conditions",
            "write `metrics: { metric: […], datapoint: […] }`, or selectors under `metrics`",
        );
        let mut misplaced: Vec<(&At<String>, &str)> = Vec::new();
        let mut blocks = vec![("traces", &self.traces)];
        for (name, conditions) in [("metrics", &self.metrics), ("logs", &self.logs)] {
            if let Conditions::Collector(of) = conditions {
                blocks.push((name, of));
            }
        }
        for (name, of) in blocks {
            no(&of.spanevent, "spanevent", "events of spans cannot be dropped");
            no(&of.resource, "resource", "select records by `resource[\"…\"]`");
            no(&of.include, "include", "write selectors of what is to be dropped");
            no(&of.exclude, "exclude", "write selectors of what is to be dropped");
            let lists = [
                ("span", &of.span, "traces"),
                ("log_record", &of.log_record, "logs"),
                ("metric", &of.metric, "metrics"),
                ("datapoint", &of.datapoint, "metrics"),
            ];
            for (_, list, home) in lists.iter().filter(|(_, _, home)| *home != name) {
                misplaced.extend(list.first().map(|first| (first, *home)));
            }
        }
        for (text, home) in misplaced {
            problems.push(Problem::error(&text.at, format!("these conditions belong under `{home}`")));
        }
        problems
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
