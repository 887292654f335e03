//! What the fold says of a judgement when it is asked to: the numbers, each rule's condition with what it named, and where its
//! `for` and cooldown stand. Nothing is asked of it in a running pipeline, and nothing of it is state.

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{Quiet, Severity};
use serde::Serialize;

use super::super::condition::Facts;
use super::super::model::{Model, Unknown};
use super::Fold;
use super::decide::Phase;
use super::episode::Episode;
use super::gather::Case;
use super::record::Hush;
use super::rows::Tally;
use super::ruled::{Judged, Ruled};

/// One measure of one subject in one window, as it was judged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Account {
    /// When the fold judged it: the tick that closed the window, or corrected it.
    pub at: Timestamp,
    /// The window's first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
    /// The requirement's key.
    pub req: String,
    /// The group labels.
    pub labels: BTreeMap<String, String>,
    /// The measure.
    pub measure: String,
    /// Of the value and the thresholds.
    pub unit: String,
    /// None when it is unknown.
    pub value: Option<f64>,
    /// Observations that it rests on.
    pub samples: u64,
    /// With fewer of them a quantile, a mean or a share is unknown.
    pub min_samples: u64,
    /// Whether late rows had it judged again.
    pub is_correction: bool,
    /// In the order of the model.
    pub rules: Vec<RuleAccount>,
    /// Where the episode stands after it.
    pub phase: Phase,
    /// What keeps the open episode quiet.
    pub quiet: Option<Quiet>,
    /// Of the open episode; `low` while there is none.
    pub severity: Severity,
}

/// What one rule made of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleAccount {
    /// The rule.
    pub id: String,
    /// What the deviation would be.
    pub severity: Severity,
    /// As the model writes it.
    pub condition: String,
    /// The line of the model in which the rule stands.
    pub line: u32,
    /// What the condition names, and what that was; none where it was unknown.
    pub numbers: Vec<(String, Option<f64>)>,
    /// Violated, not violated, or unknown.
    pub verdict: Option<bool>,
    /// Whether it counts as violated: where it is, and where it is unknown and the model counts that as a violation.
    pub counts_as_violated: bool,
    /// Since when it is violated without a gap.
    pub violated_since: Option<Timestamp>,
    /// How long it has to be.
    #[serde(rename = "for_seconds", serialize_with = "seconds")]
    pub holds_for: Duration,
    /// Whether that is served.
    pub fires: bool,
    /// Until when a cooldown keeps it quiet, where one runs.
    pub cooling_until: Option<Timestamp>,
    /// What else keeps it quiet while it fires, and which: a silence, or the rule that it is inhibited by.
    pub quiet: Option<(Quiet, String)>,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// What is kept for who asks.
#[derive(Debug, Default)]
pub struct Accounts {
    judged: Vec<Account>,
    tally: Tally,
}

impl Accounts {
    /// Counts what became of rows.
    pub(super) fn count(&mut self, tally: &Tally) {
        let all = &mut self.tally;
        all.folded += tally.folded;
        all.late += tally.late;
        all.ahead += tally.ahead;
        all.overflowed += tally.overflowed;
        all.crowded += tally.crowded;
        all.unreadable += tally.unreadable;
        all.unmeasured += tally.unmeasured;
    }
}

/// What a judgement is told with.
pub(super) struct Judgement<'a> {
    /// The entry's time.
    pub now: Timestamp,
    /// By which rules.
    pub ruled: &'a Ruled,
    /// Of which requirement and labels.
    pub who: (&'a str, &'a BTreeMap<String, String>),
    /// The measure.
    pub judged: &'a Judged,
    /// Each rule's numbers.
    pub numbers: Vec<Vec<(String, Option<f64>)>>,
    /// Whether it was judged before.
    pub is_correction: bool,
}

/// The numbers that each rule's condition names.
pub(super) fn numbers(case: &Case<'_>) -> Vec<Vec<(String, Option<f64>)>> {
    let facts = Facts {
        value: case.reading.value,
        count: case.reading.samples,
        expected: case.judged.expected_at(case.span.end),
        lookbacks: &case.lookbacks,
    };
    let lookbacks: Vec<String> = case.judged.lookbacks.iter().map(ToString::to_string).collect();
    case.judged.rules.iter().map(|rule| rule.condition.numbers(&facts, &lookbacks)).collect()
}

impl Judgement<'_> {
    /// The account of a window that the episode has just taken in.
    pub fn account(
        self,
        span: (Timestamp, Timestamp),
        (value, samples): (Option<f64>, u64),
        verdicts: &[Option<bool>],
        (episode, hushes): (&Episode, &[Option<Hush>]),
    ) -> Account {
        let unknown_is = self.ruled.model.defaults.unknown_is;
        let rules = self.judged.rules.iter().zip(verdicts).zip(self.numbers).enumerate();
        let rules = rules.map(|(place, ((rule, verdict), numbers))| {
            let hush = hushes.get(place).and_then(Option::as_ref);
            let hold = episode.hold(&rule.id).copied().unwrap_or_default();
            let counts_as_violated = verdict.unwrap_or(unknown_is == Unknown::Breach);
            RuleAccount {
                id: rule.id.clone(),
                severity: rule.severity,
                condition: rule.condition.text().to_owned(),
                line: rule.at.line,
                numbers,
                verdict: *verdict,
                counts_as_violated,
                violated_since: hold.since(),
                holds_for: rule.holds_for,
                fires: counts_as_violated && hold.has_fired(),
                cooling_until: hold.cooling_until(rule.cooldown).filter(|until| *until > span.1),
                quiet: hush.map(|hush| (hush.quiet, hush.by.clone())),
            }
        });
        let state = episode.state();
        Account {
            at: self.now,
            start: span.0,
            end: span.1,
            req: self.who.0.to_owned(),
            labels: self.who.1.clone(),
            measure: self.judged.expected.measure.name.clone(),
            unit: self.judged.expected.unit.name().to_owned(),
            value,
            samples,
            min_samples: self.ruled.model.defaults.window.min_samples,
            is_correction: self.is_correction,
            rules: rules.collect(),
            phase: state.phase,
            quiet: state.quiet,
            severity: state.severity,
        }
    }
}

impl Fold {
    /// From now on it keeps an account of every judgement, until [`Fold::take_accounts`] takes them.
    pub fn keep_accounts(&mut self) {
        self.accounts.get_or_insert_default();
    }

    /// The accounts since the last call, in the order of the judgements. None unless they are kept.
    pub fn take_accounts(&mut self) -> Vec<Account> {
        self.accounts.as_mut().map(|accounts| std::mem::take(&mut accounts.judged)).unwrap_or_default()
    }

    /// What became of rows since accounts are kept.
    pub fn tally(&self) -> Tally {
        self.accounts.as_ref().map(|accounts| accounts.tally).unwrap_or_default()
    }

    /// The model that holds.
    pub fn model(&self) -> Option<&Model> {
        self.ruled.as_ref().map(|ruled| &ruled.model)
    }

    /// Whether somebody asks.
    pub(super) fn is_asked(&self) -> bool {
        self.accounts.is_some()
    }

    pub(super) fn put_accounts(&mut self, all: Vec<Account>) {
        if let Some(accounts) = &mut self.accounts {
            accounts.judged.extend(all);
        }
    }
}
