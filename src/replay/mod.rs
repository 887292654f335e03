//! `homeostat replay`: recorded telemetry against a model, at full speed: what would have fired, when, and why not.
//!
//! No journal and no disk. Ticks come from the recording's own times, monotonically: the same recording gives the same report,
//! however its records are cut into requests.

mod recording;
mod report;
mod side;
mod tally;

use std::path::PathBuf;

use anyhow::bail;
use bytes::Bytes;
use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::clock::{Clock as _, SystemClock, Timestamp};
use homeostat_pipeline::evidence::Rows;

use crate::cli::{self, FOUND, Format, GOOD};
use crate::output;
use crate::rehearsal::ModelFile;
use recording::{Item, Recording};
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
        let model = ModelFile::read(path, None)?;
        model.warnings.iter().for_each(|warning| output::error(&format!("warning: {warning}")));
        sides.push(Side::new(model, arguments.lateness)?);
    }
    let began = SystemClock.now();
    let read = replay(&arguments.files, arguments.signal.map(signal), arguments.merge, &mut sides)?;
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

/// A message that is read but not yet folded.
struct Head {
    signal: Signal,
    body: Bytes,
    /// Of the first side.
    rows: Rows,
    records: u64,
    /// Of its newest row; of one without rows as that before it.
    time: Timestamp,
}

/// The next message of a recording; what cannot be read is counted and passed over.
fn head(
    recording: &mut Recording,
    side: &Side,
    before: Timestamp,
    read: &mut Read,
) -> anyhow::Result<Option<Head>> {
    while let Some(item) = recording.next()? {
        let (signal, body) = match item {
            Item::Message(signal, body) => (signal, body),
            Item::Unreadable(why) => {
                read.fail(why);
                continue;
            }
        };
        match side.tag(signal, body.clone()) {
            Ok((rows, records)) => {
                let time = rows.rows().iter().map(|row| row.time).max().unwrap_or(before);
                return Ok(Some(Head { signal, body, rows, records, time }));
            }
            Err(error) => read.fail(format!("{error:#}")),
        }
    }
    Ok(None)
}

/// Folds a message into every side.
fn fold(head: Head, sides: &mut [Side], read: &mut Read) -> anyhow::Result<()> {
    read.messages += 1;
    read.records += head.records;
    let Some((first, others)) = sides.split_first_mut() else { return Ok(()) };
    first.take(head.rows)?;
    for side in others {
        let (rows, _) = side.tag(head.signal, head.body.clone())?;
        side.take(rows)?;
    }
    Ok(())
}

/// Reads the files, one after the other, or by time when they are to be merged.
fn replay(
    paths: &[PathBuf],
    signal: Option<Signal>,
    is_merged: bool,
    sides: &mut [Side],
) -> anyhow::Result<Read> {
    let mut read = Read::default();
    let mut waiting: Vec<(Recording, Option<Head>)> = Vec::new();
    for path in paths {
        let mut recording = Recording::open(path, signal)?;
        if is_merged {
            let first = head(&mut recording, &sides[0], Timestamp::ZERO, &mut read)?;
            waiting.push((recording, first));
            continue;
        }
        while let Some(next) = head(&mut recording, &sides[0], Timestamp::ZERO, &mut read)? {
            fold(next, sides, &mut read)?;
        }
    }
    loop {
        let times = waiting.iter().enumerate().filter_map(|(at, (_, head))| Some((head.as_ref()?.time, at)));
        let Some((time, at)) = times.min() else { break };
        let (recording, next) = &mut waiting[at];
        let Some(next) = next.take() else { break };
        fold(next, sides, &mut read)?;
        waiting[at].1 = head(recording, &sides[0], time, &mut read)?;
    }
    sides.iter_mut().try_for_each(Side::end)?;
    Ok(read)
}

#[cfg(test)]
mod tests;
