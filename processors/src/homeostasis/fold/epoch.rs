//! A new model: it holds from its entry on. Episodes stay where their rules stay, whatever becomes of windows and numbers.

use std::sync::Arc;

use homeostat_pipeline::entry::Epoch;
use homeostat_pipeline::finding::{Deviation, Finding, ModelChanged};
use homeostat_pipeline::settings::Problem;

use super::super::model::{Model, Sources};
use super::decide::Cause;
use super::inhibition::Inhibition;
use super::reading::Reading;
use super::record::Scene;
use super::route;
use super::ruled::{Judged, Ruled};
use super::subject::Identity;
use super::window::Span;
use super::{Fold, FoldSettings};

/// The model that an epoch carries.
///
/// # Errors
/// Its text is no model: another version of homeostat wrote it.
pub fn read(settings: &FoldSettings, epoch: &Epoch) -> Result<Ruled, Vec<Problem>> {
    let (model, _) = Sources::of_content(&settings.id, &epoch.content).read(settings.parse)?;
    Ok(Ruled::new(Model { hash: epoch.hash.clone(), ..model }))
}

/// The rules that judge `measure` of a subject, if the model has any.
pub fn judged_of<'a>(ruled: &'a Ruled, identity: &Identity, measure: &str) -> Option<&'a Judged> {
    let measures = &ruled.group_of(identity)?.measures;
    measures.iter().find(|judged| judged.expected.measure.name == measure)
}

impl Fold {
    pub(super) fn change_model(&mut self, epoch: &Epoch, out: &mut Vec<Finding>) {
        if self.epoch.as_ref().is_some_and(|known| known.hash == epoch.hash) {
            return;
        }
        let ruled = match read(&self.settings, epoch) {
            Ok(ruled) => ruled,
            Err(problems) => {
                let first = problems.iter().find(|problem| !problem.is_warning);
                let reason = first.map_or_else(String::new, ToString::to_string);
                tracing::error!(%reason, "the journalled model cannot be read; the one before holds on");
                out.push(self.notice("model_unreadable", reason));
                return;
            }
        };
        out.push(Finding::Model(ModelChanged {
            model_hash: epoch.hash.clone(),
            version: ruled.model.version.clone(),
            at: self.now,
            previous_hash: self.epoch.as_ref().map(|known| known.hash.clone()),
            requirements: ruled.model.summary(),
        }));
        let before = self.ruled.replace(ruled);
        self.epoch = Some(epoch.clone());
        self.epoch_is_touched = true;
        self.subjects.is_overflowed = false;
        self.subjects.generation += 1;
        self.overflow_told = false;
        self.sliders.clear();
        route::vacate(&mut self.slots, &self.windows);
        if let Some(ruled) = &self.ruled {
            self.subjects.remember_all(ruled, self.now, self.settings.subjects_max);
        }
        if let Some(before) = before {
            self.end_without_rules(&before, out);
        }
        if let Some(ruled) = &self.ruled {
            let void = self.adjustments.compare(&ruled.model, self.now);
            out.extend(void.into_iter().map(Finding::Threshold));
        }
        self.judge_by_adjustments();
        if let Some(ruled) = &self.ruled {
            self.inhibition = Inhibition::new(ruled, &self.subjects);
        }
        // What another model forgets did not fall silent.
        self.subjects.take_silent();
    }

    /// Expires live episodes whose rule is gone, and forgets those that no rule judges any more.
    fn end_without_rules(&mut self, before: &Ruled, out: &mut Vec<Finding>) {
        let mut ended: Vec<Deviation> = Vec::new();
        for number in self.subjects.watched() {
            let (Some(ruled), Some(subject)) = (&self.ruled, self.subjects.get_mut(number)) else { continue };
            let identity = Arc::clone(&subject.identity);
            let Identity::Requirement { req, labels } = &*identity else { continue };
            subject.episodes.retain(|measure, episode| {
                let after = judged_of(ruled, &identity, measure);
                let is_over = after.is_none_or(|judged| episode.loses_its_rule(&judged.rules));
                if let Some(judged) = after {
                    episode.keep_rules(&judged.rules);
                }
                if !is_over {
                    return true;
                }
                if let (Some(judged), Some(requirement)) =
                    (judged_of(before, &identity, measure), before.model.requirements.get(req))
                {
                    let mut scene = Scene {
                        at: self.now,
                        now: self.now,
                        span: Span { start: self.now, end: self.now },
                        tenant: &self.settings.tenant,
                        model_hash: &before.model.hash,
                        defaults: &before.model.defaults,
                        requirement,
                        judged,
                        reading: &Reading::default(),
                        provenance: &|| None,
                        window_kind: judged.window_kind(&before.model.defaults.window),
                        labels,
                        rule: None,
                        hushed_by: None,
                        acknowledgement: None,
                        started_at: self.now,
                        days: &mut self.days,
                        silences: &self.silences,
                        inhibition: &self.inhibition,
                        hushes: Vec::new(),
                    };
                    episode.end(Cause::RuleGone, &mut scene, &mut ended);
                }
                after.is_some()
            });
            self.subjects.settle(number);
        }
        ended.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
        out.extend(ended.into_iter().map(|deviation| Finding::Deviation(Box::new(deviation))));
    }
}
