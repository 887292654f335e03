//! Ten times more than the backend takes, from many peers, until it takes nothing at all: memory stays within its budget, every
//! refusal says when to come back, and everything that was acknowledged is judged, once.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use homeostat_tests::backend::{Backend, Pace};
use homeostat_tests::client::{Answer, Sender, TRACES};
use homeostat_tests::homeostat::{Homeostat, write};
use homeostat_tests::judged::records_judged;
use homeostat_tests::process::{DEADLINE, eventually};
use homeostat_tests::telemetry::{Spans, now, traces};
use homeostat_tests::world::latency_model;
use tokio::time::{Instant, sleep};

use crate::ids;

/// Requests that the slow backend takes in a second, and those that are offered to it.
const CAPACITY: u32 = 10;
const OFFERED: u32 = 10 * CAPACITY;
/// For so long.
const SECONDS: u32 = 5;
const SPANS: usize = 400;
/// The budget of the process. What is offered is several times as much.
const BUDGET_MIB: u64 = 16;
/// What the process may take above its budget and its idle size: stacks, connections, the fold's state, and what the
/// allocator keeps in a build without optimisation. Together with the budget it stays below the 80 MiB that the design allows.
const BESIDE_MIB: u64 = 56;

const CONFIGURATION: &str = "
receivers: { otlp: { protocols: { grpc: { endpoint: '127.0.0.1:0' }, http: { endpoint: '127.0.0.1:0' } } } }
processors: { tag: {}, homeostasis: { model: model.yml } }
exporters: { file: { path: findings.jsonl }, otlp/backend: { endpoint: 'http://BACKEND' } }
service:
  storage: { directory: data }
  memory_mib: BUDGET
  telemetry: { metrics: { endpoint: '127.0.0.1:0' } }
  pipelines: { feedback: { receivers: [otlp], processors: [tag, homeostasis], exporters: [file, otlp/backend] } }
";

/// What the process has allocated, in MiB: its resident memory without the pages of the program's file.
fn memory_mib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let text = status.lines().find_map(|text| text.strip_prefix("RssAnon:")).unwrap_or_default();
    let kib: String = text.chars().filter(char::is_ascii_digit).collect();
    kib.parse::<u64>().unwrap_or_default() / 1024
}

/// The most of it from now on.
fn watch_memory(id: u32) -> Arc<AtomicU64> {
    let peak = Arc::new(AtomicU64::new(0));
    let watched = Arc::downgrade(&peak);
    tokio::spawn(async move {
        while let Some(peak) = watched.upgrade() {
            peak.fetch_max(memory_mib(id), Ordering::Relaxed);
            sleep(Duration::from_millis(5)).await;
        }
    });
    peak
}

fn request() -> Bytes {
    let duration = Duration::from_millis(900);
    let req = "REQ-NFR-LOAD-001".to_owned();
    traces(&Spans { count: SPANS, req, node: ("shop", "Work"), duration, is_error: false }, now())
}

/// Sends `body` until it is taken; all answers.
async fn deliver(
    sender: &Sender,
    homeostat: &Homeostat,
    is_grpc: bool,
    body: &Bytes,
    refused: &AtomicUsize,
) -> Vec<Answer> {
    let until = Instant::now() + DEADLINE;
    let mut answers = Vec::new();
    loop {
        let answer = if is_grpc {
            sender.grpc(homeostat.grpc, TRACES.0, "identity", body.clone()).await
        } else {
            sender.http(homeostat.http, TRACES.1, "identity", body.clone()).await
        };
        answers.push(answer.expect("homeostat answers, whatever it answers"));
        if answers.last().is_some_and(Answer::is_ok) {
            return answers;
        }
        refused.fetch_add(1, Ordering::Relaxed);
        assert!(Instant::now() < until, "never taken: {:?}", answers.last());
        // The refusal says 1 s at the least.
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_too_much_for_a_backend_that_stalls_loses_nothing_and_keeps_the_budget() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let backend = Backend::start().await;
    let configuration = CONFIGURATION.replace("BACKEND", &backend.address.to_string());
    write(folder.path(), "config.yaml", &configuration.replace("BUDGET", &BUDGET_MIB.to_string()));
    write(folder.path(), "model.yml", &latency_model(["REQ-NFR-LOAD-001".to_owned()], "1h"));
    let homeostat = Arc::new(Homeostat::start(folder.path()).await);
    let process = homeostat.process.id();
    let idle_mib = memory_mib(process);
    let peak = watch_memory(process);
    // A peer may hold a quarter of the budget, so it takes several to fill it.
    let peers = (1..=8).map(|last| Arc::new(Sender::at(IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)))));
    let peers: Vec<Arc<Sender>> = peers.collect();

    backend.pace(Pace::Each(Duration::from_secs(1) / CAPACITY));
    let refused = Arc::new(AtomicUsize::new(0));
    let (mut sending, mut sent) = (Vec::new(), Vec::new());
    for number in 0..OFFERED * SECONDS {
        if number == OFFERED * SECONDS / 2 {
            backend.pace(Pace::Stalled);
        }
        let body = request();
        sent.push(body.clone());
        let (homeostat, refused) = (Arc::clone(&homeostat), Arc::clone(&refused));
        let peer = Arc::clone(&peers[number as usize % peers.len()]);
        sending.push(tokio::spawn(async move {
            deliver(&peer, &homeostat, number % 2 == 0, &body, &refused).await
        }));
        sleep(Duration::from_secs(1) / OFFERED).await;
    }
    // The backend moves again when as much was refused as was offered.
    let all = sent.len();
    let enough = async || (refused.load(Ordering::Relaxed) >= all).then_some(());
    eventually("as much is refused as was offered", enough).await;
    backend.pace(Pace::Free);

    let mut refusals = 0;
    for one in sending {
        let mut answers = one.await.expect("everything is taken in the end");
        let taken = answers.pop().expect("there is an answer");
        assert!(taken.is_ok() && !taken.has_retry, "{taken:?}");
        for refusal in answers {
            let is_later = refusal.status == 503 || refusal.grpc_status == Some(14);
            assert!(is_later && refusal.has_retry, "a refusal says when to come back: {refusal:?}");
            refusals += 1;
        }
    }
    let (peak_mib, most_mib) = (peak.load(Ordering::Relaxed), idle_mib + BUDGET_MIB + BESIDE_MIB);
    assert!(idle_mib > 0 && peak_mib <= most_mib, "{peak_mib} MiB, {idle_mib} MiB idle, {refusals} refusals");

    let spans = (sent.len() * SPANS) as u64;
    eventually("every acknowledged record is judged", async || {
        let judged = records_judged(&folder.path().join("data"));
        assert!(judged <= spans, "{judged} spans were judged where {spans} were acknowledged");
        (judged == spans).then_some(())
    })
    .await;
    let arrived: BTreeSet<_> = backend.received().iter().flat_map(|received| ids(&received.frame)).collect();
    let expected: BTreeSet<_> = sent.iter().flat_map(|body| ids(body)).collect();
    assert!(expected.is_subset(&arrived), "a span that was acknowledged is not at the backend");
}
