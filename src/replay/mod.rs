//! `homeostat replay`: recorded telemetry against a model, at full speed: what would have fired, when, and why not.
//!
//! No journal and no disk. Ticks come from the recording's own times, monotonically: the same recording gives the same report,
//! however its records are cut into requests.

mod ahead;
mod recording;
mod report;
mod side;
mod tally;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::bail;
use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::clock::{Clock as _, SystemClock, Timestamp};
use homeostat_pipeline::evidence::Rows;

use crate::cli::{self, FOUND, Format, GOOD};
use crate::output;
use crate::rehearsal::ModelFile;
use ahead::{Making, Outcome, Tagged};
use recording::{Decoder, Recording};
use report::Read;
use side::Side;

/// Further behind its newest record the clock cannot be: rows ten minutes ahead of it are not folded.
const LATENESS_MAX_SECONDS: u64 = 540;

/// Replays the files; exit 1 when something fires.
///
/// # Errors
/// A file or a model cannot be read, or nothing in the files is OTLP.
pub fn command(arguments: &cli::Replay) -> anyhow::Result<u8> {
    if arguments.lateness.as_secs() > LATENESS_MAX_SECONDS {
        bail!("`--lateness` is more than 9m (sort the recording, or raise the model's `allowed_lateness`)");
    }
    let mut sides = Vec::new();
    for path in std::iter::once(&arguments.model).chain(&arguments.against) {
        let severity_rules = arguments.severity_rules.as_deref().map(|path| (path, None));
        let model = ModelFile::read(path, None, severity_rules)?;
        model.warnings.iter().for_each(|warning| output::error(&format!("warning: {warning}")));
        sides.push(Side::new(model, arguments.lateness)?);
    }
    let began = SystemClock.now();
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok());
    let threads = threads.map_or(1, NonZeroUsize::get);
    let signal = arguments.signal.map(signal);
    let read = replay(&arguments.files, signal, arguments.merge, threads, &mut sides)?;
    if read.messages == 0 && read.unreadable > 0 {
        bail!("nothing in the recording is OTLP: {}", read.examples.join("; "));
    }
    let seconds = SystemClock.now().since(began).as_secs_f64();
    match (arguments.format, sides.as_slice()) {
        (Format::Text, [one, other]) => report::print_difference(one, other),
        (Format::Json, [one, other]) => {
            let (gone, new) = report::difference(one, other);
            let (one, other) = (report::json(&read, one), report::json(&read, other));
            let value = serde_json::json!({ "model": one, "against": other, "only_in_model": gone, "only_in_against": new });
            output::line(&value.to_string());
        }
        (Format::Text, sides) => sides.iter().for_each(|side| report::print(&read, side)),
        (Format::Json, sides) => {
            sides.iter().for_each(|side| output::line(&report::json(&read, side).to_string()));
        }
    }
    if arguments.timing {
        let records = read.records;
        #[expect(clippy::cast_precision_loss, reason = "nobody records 2^53 spans")]
        let rate = records as f64 / seconds.max(1e-9);
        output::error(&format!("{records} records in {seconds:.2} s, {rate:.0} a second"));
    }
    Ok(if sides.iter().any(report::fired) { FOUND } else { GOOD })
}

fn signal(word: cli::SignalName) -> Signal {
    match word {
        cli::SignalName::Traces => Signal::Traces,
        cli::SignalName::Metrics => Signal::Metrics,
        cli::SignalName::Logs => Signal::Logs,
    }
}

/// Folds what a message comes to into every side; what is none is counted and passed over.
fn fold(outcome: Outcome, sides: &mut [Side], read: &mut Read) -> anyhow::Result<()> {
    match outcome {
        Ok(tagged) => {
            read.messages += 1;
            read.records += tagged.records;
            sides.iter_mut().zip(tagged.rows).try_for_each(|(side, rows)| side.take(rows))
        }
        Err(why) => {
            read.fail(why);
            Ok(())
        }
    }
}

/// Reads the files, one after the other, or by time when they are to be merged.
fn replay(
    paths: &[PathBuf],
    signal: Option<Signal>,
    is_merged: bool,
    threads: usize,
    sides: &mut [Side],
) -> anyhow::Result<Read> {
    let taggers = sides.iter().map(|side| side.rehearsal.tagger()).collect();
    let making = Making { taggers, decoder: Decoder::new(signal) };
    let mut read = Read::default();
    if is_merged {
        merge(paths, &making, sides, &mut read)?;
    } else {
        // This thread folds.
        let decoding = threads.saturating_sub(1);
        ahead::each(paths, &making, decoding, &mut |outcome| fold(outcome, sides, &mut read))?;
    }
    sides.iter_mut().try_for_each(Side::end)?;
    Ok(read)
}

/// The next message of a recording, and the time of its newest row; of one without rows that `before` it.
fn head(
    recording: &mut Recording,
    making: &Making,
    before: Timestamp,
    read: &mut Read,
) -> anyhow::Result<Option<(Timestamp, Tagged)>> {
    while let Some(raw) = recording.next()? {
        match making.outcome(&raw) {
            Ok(tagged) => {
                let rows = tagged.rows.first().map_or(&[][..], Rows::rows);
                let time = rows.iter().map(|row| row.time).max().unwrap_or(before);
                return Ok(Some((time, tagged)));
            }
            Err(why) => read.fail(why),
        }
    }
    Ok(None)
}

/// Reads the files side by side: the message with the oldest time comes first.
fn merge(paths: &[PathBuf], making: &Making, sides: &mut [Side], read: &mut Read) -> anyhow::Result<()> {
    let mut waiting = Vec::new();
    for path in paths {
        let mut recording = Recording::open(path)?;
        let first = head(&mut recording, making, Timestamp::ZERO, read)?;
        waiting.push((recording, first));
    }
    loop {
        let times = waiting.iter().enumerate().filter_map(|(at, (_, head))| Some((head.as_ref()?.0, at)));
        let Some((_, at)) = times.min() else { return Ok(()) };
        let (recording, next) = &mut waiting[at];
        let Some((time, tagged)) = next.take() else { return Ok(()) };
        fold(Ok(tagged), sides, read)?;
        *next = head(recording, making, time, read)?;
    }
}

#[cfg(test)]
mod tests;
