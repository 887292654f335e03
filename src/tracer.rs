//! `service.telemetry.traces`: takes the spans of homeostat's own requests from their queue and sends them, together, through an
//! `otlp` exporter of its own.
//!
//! What it sends says in its `traceparent` that it is not sampled. So a homeostat, or a Collector, that gets it makes no span of
//! it, also when that is this one: own spans never cause own spans.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use homeostat_config::{Batch, Compression, Protocol, TraceExporter as Exporter, Traces};
use homeostat_pipeline::batch::{self, Content, Frame, Signal, Telemetry};
use homeostat_pipeline::contract::TelemetryExporter;
use homeostat_pipeline::drops;
use homeostat_pipeline::registry::Settings;
use homeostat_pipeline::settings::{At, Field, Files, Node, Position, Problem, Value};
use homeostat_pipeline::tracer::{self, Ended, Kind, Parent, Tracer};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span, status};
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::assemble::Opener;

/// Its id in logs and metrics.
const ID: &str = "service.telemetry.traces";
/// What went wrong is said so often at most.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// Sends own spans until it is stopped.
pub struct Sending {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Sending {
    /// Turns spans on, where the settings say so.
    ///
    /// # Errors
    /// The exporter cannot be opened: a file of `tls` is not what it should be.
    pub async fn start(
        traces: &Traces,
        resource: Vec<(String, String)>,
        files: &Files,
        opener: &Opener,
    ) -> anyhow::Result<Option<Sending>> {
        let Some(batch) = traces.batch() else { return Ok(None) };
        let settings = exporter(batch).map_err(anyhow::Error::msg)?;
        let exporter = opener.telemetry_exporter(ID, settings.as_ref(), files).await?;
        let sampler = traces.decides().map_err(anyhow::Error::msg)?;
        let (tracer, spans) = Tracer::new(sampler, rand::random(), batch.max_queue_size);
        tracer::install(Some(tracer));
        let stop = CancellationToken::new();
        let sender = Sender { exporter, resource, batch: batch.clone(), said: None };
        let task = tokio::spawn(sender.run(spans, stop.clone()));
        Ok(Some(Sending { stop, task }))
    }

    /// Turns spans off, and sends what there is until `deadline`.
    pub async fn stop(self, deadline: Instant) {
        tracer::install(None);
        self.stop.cancel();
        let abort = self.task.abort_handle();
        if timeout_at(deadline, self.task).await.is_err() {
            abort.abort();
        }
    }
}

/// Everything wrong with the settings.
pub fn problems(traces: &Traces, files: &Files) -> Vec<Problem> {
    let mut problems = traces.problems();
    if let Some(batch) = traces.batch() {
        match exporter(batch) {
            Ok(settings) => problems.extend(settings.check(files)),
            Err(problem) => problems.push(problem),
        }
    }
    problems
}

/// The settings of the exporter that these stand for.
fn exporter(batch: &Batch) -> Result<Box<dyn Settings>, Problem> {
    let kind = match batch.exporter.otlp.protocol {
        Protocol::Http => "otlphttp",
        Protocol::Grpc | Protocol::GrpcProtobuf => "otlp",
    };
    let known = homeostat_exporters::list();
    let registration = known.iter().find(|known| known.kind == kind);
    let registration = registration.ok_or_else(|| Problem::somewhere(format!("there is no `{kind}`")))?;
    (registration.read)(&block(batch))
}

/// The same as a block of an `otlp` exporter.
fn block(batch: &Batch) -> Node {
    let Batch { exporter: Exporter { otlp }, export_timeout, .. } = batch;
    let at = &otlp.endpoint.at;
    let text = |at: &Position, text: &str| Node { at: at.clone(), value: Value::Text(text.to_owned()) };
    let endpoint = otlp.endpoint.value.reveal();
    let mut fields = vec![field("endpoint", text(at, endpoint))];
    let path = endpoint.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
    if otlp.protocol == Protocol::Http && path.is_some_and(|(_, path)| !path.is_empty()) {
        fields.push(field("traces_endpoint", text(at, endpoint)));
    }
    let compression = match otlp.compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
    };
    fields.push(field("compression", text(at, compression)));
    fields.push(field("timeout", text(at, &format!("{}ms", (*export_timeout).max(1)))));
    let not_sampled = Parent { trace_id: rand::random(), span_id: rand::random(), is_sampled: false };
    let mut headers = vec![field("traceparent", text(at, &not_sampled.write()))];
    let own = otlp.headers.iter();
    headers
        .extend(own.map(|header| field(&header.name, text(&header.value.at, header.value.value.reveal()))));
    fields.push(field("headers", map(at, headers)));
    let mut tls = Vec::new();
    if otlp.insecure || otlp.tls.insecure {
        tls.push(field("insecure", Node { at: at.clone(), value: Value::Bool(true) }));
    }
    let file = |one: &Option<At<String>>, other: &Option<At<String>>| one.clone().or_else(|| other.clone());
    for (key, file) in [
        ("ca_file", file(&otlp.certificate, &otlp.tls.ca_file)),
        ("cert_file", file(&otlp.client_certificate, &otlp.tls.cert_file)),
        ("key_file", file(&otlp.client_key, &otlp.tls.key_file)),
    ] {
        tls.extend(file.map(|file| field(key, text(&file.at, &file.value))));
    }
    if !tls.is_empty() {
        fields.push(field("tls", map(at, tls)));
    }
    map(at, fields)
}

