//! What the views say and what prost decoded, as the same types.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{self as common, AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::{logs::v1 as logs, resource::v1 as resource, trace::v1 as trace};

use super::super::*;

fn value_of(value: Value<'_>) -> AnyValue {
    use any_value::Value as Any;
    let value = match value {
        Value::Empty => None,
        Value::Str(text) => Some(Any::StringValue(text.into())),
        Value::Bool(truth) => Some(Any::BoolValue(truth)),
        Value::Int(number) => Some(Any::IntValue(number)),
        Value::Double(number) => Some(Any::DoubleValue(number)),
        Value::Bytes(bytes) => Some(Any::BytesValue(bytes.into())),
        Value::Array(list) => {
            Some(Any::ArrayValue(common::ArrayValue { values: list.iter().map(value_of).collect() }))
        }
        Value::Map(map) => Some(Any::KvlistValue(common::KeyValueList { values: pairs_of(map) })),
    };
    AnyValue { value }
}

pub(super) fn pairs_of(attributes: Attributes<'_>) -> Vec<KeyValue> {
    // Where a body is malformed, keys that are not UTF-8 read as empty.
    for (key, value) in attributes.iter().filter(|(key, _)| !key.is_empty()) {
        let first = attributes.iter().find(|(other, _)| *other == key).map(|(_, value)| format!("{value:?}"));
        assert_eq!(
            attributes.get(key).map(|value| format!("{value:?}")),
            first,
            "get of {key}, here {value:?}"
        );
    }
    for (pair, (key, value)) in attributes.pairs().zip(attributes) {
        assert_eq!(str::from_utf8(pair.key()).unwrap_or_default(), key);
        assert_eq!(format!("{:?}", pair.value()), format!("{value:?}"), "undecoded {key}");
        assert!(
            !pair.is_flat() || !matches!(value, Value::Empty | Value::Array(_) | Value::Map(_)),
            "{key} {value:?}"
        );
    }
    attributes
        .iter()
        .map(|(key, value)| KeyValue { key: key.into(), value: Some(value_of(value)), key_strindex: 0 })
        .collect()
}

pub(super) fn resource_of(view: Resource<'_>) -> Option<resource::Resource> {
    Some(resource::Resource { attributes: pairs_of(view.attributes()), ..Default::default() })
}

pub(super) fn scope_of(view: Scope<'_>) -> Option<common::InstrumentationScope> {
    Some(common::InstrumentationScope {
        name: view.name().into(),
        version: view.version().into(),
        attributes: pairs_of(view.attributes()),
        dropped_attributes_count: 0,
    })
}

fn span_of(view: SpanView<'_>) -> trace::Span {
    let events = view.events().map(|event| trace::span::Event {
        time_unix_nano: event.time(),
        name: event.name().into(),
        attributes: pairs_of(event.attributes()),
        dropped_attributes_count: event.dropped_attributes(),
    });
    let links = view.links().map(|link| trace::span::Link {
        trace_id: link.trace_id().into(),
        span_id: link.span_id().into(),
        trace_state: link.trace_state().into(),
        attributes: pairs_of(link.attributes()),
        dropped_attributes_count: link.dropped_attributes(),
        flags: link.flags(),
    });
    trace::Span {
        trace_id: view.trace_id().into(),
        span_id: view.span_id().into(),
        trace_state: view.trace_state().into(),
        parent_span_id: view.parent_span_id().into(),
        flags: view.flags(),
        name: view.name().into(),
        kind: view.kind(),
        start_time_unix_nano: view.start(),
        end_time_unix_nano: view.end(),
        attributes: pairs_of(view.attributes()),
        dropped_attributes_count: view.dropped_attributes(),
        events: events.collect(),
        dropped_events_count: view.dropped_events(),
        links: links.collect(),
        dropped_links_count: view.dropped_links(),
        status: Some(trace::Status { message: view.status_message().into(), code: view.status_code() }),
    }
}

fn log_of(view: LogView<'_>) -> logs::LogRecord {
    logs::LogRecord {
        time_unix_nano: view.time(),
        observed_time_unix_nano: view.observed_time(),
        severity_number: view.severity_number(),
        severity_text: view.severity_text().into(),
        body: Some(value_of(view.body())),
        attributes: pairs_of(view.attributes()),
        dropped_attributes_count: view.dropped_attributes(),
        flags: view.flags(),
        trace_id: view.trace_id().into(),
        span_id: view.span_id().into(),
        event_name: view.event_name().into(),
    }
}

