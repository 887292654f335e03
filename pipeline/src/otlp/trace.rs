//! Views of `ExportTraceServiceRequest`.

use std::ops::Range;

use super::resource::{Resource, Run, Scope, last_text, message, resources};
use super::value::{Attributes, Pair, Parts, text};
use super::wire::{self, Field};

/// The resources of a trace request.
pub fn resource_spans(body: &[u8]) -> impl Iterator<Item = ResourceSpans<'_>> + Clone {
    resources(body).map(move |range| ResourceSpans::at(body, range))
}

/// The spans of one resource.
#[derive(Clone, Copy, Debug)]
pub struct ResourceSpans<'a> {
    message: &'a [u8],
    start: usize,
    end: usize,
}

impl<'a> ResourceSpans<'a> {
    /// The one at a range that [`resources`] gave; empty at any other.
    pub fn at(body: &'a [u8], range: Range<usize>) -> ResourceSpans<'a> {
        ResourceSpans { message: message(body, &range), start: range.start, end: range.end }
    }

    /// Where it lies in the body, its key and length included.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// What produced the spans.
    pub fn resource(&self) -> Resource<'a> {
        Resource::of(self.message)
    }

    /// Its spans, by scope.
    pub fn scopes(&self) -> impl Iterator<Item = ScopeSpans<'a>> + Clone + use<'a> {
        Parts::of(self.message, 2).iter().map(|message| ScopeSpans { message })
    }

    /// The schema of the resource.
    pub fn schema_url(&self) -> &'a str {
        last_text(self.message, 3)
    }
}

/// The spans of one scope.
#[derive(Clone, Copy, Debug)]
pub struct ScopeSpans<'a> {
    message: &'a [u8],
}

impl<'a> ScopeSpans<'a> {
    /// The library that produced the spans.
    pub fn scope(&self) -> Scope<'a> {
        Scope::of(self.message)
    }

    /// The spans in order.
    pub fn spans(&self) -> impl Iterator<Item = SpanView<'a>> + Clone + use<'a> {
        Parts::of(self.message, 2).iter().map(SpanView::read)
    }

    /// The same spans as they are encoded; [`SpanView::read`] reads one.
    pub fn messages(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        Parts::of(self.message, 2).iter()
    }

    /// The schema of the spans.
    pub fn schema_url(&self) -> &'a str {
        last_text(self.message, 3)
    }
}

/// One span.
#[derive(Clone, Copy, Default)]
pub struct SpanView<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent_span_id: &'a [u8],
    trace_state: &'a [u8],
    name: &'a [u8],
    status_message: &'a [u8],
    attributes: &'a [u8],
    events: &'a [u8],
    links: &'a [u8],
    start: u64,
    end: u64,
    kind: i32,
    status_code: i32,
    flags: u32,
    dropped_attributes: u32,
    dropped_events: u32,
    dropped_links: u32,
}

