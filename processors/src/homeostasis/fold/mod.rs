//! The fold: entries in, findings out, and nothing else comes in. The same entries give the same findings, byte for byte, wherever
//! a checkpoint falls between them: no clock is read, no hash map is walked, and what depends on the order of rows is not kept.
//!
//! Rows go into panes (`rows`); ticks close windows, whose panes are read and judged by the rules of the model (`judge`); an
//! `episode` takes the verdicts and decides ([`decide`]) what becomes of its deviation (`record`).

mod account;
mod adjust;
mod behavior;
mod cumulative;
mod decide;
mod decided;
mod dist;
mod episode;
mod epoch;
mod few;
mod gather;
mod hold;
mod ids;
mod inhibition;
mod judge;
mod keep;
mod long;
mod pane;
mod past;
mod points;
mod provenance;
mod ranges;
mod reading;
mod record;
mod route;
mod rows;
mod ruled;
mod silence;
mod subject;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, BTreeSet};

use homeostat_pipeline::checkpoint::KeyedState;
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::contract::Analyzer;
use homeostat_pipeline::drops;
use homeostat_pipeline::entry::{Entry, Epoch, Event, EvidenceEvent};
use homeostat_pipeline::evidence::columns::Columns;
use homeostat_pipeline::finding::{Finding, Notice};
use homeostat_pipeline::settings::ParseYaml;
use metrics::{counter, gauge};

use account::Accounts;
use adjust::Adjustments;
use ids::Days;
use inhibition::Inhibition;
use past::Sliders;
use route::{ORDINARY_UNIT, Paths};
use rows::Target;
use ruled::{Ruled, Slot};
use silence::Silences;
use subject::Subjects;
use window::{Span, Windows};

pub use account::{Account, RuleAccount};
pub use decide::{Cause, Conditions, Decision, EpisodeState, Firing, Patience, Phase, Reason, decide};
pub use rows::Tally;

/// What the fold is told when it is opened; the model it learns from the journal.
#[derive(Clone, Debug)]
pub struct FoldSettings {
    /// The component id, by which its epochs name it.
    pub id: String,
    /// Part of every fingerprint; empty by default.
    pub tenant: String,
    /// At most this many subjects.
    pub subjects_max: usize,
    /// The YAML door.
    pub parse: ParseYaml,
}

/// The homeostasis analyzer.
#[derive(Debug)]
pub struct Fold {
    settings: FoldSettings,
    /// The epoch that holds, and its model; none before the first.
    epoch: Option<Epoch>,
    ruled: Option<Ruled>,
    /// The latest entry's time.
    now: Timestamp,
    slots: Vec<Slot>,
    subjects: Subjects,
    silences: Silences,
    adjustments: Adjustments,
    /// Which rules fire that others are inhibited by: no state, but what the episodes say.
    inhibition: Inhibition,
    windows: Windows,
    /// Through when all windows were judged.
    closed_through: Timestamp,
    /// Merged panes: no state, only what need not be worked out again.
    sliders: Sliders,
    days: Days,
    /// Where rows went before: no state, only what need not be worked out again.
    paths: Paths,
    /// Whether the overflow of subjects was told under the model that holds.
    overflow_told: bool,
    /// Windows and panes that the next checkpoint removes.
    gone: Vec<(Span, Option<u64>)>,
    epoch_is_touched: bool,
    /// For who asks why; none in a running pipeline.
    accounts: Option<Accounts>,
}

impl Fold {
    /// A fold that has seen nothing.
    pub fn new(settings: FoldSettings) -> Fold {
        Fold {
            settings,
            epoch: None,
            ruled: None,
            now: Timestamp::ZERO,
            slots: vec![Slot::ordinary(String::new(), ORDINARY_UNIT.to_owned())],
            subjects: Subjects::default(),
            silences: Silences::default(),
            adjustments: Adjustments::default(),
            inhibition: Inhibition::default(),
            windows: Windows::new(),
            closed_through: Timestamp::from_nanos(i64::MIN),
            sliders: Sliders::default(),
            days: Days::default(),
            paths: Paths::default(),
            overflow_told: false,
            gone: Vec::new(),
            epoch_is_touched: false,
            accounts: None,
        }
    }

