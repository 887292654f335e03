//! What changes while the engine runs, and what must not change by that.

use super::*;
use crate::journal::{JournalItem, JournalReader};

fn epoch(hash: &str) -> Epoch {
    Epoch { component: "count".to_owned(), hash: hash.to_owned(), content: "a model".to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_on_the_way_it_began_on_and_the_next_takes_the_new_one() {
    let mut world = World::new();
    let (old, new) = (Backend::closed(), Backend::new([]));
    world.backends.push(old.clone());
    let engine = world.start();
    let inlet = engine.inlet("in");
    let began = tokio::spawn(async move {
        inlet.submit(Batch::Telemetry(telemetry("REQ-A")), deadline()).await.map(|_| ())
    });
    old.seen.subscribe().wait_for(|seen| *seen == 1).await.unwrap();
    engine.rewire(&[world.pipeline("traces", std::slice::from_ref(&new), true)]);
    submit(&engine, "REQ-B").await.unwrap();
    assert_eq!((old.calls(), new.calls()), (1, 1));
    assert!(!began.is_finished(), "it waits for the backend that it began with");
    old.open.send_replace(true);
    assert_eq!(began.await.unwrap(), Ok(()));
    assert_eq!(new.calls(), 1);
    world.tick(&engine).await;
    stop(engine).await;
    assert_eq!(world.ledger(), ["count: REQ-A=1", "count: REQ-B=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_leaves_its_pipelines_keeps_its_way_until_it_has_ended() {
    let mut world = World::new();
    let old = Backend::new([]);
    world.backends.push(old.clone());
    let engine = world.start();
    let inlet = engine.inlet("in");
    let new = Backend::new([]);
    let successor = Pipeline {
        receivers: vec!["in/new".to_owned()],
        ..world.pipeline("traces", std::slice::from_ref(&new), true)
    };
    engine.rewire(std::slice::from_ref(&successor));
    engine.rewire(&[successor]);
    assert!(inlet.takes(Signal::Traces) && !inlet.takes(Signal::Logs));
    submit(&engine, "REQ-A").await.unwrap();
    assert_eq!((old.calls(), new.calls()), (1, 0));
    inlet.leave();
    assert!(inlet.takes(Signal::Logs), "whoever comes so late is not told that the path is unknown");
    assert!(submit(&engine, "REQ-A").await.unwrap_err().is_retryable());
    assert_eq!((old.calls(), new.calls()), (1, 0));
    stop(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_whose_pipelines_lose_a_signal_is_told_so() {
    let mut world = World::new();
    let backend = Backend::new([]);
    world.backends.push(backend.clone());
    let engine = world.start();
    let logs = Pipeline {
        signals: vec![Signal::Logs],
        ..world.pipeline("logs", std::slice::from_ref(&backend), true)
    };
    engine.rewire(&[logs]);
    assert!(!engine.inlet("in").takes(Signal::Traces));
    assert!(!submit(&engine, "REQ-A").await.unwrap_err().is_retryable());
    stop(engine).await;
}

/// Of two exporters one takes the request and the other refuses it; who is asked when it comes again after a reload?
async fn repeat(replaces_taker: bool) -> [u64; 3] {
    let mut world = World::new();
    let (taker, refuser) = (Backend::new([]), Backend::new([Err(Refusal::busy("not now"))]));
    let other = Backend::new([]);
    world.backends = vec![taker.clone(), refuser.clone()];
    let engine = world.start();
    assert!(submit(&engine, "REQ-A").await.unwrap_err().is_retryable());
    let backends =
        if replaces_taker { [other.clone(), refuser.clone()] } else { [taker.clone(), other.clone()] };
    engine.rewire(&[world.pipeline("traces", &backends, true)]);
    submit(&engine, "REQ-A").await.unwrap();
    stop(engine).await;
    [taker.calls(), refuser.calls(), other.calls()]
}

#[tokio::test(flavor = "multi_thread")]
async fn who_took_a_request_is_not_asked_again_after_a_reload_unless_it_is_another_backend_now() {
    assert_eq!(repeat(false).await, [1, 1, 1], "the one that stayed has it");
    assert_eq!(repeat(true).await, [1, 2, 1], "its successor does not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_changes_its_owner_only_when_nobody_can_bring_the_old_ones_outcome() {
    let mut world = World::new();
    let slow = Backend::closed();
    world.backends = vec![slow.clone(), Backend::new([Err(Refusal::busy("not now"))])];
    let engine = world.start();
    let inlet = engine.inlet("in");
    let began = tokio::spawn(async move {
        inlet.submit(Batch::Telemetry(telemetry("REQ-A")), deadline()).await.map(|_| ())
    });
    slow.seen.subscribe().wait_for(|seen| *seen == 1).await.unwrap();
    let successors = [Backend::new([]), Backend::new([])];
    engine.rewire(&[world.pipeline("traces", &successors, true)]);
    slow.open.send_replace(true);
    assert!(began.await.unwrap().unwrap_err().is_retryable());
    submit(&engine, "REQ-A").await.unwrap();
    assert_eq!(successors.each_ref().map(|one| one.calls()), [1, 1], "what the old one took is not theirs");
    stop(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_journalled_when_it_is_new_and_only_then() {
    let mut world = World::new();
    world.epoch = Some("one");
    let engine = world.start();
    assert_eq!(engine.journal_epochs(vec![epoch("one")]).await, Ok(Vec::new()));
    submit(&engine, "REQ-A").await.unwrap();
    assert_eq!(engine.journal_epochs(vec![epoch("two")]).await, Ok(vec!["count".to_owned()]));
    assert_eq!(engine.journal_epochs(vec![epoch("two")]).await, Ok(Vec::new()));
    submit(&engine, "REQ-B").await.unwrap();
    world.tick(&engine).await;
    stop(engine).await;
    world.epoch = Some("two");
    stop(world.start()).await;
    assert_eq!(world.ledger(), ["epoch: one", "epoch: two", "count: REQ-A=1", "count: REQ-B=1"]);
    assert_eq!(world.replayed().mismatches, Vec::<String>::new());
}

/// Offsets of the journal's epochs.
fn journalled_epochs(world: &World) -> Vec<Offset> {
    let reader = JournalReader::open(&world.path().join("journal")).unwrap();
    let offset = |item: std::io::Result<JournalItem>| match item.unwrap() {
        JournalItem::Entry(entry) => matches!(entry.event, Event::Epoch(_)).then_some(entry.offset),
        JournalItem::Gap { .. } => None,
    };
    reader.read_from(Offset(0)).filter_map(offset).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_follow_say_again_what_holds_so_that_it_is_known_when_the_first_are_gone() {
    let mut world = World::new();
    world.epoch = Some("one");
    // Segments of 64 KiB, kept for half a minute.
    world.storage.journal_bytes_max = 1 << 19;
    world.storage.journal_age_max = Duration::from_secs(30);
    let engine = world.start();
    for number in 0..200 {
        submit(&engine, &format!("REQ-{number}")).await.unwrap();
        world.tick(&engine).await;
    }
    stop(engine).await;
    let reader = JournalReader::open(&world.path().join("journal")).unwrap();
    assert!(reader.first() > Offset(1), "the segment with the first epoch is gone");
    let epochs = journalled_epochs(&world);
    assert!(!epochs.is_empty());
    assert_eq!(world.replayed().mismatches, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_a_full_journal_refuses_is_not_what_holds() {
    let mut world = World::new();
    world.epoch = Some("one");
    stop(world.start()).await;
    world.storage.free_bytes_min = u64::MAX;
    let engine = world.start();
    for _ in 0..2 {
        assert!(engine.journal_epochs(vec![epoch("two")]).await.is_err_and(|refusal| refusal.is_retryable()));
    }
    stop(engine).await;
    assert_eq!(world.ledger(), ["epoch: one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_exporter_goes_on_where_the_last_one_was_and_cursors_outlive_both() {
    let mut world = World::new();
    let (old, new, third) = (Journalist::new(), Journalist::new(), Journalist::new());
    world.exporters.push(("sink".to_owned(), old.clone()));
    let engine = world.start();
    submit(&engine, "REQ-A").await.unwrap();
    world.tick(&engine).await;
    old.has(1).await;
    engine.pause_delivery(&["sink"]).await;
    submit(&engine, "REQ-B").await.unwrap();
    world.tick(&engine).await;
    engine.deliver("sink", new.clone());
    engine.deliver("other", third.clone());
    assert_eq!(new.has(1).await.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [2]);
    assert_eq!(third.has(2).await.len(), 2, "one that is new starts at the beginning");
    assert_eq!(old.got.borrow().len(), 1);
    engine.pause_delivery(&["other"]).await;
    engine.forget_delivery("other");
    stop(engine).await;
    assert_eq!(third.got.borrow().len(), 2);
}
