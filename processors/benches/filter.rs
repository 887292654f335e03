//! What `filter` costs per span of about 450 bytes: when no text of a selector occurs, when one span in a hundred goes, when every
//! second one does.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use homeostat_pipeline::batch::{Batch, Compression, Content, Frame, Signal, Telemetry};
use homeostat_pipeline::budget::Budget;
use homeostat_pipeline::contract::Processor;
use homeostat_pipeline::settings::{Files, read};
use homeostat_processors::filter::Filter;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

const SPANS: u64 = 500;

fn pair(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn span(index: u64, name: &str) -> Span {
    let id = index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    Span {
        trace_id: [id, id].concat(),
        span_id: id.to_vec(),
        parent_span_id: id.to_vec(),
        name: name.to_owned(),
        kind: 2,
        start_time_unix_nano: 1_700_000_000_000_000_000 + index,
        end_time_unix_nano: 1_700_000_000_250_000_000 + index,
        attributes: vec![
            pair("http.request.method", "POST"),
            pair("url.path", "/api/v1/orders/items"),
            pair("http.response.status_code", "200"),
            pair("server.address", "checkout.shop.internal"),
            pair("network.protocol.version", "1.1"),
            pair("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64)"),
            pair("enduser.id", &format!("user-{index}")),
            pair("thread.name", "worker-3"),
        ],
        ..Span::default()
    }
}

fn traces(every: u64) -> Telemetry {
    let name =
        |index: u64| if index % every == every - 1 { "GET /healthz" } else { "POST /api/v1/orders/{id}" };
    let spans = (0..SPANS).map(|index| span(index, name(index))).collect();
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    let body = bytes::Bytes::from(ExportTraceServiceRequest { resource_spans }.encode_to_vec());
    let frame = Frame { content: Content::Protobuf, compression: Compression::None, bytes: body.clone() };
    Telemetry { signal: Signal::Traces, frame, body, records: SPANS }
}

fn filter(c: &mut Criterion) {
    let files = Files { base: "".into(), embedded: BTreeMap::new(), parse: homeostat_config::parse };
    let node = (files.parse)("bench", r#"{spans: ['name == "GET /healthz"']}"#).expect("the text is YAML");
    let settings = read::<Filter>(&node).expect("a filter");
    let filter: Arc<dyn Processor> = settings.processor("filter", Budget::new(64 << 20));
    let mut group = c.benchmark_group("filter");
    group.throughput(Throughput::Elements(SPANS));
    for (name, telemetry) in [("miss", traces(1000)), ("one_percent", traces(100)), ("half", traces(2))] {
        group.bench_function(name, |b| {
            let mut out = Vec::with_capacity(1);
            b.iter(|| {
                out.clear();
                filter.process(Batch::Telemetry(black_box(&telemetry).clone()), &mut out).expect("taken");
                black_box(out.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, filter);
criterion_main!(benches);
