//! Whatever happens to the process, the ledger is that of a process to which nothing happened.

use super::*;
use crate::journal::{JournalItem, JournalReader};
use crate::ledger::verify;

/// Recovery comes before the first tick that the fold passes.
async fn ready(world: &World, engine: &Engine) {
    world.tick(engine).await;
    assert!(engine.health().ready, "{:?}", engine.health());
}

/// Three requests, each followed by a tick.
async fn work(world: &World, engine: &Engine, names: [&str; 3]) {
    for name in names {
        submit(engine, name).await.unwrap();
        world.tick(engine).await;
    }
}

fn epochs(world: &World) -> Vec<String> {
    let reader = JournalReader::open(&world.path().join("journal")).unwrap();
    let epoch = |item| match item {
        Ok(JournalItem::Entry(Entry { event: Event::Epoch(epoch), .. })) => Some(epoch.hash),
        _ => None,
    };
    reader.read_from(Offset(0)).filter_map(epoch).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_without_a_checkpoint_the_ledger_is_the_same_and_goes_on() {
    let world = World::new();
    let engine = world.start();
    work(&world, &engine, ["REQ-A", "REQ-B", "REQ-A REQ-B"]).await;
    kill(engine).await;
    let before = world.ledger();
    assert_eq!(before, ["count: REQ-A=1", "count: REQ-B=1", "count: REQ-A=2", "count: REQ-B=2"]);
    let engine = world.start();
    ready(&world, &engine).await;
    assert_eq!(world.ledger(), before, "nothing is appended twice");
    submit(&engine, "REQ-C REQ-A").await.unwrap();
    world.tick(&engine).await;
    kill(engine).await;
    let after = world.ledger();
    assert_eq!(after[..4], before);
    assert_eq!(after[4..], ["count: REQ-A=3", "count: REQ-C=1"]);
    assert_eq!(verify(&world.path().join("ledger")).unwrap().broken, None);
    let report = world.replayed();
    assert_eq!((report.compared, report.missing, report.mismatches), (6, 0, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_stop_the_checkpoint_spares_the_replay() {
    let world = World::new();
    let engine = world.start();
    work(&world, &engine, ["REQ-A", "REQ-B", "REQ-B REQ-A"]).await;
    stop(engine).await;
    let applied = world.applied.load(Ordering::SeqCst);
    let engine = world.start();
    ready(&world, &engine).await;
    assert_eq!(world.applied.load(Ordering::SeqCst), applied + 1, "only the tick is folded");
    assert!(submit(&engine, "REQ-B").await.is_ok(), "a repeat is taken");
    submit(&engine, "REQ-A REQ-A").await.unwrap();
    world.tick(&engine).await;
    stop(engine).await;
    assert_eq!(world.ledger()[4..], ["count: REQ-A=4"], "state and repeats came back");
    assert_eq!(world.replayed().mismatches, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_in_the_middle_changes_nothing() {
    let mut world = World::new();
    world.settings.checkpoint_interval = Duration::ZERO;
    let engine = world.start();
    work(&world, &engine, ["REQ-A", "REQ-B", "REQ-A REQ-B"]).await;
    kill(engine).await;
    let applied = world.applied.load(Ordering::SeqCst);
    let before = world.ledger();
    let engine = world.start();
    ready(&world, &engine).await;
    let again = world.applied.load(Ordering::SeqCst) - applied - 1;
    assert!(again < applied, "the first entry led to a checkpoint: {again} of {applied} were folded again");
    assert_eq!(world.ledger(), before);
    submit(&engine, "REQ-A REQ-C").await.unwrap();
    world.tick(&engine).await;
    kill(engine).await;
    assert_eq!(world.ledger()[4..], ["count: REQ-A=3", "count: REQ-C=1"]);
    assert_eq!(world.replayed().mismatches, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_fails_loses_nothing() {
    let mut world = World::new();
    world.settings.checkpoint_interval = Duration::ZERO;
    world.failures.store(1, Ordering::SeqCst);
    let engine = world.start();
    work(&world, &engine, ["REQ-A", "REQ-B", "REQ-A REQ-B"]).await;
    assert_eq!(world.failures.load(Ordering::SeqCst), 0, "one failed");
    assert!(engine.health().ready, "{:?}", engine.health());
    stop(engine).await;
    let engine = world.start();
    submit(&engine, "REQ-A REQ-C").await.unwrap();
    world.tick(&engine).await;
    stop(engine).await;
    assert_eq!(world.ledger()[4..], ["count: REQ-A=3", "count: REQ-C=1"], "{:?}", world.ledger());
    assert_eq!(world.replayed().mismatches, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_differs_from_the_ledger_fails_readiness_and_leaves_the_ledger_alone() {
    let mut world = World::new();
    let engine = world.start();
    work(&world, &engine, ["REQ-A", "REQ-B", "REQ-C"]).await;
    kill(engine).await;
    let before = world.ledger();
    world.prefix = "another program says ";
    let engine = world.start();
    world.tick(&engine).await;
    let health = engine.health();
    assert!(health.live && !health.ready);
    assert!(health.reasons[0].contains("does not give what the ledger holds"), "{:?}", health.reasons);
    kill(engine).await;
    assert_eq!(world.ledger(), before);
    assert_eq!(world.replayed().mismatches.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_panics_twice_is_passed_over_and_said() {
    let unstruck = drops::unstruck(&[&drops::FOLD_SKIPPED]);
    let world = World::new();
    let engine = world.start();
    submit(&engine, "REQ-A").await.unwrap();
    world.tick(&engine).await;
    submit(&engine, "REQ-PANIC").await.unwrap();
    submit(&engine, "REQ-B").await.unwrap();
    world.tick(&engine).await;
    world.tick(&engine).await;
    ready(&world, &engine).await;
    kill(engine).await;
    let ledger = world.ledger();
    assert_eq!(ledger[0], "count: REQ-A=1");
    assert!(ledger[1].starts_with("entry_skipped: journal entry 2 was passed over:"), "{ledger:?}");
    assert!(ledger[1].contains("this requirement cannot be judged"), "{ledger:?}");
    assert_eq!(ledger[2..], ["count: REQ-B=1"]);
    let engine = world.start();
    ready(&world, &engine).await;
    kill(engine).await;
    assert_eq!(world.ledger(), ledger);
    assert_eq!(world.replayed().mismatches, Vec::<String>::new());
    assert_eq!(unstruck(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_that_the_ledger_can_never_take_is_left_out_and_said() {
    let unstruck = drops::unstruck(&[&drops::LEDGER_REFUSED]);
    let world = World::new();
    let engine = world.start();
    work(&world, &engine, ["REQ-A", "REQ-NAN", "REQ-B"]).await;
    kill(engine).await;
    let ledger = world.ledger();
    assert_eq!(ledger.len(), 4);
    assert!(ledger[1].starts_with("finding_refused: a behavior_observed of journal entry 3"), "{ledger:?}");
    assert_eq!(ledger[2..], ["count: REQ-NAN=1", "count: REQ-B=1"]);
    let engine = world.start();
    ready(&world, &engine).await;
    kill(engine).await;
    assert_eq!(world.ledger(), ledger);
    assert_eq!(world.replayed().mismatches, Vec::<String>::new());
    assert_eq!(unstruck(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_journalled_when_it_is_not_what_held_last() {
    let mut world = World::new();
    for (hash, expected) in [("v1", 1), ("v1", 1), ("v2", 2), ("v2", 2), ("v1", 3)] {
        world.epoch = Some(hash);
        let engine = world.start();
        world.tick(&engine).await;
        // A crash leaves it to the journal to know, a stop to the checkpoint.
        if expected == 2 {
            kill(engine).await
        } else {
            stop(engine).await
        }
        assert_eq!(epochs(&world).len(), expected, "{hash}");
    }
    assert_eq!(epochs(&world), ["v1", "v2", "v1"]);
    assert_eq!(world.ledger(), ["epoch: v1", "epoch: v2", "epoch: v1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_entry_is_a_gap_that_is_said_and_never_a_refusal_to_start() {
    let unstruck = drops::unstruck(&[&drops::LOG_DAMAGED]);
    let world = World::new();
    let engine = world.start();
    submit(&engine, "REQ-A").await.unwrap();
    submit(&engine, "REQ-DAMAGED").await.unwrap();
    submit(&engine, "REQ-B").await.unwrap();
    world.tick(&engine).await;
    kill(engine).await;
    damage(&world.path().join("journal"), b"REQ-DAMAGED");
    let engine = world.start();
    ready(&world, &engine).await;
    submit(&engine, "REQ-C").await.unwrap();
    world.tick(&engine).await;
    stop(engine).await;
    let ledger = world.ledger();
    let first = ["count: REQ-A=1", "count: REQ-B=1", "count: REQ-DAMAGED=1"];
    assert_eq!(ledger[..3], first, "what was found stays found");
    assert_eq!(ledger[3..], ["journal_gap: journal entries 1 to 1 cannot be read", "count: REQ-C=1"]);
    assert_eq!(world.replayed().lost, 1);
    assert_eq!(unstruck(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_ledger_is_said_and_is_no_reason_to_stay_away() {
    let world = World::new();
    let engine = world.start();
    work(&world, &engine, ["REQ-A", "REQ-B", "REQ-C"]).await;
    stop(engine).await;
    damage(&world.path().join("ledger"), b"REQ-B=1");
    let engine = world.start();
    ready(&world, &engine).await;
    let health = engine.health();
    assert!(health.ready && health.live, "{health:?}");
    assert!(health.reasons.concat().contains("the ledger is damaged: entry 2 cannot be read"), "{health:?}");
    stop(engine).await;
}

/// Flips a bit of the first place in the folder's files that holds `text`.
fn damage(folder: &Path, text: &[u8]) {
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = memchr::memmem::find(&bytes, text) {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            return;
        }
    }
    panic!("the text is nowhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_disk_it_judges_all_the_same() {
    let mut world = World::new();
    world.storage.directory = None;
    let exporter = Journalist::new();
    world.exporters.push(("sink".to_owned(), exporter.clone()));
    let engine = world.start();
    submit(&engine, "REQ-PANIC").await.unwrap();
    submit(&engine, "REQ-A").await.unwrap();
    world.tick(&engine).await;
    world.tick(&engine).await;
    assert_eq!(exporter.has(2).await.len(), 2);
    assert!(engine.health().ready, "{:?}", engine.health());
    stop(engine).await;
}
