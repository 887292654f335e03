//! The log: no intact frame is lost and no hole goes unsaid, whatever is cut or flipped.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::drops;

fn options(segment_bytes: u64) -> Options {
    Options { name: "test", segment_bytes, first: 0, partition: 0, synced: None, is_cached: true }
}

fn open(dir: &Path) -> (Log, Opened) {
    Log::open(dir, options(200)).expect("the log opens whatever its files hold")
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).expect("readable").map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    files
}

fn read(reader: &Reader, from: u64) -> Vec<Item> {
    reader.read_from(from).map(|item| item.expect("readable")).collect()
}

fn frame(index: u64, text: &str) -> Item {
    Item::Frame(Frame { index, bytes: Bytes::copy_from_slice(text.as_bytes()) })
}

fn written(dir: &Path, count: u64) -> Log {
    let (mut log, _) = open(dir);
    for index in 0..count {
        assert_eq!(log.append(&[b"entry ", index.to_string().as_bytes()]).expect("taken"), index);
    }
    log.sync().expect("durable");
    log
}

#[test]
fn what_is_appended_is_read_in_order_across_segments_and_reopening() {
    let dir = tempfile::tempdir().expect("a folder");
    let expected: Vec<Item> = (0..30).map(|index| frame(index, &format!("entry {index}"))).collect();
    let log = written(dir.path(), 30);
    assert!(files(dir.path()).len() > 2, "the log rolled");
    assert_eq!(read(&log.reader(), 0), expected);
    assert_eq!(read(&log.reader(), 17), expected[17..]);
    drop(log);
    let (log, opened) = open(dir.path());
    assert_eq!((opened.cut_bytes, opened.gaps.len(), log.next()), (0, 0, 30));
    assert_eq!(opened.last.map(|frame| frame.index), Some(29));
    assert_eq!(read(&log.reader(), 0), expected);
    let outside = Reader::open(dir.path(), "test", 0).expect("readable");
    assert_eq!(read(&outside, 28), expected[28..]);
}

#[test]
fn a_reader_sees_frames_only_once_they_are_flushed_and_goes_on_where_it_stood() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut log, _) = open(dir.path());
    let mut frames = log.reader().read_from(0);
    log.append(&[b"a"]).expect("taken");
    assert!(frames.next().is_none());
    log.flush().expect("written");
    assert_eq!(frames.next().map(|item| item.expect("readable")), Some(frame(0, "a")));
    assert!(frames.next().is_none());
    for text in ["b", "c"] {
        log.append(&[text.as_bytes()]).expect("taken");
        log.append(&[&[b'x'; 300]]).expect("taken");
    }
    log.sync().expect("durable");
    assert_eq!(frames.next().map(|item| item.expect("readable")), Some(frame(1, "b")));
    assert_eq!(frames.count(), 3);
}

#[test]
fn a_torn_tail_is_cut_and_its_index_is_given_again() {
    let unstruck = drops::unstruck(&[&drops::LOG_TORN]);
    let dir = tempfile::tempdir().expect("a folder");
    drop(written(dir.path(), 3));
    let path = files(dir.path()).pop().expect("a segment");
    let bytes = fs::metadata(&path).expect("there").len();
    fs::OpenOptions::new().write(true).open(&path).expect("writable").set_len(bytes - 2).expect("cut");
    let (mut log, opened) = open(dir.path());
    assert_eq!((opened.cut_bytes, log.next()), (25, 2));
    assert_eq!(log.append(&[b"again"]).expect("taken"), 2);
    log.sync().expect("durable");
    assert_eq!(read(&log.reader(), 2), [frame(2, "again")]);
    assert_eq!(unstruck(), [""; 0]);
}

#[test]
fn a_missing_segment_and_a_trimmed_one_are_gaps() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = written(dir.path(), 30);
    let segments = log.segments();
    log.trim_before(segments[1]).expect("trimmed");
    assert_eq!(read(&log.reader(), 0)[0], Item::Gap(Gap { from: 0, to: segments[1] }));
    fs::remove_file(segment::path(dir.path(), segments[2])).expect("removed behind its back");
    let items = read(&log.reader(), segments[1]);
    assert!(items.contains(&Item::Gap(Gap { from: segments[2], to: segments[3] })), "{items:?}");
    assert_eq!(items.last(), Some(&frame(29, "entry 29")));
}

