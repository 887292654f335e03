//! `inhibited_by`: which rule a rule gives way to, so that people hear of the cause and not of all that follows from it.

use std::collections::{BTreeMap, BTreeSet};

use homeostat_pipeline::settings::{Node, Position, did_you_mean};

use super::place::{Block, Reader};
use super::requirement::canonical;
use super::{Requirement, Rule};

/// A rule that another one gives way to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inhibitor {
    /// The canonical key of its requirement.
    pub req: String,
    /// Its id there.
    pub rule: String,
    /// Where it is named.
    pub at: Position,
}

impl std::fmt::Display for Inhibitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.req, self.rule)
    }
}

/// What has one deviation for each subject: a requirement, the labels that its rules group by, and a measure.
pub type Judgement = (String, Vec<String>, String);

/// What goes before what.
type Needs<N> = BTreeMap<N, BTreeSet<N>>;

/// The rules that a rule names; those that are no names are reported and left out.
pub(super) fn read(block: Block<'_>, reader: &mut Reader) -> Vec<Inhibitor> {
    let words = reader.words(block, "inhibited_by").unwrap_or_default();
    let named = words.into_iter().filter_map(|(at, text)| {
        let parts = text.split_once('/').filter(|(req, rule)| !req.is_empty() && !rule.is_empty());
        let Some((req, rule)) = parts else {
            reader.error(&at, format!("`{text}` names no rule (write `REQ-NFR-AVAIL-001/uptime-critical`: the requirement, `/`, the rule's `id`)"));
            return None;
        };
        Some(Inhibitor { req: canonical(req), rule: rule.to_owned(), at })
    });
    named.collect()
}

/// Reports names of what is not there, and circles.
pub(super) fn check(requirements: &BTreeMap<String, Requirement>, node: &Node, reader: &mut Reader) {
    let before = reader.problems.len();
    for (requirement, rule) in rules(requirements) {
        for by in &rule.inhibited_by {
            if let Err(message) = check_name(requirements, requirement, rule, by) {
                reader.error(&by.at, message);
            }
        }
    }
    if reader.problems.len() > before {
        return;
    }
    let all = rules(requirements).map(|(requirement, rule)| (requirement.key.clone(), rule));
    let of_rules: Needs<(String, String)> = all
        .map(|(req, rule)| {
            let needs = rule.inhibited_by.iter().map(|by| (by.req.clone(), by.rule.clone()));
            ((req, rule.id.clone()), needs.collect())
        })
        .collect();
    if let Err(circle) = depths(&of_rules) {
        let place = place_of(requirements, &circle[0]).unwrap_or(&node.at);
        let names: Vec<String> = circle.iter().map(|(req, rule)| format!("{req}/{rule}")).collect();
        let message = format!(
            "rules inhibit each other in a circle: {} (take one `inhibited_by` out)",
            names.join(" by ")
        );
        reader.error(place, message);
    } else if let Err(circle) = order(requirements) {
        let (req, _, measure) = &circle[0];
        let rule = requirements
            .get(req)
            .and_then(|one| one.rules_of(measure).find(|rule| !rule.inhibited_by.is_empty()));
        let place = rule.and_then(|rule| Some(&rule.inhibited_by.first()?.at)).unwrap_or(&node.at);
        let names: Vec<String> =
            circle.iter().map(|(req, _, measure)| format!("{measure} of {req}")).collect();
        let message = format!(
            "deviations inhibit each other in a circle, by different rules: {} (take one `inhibited_by` out)",
            names.join(" by ")
        );
        reader.error(place, message);
    }
}

fn rules(requirements: &BTreeMap<String, Requirement>) -> impl Iterator<Item = (&Requirement, &Rule)> {
    requirements
        .values()
        .flat_map(|requirement| requirement.rules.iter().map(move |rule| (requirement, rule)))
}

fn place_of<'a>(
    requirements: &'a BTreeMap<String, Requirement>,
    (req, rule): &(String, String),
) -> Option<&'a Position> {
    let rule = requirements.get(req)?.rules.iter().find(|known| known.id == *rule)?;
    Some(&rule.inhibited_by.first()?.at)
}

