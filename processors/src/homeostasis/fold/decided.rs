//! What people decide: they acknowledge deviations, make and end silences, and adjust thresholds ([`super::adjust`]).
//!
//! A decision that fits nothing (another was faster, the silence is over) changes nothing and is told nothing; who decided hears
//! it from the listener that took the decision, which knows what the ledger says.

use std::sync::Arc;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::entry::{self, Offset};
use homeostat_pipeline::finding::{Acknowledgement, Deviation, Finding, Silence, SilenceChange, silence_id};

use super::super::matcher::Matcher;
use super::Fold;
use super::epoch::judged_of;
use super::reading::Reading;
use super::record::Scene;
use super::subject::Identity;
use super::window::Span;

impl Fold {
    pub(super) fn decision(&mut self, offset: Offset, decision: &entry::Decision, out: &mut Vec<Finding>) {
        let of = |key: &str| decision.subject.get(key).map_or("", String::as_str);
        match decision.kind.as_str() {
            entry::Decision::ACKNOWLEDGE => {
                let seen = Acknowledgement {
                    author: decision.author.clone(),
                    comment: of("comment").to_owned(),
                    at: self.now,
                };
                out.extend(self.acknowledge(of("deviation"), &seen));
            }
            entry::Decision::SILENCE => {
                let silence = self.silence_of(offset, decision);
                out.extend(silence.and_then(|silence| self.silences.add(silence)).map(Finding::Silence));
            }
            entry::Decision::SILENCE_EXPIRE => {
                let ended = self.silences.expire(of("id"), Some(&decision.author), self.now);
                out.extend(ended.map(Finding::Silence));
            }
            entry::Decision::ADJUST_THRESHOLD => {
                out.extend(self.adjust(offset, decision).map(Finding::Threshold));
            }
            // Of another analyzer, or of a later version.
            _ => {}
        }
    }

    /// The silence that a decision asks for; none when it makes no sense.
    fn silence_of(&self, offset: Offset, decision: &entry::Decision) -> Option<Silence> {
        let of = |key: &str| decision.subject.get(key);
        let matchers = Matcher::parse_all(of("matchers")?).ok()?;
        let starts_at = match of("starts_at") {
            Some(text) => Timestamp::parse(text).ok()?.max(self.now),
            None => self.now,
        };
        let ends_at = Timestamp::parse(of("ends_at")?).ok()?;
        (ends_at > starts_at).then(|| Silence {
            id: silence_id(offset, self.now),
            version: 1,
            change: SilenceChange::Created,
            at: self.now,
            matchers: matchers.iter().map(ToString::to_string).collect(),
            starts_at,
            ends_at,
            author: decision.author.clone(),
            comment: of("comment").cloned().unwrap_or_default(),
            expired_by: None,
        })
    }

    /// Acknowledges the live deviation that `name` is the uid or the id of.
    fn acknowledge(&mut self, name: &str, seen: &Acknowledgement) -> Option<Finding> {
        let ruled = self.ruled.as_ref()?;
        let found = self.subjects.watched().into_iter().find_map(|number| {
            let episodes = &self.subjects.get(number)?.episodes;
            let measure = episodes.iter().find(|(_, episode)| episode.is_live() && episode.is_named(name));
            measure.map(|(measure, _)| (number, measure.to_owned()))
        });
        let (number, measure) = found?;
        let subject = self.subjects.get_mut(number)?;
        let identity = Arc::clone(&subject.identity);
        let Identity::Requirement { req, labels } = &*identity else { return None };
        let judged = judged_of(ruled, &identity, &measure)?;
        let mut scene = Scene {
            at: self.now,
            now: self.now,
            span: Span { start: self.now, end: self.now },
            tenant: &self.settings.tenant,
            model_hash: &ruled.model.hash,
            defaults: &ruled.model.defaults,
            requirement: ruled.model.requirements.get(req)?,
            judged,
            reading: &Reading::default(),
            provenance: &|| None,
            window_kind: judged.window_kind(&ruled.model.defaults.window),
            labels,
            rule: None,
            hushed_by: None,
            acknowledgement: Some(seen),
            started_at: self.now,
            days: &mut self.days,
            silences: &self.silences,
            inhibition: &self.inhibition,
            hushes: Vec::new(),
        };
        let mut told: Vec<Deviation> = Vec::new();
        subject.episodes.get_mut(&measure)?.acknowledge(&mut scene, &mut told);
        told.pop().map(|deviation| Finding::Deviation(Box::new(deviation)))
    }
}
