//! What queues hold of the memory budget while they send.

use homeostat_pipeline::budget::{Budget, Class};

use super::super::parts::large;
use super::*;

const KIB: u64 = 1024;

fn context(disk: &Disk, budget: &Budget) -> Context {
    Context { budget: budget.clone(), ..Running::context(Some(disk), "otlp/test") }
}

/// A request of `bytes` that is never cut.
fn opaque(bytes: usize) -> Telemetry {
    let body = Bytes::from(vec![b'x'; bytes]);
    let frame = Frame { content: Content::Protobuf, compression: Encoded::None, bytes: body.clone() };
    Telemetry { signal: Signal::Logs, frame, body, records: 1 }
}

/// A disk on which `telemetry` waits `count` times.
async fn waiting(telemetry: &Telemetry, count: usize) -> Disk {
    let disk = Disk::new();
    let running = Running::on(&disk, &hanging(Protocol::Http).await, vec![]).await;
    for _ in 0..count {
        assert_eq!(running.export(telemetry).await, Ok(Taken::default()));
    }
    running.end().await;
    disk
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_must_be_cut_never_wait_for_each_others_memory() {
    let request = large(128, 1_000);
    // Three of them with their messages, and then less than the parts of one.
    let budget = Budget::new(924 * KIB);
    let known = vec![("max_request_bytes", Value::Integer(70_000))];
    for (more, script) in [(known, 0), (vec![], 1)] {
        let disk = waiting(&request, 10).await;
        let script = (0..script).map(|_| say(http(413, ""))).collect();
        let backend = Backend::start(Protocol::Http, script).await;
        let running = Running::open(context(&disk, &budget), &backend, vec![], more).await;
        until("all are done with", || cursor(&disk) == 10).await;
        assert!(disk.letters().is_empty());
        until("nothing is held any more", || budget.used_bytes() == 0).await;
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_of_a_backend_that_hangs_leaves_others_three_quarters_of_the_memory() {
    let budget = Budget::new(1024 * KIB);
    let disk = waiting(&opaque(20_000), 60).await;
    let backend = hanging(Protocol::Http).await;
    let queue = vec![("num_consumers", Value::Integer(1_000))];
    let running = Running::open(context(&disk, &budget), &backend, queue, vec![]).await;
    until("as many as may are under way", || backend.count() >= 12).await;
    assert!(budget.used_bytes() <= 256 * KIB, "{}", budget.used_bytes());
    assert!(budget.try_charge(None, Class::Telemetry, 640 * KIB).is_ok());

    // Another queue has none of it left, and goes on all the same.
    let (other, healthy) =
        (waiting(&large(300, 1_000), 3).await, Backend::start(Protocol::Http, vec![]).await);
    let second = Running::open(context(&other, &budget), &healthy, vec![], vec![]).await;
    until("one after the other arrives", || cursor(&other) == 3).await;
    second.end().await;
    running.end().await;
}
