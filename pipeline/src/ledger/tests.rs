//! The chain: any entry edited, removed, inserted or swapped is found.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;

use super::*;
use crate::drops;
use crate::finding::{Behavior, MeasureValue, Notice, hex};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn notice(message: &str) -> Finding {
    Finding::Notice(Notice { kind: "journal_gap".into(), at: at(1), message: message.into() })
}

fn behaviors(value: f64) -> Finding {
    let behavior = Behavior {
        uid: "b".into(),
        version: 1,
        spec_node_id: "sea:auth:Login".into(),
        context: "auth".into(),
        flow: "Login".into(),
        window_start: at(0),
        window_end: at(300),
        count: u64::MAX,
        errors: 0,
        measures: BTreeMap::from([("p95_latency_ms".into(), MeasureValue { value, unit: "ms".into() })]),
        req_ids: vec!["REQ-NFR-PERF-001".into()],
        trace_ids: vec![],
        confidence: 0.1 + 0.2,
    };
    Finding::Behaviors { behaviors: vec![behavior] }
}

fn open(dir: &Path) -> Ledger {
    Ledger::open_with(dir, 2000).expect("opens").0
}

/// A ledger of `count` entries in several segments.
fn written(dir: &Path, count: u64) -> Ledger {
    let mut ledger = open(dir);
    for number in 0..count {
        let finding =
            if number % 2 == 0 { behaviors(number as f64 / 3.0) } else { notice(&number.to_string()) };
        ledger.append(&[finding], at(number as i64), Offset(number)).expect("appended");
    }
    ledger
}

fn items(reader: &LedgerReader) -> Vec<LedgerItem> {
    reader.read_from(0).map(|item| item.expect("readable")).collect()
}

#[test]
fn the_first_entry_has_the_documented_hash() {
    let mut ledger = Ledger::memory();
    let entries = ledger.append(&[notice("x")], at(2), Offset(7)).expect("appended");
    let body = r#"{"at":"1970-01-01T00:00:01Z","cause":"7","finding":"notice","kind":"journal_gap","message":"x","time":"1970-01-01T00:00:02Z"}"#;
    assert_eq!(entries[0].body, body);
    // printf '<64 zeros><hex of local><16 digits of 1><hex of coverage_gap><sha256 of the body>' | xxd -r -p | sha256sum
    let mut input = vec![0; 32];
    input.extend_from_slice(b"local\0\0\0\0\0\0\0\x01coverage_gap");
    input.extend_from_slice(&format::sha256(body.as_bytes()));
    assert_eq!(hex(&entries[0].hash), hex(&format::sha256(&input)));
    assert_eq!(ledger.head(), Head { sequence: 1, hash: entries[0].hash });
}

#[test]
fn a_finding_comes_back_as_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut ledger = open(dir.path());
    for value in [0.1 + 0.2, 5e-324, 1e300, 123_456_789.123_456_78, -1.0 / 3.0] {
        let appended = ledger.append(&[behaviors(value), notice("n")], at(1), Offset(3)).expect("appended");
        assert_eq!(appended[0].finding, behaviors(value));
    }
    drop(ledger);
    let ledger = open(dir.path());
    let found: Vec<Finding> = items(&ledger.reader())
        .into_iter()
        .map(|item| match item {
            LedgerItem::Entry(entry) => entry.finding,
            LedgerItem::Pruned { .. } | LedgerItem::Gap { .. } => panic!("{item:?}"),
        })
        .collect();
    assert_eq!(found[..2], [behaviors(0.1 + 0.2), notice("n")]);
    assert_eq!(found[8], behaviors(-1.0 / 3.0));
}

#[test]
fn a_number_that_is_not_finite_is_refused_and_nothing_is_appended() {
    let mut ledger = Ledger::memory();
    let before = ledger.head();
    assert!(ledger.append(&[notice("n"), behaviors(f64::NAN)], at(1), Offset(1)).is_err());
    assert_eq!((ledger.head(), items(&ledger.reader()).len()), (before, 0));
}

#[test]
fn the_chain_goes_on_over_a_restart_and_verifies() {
    let dir = tempfile::tempdir().expect("a folder");
    let head = written(dir.path(), 7).head();
    let mut ledger = open(dir.path());
    assert_eq!(ledger.head(), head);
    let entry = ledger.append(&[notice("n")], at(9), Offset(9)).expect("appended").remove(0);
    assert_eq!((entry.sequence, entry.previous), (8, head.hash));
    let found = verify(dir.path()).expect("a ledger");
    assert_eq!(found, Verification { entries: 8, pruned: 0, head: ledger.head(), broken: None });
}

