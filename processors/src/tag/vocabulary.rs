//! Which names mean something: the attributes that hold keys, the `sea.*` attributes with their aliases, and what the model
//! groups and measures by. Built once, when `tag` opens.

use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::evidence::Correlation;
use homeostat_pipeline::interest::Interest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keys::Grammar;

/// The `sea.*` attributes that become columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum Sea {
    /// A declared flow.
    #[serde(rename = "sea.flow")]
    Flow,
    /// The bounded context.
    #[serde(rename = "sea.context")]
    Context,
    /// The business domain.
    #[serde(rename = "sea.domain")]
    Domain,
    /// The active semantic concept.
    #[serde(rename = "sea.concept")]
    Concept,
    /// The invariant regime.
    #[serde(rename = "sea.regime_id")]
    Regime,
    /// The policy.
    #[serde(rename = "sea.policy")]
    Policy,
}

impl Sea {
    /// All of them; their order is that of [`SeaTexts`].
    pub const ALL: [Sea; 6] = [Sea::Flow, Sea::Context, Sea::Domain, Sea::Concept, Sea::Regime, Sea::Policy];

    /// The attribute's name.
    pub const fn name(self) -> &'static str {
        match self {
            Sea::Flow => "sea.flow",
            Sea::Context => "sea.context",
            Sea::Domain => "sea.domain",
            Sea::Concept => "sea.concept",
            Sea::Regime => "sea.regime_id",
            Sea::Policy => "sea.policy",
        }
    }

    /// Names seen in the wild for the same thing.
    const fn aliases(self) -> &'static [&'static str] {
        match self {
            Sea::Context => &["sea.boundedContext"],
            Sea::Concept => &["sea.conceptId"],
            Sea::Flow | Sea::Domain | Sea::Regime | Sea::Policy => &[],
        }
    }
}

/// A value per [`Sea`] and whether it came by an alias.
pub type SeaTexts<'a> = [Option<(&'a str, bool)>; 6];

/// What an attribute's name means; one name may mean several things.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Target {
    /// Its value holds requirement keys.
    pub is_key: bool,
    /// Its value is free text that may hold keys.
    pub is_text: bool,
    /// It is a `sea.*` attribute, by an alias or by its own name.
    pub sea: Option<(Sea, bool)>,
    /// It is the label of this index.
    pub label: Option<usize>,
    /// It is the numeric log field of this index.
    pub field: Option<usize>,
}

/// The attributes that a signal's records are expected to carry.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expected {
    /// Without one of these a correlation has failed.
    pub required: Vec<Sea>,
    /// Without one of these it is partial.
    pub optional: Vec<Sea>,
}

impl Expected {
    /// The vocabulary's defaults.
    pub fn of(signal: Signal) -> Expected {
        let optional = match signal {
            Signal::Traces => vec![Sea::Domain, Sea::Concept, Sea::Regime, Sea::Flow],
            Signal::Metrics => vec![Sea::Domain, Sea::Concept, Sea::Regime],
            Signal::Logs => vec![Sea::Flow, Sea::Policy],
        };
        Expected { required: Vec::new(), optional }
    }

    /// The status of a record that carries `sea`.
    pub fn status(&self, sea: &SeaTexts<'_>) -> Correlation {
        let has = |name: &Sea| sea[*name as usize].is_some();
        if !self.required.iter().all(has) {
            Correlation::Failed
        } else if self.optional.iter().all(has) {
            Correlation::Matched
        } else {
            Correlation::Partial
        }
    }
}

/// Attributes that hold keys, whatever the settings add.
const KEY_NAMES: [&str; 2] = ["req", "requirement"];
/// Attributes whose text may hold keys.
const TEXT_NAMES: [&str; 5] = ["tags", "message", "title", "query", "alertname"];

/// The names that mean something, found by their length first: most attributes of most records share theirs with few.
#[derive(Debug)]
pub struct Vocabulary {
    /// Which texts are keys.
    pub grammar: Grammar,
    /// Names of the labels, sorted.
    pub labels: Vec<String>,
    /// Names of the numeric log fields, sorted.
    pub fields: Vec<String>,
    by_length: Vec<Bucket>,
}

/// The names of one length.
#[derive(Debug, Default)]
struct Bucket {
    /// A bit for each byte in which one of them ends: of the names that mean nothing most end in another.
    ends: [u64; 4],
    names: Vec<(Box<str>, Target)>,
}