impl<'a> SpanView<'a> {
    /// One pass over the span's own fields.
    pub fn read(message: &'a [u8]) -> SpanView<'a> {
        SpanView::read_with(message, |_| {})
    }

    /// The same pass, which gives each attribute to `pair` as it comes by: what [`SpanView::attributes`] gives afterwards.
    #[inline]
    pub fn read_with(message: &'a [u8], mut pair: impl FnMut(Pair<'a>)) -> SpanView<'a> {
        let mut span = SpanView::default();
        let (mut attributes, mut events, mut links) = (Run::default(), Run::default(), Run::default());
        let mut rest = message;
        loop {
            let start = message.len() - rest.len();
            // Half of a span's fields are attributes, and nearly all of those are short.
            if let [0x4a, length @ ..0x80, after @ ..] = rest
                && let Some((attribute, after)) = after.split_at_checked(usize::from(*length))
            {
                rest = after;
                attributes.extend(start, message.len() - rest.len());
                pair(Pair::new(attribute));
                continue;
            }
            let Some((tag, field)) = wire::next(&mut rest) else { break };
            let end = message.len() - rest.len();
            match tag {
                1 => span.trace_id = field.bytes(),
                2 => span.span_id = field.bytes(),
                3 => span.trace_state = field.bytes(),
                4 => span.parent_span_id = field.bytes(),
                5 => span.name = field.bytes(),
                6 => span.kind = field.number() as i32,
                7 => span.start = field.number(),
                8 => span.end = field.number(),
                9 => {
                    attributes.extend(start, end);
                    if let Field::Bytes(attribute) = field {
                        pair(Pair::new(attribute));
                    }
                }
                10 => span.dropped_attributes = field.number() as u32,
                11 => events.extend(start, end),
                12 => span.dropped_events = field.number() as u32,
                13 => links.extend(start, end),
                14 => span.dropped_links = field.number() as u32,
                15 => span.read_status(field.bytes()),
                16 => span.flags = field.number() as u32,
                _ => {}
            }
        }
        span.attributes = attributes.of(message);
        span.events = events.of(message);
        span.links = links.of(message);
        span
    }

    fn read_status(&mut self, status: &'a [u8]) {
        let mut rest = status;
        while let Some((tag, field)) = wire::next(&mut rest) {
            match tag {
                2 => self.status_message = field.bytes(),
                3 => self.status_code = field.number() as i32,
                _ => {}
            }
        }
    }

    /// Zeros where it has not 16 bytes.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id.try_into().unwrap_or_default()
    }

    /// Zeros where it has not 8 bytes.
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id.try_into().unwrap_or_default()
    }

    /// Zeros for a root, and where it has not 8 bytes.
    pub fn parent_span_id(&self) -> [u8; 8] {
        self.parent_span_id.try_into().unwrap_or_default()
    }

    /// W3C trace state.
    pub fn trace_state(&self) -> &'a str {
        text(self.trace_state)
    }

    /// The operation.
    pub fn name(&self) -> &'a str {
        text(self.name)
    }

    /// `SpanKind`: 1 internal, 2 server, 3 client, 4 producer, 5 consumer; others as they came.
    pub fn kind(&self) -> i32 {
        self.kind
    }

    /// Nanoseconds since the epoch.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Nanoseconds since the epoch.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The span's own attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(Parts::of(self.attributes, 9))
    }

    /// What happened in it.
    pub fn events(&self) -> impl Iterator<Item = EventView<'a>> + Clone + use<'a> {
        Parts::of(self.events, 11).iter().map(EventView::read)
    }

    /// The spans of other traces that it belongs to.
    pub fn links(&self) -> impl Iterator<Item = LinkView<'a>> + Clone + use<'a> {
        Parts::of(self.links, 13).iter().map(LinkView::read)
    }

    /// `StatusCode`: 0 unset, 1 ok, 2 error; others as they came.
    pub fn status_code(&self) -> i32 {
        self.status_code
    }

    /// What the status says.
    pub fn status_message(&self) -> &'a str {
        text(self.status_message)
    }

    /// W3C trace flags in the low byte.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// How many attributes the SDK left out.
    pub fn dropped_attributes(&self) -> u32 {
        self.dropped_attributes
    }

    /// How many events the SDK left out.
    pub fn dropped_events(&self) -> u32 {
        self.dropped_events
    }

    /// How many links the SDK left out.
    pub fn dropped_links(&self) -> u32 {
        self.dropped_links
    }
}

/// One event of a span.
#[derive(Clone, Copy, Default)]
pub struct EventView<'a> {
    time: u64,
    name: &'a [u8],
    attributes: &'a [u8],
    dropped_attributes: u32,
}

impl<'a> EventView<'a> {
    fn read(message: &'a [u8]) -> EventView<'a> {
        let mut event = EventView { attributes: message, ..EventView::default() };
        let mut rest = message;
        while let Some((tag, field)) = wire::next(&mut rest) {
            match tag {
                1 => event.time = field.number(),
                2 => event.name = field.bytes(),
                4 => event.dropped_attributes = field.number() as u32,
                _ => {}
            }
        }
        event
    }

    /// Nanoseconds since the epoch.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// Its name; `exception` is conventional.
    pub fn name(&self) -> &'a str {
        text(self.name)
    }

    /// Its attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(Parts::of(self.attributes, 3))
    }

    /// How many attributes the SDK left out.
    pub fn dropped_attributes(&self) -> u32 {
        self.dropped_attributes
    }
}

/// One link of a span.
#[derive(Clone, Copy, Default)]
pub struct LinkView<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    trace_state: &'a [u8],
    attributes: &'a [u8],
    dropped_attributes: u32,
    flags: u32,
}

impl<'a> LinkView<'a> {
    fn read(message: &'a [u8]) -> LinkView<'a> {
        let mut link = LinkView { attributes: message, ..LinkView::default() };
        let mut rest = message;
        while let Some((tag, field)) = wire::next(&mut rest) {
            match tag {
                1 => link.trace_id = field.bytes(),
                2 => link.span_id = field.bytes(),
                3 => link.trace_state = field.bytes(),
                5 => link.dropped_attributes = field.number() as u32,
                6 => link.flags = field.number() as u32,
                _ => {}
            }
        }
        link
    }

    /// Zeros where it has not 16 bytes.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id.try_into().unwrap_or_default()
    }

    /// Zeros where it has not 8 bytes.
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id.try_into().unwrap_or_default()
    }

    /// W3C trace state.
    pub fn trace_state(&self) -> &'a str {
        text(self.trace_state)
    }

    /// Its attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(Parts::of(self.attributes, 4))
    }

    /// How many attributes the SDK left out.
    pub fn dropped_attributes(&self) -> u32 {
        self.dropped_attributes
    }

    /// W3C trace flags in the low byte.
    pub fn flags(&self) -> u32 {
        self.flags
    }
}
