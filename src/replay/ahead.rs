//! Reads recordings ahead of the fold: one thread reads, others decode and tag, and what they make comes out in the order of the
//! recording. So many chunks are on their way at a time that memory is bounded, whatever the recording.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use homeostat_pipeline::evidence::Rows;
use homeostat_processors::tag::Tagger;

use super::recording::{Decoder, Raw, Recording};
use crate::rehearsal::tag;

/// Messages are handed on in chunks of about so many bytes.
const CHUNK_BYTES: usize = 1 << 18;
/// Chunks on their way for each thread that decodes.
const CHUNKS_EACH: usize = 4;

/// What a message says under each model.
pub struct Tagged {
    /// The rows under each model, in the order of the models.
    pub rows: Vec<Rows>,
    /// Spans, points and log records.
    pub records: u64,
}

/// A message, or why it is none.
pub type Outcome = Result<Tagged, String>;

/// Makes rows of messages.
pub struct Making {
    /// One for each model.
    pub taggers: Vec<Arc<Tagger>>,
    /// From bytes to requests.
    pub decoder: Decoder,
}

impl Making {
    /// What a message comes to.
    pub fn outcome(&self, raw: &Raw) -> Outcome {
        let tagged = self.decoder.decode(raw).and_then(|message| {
            let rows =
                |tagger: &Arc<Tagger>| tag(tagger, message.signal, message.body.clone(), message.records);
            let rows = self.taggers.iter().map(rows).collect::<anyhow::Result<_>>()?;
            Ok(Tagged { rows, records: message.records })
        });
        tagged.map_err(|error| format!("{}: {error:#}", raw.place))
    }
}

/// Some messages, and where to put what becomes of them.
struct Chunk {
    messages: Vec<Raw>,
    outcomes: SyncSender<Vec<Outcome>>,
}

/// Where the outcomes of one chunk after the other come from; an error is the last.
type Row = Receiver<Vec<Outcome>>;

/// Reads the files one after the other with `threads` threads that decode beside the one that reads, and gives `take` every outcome, in
/// order, in the thread that calls.
///
/// # Errors
/// A file cannot be read, or `take` fails.
pub fn each(
    paths: &[PathBuf],
    making: &Making,
    threads: usize,
    take: &mut dyn FnMut(Outcome) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if threads == 0 {
        return read(paths, &mut |raw| take(making.outcome(&raw)).map(|()| true));
    }
    let (chunks, waiting) = sync_channel(threads * CHUNKS_EACH);
    let (row, outcomes) = sync_channel(threads * CHUNKS_EACH);
    let waiting = Mutex::new(waiting);
    thread::scope(|scope| {
        let reader = scope.spawn(move || read_chunks(paths, &chunks, &row));
        for _ in 0..threads {
            scope.spawn(|| decode(&waiting, making));
        }
        let taken = drain(outcomes, take);
        // The reader stops when nobody takes what it reads, and the others when it has.
        let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        taken.and(read)
    })
}

fn drain(outcomes: Receiver<Row>, take: &mut dyn FnMut(Outcome) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for chunk in outcomes {
        // A thread that panicked drops its end, and its panic is that of the scope.
        for outcome in chunk.recv().unwrap_or_default() {
            take(outcome)?;
        }
    }
    Ok(())
}

/// Gives `take` each message of the files, until it wants no more.
fn read(paths: &[PathBuf], take: &mut dyn FnMut(Raw) -> anyhow::Result<bool>) -> anyhow::Result<()> {
    for path in paths {
        let mut recording = Recording::open(path)?;
        while let Some(raw) = recording.next()? {
            if !take(raw)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn read_chunks(paths: &[PathBuf], chunks: &SyncSender<Chunk>, row: &SyncSender<Row>) -> anyhow::Result<()> {
    let send = |messages: Vec<Raw>| {
        let (outcomes, place) = sync_channel(1);
        row.send(place).is_ok() && chunks.send(Chunk { messages, outcomes }).is_ok()
    };
    let (mut messages, mut bytes) = (Vec::new(), 0);
    let read = read(paths, &mut |raw| {
        bytes += raw.content.len();
        messages.push(raw);
        if bytes < CHUNK_BYTES {
            return Ok(true);
        }
        bytes = 0;
        Ok(send(std::mem::take(&mut messages)))
    });
    // What was read before a file broke off counts.
    send(messages);
    read
}

fn decode(waiting: &Mutex<Receiver<Chunk>>, making: &Making) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Chunk { messages, outcomes }) = next else { return };
        let made = messages.iter().map(|raw| making.outcome(raw)).collect();
        // Nobody waits for it when the fold has failed.
        let _ = outcomes.send(made);
    }
}
