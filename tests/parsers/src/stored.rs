//! What lies on disk: entries of journal and ledger, segments, and what a checkpoint's values hold.

use std::cell::RefCell;
use std::path::PathBuf;

use homeostat_pipeline::entry::Offset;
use homeostat_pipeline::evidence::point::Point;
use homeostat_pipeline::journal::{JournalReader, read_event};
use homeostat_pipeline::ledger::{body, read_entry};
use homeostat_pipeline::log::{Log, Options};
use homeostat_processors::homeostasis::codec::{Reader, Writer};
use homeostat_processors::homeostasis::sketch::Sketch;
use tempfile::TempDir;

/// The payload of a journal's frame.
pub fn journal_entry(data: &[u8]) {
    let _ = read_event(data);
}

/// The payload of a ledger's frame: a finding that was read can be written again.
pub fn ledger_entry(data: &[u8]) {
    let Some(entry) = read_entry(7, data) else { return };
    let again = body(&entry.finding, entry.time, entry.cause);
    assert!(again.is_ok(), "{again:?}: {}", entry.body);
}

thread_local! {
    static FOLDER: RefCell<Option<(TempDir, PathBuf)>> = const { RefCell::new(None) };
}

/// A journal whose only segment holds these bytes: it opens, it is read to its end, and it takes the next entry.
pub fn segment(data: &[u8]) {
    FOLDER.with_borrow_mut(|folder| {
        let (_, path) = folder.get_or_insert_with(|| {
            let folder = tempfile::tempdir().expect("there is a temporary directory");
            let path = folder.path().join("journal");
            (folder, path)
        });
        let _ = std::fs::remove_dir_all(&*path);
        std::fs::create_dir_all(&*path).expect("the directory is ours");
        std::fs::write(path.join(format!("{:020}.log", 0)), data).expect("the directory is ours");
        let reader = JournalReader::open(path).expect("damage is no error");
        let mut items = 0_usize;
        for item in reader.read_from(Offset(0)) {
            // A newer homeostat's segment is an error, and the end.
            let Ok(_) = item else { break };
            items += 1;
            assert!(items <= data.len() + 2, "more entries than bytes");
        }
        let options = Options {
            name: "journal",
            segment_bytes: 1 << 20,
            first: 0,
            partition: 0,
            synced: None,
            is_cached: true,
        };
        if let Ok((mut log, _)) = Log::open(path, options) {
            let index = log.append(&[b"next"]).expect("there is room");
            log.sync().expect("there is room");
            let last = log.reader().read_from(index).next().expect("it is visible").expect("it can be read");
            let is_it =
                matches!(last, homeostat_pipeline::log::Item::Frame(frame) if frame.bytes == b"next"[..]);
            assert!(is_it, "what was appended behind damage is not there");
        }
    });
}

/// The values of a checkpoint: sketches, and the points that evidence carries.
pub fn checkpoint(data: &[u8]) {
    if let Ok(point) = Point::decode(data) {
        let mut bytes = Vec::new();
        point.encode(&mut bytes);
        let again = Point::decode(&bytes).map(|again| {
            let mut bytes = Vec::new();
            again.encode(&mut bytes);
            bytes
        });
        assert_eq!(again.ok().as_ref(), Some(&bytes), "a point that is read is written as it was");
    }
    if let Ok(sketch) = Sketch::decode(&mut Reader::new(data)) {
        let mut writer = Writer::default();
        sketch.encode(&mut writer);
        let again = Sketch::decode(&mut Reader::new(&writer.finish()));
        assert_eq!(again.ok(), Some(sketch.clone()), "a sketch that is read is written as it was");
        let _ = (sketch.count(), sketch.quantile(0.95));
        let mut twice = sketch.clone();
        twice.merge(&sketch);
    }
    let mut reader = Reader::new(data);
    let _ = (reader.unsigned().ok(), reader.signed().ok(), reader.wide().ok());
    let _ = (reader.text().ok(), reader.float().ok(), reader.length(100).ok(), reader.array::<8>().ok());
}