#[test]
fn a_folder_without_a_ledger_is_not_a_whole_one() {
    let dir = tempfile::tempdir().expect("a folder");
    for dir in [dir.path(), &dir.path().join("missing")] {
        let error = verify(dir).expect_err("no ledger");
        assert!(error.to_string().starts_with("there is no ledger in"), "{error}");
    }
}

#[test]
fn replay_visits_what_has_a_body_up_to_a_sequence() {
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = written(dir.path(), 7);
    let mut seen = vec![];
    let mut visit = |entry: LedgerEntry| {
        seen.push(entry.sequence);
        Ok(())
    };
    ledger.reader().replay(5, &mut visit).expect("replayed");
    assert_eq!(seen, [1, 2, 3, 4, 5]);
}

#[test]
fn pruned_bodies_are_gone_and_the_chain_verifies_and_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut ledger = written(dir.path(), 30);
    let segments = ledger.log.segments();
    assert!(segments.len() > 3, "{segments:?}");
    assert_eq!(ledger.prune(at(1000), 0).expect("pruned"), 0, "no cursor has passed anything");
    let passed = segments[2] - 1;
    let expected = (1..=passed).filter(|sequence| sequence % 2 == 1 && *sequence <= 5).count() as u64;
    assert_eq!(ledger.prune(at(5), passed).expect("pruned"), expected);
    assert_eq!(ledger.prune(at(5), passed).expect("pruned"), 0, "only once");
    let rest = (1..=passed).filter(|sequence| sequence % 2 == 1 && *sequence > 5).count() as u64;
    assert_eq!(ledger.prune(at(1000), passed).expect("pruned"), rest);
    let found = verify(dir.path()).expect("a ledger");
    assert_eq!((found.entries, found.pruned, found.broken), (30, expected + rest, None));
    assert_eq!(items(&ledger.reader())[0], LedgerItem::Pruned { sequence: 1 });
    ledger.append(&[notice("n")], at(31), Offset(31)).expect("appended");
    drop(ledger);
    assert_eq!(open(dir.path()).head().sequence, 31);
}

#[test]
fn lost_last_entries_are_said_and_their_sequences_are_not_given_again() {
    let unstruck = drops::unstruck(&[&drops::LEDGER_LOST]);
    let dir = tempfile::tempdir().expect("a folder");
    let ledger = written(dir.path(), 2);
    let head = ledger.head();
    drop(ledger);
    let path = dir.path().join("00000000000000000001.log");
    let bytes = fs::read(&path).expect("readable");
    fs::write(&path, &bytes[..bytes.len() - 1]).expect("cut");
    let (mut ledger, opened) = Ledger::open(dir.path()).expect("opens");
    assert_eq!(opened.gaps, [Gap { from: 2, to: 3 }]);
    let entry = ledger.append(&[notice("n")], at(3), Offset(3)).expect("appended").remove(0);
    assert_eq!((entry.sequence, entry.previous), (3, head.hash));
    let broken = verify(dir.path()).expect("a ledger").broken.expect("broken");
    assert_eq!(broken.0, 2, "{}", broken.1);
    assert_eq!(unstruck(), [""; 0]);
}

#[test]
fn an_entry_of_no_known_format_is_a_gap_and_the_rest_is_read() {
    let unstruck = drops::unstruck(&[&drops::LEDGER_UNREADABLE]);
    let dir = tempfile::tempdir().expect("a folder");
    let mut ledger = written(dir.path(), 1);
    ledger.log.append(&[b"of another version"]).expect("taken");
    ledger.log.sync().expect("durable");
    let found = items(&ledger.reader());
    assert!(matches!(found[..], [LedgerItem::Entry(_), LedgerItem::Gap { from: 2, to: 3 }]), "{found:?}");
    assert_eq!(unstruck(), [""; 0]);
}

#[test]
fn what_a_power_failure_left_of_an_unfinished_append_is_cut_not_a_hole() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut ledger = open(dir.path());
    let first = ledger.append(&[notice("1")], at(1), Offset(1)).expect("appended");
    let head = fs::read(dir.path().join("head")).expect("a head");
    ledger.append(&[notice("2"), notice("3")], at(2), Offset(2)).expect("appended");
    drop(ledger);
    // The pages of the third entry reached the disk, those of the second and of the head did not.
    fs::write(dir.path().join("head"), head).expect("written");
    let path = dir.path().join("00000000000000000001.log");
    let mut bytes = fs::read(&path).expect("readable");
    let second = bytes.windows(9).position(|part| part == b"sage\":\"2\"").expect("the second body");
    bytes[second] = 0;
    fs::write(&path, bytes).expect("written");
    let mut ledger = open(dir.path());
    assert_eq!(ledger.head(), Head { sequence: 1, hash: first[0].hash });
    ledger.append(&[notice("2"), notice("3")], at(2), Offset(2)).expect("appended");
    let found = verify(dir.path()).expect("a ledger");
    assert_eq!((found.entries, found.broken), (3, None));
}