fn field(key: &str, node: Node) -> Field {
    Field { key: key.to_owned(), at: node.at.clone(), node }
}

fn map(at: &Position, fields: Vec<Field>) -> Node {
    Node { at: at.clone(), value: Value::Map(fields) }
}

/// What sends.
struct Sender {
    exporter: Arc<dyn TelemetryExporter>,
    resource: Vec<(String, String)>,
    batch: Batch,
    /// When a failure was said last.
    said: Option<Instant>,
}

impl Sender {
    async fn run(mut self, mut spans: mpsc::Receiver<Ended>, stop: CancellationToken) {
        let most = self.batch.max_export_batch_size.max(1);
        loop {
            let first = tokio::select! {
                biased;
                first = spans.recv() => first,
                () = stop.cancelled() => None,
            };
            let Some(first) = first else { break };
            let mut together = vec![first];
            let more = async {
                while together.len() < most {
                    let Some(next) = spans.recv().await else { return };
                    together.push(next);
                }
            };
            // However this ends, what there is goes out.
            let _ = timeout(self.batch.delay(), stop.run_until_cancelled(more)).await;
            self.send(together).await;
        }
    }

    async fn send(&mut self, spans: Vec<Ended>) {
        let count = spans.len() as u64;
        let body = Bytes::from(encode(&self.resource, spans));
        let frame =
            Frame { content: Content::Protobuf, compression: batch::Compression::None, bytes: body.clone() };
        let telemetry = Telemetry { signal: Signal::Traces, frame, body, records: count };
        let now = Instant::now();
        let outcome = self.exporter.export(&telemetry, now + self.batch.patience()).await;
        let (lost, why) = match outcome {
            Ok(taken) => (taken.rejected, taken.message),
            Err(refusal) => (count, refusal.to_string()),
        };
        drops::TRACER_FAILED.count(lost);
        if lost > 0 && self.said.is_none_or(|said| now.duration_since(said) >= SAID_EVERY) {
            self.said = Some(now);
            tracing::warn!(spans = lost, reason = why, "own spans are lost: their backend did not take them");
        }
    }
}

