//! The texts that make up a model: its own, the severity rules and the updates beside it. The journal keeps them as one, so that a
//! replay needs no file; a model that stands alone is kept as it is written.

use homeostat_pipeline::settings::{ParseYaml, Problem};
use serde::{Deserialize, Serialize};

use super::{Model, read};

/// A text, and what problems call it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Text {
    /// The file.
    #[serde(skip)]
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// The texts of a model.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sources {
    /// The model's own.
    pub model: Text,
    /// `severity_rules:` of the analyzer.
    pub severity_rules: Option<Text>,
}

/// As the journal keeps several. Its first key tells it from a model.
#[derive(Serialize, Deserialize)]
struct Several {
    homeostat_model_files: Parts,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity_rules: Option<String>,
}

const SEVERAL: &str = "{\"homeostat_model_files\":";

impl Sources {
    /// A model that stands alone.
    pub fn alone(name: &str, text: &str) -> Sources {
        Sources { model: Text { name: name.to_owned(), text: text.to_owned() }, ..Sources::default() }
    }

    /// What the journal keeps: the model's text, or, where there are more, all of them. The names of the files are not in it.
    pub fn content(&self) -> String {
        if self.severity_rules.is_none() {
            return self.model.text.clone();
        }
        let text = |part: &Option<Text>| part.as_ref().map(|part| part.text.clone());
        let parts = Parts { model: self.model.text.clone(), severity_rules: text(&self.severity_rules) };
        serde_json::to_string(&Several { homeostat_model_files: parts }).expect("texts are JSON")
    }

    /// What the journal kept.
    pub fn of_content(name: &str, content: &str) -> Sources {
        let several = if content.starts_with(SEVERAL) { serde_json::from_str(content).ok() } else { None };
        let Some(Several { homeostat_model_files: parts }) = several else {
            return Sources::alone(name, content);
        };
        let text = |role: &str, text: String| Text { name: format!("{name}/{role}"), text };
        Sources {
            model: Text { name: name.to_owned(), text: parts.model },
            severity_rules: parts.severity_rules.map(|part| text("severity_rules", part)),
        }
    }

    /// SHA-256 of the content, lower-case hex: the model's identity.
    pub fn hash(&self) -> String {
        Model::hash_of(&self.content())
    }

    /// The model that they make, with its warnings.
    ///
    /// # Errors
    /// Every mistake in them; warnings among them.
    pub fn read(&self, parse: ParseYaml) -> Result<(Model, Vec<Problem>), Vec<Problem>> {
        let one = |text: &Text| parse(&text.name, &text.text).map_err(|problem| vec![problem]);
        let model = one(&self.model)?;
        let severity_rules = self.severity_rules.as_ref().map(one).transpose()?;
        read::model(&model, severity_rules.as_ref(), &self.hash())
    }
}