#[test]
fn a_log_without_disk_is_trimmed_frame_by_frame() {
    let mut log = Log::memory(5, Limits::default());
    for text in ["a", "b", "c"] {
        log.append(&[text.as_bytes()]).expect("taken");
    }
    log.flush().expect("visible");
    log.trim_before(7).expect("trimmed");
    assert_eq!((log.first(), log.next(), log.bytes_on_disk()), (7, 8, 1));
    assert_eq!(read(&log.reader(), 5), [Item::Gap(Gap { from: 5, to: 7 }), frame(7, "c")]);
    log.trim_before(100).expect("trimmed");
    assert_eq!((log.first(), log.next(), log.bytes_on_disk()), (8, 8, 0));
}

#[test]
fn a_text_that_looks_like_a_frame_is_not_taken_for_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut log, _) = Log::open(dir.path(), options(1 << 20)).expect("opens");
    let mut fake = vec![];
    frame::write(&mut fake, 900, &[b"fake"]).expect("written");
    log.append(&[b"before"]).expect("taken");
    log.append(&[&fake]).expect("taken");
    log.append(&[b"after"]).expect("taken");
    log.sync().expect("durable");
    let path = files(dir.path()).pop().expect("a segment");
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).expect("writable");
    file.write_all_at(b"!", segment::HEADER_BYTES + 26).expect("the second frame's magic is damaged");
    let expected = [frame(0, "before"), Item::Gap(Gap { from: 1, to: 2 }), frame(2, "after")];
    assert_eq!(read(&log.reader(), 0), expected);
}

#[test]
fn a_log_that_skips_says_the_gap_and_stays_usable() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = written(dir.path(), 2);
    log.skip_to(7).expect("skipped");
    assert_eq!(read(&log.reader(), 1), [frame(1, "entry 1"), Item::Gap(Gap { from: 2, to: 7 })]);
    assert_eq!(log.append(&[b"seven"]).expect("taken"), 7);
    log.sync().expect("durable");
    drop(log);
    let (log, _) = open(dir.path());
    assert_eq!(read(&log.reader(), 2), [Item::Gap(Gap { from: 2, to: 7 }), frame(7, "seven")]);
}

#[test]
fn a_write_that_fails_forgets_what_nobody_saw_and_the_next_goes_through() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut log, _) = open(dir.path());
    log.append(&[b"seen"]).expect("taken");
    log.sync().expect("durable");
    log.append(&[&[b'x'; 300]]).expect("taken");
    // Where the next segment should begin stands a folder: as good as a full disk.
    let in_the_way = segment::path(dir.path(), 2);
    fs::create_dir(&in_the_way).expect("created");
    assert!(log.append(&[b"refused"]).is_err());
    assert_eq!(log.next(), 1, "the frame that nobody saw is forgotten too");
    fs::remove_dir(&in_the_way).expect("removed");
    assert_eq!(log.append(&[b"taken"]).expect("taken"), 1);
    log.sync().expect("durable");
    let expected = [frame(0, "seen"), frame(1, "taken")];
    assert_eq!(read(&log.reader(), 0), expected);
    drop(log);
    assert_eq!(read(&open(dir.path()).0.reader(), 0), expected, "the old frame is void");
}

#[test]
fn what_was_visible_before_a_failure_is_synced_or_the_sync_fails() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut log, _) = open(dir.path());
    log.append(&[b"tick"]).expect("taken");
    log.flush().expect("visible");
    let Kind::Files(files) = &mut log.0 else { panic!("the log has a folder") };
    files.fail();
    // The file that holds the tick cannot be reached: nobody may be told that it is on disk.
    let (path, away) = (segment::path(dir.path(), 0), dir.path().join("away"));
    fs::rename(&path, &away).expect("moved");
    assert!(log.sync().is_err());
    fs::rename(&away, &path).expect("moved");
    log.sync().expect("durable");
    assert_eq!(read(&log.reader(), 0), [frame(0, "tick")]);
}

#[test]
fn a_segment_is_rewritten_under_a_reader() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = written(dir.path(), 30);
    let mut frames = log.reader().read_from(0);
    assert_eq!(frames.next().map(|item| item.expect("readable")), Some(frame(0, "entry 0")));
    let changed = log.rewrite(0, &mut |frame| (frame.index == 2).then(|| b"short".to_vec()));
    assert_eq!(changed.expect("rewritten"), 1);
    let rest: Vec<Item> = frames.map(|item| item.expect("readable")).collect();
    assert_eq!(rest[..2], [frame(1, "entry 1"), frame(2, "short")]);
    assert_eq!(rest.len(), 29);
}

