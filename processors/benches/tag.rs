//! What `tag` costs per span of about 450 bytes: untagged, one in a hundred tagged, all tagged.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use homeostat_pipeline::batch::{Batch, Compression, Content, Frame, Signal, Telemetry};
use homeostat_pipeline::contract::Processor;
use homeostat_pipeline::interest::{Interest, Selection};
use homeostat_pipeline::selector::Selector;
use homeostat_processors::tag::Tag;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

const SPANS: u64 = 500;

fn text(value: &str) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) }
}

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(text(value)), ..KeyValue::default() }
}

fn resource() -> Option<Resource> {
    let attributes =
        vec![pair("service.name", "checkout"), pair("deployment.environment.name", "production")];
    Some(Resource { attributes, ..Resource::default() })
}

fn span(index: u64, is_tagged: bool) -> Span {
    let mut attributes = vec![
        pair("http.request.method", "POST"),
        pair("url.path", "/api/v1/orders/items"),
        pair("http.response.status_code", "200"),
        pair("server.address", "checkout.shop.internal"),
        pair("network.protocol.version", "1.1"),
        pair("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64)"),
        pair("enduser.id", &format!("user-{index}")),
        pair("thread.name", "worker-3"),
    ];
    if is_tagged {
        attributes.push(pair("req", "REQ-NFR-PERF-001"));
        attributes.push(pair("sea.flow", "PlaceOrder"));
        attributes.push(pair("sea.context", "orders"));
    }
    let id = index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    Span {
        trace_id: [id, id].concat(),
        span_id: id.to_vec(),
        parent_span_id: id.to_vec(),
        name: "POST /api/v1/orders/{id}".to_owned(),
        kind: 2,
        start_time_unix_nano: 1_700_000_000_000_000_000 + index,
        end_time_unix_nano: 1_700_000_000_250_000_000 + index,
        attributes,
        ..Span::default()
    }
}

fn telemetry(signal: Signal, body: Vec<u8>) -> Telemetry {
    let body = bytes::Bytes::from(body);
    let frame = Frame { content: Content::Protobuf, compression: Compression::None, bytes: body.clone() };
    Telemetry { signal, frame, body, records: SPANS }
}

fn traces(is_tagged: impl Fn(u64) -> bool) -> Telemetry {
    let spans = (0..SPANS).map(|index| span(index, is_tagged(index))).collect();
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans =
        vec![ResourceSpans { resource: resource(), scope_spans, ..ResourceSpans::default() }];
    telemetry(Signal::Traces, ExportTraceServiceRequest { resource_spans }.encode_to_vec())
}

fn logs() -> Telemetry {
    let record = |index: u64| LogRecord {
        time_unix_nano: 1_700_000_000_000_000_000 + index,
        severity_number: 9,
        body: Some(text(&format!(
            r#"{{"level":"INFO","message":"Login successful","req":"REQ-F-AUTH-001","user_id":"user-{index}","latency_ms":120}}"#
        ))),
        ..LogRecord::default()
    };
    let scope_logs =
        vec![ScopeLogs { log_records: (0..SPANS).map(record).collect(), ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { resource: resource(), scope_logs, ..ResourceLogs::default() }];
    telemetry(Signal::Logs, ExportLogsServiceRequest { resource_logs }.encode_to_vec())
}

fn interest() -> Interest {
    Interest {
        selections: vec![Selection {
            signal: Signal::Traces,
            req: "REQ-F-CART-001".to_owned(),
            measure: "p95_latency_ms".to_owned(),
            selector: Selector::parse(r#"name == "GET /cart""#).expect("a selector"),
            takes_keyed: false,
        }],
        log_fields: ["latency_ms".to_owned()].into(),
        ..Interest::default()
    }
}

fn tag(c: &mut Criterion) {
    let tagger: Arc<dyn Processor> = Arc::new(Tag::default().tagger(&interest()).expect("a tagger"));
    let mut group = c.benchmark_group("tag");
    group.throughput(Throughput::Elements(SPANS));
    for (name, telemetry) in [
        ("untagged", traces(|_| false)),
        ("one_percent", traces(|index| index % 100 == 50)),
        ("tagged", traces(|_| true)),
        ("json_logs", logs()),
    ] {
        group.bench_function(name, |b| {
            let mut out = Vec::with_capacity(2);
            b.iter(|| {
                out.clear();
                tagger.process(Batch::Telemetry(black_box(&telemetry).clone()), &mut out).expect("taken");
                black_box(out.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, tag);
criterion_main!(benches);
