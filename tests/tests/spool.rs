//! The `otlp` exporter's queue in whole programs: what was answered OK arrives, whatever backend and process go through.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use homeostat_tests::backend::Backend;
use homeostat_tests::client::{Sender, TRACES};
use homeostat_tests::homeostat::{Homeostat, write};
use homeostat_tests::load::Load;
use homeostat_tests::process::eventually;
use homeostat_tests::telemetry::{Spans, now, traces};
use rand::RngExt;
use tokio::sync::watch;
use tokio::time::Instant;

fn configuration(backend: SocketAddr, storage: &str, queue: &str) -> String {
    format!(
        r#"
receivers:
  otlp: {{ protocols: {{ grpc: {{ endpoint: 127.0.0.1:0 }}, http: {{ endpoint: 127.0.0.1:0 }} }} }}
exporters:
  otlp/backend:
    endpoint: "http://{backend}"
    retry_on_failure: {{ max_interval: 200ms }}
    sending_queue: {queue}
service:
  storage: {storage}
  telemetry: {{ metrics: {{ endpoint: 127.0.0.1:0 }} }}
  pipelines: {{ traces: {{ receivers: [otlp], exporters: [otlp/backend] }} }}
"#
    )
}

fn folder(backend: &Backend, queue: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    write(folder.path(), "config.yaml", &configuration(backend.address, "{ directory: data }", queue));
    folder
}

fn request() -> Bytes {
    let duration = Duration::from_millis(5);
    traces(&Spans { count: 3, req: String::new(), node: ("", ""), duration, is_error: false }, now())
}

async fn accept(homeostat: &Homeostat, sender: &Sender, body: &Bytes) -> bool {
    let answer = sender.grpc(homeostat.grpc, TRACES.0, "identity", body.clone()).await;
    answer.is_ok_and(|answer| answer.is_ok())
}

fn received(backend: &Backend) -> BTreeSet<Bytes> {
    backend.received().into_iter().map(|received| received.frame).collect()
}

/// Waits until the backend has all of `accepted`.
async fn all_arrive(backend: &Backend, accepted: &BTreeSet<Bytes>) {
    eventually(&format!("{} requests arrive", accepted.len()), async || {
        accepted.is_subset(&received(backend)).then_some(())
    })
    .await;
}

