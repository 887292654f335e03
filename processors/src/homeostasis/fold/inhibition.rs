//! Which rules fire that others are inhibited by, and of whom: what they inhibit is kept quiet.
//!
//! No state, but what the episodes say, arranged so that one question costs no walk over all subjects. Judgements are taken in an
//! order in which what inhibits comes first, so within one tick the answer is that of the same window.

use std::collections::{BTreeMap, BTreeSet};

use super::super::model::{Inhibitor, Rule};
use super::episode::Episode;
use super::ruled::{Judged, Ruled};
use super::subject::{Identity, Subjects};

/// The subjects for which a rule fires, as the rules that group by certain labels see them.
#[derive(Debug, Default)]
struct Lane {
    /// The labels that both group by.
    shared: Vec<String>,
    /// Their values → subjects.
    firing: BTreeMap<Vec<String>, BTreeSet<u64>>,
}

/// The labels that the inhibited rules group by → what they see.
type Lanes = BTreeMap<Vec<String>, Lane>;

/// Requirement → rule → what the rules see that it inhibits. Only rules that inhibit.
#[derive(Debug, Default)]
pub struct Inhibition(BTreeMap<String, BTreeMap<String, Lanes>>);

fn values(shared: &[String], labels: &BTreeMap<String, String>) -> Vec<String> {
    shared.iter().map(|name| labels.get(name).cloned().unwrap_or_default()).collect()
}

impl Inhibition {
    /// As the episodes of all subjects say.
    pub fn new(ruled: &Ruled, subjects: &Subjects) -> Inhibition {
        let mut all: BTreeMap<String, BTreeMap<String, Lanes>> = BTreeMap::new();
        let requirements = &ruled.model.requirements;
        for rule in requirements.values().flat_map(|requirement| &requirement.rules) {
            for by in &rule.inhibited_by {
                let cause = requirements.get(&by.req).map(|cause| &cause.rules);
                let Some(cause) = cause.and_then(|all| all.iter().find(|known| known.id == by.rule)) else {
                    continue;
                };
                let shared = rule.group_by.iter().filter(|label| cause.group_by.contains(label));
                let lane = Lane { shared: shared.cloned().collect(), firing: BTreeMap::new() };
                let lanes = all.entry(by.req.clone()).or_default().entry(by.rule.clone()).or_default();
                lanes.insert(rule.group_by.clone(), lane);
            }
        }
        let mut inhibition = Inhibition(all);
        if !inhibition.0.is_empty() {
            for number in subjects.watched() {
                let Some(subject) = subjects.get(number) else { continue };
                let Identity::Requirement { req, labels } = &*subject.identity else { continue };
                if let Some(group) = ruled.group(req, labels.keys()) {
                    for judged in &group.measures {
                        let episode = subject.episodes.get(&judged.expected.measure.name);
                        inhibition.note(number, (req, labels), judged, episode);
                    }
                }
            }
        }
        inhibition
    }

    /// An episode took a step, or is not there any more.
    pub fn note(
        &mut self,
        subject: u64,
        (req, labels): (&str, &BTreeMap<String, String>),
        judged: &Judged,
        episode: Option<&Episode>,
    ) {
        let Some(rules) = self.0.get_mut(req) else { return };
        for rule in &judged.rules {
            let Some(lanes) = rules.get_mut(&rule.id) else { continue };
            let fires = episode.is_some_and(|episode| episode.fires(&rule.id));
            for lane in lanes.values_mut() {
                let values = values(&lane.shared, labels);
                if fires {
                    lane.firing.entry(values).or_default().insert(subject);
                } else if let Some(firing) = lane.firing.get_mut(&values) {
                    firing.remove(&subject);
                    if firing.is_empty() {
                        lane.firing.remove(&values);
                    }
                }
            }
        }
    }

    /// Whether `by`, of the rules that inhibit `rule`, fires for a subject whose labels agree with `labels` wherever both have one.
    pub fn fires(&self, by: &Inhibitor, rule: &Rule, labels: &BTreeMap<String, String>) -> bool {
        let lane = self.0.get(&by.req).and_then(|rules| rules.get(&by.rule)?.get(&rule.group_by));
        lane.is_some_and(|lane| lane.firing.contains_key(&values(&lane.shared, labels)))
    }
}
