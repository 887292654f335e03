//! What the rows of a pane say beside their numbers.

use std::collections::BTreeSet;

use super::super::codec::{Reader, Writer};

/// Other requirement keys kept for one pane; beyond that the first in alphabetical order.
const ALSO_MAX: usize = 16;

/// A text that all rows of a pane agree on, or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Only {
    /// No row yet.
    #[default]
    Unseen,
    /// All rows say this; empty: all say nothing.
    One(String),
    /// They differ.
    Many,
}

impl Only {
    /// Takes in what one row says.
    pub fn note(&mut self, text: &str) {
        match self {
            Only::Unseen => *self = Only::One(text.to_owned()),
            Only::One(known) if known == text => {}
            Only::One(_) => *self = Only::Many,
            Only::Many => {}
        }
    }

    /// Takes in what other rows say.
    fn merge(&mut self, other: &Only) {
        match other {
            Only::Unseen => {}
            Only::One(text) => self.note(text),
            Only::Many => *self = Only::Many,
        }
    }

    /// What all of them say, when they say something.
    pub fn get(&self) -> Option<&str> {
        match self {
            Only::One(text) if !text.is_empty() => Some(text),
            Only::Unseen | Only::One(_) | Only::Many => None,
        }
    }

    fn encode(&self, out: &mut Writer) {
        match self {
            Only::Unseen => out.unsigned(0),
            Only::Many => out.unsigned(1),
            Only::One(text) => {
                out.unsigned(2);
                out.text(text);
            }
        }
    }

    fn decode(bytes: &mut Reader<'_>) -> anyhow::Result<Only> {
        Ok(match bytes.unsigned()? {
            0 => Only::Unseen,
            1 => Only::Many,
            2 => Only::One(bytes.text()?.to_owned()),
            other => anyhow::bail!("a checkpoint holds the unknown mark {other}"),
        })
    }
}

/// What the rows of a pane say beside their numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Provenance {
    /// `service.name`.
    pub service: Only,
    /// The environment.
    pub environment: Only,
    /// `sea:{context}:{flow}`.
    pub spec_node: Only,
    /// Other requirement keys of the same observations; of a node's pane all requirement keys.
    pub also: BTreeSet<String>,
    /// The least of the rows'.
    pub confidence: f64,
    /// The weakest of the rows' [`homeostat_pipeline::evidence::Method`]s, as its place in the enumeration.
    pub method: u8,
    /// The worst of the rows' [`homeostat_pipeline::evidence::Correlation`]s, as its place in the enumeration.
    pub status: u8,
    /// The receiver's component id; of several the first in alphabetical order.
    pub source: String,
}

impl Default for Provenance {
    fn default() -> Provenance {
        Provenance {
            service: Only::Unseen,
            environment: Only::Unseen,
            spec_node: Only::Unseen,
            also: BTreeSet::new(),
            confidence: 1.0,
            method: 0,
            status: 0,
            source: String::new(),
        }
    }
}

impl Provenance {
    /// The least confidence of the rows, without the tail that comes of widening it from 32 bits.
    pub fn confidence(&self) -> f64 {
        (self.confidence * 1e6).round() / 1e6
    }

    /// Takes in what other rows say.
    pub fn merge(&mut self, other: &Provenance) {
        self.service.merge(&other.service);
        self.environment.merge(&other.environment);
        self.spec_node.merge(&other.spec_node);
        other.also.iter().for_each(|key| self.note_also(key));
        self.confidence = self.confidence.min(other.confidence);
        self.method = self.method.max(other.method);
        self.status = self.status.max(other.status);
        self.note_source(&other.source);
    }

    /// Takes in another requirement key.
    pub fn note_also(&mut self, key: &str) {
        if !key.is_empty() && !self.also.contains(key) {
            self.also.insert(key.to_owned());
            if self.also.len() > ALSO_MAX {
                self.also.pop_last();
            }
        }
    }

    /// Takes in a receiver.
    pub fn note_source(&mut self, source: &str) {
        if !source.is_empty() && (self.source.is_empty() || source < self.source.as_str()) {
            source.clone_into(&mut self.source);
        }
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Writer) {
        self.service.encode(out);
        self.environment.encode(out);
        self.spec_node.encode(out);
        out.unsigned(self.also.len() as u64);
        for key in &self.also {
            out.text(key);
        }
        out.float(self.confidence);
        out.raw(&[self.method, self.status]);
        out.text(&self.source);
    }

    /// Reads what [`Provenance::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are damaged.
    pub fn decode(bytes: &mut Reader<'_>) -> anyhow::Result<Provenance> {
        let (service, environment, spec_node) =
            (Only::decode(bytes)?, Only::decode(bytes)?, Only::decode(bytes)?);
        let length = bytes.length(ALSO_MAX)?;
        let also = (0..length).map(|_| Ok(bytes.text()?.to_owned())).collect::<anyhow::Result<_>>()?;
        let confidence = bytes.float()?;
        let [method, status] = bytes.array()?;
        let source = bytes.text()?.to_owned();
        Ok(Provenance { service, environment, spec_node, also, confidence, method, status, source })
    }
}
