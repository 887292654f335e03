//! Watches whether the running system still behaves as its requirements say it must.
//!
//! ```yaml
//! homeostasis:
//!   model: homeostasis_model.yml    # the requirements, their thresholds and rules: docs/model.md
//!   reload_interval: 30s            # looks at the model's file this often; left out, only SIGHUP does
//!   severity_rules: severity_rules.yml    # may be left out: docs/model.md
//!   tenant: ""                      # part of every deviation's fingerprint
//!   subjects_max: 100000            # requirement × group labels, and spec nodes (at most half of it); further ones share the label `other`
//! ```
//!
//! An analyzer: [`fold`] is the machine, [`model`] what it judges by, [`condition`] the language of the rules, [`sketch`] how it
//! keeps quantiles. The model enters the journal as an epoch, and the fold learns it from there and from nowhere else.

pub mod codec;
pub mod condition;
pub mod fold;
pub mod matcher;
pub mod model;
pub mod sketch;
pub mod units;

use std::time::Duration;

use async_trait::async_trait;
use homeostat_pipeline::entry::Epoch;
use homeostat_pipeline::interest::Interest;
use homeostat_pipeline::registry::{Component, Context, Role, Settings};
use homeostat_pipeline::settings::{At, Files, Period, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use fold::{Fold, FoldSettings};
use model::{Model, Sources, Text};

/// The settings of one instance.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Homeostasis {
    /// The model's file.
    model: At<String>,
    /// A file of `severity_rules`, which override the severity table.
    #[serde(default)]
    severity_rules: Option<At<String>>,
    /// How often the model's file is looked at; only at a reload where it is left out.
    #[serde(default)]
    reload_interval: Option<At<Period>>,
    /// Part of every fingerprint.
    #[serde(default)]
    tenant: String,
    /// At most this many subjects.
    #[serde(default = "subjects_max")]
    subjects_max: usize,
}

const RELOAD_INTERVAL_MIN: Duration = Duration::from_secs(1);

fn subjects_max() -> usize {
    100_000
}

impl Homeostasis {
    /// What the journal keeps of the model's files, and the model.
    fn read(&self, files: &Files) -> Result<(String, Model, Vec<Problem>), Vec<Problem>> {
        let one = |problem| vec![problem];
        let text = |file: &At<String>| -> Result<Text, Vec<Problem>> {
            let text = files.text(&file.value, Some(&file.at)).map_err(one)?;
            Ok(Text { name: file.value.clone(), text })
        };
        let sources = Sources {
            model: text(&self.model)?,
            severity_rules: self.severity_rules.as_ref().map(text).transpose()?,
        };
        let (model, warnings) = sources.read(files.parse)?;
        Ok((sources.content(), model, warnings))
    }

    /// The same, for who wants one problem: the first error.
    fn read_or_first(&self, files: &Files) -> Result<(String, Model), Problem> {
        match self.read(files) {
            Ok((text, model, _)) => Ok((text, model)),
            Err(problems) => {
                let count = problems.iter().filter(|problem| !problem.is_warning).count();
                let first = problems.into_iter().find(|problem| !problem.is_warning);
                let mut first = first.unwrap_or_else(|| Problem::somewhere("the model cannot be read"));
                if count > 1 {
                    first.message = format!("{} (and {} more problems)", first.message, count - 1);
                }
                Err(first)
            }
        }
    }
}

#[async_trait]
impl Settings for Homeostasis {
    fn role(&self) -> Role {
        Role::Analyzer
    }

    fn check(&self, files: &Files) -> Vec<Problem> {
        let mut problems = match self.read(files) {
            Ok((_, _, warnings)) => warnings,
            Err(problems) => problems,
        };
        if self.subjects_max == 0 {
            problems.push(Problem::error(&self.model.at, "`subjects_max` is 0 (give it at least 1)"));
        }
        if let Some(every) = self.reload_interval.as_ref().filter(|every| every.value.0 < RELOAD_INTERVAL_MIN)
        {
            problems.push(Problem::error(&every.at, "`reload_interval` must be at least `1s`"));
        }
        problems
    }

    fn files(&self) -> Vec<&str> {
        [Some(&self.model), self.severity_rules.as_ref()]
            .into_iter()
            .flatten()
            .map(|file| file.value.as_str())
            .collect()
    }

    fn watch_every(&self) -> Option<Duration> {
        self.reload_interval.as_ref().map(|every| every.value.0)
    }

    fn changeable(&self) -> &'static [&'static str] {
        &["model", "severity_rules", "reload_interval"]
    }

    fn interest(&self, files: &Files) -> Result<Interest, Problem> {
        self.read_or_first(files).map(|(_, model)| model.interest())
    }

    fn epoch(&self, id: &str, files: &Files) -> Result<Option<Epoch>, Problem> {
        let (content, model) = self.read_or_first(files)?;
        Ok(Some(Epoch { component: id.to_owned(), hash: model.hash, content }))
    }

    async fn open(&self, context: Context) -> anyhow::Result<Component> {
        Ok(Component::Analyzer(Box::new(Fold::new(FoldSettings {
            id: context.id,
            tenant: self.tenant.clone(),
            subjects_max: self.subjects_max,
            parse: context.files.parse,
        }))))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use homeostat_pipeline::settings;

    use super::*;

    const MODEL: &str = "
REQ-NFR-PERF-001:
  thresholds: { p95_latency_ms: { critical: 500, warning: 400 } }
  baseline: { p95_latency_ms: 235 }
  deviation_rules: [{ condition: \"value > 500\", severity: critical, action: generate_intent }]
";

    fn files(model: &str) -> Files {
        let embedded = BTreeMap::from([("model.yml".to_owned(), model.to_owned())]);
        Files { base: PathBuf::new(), embedded, parse: homeostat_config::parse }
    }

    fn settings(yaml: &str) -> Result<Homeostasis, Problem> {
        settings::read(&homeostat_config::parse("test.yaml", yaml).expect("it is YAML"))
    }

    #[test]
    fn the_epoch_is_the_model_text_under_its_hash() {
        let homeostasis = settings("{ model: model.yml }").expect("the settings are right");
        assert_eq!(homeostasis.subjects_max, 100_000);
        assert_eq!(homeostasis.check(&files(MODEL)).iter().filter(|problem| !problem.is_warning).count(), 0);
        let epoch = homeostasis.epoch("homeostasis", &files(MODEL)).expect("the model is right");
        let epoch = epoch.expect("a model is an epoch");
        assert_eq!(epoch.content, MODEL);
        assert_eq!(epoch.hash, Model::hash_of(MODEL));
        let interest = homeostasis.interest(&files(MODEL)).expect("the model is right");
        assert!(interest.log_fields.contains("latency_ms"), "{interest:?}");
    }

    #[test]
    fn what_is_wrong_says_where() {
        let unknown = settings("{ model: model.yml, tenat: x }").expect_err("the key is unknown");
        assert!(unknown.to_string().contains("did you mean \"tenant\"?"), "{unknown}");
        let homeostasis = settings("{ model: gone.yml }").expect("the settings are right");
        let problem = &homeostasis.check(&files(MODEL))[0];
        assert!(problem.to_string().starts_with("test.yaml:1:"), "{problem}");
        let broken = MODEL.replace("value > 500", "value >");
        let problems =
            settings("{ model: model.yml }").expect("the settings are right").check(&files(&broken));
        assert!(problems.iter().any(|problem| !problem.is_warning), "{problems:?}");
    }
}
