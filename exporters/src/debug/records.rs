//! Spans and log records as text.

use homeostat_pipeline::otlp::{LogView, SpanView, resource_logs, resource_spans};

use super::page::{Page, Pairs, Plain, Typed, id, time};

/// A line for each span.
pub(super) fn normal_spans(body: &[u8], page: &mut Page) {
    for span in resource_spans(body).flat_map(|resource| resource.scopes()).flat_map(|scope| scope.spans()) {
        if page.is_full() {
            return;
        }
        page.line(format_args!(
            "{} {} {} {}",
            span.name(),
            id(&span.trace_id()),
            id(&span.span_id()),
            Pairs(span.attributes(), " ")
        ));
    }
}

/// A line for each log record.
pub(super) fn normal_logs(body: &[u8], page: &mut Page) {
    for log in resource_logs(body).flat_map(|resource| resource.scopes()).flat_map(|scope| scope.records()) {
        if page.is_full() {
            return;
        }
        page.line(format_args!("{} {}", Plain(log.body()), Pairs(log.attributes(), " ")));
    }
}

/// All that spans say.
pub(super) fn spans(body: &[u8], page: &mut Page) {
    for (index, resource) in resource_spans(body).enumerate() {
        page.resource("ResourceSpans", index, resource.schema_url(), &resource.resource());
        for (index, scope) in resource.scopes().enumerate() {
            page.scope("Spans", index, scope.schema_url(), &scope.scope());
            for (index, message) in scope.messages().enumerate() {
                if page.is_full() {
                    return;
                }
                page.line(format_args!("Span #{index}"));
                span(&SpanView::read(message), page);
            }
        }
    }
}

fn span(span: &SpanView<'_>, page: &mut Page) {
    let mut say = |name: &str, value: &str| page.line(format_args!("    {name:<15}: {value}"));
    say("Trace ID", &id(&span.trace_id()));
    say("Parent ID", &id(&span.parent_span_id()));
    say("ID", &id(&span.span_id()));
    say("Name", span.name());
    say("Kind", kind(span.kind()));
    if !span.trace_state().is_empty() {
        say("TraceState", span.trace_state());
    }
    say("Start time", &time(span.start()));
    say("End time", &time(span.end()));
    say("Status code", status(span.status_code()));
    say("Status message", span.status_message());
    page.attributes("", "Attributes", span.attributes());
    for (index, event) in span.events().enumerate() {
        if index == 0 {
            page.line(format_args!("Events:"));
        }
        page.line(format_args!("SpanEvent #{index}"));
        page.line(format_args!("     -> Name: {}", event.name()));
        page.line(format_args!("     -> Timestamp: {}", time(event.time())));
        page.line(format_args!("     -> DroppedAttributesCount: {}", event.dropped_attributes()));
        page.attributes("     ", "     -> Attributes", event.attributes());
    }
    for (index, link) in span.links().enumerate() {
        if index == 0 {
            page.line(format_args!("Links:"));
        }
        page.line(format_args!("SpanLink #{index}"));
        page.line(format_args!("     -> Trace ID: {}", id(&link.trace_id())));
        page.line(format_args!("     -> ID: {}", id(&link.span_id())));
        page.line(format_args!("     -> TraceState: {}", link.trace_state()));
        page.line(format_args!("     -> DroppedAttributesCount: {}", link.dropped_attributes()));
        page.attributes("     ", "     -> Attributes", link.attributes());
    }
    for (name, count) in [
        ("DroppedAttributesCount", span.dropped_attributes()),
        ("DroppedEventsCount", span.dropped_events()),
        ("DroppedLinksCount", span.dropped_links()),
    ] {
        if count > 0 {
            page.line(format_args!("    {name}: {count}"));
        }
    }
}

/// All that log records say.
pub(super) fn logs(body: &[u8], page: &mut Page) {
    for (index, resource) in resource_logs(body).enumerate() {
        page.resource("ResourceLog", index, resource.schema_url(), &resource.resource());
        for (index, scope) in resource.scopes().enumerate() {
            page.scope("Logs", index, scope.schema_url(), &scope.scope());
            for (index, message) in scope.messages().enumerate() {
                if page.is_full() {
                    return;
                }
                page.line(format_args!("LogRecord #{index}"));
                log(&LogView::read(message), page);
            }
        }
    }
}

fn log(log: &LogView<'_>, page: &mut Page) {
    page.line(format_args!("ObservedTimestamp: {}", time(log.observed_time())));
    page.line(format_args!("Timestamp: {}", time(log.time())));
    page.line(format_args!("SeverityText: {}", log.severity_text()));
    page.line(format_args!("SeverityNumber: {}", severity(log.severity_number())));
    if !log.event_name().is_empty() {
        page.line(format_args!("EventName: {}", log.event_name()));
    }
    page.line(format_args!("Body: {}", Typed(log.body())));
    page.attributes("", "Attributes", log.attributes());
    if log.dropped_attributes() > 0 {
        page.line(format_args!("DroppedAttributesCount: {}", log.dropped_attributes()));
    }
    page.line(format_args!("Trace ID: {}", id(&log.trace_id())));
    page.line(format_args!("Span ID: {}", id(&log.span_id())));
    page.line(format_args!("Flags: {}", log.flags()));
}

fn kind(kind: i32) -> &'static str {
    match kind {
        1 => "Internal",
        2 => "Server",
        3 => "Client",
        4 => "Producer",
        5 => "Consumer",
        _ => "Unspecified",
    }
}

fn status(code: i32) -> &'static str {
    match code {
        0 => "Unset",
        1 => "Ok",
        2 => "Error",
        _ => "",
    }
}

/// `Info(9)`, `Warn2(14)`.
fn severity(number: i32) -> String {
    let class = match number {
        1..=4 => "Trace",
        5..=8 => "Debug",
        9..=12 => "Info",
        13..=16 => "Warn",
        17..=20 => "Error",
        21..=24 => "Fatal",
        _ => return format!("Unspecified({number})"),
    };
    match (number - 1) % 4 {
        0 => format!("{class}({number})"),
        step => format!("{class}{}({number})", step + 1),
    }
}
