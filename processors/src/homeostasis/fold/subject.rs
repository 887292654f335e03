//! Subjects: what measures are about (a requirement and its group labels) and what behaviors are about (a spec node). Each has a
//! number, given in the order of first appearance and never again, by which panes name it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;
use serde::{Deserialize, Serialize};

use super::episode::Episode;
use super::epoch::judged_of;
use super::few::Few;
use super::long::{Long, Sums};
use super::ruled::{Group, Judged, Ruled};

/// What the fold calls a label of the subject that takes what is over the limit.
const OVERFLOW: &str = "other";

/// Who it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// Judged by the rules of the requirement that group by these labels.
    Requirement {
        /// The canonical key.
        req: String,
        /// The group labels; a label that the telemetry lacks is empty.
        labels: BTreeMap<String, String>,
    },
    /// Summarised as a behavior.
    Node {
        /// `sea:{context}:{flow}`.
        node: String,
        /// `sea.context`.
        context: String,
        /// `sea.flow`.
        flow: String,
    },
}

/// One subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// Measure → its episode.
    pub episodes: Few<Episode>,
    /// Measure → what is remembered beyond its panes; only where a rule needs it.
    #[serde(default, skip_serializing_if = "Few::is_empty")]
    pub long: Few<Long>,
    /// Whether it was told that nothing comes of it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_silent: bool,
    /// How many panes name it.
    #[serde(skip)]
    pub panes: u32,
    /// Whether it differs from its checkpoint.
    #[serde(skip)]
    pub is_touched: bool,
    /// Whether the checkpoint holds it.
    #[serde(skip)]
    pub is_stored: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Subjects {
    by_identity: BTreeMap<Arc<Identity>, u64>,
    all: BTreeMap<u64, Subject>,
    /// How many of them are nodes.
    nodes: usize,
    /// Those with an episode that the passing of time can move.
    watched: BTreeSet<u64>,
    /// Those of which a rule asks whether something is missing: they are judged without data too.
    awaited: BTreeSet<u64>,
    /// The next number.
    pub next: u64,
    /// Whether the limit was reached under the model that holds.
    pub is_overflowed: bool,
    /// Another whenever a subject goes or the model changes.
    pub generation: u64,
    removed: Vec<u64>,
    /// Requirement → labels of those of which nothing comes any more, since somebody last took them.
    silent: BTreeMap<String, BTreeSet<BTreeMap<String, String>>>,
}

impl Subjects {
    /// The number of a subject, made when it is new. Past `max` subjects a requirement's labels become `other`, and a node gets
    /// no number.
    pub fn intern(&mut self, identity: Identity, max: usize) -> Option<u64> {
        if let Some(number) = self.by_identity.get(&identity) {
            return Some(*number);
        }
        // Names of flows are as many as senders make up; they leave half of the room to the labels of requirements.
        let is_full = matches!(identity, Identity::Node { .. }) && self.nodes >= max.div_ceil(2);
        if self.all.len() < max && !is_full {
            return Some(self.insert(identity));
        }
        match identity {
            // Subjects without labels are as many as the model has requirements: they always have room.
            Identity::Requirement { ref labels, .. } if labels.is_empty() => Some(self.insert(identity)),
            Identity::Requirement { req, labels } => {
                self.is_overflowed = true;
                let labels = labels.into_keys().map(|name| (name, OVERFLOW.to_owned())).collect();
                let other = Identity::Requirement { req, labels };
                let known = self.by_identity.get(&other).copied();
                Some(known.unwrap_or_else(|| self.insert(other)))
            }
            Identity::Node { .. } => {
                self.is_overflowed = true;
                None
            }
        }
    }

    fn insert(&mut self, identity: Identity) -> u64 {
        let number = self.next;
        self.next += 1;
        let subject = Subject {
            identity: Arc::new(identity),
            episodes: Few::default(),
            long: Few::default(),
            is_silent: false,
            panes: 0,
            is_touched: true,
            is_stored: false,
        };
        self.put(number, subject);
        number
    }