/// What somebody may do to the files, knowing the format: the CRCs are right.
#[derive(Clone, Copy, Debug)]
enum Tampering {
    EditBody,
    EditTime,
    EditKind,
    Remove,
    RemoveAndRenumber,
    Insert,
    Swap,
    /// Edits the body and its hash, and the entry's own hash.
    Rehash,
}

fn tamper(entries: &mut Vec<(u64, Vec<u8>)>, at: usize, tampering: Tampering) {
    let position = |bytes: &[u8], text: &[u8]| {
        bytes.windows(text.len()).position(|part| part == text).expect("the text occurs")
    };
    let index = entries[at].0;
    let bytes = &mut entries[at].1;
    match tampering {
        Tampering::EditBody => *bytes.last_mut().expect("a body") ^= 1,
        Tampering::EditTime => bytes[4] ^= 1,
        Tampering::EditKind => {
            let at = position(bytes, b"local") + 5;
            bytes[at] ^= 1;
        }
        Tampering::Remove => drop(entries.remove(at)),
        Tampering::RemoveAndRenumber => {
            entries.remove(at);
            entries[at..].iter_mut().for_each(|(index, _)| *index -= 1);
        }
        Tampering::Insert => {
            let copy = entries[at].clone();
            entries.insert(at, copy);
            entries[at + 1..].iter_mut().for_each(|(index, _)| *index += 1);
        }
        Tampering::Swap => {
            let other = if at == 0 { 1 } else { at - 1 };
            let (one, two) = (entries[at].1.clone(), entries[other].1.clone());
            (entries[at].1, entries[other].1) = (two, one);
        }
        Tampering::Rehash => {
            let record = Record::read(bytes).expect("an entry");
            let body = record.body.replace("1970", "1971");
            let hash =
                entry_hash(&record.previous, CHAIN, index, record.kind, &format::sha256(body.as_bytes()));
            let mut entry = record.entry(1).expect("readable");
            (entry.body, entry.hash) = (body, hash);
            entries[at].1 = [Record::header(&entry), entry.body.into_bytes()].concat();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tampering_is_found(
        count in 2..12_u64,
        at in any::<prop::sample::Index>(),
        tampering in prop::sample::select(vec![
            Tampering::EditBody, Tampering::EditTime, Tampering::EditKind, Tampering::Remove,
            Tampering::RemoveAndRenumber, Tampering::Insert, Tampering::Swap, Tampering::Rehash,
        ]),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let ledger = written(dir.path(), count);
        let mut entries: Vec<(u64, Vec<u8>)> = ledger
            .reader()
            .frames()
            .map(|item| match item.expect("readable") {
                crate::log::Item::Frame(frame) => (frame.index, frame.bytes.to_vec()),
                crate::log::Item::Gap(gap) => panic!("{gap:?}"),
            })
            .collect();
        drop(ledger);
        let at = at.index(entries.len());
        tamper(&mut entries, at, tampering);
        let head = fs::read(dir.path().join("head")).expect("a head");
        let other = tempfile::tempdir().expect("a folder");
        let options = Options { name: "ledger", segment_bytes: 1 << 20, first: 1, partition: 0, synced: None, is_cached: true };
        let (mut log, _) = Log::open(other.path(), options).expect("opens");
        for (index, bytes) in &entries {
            log.skip_to(*index).expect("skipped");
            log.append(&[bytes]).expect("taken");
        }
        log.sync().expect("durable");
        fs::write(other.path().join("head"), head).expect("written");
        let found = verify(other.path()).expect("a ledger");
        let broken = found.broken.map(|(sequence, _)| sequence);
        let first_touched = if matches!(tampering, Tampering::Swap) { at.saturating_sub(1) } else { at };
        // An inserted copy is found where it pushes the original away, the others where they are.
        let expected = first_touched as u64 + if matches!(tampering, Tampering::Insert) { 2 } else { 1 };
        prop_assert_eq!(broken, Some(expected));
    }

    #[test]
    fn any_flipped_bit_in_a_segment_is_found(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let dir = tempfile::tempdir().expect("a folder");
        drop(written(dir.path(), 3));
        let path = dir.path().join("00000000000000000001.log");
        let mut bytes = fs::read(&path).expect("readable");
        // The segment's header is no part of the chain.
        let at = 32 + at.index(bytes.len() - 32);
        bytes[at] ^= 1 << bit;
        fs::write(&path, bytes).expect("written");
        prop_assert!(verify(dir.path()).expect("a ledger").broken.is_some());
    }
}
