//! Spans of homeostat's own requests, sent to itself: they continue their senders' traces, and cause no more of themselves.

use std::time::Duration;

use homeostat_tests::backend::Backend;
use homeostat_tests::client::{Sender, TRACES};
use homeostat_tests::homeostat::{Homeostat, write};
use homeostat_tests::process::{eventually, free_port};
use homeostat_tests::telemetry::{Spans, now, traces};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

const CONFIGURATION: &str = r#"
receivers: { otlp: { protocols: { grpc: { endpoint: 127.0.0.1:0 }, http: { endpoint: "127.0.0.1:PORT" } } } }
exporters: { otlp/backend: { endpoint: "http://BACKEND" } }
service:
  storage: none
  telemetry:
    metrics: { endpoint: 127.0.0.1:0 }
    resource: { service.name: me }
    traces:
      processors:
        - batch: { schedule_delay: 20, exporter: { otlp: { endpoint: "http://127.0.0.1:PORT" } } }
  pipelines: { traces: { receivers: [otlp], exporters: [otlp/backend] } }
"#;

/// Own spans that the backend got, in order.
fn own(backend: &Backend) -> Vec<Span> {
    let requests = backend.received().into_iter();
    requests
        .map(|one| ExportTraceServiceRequest::decode(one.frame).expect("what is forwarded is OTLP"))
        .flat_map(|request| request.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .filter(|scope| scope.scope.as_ref().is_some_and(|scope| scope.name == "homeostat"))
        .flat_map(|scope| scope.spans)
        .collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// Over HTTP/1.1, with a sender's span above it.
async fn send_below(homeostat: &Homeostat, flags: &str) -> u16 {
    use http_body_util::{BodyExt, Full};
    use hyper_util::client::legacy::Client;
    let client = Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let request = http::Request::post(format!("http://{}{}", homeostat.http, TRACES.1))
        .header("content-type", "application/x-protobuf")
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-{flags}"))
        .body(Full::new(spans()))
        .expect("a request");
    let response = client.request(request).await.expect("an answer");
    let status = response.status().as_u16();
    response.into_body().collect().await.expect("a body");
    status
}

fn spans() -> bytes::Bytes {
    let (req, duration) = (String::new(), Duration::from_millis(5));
    traces(&Spans { count: 3, req, node: ("", ""), duration, is_error: false }, now())
}

#[tokio::test(flavor = "multi_thread")]
async fn own_spans_continue_the_senders_trace_and_cause_no_more_of_themselves() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let backend = Backend::start().await;
    let configuration = CONFIGURATION
        .replace("PORT", &free_port().to_string())
        .replace("BACKEND", &backend.address.to_string());
    write(folder.path(), "config.yaml", &configuration);
    let homeostat = Homeostat::start(folder.path()).await;
    homeostat.is_ready().await;
    assert_eq!(send_below(&homeostat, "01").await, 200);
    let first = eventually("both spans of the request arrive", async || {
        let spans = own(&backend);
        (spans.len() >= 2).then_some(spans)
    })
    .await;
    let [request] = named(&first, "receiver/otlp/TraceDataReceived")[..] else { panic!("{first:?}") };
    let [export] = named(&first, "exporter/otlp/backend/traces")[..] else { panic!("{first:?}") };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!((hex(&request.trace_id).as_str(), hex(&export.trace_id).as_str()), (TRACE, TRACE));
    assert_eq!(hex(&request.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(export.parent_span_id, request.span_id);
    assert!(request.start_time_unix_nano <= export.start_time_unix_nano);
    assert!(export.end_time_unix_nano <= request.end_time_unix_nano);
    let shown = format!("{:?}", request.attributes);
    for word in ["transport", "http", "accepted_spans", "IntValue(3)"] {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }

    // Whose sender keeps no span gets none; and had own spans caused own spans, they would be there by now.
    assert_eq!(send_below(&homeostat, "00").await, 200);
    backend.refuse(true);
    let refused = Sender::default().grpc(homeostat.grpc, TRACES.0, "identity", spans()).await;
    assert!(!refused.expect("it answers").is_ok());
    backend.refuse(false);
    let all = eventually("the spans of the refused request arrive", async || {
        let spans = own(&backend);
        (spans.len() >= 4).then_some(spans)
    })
    .await;
    assert_eq!(all.len(), 4, "{all:?}");
    let failed: Vec<_> = all.iter().filter(|span| span.status.is_some()).map(|span| &span.name).collect();
    assert_eq!(failed.len(), 2, "the request's and its exporter's: {failed:?}");
    assert!(all[2..].iter().all(|span| hex(&span.trace_id) != TRACE));
    homeostat.stop().await;
}
