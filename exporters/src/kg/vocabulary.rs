//! The terms of the graph: namespaces, IRIs from ids, typed literals. Every IRI is a pure function of an id; there are no blank
//! nodes.

use homeostat_pipeline::clock::Timestamp;
use oxigraph::model::vocab::xsd;
use oxigraph::model::{Literal, NamedNode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) const PROV: &str = "http://www.w3.org/ns/prov#";
pub(super) const SOSA: &str = "http://www.w3.org/ns/sosa/";
pub(super) const OSLC_RM: &str = "http://open-services.net/ns/rm#";
pub(super) const DCTERMS: &str = "http://purl.org/dc/terms/";
pub(super) const QUDT: &str = "http://qudt.org/schema/qudt/";

/// What `sea:` and `homeo:` stand for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Namespaces {
    /// Of flows and their terms.
    pub sea: String,
    /// Of homeostat's own terms.
    pub homeo: String,
}

impl Default for Namespaces {
    fn default() -> Namespaces {
        Namespaces {
            sea: "http://domainforge.ai/sea#".to_owned(),
            homeo: "https://homeostat.dev/ns#".to_owned(),
        }
    }
}

impl Namespaces {
    /// Whether both are IRIs.
    pub(super) fn fault(&self) -> Option<String> {
        [("sea", &self.sea), ("homeo", &self.homeo)].into_iter().find_map(|(name, namespace)| {
            let error = NamedNode::new(format!("{namespace}x")).err()?;
            Some(format!("`namespaces.{name}` is no IRI: {error}"))
        })
    }

    pub(super) fn sea(&self, local: &str) -> NamedNode {
        term(&self.sea, local)
    }

    pub(super) fn homeo(&self, local: &str) -> NamedNode {
        term(&self.homeo, local)
    }

    /// The flow that the spec node `sea:{context}:{flow}` names: the local part in the namespace of `sea`.
    pub(super) fn flow(&self, spec_node: &str) -> NamedNode {
        let local = spec_node.strip_prefix("sea:").unwrap_or(spec_node);
        let parts: Vec<String> = local.split(':').map(encode).collect();
        NamedNode::new_unchecked(format!("{}{}", self.sea, parts.join(":")))
    }
}

/// `local` in `namespace`, which is known to be one.
pub(super) fn term(namespace: &str, local: &str) -> NamedNode {
    // Percent-encoded ASCII after an IRI that was checked is an IRI.
    NamedNode::new_unchecked(format!("{namespace}{}", encode(local)))
}

/// `urn:homeostat:{kind}:{id}:…`.
pub(super) fn urn(kind: &str, ids: &[&str]) -> NamedNode {
    let ids: Vec<String> = ids.iter().map(|id| encode(id)).collect();
    NamedNode::new_unchecked(format!("urn:homeostat:{kind}:{}", ids.join(":")))
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for nibble in [byte >> 4, byte & 15] {
                out.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
            }
        }
    }
    out
}

pub(super) fn text(text: &str) -> Literal {
    Literal::new_simple_literal(text)
}

pub(super) fn time(at: Timestamp) -> Literal {
    Literal::new_typed_literal(at.to_string(), xsd::DATE_TIME)
}

pub(super) fn integer(value: u64) -> Literal {
    Literal::new_typed_literal(value.to_string(), xsd::INTEGER)
}
