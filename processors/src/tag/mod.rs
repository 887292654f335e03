//! Finds which requirement and which declared flow telemetry belongs to, and makes rows of evidence of it.
//!
//! ```yaml
//! tag:
//!   keys:
//!     profile: aisdlc              # narrows the grammar; or a pattern of your own: '\bSHOP-\d+'
//!     attributes: [ticket]         # hold keys too, beside req and requirement
//!   aliases:
//!     sea.flow: [app.flow]         # beside sea.conceptId and sea.boundedContext
//!   expect:
//!     traces: { required: [sea.flow], optional: [sea.domain, sea.concept, sea.regime_id] }
//! ```
//!
//! The telemetry itself goes on untouched. Most of it is never decoded: a `prefilter` of byte literals says which resources
//! and records can hold anything, and only those are read, with borrowed views. What the analyzers of the pipeline want found
//! beside keys and flows (selectors, log fields, labels) they say in their `Interest`.

pub(crate) mod body;
mod emit;
mod keys;
pub(crate) mod level;
mod plan;
pub(crate) mod point;
mod prefilter;
pub(crate) mod record;
mod session;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use homeostat_pipeline::batch::{Batch, Signal, Telemetry};
use homeostat_pipeline::contract::Processor;
use homeostat_pipeline::drops;
use homeostat_pipeline::interest::Interest;
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::{Component, Context, Role, Settings};
use homeostat_pipeline::settings::{At, Files, Problem};
use metrics::{Counter, counter};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keys::{Grammar, literal_of};
use level::Cut;
use plan::Plan;
use prefilter::Prefilter;
use vocabulary::{Expected, Sea, Vocabulary};

/// A literal shorter than this hits nearly everything.
const LITERAL_BYTES_MIN: usize = 3;

/// The settings of `tag`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tag {
    /// Which texts are requirement keys, and where they stand.
    keys: KeySettings,
    /// Further names of the `sea.*` attributes.
    #[schemars(extend("propertyNames" = {
        "enum": ["sea.flow", "sea.context", "sea.domain", "sea.concept", "sea.regime_id", "sea.policy"]
    }))]
    aliases: BTreeMap<Sea, Vec<String>>,
    /// What records of a signal should carry; without it a correlation is partial or failed.
    #[schemars(extend("propertyNames" = { "enum": ["traces", "metrics", "logs"] }))]
    expect: BTreeMap<Signal, Expected>,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct KeySettings {
    /// Narrows the grammar of keys.
    profile: Option<At<Profile>>,
    /// A regular expression instead of the grammar.
    pattern: Option<At<String>>,
    /// Attributes that hold keys, beside `req` and `requirement`.
    attributes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Profile {
    /// `REQ`, words, a number of three or more digits.
    Default,
    /// One of four types, and one domain word.
    Aisdlc,
}

impl Tag {
    fn grammar(&self) -> Result<Grammar, Problem> {
        let profile = self.keys.profile.as_ref().map_or(Profile::Default, |profile| profile.value);
        match (&self.keys.pattern, profile) {
            (Some(pattern), _) => Regex::new(&pattern.value).map(Grammar::Pattern).map_err(|error| {
                let reason = error.to_string();
                let reason =
                    reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                Problem::error(&pattern.at, format!("`{}` is no regular expression: {reason}", pattern.value))
            }),
            (None, Profile::Default) => Ok(Grammar::any()),
            (None, Profile::Aisdlc) => Ok(Grammar::aisdlc()),
        }
    }

    /// The literal of the pattern; none for the default grammar.
    fn literal(&self) -> Option<&str> {
        let literal = literal_of(&self.keys.pattern.as_ref()?.value);
        Some(if literal.len() < LITERAL_BYTES_MIN { "" } else { literal })
    }

    /// What `tag` does with these settings and what the analyzers want.
    ///
    /// # Errors
    /// The pattern is no regular expression.
    pub fn tagger(&self, interest: &Interest) -> Result<Tagger, Problem> {
        let aliases: Vec<(Sea, String)> = self
            .aliases
            .iter()
            .flat_map(|(sea, names)| names.iter().map(|name| (*sea, name.clone())))
            .collect();
        let grammar = self.grammar()?;
        let vocabulary = Arc::new(Vocabulary::new(grammar, &self.keys.attributes, &aliases, interest));
        let plan = |signal: Signal| {
            let wanted = interest.selections.iter().filter(|selection| selection.signal == signal);
            let selections: Vec<_> = wanted.cloned().collect();
            Plan {
                signal,
                prefilter: Prefilter::new(self.literal(), vocabulary.flow_names(), &selections),
                vocabulary: Arc::clone(&vocabulary),
                selections,
                expected: self.expect.get(&signal).cloned().unwrap_or_else(|| Expected::of(signal)),
            }
        };
        Ok(Tagger { plans: Signal::ALL.map(|signal| (plan(signal), Counters::of(signal))) })
    }
}

#[async_trait]
impl Settings for Tag {
    fn role(&self) -> Role {
        Role::Processor
    }

    fn uses_interest(&self) -> bool {
        true
    }

    fn check(&self, _files: &Files) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.grammar().err().into_iter().collect();
        if let (Some(pattern), Some(profile)) = (&self.keys.pattern, &self.keys.profile) {
            let message =
                format!("`profile` and `pattern` exclude each other (the pattern is at {})", pattern.at);
            problems.push(Problem::error(&profile.at, message));
        }
        if let (Some(pattern), Some("")) = (&self.keys.pattern, self.literal()) {
            let message = format!(
                "`{}` begins with no literal of {LITERAL_BYTES_MIN} characters, so every record has to be decoded; begin it with plain text, as in `SHOP-\\d+`",
                pattern.value
            );
            problems.push(Problem::warning(&pattern.at, message));
        }
        for (sea, names) in &self.aliases {
            if names.iter().any(String::is_empty) {
                problems.push(Problem::somewhere(format!("an alias of `{}` is empty", sea.name())));
            }
        }
        if self.keys.attributes.iter().any(String::is_empty) {
            problems.push(Problem::somewhere("a name in `keys.attributes` is empty"));
        }
        problems
    }

    async fn open(&self, context: Context) -> anyhow::Result<Component> {
        let tagger = self.tagger(&context.interest)?;
        for (plan, _) in &tagger.plans {
            for selection in &plan.selections {
                if selection.selector.literals().is_none() {
                    tracing::warn!(
                        component = context.id,
                        signal = plan.signal.name(),
                        req = selection.req,
                        selector = %selection.selector,
                        "this selector names no text that a match must hold, so every record has to be decoded; add one, such as a service",
                    );
                }
            }
        }
        Ok(Component::Processor(Arc::new(tagger)))
    }
}