pub(super) fn traces_of(body: &[u8]) -> ExportTraceServiceRequest {
    let resources = resource_spans(body).map(|resource| trace::ResourceSpans {
        resource: resource_of(resource.resource()),
        scope_spans: resource
            .scopes()
            .map(|scope| trace::ScopeSpans {
                scope: scope_of(scope.scope()),
                spans: scope.spans().map(span_of).collect(),
                schema_url: scope.schema_url().into(),
            })
            .collect(),
        schema_url: resource.schema_url().into(),
    });
    ExportTraceServiceRequest { resource_spans: resources.collect() }
}

pub(super) fn logs_of(body: &[u8]) -> ExportLogsServiceRequest {
    let resources = resource_logs(body).map(|resource| logs::ResourceLogs {
        resource: resource_of(resource.resource()),
        scope_logs: resource
            .scopes()
            .map(|scope| logs::ScopeLogs {
                scope: scope_of(scope.scope()),
                log_records: scope.records().map(log_of).collect(),
                schema_url: scope.schema_url().into(),
            })
            .collect(),
        schema_url: resource.schema_url().into(),
    });
    ExportLogsServiceRequest { resource_logs: resources.collect() }
}

// What the views do not distinguish or do not show is made the same in what prost decoded.

fn plain_value(value: &mut Option<AnyValue>) {
    use any_value::Value as Any;
    let any = value.get_or_insert_default();
    match &mut any.value {
        Some(Any::ArrayValue(list)) => {
            for value in &mut list.values {
                let mut inner = Some(std::mem::take(value));
                plain_value(&mut inner);
                *value = inner.unwrap_or_default();
            }
        }
        Some(Any::KvlistValue(map)) => plain_pairs(&mut map.values),
        Some(Any::StringValueStrindex(_)) => any.value = None,
        None
        | Some(
            Any::StringValue(_)
            | Any::BoolValue(_)
            | Any::IntValue(_)
            | Any::DoubleValue(_)
            | Any::BytesValue(_),
        ) => {}
    }
}

pub(super) fn plain_pairs(pairs: &mut [KeyValue]) {
    for pair in pairs {
        pair.key_strindex = 0;
        plain_value(&mut pair.value);
    }
}

pub(super) fn plain_id(id: &mut Vec<u8>, width: usize) {
    if id.len() != width {
        *id = vec![0; width];
    }
}

pub(super) fn plain_origin(
    resource: &mut Option<resource::Resource>,
    scopes: impl Iterator<Item = Option<common::InstrumentationScope>>,
) -> Vec<Option<common::InstrumentationScope>> {
    let resource = resource.get_or_insert_default();
    resource.dropped_attributes_count = 0;
    resource.entity_refs.clear();
    plain_pairs(&mut resource.attributes);
    scopes
        .map(|scope| {
            let mut scope = scope.unwrap_or_default();
            scope.dropped_attributes_count = 0;
            plain_pairs(&mut scope.attributes);
            Some(scope)
        })
        .collect()
}

fn plain_span(span: &mut trace::Span) {
    plain_id(&mut span.trace_id, 16);
    plain_id(&mut span.span_id, 8);
    plain_id(&mut span.parent_span_id, 8);
    plain_pairs(&mut span.attributes);
    span.status.get_or_insert_default();
    for event in &mut span.events {
        plain_pairs(&mut event.attributes);
    }
    for link in &mut span.links {
        plain_id(&mut link.trace_id, 16);
        plain_id(&mut link.span_id, 8);
        plain_pairs(&mut link.attributes);
    }
}

pub(super) fn plain_traces(mut request: ExportTraceServiceRequest) -> ExportTraceServiceRequest {
    for resource in &mut request.resource_spans {
        let scopes = resource.scope_spans.iter().map(|scope| scope.scope.clone());
        let scopes = plain_origin(&mut resource.resource, scopes);
        for (scope, plain) in resource.scope_spans.iter_mut().zip(scopes) {
            scope.scope = plain;
            scope.spans.iter_mut().for_each(plain_span);
        }
    }
    request
}

pub(super) fn plain_logs(mut request: ExportLogsServiceRequest) -> ExportLogsServiceRequest {
    for resource in &mut request.resource_logs {
        let scopes = resource.scope_logs.iter().map(|scope| scope.scope.clone());
        let scopes = plain_origin(&mut resource.resource, scopes);
        for (scope, plain) in resource.scope_logs.iter_mut().zip(scopes) {
            scope.scope = plain;
            for log in &mut scope.log_records {
                plain_id(&mut log.trace_id, 16);
                plain_id(&mut log.span_id, 8);
                plain_pairs(&mut log.attributes);
                plain_value(&mut log.body);
            }
        }
    }
    request
}
