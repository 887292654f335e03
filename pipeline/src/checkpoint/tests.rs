//! Checkpoints: whole or absent, and damage set aside.

use std::fs;

use proptest::prelude::*;

use super::*;

fn position(next: u64) -> Position {
    Position { next: Offset(next), ledger: Head { sequence: next / 2, hash: [next as u8; 32] } }
}

fn pairs(state: &dyn KeyedState, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pairs = vec![];
    let mut visit = |key: &[u8], value: &[u8]| {
        pairs.push((key.to_vec(), value.to_vec()));
        Ok(())
    };
    state.scan(prefix, &mut visit).expect("readable");
    pairs
}

fn put(checkpoints: &Checkpoints, analyzer: &str, key: &[u8], value: &[u8], next: u64) {
    let mut transaction = checkpoints.begin().expect("begun");
    transaction.state(analyzer).expect("a part").put(key, value).expect("written");
    transaction.commit(position(next)).expect("committed");
}

#[test]
fn a_checkpoint_comes_back_whole_after_reopening() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("checkpoint.redb");
    let (checkpoints, recovery) = Checkpoints::open(&path).expect("opens");
    assert_eq!(recovery, Recovery::Fresh);
    put(&checkpoints, "homeostasis", b"w/1", b"one", 4);
    put(&checkpoints, "homeostasis", b"w/2", b"", 5);
    put(&checkpoints, "homeostasis", b"x", b"three", 6);
    put(&checkpoints, "conformance", b"w/1", b"another's", 7);
    drop(checkpoints);
    let (checkpoints, recovery) = Checkpoints::open(&path).expect("opens");
    assert_eq!(recovery, Recovery::Recovered(position(7)));
    let state = checkpoints.load("homeostasis").expect("a part");
    assert_eq!(pairs(&*state, b"w/"), [(b"w/1".into(), b"one".into()), (b"w/2".into(), vec![])]);
    assert_eq!(state.get(b"x").expect("readable"), Some(b"three".to_vec()));
    assert_eq!(state.get(b"y").expect("readable"), None);
    assert_eq!(pairs(&*checkpoints.load("unknown").expect("a part"), b""), []);
}

#[test]
fn a_transaction_sees_earlier_checkpoints_and_removes_from_them() {
    let checkpoints = Checkpoints::memory().expect("opens");
    put(&checkpoints, "a", b"k", b"v", 1);
    put(&checkpoints, "b", b"k", b"v", 2);
    let mut transaction = checkpoints.begin().expect("begun");
    {
        let mut state = transaction.state("a").expect("a part");
        assert_eq!(state.get(b"k").expect("readable"), Some(b"v".to_vec()));
        state.remove(b"k").expect("removed");
        state.put(b"l", b"w").expect("written");
        assert_eq!(pairs(&state, b""), [(b"l".into(), b"w".into())]);
    }
    transaction.clear("b").expect("cleared");
    transaction.commit(position(3)).expect("committed");
    assert_eq!(pairs(&*checkpoints.load("a").expect("a part"), b""), [(b"l".into(), b"w".into())]);
    assert_eq!(pairs(&*checkpoints.load("b").expect("a part"), b""), []);
}

#[test]
fn what_was_not_committed_is_not_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("checkpoint.redb");
    let (checkpoints, _) = Checkpoints::open(&path).expect("opens");
    put(&checkpoints, "a", b"k", b"old", 1);
    let mut transaction = checkpoints.begin().expect("begun");
    transaction.state("a").expect("a part").put(b"k", b"new").expect("written");
    drop(transaction);
    // As a kill leaves it: the file is copied while it is open.
    let copy = dir.path().join("copy.redb");
    fs::copy(&path, &copy).expect("copied");
    let (checkpoints, recovery) = Checkpoints::open(&copy).expect("opens");
    assert_eq!(recovery, Recovery::Recovered(position(1)));
    assert_eq!(checkpoints.load("a").expect("a part").get(b"k").expect("readable"), Some(b"old".to_vec()));
}

#[test]
fn cursors_become_durable_with_a_checkpoint_or_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("checkpoint.redb");
    let (checkpoints, _) = Checkpoints::open(&path).expect("opens");
    assert_eq!(checkpoints.cursor("nats"), 0);
    checkpoints.set_cursor("nats", 7);
    put(&checkpoints, "a", b"k", b"v", 1);
    checkpoints.set_cursor("kg", 9);
    checkpoints.save_cursors().expect("saved");
    checkpoints.set_cursor("kg", 12);
    assert_eq!(checkpoints.cursor("kg"), 12);
    drop(checkpoints);
    let (checkpoints, recovery) = Checkpoints::open(&path).expect("opens");
    assert_eq!((checkpoints.cursor("nats"), checkpoints.cursor("kg")), (7, 9));
    assert_eq!(recovery, Recovery::Recovered(position(1)));
}

#[test]
fn a_file_that_is_no_checkpoint_is_moved_aside() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("checkpoint.redb");
    for number in [1, 2] {
        fs::write(&path, b"this is no database at all, not even a small one").expect("written");
        let (checkpoints, recovery) = Checkpoints::open(&path).expect("opens");
        let Recovery::Damaged { moved_to, .. } = recovery else { panic!("{recovery:?}") };
        assert_eq!(moved_to, dir.path().join(format!("checkpoint.damaged-{number}")));
        assert!(moved_to.exists());
        put(&checkpoints, "a", b"k", b"v", 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_never_changes_what_is_restored(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("checkpoint.redb");
        let (checkpoints, _) = Checkpoints::open(&path).expect("opens");
        for number in 0..200_u64 {
            let mut transaction = checkpoints.begin().expect("begun");
            transaction.state("a").expect("a part").put(&number.to_be_bytes(), &[7; 100]).expect("written");
            if number == 199 {
                transaction.commit(position(199)).expect("committed");
            } else if number % 40 == 0 {
                transaction.commit(position(number)).expect("committed");
            }
        }
        let expected = pairs(&*checkpoints.load("a").expect("a part"), b"");
        drop(checkpoints);
        let mut bytes = fs::read(&path).expect("readable");
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::write(&path, bytes).expect("written");
        let (checkpoints, recovery) = Checkpoints::open(&path).expect("opens");
        let found = pairs(&*checkpoints.load("a").expect("a part"), b"");
        match recovery {
            Recovery::Recovered(found_at) if found_at == position(199) => prop_assert_eq!(found, expected),
            // An older one, whole: redb keeps two.
            Recovery::Recovered(found_at) => prop_assert!(found_at.next.0 < 199),
            Recovery::Fresh | Recovery::Damaged { .. } => prop_assert_eq!(found, []),
        }
    }
}
