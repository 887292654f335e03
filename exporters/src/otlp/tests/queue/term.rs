//! What becomes of a queue when the process stops, or a reload takes its exporter away.

use homeostat_pipeline::clock::Clock;

use super::super::super::spool::waiting_requests;
use super::*;

fn busy_first(count: usize) -> Vec<Act> {
    (0..count).map(|_| busy(Protocol::Http)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_remembers_what_was_sent() {
    let (disk, backend) = (Disk::new(), Backend::start(Protocol::Http, vec![]).await);
    let running = Running::on(&disk, &backend, vec![one()]).await;
    running.accept(0..20).await;
    until("all arrived", || backend.count() >= 20).await;
    running.tasks.finish(far()).await;
    assert!(cursor(&disk) >= 19, "at most the one that was under way comes again: {}", cursor(&disk));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_until_a_queue_in_memory_is_sent() {
    let backend = Backend::start(Protocol::Http, busy_first(30)).await;
    let running = Running::open(Running::context(None, "otlp/stopped"), &backend, vec![one()], vec![]).await;
    running.accept(0..20).await;
    running.tasks.finish(far()).await;
    let mut arrived = arrived(&backend);
    arrived.dedup();
    assert_eq!(arrived, expected(0..20));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_sent_although_a_reload_removes_the_exporter() {
    for is_on_disk in [true, false] {
        let (disk, backend) = (Disk::new(), Backend::start(Protocol::Http, busy_first(20)).await);
        let context = Running::context(is_on_disk.then_some(&disk), "otlp/removed");
        let mut running = Running::open(context, &backend, vec![one()], vec![]).await;
        running.accept(0..10).await;
        running.stop.cancel();
        running.exporter = None;
        until("all arrived", || backend.count() >= 30).await;
        let mut arrived = arrived(&backend);
        arrived.dedup();
        assert_eq!(arrived, expected(0..10), "on disk: {is_on_disk}");
        until("then the queue is closed", || !Store::is_open(&disk.folder())).await;
        assert!(!is_on_disk || cursor(&disk) == 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_exporter_left_on_disk_is_counted() {
    let disk = Disk::new();
    assert_eq!(waiting_requests(&disk.folder()), 0);
    let running = Running::on(&disk, &hanging(Protocol::Http).await, vec![]).await;
    running.accept(0..3).await;
    running.end().await;
    assert_eq!(waiting_requests(&disk.folder()), 3);
    let running = Running::on(&disk, &Backend::start(Protocol::Http, vec![]).await, vec![]).await;
    until("all are done with", || cursor(&disk) == 3).await;
    running.end().await;
    assert_eq!(waiting_requests(&disk.folder()), 0);
}

/// A clock that cannot be read the first two times.
struct Broken(AtomicU64);

impl Clock for Broken {
    fn now(&self) -> Timestamp {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) >= 2, "this clock was told to break");
        Timestamp::from_millis(1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_makes_sending_panic_is_a_dead_letter_and_holds_nobody_up() {
    let unstruck = drops::unstruck(&[&drops::QUEUE_PANICKED]);
    let disk = Disk::new();
    let running = Running::on(&disk, &hanging(Protocol::Http).await, vec![]).await;
    running.accept(0..3).await;
    running.end().await;
    let backend = Backend::start(Protocol::Http, vec![]).await;
    let context =
        Context { clock: Arc::new(Broken(AtomicU64::new(0))), ..Running::context(Some(&disk), "otlp/test") };
    let queue = vec![one(), ("max_age", text("24h")), ("queue_size", Value::Integer(3))];
    let running = Running::open(context, &backend, queue, vec![]).await;
    until("all are done with", || cursor(&disk) == 3).await;
    assert_eq!(arrived(&backend), expected(1..3));
    let letters = disk.letters();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((letter["cause"].as_str(), letter["index"].as_str()), (Some("panicked"), Some("0")));
    running.accept(3..6).await;
    running.end().await;
    assert_eq!(unstruck(), [""; 0]);
}
