//! What becomes of a request that never arrives: it is counted, said, and kept as a line without its body.

use std::path::Path;

use homeostat_pipeline::batch::{Signal, Telemetry};
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::delivery::LetterFile;
use homeostat_pipeline::drops::{self, Reason};
use homeostat_pipeline::finding::hex;
use metrics::counter;
use serde::Serialize;

use super::super::parcel::Parcel;

/// Why a request is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The backend refused it for good.
    Refused,
    /// It waited longer than `max_age`.
    Expired,
    /// It was tried for longer than `max_elapsed_time`.
    GivenUp,
    /// What was kept cannot be read.
    Damaged,
    /// Sending it panicked, and again.
    Panicked,
}

impl Loss {
    const fn name(self) -> &'static str {
        match self {
            Loss::Refused => "refused",
            Loss::Expired => "expired",
            Loss::GivenUp => "given_up",
            Loss::Damaged => "damaged",
            Loss::Panicked => "panicked",
        }
    }

    const fn reason(self) -> &'static Reason {
        match self {
            Loss::Refused => &drops::QUEUE_REFUSED,
            Loss::Expired => &drops::QUEUE_EXPIRED,
            Loss::GivenUp => &drops::QUEUE_GIVEN_UP,
            Loss::Damaged => &drops::QUEUE_DAMAGED,
            Loss::Panicked => &drops::QUEUE_PANICKED,
        }
    }
}

#[derive(Serialize)]
struct Letter<'a> {
    exporter: &'a str,
    at: Timestamp,
    cause: &'a str,
    reason: &'a str,
    index: String,
    signal: Option<Signal>,
    records: u64,
    body_bytes: usize,
    hash: Option<String>,
}

/// The dead letters of one exporter's queue: lines of `components/dead-letters/{id}.jsonl`.
#[derive(Clone)]
pub struct Letters {
    exporter: String,
    file: Option<LetterFile>,
}

impl Letters {
    /// For the exporter `id`, whose folder stands beside that of the dead letters.
    pub fn new(id: &str, directory: Option<&Path>) -> Letters {
        let folder = directory.and_then(Path::parent).map(|components| components.join("dead-letters"));
        Letters { exporter: id.to_owned(), file: folder.map(|folder| LetterFile::new(folder, id)) }
    }

    /// Keeps a line about the request `index`. Blocking; a failure is logged, for dead letters block nothing.
    pub fn bury(&self, index: u64, parcel: &Parcel, loss: Loss, reason: &str, at: Timestamp) {
        let Parcel { signal, records, body_bytes, .. } = *parcel;
        let hash = parcel.body().ok().map(|body| {
            let telemetry = Telemetry { signal, frame: parcel.frame.clone(), body, records };
            hex(&telemetry.hash().0)
        });
        let exporter = &*self.exporter;
        tracing::error!(exporter, cause = loss.name(), reason, records, "a request of the queue is given up");
        let index = index.to_string();
        let signal = Some(signal);
        self.write(&Letter {
            exporter,
            at,
            cause: loss.name(),
            reason,
            index,
            signal,
            records,
            body_bytes,
            hash,
        });
        self.count(loss, 1);
    }

    /// Keeps a line about `count` requests from `index` on that cannot be read. Blocking.
    pub fn bury_unread(&self, index: u64, count: u64, reason: &str, at: Timestamp) {
        let (exporter, loss) = (&*self.exporter, Loss::Damaged);
        tracing::error!(
            exporter,
            index,
            requests = count,
            reason,
            "requests of the queue cannot be read and are left out"
        );
        let index = index.to_string();
        let (cause, signal, records, body_bytes, hash) = (loss.name(), None, 0, 0, None);
        self.write(&Letter { exporter, at, cause, reason, index, signal, records, body_bytes, hash });
        self.count(loss, count);
    }

    fn count(&self, loss: Loss, requests: u64) {
        let exporter = self.exporter.clone();
        counter!("homeostat_spool_lost_requests_total", "exporter" => exporter, "reason" => loss.name())
            .increment(requests);
        loss.reason().count_with(requests, || self.exporter.clone());
    }

    fn write(&self, letter: &Letter<'_>) {
        let Some(file) = &self.file else { return };
        let line = serde_json::to_vec(letter).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            file.append(&line)
        });
        if let Err(error) = line {
            tracing::error!(exporter = self.exporter, "the dead letters cannot be written: {error}");
        }
    }
}
