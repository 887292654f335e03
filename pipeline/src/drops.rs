//! What was left out, where, why and how often: every reason for which something that came is not processed, in one list.
//!
//! A reason counts for the whole process and remembers when it struck last and one example: the hash of a request or the name of
//! a component, never content. The admin listener shows the list at `/debug/drops`, and gives it to Prometheus when it is asked for
//! metrics, so counting costs an addition. Beside it stand counters with more labels where they help.
//!
//! Nothing here can change what is found: reasons are written and never read by those who process.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use metrics::NoopRecorder;
use serde::Serialize;

use crate::clock::{Clock, SystemClock, Timestamp};

/// Why something was left out.
#[derive(Debug)]
pub struct Reason {
    /// Where: `receiver`, `exporter`, `fold` …
    pub place: &'static str,
    /// Why, in one word.
    pub name: &'static str,
    /// What is counted: `requests`, `records`, `rows` …
    pub unit: &'static str,
    /// What it means, and what to do.
    pub about: &'static str,
    count: AtomicU64,
    last: AtomicI64,
    example: Mutex<String>,
}

/// A reason as `/debug/drops` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Where.
    pub place: &'static str,
    /// Why.
    pub reason: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// How often since the start.
    pub count: u64,
    /// When last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// The hash of a request, a trace id or a component id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub example: String,
    /// What it means.
    pub about: &'static str,
}

