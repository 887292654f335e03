//! Reloads with everything behind them that keeps something: merging, a queue on disk, NATS and Postgres, under load.

use homeostat_tests::backend::Pace;
use homeostat_tests::world::World;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::*;

const BEHIND: &str = r#"
receivers: { otlp: { protocols: { grpc: { endpoint: 127.0.0.1:0 }, http: { endpoint: 127.0.0.1:0 } } } }
processors:
  tag: {}
  batch: { timeout: 20ms, send_batch_size: 50 }
  homeostasis: { model: model.yml }
exporters:
  otlp/direct: { endpoint: "http://DIRECT", timeout: 30s }
  otlp/queued:
    endpoint: "http://QUEUED"
    retry_on_failure: { max_interval: 200ms }
    sending_queue: { queue_size: 100000 }
  nats: { servers: ["NATS"], ping_interval: 3s }
  postgres: { url: "POSTGRES", statement_timeout: 5s }
service:
  storage: { directory: data }
  telemetry: { metrics: { endpoint: 127.0.0.1:0 } }
  pipelines:
    feedback:
      receivers: [otlp]
      processors: [tag, batch, homeostasis]
      exporters: [otlp/direct, otlp/queued, nats, postgres]
"#;

/// The spans of requests, in order of their ids.
fn spans<'a>(bodies: impl IntoIterator<Item = &'a Bytes>) -> Vec<Vec<u8>> {
    let requests = bodies.into_iter().map(|body| ExportTraceServiceRequest::decode(body.clone()));
    let mut ids: Vec<_> = requests
        .flat_map(|request| request.expect("it is OTLP").resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .map(|span| [span.trace_id, span.span_id].concat())
        .collect();
    ids.sort();
    ids
}

fn got(backend: &Backend) -> Vec<Vec<u8>> {
    let frames: Vec<Bytes> = backend.received().into_iter().map(|one| one.frame).collect();
    spans(&frames)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_merging_a_queue_nats_and_postgres_a_reload_loses_nothing_and_doubles_nothing() {
    let world = World::start(&model(500)).await;
    let queued = Backend::start().await;
    let path = world.path();
    let text = BEHIND
        .replace("DIRECT", &world.backend.address.to_string())
        .replace("QUEUED", &queued.address.to_string())
        .replace("NATS", &world.nats.url())
        .replace("POSTGRES", &world.database.url());
    write(path, "config.yaml", &text);
    let homeostat = Homeostat::start(path).await;
    homeostat.is_ready().await;
    let stop = Arc::new(AtomicBool::new(false));
    let loads = [(homeostat.grpc, true), (homeostat.http, false)]
        .map(|(to, is_grpc)| tokio::spawn(load(to, is_grpc, Arc::clone(&stop))));
    queued.pace(Pace::Stalled);
    for number in 1..=5_u32 {
        let changed = [
            // How requests are merged: before each telemetry exporter stands another one.
            ("batch: { timeout: 20ms", format!("batch: {{ timeout: {}ms", 20 + number)),
            // Three sinks, each with its cursor.
            ("statement_timeout: 5s", format!("statement_timeout: {}s", 5 + number)),
            ("ping_interval: 3s", format!("ping_interval: {}s", 3 + number)),
            ("timeout: 30s", format!("timeout: {}s", 30 + number)),
        ];
        let new = changed.iter().fold(text.clone(), |text, (old, new)| text.replacen(old, new, 1));
        assert_ne!(new, text);
        write(path, "config.yaml", &new);
        reload(&homeostat, "applied").await;
        // What is on disk has one owner.
        write(path, "config.yaml", &text.replace("queue_size: 100000", "queue_size: 99999"));
        reload(&homeostat, "refused").await;
        write(path, "config.yaml", &text);
        reload(&homeostat, "applied").await;
    }
    queued.pace(Pace::Free);
    stop.store(true, Ordering::Release);
    let mut sent = Vec::new();
    for load in loads {
        sent.extend(load.await.expect("the load ran"));
    }
    let sent = spans(&sent);
    assert_eq!(got(&world.backend), sent, "the direct backend has each span once");
    eventually("the queue is sent", async || (got(&queued).len() >= sent.len()).then_some(())).await;
    assert_eq!(got(&queued), sent, "the backend behind the queue has each span once");
    eventually("all spans are judged", async || {
        let judged: u64 = Found::read(path).windows.values().map(|(_, count)| count).sum();
        (judged == sent.len() as u64).then_some(())
    })
    .await;
    let seen = eventually("NATS and Postgres say the same", async || {
        let (nats, postgres) = (world.in_nats().await, world.in_postgres().await);
        (!nats.is_empty() && nats == postgres).then_some(nats)
    })
    .await;
    assert_eq!(seen.iter().map(|one| one.req.as_str()).collect::<Vec<_>>(), [REQ], "one deviation");
    Found::read(path).has_one_deviation();
    let (status, output) = homeostat.stop().await;
    assert!(status.success(), "{output}");
    trail_is_whole(path).await;
}
