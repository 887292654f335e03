//! What differs between the configuration that runs and another one: a pure function, so that a reload knows before it touches
//! anything what it has to open, what it can leave alone, and what it cannot do.

use std::collections::BTreeMap;
use std::fmt;

use homeostat_config::Named;
use homeostat_pipeline::registry::{Role, Settings};
use homeostat_pipeline::settings::{Node, Position, Problem, Value};

use crate::assemble::{analyzer_ids, interest, used};
use crate::configuration::Configuration;

/// Keys of `service` that can change while it runs.
const CHANGEABLE: [&str; 4] = ["pipelines", "extensions", "memory_mib", "shutdown"];

/// What became of one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not in use before.
    Added,
    /// Its settings, a file that they name, or an extension that they name is another.
    Changed,
    /// It is no longer in use.
    Removed,
}

/// Component id → what became of it; what stays as it is is not there.
pub type ById = BTreeMap<String, Change>;

/// Everything that differs.
#[derive(Debug, Default)]
pub struct Changes {
    /// What cannot change while it runs, each with its place and what it needs.
    pub restart: Vec<Problem>,
    /// Extensions in use.
    pub extensions: ById,
    /// Receivers in use.
    pub receivers: ById,
    /// Pure processors in use.
    pub processors: ById,
    /// Exporters in use.
    pub exporters: ById,
    /// Analyzers whose model may be another.
    pub models: Vec<String>,
    /// Keys of `service` whose new values are taken over.
    pub service: Vec<String>,
}

impl Changes {
    /// Whether both configurations say the same.
    pub fn is_empty(&self) -> bool {
        let Changes { restart, extensions, receivers, processors, exporters, models, service } = self;
        let by_id = [extensions, receivers, processors, exporters];
        restart.is_empty()
            && by_id.iter().all(|one| one.is_empty())
            && models.is_empty()
            && service.is_empty()
    }
}

impl fmt::Display for Changes {
    /// For the log: `changed otlp/backend, added nats, model homeostasis, service.pipelines`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_id = [&self.extensions, &self.receivers, &self.processors, &self.exporters];
        let mut words = Vec::new();
        for (id, change) in by_id.into_iter().flatten() {
            let word = match change {
                Change::Added => "added",
                Change::Changed => "changed",
                Change::Removed => "removed",
            };
            words.push(format!("{word} {id}"));
        }
        words.extend(self.models.iter().map(|id| format!("model of {id}")));
        words.extend(self.service.iter().map(|key| format!("service.{key}")));
        if words.is_empty() {
            words.push("nothing".to_owned());
        }
        f.write_str(&words.join(", "))
    }
}

/// What a reload from `old` to `new` means.
pub fn changes(old: &Configuration, new: &Configuration) -> Changes {
    let mut changes = Changes::default();
    service(old, new, &mut changes);
    analyzers(old, new, &mut changes);
    let enabled = |configuration: &'_ Configuration| {
        let ids = configuration.spec.service.extensions.iter();
        ids.map(|id| id.value.clone()).collect::<Vec<_>>()
    };
    changes.extensions =
        section((&old.spec.extensions, &enabled(old)), (&new.spec.extensions, &enabled(new)), &|_| false);
    let owned = |ids: Vec<&str>| ids.into_iter().map(str::to_owned).collect::<Vec<String>>();
    let is_other = |part: &dyn Settings| {
        let mut names = part.authenticators().into_iter().map(|(_, auth)| &auth.authenticator.value);
        names.any(|id| changes.extensions.contains_key(id)) || has_other_files(part, old, new)
    };
    let receivers = section(
        (&old.spec.receivers, &owned(used(old, |pipeline| &pipeline.receivers))),
        (&new.spec.receivers, &owned(used(new, |pipeline| &pipeline.receivers))),
        &|id| new.receivers.get(id).is_some_and(|part| is_other(part.as_ref())),
    );
    let exporters = section(
        (&old.spec.exporters, &owned(used(old, |pipeline| &pipeline.exporters))),
        (&new.spec.exporters, &owned(used(new, |pipeline| &pipeline.exporters))),
        &|id| new.exporters.get(id).is_some_and(|part| is_other(part.as_ref())),
    );
    let is_same_interest = match (interest(old), interest(new)) {
        (Ok(old), Ok(new)) => old == new,
        // What is wrong with a model was said when the configuration was read.
        (Err(_), _) | (_, Err(_)) => false,
    };
    let is_other_processor = |id: &str| {
        let part = new.processors.get(id);
        part.is_some_and(|part| part.uses_interest() && !is_same_interest || is_other(part.as_ref()))
    };
    let pure = |configuration: &Configuration| {
        let ids = used(configuration, |pipeline| &pipeline.processors);
        let analyzers = analyzer_ids(configuration);
        owned(ids.into_iter().filter(|id| !analyzers.contains(id)).collect())
    };
    let processors =
        section((&old.spec.processors, &pure(old)), (&new.spec.processors, &pure(new)), &is_other_processor);
    exclusive(old, new, &exporters, &mut changes.restart);
    Changes { receivers, processors, exporters, ..changes }
}