/// `tag`, opened.
#[derive(Debug)]
pub struct Tagger {
    plans: [(Plan, Counters); 3],
}

struct Counters {
    hits: Counter,
    misses: Counter,
    rows: Counter,
    cut: [Counter; 4],
    skipped: [Counter; 2],
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counters")
    }
}

impl Counters {
    fn of(signal: Signal) -> Counters {
        let requests = |result: &'static str| counter!("homeostat_tag_requests_total", "signal" => signal.name(), "result" => result);
        let cut = |limit: &'static str| counter!("homeostat_tag_truncated_total", "limit" => limit);
        let skipped =
            |reason: &'static str| counter!("homeostat_tag_points_skipped_total", "reason" => reason);
        Counters {
            hits: requests("evidence"),
            misses: requests("none"),
            rows: counter!("homeostat_tag_rows_total", "signal" => signal.name()),
            cut: [cut("attributes"), cut("value"), cut("body"), cut("keys")],
            skipped: [skipped("no_recorded_value"), skipped("unusable")],
        }
    }

    fn add(&self, rows: usize, cut: Cut) {
        if rows == 0 { &self.misses } else { &self.hits }.increment(1);
        if rows > 0 {
            self.rows.increment(rows as u64);
        }
        let limits = self.cut.iter().zip([cut.attributes, cut.values, cut.bodies, cut.keys]);
        for (counter, times) in limits.chain(self.skipped.iter().zip([cut.unrecorded, cut.unusable])) {
            if times > 0 {
                counter.increment(times);
            }
        }
        for (reason, times) in [
            (&drops::TAG_ATTRIBUTES, cut.attributes),
            (&drops::TAG_VALUE, cut.values),
            (&drops::TAG_BODY, cut.bodies),
            (&drops::TAG_KEYS, cut.keys),
            (&drops::TAG_NO_RECORDED_VALUE, cut.unrecorded),
            (&drops::TAG_UNUSABLE, cut.unusable),
        ] {
            reason.count(times);
        }
    }
}

impl Tagger {
    fn tag(&self, telemetry: Telemetry, out: &mut Vec<Batch>) -> Result<(), Refusal> {
        let (plan, counters) = match telemetry.signal {
            Signal::Traces => &self.plans[0],
            Signal::Metrics => &self.plans[1],
            Signal::Logs => &self.plans[2],
        };
        let (rows, cut) = plan.rows(&telemetry.body)?;
        counters.add(rows.len(), cut);
        out.push(Batch::Telemetry(telemetry));
        if !rows.is_empty() {
            out.push(Batch::Evidence(rows));
        }
        Ok(())
    }
}

impl Processor for Tagger {
    fn process(&self, batch: Batch, out: &mut Vec<Batch>) -> Result<(), Refusal> {
        match batch {
            Batch::Telemetry(telemetry) => self.tag(telemetry, out),
            other @ (Batch::Alerts(_) | Batch::Evidence(_)) => {
                out.push(other);
                Ok(())
            }
        }
    }
}
