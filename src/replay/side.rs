//! One model that a recording is replayed through, and the clock that the recording's own times move.

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::evidence::{Row, Rows, Text};

use super::tally::Rules;
use crate::rehearsal::{ModelFile, Rehearsal, TICK};

/// Rows are folded so many at a time: an Arrow batch for a few rows costs what one for thousands does.
const ROWS: usize = 16_384;
/// A leap of the recording's time that is worth telling: a pause, or a sender whose clock is wrong.
const LEAP: Duration = Duration::from_secs(3_600);

/// A model and what the recording comes to under it.
pub struct Side {
    /// The model.
    pub model: ModelFile,
    /// Model, `tag` and fold.
    pub rehearsal: Rehearsal,
    /// Per rule what it came to.
    pub rules: Rules,
    /// Requirement key → rows that carried it.
    pub keys: BTreeMap<String, u64>,
    /// Rows of evidence.
    pub rows: u64,
    /// The times of the rows.
    pub span: Option<(Timestamp, Timestamp)>,
    /// How often the time leapt ahead by an hour and more, and the farthest.
    pub leaps: (u64, Duration),
    waiting: Vec<Rows>,
    waiting_rows: usize,
    lateness: Duration,
}

impl Side {
    /// A model before the first message.
    ///
    /// # Errors
    /// Those of the rehearsal.
    pub fn new(model: ModelFile, lateness: Duration) -> anyhow::Result<Side> {
        Ok(Side {
            rehearsal: Rehearsal::open(&model, Vec::new())?,
            rules: Rules::of(&model.model),
            model,
            keys: BTreeMap::new(),
            rows: 0,
            span: None,
            leaps: (0, Duration::ZERO),
            waiting: Vec::new(),
            waiting_rows: 0,
            lateness,
        })
    }

    /// Takes rows in, in the order of the recording.
    ///
    /// # Errors
    /// Those of the fold.
    pub fn take(&mut self, rows: Rows) -> anyhow::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.count(&rows);
        self.waiting_rows += rows.len();
        self.waiting.push(rows);
        if self.waiting_rows >= ROWS { self.flush() } else { Ok(()) }
    }

    /// Rows of one key mostly come together.
    fn count(&mut self, rows: &Rows) {
        self.rows += rows.len() as u64;
        let mut put = |text: Text, count: u64| {
            if count > 0 && !text.is_none() {
                match self.keys.get_mut(rows.text(text)) {
                    Some(known) => *known += count,
                    None => {
                        self.keys.insert(rows.text(text).to_owned(), count);
                    }
                }
            }
        };
        let (mut last, mut count) = (Text::NONE, 0);
        for row in rows.rows() {
            if row.req != last {
                put(last, count);
                (last, count) = (row.req, 0);
            }
            count += 1;
        }
        put(last, count);
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let groups: Vec<&Rows> = self.waiting.iter().collect();
        let (span, leaps, lateness) = (&mut self.span, &mut self.leaps, self.lateness);
        self.rehearsal.fold(&groups, &mut |row: &Row| {
            if row.time == Timestamp::ZERO {
                return None;
            }
            let (first, newest) = span.get_or_insert((row.time, row.time));
            *first = (*first).min(row.time);
            let leap = row.time.since(*newest);
            if leap >= LEAP {
                *leaps = (leaps.0 + 1, leaps.1.max(leap));
            }
            *newest = (*newest).max(row.time);
            Some(*newest - lateness)
        })?;
        self.waiting.clear();
        self.waiting_rows = 0;
        self.settle();
        Ok(())
    }

    fn settle(&mut self) {
        for account in self.rehearsal.accounts() {
            self.rules.take(&account);
        }
    }

    /// The recording is over: the windows of its last rows are closed, but no silence is judged after them.
    ///
    /// # Errors
    /// Those of the fold.
    pub fn end(&mut self) -> anyhow::Result<()> {
        self.flush()?;
        if let Some((_, newest)) = self.span {
            let window = &self.model.model.defaults.window;
            self.rehearsal
                .tick_to(newest.floor(window.every) + window.every + window.allowed_lateness + TICK);
            self.settle();
        }
        self.rules.end();
        Ok(())
    }
}
