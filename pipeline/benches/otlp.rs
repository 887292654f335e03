//! The OTLP byte path per span of some 450 bytes with ten attributes: the walk, every attribute by borrowed views, and
//! prost's decoding for comparison. Divide by 1,000 spans; criterion's throughput says elements a second.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::otlp::{Value, resource_spans, walk};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

const SPANS: u64 = 1000;

fn pair(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    pair(key, any_value::Value::StringValue(value.into()))
}

/// Different in each span, so that neither the cache nor the branch predictor has seen it.
fn span(number: u64) -> Span {
    let noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let start = 1_790_000_000_000_000_000 + noise % 1_000_000_000;
    Span {
        trace_id: [noise.to_le_bytes(), number.to_le_bytes()].concat(),
        span_id: noise.to_be_bytes().to_vec(),
        parent_span_id: (!noise).to_be_bytes().to_vec(),
        name: format!("POST /api/v1/cart/{}", noise % 97),
        kind: 2,
        start_time_unix_nano: start,
        end_time_unix_nano: start + noise % 90_000_000,
        attributes: vec![
            text("http.request.method", ["GET", "POST", "PUT"][(noise % 3) as usize]),
            text("url.path", format!("/api/v1/cart/{}/items", noise % 9973)),
            pair("http.response.status_code", any_value::Value::IntValue(200 + (noise % 5) as i64)),
            text("server.address", format!("shop-{}.internal", noise % 31)),
            pair("server.port", any_value::Value::IntValue(8443)),
            text("network.protocol.version", "1.1"),
            text("user_agent.original", "okhttp/4.12.0"),
            text("client.address", format!("10.{}.{}.7", noise % 251, noise % 241)),
            text("session.id", format!("{noise:016x}")),
            pair("cart.total", any_value::Value::DoubleValue((noise % 10_000) as f64 / 100.0)),
        ],
        status: Some(Status { message: String::new(), code: 1 }),
        flags: 1,
        ..Span::default()
    }
}

fn request() -> Vec<u8> {
    let scope =
        InstrumentationScope { name: "io.shop.cart".into(), version: "2.1.0".into(), ..Default::default() };
    let spans =
        ScopeSpans { scope: Some(scope), spans: (0..SPANS).map(span).collect(), ..ScopeSpans::default() };
    let resource = Resource { attributes: vec![text("service.name", "cart")], ..Resource::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![spans],
            ..ResourceSpans::default()
        }],
    }
    .encode_to_vec()
}

/// Looks at every attribute of every span, as `tag` does on a hit.
fn every_attribute(body: &[u8]) -> usize {
    let spans = resource_spans(body).flat_map(|resource| resource.scopes()).flat_map(|scope| scope.spans());
    spans
        .map(|span| {
            let strings = span.attributes().iter().map(|(key, value)| match value {
                Value::Str(text) => key.len() + text.len(),
                Value::Empty
                | Value::Bool(_)
                | Value::Int(_)
                | Value::Double(_)
                | Value::Bytes(_)
                | Value::Array(_)
                | Value::Map(_) => key.len(),
            });
            span.name().len() + (span.end() - span.start()) as usize + strings.sum::<usize>()
        })
        .fold(0, usize::wrapping_add)
}

fn otlp(criterion: &mut Criterion) {
    let body = request();
    let mut group = criterion.benchmark_group(format!("otlp/{}-byte-spans", body.len() as u64 / SPANS));
    group.throughput(Throughput::Elements(SPANS));
    group.bench_function("walk", |b| b.iter(|| walk(Signal::Traces, black_box(&body))));
    group.bench_function("views", |b| b.iter(|| every_attribute(black_box(&body))));
    group.bench_function("prost", |b| {
        b.iter(|| ExportTraceServiceRequest::decode(black_box(body.as_slice())))
    });
    group.finish();
}

criterion_group!(benches, otlp);
criterion_main!(benches);