/// One request of all of them.
fn encode(resource: &[(String, String)], spans: Vec<Ended>) -> Vec<u8> {
    let text = |text: &str| AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) };
    let pair = |key: &str, value| KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() };
    let attributes = resource.iter().map(|(key, value)| pair(key, text(value))).collect();
    let scope = InstrumentationScope {
        name: "homeostat".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let value = |value: tracer::Value| match value {
        tracer::Value::Text(words) => text(&words),
        tracer::Value::Number(number) => {
            AnyValue { value: Some(any_value::Value::IntValue(i64::try_from(number).unwrap_or(i64::MAX))) }
        }
    };
    let span = |ended: Ended| Span {
        trace_id: ended.own.trace_id.to_vec(),
        span_id: ended.own.span_id.to_vec(),
        parent_span_id: ended.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
        flags: 1,
        name: ended.name,
        kind: match ended.kind {
            Kind::Server => span::SpanKind::Server,
            Kind::Client => span::SpanKind::Client,
        } as i32,
        start_time_unix_nano: ended.start.as_nanos().max(0).cast_unsigned(),
        end_time_unix_nano: ended.end.as_nanos().max(0).cast_unsigned(),
        attributes: ended.attributes.into_iter().map(|(key, of)| pair(key, value(of))).collect(),
        status: ended.error.map(|message| Status { message, code: status::StatusCode::Error as i32 }),
        ..Span::default()
    };
    let scope_spans = ScopeSpans {
        scope: Some(scope),
        spans: spans.into_iter().map(span).collect(),
        ..ScopeSpans::default()
    };
    let resource_spans = ResourceSpans {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_spans: vec![scope_spans],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
}

/// Who this is, in OpenTelemetry's spelling; an attribute that is null is left out.
pub fn resource(own: &BTreeMap<String, Option<String>>) -> Vec<(String, String)> {
    let known = [("service.name", "homeostat"), ("service.version", env!("CARGO_PKG_VERSION"))];
    let mut all: BTreeMap<&str, Option<&str>> =
        known.into_iter().map(|(key, value)| (key, Some(value))).collect();
    all.extend(own.iter().map(|(key, value)| (key.as_str(), value.as_deref())));
    all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use homeostat_pipeline::contract::Taken;
    use homeostat_pipeline::refusal::Refusal;
    use homeostat_pipeline::tracer::Sampler;

    use super::*;

    fn traces(yaml: &str) -> Traces {
        homeostat_pipeline::settings::read(&homeostat_config::parse("a.yaml", yaml).unwrap()).unwrap()
    }

    fn said(yaml: &str) -> Vec<String> {
        let files = Files { base: ".".into(), embedded: BTreeMap::new(), parse: homeostat_config::parse };
        problems(&traces(yaml), &files).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let to = |otlp: &str| format!("{{processors: [{{batch: {{exporter: {{otlp: {otlp}}}}}}}]}}");
        for good in [
            "{}".to_owned(),
            to("{endpoint: 'http://127.0.0.1:4318'}"),
            to("{endpoint: 'http://127.0.0.1:4318/own/traces', compression: gzip}"),
            to("{protocol: grpc/protobuf, endpoint: '127.0.0.1:4317', insecure: true, headers: [{name: a, value: b}]}"),
            to("{protocol: grpc, endpoint: 'x:4317', tls: {insecure: true}}"),
            "{sampler: {parent_based: {root: {trace_id_ratio_based: {ratio: 0.5}}}}, propagators: [tracecontext]}"
                .to_owned(),
        ] {
            assert_eq!(said(&good), [""; 0], "{good}");
        }
        for (bad, expected) in [
            (to("{endpoint: 'ftp://x'}"), "a.yaml:1"),
            (to("{endpoint: 'https://x', certificate: nothing.pem}"), "nothing.pem"),
            (to("{endpoint: 'http://x', headers: [{name: 'a b', value: hunter2}]}"), "is no header"),
            ("{sampler: {trace_id_ratio_based: {ratio: 2}}}".to_owned(), "between 0 and 1"),
            ("{sampler: {}}".to_owned(), "always_on"),
        ] {
            let said = said(&bad).concat();
            assert!(said.contains(expected) && !said.contains("hunter2"), "{bad}: {said}");
        }
    }

    /// Refuses the first request.
    struct Moody(std::sync::Mutex<Vec<Telemetry>>);

    #[async_trait]
    impl TelemetryExporter for Moody {
        async fn export(&self, telemetry: &Telemetry, _deadline: Instant) -> Result<Taken, Refusal> {
            let mut seen = self.0.lock().unwrap();
            seen.push(telemetry.clone());
            if seen.len() == 1 { Err(Refusal::busy("it is down")) } else { Ok(Taken::default()) }
        }

        fn is_queued(&self) -> bool {
            false
        }
    }

    #[tokio::test(start_paused = true)]
    async fn spans_that_their_backend_does_not_take_are_counted_and_the_next_are_sent() {
        let unstruck = drops::unstruck(&[&drops::TRACER_FAILED]);
        let settings =
            traces("{processors: [{batch: {max_export_batch_size: 2, exporter: {otlp: {endpoint: x}}}}]}");
        let exporter = Arc::new(Moody(std::sync::Mutex::default()));
        let (queue, spans) = mpsc::channel(10);
        let own = Parent { trace_id: [1; 16], span_id: [2; 8], is_sampled: true };
        let at = homeostat_pipeline::clock::Timestamp::from_millis(1);
        for name in ["a", "b", "c"] {
            let (name, kind, attributes) = (name.to_owned(), Kind::Server, Vec::new());
            let ended = Ended { name, kind, own, parent: None, start: at, end: at, attributes, error: None };
            queue.send(ended).await.unwrap();
        }
        drop(queue);
        let sender = Sender {
            exporter: exporter.clone(),
            resource: resource(&BTreeMap::from([("service.version".to_owned(), None)])),
            batch: settings.batch().unwrap().clone(),
            said: None,
        };
        sender.run(spans, CancellationToken::new()).await;
        let seen = exporter.0.lock().unwrap();
        assert_eq!(seen.iter().map(|telemetry| telemetry.records).collect::<Vec<_>>(), [2, 1]);
        let last = ExportTraceServiceRequest::decode(seen[1].body.clone()).unwrap();
        assert_eq!(last.resource_spans[0].resource.as_ref().unwrap().attributes[0].key, "service.name");
        assert_eq!(last.resource_spans[0].scope_spans[0].spans[0].name, "c");
        assert_eq!(Sampler::default(), settings.decides().unwrap());
        assert_eq!(unstruck(), [""; 0]);
    }
}