thread_local! {
    static IS_SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `act` without counting anything, here or in the metrics that it looks up: for what is done once more.
pub fn silently<T>(act: impl FnOnce() -> T) -> T {
    struct Loud(bool);
    impl Drop for Loud {
        fn drop(&mut self) {
            IS_SILENT.set(self.0);
        }
    }
    let _loud = Loud(IS_SILENT.replace(true));
    metrics::with_local_recorder(&NoopRecorder, act)
}

impl Reason {
    const fn new(place: &'static str, name: &'static str, unit: &'static str, about: &'static str) -> Reason {
        let (count, last) = (AtomicU64::new(0), AtomicI64::new(0));
        Reason { place, name, unit, about, count, last, example: Mutex::new(String::new()) }
    }

    /// It struck `times`, now.
    pub fn count(&self, times: u64) {
        self.count_at(times, || SystemClock.now());
    }

    /// The same, at a time that is known: the fold's is that of the entry.
    pub fn count_at(&self, times: u64, at: impl FnOnce() -> Timestamp) {
        if times == 0 || IS_SILENT.get() {
            return;
        }
        self.count.fetch_add(times, Ordering::Relaxed);
        self.last.fetch_max(at().as_nanos(), Ordering::Relaxed);
    }

    /// The same, with an example. It is only asked for where the last one is older than a second, for it may cost a hash.
    pub fn count_with(&self, times: u64, example: impl FnOnce() -> String) {
        const OLD_NANOS: i64 = 1_000_000_000;
        if times == 0 || IS_SILENT.get() {
            return;
        }
        let now = SystemClock.now();
        let is_old = now.as_nanos().saturating_sub(self.last.load(Ordering::Relaxed)) > OLD_NANOS;
        self.count_at(times, || now);
        if is_old {
            *self.example.lock().unwrap_or_else(PoisonError::into_inner) = example();
        }
    }

    /// How often since the start.
    pub fn total(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn line(&self) -> Line {
        let last = self.last.load(Ordering::Relaxed);
        Line {
            place: self.place,
            reason: self.name,
            unit: self.unit,
            count: self.total(),
            last: (last != 0).then(|| Timestamp::from_nanos(last)),
            example: self.example.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            about: self.about,
        }
    }
}

/// Every reason, in the order of the data's path.
pub fn lines() -> Vec<Line> {
    ALL.iter().map(|reason| reason.line()).collect()
}

/// For tests: says, when it is asked, which of `reasons` have not struck since; of a reason that strikes elsewhere in the process
/// meanwhile it may think too well, never too badly.
pub fn unstruck(reasons: &[&'static Reason]) -> impl Fn() -> Vec<String> + use<> {
    let before: Vec<_> = reasons.iter().map(|reason| (*reason, reason.total())).collect();
    move || {
        let still = before.iter().filter(|(reason, total)| reason.total() == *total);
        still.map(|(reason, _)| format!("{}/{}", reason.place, reason.name)).collect()
    }
}

/// Gives the counts to the metrics; called when somebody asks for those.
pub fn observe() {
    for reason in ALL {
        let labels = [("place", reason.place), ("reason", reason.name), ("unit", reason.unit)];
        metrics::counter!("homeostat_dropped_total", &labels).absolute(reason.total());
    }
}

/// Senders told to come back: memory, journal, exporter or shutdown.
pub static RECEIVER_UNAVAILABLE: Reason = Reason::new(
    "receiver",
    "unavailable",
    "requests",
    "Senders told to come back: memory, journal, exporter or shutdown",
);
/// Bodies that cannot be decoded.
pub static RECEIVER_MALFORMED: Reason =
    Reason::new("receiver", "malformed", "requests", "Bodies that cannot be decoded");
/// Requests over a limit, on the wire or inflated.
pub static RECEIVER_TOO_LARGE: Reason =
    Reason::new("receiver", "too_large", "requests", "Requests over a limit, on the wire or inflated");
/// Requests without credentials or with wrong ones.
pub static RECEIVER_UNAUTHENTICATED: Reason =
    Reason::new("receiver", "unauthenticated", "requests", "Requests without credentials or with wrong ones");
/// Paths that are not served, and signals that no pipeline takes.
pub static RECEIVER_UNKNOWN: Reason = Reason::new(
    "receiver",
    "unknown",
    "requests",
    "Paths that are not served, and signals that no pipeline takes",
);
/// Methods, encodings and content types that are not spoken.
pub static RECEIVER_UNSUPPORTED: Reason = Reason::new(
    "receiver",
    "unsupported",
    "requests",
    "Methods, encodings and content types that are not spoken",
);
/// Requests that a backend refused for good, and their senders were told.
pub static RECEIVER_BACKEND: Reason = Reason::new(
    "receiver",
    "backend",
    "requests",
    "Requests that a backend refused for good, and their senders were told",
);
/// Records of all well-formed requests that were refused, whatever the reason.
pub static RECEIVER_REFUSED: Reason = Reason::new(
    "receiver",
    "refused",
    "records",
    "Records of all well-formed requests that were refused, whatever the reason",
);
/// Records of requests that ended without an answer: the sender had gone, or homeostat panicked. They may have been taken.
pub static RECEIVER_FAILED: Reason = Reason::new(
    "receiver",
    "failed",
    "records",
    "Records of requests that ended without an answer: the sender had gone, or homeostat panicked; they may have been taken",
);
/// Connections closed at once because there were too many.
pub static RECEIVER_CONNECTIONS: Reason = Reason::new(
    "receiver",
    "connections",
    "connections",
    "Connections closed at once because there were too many",
);
/// Panics of a processor; the sender is told to come back.
pub static PROCESSOR_PANIC: Reason =
    Reason::new("processor", "panic", "requests", "Panics of a processor; the sender is told to come back");
/// Attributes beyond the 128th of a record, scope or resource are not looked at.
pub static TAG_ATTRIBUTES: Reason = Reason::new(
    "tag",
    "attributes",
    "times",
    "Attributes beyond the 128th of a record, scope or resource are not looked at",
);
/// Texts are looked at up to 4 KiB.
pub static TAG_VALUE: Reason = Reason::new("tag", "value", "times", "Texts are looked at up to 4 KiB");
/// Bodies are looked at up to 64 KiB and 128 fields.
pub static TAG_BODY: Reason =
    Reason::new("tag", "body", "times", "Bodies are looked at up to 64 KiB and 128 fields");
/// Keys beyond what one observation may name.
pub static TAG_KEYS: Reason =
    Reason::new("tag", "keys", "times", "Keys beyond what one observation may name");
/// Data points whose sender says that there is no value.
pub static TAG_NO_RECORDED_VALUE: Reason =
    Reason::new("tag", "no_recorded_value", "points", "Data points whose sender says that there is no value");
/// Data points without a value or a temporality.
pub static TAG_UNUSABLE: Reason =
    Reason::new("tag", "unusable", "points", "Data points without a value or a temporality");
/// Records that a `filter` dropped, as its configuration says.
pub static FILTER_DROPPED: Reason =
    Reason::new("filter", "dropped", "records", "Records that a `filter` dropped, as its configuration says");
/// Evidence found in a pipeline without an analyzer.
pub static PIPELINE_NOT_JUDGED: Reason =
    Reason::new("pipeline", "not_judged", "rows", "Evidence found in a pipeline without an analyzer");
/// Records that did not reach a telemetry backend; the sender is told to come back.
pub static EXPORTER_UNAVAILABLE: Reason = Reason::new(
    "exporter",
    "unavailable",
    "records",
    "Records that did not reach a telemetry backend; the sender is told to come back",
);
/// Records of requests that a telemetry backend refused for good.
pub static EXPORTER_REFUSED: Reason = Reason::new(
    "exporter",
    "refused",
    "records",
    "Records of requests that a telemetry backend refused for good",
);
/// Records that a backend refused out of a request it took (partial success).
pub static EXPORTER_PARTIAL: Reason = Reason::new(
    "exporter",
    "partial",
    "records",
    "Records that a backend refused out of a request it took (partial success)",
);
/// Requests of a `sending_queue` that the backend refused for good; see `components/dead-letters`.
pub static QUEUE_REFUSED: Reason = Reason::new(
    "queue",
    "refused",
    "requests",
    "Requests of a `sending_queue` that the backend refused for good; see `components/dead-letters`",
);
/// Requests that waited in a `sending_queue` for longer than `max_age`.
pub static QUEUE_EXPIRED: Reason = Reason::new(
    "queue",
    "expired",
    "requests",
    "Requests that waited in a `sending_queue` for longer than `max_age`",
);
/// Requests of a `sending_queue` that were tried for longer than `max_elapsed_time`.
pub static QUEUE_GIVEN_UP: Reason = Reason::new(
    "queue",
    "given_up",
    "requests",
    "Requests of a `sending_queue` that were tried for longer than `max_elapsed_time`",
);
/// Requests of a `sending_queue` that are damaged on disk.
pub static QUEUE_DAMAGED: Reason =
    Reason::new("queue", "damaged", "requests", "Requests of a `sending_queue` that are damaged on disk");
/// Requests of a `sending_queue` with which sending panicked twice.
pub static QUEUE_PANICKED: Reason = Reason::new(
    "queue",
    "panicked",
    "requests",
    "Requests of a `sending_queue` with which sending panicked twice",
);
/// Evidence or alerts refused for want of room; the sender is told to come back.
pub static JOURNAL_FULL: Reason = Reason::new(
    "journal",
    "full",
    "requests",
    "Evidence or alerts refused for want of room; the sender is told to come back",
);
/// Evidence or alerts refused because the disk failed; the sender is told to come back.
pub static JOURNAL_FAILED: Reason = Reason::new(
    "journal",
    "failed",
    "requests",
    "Evidence or alerts refused because the disk failed; the sender is told to come back",
);
/// Torn tails of journal or ledger cut at start; nothing acknowledged.
pub static LOG_TORN: Reason =
    Reason::new("log", "torn", "bytes", "Torn tails of journal or ledger cut at start; nothing acknowledged");
/// Damaged or missing frames of journal or ledger, each time one is met.
pub static LOG_DAMAGED: Reason = Reason::new(
    "log",
    "damaged",
    "gaps",
    "Damaged or missing frames of journal or ledger, each time one is met",
);
/// Whole journal frames that hold no entry of a known format.
pub static JOURNAL_UNREADABLE: Reason = Reason::new(
    "journal",
    "unreadable",
    "entries",
    "Whole journal frames that hold no entry of a known format",
);
/// Requests that were folded before: their sender repeated them.
pub static FOLD_REPEAT: Reason =
    Reason::new("fold", "repeat", "requests", "Requests that were folded before: their sender repeated them");
/// Entries that panicked an analyzer twice and are passed over; a finding says so.
pub static FOLD_SKIPPED: Reason = Reason::new(
    "fold",
    "skipped",
    "entries",
    "Entries that panicked an analyzer twice and are passed over; a finding says so",
);
/// Rows folded before there was a model.
pub static FOLD_NO_MODEL: Reason =
    Reason::new("fold", "no_model", "rows", "Rows folded before there was a model");
/// Rows of another version.
pub static FOLD_UNREADABLE: Reason = Reason::new("fold", "unreadable", "rows", "Rows of another version");
/// Observations older than a correction may be.
pub static FOLD_LATE: Reason =
    Reason::new("fold", "late", "observations", "Observations older than a correction may be");
/// Observations more than 10 minutes in the future.
pub static FOLD_AHEAD: Reason =
    Reason::new("fold", "ahead", "observations", "Observations more than 10 minutes in the future");
/// Observations of a requirement that the model has no rule for, and of no declared flow.
pub static FOLD_UNWANTED: Reason = Reason::new(
    "fold",
    "unwanted",
    "observations",
    "Observations of a requirement that the model has no rule for, and of no declared flow",
);
/// Observations of a flow beyond `subjects_max`.
pub static FOLD_SUBJECTS: Reason =
    Reason::new("fold", "subjects_overflow", "observations", "Observations of a flow beyond `subjects_max`");
/// Cumulative points beyond 100,000 of one subject in one window.
pub static FOLD_POINTS: Reason = Reason::new(
    "fold",
    "points_overflow",
    "observations",
    "Cumulative points beyond 100,000 of one subject in one window",
);
/// Numbers of which nothing says what they measure.
pub static FOLD_NO_MEASURE: Reason =
    Reason::new("fold", "no_measure", "observations", "Numbers of which nothing says what they measure");
/// Findings that no JSON can hold; a notice stands in their place.
pub static LEDGER_REFUSED: Reason = Reason::new(
    "ledger",
    "refused",
    "findings",
    "Findings that no JSON can hold; a notice stands in their place",
);
/// Last entries that were known to exist and are gone.
pub static LEDGER_LOST: Reason =
    Reason::new("ledger", "lost", "entries", "Last entries that were known to exist and are gone");
/// Entries whose content cannot be read, each time one is met.
pub static LEDGER_UNREADABLE: Reason = Reason::new(
    "ledger",
    "unreadable",
    "entries",
    "Entries whose content cannot be read, each time one is met",
);
/// Findings that a sink refused for good; see `components/dead-letters`.
pub static DELIVERY_DEAD_LETTER: Reason = Reason::new(
    "delivery",
    "dead_letter",
    "findings",
    "Findings that a sink refused for good; see `components/dead-letters`",
);
/// Own spans beyond `max_queue_size` of `service.telemetry.traces`.
pub static TRACER_FULL: Reason =
    Reason::new("tracer", "full", "spans", "Own spans beyond `max_queue_size` of `service.telemetry.traces`");
/// Own spans that their backend did not take; nobody sends them again.
pub static TRACER_FAILED: Reason = Reason::new(
    "tracer",
    "failed",
    "spans",
    "Own spans that their backend did not take; nobody sends them again",
);

/// All of them.
pub static ALL: [&Reason; 48] = [
    &RECEIVER_UNAVAILABLE,
    &RECEIVER_MALFORMED,
    &RECEIVER_TOO_LARGE,
    &RECEIVER_UNAUTHENTICATED,
    &RECEIVER_UNKNOWN,
    &RECEIVER_UNSUPPORTED,
    &RECEIVER_BACKEND,
    &RECEIVER_REFUSED,
    &RECEIVER_FAILED,
    &RECEIVER_CONNECTIONS,
    &PROCESSOR_PANIC,
    &TAG_ATTRIBUTES,
    &TAG_VALUE,
    &TAG_BODY,
    &TAG_KEYS,
    &TAG_NO_RECORDED_VALUE,
    &TAG_UNUSABLE,
    &FILTER_DROPPED,
    &PIPELINE_NOT_JUDGED,
    &EXPORTER_UNAVAILABLE,
    &EXPORTER_REFUSED,
    &EXPORTER_PARTIAL,
    &QUEUE_REFUSED,
    &QUEUE_EXPIRED,
    &QUEUE_GIVEN_UP,
    &QUEUE_DAMAGED,
    &QUEUE_PANICKED,
    &JOURNAL_FULL,
    &JOURNAL_FAILED,
    &LOG_TORN,
    &LOG_DAMAGED,
    &JOURNAL_UNREADABLE,
    &FOLD_REPEAT,
    &FOLD_SKIPPED,
    &FOLD_NO_MODEL,
    &FOLD_UNREADABLE,
    &FOLD_LATE,
    &FOLD_AHEAD,
    &FOLD_UNWANTED,
    &FOLD_SUBJECTS,
    &FOLD_POINTS,
    &FOLD_NO_MEASURE,
    &LEDGER_REFUSED,
    &LEDGER_LOST,
    &LEDGER_UNREADABLE,
    &DELIVERY_DEAD_LETTER,
    &TRACER_FULL,
    &TRACER_FAILED,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_is_listed_once() {
        let names: BTreeSet<_> = ALL.iter().map(|reason| (reason.place, reason.name)).collect();
        assert_eq!(names.len(), ALL.len());
        let source = include_str!("drops.rs");
        let made = source.lines().filter(|line| line.starts_with("pub static ") && line.contains(": Reason"));
        assert_eq!(made.count(), ALL.len(), "a reason that is not in ALL is never shown");
    }

    #[test]
    fn a_reason_remembers_how_often_when_last_and_an_example() {
        static OWN: Reason = Reason::new("test", "own", "rows", "for the test");
        assert_eq!((OWN.line().count, OWN.line().last), (0, None));
        OWN.count_with(2, || "first".to_owned());
        OWN.count_with(3, || panic!("the example is fresh"));
        OWN.count_with(0, || panic!("nothing struck"));
        OWN.count_at(1, || Timestamp::from_millis(1));
        let line = OWN.line();
        assert_eq!((line.count, line.example.as_str()), (6, "first"));
        assert!(line.last > Some(Timestamp::from_millis(1)), "the latest holds");
    }

    #[test]
    fn what_is_done_once_more_is_not_counted() {
        static OWN: Reason = Reason::new("test", "silent", "rows", "for the test");
        silently(|| {
            silently(|| OWN.count(1));
            OWN.count_with(1, || panic!("it is silent"));
        });
        OWN.count(1);
        assert_eq!(OWN.total(), 1);
    }
}