impl Vocabulary {
    /// Joins the specification's names with those of the settings and of the model.
    pub fn new(
        grammar: Grammar,
        key_names: &[String],
        aliases: &[(Sea, String)],
        interest: &Interest,
    ) -> Vocabulary {
        let mut names = Vocabulary {
            grammar,
            labels: interest.labels.iter().cloned().collect(),
            fields: interest.log_fields.iter().cloned().collect(),
            by_length: Vec::new(),
        };
        for name in KEY_NAMES.into_iter().chain(key_names.iter().map(String::as_str)) {
            names.target(name).is_key = true;
        }
        for name in TEXT_NAMES {
            names.target(name).is_text = true;
        }
        for (sea, alias) in aliases {
            names.target(alias).sea = Some((*sea, true));
        }
        for sea in Sea::ALL {
            for alias in sea.aliases() {
                names.target(alias).sea = Some((sea, true));
            }
        }
        for sea in Sea::ALL {
            names.target(sea.name()).sea = Some((sea, false));
        }
        for (index, label) in interest.labels.iter().enumerate() {
            names.target(label).label = Some(index);
        }
        for (index, field) in interest.log_fields.iter().enumerate() {
            names.target(field).field = Some(index);
        }
        names
    }

    fn target(&mut self, name: &str) -> &mut Target {
        if self.by_length.len() <= name.len() {
            self.by_length.resize_with(name.len() + 1, Bucket::default);
        }
        let Bucket { ends, names } = &mut self.by_length[name.len()];
        if let Some(end) = name.as_bytes().last() {
            ends[usize::from(end >> 6)] |= 1 << (end & 63);
        }
        let at = names.iter().position(|(known, _)| **known == *name).unwrap_or_else(|| {
            names.push((name.into(), Target::default()));
            names.len() - 1
        });
        &mut names[at].1
    }

    /// What the name of these bytes means, when it means anything.
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<&Target> {
        let Bucket { ends, names } = self.by_length.get(name.len())?;
        let end = name.last()?;
        if ends[usize::from(end >> 6)] >> (end & 63) & 1 == 0 {
            return None;
        }
        names.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, target)| target)
    }

    /// The names under which a flow may stand: without one of them, and without a key, a record has no ordinary row.
    pub fn flow_names(&self) -> impl Iterator<Item = &str> {
        self.by_length
            .iter()
            .flat_map(|bucket| &bucket.names)
            .filter(|(_, target)| matches!(target.sea, Some((Sea::Flow, _))))
            .map(|(name, _)| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_mean_several_things() {
        let interest = Interest {
            labels: ["sea.domain".to_owned(), "tier".to_owned()].into(),
            log_fields: ["latency_ms".to_owned()].into(),
            ..Interest::default()
        };
        let aliases = [(Sea::Flow, "app.flow".to_owned())];
        let names = Vocabulary::new(Grammar::any(), &["ticket".to_owned()], &aliases, &interest);
        let check = |name: &str, target: Option<Target>| {
            assert_eq!(names.get(name.as_bytes()).copied(), target, "{name}")
        };
        let none = Target::default();
        check("req", Some(Target { is_key: true, ..none }));
        check("ticket", Some(Target { is_key: true, ..none }));
        check("message", Some(Target { is_text: true, ..none }));
        check("sea.flow", Some(Target { sea: Some((Sea::Flow, false)), ..none }));
        check("app.flow", Some(Target { sea: Some((Sea::Flow, true)), ..none }));
        check("sea.conceptId", Some(Target { sea: Some((Sea::Concept, true)), ..none }));
        check("sea.domain", Some(Target { sea: Some((Sea::Domain, false)), label: Some(0), ..none }));
        check("tier", Some(Target { label: Some(1), ..none }));
        check("latency_ms", Some(Target { field: Some(0), ..none }));
        check("", None);
        check("http.request.method", None);
        assert_eq!(names.flow_names().collect::<Vec<_>>(), ["app.flow", "sea.flow"]);
    }

    #[test]
    fn the_status_says_what_is_missing() {
        let all: SeaTexts<'_> = [Some(("x", false)); 6];
        let mut no_flow = all;
        no_flow[Sea::Flow as usize] = None;
        let required = Expected { required: vec![Sea::Flow], optional: vec![Sea::Policy] };
        assert_eq!(required.status(&all), Correlation::Matched);
        assert_eq!(required.status(&no_flow), Correlation::Failed);
        assert_eq!(Expected::of(Signal::Traces).status(&no_flow), Correlation::Partial);
        assert_eq!(Expected::of(Signal::Metrics).status(&no_flow), Correlation::Matched);
        assert_eq!(Expected::of(Signal::Logs).status(&no_flow), Correlation::Partial);
        assert_eq!(Expected::default().status(&[None; 6]), Correlation::Matched);
    }
}