async fn start(folder: &Path, crash_at: &str) -> Result<Homeostat, String> {
    Homeostat::try_start(folder, &[("HOMEOSTAT_CRASH_AT", crash_at)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_while_the_backend_was_down_survives_a_kill_and_arrives() {
    let backend = Backend::start().await;
    backend.refuse(true);
    let folder = folder(&backend, "{}");
    let homeostat = Homeostat::start(folder.path()).await;
    let (sender, mut accepted) = (Sender::default(), BTreeSet::new());
    for _ in 0..50 {
        let body = request();
        assert!(accept(&homeostat, &sender, &body).await, "a backend that is down is nothing to the sender");
        accepted.insert(body);
    }
    assert!(homeostat.metric("otelcol_exporter_queue_size").await > 0.0);
    assert_eq!(homeostat.metric("otelcol_exporter_sent_spans").await, 0.0, "nothing was sent yet");
    homeostat.kill();
    let homeostat = Homeostat::start(folder.path()).await;
    assert!(received(&backend).is_empty());
    backend.refuse(false);
    all_arrive(&backend, &accepted).await;
    assert_eq!(received(&backend), accepted);
    eventually("the metrics say so", async || {
        let sent = homeostat.metric("otelcol_exporter_sent_spans").await;
        let waiting = homeostat.metric("otelcol_exporter_queue_size").await;
        (sent == 150.0 && waiting == 0.0).then_some(())
    })
    .await;
    homeostat.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_moments_while_it_sends_lose_nothing_that_was_accepted() {
    const KILLS: usize = 12;
    let backend = Backend::start().await;
    let folder = folder(&backend, "{ num_consumers: 3, max_mib: 8 }");
    let (address, whereabouts) = watch::channel(None);
    let (round, rounds) = watch::channel(0_usize);
    let load = Load::new(whereabouts, true);
    let sending = tokio::spawn(async move {
        let mut accepted = BTreeSet::new();
        while *rounds.borrow() <= KILLS {
            let body = request();
            load.deliver(&body).await;
            accepted.insert(body);
        }
        accepted
    });
    let mut homeostat = Homeostat::start(folder.path()).await;
    for number in 0..KILLS {
        address.send_replace(Some((homeostat.grpc, homeostat.http)));
        // Every other time it dies with a queue, else while it drains.
        backend.refuse(number % 2 == 0);
        let moment = Duration::from_millis(rand::rng().random_range(0..800));
        // A random moment is the point of the test.
        tokio::time::sleep(moment).await;
        address.send_replace(None);
        homeostat.kill();
        homeostat = Homeostat::start(folder.path()).await;
    }
    address.send_replace(Some((homeostat.grpc, homeostat.http)));
    backend.refuse(false);
    round.send_replace(KILLS + 1);
    let accepted = sending.await.expect("the load does not panic");
    assert!(accepted.len() > KILLS, "{} requests were accepted", accepted.len());
    all_arrive(&backend, &accepted).await;
    homeostat.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_disk_and_answer_and_before_the_cursor_costs_at_most_a_repetition() {
    let backend = Backend::start().await;
    let folder = folder(&backend, "{}");
    let sender = Sender::default();
    let mut accepted = BTreeSet::new();
    for point in ["spool.synced:3", "spool.cursor_saved", "spool.cursor_saved:2"] {
        // What waits is sent at once, so it may die before it is ready.
        let Ok(mut homeostat) = start(folder.path(), point).await else { continue };
        let until = Instant::now() + Duration::from_secs(120);
        while homeostat.process.ended().is_none() {
            assert!(Instant::now() < until, "it never died at {point}");
            let body = request();
            if accept(&homeostat, &sender, &body).await {
                accepted.insert(body);
            }
        }
    }
    let homeostat = Homeostat::start(folder.path()).await;
    all_arrive(&backend, &accepted).await;
    homeostat.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_the_backend_is_down_keeps_its_time_and_loses_nothing() {
    let backend = Backend::start().await;
    backend.refuse(true);
    let folder = folder(&backend, "{ enabled: true, sizer: requests, queue_size: 5 }");
    let homeostat = Homeostat::start(folder.path()).await;
    let (sender, mut accepted) = (Sender::default(), BTreeSet::new());
    for _ in 0..5 {
        let body = request();
        assert!(accept(&homeostat, &sender, &body).await);
        accepted.insert(body);
    }
    let answer = sender.http(homeostat.http, TRACES.1, "identity", request()).await.expect("it answers");
    assert_eq!((answer.status, answer.has_retry), (503, true), "a full queue is busy");
    assert_eq!(homeostat.metric("otelcol_exporter_enqueue_failed_spans").await, 3.0);
    assert_eq!(homeostat.metric("otelcol_exporter_queue_capacity").await, 5.0);
    let asked = Instant::now();
    let (status, output) = homeostat.stop().await;
    assert!(status.success(), "{output}");
    // Ten seconds are promised; the rest is what a loaded machine takes to notice.
    assert!(asked.elapsed() < Duration::from_secs(30), "it took {:?}:\n{output}", asked.elapsed());
    let homeostat = Homeostat::start(folder.path()).await;
    backend.refuse(false);
    all_arrive(&backend, &accepted).await;
    assert_eq!(received(&backend), accepted);
    homeostat.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_sends_nothing_again_that_the_backend_has_answered() {
    let backend = Backend::start().await;
    let folder = folder(&backend, "{ num_consumers: 1 }");
    let (sender, mut accepted) = (Sender::default(), BTreeSet::new());
    for _ in 0..3 {
        let homeostat = Homeostat::start(folder.path()).await;
        for _ in 0..30 {
            let body = request();
            assert!(accept(&homeostat, &sender, &body).await);
            accepted.insert(body);
        }
        let (status, output) = homeostat.stop().await;
        assert!(status.success(), "{output}");
    }
    let homeostat = Homeostat::start(folder.path()).await;
    all_arrive(&backend, &accepted).await;
    homeostat.stop().await;
    // A loaded machine may need more than the second that the last one of each life has.
    let arrived = backend.received().len();
    assert!((accepted.len()..=accepted.len() + 3).contains(&arrived), "{arrived} of {}", accepted.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_nobody_sends_any_more_is_said_at_the_start() {
    let backend = Backend::start().await;
    backend.refuse(true);
    let folder = folder(&backend, "{}");
    let homeostat = Homeostat::start(folder.path()).await;
    assert!(accept(&homeostat, &Sender::default(), &request()).await);
    homeostat.stop().await;
    let text =
        configuration(backend.address, "{ directory: data }", "{}").replace("otlp/backend", "otlp/other");
    write(folder.path(), "config.yaml", &text);
    let (_, output) = Homeostat::start(folder.path()).await.stop().await;
    assert!(output.contains("requests wait in the queue of an exporter that has none now"), "{output}");
    assert!(output.contains("components/otlp-backend"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_disk_the_queue_is_in_memory_and_says_so() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    write(folder.path(), "config.yaml", &configuration(backend.address, "none", "{}"));
    let homeostat = Homeostat::start(folder.path()).await;
    let body = request();
    assert!(accept(&homeostat, &Sender::default(), &body).await);
    all_arrive(&backend, &BTreeSet::from([body])).await;
    let (_, output) = homeostat.stop().await;
    assert!(output.contains("what waits in memory ends with the process"), "{output}");
}
