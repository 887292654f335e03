//! Thresholds that people adjusted: who approved which number from when on, over the numbers of the model's file.
//!
//! An adjustment names the number that it changes. When another model states another one, the adjustment is void: the file is
//! what people read, and it never means less than what it says.

use std::collections::{BTreeMap, BTreeSet};

use homeostat_pipeline::checkpoint::KeyedState;
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::entry::{Decision, Offset};
use homeostat_pipeline::finding::{AdjustmentChange, ThresholdAdjusted, adjustment_id};

use super::super::model::{Expectation, Model, Thresholds, level_of, proposed, threshold_of};
use super::Fold;
use super::ids::Days;

/// At most so many are known at a time.
pub const ADJUSTMENTS_MAX: usize = 10_000;

/// Those that hold or will hold.
#[derive(Debug, Default)]
pub struct Adjustments {
    /// By requirement and measure, in the order in which they take effect.
    all: BTreeMap<(String, String), Vec<ThresholdAdjusted>>,
    /// Gives them numbers.
    pub days: Days,
    /// Differ from the checkpoint: those that are not known any more are removed.
    touched: BTreeSet<(String, String)>,
}

/// The key of all adjustments of a measure in the checkpoint.
fn key((req, measure): &(String, String)) -> Vec<u8> {
    [b"a", req.as_bytes(), b"/", measure.as_bytes()].concat()
}

