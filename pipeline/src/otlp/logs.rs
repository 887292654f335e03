//! Views of `ExportLogsServiceRequest`.

use std::ops::Range;

use super::resource::{Resource, Run, Scope, last_text, message, resources};
use super::value::{Attributes, Parts, Value, text};
use super::wire;

/// The resources of a logs request.
pub fn resource_logs(body: &[u8]) -> impl Iterator<Item = ResourceLogs<'_>> + Clone {
    resources(body).map(move |range| ResourceLogs::at(body, range))
}

/// The log records of one resource.
#[derive(Clone, Copy, Debug)]
pub struct ResourceLogs<'a> {
    message: &'a [u8],
    start: usize,
    end: usize,
}

impl<'a> ResourceLogs<'a> {
    /// The one at a range that [`resources`] gave; empty at any other.
    pub fn at(body: &'a [u8], range: Range<usize>) -> ResourceLogs<'a> {
        ResourceLogs { message: message(body, &range), start: range.start, end: range.end }
    }

    /// Where it lies in the body, its key and length included.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// What produced the records.
    pub fn resource(&self) -> Resource<'a> {
        Resource::of(self.message)
    }

    /// Its records, by scope.
    pub fn scopes(&self) -> impl Iterator<Item = ScopeLogs<'a>> + Clone + use<'a> {
        Parts::of(self.message, 2).iter().map(|message| ScopeLogs { message })
    }

    /// The schema of the resource.
    pub fn schema_url(&self) -> &'a str {
        last_text(self.message, 3)
    }
}

/// The log records of one scope.
#[derive(Clone, Copy, Debug)]
pub struct ScopeLogs<'a> {
    message: &'a [u8],
}

impl<'a> ScopeLogs<'a> {
    /// The library that produced the records.
    pub fn scope(&self) -> Scope<'a> {
        Scope::of(self.message)
    }

    /// The records in order.
    pub fn records(&self) -> impl Iterator<Item = LogView<'a>> + Clone + use<'a> {
        Parts::of(self.message, 2).iter().map(LogView::read)
    }

    /// The same records as they are encoded; [`LogView::read`] reads one.
    pub fn messages(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        Parts::of(self.message, 2).iter()
    }

    /// The schema of the records.
    pub fn schema_url(&self) -> &'a str {
        last_text(self.message, 3)
    }
}

/// One log record.
#[derive(Clone, Copy, Default)]
pub struct LogView<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    severity_text: &'a [u8],
    event_name: &'a [u8],
    body: &'a [u8],
    attributes: &'a [u8],
    time: u64,
    observed_time: u64,
    severity_number: i32,
    flags: u32,
    dropped_attributes: u32,
}

impl<'a> LogView<'a> {
    /// One pass over the record's own fields.
    pub fn read(message: &'a [u8]) -> LogView<'a> {
        let mut log = LogView::default();
        let (mut attributes, mut body) = (Run::default(), Run::default());
        let mut rest = message;
        loop {
            let start = message.len() - rest.len();
            let Some((tag, field)) = wire::next(&mut rest) else { break };
            let end = message.len() - rest.len();
            match tag {
                1 => log.time = field.number(),
                2 => log.severity_number = field.number() as i32,
                3 => log.severity_text = field.bytes(),
                5 => body.extend(start, end),
                6 => attributes.extend(start, end),
                7 => log.dropped_attributes = field.number() as u32,
                8 => log.flags = field.number() as u32,
                9 => log.trace_id = field.bytes(),
                10 => log.span_id = field.bytes(),
                11 => log.observed_time = field.number(),
                12 => log.event_name = field.bytes(),
                _ => {}
            }
        }
        log.attributes = attributes.of(message);
        log.body = body.of(message);
        log
    }

    /// When it happened, in nanoseconds since the epoch; 0 where it is unknown.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// When it was first seen, in nanoseconds since the epoch.
    pub fn observed_time(&self) -> u64 {
        self.observed_time
    }

    /// `SeverityNumber`: 1–4 trace, 5–8 debug, 9–12 info, 13–16 warn, 17–20 error, 21–24 fatal; others as they came.
    pub fn severity_number(&self) -> i32 {
        self.severity_number
    }

    /// The severity as the source calls it.
    pub fn severity_text(&self) -> &'a str {
        text(self.severity_text)
    }

    /// What it says; often a string, sometimes a map.
    pub fn body(&self) -> Value<'a> {
        Value::within(self.body, 5)
    }

    /// The record's own attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(Parts::of(self.attributes, 6))
    }

    /// Zeros where it has not 16 bytes.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id.try_into().unwrap_or_default()
    }

    /// Zeros where it has not 8 bytes.
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id.try_into().unwrap_or_default()
    }

    /// What kind of event it is, where it is one.
    pub fn event_name(&self) -> &'a str {
        text(self.event_name)
    }

    /// W3C trace flags in the low byte.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// How many attributes the SDK left out.
    pub fn dropped_attributes(&self) -> u32 {
        self.dropped_attributes
    }
}