fn check_name(
    requirements: &BTreeMap<String, Requirement>,
    requirement: &Requirement,
    rule: &Rule,
    by: &Inhibitor,
) -> Result<(), String> {
    if by.req == requirement.key && by.rule == rule.id {
        return Err(format!("rule {} inhibits itself (take it out of `inhibited_by`)", rule.id));
    }
    let Some(cause) = requirements.get(&by.req) else {
        let near = did_you_mean(&by.req, requirements.keys().map(String::as_str));
        return Err(format!("`{by}`: the model has no requirement `{}`{near}", by.req));
    };
    if cause.rules.iter().any(|known| known.id == by.rule) {
        return Ok(());
    }
    let ids: Vec<&str> = cause.rules.iter().map(|known| known.id.as_str()).collect();
    let near = did_you_mean(&by.rule, ids.iter().copied());
    let known = if ids.is_empty() { "it has none".to_owned() } else { format!("known: {}", ids.join(", ")) };
    Err(format!("`{by}`: {} has no rule `{}`{near}; {known}", by.req, by.rule))
}

/// How many judgements go before each: what inhibits is judged before what it inhibits.
///
/// # Errors
/// A circle, of which each is inhibited by the next.
pub fn order(
    requirements: &BTreeMap<String, Requirement>,
) -> Result<BTreeMap<Judgement, u32>, Vec<Judgement>> {
    let of = |requirement: &Requirement, rule: &Rule| -> Judgement {
        (requirement.key.clone(), rule.group_by.clone(), rule.measure.clone())
    };
    let mut needs: Needs<Judgement> = BTreeMap::new();
    for (requirement, rule) in rules(requirements) {
        let own = of(requirement, rule);
        let causes = rule.inhibited_by.iter().filter_map(|by| {
            let cause = requirements.get(&by.req)?;
            Some(of(cause, cause.rules.iter().find(|known| known.id == by.rule)?))
        });
        let causes: Vec<Judgement> = causes.filter(|cause| *cause != own).collect();
        if !causes.is_empty() {
            needs.entry(own).or_default().extend(causes);
        }
    }
    depths(&needs)
}

/// The length of the longest way from each to one that needs nothing.
fn depths<N: Ord + Clone>(needs: &Needs<N>) -> Result<BTreeMap<N, u32>, Vec<N>> {
    let mut settled: BTreeMap<N, u32> = BTreeMap::new();
    loop {
        let before = settled.len();
        for (node, causes) in needs {
            let depth_of =
                |cause: &N| if needs.contains_key(cause) { settled.get(cause).copied() } else { Some(0) };
            let depths: Option<Vec<u32>> = causes.iter().map(depth_of).collect();
            if let Some(depths) = depths.filter(|_| !settled.contains_key(node)) {
                settled.insert(node.clone(), depths.into_iter().max().map_or(0, |depth| depth + 1));
            }
        }
        if settled.len() == needs.len() {
            return Ok(settled);
        }
        if settled.len() == before {
            return Err(circle(needs, &settled));
        }
    }
}

/// From one that is not settled to one that it needs and is not settled either, until one comes again.
fn circle<N: Ord + Clone>(needs: &Needs<N>, settled: &BTreeMap<N, u32>) -> Vec<N> {
    let is_open = |node: &&N| needs.contains_key(*node) && !settled.contains_key(*node);
    let mut way: Vec<&N> = Vec::new();
    let mut next = needs.keys().find(is_open);
    while let Some(node) = next {
        if let Some(start) = way.iter().position(|known| *known == node) {
            way.drain(..start);
            way.push(node);
            break;
        }
        way.push(node);
        next = needs.get(node).and_then(|causes| causes.iter().find(is_open));
    }
    way.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a:b,c` is: `a` needs `b` and `c`.
    fn check(text: &str, expected: Result<&[(&str, u32)], &str>) {
        let needs: Needs<&str> = text
            .split_whitespace()
            .filter_map(|part| part.split_once(':'))
            .map(|(node, causes)| (node, causes.split(',').collect()))
            .collect();
        match (depths(&needs), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected.iter().copied().collect(), "{text}"),
            (Err(found), Err(expected)) => assert_eq!(found.join(" "), expected, "{text}"),
            (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn what_inhibits_goes_before_what_it_inhibits_and_a_circle_is_named() {
        check("", Ok(&[]));
        check("a:b", Ok(&[("a", 1)]));
        check("a:b b:c", Ok(&[("a", 2), ("b", 1)]));
        check("a:b,c b:c c:d", Ok(&[("a", 3), ("b", 2), ("c", 1)]));
        check("a:a", Err("a a"));
        check("a:b b:c c:b", Err("b c b"));
        check("a:b b:a x:y", Err("a b a"));
    }
}
