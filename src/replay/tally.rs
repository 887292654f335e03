//! What a recording came to under one model: per rule how often its condition was true, false or unknown, and why.

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;
use homeostat_processors::homeostasis::fold::{Account, RuleAccount};
use homeostat_processors::homeostasis::model::Model;
use serde::Serialize;

use crate::why::{Standing, standing};

/// One rule of one requirement, over all subjects and windows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RuleTally {
    /// The line of the model in which it stands.
    pub line: u32,
    /// As the model writes it.
    pub condition: String,
    /// Judged, each once.
    pub windows: u64,
    /// Judged again after late rows.
    pub corrections: u64,
    /// Windows in which the condition was true.
    pub violated: u64,
    /// Windows in which it was false.
    pub held: u64,
    /// Windows in which it was neither, by what was missing.
    pub unknown: BTreeMap<String, u64>,
    /// Windows in which it fired.
    pub fired: u64,
    /// Windows in which it fired, but a cooldown or another rule kept it quiet.
    pub kept_quiet: u64,
    /// Violations that ended before they had lasted for `for`.
    pub never_served: u64,
    /// Violations that were pending when the recording ended.
    pub still_pending: u64,
    /// The longest violation that did not serve `for`.
    pub longest_pending_seconds: f64,
    /// Requirement and group labels that were judged.
    pub subjects: u64,
}

/// Requirement, measure, rule.
pub type RuleKey = (String, String, String);

/// All rules.
#[derive(Debug, Default)]
pub struct Rules {
    /// What each came to.
    pub all: BTreeMap<RuleKey, RuleTally>,
    /// Rule and subject → since when it is pending, if it is.
    pending: BTreeMap<(RuleKey, BTreeMap<String, String>), Option<Duration>>,
}

impl Rules {
    /// Every rule of a model, so that those are told of too that nothing was judged by.
    pub fn of(model: &Model) -> Rules {
        let mut rules = Rules::default();
        for (req, requirement) in &model.requirements {
            for rule in &requirement.rules {
                let key = (req.clone(), rule.measure.clone(), rule.id.clone());
                let condition = rule.condition.text().to_owned();
                rules.all.insert(key, RuleTally { line: rule.at.line, condition, ..RuleTally::default() });
            }
        }
        rules
    }

    /// Takes in one judgement.
    pub fn take(&mut self, account: &Account) {
        for rule in &account.rules {
            let key = (account.req.clone(), account.measure.clone(), rule.id.clone());
            self.pend(&key, account, rule);
            let tally = self.all.entry(key).or_default();
            if account.is_correction {
                tally.corrections += 1;
                continue;
            }
            tally.windows += 1;
            match standing(account, rule) {
                Standing::Holds => tally.held += 1,
                Standing::Unknown(missing) => *tally.unknown.entry(missing).or_default() += 1,
                Standing::Pending => tally.violated += 1,
                Standing::Quiet(_) => {
                    tally.violated += 1;
                    tally.kept_quiet += 1;
                }
                Standing::Fires => {
                    tally.violated += 1;
                    tally.fired += 1;
                }
            }
        }
    }

    fn pend(&mut self, key: &RuleKey, account: &Account, rule: &RuleAccount) {
        let subject = (key.clone(), account.labels.clone());
        if !self.pending.contains_key(&subject) {
            self.all.entry(key.clone()).or_default().subjects += 1;
        }
        let before = self.pending.entry(subject).or_default();
        if account.is_correction {
            return;
        }
        let since = |since: Timestamp| account.end.since(since);
        let is_pending = standing(account, rule) == Standing::Pending;
        if is_pending {
            *before = Some(since(rule.violated_since.unwrap_or(account.start)));
            return;
        }
        // What fires has served; what does not and is no longer pending never will.
        let ended = before.take().filter(|_| !rule.fires);
        if let Some(lasted) = ended {
            let tally = self.all.entry(key.clone()).or_default();
            tally.never_served += 1;
            tally.longest_pending_seconds = tally.longest_pending_seconds.max(lasted.as_secs_f64());
        }
    }

    /// The recording is over.
    pub fn end(&mut self) {
        for ((key, _), lasted) in &self.pending {
            if let (Some(lasted), Some(tally)) = (lasted, self.all.get_mut(key)) {
                tally.still_pending += 1;
                tally.longest_pending_seconds = tally.longest_pending_seconds.max(lasted.as_secs_f64());
            }
        }
    }
}
