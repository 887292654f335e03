//! The journal: what goes in comes out, in one order and one time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{DictionaryArray, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};

use super::*;
use crate::batch::RequestHash;
use crate::drops;
use crate::entry::{Alert, Decision, Epoch, EvidenceEvent, Request};

const RETENTION: Retention =
    Retention { age_max: Duration::from_secs(3600), bytes_max: 1 << 20, free_bytes_min: 0 };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn evidence() -> Event {
    let service: DictionaryArray<Int32Type> = vec![Some("auth"), None, Some("auth")].into_iter().collect();
    let value = Float64Array::from(vec![0.1, f64::NAN, -0.0]);
    let kind = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let schema =
        Schema::new(vec![Field::new("service", kind, true), Field::new("value", DataType::Float64, false)]);
    let batch =
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(service), Arc::new(value)]).expect("a batch");
    let requests = vec![
        Request { hash: RequestHash([7; 16]), rows: 1 },
        Request { hash: RequestHash([8; 16]), rows: 2 },
    ];
    Event::Evidence(EvidenceEvent { requests, batch })
}

fn alert() -> Alert {
    Alert {
        source: "alertmanager".into(),
        fingerprint: "f".into(),
        is_firing: true,
        starts_at: at(1),
        ends_at: None,
        reqs: vec!["REQ-NFR-PERF-001".into()],
        labels: BTreeMap::from([("a".into(), "b".into())]),
        annotations: BTreeMap::new(),
        value: Some(0.1 + 0.2),
        threshold: None,
        links: vec![],
    }
}

fn events() -> Vec<Event> {
    vec![
        evidence(),
        Event::Alerts(vec![alert()]),
        Event::Tick,
        Event::Epoch(Epoch { component: "homeostasis".into(), hash: "h".into(), content: "a: 1\n".into() }),
        Event::Decision(Decision {
            kind: "silence".into(),
            author: "somebody".into(),
            subject: BTreeMap::from([("uid".into(), "u".into())]),
        }),
        Event::Skip { skipped: Offset(u64::MAX), reason: "it panicked".into() },
    ]
}

fn entries(reader: &JournalReader, from: u64) -> Vec<JournalItem> {
    reader.read_from(Offset(from)).map(|item| item.expect("readable")).collect()
}

#[test]
fn every_kind_of_entry_comes_back_as_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(dir.path(), RETENTION).expect("opens");
    for event in events() {
        journal.append(&event, at(5)).expect("taken");
    }
    journal.sync().expect("durable");
    drop(journal);
    let (journal, _) = Journal::open(dir.path(), RETENTION).expect("opens");
    let items = entries(&journal.reader(), 0);
    assert_eq!(items.len(), events().len());
    for (offset, (item, event)) in items.iter().zip(events()).enumerate() {
        let JournalItem::Entry(entry) = item else { panic!("{item:?}") };
        assert_eq!((entry.offset, entry.time), (Offset(offset as u64), at(5)));
        // Arrow compares NaN as unequal; the text does not.
        assert_eq!(format!("{:?}", entry.event), format!("{event:?}"));
    }
}

#[test]
fn the_same_entry_has_the_same_bytes() {
    for event in events() {
        let once = format::encode(&event, at(5)).expect("encoded");
        let (again, time) = format::decode(&[&once.0[..], &once.1].concat()).expect("decoded");
        assert_eq!(format::encode(&again, time).expect("encoded"), once);
    }
}

#[test]
fn time_never_goes_backwards_over_a_restart_either() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(dir.path(), RETENTION).expect("opens");
    assert_eq!(journal.append(&Event::Tick, at(10)).expect("taken").time, at(10));
    assert_eq!(journal.append(&Event::Tick, at(3)).expect("taken").time, at(10));
    journal.sync().expect("durable");
    drop(journal);
    let (mut journal, _) = Journal::open(dir.path(), RETENTION).expect("opens");
    assert_eq!(
        journal.append(&Event::Tick, at(4)).expect("taken"),
        Logged { offset: Offset(2), time: at(10) }
    );
}

#[test]
fn a_frame_that_holds_no_entry_is_a_gap_and_the_rest_is_read() {
    let unstruck = drops::unstruck(&[&drops::JOURNAL_UNREADABLE]);
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(dir.path(), RETENTION).expect("opens");
    journal.append(&Event::Tick, at(1)).expect("taken");
    for strange in
        [&b""[..], b"\x01\x01", &[TICK_OF_VERSION_9, &[0; 8]].concat(), &[1, 1, 0, 0, 0, 0, 0, 0, 0, 0]]
    {
        journal.log.append(&[strange]).expect("taken");
    }
    journal.append(&Event::Tick, at(2)).expect("taken");
    journal.sync().expect("durable");
    let items = entries(&journal.reader(), 0);
    let gaps = items.iter().filter(|item| matches!(item, JournalItem::Gap { .. })).count();
    assert_eq!((items.len(), gaps), (6, 4));
    assert_eq!(unstruck(), [""; 0]);
}

const TICK_OF_VERSION_9: &[u8] = &[3, 9];

fn large(journal: &mut Journal, time: Timestamp) -> Offset {
    let event =
        Event::Epoch(Epoch { component: String::new(), hash: String::new(), content: "x".repeat(100 << 10) });
    let logged = journal.append(&event, time).expect("taken");
    journal.sync().expect("durable");
    logged.offset
}

#[test]
fn a_full_journal_says_so_until_the_checkpoint_lets_it_trim() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(dir.path(), RETENTION).expect("opens");
    let mut last = Offset(0);
    while journal.room().is_ok() {
        last = large(&mut journal, at(1));
        assert!(last.0 < 20, "the journal never fills");
    }
    journal.trim(at(1), Offset(0)).expect("nothing may be trimmed");
    assert!(journal.room().is_err());
    assert_eq!(journal.reader().first(), Offset(0));
    journal.trim(at(1), last).expect("trimmed");
    assert_eq!(journal.room(), Ok(()));
    assert!(journal.reader().first() > Offset(0) && journal.reader().first() <= last);
}

#[test]
fn what_is_older_than_the_retention_goes_when_the_checkpoint_has_passed_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut journal, _) = Journal::open(dir.path(), RETENTION).expect("opens");
    for second in [1, 2, 3, 4, 5, 6] {
        large(&mut journal, at(second));
    }
    journal.trim(at(3600), Offset(6)).expect("nothing is old enough");
    assert_eq!(journal.reader().first(), Offset(0));
    journal.trim(at(3605), Offset(1)).expect("the checkpoint holds it");
    assert_eq!(journal.reader().first(), Offset(0));
    journal.trim(at(3605), Offset(6)).expect("trimmed");
    assert_eq!(journal.reader().first(), Offset(2), "two entries a segment, and the third is 3,602 s old");
}

#[test]
fn too_little_free_space_is_full() {
    let dir = tempfile::tempdir().expect("a folder");
    let retention = Retention { free_bytes_min: u64::MAX, ..RETENTION };
    let (journal, _) = Journal::open(dir.path(), retention).expect("opens");
    let full = journal.room().expect_err("no disk has that much");
    assert!(full.reason.contains("free some space"), "{full}");
}

#[test]
fn without_disk_entries_are_read_back_too() {
    let mut journal = Journal::memory();
    for event in events() {
        journal.append(&event, at(1)).expect("taken");
    }
    journal.sync().expect("visible");
    assert_eq!(entries(&journal.reader(), 0).len(), events().len());
    assert_eq!(journal.room(), Ok(()));
}