    fn evidence(&mut self, event: &EvidenceEvent, out: &mut Vec<Finding>) {
        let columns = match Columns::new(&event.batch) {
            Ok(columns) => columns,
            Err(error) => {
                tracing::error!(%error, "evidence cannot be folded");
                drops::FOLD_UNREADABLE.count_at(event.batch.num_rows() as u64, || self.now);
                out.push(self.notice("evidence_unreadable", error.to_string()));
                return;
            }
        };
        let Some(ruled) = &self.ruled else {
            drops::FOLD_NO_MODEL.count_at(columns.len() as u64, || self.now);
            counter!("homeostat_fold_rows_dropped_total", "reason" => "no_model")
                .increment(columns.len() as u64);
            return;
        };
        let mut tally = Tally::default();
        let mut target = Target {
            ruled,
            subjects: &mut self.subjects,
            windows: &mut self.windows,
            slots: &mut self.slots,
            subjects_max: self.settings.subjects_max,
            paths: &mut self.paths,
            now: self.now,
            closed_through: self.closed_through,
        };
        rows::fold(&mut target, &columns, &mut tally);
        count(&tally, self.now);
        if let Some(accounts) = &mut self.accounts {
            accounts.count(&tally);
        }
        if self.subjects.is_overflowed && !self.overflow_told {
            self.overflow_told = true;
            let max = self.settings.subjects_max;
            out.push(self.notice(
                "subjects_overflow",
                format!("there are more than {max} subjects: the labels of further ones become `other` (raise `subjects_max`, or group by fewer labels)"),
            ));
        }
    }

    fn tick(&mut self, out: &mut Vec<Finding>) {
        out.extend(self.silences.pass(self.now).into_iter().map(Finding::Silence));
        if let Some(ruled) = &self.ruled {
            let effective = self.adjustments.pass(self.now, &ruled.model.hash);
            out.extend(effective.into_iter().map(Finding::Threshold));
        }
        self.judge_due(out);
        self.judge_silence(out);
        self.drop_expired();
        for (req, labels) in self.subjects.take_silent() {
            out.push(self.notice(Notice::SENSOR_SILENT, silent(&req, &labels)));
        }
    }

    /// Forgets panes that nothing can correct any more, and the subjects that only they knew; what a longer window needs of them is
    /// remembered.
    fn drop_expired(&mut self) {
        let Some(ruled) = &self.ruled else { return };
        let kept_for = ruled.kept_for();
        let expired = window::expired(&mut self.windows, self.now, kept_for, ruled.looked_back());
        if expired.is_empty() {
            return;
        }
        cumulative::carry(&expired, &mut self.windows);
        for (span, window) in expired {
            for (number, pane) in window.panes() {
                self.subjects.remember_pane(ruled, *number, span.start, &pane.sums);
                self.subjects.release(*number);
                if pane.is_stored {
                    self.gone.push((span, Some(*number)));
                }
            }
            if window.is_stored {
                self.gone.push((span, None));
            }
        }
        self.subjects.forget(self.now, ruled);
        self.sliders.retain(|subject| self.subjects.get(subject).is_some());
    }

    fn notice(&self, kind: &str, message: String) -> Finding {
        Finding::Notice(Notice { kind: kind.to_owned(), at: self.now, message })
    }
}

/// Of which subjects nothing comes any more, in words.
fn silent(req: &str, all: &BTreeSet<BTreeMap<String, String>>) -> String {
    const NAMED_MAX: usize = 5;
    let one = |labels: &BTreeMap<String, String>| {
        let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        format!("{{{}}}", pairs.join(", "))
    };
    if all.iter().all(BTreeMap::is_empty) {
        return format!("nothing comes of {req} any more");
    }
    let named: Vec<String> = all.iter().take(NAMED_MAX).map(one).collect();
    let more = all.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("nothing comes of {req} any more for {} of its subjects: {}{more}", all.len(), named.join(", "))
}

fn count(tally: &Tally, now: Timestamp) {
    counter!("homeostat_fold_rows_total").increment(tally.folded);
    for (reason, rows) in [
        (&drops::FOLD_LATE, tally.late),
        (&drops::FOLD_AHEAD, tally.ahead),
        (&drops::FOLD_UNWANTED, tally.unwanted),
        (&drops::FOLD_SUBJECTS, tally.overflowed),
        (&drops::FOLD_POINTS, tally.crowded),
        (&drops::FOLD_UNREADABLE, tally.unreadable),
        (&drops::FOLD_NO_MEASURE, tally.unmeasured),
    ] {
        if rows > 0 {
            reason.count_at(rows, || now);
            counter!("homeostat_fold_rows_dropped_total", "reason" => reason.name).increment(rows);
        }
    }
}

impl Analyzer for Fold {
    fn apply(&mut self, entry: &Entry, out: &mut Vec<Finding>) {
        self.now = self.now.max(entry.time);
        match &entry.event {
            Event::Evidence(event) => self.evidence(event, out),
            Event::Tick => self.tick(out),
            Event::Epoch(epoch) if epoch.component == self.settings.id => self.change_model(epoch, out),
            Event::Decision(decision) => self.decision(entry.offset, decision, out),
            // Alerts come with later work; what is skipped was never applied.
            Event::Epoch(_) | Event::Alerts(_) | Event::Skip { .. } => {}
        }
        gauge!("homeostat_subjects").set(self.subjects.len() as f64);
    }

    fn checkpoint(&mut self, state: &mut dyn KeyedState) -> anyhow::Result<()> {
        self.write(state)
    }

    fn restore(&mut self, state: &dyn KeyedState) -> anyhow::Result<()> {
        self.read(state)
    }
}