    /// Takes a subject back from a checkpoint.
    pub fn put(&mut self, number: u64, subject: Subject) {
        self.nodes += usize::from(matches!(*subject.identity, Identity::Node { .. }));
        self.by_identity.insert(Arc::clone(&subject.identity), number);
        self.all.insert(number, subject);
        self.watch(number);
    }

    /// Whether it stands for those over the limit.
    pub fn is_overflow(&self, number: u64) -> bool {
        self.all.get(&number).is_some_and(|subject| match &*subject.identity {
            Identity::Requirement { labels, .. } => {
                !labels.is_empty() && labels.values().all(|label| label == OVERFLOW)
            }
            Identity::Node { .. } => false,
        })
    }

    /// The subject of a number.
    pub fn get(&self, number: u64) -> Option<&Subject> {
        self.all.get(&number)
    }

    /// The same, to be changed; it is written with the next checkpoint.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut Subject> {
        let subject = self.all.get_mut(&number)?;
        subject.is_touched = true;
        Some(subject)
    }

    /// A pane names it.
    pub fn hold(&mut self, number: u64) {
        if let Some(subject) = self.all.get_mut(&number) {
            subject.panes += 1;
        }
    }

    /// A pane that named it is gone: so is the subject, when it holds no episode.
    pub fn release(&mut self, number: u64) {
        let Some(subject) = self.all.get_mut(&number) else { return };
        subject.panes = subject.panes.saturating_sub(1);
        if self.is_idle(number) {
            self.remove(number);
        }
    }

    /// Whether neither pane nor episode nor memory needs it.
    fn is_idle(&self, number: u64) -> bool {
        let is_needed = self.watched.contains(&number) || self.awaited.contains(&number);
        !is_needed
            && self.all.get(&number).is_some_and(|subject| subject.panes == 0 && subject.long.is_empty())
    }

    /// A rule needs more of it than panes: that is remembered from `now` on.
    pub fn remember(&mut self, number: u64, group: &Group, now: Timestamp) {
        let Some(subject) = self.all.get_mut(&number) else { return };
        for judged in group.measures.iter().filter(|judged| judged.is_remembered()) {
            let name = &judged.expected.measure.name;
            if !subject.long.contains_key(name) {
                subject.long.insert(name, Long::new(now));
                subject.is_touched = true;
            }
        }
        if group.awaits() {
            self.awaited.insert(number);
        }
    }

    /// Under another model: what its rules need is remembered from `now` on, what they do not need is forgotten.
    pub fn remember_all(&mut self, ruled: &Ruled, now: Timestamp, max: usize) {
        for (req, groups) in &ruled.groups {
            // What never reported is missing too, where the model says who that is.
            if groups.iter().any(|group| group.labels.is_empty() && group.awaits()) {
                self.intern(Identity::Requirement { req: req.clone(), labels: BTreeMap::new() }, max);
            }
        }
        self.awaited.clear();
        let numbers: Vec<u64> = self.all.keys().copied().collect();
        for number in numbers {
            let Some(subject) = self.all.get_mut(&number) else { continue };
            let group = ruled.group_of(&subject.identity);
            let remembered = |name: &str| {
                let measures = group.map_or(&[][..], |group| &group.measures);
                measures.iter().any(|judged| judged.expected.measure.name == name && judged.is_remembered())
            };
            let before = subject.long.len();
            subject.long.retain(|name, _| remembered(name));
            subject.is_touched |= subject.long.len() != before;
            if let Some(group) = group {
                self.remember(number, group, now);
            }
            self.settle(number);
        }
    }

    /// From a checkpoint: who was awaited is who is remembered, and nobody becomes it by a restart.
    pub fn await_restored(&mut self, ruled: &Ruled) {
        let awaited = self.all.iter().filter(|(_, subject)| {
            !subject.long.is_empty() && ruled.group_of(&subject.identity).is_some_and(Group::awaits)
        });
        self.awaited = awaited.map(|(number, _)| *number).collect();
    }

    /// Takes in what a pane that goes adds to longer windows.
    pub fn remember_pane(&mut self, ruled: &Ruled, number: u64, start: Timestamp, sums: &[(String, Sums)]) {
        if sums.is_empty() {
            return;
        }
        let Some(subject) = self.all.get_mut(&number) else { return };
        for (measure, sums) in sums {
            let bucket = judged_of(ruled, &subject.identity, measure).and_then(Judged::bucket);
            if let (Some(bucket), Some(long)) = (bucket, subject.long.get_mut(measure)) {
                long.settle(start, sums, bucket);
                subject.is_touched = true;
            }
        }
    }

    /// The numbers of those that have panes, ascending.
    pub fn with_panes(&self) -> impl Iterator<Item = u64> {
        self.all.iter().filter(|(_, subject)| subject.panes > 0).map(|(number, _)| *number)
    }

    /// The numbers of those of which a rule asks whether something is missing, ascending.
    pub fn awaited(&self) -> impl Iterator<Item = u64> {
        self.awaited.iter().copied()
    }

    /// Whether there is anyone of whom a rule asks whether something is missing.
    pub fn awaits(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Forgets what no window reaches any more, and those with labels of whom nothing was seen for as long as a rule waits for
    /// them, and as an ended episode matters beyond that.
    pub fn forget(&mut self, now: Timestamp, ruled: &Ruled) {
        let memory = ruled.memory();
        let numbers: Vec<u64> =
            self.all.iter().filter(|(_, one)| !one.long.is_empty()).map(|(at, _)| *at).collect();
        for number in numbers {
            let Some(subject) = self.all.get_mut(&number) else { continue };
            let is_live = subject.episodes.values().any(Episode::is_live);
            let has_labels =
                matches!(&*subject.identity, Identity::Requirement { labels, .. } if !labels.is_empty());
            let waits = ruled.group_of(&subject.identity).map_or(Duration::ZERO, Group::waits);
            let mut is_idle = has_labels && !is_live && subject.panes == 0;
            for long in subject.long.values_mut() {
                long.forget(now);
                is_idle &= long.is_empty() && long.seen.unwrap_or(long.since) + waits + memory < now;
            }
            if is_idle {
                subject.long.clear();
                subject.is_touched = true;
                self.awaited.remove(&number);
                // A path that leads to it is to be worked out again, and to make it remembered again.
                self.generation += 1;
                self.settle(number);
            }
        }
    }

    /// After its episodes changed: whether time can move it from now on.
    pub fn watch(&mut self, number: u64) {
        let is_watched =
            self.all.get(&number).is_some_and(|subject| subject.episodes.values().any(Episode::is_kept));
        if is_watched {
            self.watched.insert(number);
        } else {
            self.watched.remove(&number);
        }
    }

    /// The same, and forgets it when neither pane nor episode needs it.
    pub fn settle(&mut self, number: u64) {
        self.watch(number);
        if self.is_idle(number) {
            self.remove(number);
        }
    }

    /// The numbers of those that time can move, ascending.
    pub fn watched(&self) -> Vec<u64> {
        self.watched.iter().copied().collect()
    }

    /// Forgets it.
    pub fn remove(&mut self, number: u64) {
        if let Some(subject) = self.all.remove(&number) {
            self.nodes -= usize::from(matches!(*subject.identity, Identity::Node { .. }));
            self.by_identity.remove(&subject.identity);
            self.watched.remove(&number);
            self.awaited.remove(&number);
            self.generation += 1;
            if !subject.is_silent {
                self.silent_one(&subject.identity);
            }
            if subject.is_stored {
                self.removed.push(number);
            }
        }
    }

    /// Nothing comes of it any more.
    pub fn fall_silent(&mut self, number: u64) {
        let Some(subject) = self.get_mut(number).filter(|subject| !subject.is_silent) else { return };
        subject.is_silent = true;
        let identity = Arc::clone(&subject.identity);
        self.silent_one(&identity);
    }

    fn silent_one(&mut self, identity: &Identity) {
        if let Identity::Requirement { req, labels } = identity {
            self.silent.entry(req.clone()).or_default().insert(labels.clone());
        }
    }

    /// Requirement → labels of those that fell silent or were forgotten since the last call.
    pub fn take_silent(&mut self) -> BTreeMap<String, BTreeSet<BTreeMap<String, String>>> {
        std::mem::take(&mut self.silent)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Deviations that are open or recovering.
    pub fn live(&self) -> usize {
        let episodes = self.watched.iter().filter_map(|number| self.all.get(number));
        episodes.flat_map(|subject| subject.episodes.values()).filter(|episode| episode.is_live()).count()
    }

    /// What changed since the last call: subjects to write, and numbers to remove.
    pub fn take_touched(&mut self) -> (Vec<(u64, &Subject)>, Vec<u64>) {
        let removed = std::mem::take(&mut self.removed);
        let mut touched = Vec::new();
        for (number, subject) in &mut self.all {
            if subject.is_touched {
                subject.is_touched = false;
                subject.is_stored = true;
                touched.push((*number, &*subject));
            }
        }
        (touched, removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(req: &str, service: Option<&str>) -> Identity {
        let labels = service.map(|name| ("service.name".to_owned(), name.to_owned()));
        Identity::Requirement { req: req.to_owned(), labels: labels.into_iter().collect() }
    }

    fn node(node: &str) -> Identity {
        Identity::Node { node: node.to_owned(), context: String::new(), flow: String::new() }
    }

    #[test]
    fn past_the_limit_labels_become_other_and_subjects_without_labels_still_have_room() {
        let mut subjects = Subjects::default();
        assert_eq!(subjects.intern(of("A", Some("x")), 2), Some(0));
        assert_eq!(subjects.intern(node("sea:a:B"), 2), Some(1));
        assert!(!subjects.is_overflowed);
        assert_eq!(subjects.intern(of("A", Some("y")), 2), Some(2));
        assert_eq!(subjects.intern(of("A", Some("z")), 2), Some(2), "one for all that is over the limit");
        assert_eq!(subjects.intern(of("A", Some("x")), 2), Some(0));
        assert_eq!(subjects.intern(node("sea:a:C"), 2), None);
        assert_eq!(subjects.intern(of("B", None), 2), Some(3));
        assert!(subjects.is_overflowed);
    }

    #[test]
    fn nodes_leave_half_of_the_room_to_requirements() {
        let mut subjects = Subjects::default();
        let given = (0..9).filter_map(|number| subjects.intern(node(&format!("sea:a:{number}")), 6)).count();
        assert_eq!(given, 3);
        assert_eq!(subjects.intern(of("A", Some("x")), 6), Some(3));
        assert_eq!(subjects.intern(node("sea:a:0"), 6), Some(0), "what is known stays known");
        subjects.remove(0);
        assert_eq!(subjects.intern(node("sea:a:9"), 6), Some(4), "what goes leaves its room");
    }

    #[test]
    fn a_subject_goes_with_its_last_pane_and_its_number_never_comes_again() {
        let mut subjects = Subjects::default();
        let number = subjects.intern(node("sea:a:B"), 9).expect("there is room");
        subjects.hold(number);
        subjects.hold(number);
        subjects.release(number);
        assert_eq!(subjects.len(), 1);
        subjects.release(number);
        assert_eq!(subjects.len(), 0);
        assert_eq!(subjects.intern(node("sea:a:B"), 9), Some(1));
        assert!(subjects.take_touched().1.is_empty(), "it was never written");
        subjects.remove(1);
        assert_eq!(subjects.take_touched().1, [1]);
    }
}
