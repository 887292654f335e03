//! Finding exporters: each at its own pace, none in another's way.

use super::*;
use crate::checkpoint::Checkpoints;
use crate::delivery::{Delivery, Sink};
use crate::ledger::Ledger;

#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_that_is_down_delays_nobody_and_catches_up() {
    let mut world = World::new();
    let (down, up) = (Journalist::new(), Journalist::new());
    down.down.store(true, Ordering::SeqCst);
    world.exporters.push(("down".to_owned(), down.clone()));
    world.exporters.push(("up".to_owned(), up.clone()));
    let engine = world.start();
    for name in ["REQ-A", "REQ-B", "REQ-C"] {
        submit(&engine, name).await.unwrap();
        world.tick(&engine).await;
    }
    assert_eq!(up.has(3).await.len(), 3);
    assert!(down.got.borrow().is_empty());
    down.down.store(false, Ordering::SeqCst);
    let sequences: Vec<u64> = down.has(3).await.iter().map(|entry| entry.sequence).collect();
    assert_eq!(sequences, [1, 2, 3]);
    stop(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_outlives_the_process_and_a_new_exporter_gets_everything() {
    let mut world = World::new();
    let first = Journalist::new();
    world.exporters.push(("sink".to_owned(), first.clone()));
    let engine = world.start();
    submit(&engine, "REQ-A").await.unwrap();
    world.tick(&engine).await;
    first.has(1).await;
    stop(engine).await;
    let (again, late) = (Journalist::new(), Journalist::new());
    world.exporters = vec![("sink".to_owned(), again.clone()), ("late".to_owned(), late.clone())];
    let engine = world.start();
    submit(&engine, "REQ-B").await.unwrap();
    world.tick(&engine).await;
    let sequences =
        |entries: Vec<LedgerEntry>| entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>();
    assert_eq!(sequences(again.has(1).await), [2]);
    assert_eq!(sequences(late.has(2).await), [1, 2]);
    stop(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_refuses_for_good_is_a_dead_letter_and_blocks_nothing() {
    let unstruck = drops::unstruck(&[&drops::DELIVERY_DEAD_LETTER]);
    let mut world = World::new();
    let letters = world.path().join("components/dead-letters");
    let exporter = Journalist::rejecting(Some(2));
    world.exporters.push(("sink/one".to_owned(), exporter.clone()));
    let engine = world.start();
    for name in ["REQ-A", "REQ-B", "REQ-C"] {
        submit(&engine, name).await.unwrap();
        world.tick(&engine).await;
    }
    let entries = exporter.has(3).await;
    stop(engine).await;
    let text = std::fs::read_to_string(letters.join("sink-one.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["sequence"], "2");
    assert_eq!(lines[0]["reason"], "no");
    assert_eq!(lines[0]["hash"], crate::finding::hex(&entries[1].hash));
    assert!(!text.contains("REQ-B"), "the body stays in the ledger");
    assert_eq!(unstruck(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_gives_way_ends_after_the_attempt_under_way_and_does_not_catch_up() {
    let exporter = Moody::new(1, true);
    let (delivery, checkpoints, _closing, _head) = delivery(exporter.clone(), 1100);
    let leaving = delivery.leaving();
    let task = tokio::spawn(delivery.run());
    while exporter.attempts.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    leaving.cancel();
    task.await.unwrap();
    assert_eq!(exporter.attempts.lock().unwrap().len(), 1, "the attempt that hung is not made again");
    assert_eq!(checkpoints.cursor("sink"), 0, "the next one goes on from here");
}

/// A delivery of `findings` findings, without an engine.
fn delivery(
    exporter: Arc<dyn FindingExporter>,
    findings: u64,
) -> (Delivery, Checkpoints, CancellationToken, watch::Sender<u64>) {
    let mut ledger = Ledger::memory();
    for number in 0..findings {
        let at = Timestamp::from_millis(1);
        ledger.append(&[note("count", at, number.to_string())], at, Offset(number)).unwrap();
    }
    let checkpoints = Checkpoints::memory().unwrap();
    let (head, heads) = watch::channel(findings);
    let closing = CancellationToken::new();
    let sink = Sink { id: "sink".to_owned(), exporter, dead_letters: None, timeout: Duration::from_secs(30) };
    let delivery = Delivery::new(sink, ledger.reader(), checkpoints.clone(), heads, closing.clone());
    (delivery, checkpoints, closing, head)
}

/// Refuses or hangs a number of times, then takes everything in batches that it counts.
struct Moody {
    refusals: AtomicU64,
    hangs: bool,
    batches: watch::Sender<Vec<usize>>,
    began: Instant,
    attempts: Mutex<Vec<Duration>>,
}

impl Moody {
    fn new(refusals: u64, hangs: bool) -> Arc<Moody> {
        Arc::new(Moody {
            refusals: AtomicU64::new(refusals),
            hangs,
            batches: watch::Sender::new(Vec::new()),
            began: Instant::now(),
            attempts: Mutex::default(),
        })
    }
}

#[async_trait]
impl FindingExporter for Moody {
    async fn export(&self, entries: &[LedgerEntry]) -> Result<Vec<Reject>, Refusal> {
        self.attempts.lock().unwrap().push(self.began.elapsed());
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            return Err(Refusal::busy("not now"));
        }
        self.batches.send_modify(|batches| batches.push(entries.len()));
        Ok(Vec::new())
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_tried_again_after_a_delay_that_doubles_up_to_thirty_seconds() {
    let exporter = Moody::new(14, false);
    let (delivery, checkpoints, closing, _head) = delivery(exporter.clone(), 1);
    let task = tokio::spawn(delivery.run());
    exporter.batches.subscribe().wait_for(|batches| !batches.is_empty()).await.unwrap();
    closing.cancel();
    task.await.unwrap();
    assert_eq!(checkpoints.cursor("sink"), 1);
    let attempts = exporter.attempts.lock().unwrap().clone();
    assert_eq!(attempts.len(), 15);
    let mut expected = Duration::from_millis(100);
    for pair in attempts.windows(2) {
        let waited = pair[1].saturating_sub(pair[0]);
        let (least, most) = (expected.mul_f64(0.5), expected.mul_f64(1.5) + Duration::from_millis(5));
        assert!((least..=most).contains(&waited), "{waited:?} instead of about {expected:?}");
        expected = (expected * 2).min(Duration::from_secs(30));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_cut_off_and_made_again() {
    let exporter = Moody::new(1, true);
    let (delivery, _checkpoints, closing, _head) = delivery(exporter.clone(), 1);
    let task = tokio::spawn(delivery.run());
    exporter.batches.subscribe().wait_for(|batches| !batches.is_empty()).await.unwrap();
    assert!(exporter.began.elapsed() >= Duration::from_secs(30));
    closing.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_holds_at_most_five_hundred() {
    let exporter = Moody::new(0, false);
    let (delivery, checkpoints, closing, _head) = delivery(exporter.clone(), 1100);
    closing.cancel();
    delivery.run().await;
    assert_eq!(*exporter.batches.borrow(), [500, 500, 100], "it catches up before it ends");
    assert_eq!(checkpoints.cursor("sink"), 1100);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_down_does_not_hold_up_the_stop() {
    let exporter = Moody::new(u64::MAX, false);
    let (delivery, checkpoints, closing, _head) = delivery(exporter.clone(), 1);
    let task = tokio::spawn(delivery.run());
    while exporter.attempts.lock().unwrap().len() < 12 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let began = Instant::now();
    closing.cancel();
    task.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(checkpoints.cursor("sink"), 0, "it comes again after the next start");
}
