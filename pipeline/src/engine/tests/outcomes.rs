//! What a sender is told, and what that means.

use super::*;
use crate::engine::forward::worst;
use crate::journal::{JournalItem, JournalReader};
use crate::refusal::Cause;

fn busy() -> Refusal {
    Refusal::busy("busy")
}

fn never() -> Refusal {
    Refusal::rejected(Cause::Backend, "never")
}

fn journalled(world: &World) -> usize {
    let reader = JournalReader::open(&world.path().join("journal")).unwrap();
    reader.read_from(Offset(0)).filter(|item| matches!(item, Ok(JournalItem::Entry(_)))).count()
}

#[test]
fn later_beats_never_and_never_beats_taken() {
    let taken = || Ok(Taken::default());
    let check = |one: Result<Taken, Refusal>, other: Result<Taken, Refusal>, expected| {
        assert_eq!(worst(one.clone(), other.clone()), expected);
        assert_eq!(worst(other, one), expected, "the order does not matter");
    };
    check(taken(), taken(), taken());
    check(taken(), Err(busy()), Err(busy()));
    check(taken(), Err(never()), Err(never()));
    check(Err(busy()), Err(never()), Err(busy()));
    check(Err(never()), Err(never()), Err(never()));
    let later = Refusal::Unavailable { retry_after: Duration::from_secs(9), reason: "later".to_owned() };
    check(Err(busy()), Err(later.clone()), Err(later));
    let partly = |rejected, message: &str| Ok(Taken { rejected, share: 0, message: message.to_owned() });
    check(partly(2, "two"), taken(), partly(2, "two"));
    assert_eq!(worst(partly(2, "two"), partly(1, "one")), partly(2, "two; one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_panics_harms_one_request_only() {
    let unstruck = drops::unstruck(&[&drops::PROCESSOR_PANIC]);
    let world = World::new();
    let engine = world.start();
    let inlet = engine.inlet("in");
    for _ in 0..2 {
        let refusal = inlet.submit(Batch::Telemetry(telemetry("BREAK")), deadline()).await.unwrap_err();
        assert_eq!(refusal, Refusal::busy("processor `tag` cannot process it"));
    }
    submit(&engine, "REQ-A").await.unwrap();
    world.tick(&engine).await;
    assert!(engine.health().ready);
    kill(engine).await;
    assert_eq!(world.ledger(), ["count: REQ-A=1"]);
    assert_eq!(unstruck(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ok_means_durable_and_forwarded() {
    let mut world = World::new();
    let backend = Backend::closed();
    world.backends.push(backend.clone());
    let engine = world.start();
    let inlet = engine.inlet("in");
    let submission =
        tokio::spawn(async move { inlet.submit(Batch::Telemetry(telemetry("REQ-A")), deadline()).await });
    backend.seen.subscribe().wait_for(|seen| *seen == 1).await.unwrap();
    // The tick is journalled after what was submitted before; still the backend keeps the answer back.
    world.tick(&engine).await;
    assert_eq!(journalled(&world), 2);
    assert!(!submission.is_finished(), "the backend has not taken it yet");
    backend.open.send_replace(true);
    assert_eq!(submission.await.unwrap().unwrap().taken, Taken::default());
    kill(engine).await;
    assert_eq!(world.ledger(), ["count: REQ-A=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_full_refuses_even_what_the_backend_took_and_the_repeat_is_not_forwarded_again() {
    let unstruck = drops::unstruck(&[&drops::JOURNAL_FULL]);
    let mut world = World::new();
    let backend = Backend::new([]);
    world.backends.push(backend.clone());
    world.storage.free_bytes_min = u64::MAX;
    let engine = world.start();
    for _ in 0..3 {
        let told = submit(&engine, "REQ-A").await.unwrap_err();
        assert_eq!(told, Refusal::busy("the journal has no room now"), "without the folder's name");
    }
    assert_eq!(backend.calls(), 1);
    assert!(!engine.health().ready);
    assert!(submit(&engine, "nothing to judge").await.is_ok(), "what needs no journal is not held up");
    stop(engine).await;
    world.storage.free_bytes_min = 0;
    let engine = world.start();
    submit(&engine, "REQ-A").await.unwrap();
    stop(engine).await;
    assert_eq!(unstruck(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_does_not_take_is_refused_until_it_does() {
    let unstruck = drops::unstruck(&[&drops::JOURNAL_FAILED]);
    let mut world = World::new();
    world.storage.journal_bytes_max = 1 << 20;
    let engine = world.start();
    // Where the next segment may begin stands a folder: as good as a failing disk.
    let journal = world.path().join("journal");
    let in_the_way: Vec<_> = (1..50).map(|first| journal.join(format!("{first:020}.log"))).collect();
    in_the_way.iter().for_each(|path| std::fs::create_dir(path).unwrap());
    let large = |number: usize| format!("REQ-{number}{}", "A".repeat(40 << 10));
    let mut number = 0;
    let told = loop {
        number += 1;
        assert!(number < 50, "the segment never ends");
        if let Err(told) = submit(&engine, &large(number)).await {
            break told;
        }
    };
    assert_eq!(told, Refusal::busy("the journal cannot be written now"));
    in_the_way.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
    submit(&engine, &large(number)).await.unwrap();
    kill(engine).await;
    assert_eq!(unstruck(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_folded_once_and_forwarded_only_to_those_that_had_not_taken_it() {
    let mut world = World::new();
    let (one, other) = (Backend::new([]), Backend::new([Err(busy())]));
    world.backends.extend([one.clone(), other.clone()]);
    let engine = world.start();
    let told = submit(&engine, "REQ-A").await.unwrap_err();
    assert_eq!(
        told,
        Refusal::busy("exporter `traces/1` cannot hand it on now"),
        "without the backend's words"
    );
    submit(&engine, "REQ-A").await.unwrap();
    assert_eq!((one.calls(), other.calls()), (1, 2));
    submit(&engine, "REQ-A REQ-B").await.unwrap();
    world.tick(&engine).await;
    kill(engine).await;
    assert_eq!(world.ledger(), ["count: REQ-A=2", "count: REQ-B=1"]);
}

/// One exporter says this, and the other is busy twice: what the sender hears when it comes for the third time.
async fn third_time(said: Result<Taken, Refusal>) -> Result<Taken, Refusal> {
    let mut world = World::new();
    let (one, other) = (Backend::new([said]), Backend::new([Err(busy()), Err(busy())]));
    world.backends.extend([one.clone(), other.clone()]);
    let engine = world.start();
    for _ in 0..2 {
        assert!(submit(&engine, "REQ-A").await.unwrap_err().is_retryable(), "the other may take it yet");
    }
    let outcome = submit(&engine, "REQ-A").await.map(|receipt| receipt.taken);
    assert_eq!((one.calls(), other.calls()), (1, 3));
    stop(engine).await;
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_hears_what_those_said_that_are_not_asked_again() {
    assert_eq!(third_time(Ok(Taken::default())).await, Ok(Taken::default()));
    let partly = Taken { rejected: 2, share: 0, message: "two were old".to_owned() };
    assert_eq!(third_time(Ok(partly.clone())).await, Ok(partly));
    let told = Refusal::rejected(Cause::Backend, "exporter `traces/0`: never");
    assert_eq!(third_time(Err(never())).await, Err(told));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_backend_refuses_for_good_is_the_senders_answer_and_is_judged_all_the_same() {
    let unstruck = drops::unstruck(&[&drops::EXPORTER_REFUSED, &drops::EXPORTER_PARTIAL]);
    let mut world = World::new();
    world
        .backends
        .push(Backend::new([Err(never()), Ok(Taken { rejected: 1, share: 0, message: "one".to_owned() })]));
    let engine = world.start();
    let told = Refusal::rejected(Cause::Backend, "exporter `traces/0`: never");
    assert_eq!(submit(&engine, "REQ-A").await.unwrap_err(), told);
    let receipt = submit(&engine, "REQ-B").await.unwrap();
    assert_eq!(receipt.taken, Taken { rejected: 1, share: 0, message: "one".to_owned() });
    world.tick(&engine).await;
    stop(engine).await;
    assert_eq!(world.ledger(), ["count: REQ-A=1", "count: REQ-B=1"]);
    assert_eq!(unstruck(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_backend_never_blinds_the_judgement() {
    let mut world = World::new();
    let backend = Backend::closed();
    world.backends.push(backend.clone());
    world.budget = Budget::new(1 << 20);
    let engine = world.start();
    let large = format!("REQ-A {}", "x".repeat(400_000));
    let (inlet, batch) = (engine.inlet("in"), Batch::Telemetry(telemetry(&large)));
    let waiting = tokio::spawn(async move { inlet.submit(batch, deadline()).await });
    backend.seen.subscribe().wait_for(|seen| *seen == 1).await.unwrap();
    let more = format!("REQ-B {}", "x".repeat(400_000));
    assert!(submit(&engine, &more).await.unwrap_err().is_retryable(), "half of the budget waits already");
    world.tick(&engine).await;
    backend.open.send_replace(true);
    waiting.await.unwrap().unwrap();
    stop(engine).await;
    assert_eq!(world.ledger(), ["count: REQ-A=1", "count: REQ-B=1"]);
    assert_eq!(world.budget.used_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_evidence_nothing_is_journalled() {
    let mut world = World::new();
    world.backends.push(Backend::new([]));
    let engine = world.start();
    submit(&engine, "nothing to judge").await.unwrap();
    stop(engine).await;
    assert_eq!(journalled(&world), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_answered_with_what_its_alert_caused() {
    let world = World::new();
    let engine = world.start();
    let alerts = Batch::Alerts(vec![alert("one"), alert("two")]);
    let mut receipt = engine.inlet("in").submit(alerts, deadline()).await.unwrap();
    let at = world.clock.now();
    let expected = ["one", "two"].map(|text| note("alert", at, text.to_owned()));
    assert_eq!(receipt.verdict(deadline()).await.as_deref(), Some(&expected[..]));
    assert_eq!(receipt.verdict(deadline()).await, None);
    assert_eq!(submit(&engine, "REQ-A").await.unwrap().verdict(deadline()).await, None);
    stop(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_no_pipeline_takes_is_unknown() {
    let world = World::new();
    let engine = world.start();
    let inlet = engine.inlet("in");
    assert!(inlet.takes(Signal::Traces) && !inlet.takes(Signal::Logs));
    let logs = Batch::Telemetry(Telemetry { signal: Signal::Logs, ..telemetry("REQ-A") });
    let refusal = inlet.submit(logs, deadline()).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Rejected { cause: Cause::Unknown, .. }), "{refusal:?}");
    stop(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_takes_nothing_more_and_says_so() {
    let world = World::new();
    let engine = world.start();
    submit(&engine, "REQ-A").await.unwrap();
    engine.stop(deadline()).await;
    assert!(submit(&engine, "REQ-B").await.unwrap_err().is_retryable());
    let health = engine.health();
    assert!(health.live && !health.ready);
    engine.stop(deadline()).await;
    assert_eq!(journalled(&world), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pipeline_of_a_receiver_forwards_and_one_judges() {
    let unstruck = drops::unstruck(&[&drops::PIPELINE_NOT_JUDGED]);
    let mut world = World::new();
    let (one, copy) = (Backend::new([]), Backend::new([Ok(Taken::default()), Err(busy())]));
    world.backends.push(one.clone());
    world.copies.push(copy.clone());
    let engine = world.start();
    submit(&engine, "REQ-A").await.unwrap();
    assert_eq!((one.calls(), copy.calls()), (1, 1));
    assert!(submit(&engine, "REQ-B").await.unwrap_err().is_retryable());
    submit(&engine, "REQ-B").await.unwrap();
    assert_eq!((one.calls(), copy.calls()), (2, 3), "the repeat goes to the one that had not taken it");
    world.tick(&engine).await;
    stop(engine).await;
    assert_eq!(world.ledger(), ["count: REQ-A=1", "count: REQ-B=1"]);
    assert_eq!(unstruck(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_ticks_by_itself() {
    let mut world = World::new();
    world.settings.tick = Some(Duration::from_millis(1));
    let exporter = Journalist::new();
    world.exporters.push(("sink".to_owned(), exporter.clone()));
    let engine = world.start();
    submit(&engine, "REQ-A").await.unwrap();
    assert_eq!(exporter.has(1).await.len(), 1);
    stop(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pipelines_that_judge_are_refused_at_start() {
    let world = World::new();
    let pipelines = vec![world.pipeline("a", &[], true), world.pipeline("b", &[], true)];
    let plan = Plan {
        store: Store::open(&world.storage).unwrap(),
        clock: world.clock.clone(),
        budget: world.budget.clone(),
        analyzers: vec![world.slot()],
        finding_exporters: Vec::new(),
        pipelines,
        settings: world.settings.clone(),
    };
    assert!(Engine::start(plan).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_went_back_is_said_and_keeps_nobody_away() {
    let world = World::new();
    let engine = world.start();
    world.tick(&engine).await;
    let (now, hour) = (world.clock.now(), Duration::from_secs(3600));
    for (clock, is_said) in [(now, false), (now - hour, true), (now - hour + hour / 2, true), (now, false)] {
        world.clock.set(clock);
        engine.tick().await.unwrap();
        let Health { live, ready, reasons } = engine.health();
        assert_eq!((live, ready, reasons.len()), (true, true, usize::from(is_said)), "{clock}: {reasons:?}");
    }
    stop(engine).await;
}