fn node<'a>(named: &'a [Named], id: &str) -> Option<&'a Node> {
    named.iter().find(|one| one.id == id).map(|one| &one.node)
}

fn section(old: (&[Named], &[String]), new: (&[Named], &[String]), is_other: &dyn Fn(&str) -> bool) -> ById {
    let mut by_id = ById::new();
    for id in new.1 {
        let is_same = match (node(old.0, id), node(new.0, id)) {
            (Some(old), Some(new)) => old.says_the_same(new),
            (None, _) | (_, None) => false,
        };
        if !old.1.contains(id) {
            by_id.insert(id.clone(), Change::Added);
        } else if !is_same || is_other(id) {
            by_id.insert(id.clone(), Change::Changed);
        }
    }
    by_id.extend(old.1.iter().filter(|id| !new.1.contains(id)).map(|id| (id.clone(), Change::Removed)));
    by_id
}

fn has_other_files(part: &dyn Settings, old: &Configuration, new: &Configuration) -> bool {
    part.files().iter().any(|path| old.contents.get(*path) != new.contents.get(*path))
}

/// Finds the place for a message: that of the key in `new`, else the node's.
fn place(node: &Node, key: &str) -> Position {
    node.get(key).unwrap_or(node).at.clone()
}

fn restart(at: &Position, key: &str) -> Problem {
    Problem::error(at, format!("`{key}` cannot change while homeostat runs and needs a restart"))
}

fn service(old: &Configuration, new: &Configuration, changes: &mut Changes) {
    let (before, after) = (&old.spec.service, &new.spec.service);
    for key in before.node.differences(&after.node) {
        if CHANGEABLE.contains(&key) {
            changes.service.push(key.to_owned());
            continue;
        }
        let nothing = Node { at: place(&after.node, key), value: Value::Null };
        let one = before.node.get(key).unwrap_or(&nothing);
        let two = after.node.get(key).unwrap_or(&nothing);
        // `storage: none` is another thing as a whole.
        let are_mappings = [one, two].iter().all(|node| matches!(node.value, Value::Map(_)));
        let deeper = if are_mappings { one.differences(two) } else { Vec::new() };
        let mut add = |at: &Position, path: String| changes.restart.push(restart(at, &path));
        match deeper.as_slice() {
            [] => add(&two.at, format!("service.{key}")),
            keys => {
                keys.iter().for_each(|inside| add(&place(two, inside), format!("service.{key}.{inside}")))
            }
        }
    }
    if old.memory_bytes() != new.memory_bytes() && !changes.service.iter().any(|key| key == "memory_mib") {
        changes.service.push("memory_mib".to_owned());
    }
}

/// The fold's analyzers are the same as long as it runs; what they judge by comes as an epoch.
fn analyzers(old: &Configuration, new: &Configuration, changes: &mut Changes) {
    let (before, after) = (analyzer_ids(old), analyzer_ids(new));
    if before != after {
        let message = format!(
            "the analyzers are {} and would be {}, which cannot change while homeostat runs and needs a restart",
            list(&before),
            list(&after)
        );
        changes.restart.push(Problem::error(&place(&new.spec.service.node, "pipelines"), message));
        return;
    }
    for id in after {
        let (Some(one), Some(two)) = (node(&old.spec.processors, id), node(&new.spec.processors, id)) else {
            continue;
        };
        let Some(part) = new.processors.get(id) else { continue };
        let differences = one.differences(two);
        for key in differences.iter().filter(|key| !part.changeable().contains(key)) {
            changes.restart.push(restart(&place(two, key), &format!("processors.{id}.{key}")));
        }
        if !differences.is_empty() || has_other_files(part.as_ref(), old, new) {
            changes.models.push(id.to_owned());
        }
    }
}

fn list(ids: &[&str]) -> String {
    if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
}

/// Two instances of what keeps something on disk must not be open at the same time.
fn exclusive(old: &Configuration, new: &Configuration, exporters: &ById, problems: &mut Vec<Problem>) {
    for id in exporters.iter().filter(|(_, change)| **change == Change::Changed).map(|(id, _)| id) {
        let is_exclusive = |configuration: &Configuration| {
            let part = configuration.exporters.get(id);
            part.is_some_and(|part| part.role() == Role::TelemetryExporter && part.is_exclusive())
        };
        if is_exclusive(old)
            && let Some(node) = node(&new.spec.exporters, id)
        {
            problems.push(restart(&node.at, &format!("exporters.{id}")));
        }
    }
}

#[cfg(test)]
mod tests;