#[test]
fn without_disk_the_last_frames_are_kept() {
    let mut log = Log::memory(1, Limits { frames: 3, bytes: 1000 });
    for text in ["a", "b", "c", "d"] {
        log.append(&[text.as_bytes()]).expect("taken");
    }
    assert_eq!(read(&log.reader(), 1), []);
    log.sync().expect("visible");
    let expected = [Item::Gap(Gap { from: 1, to: 2 }), frame(2, "b"), frame(3, "c"), frame(4, "d")];
    assert_eq!(read(&log.reader(), 1), expected);
}

/// One way to damage a file.
#[derive(Clone, Debug)]
enum Damage {
    Flip { at: prop::sample::Index, bit: u8 },
    Truncate { at: prop::sample::Index },
    Overwrite { at: prop::sample::Index, bytes: Vec<u8> },
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        1 => any::<prop::sample::Index>().prop_map(|at| Damage::Truncate { at }),
        2 => (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..60))
            .prop_map(|(at, bytes)| Damage::Overwrite { at, bytes }),
    ]
}

/// Applies `damage` to the files as one row of bytes; answers which bytes of which file differ now.
fn apply(paths: &[PathBuf], damage: &Damage) {
    let contents: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("readable")).collect();
    let total: usize = contents.iter().map(Vec::len).sum();
    let place = |at: &prop::sample::Index| {
        let mut offset = at.index(total);
        for (number, content) in contents.iter().enumerate() {
            if offset < content.len() {
                return (number, offset);
            }
            offset -= content.len();
        }
        (0, 0)
    };
    let (number, new) = match damage {
        Damage::Flip { at, bit } => {
            let (number, offset) = place(at);
            let mut new = contents[number].clone();
            new[offset] ^= 1 << bit;
            (number, new)
        }
        Damage::Truncate { at } => {
            let (number, offset) = place(at);
            (number, contents[number][..offset].to_vec())
        }
        Damage::Overwrite { at, bytes } => {
            let (number, offset) = place(at);
            let mut new = contents[number].clone();
            for (to, from) in new[offset..].iter_mut().zip(bytes) {
                *to = *from;
            }
            (number, new)
        }
    };
    fs::write(&paths[number], new).expect("written");
}

/// Which frames are still whole on disk: those whose bytes occur unchanged in the file that they were written to.
fn intact(dir: &Path, expected: &[Vec<u8>], segments: &[u64]) -> Vec<bool> {
    let mut whole = vec![false; expected.len()];
    for (number, first) in segments.iter().enumerate() {
        let end = segments.get(number + 1).map_or(expected.len(), |next| *next as usize);
        let content = fs::read(segment::path(dir, *first)).expect("readable");
        let mut offset = 32;
        for index in *first as usize..end {
            let mut bytes = vec![];
            frame::write(&mut bytes, index as u64, &[&expected[index]]).expect("written");
            whole[index] = content.get(offset..offset + bytes.len()) == Some(&bytes[..]);
            offset += bytes.len();
        }
    }
    whole
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_intact_frame_is_never_lost_and_every_hole_is_said(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..90), 1..40),
        damages in prop::collection::vec(damage(), 0..4),
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut log, _) = open(dir.path());
        for payload in &payloads {
            log.append(&[payload]).expect("taken");
        }
        log.sync().expect("durable");
        let segments = log.segments();
        drop(log);
        let paths = files(dir.path());
        for damage in &damages {
            apply(&paths, damage);
        }
        let whole = intact(dir.path(), &payloads, &segments);

        let (mut log, _) = open(dir.path());
        let end = log.next();
        let mut next = 0;
        let mut seen = vec![false; payloads.len()];
        for item in read(&log.reader(), 0) {
            match item {
                Item::Frame(frame) => {
                    prop_assert_eq!(frame.index, next, "a hole was not said");
                    prop_assert_eq!(&frame.bytes[..], &payloads[frame.index as usize][..]);
                    seen[frame.index as usize] = true;
                    next = frame.index + 1;
                }
                Item::Gap(gap) => {
                    prop_assert_eq!(gap.from, next);
                    next = gap.to;
                }
            }
        }
        prop_assert_eq!(next, end);
        prop_assert_eq!(&seen, &whole);

        // And it goes on from there.
        let index = log.append(&[b"onwards"]).expect("taken");
        log.sync().expect("durable");
        prop_assert_eq!(index, end);
        prop_assert_eq!(read(&log.reader(), index), [frame(index, "onwards")]);
    }
}
