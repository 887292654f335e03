//! homeostat → Collector → homeostat → backend, and the tail is slow, stalls, and is killed: every span that the first sender
//! heard OK for arrives. The Collector in the middle either has no queue, so that what stands behind it holds its senders
//! back, or one that blocks when it is full; both repeat without limit. Their configurations are those of docs/collector.md.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use homeostat_tests::backend::{Backend, Pace};
use homeostat_tests::collector::Collector;
use homeostat_tests::homeostat::{Homeostat, write};
use homeostat_tests::load::Load;
use homeostat_tests::process::{eventually, free_port};
use homeostat_tests::telemetry::{Spans, now, traces};
use tokio::sync::watch;

use crate::{fence, ids};

/// homeostat that listens at `port` and forwards to `next`.
fn homeostat_at(port: u16, next: &str) -> String {
    format!(
        "
receivers: {{ otlp: {{ protocols: {{ grpc: {{ endpoint: '127.0.0.1:{port}' }}, http: {{ endpoint: '127.0.0.1:0' }} }} }} }}
processors: {{ tag: {{}} }}
exporters: {{ otlp/next: {{ endpoint: 'http://{next}' }} }}
service:
  storage: {{ directory: data }}
  telemetry: {{ metrics: {{ endpoint: '127.0.0.1:0' }} }}
  pipelines: {{ traces: {{ receivers: [otlp], processors: [tag], exporters: [otlp/next] }} }}
"
    )
}

/// Senders that go on until they are told to stop.
struct Senders {
    loads: Vec<Arc<Load>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    acknowledged: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    requests: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Senders {
    fn start(homeostat: &Homeostat) -> Senders {
        let (address, whereabouts) = watch::channel(Some((homeostat.grpc, homeostat.http)));
        drop(address);
        let loads: Vec<Arc<Load>> =
            (0..6).map(|number| Arc::new(Load::new(whereabouts.clone(), number % 2 == 0))).collect();
        let acknowledged: Arc<Mutex<BTreeSet<Vec<u8>>>> = Arc::default();
        let requests = Arc::new(AtomicUsize::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let one = |load: &Arc<Load>| {
            let (load, acknowledged) = (Arc::clone(load), Arc::clone(&acknowledged));
            let (requests, is_over) = (Arc::clone(&requests), Arc::clone(&is_over));
            tokio::spawn(async move {
                while !is_over.load(Ordering::Acquire) {
                    let body = traces(&spans(), now());
                    load.deliver(&body).await;
                    acknowledged.lock().expect("nobody panicked").extend(ids(&body));
                    requests.fetch_add(1, Ordering::AcqRel);
                }
            })
        };
        let tasks = loads.iter().map(one).collect();
        Senders { loads, tasks, acknowledged, requests, is_over }
    }

    /// Waits until as many more requests were acknowledged.
    async fn more(&self, requests: usize) {
        let until = self.requests.load(Ordering::Acquire) + requests;
        eventually("more is acknowledged", async || {
            (self.requests.load(Ordering::Acquire) >= until).then_some(())
        })
        .await;
    }

    fn refusals(&self) -> usize {
        self.loads.iter().flat_map(|load| load.answers()).filter(|answer| !answer.is_ok()).count()
    }

    /// Waits until all is taken, and says what that is.
    async fn finish(self) -> BTreeSet<Vec<u8>> {
        self.is_over.store(true, Ordering::Release);
        for task in self.tasks {
            task.await.expect("everything is taken in the end");
        }
        for answer in self.loads.iter().flat_map(|load| load.answers()) {
            assert!(answer.is_ok() || answer.has_retry, "a refusal says when to come back: {answer:?}");
        }
        std::mem::take(&mut *self.acknowledged.lock().expect("nobody panicked"))
    }
}

fn spans() -> Spans {
    let duration = Duration::from_millis(5);
    Spans { count: 20, req: "REQ-NFR-CHAIN-001".to_owned(), node: ("", ""), duration, is_error: false }
}

fn folder(parent: &Path, name: &str, configuration: &str) -> std::path::PathBuf {
    let folder = parent.join(name);
    std::fs::create_dir(&folder).expect("the folder is new");
    write(&folder, "config.yaml", configuration);
    folder
}

/// `collector` is the first line of a configuration of the page.
async fn loses_nothing(collector: &str) {
    let parent = tempfile::tempdir().expect("there is a temporary directory");
    let backend = Backend::start().await;
    let (middle, tail) = (free_port(), free_port());
    let tail_folder = folder(parent.path(), "tail", &homeostat_at(tail, &backend.address.to_string()));
    let mut last = Homeostat::start(&tail_folder).await;
    let collector =
        fence(collector).replace(":4317", &format!(":{middle}")).replace(":5317", &format!(":{tail}"));
    let _collector = Collector::start(parent.path(), "middle", &collector).await;
    let head_folder = folder(parent.path(), "head", &homeostat_at(0, &format!("127.0.0.1:{middle}")));
    let first = Homeostat::start(&head_folder).await;

    let senders = Senders::start(&first);
    senders.more(20).await;
    backend.pace(Pace::Each(Duration::from_millis(100)));
    senders.more(20).await;
    backend.pace(Pace::Stalled);
    let before = senders.refusals();
    eventually("the stall has come to the first sender", async || {
        (senders.refusals() >= before + 3).then_some(())
    })
    .await;
    // It dies with what it holds, and again under full load.
    last.kill();
    last = Homeostat::start(&tail_folder).await;
    backend.pace(Pace::Free);
    senders.more(20).await;
    last.kill();
    last = Homeostat::start(&tail_folder).await;
    senders.more(20).await;
    let acknowledged = senders.finish().await;

    assert!(acknowledged.len() >= 80 * spans().count);
    eventually("every span that was acknowledged is at the backend", async || {
        let arrived: BTreeSet<_> = backend.received().iter().flat_map(|one| ids(&inflated(one))).collect();
        acknowledged.is_subset(&arrived).then_some(())
    })
    .await;
    assert!(last.stop().await.0.success());
    assert!(first.stop().await.0.success());
}

fn inflated(received: &homeostat_tests::backend::Received) -> Vec<u8> {
    use std::io::Read;
    match received.encoding.as_str() {
        "gzip" => {
            let mut body = Vec::new();
            flate2::read::MultiGzDecoder::new(&*received.frame).read_to_end(&mut body).expect("it is gzip");
            body
        }
        "zstd" => zstd::decode_all(&*received.frame).expect("it is zstd"),
        _ => received.frame.to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_with_a_collector_without_a_queue_loses_nothing() {
    loses_nothing("Collector: without a queue").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_with_a_collector_that_batches_and_queues_loses_nothing() {
    loses_nothing("Collector: with batch and a queue").await;
}
