//! `kg` keeps the knowledge graph: requirements, the behavior of flows, deviations and how they were detected, in RDF.
//!
//! ```yaml
//! exporters:
//!   kg: {}                                      # embedded: in memory, rebuilt from the ledger at start
//!   kg/server:
//!     endpoint: http://127.0.0.1:7878           # any SPARQL 1.1 server; updates go to {endpoint}/update
//!     update_endpoint: http://127.0.0.1:3030/homeostat/update    # instead, where the server has another path
//!     headers: { authorization: "${env:KG_AUTHORIZATION:-none}" }
//!     timeout: 10s
//!     behaviors_per_node: 12
//!     namespaces: { sea: "http://domainforge.ai/sea#", homeo: "https://homeostat.dev/ns#" }
//! ```
//!
//! Each behavior, deviation and model is one named graph, replaced whole and never by an older version; IRIs are made from ids,
//! so the same ledger gives the same graph, and a repeat changes nothing. Of behaviors the last twelve of each spec node stay,
//! and those that a deviation cites. `docs/graph.md` lists the terms.
//!
//! Deliberately absent: spans, and TLS to the endpoint.

mod describe;
mod endpoint;
mod graph;
mod index;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use homeostat_pipeline::contract::{FindingExporter, Reject};
use homeostat_pipeline::ledger::LedgerEntry;
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::{Component, Context, Role, Settings};
use homeostat_pipeline::secret::Secret;
use homeostat_pipeline::settings::{At, Files, Period, Problem};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use endpoint::{Endpoint, Target};
pub use graph::{Answer, Graph};
pub use index::Shape;
pub use vocabulary::Namespaces;

/// A query that walks from each deviation to its requirement, flow, behaviors and traces.
pub const WALK: &str = include_str!("walk.rq");

/// The settings of `kg`; see the module for the YAML.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kg {
    /// A SPARQL server, whose updates go to `{endpoint}/update`; none for the embedded graph.
    pub endpoint: Option<At<String>>,
    /// Where updates go, when the server has another path for them.
    pub update_endpoint: Option<At<String>>,
    /// Sent with each request.
    pub headers: BTreeMap<String, Secret>,
    /// How long a request may take.
    pub timeout: Period,
    /// Behaviors that stay for each spec node.
    pub behaviors_per_node: usize,
    /// What `sea:` and `homeo:` stand for.
    pub namespaces: Namespaces,
}

impl Default for Kg {
    fn default() -> Kg {
        let shape = Shape::default();
        Kg {
            endpoint: None,
            update_endpoint: None,
            headers: BTreeMap::new(),
            timeout: Period(Duration::from_secs(10)),
            behaviors_per_node: shape.behaviors_per_node,
            namespaces: shape.namespaces,
        }
    }
}

impl Kg {
    /// Where updates go; none for the embedded graph.
    fn update_uri(&self) -> Result<Option<Uri>, Problem> {
        let (at, text) = match (&self.update_endpoint, &self.endpoint) {
            (Some(update), _) => (&update.at, update.value.clone()),
            (None, Some(endpoint)) => {
                (&endpoint.at, format!("{}/update", endpoint.value.trim_end_matches('/')))
            }
            (None, None) => return Ok(None),
        };
        // First, so that no message repeats a password.
        if text.contains('@') {
            let message = "credentials do not belong into a URL (write `headers: { authorization: … }`)";
            return Err(Problem::error(at, message));
        }
        let uri =
            text.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
        let Some(uri) = uri else {
            let message = format!(
                "`{text}` is no URL that begins with `http://` and names a host (for TLS, put a proxy in front)"
            );
            return Err(Problem::error(at, message));
        };
        Ok(Some(uri))
    }

    fn header_map(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, secret) in &self.headers {
            let value = HeaderValue::from_str(secret.reveal());
            let (Ok(parsed), Ok(mut value)) = (HeaderName::try_from(name.as_str()), value) else {
                return Err(format!("the header `{name}` cannot be sent (only visible ASCII can)"));
            };
            value.set_sensitive(true);
            headers.insert(parsed, value);
        }
        Ok(headers)
    }

    fn shape(&self) -> Shape {
        Shape { namespaces: self.namespaces.clone(), behaviors_per_node: self.behaviors_per_node }
    }
}

#[async_trait]
impl Settings for Kg {
    fn role(&self) -> Role {
        Role::FindingExporter
    }

    fn check(&self, _files: &Files) -> Vec<Problem> {
        let mut problems = Vec::new();
        let uri = self.update_uri();
        if matches!(uri, Ok(None)) && !self.headers.is_empty() {
            problems.push(Problem::somewhere(
                "`headers` of `kg` have nowhere to go (set `endpoint`, or leave them out)",
            ));
        }
        problems.extend(uri.err());
        problems.extend(self.header_map().err().map(Problem::somewhere));
        problems.extend(self.namespaces.fault().map(Problem::somewhere));
        problems
    }

    async fn open(&self, context: Context) -> anyhow::Result<Component> {
        let shape = self.shape();
        if let Some(uri) = self.update_uri()? {
            let headers = self.header_map().map_err(anyhow::Error::msg)?;
            let target = Target { uri, headers, timeout: self.timeout.0 };
            let endpoint = Endpoint::new(target, shape, context.ledger);
            return Ok(Component::FindingExporter(Arc::new(External(endpoint))));
        }
        let rebuild = move || match context.ledger {
            Some(ledger) => Graph::rebuild_as(shape, &*ledger),
            None => Graph::new(shape),
        };
        let graph = tokio::task::spawn_blocking(rebuild)
            .await?
            .with_context(|| format!("the graph of `{}` cannot be rebuilt from the ledger", context.id))?;
        graph.measure();
        Ok(Component::FindingExporter(Arc::new(Embedded(Arc::new(Mutex::new(graph))))))
    }
}

struct External(Endpoint);

#[async_trait]
impl FindingExporter for External {
    async fn export(&self, entries: &[LedgerEntry]) -> Result<Vec<Reject>, Refusal> {
        self.0.export(entries).await
    }
}

struct Embedded(Arc<Mutex<Graph>>);

#[async_trait]
impl FindingExporter for Embedded {
    async fn export(&self, entries: &[LedgerEntry]) -> Result<Vec<Reject>, Refusal> {
        let graph = Arc::clone(&self.0);
        let findings: Vec<_> = entries.iter().map(|entry| entry.finding.clone()).collect();
        let write = move || {
            let mut graph = graph.lock().unwrap_or_else(PoisonError::into_inner);
            findings.iter().try_for_each(|finding| graph.apply(finding))?;
            graph.measure();
            anyhow::Ok(())
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => Ok(Vec::new()),
            Ok(Err(error)) => Err(Refusal::busy(format!("the graph cannot be written: {error:#}"))),
            Err(error) => Err(Refusal::busy(format!("the graph was not written: {error}"))),
        }
    }
}
