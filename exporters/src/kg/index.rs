//! Which graphs there are, and which may go: the last behaviors of each node, and those that a deviation cites.
//!
//! A pure fold: what it answers depends on the findings it has seen and on nothing else, and a finding seen before changes
//! nothing. For that it remembers, per node, the latest behavior that ever went (`gone`): an older one does not come back.

use std::collections::{BTreeMap, BTreeSet};

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{Behavior, Deviation, Finding, ModelChanged};
use oxigraph::model::NamedNode;

use super::describe::{self, Aggregate, behavior_graph, cited, spec_graph};
use super::vocabulary::Namespaces;

/// What to do to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Replace this graph.
    Put(Aggregate),
    /// Remove this graph.
    Drop(NamedNode),
}

/// How the graph is shaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The namespaces.
    pub namespaces: Namespaces,
    /// How many behaviors stay for each spec node, beside those that a deviation cites.
    pub behaviors_per_node: usize,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape { namespaces: Namespaces::default(), behaviors_per_node: 12 }
    }
}

/// Orders the behaviors of a node: start of the window, uid.
type Key = (Timestamp, String);

#[derive(Debug, Default)]
struct Node {
    /// With their versions.
    kept: BTreeMap<Key, u32>,
    gone: Option<Key>,
}

#[derive(Debug)]
struct Known {
    version: u32,
    cites: Vec<String>,
    spec_node: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    shape: Shape,
    nodes: BTreeMap<String, Node>,
    deviations: BTreeMap<String, Known>,
    /// Behavior uid → deviations that cite it.
    citations: BTreeMap<String, BTreeSet<String>>,
    /// Model hashes that deviations name.
    models_cited: BTreeSet<String>,
    /// The model that holds, and since when.
    model: Option<(Timestamp, String)>,
}

impl Index {
    pub fn new(shape: Shape) -> Index {
        Index { shape, ..Index::default() }
    }

    /// What `finding` does to the store.
    pub fn apply(&mut self, finding: &Finding) -> Vec<Act> {
        let mut acts = Vec::new();
        match finding {
            Finding::Behaviors { behaviors } => {
                for behavior in behaviors {
                    self.behavior(behavior, &mut acts);
                }
            }
            Finding::Deviation(deviation) => self.deviation(deviation, &mut acts),
            Finding::Model(model) => self.model(model, &mut acts),
            Finding::Threshold(adjusted) => {
                acts.push(Act::Put(describe::adjustment(adjusted, &self.shape.namespaces)));
            }
            // The trail keeps who silenced what; the graph holds what the system did.
            Finding::Silence(_) | Finding::Notice(_) => {}
        }
        acts
    }

    fn behavior(&mut self, behavior: &Behavior, acts: &mut Vec<Act>) {
        let node = self.nodes.entry(behavior.spec_node_id.clone()).or_default();
        let key = (behavior.window_start, behavior.uid.clone());
        match node.kept.get(&key) {
            Some(version) if *version >= behavior.version => return,
            Some(_) => {}
            None if node.gone.as_ref().is_some_and(|gone| key <= *gone) => return,
            None => {}
        }
        node.kept.insert(key, behavior.version);
        acts.push(Act::Put(describe::behavior(behavior, &self.shape.namespaces)));
        self.retain(&behavior.spec_node_id, acts);
    }

    /// Drops what is neither among the last of its node nor cited.
    fn retain(&mut self, spec_node: &str, acts: &mut Vec<Act>) {
        let Some(node) = self.nodes.get_mut(spec_node) else { return };
        let surplus = node.kept.len().saturating_sub(self.shape.behaviors_per_node);
        let old: Vec<Key> = node
            .kept
            .keys()
            .take(surplus)
            .filter(|(_, uid)| !self.citations.contains_key(uid))
            .cloned()
            .collect();
        for key in old {
            let graph = behavior_graph(&key.1);
            node.kept.remove(&key);
            node.gone = node.gone.take().max(Some(key));
            acts.push(Act::Drop(graph));
        }
    }

    fn deviation(&mut self, deviation: &Deviation, acts: &mut Vec<Act>) {
        let uid = &deviation.uid;
        if self.deviations.get(uid).is_some_and(|known| known.version >= deviation.version) {
            return;
        }
        acts.push(Act::Put(describe::deviation(deviation, &self.shape.namespaces)));
        self.models_cited.insert(deviation.rule.model_hash.clone());
        let cites = cited(deviation);
        for behavior in &cites {
            self.citations.entry(behavior.clone()).or_default().insert(uid.clone());
        }
        let known = Known {
            version: deviation.version,
            cites: cites.clone(),
            spec_node: deviation.spec_node_id.clone(),
        };
        let Some(before) = self.deviations.insert(uid.clone(), known) else { return };
        for behavior in before.cites.iter().filter(|behavior| !cites.contains(behavior)) {
            if let Some(citing) = self.citations.get_mut(behavior) {
                citing.remove(uid);
                if citing.is_empty() {
                    self.citations.remove(behavior);
                }
            }
        }
        if let Some(spec_node) = before.spec_node {
            self.retain(&spec_node, acts);
        }
    }

    fn model(&mut self, model: &ModelChanged, acts: &mut Vec<Act>) {
        if self.model.as_ref().is_some_and(|(since, _)| *since >= model.at) {
            return;
        }
        acts.push(Act::Put(describe::model(model, &self.shape.namespaces)));
        let before = self.model.replace((model.at, model.model_hash.clone()));
        if let Some((_, hash)) = before
            && hash != model.model_hash
            && !self.models_cited.contains(&hash)
        {
            acts.push(Act::Drop(spec_graph(&hash)));
        }
    }
}