impl Adjustments {
    /// Those of a measure, in the order in which they take effect.
    pub fn of(&self, req: &str, measure: &str) -> &[ThresholdAdjusted] {
        self.all.get(&(req.to_owned(), measure.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// The expectation from each date on at which one takes effect.
    pub fn versions(&self, req: &str, expected: &Expectation) -> Vec<(Timestamp, Expectation)> {
        let mut last = expected.clone();
        let versions = self.of(req, &expected.measure.name).iter().map(|one| {
            last.thresholds = last.thresholds.with(one.level, one.new);
            (one.effective_date, last.clone())
        });
        versions.collect()
    }

    fn add(&mut self, one: ThresholdAdjusted) {
        let key = (one.req_id.clone(), one.measure.clone());
        self.touched.insert(key.clone());
        self.all.entry(key).or_default().push(one);
    }

    fn len(&self) -> usize {
        self.all.values().map(Vec::len).sum()
    }

    /// Time has passed: those that took effect.
    pub fn pass(&mut self, now: Timestamp, model_hash: &str) -> Vec<ThresholdAdjusted> {
        let mut effective = Vec::new();
        for (key, all) in &mut self.all {
            let due = |one: &&mut ThresholdAdjusted| {
                one.change == AdjustmentChange::Approved && one.effective_date <= now
            };
            for one in all.iter_mut().filter(due) {
                one.change = AdjustmentChange::Effective;
                one.version += 1;
                one.at = now;
                model_hash.clone_into(&mut one.model_hash);
                self.touched.insert(key.clone());
                effective.push(one.clone());
            }
        }
        effective
    }

    /// Another model holds: those that change a number which it does not state are void, and forgotten.
    pub fn compare(&mut self, model: &Model, now: Timestamp) -> Vec<ThresholdAdjusted> {
        let mut void = Vec::new();
        for (key, all) in &mut self.all {
            let expected = model.requirements.get(&key.0).and_then(|one| one.expectations.get(&key.1));
            let unit = expected.map(|expected| expected.unit.name());
            let mut thresholds = expected.map(|expected| expected.thresholds).unwrap_or_default();
            all.retain(|one| {
                if unit == Some(one.unit.as_str()) && thresholds.get(one.level) == Some(one.old) {
                    thresholds = thresholds.with(one.level, one.new);
                    return true;
                }
                void.push(ThresholdAdjusted {
                    change: AdjustmentChange::Void,
                    version: one.version + 1,
                    at: now,
                    model_hash: model.hash.clone(),
                    void_because: Some(because(one, unit, &thresholds)),
                    ..one.clone()
                });
                self.touched.insert(key.clone());
                false
            });
        }
        self.all.retain(|_, all| !all.is_empty());
        void
    }

    /// Writes what changed since the last time.
    ///
    /// # Errors
    /// Those of the checkpoint.
    pub fn write(&mut self, state: &mut dyn KeyedState) -> anyhow::Result<()> {
        for name in std::mem::take(&mut self.touched) {
            match self.all.get(&name) {
                Some(all) => state.put(&key(&name), &serde_json::to_vec(all)?)?,
                None => state.remove(&key(&name))?,
            }
        }
        Ok(())
    }

    /// Reads them back.
    ///
    /// # Errors
    /// Those of the checkpoint; damage.
    pub fn read(&mut self, state: &dyn KeyedState) -> anyhow::Result<()> {
        state.scan(b"a", &mut |_, value| {
            let all: Vec<ThresholdAdjusted> = serde_json::from_slice(value)?;
            if let Some(first) = all.first() {
                self.all.insert((first.req_id.clone(), first.measure.clone()), all);
            }
            Ok(())
        })
    }
}

/// Why it is void, in words.
fn because(one: &ThresholdAdjusted, unit: Option<&str>, thresholds: &Thresholds) -> String {
    let Some(unit) = unit else {
        return format!("the model has no {} of {} any more", one.measure, one.req_id);
    };
    match thresholds.get(one.level) {
        None => "the model does not state this threshold any more".to_owned(),
        Some(stated) if unit != one.unit => format!("the model states {stated} {unit}: another unit"),
        Some(stated) if stated == one.new => format!("the model states {stated} {unit} itself"),
        Some(stated) => {
            format!("it changes {} {unit}, and without it {stated} {unit} would hold", one.old)
        }
    }
}

impl Fold {
    /// The adjustment that a decision asks for; none when it makes no sense under the model that holds.
    pub(super) fn adjust(&mut self, offset: Offset, decision: &Decision) -> Option<ThresholdAdjusted> {
        let of = |key: &str| decision.subject.get(key).map(String::as_str);
        let (req, measure, level) = (of("req")?, of("measure")?, level_of(of("level")?).ok()?);
        let effective_date = match of("effective_date") {
            Some(text) => Timestamp::parse(text).ok()?.max(self.now),
            None => self.now,
        };
        let ruled = self.ruled.as_ref()?;
        let mut expected = ruled.model.requirements.get(req)?.expectations.get(measure)?.clone();
        if let Some((last, adjusted)) = self.adjustments.versions(req, &expected).pop() {
            // One after another, so that each names the number that it changes.
            if last > effective_date {
                return None;
            }
            expected = adjusted;
        }
        let threshold = threshold_of(&expected);
        let (old, new) = proposed(&threshold, level, of("value")?.parse().ok()?, of("unit")).ok()?;
        if self.adjustments.len() >= ADJUSTMENTS_MAX {
            return None;
        }
        let adjusted = ThresholdAdjusted {
            id: adjustment_id(offset, self.now),
            update_id: self.adjustments.days.next("HM", self.now),
            version: 1,
            change: AdjustmentChange::Approved,
            at: self.now,
            approved_at: self.now,
            req_id: req.to_owned(),
            measure: measure.to_owned(),
            level,
            old,
            new,
            unit: threshold.unit,
            reason: of("reason").unwrap_or_default().to_owned(),
            approved_by: decision.author.clone(),
            effective_date,
            model_hash: ruled.model.hash.clone(),
            void_because: None,
        };
        self.adjustments.add(adjusted.clone());
        self.judge_by_adjustments();
        Some(adjusted)
    }

    /// From here on the measures are judged by what people adjusted, each window by what holds at its end.
    pub(super) fn judge_by_adjustments(&mut self) {
        if let Some(ruled) = &mut self.ruled {
            ruled.adjust(&self.adjustments);
        }
    }
}
