//! An external graph: any SPARQL 1.1 endpoint that takes updates.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use homeostat_pipeline::contract::Reject;
use homeostat_pipeline::ledger::{LedgerEntry, Replay};
use homeostat_pipeline::refusal::Refusal;
use http::{HeaderMap, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use metrics::counter;

use super::describe::Aggregate;
use super::index::{Act, Index, Shape};
use super::vocabulary::Namespaces;

/// Graphs written by one request.
const ACTS_PER_REQUEST: usize = 32;
/// What is read of an answer.
const ANSWER_BYTES_MAX: usize = 4096;

/// Where to, and how.
#[derive(Debug)]
pub(super) struct Target {
    pub uri: Uri,
    /// Authorization and whatever else the endpoint wants.
    pub headers: HeaderMap,
    pub timeout: Duration,
}

/// Writes findings to the endpoint.
pub(super) struct Endpoint {
    target: Target,
    client: Client<HttpConnector, Full<Bytes>>,
    shape: Shape,
    ledger: Option<Arc<dyn Replay>>,
    progress: tokio::sync::Mutex<Progress>,
}

/// What this process knows. A request leaves `waiting` only when it was answered, so an export that is given up half way, or
/// repeated, goes on where it stood.
#[derive(Default)]
struct Progress {
    /// None until the first entry says where the ledger must be read up to.
    index: Option<Index>,
    /// Sequence and update.
    waiting: std::collections::VecDeque<(u64, String)>,
    rejects: Vec<Reject>,
}

/// How the endpoint took a request.
enum Outcome {
    Done,
    /// It will never take it.
    Refused(String),
}

impl Endpoint {
    pub fn new(target: Target, shape: Shape, ledger: Option<Arc<dyn Replay>>) -> Endpoint {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(target.timeout));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Endpoint { target, client, shape, ledger, progress: tokio::sync::Mutex::default() }
    }

    pub async fn export(&self, entries: &[LedgerEntry]) -> Result<Vec<Reject>, Refusal> {
        let mut progress = self.progress.lock().await;
        let Some(first) = entries.first() else { return Ok(Vec::new()) };
        if progress.index.is_none() {
            progress.index = Some(self.index_before(first.sequence).await?);
        }
        let Progress { index: Some(index), waiting, .. } = &mut *progress else { return Ok(Vec::new()) };
        for entry in entries {
            let acts = index.apply(&entry.finding);
            let updates = acts.chunks(ACTS_PER_REQUEST).map(|acts| update(acts, &self.shape.namespaces));
            waiting.extend(updates.map(|update| (entry.sequence, update)));
        }
        while let Some((sequence, update)) = progress.waiting.front() {
            let (sequence, outcome) = (*sequence, self.send(update).await?);
            progress.waiting.pop_front();
            if let Outcome::Refused(reason) = outcome
                && progress.rejects.last().is_none_or(|reject| reject.sequence != sequence)
            {
                progress.rejects.push(Reject { sequence, reason });
            }
        }
        Ok(std::mem::take(&mut progress.rejects))
    }

    /// The index as the entries before `sequence` leave it: what retention knows.
    async fn index_before(&self, sequence: u64) -> Result<Index, Refusal> {
        let mut index = Index::new(self.shape.clone());
        let Some(ledger) = self.ledger.clone() else { return Ok(index) };
        let read = tokio::task::spawn_blocking(move || -> anyhow::Result<Index> {
            ledger.replay(sequence.saturating_sub(1), &mut |entry| {
                index.apply(&entry.finding);
                Ok(())
            })?;
            Ok(index)
        });
        match read.await {
            Ok(Ok(index)) => Ok(index),
            Ok(Err(error)) => Err(Refusal::busy(format!("the ledger cannot be read: {error:#}"))),
            Err(error) => Err(Refusal::busy(format!("the ledger was not read: {error}"))),
        }
    }

    async fn send(&self, update: &str) -> Result<Outcome, Refusal> {
        let uri = &self.target.uri;
        let answer = tokio::time::timeout(self.target.timeout, self.request(update)).await;
        let (status, words) = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(Refusal::busy(format!("{uri} cannot be reached: {error:#}"))),
            Err(_) => {
                return Err(Refusal::busy(format!(
                    "{uri} has not answered within {:?}",
                    self.target.timeout
                )));
            }
        };
        let said = format!("{uri} answered {status}: {words}");
        match status.as_u16() {
            200..=299 => {
                counter!("homeostat_kg_updates_total").increment(1);
                Ok(Outcome::Done)
            }
            // Malformed or too large: no repeat will change that.
            400 | 413 | 415 | 422 => Ok(Outcome::Refused(said)),
            // Everything else an operator or time can put right: credentials, the path, load.
            _ => Err(Refusal::busy(said)),
        }
    }

    async fn request(&self, update: &str) -> anyhow::Result<(http::StatusCode, String)> {
        let mut request = Request::post(self.target.uri.clone())
            .header(header::CONTENT_TYPE, "application/sparql-update")
            .body(Full::new(Bytes::from(update.to_owned())))
            .context("no request can be made")?;
        request.headers_mut().extend(self.target.headers.clone());
        let answer = self.client.request(request).await?;
        let status = answer.status();
        // The words are for a message; an answer that is longer, or breaks off, was an answer all the same.
        let words = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let words = words.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let words: String = String::from_utf8_lossy(&words).chars().take(200).collect();
        Ok((status, words.replace(char::is_control, " ").trim().to_owned()))
    }
}

/// One SPARQL update for `acts`.
fn update(acts: &[Act], names: &Namespaces) -> String {
    let parts: Vec<String> = acts
        .iter()
        .map(|act| match act {
            Act::Put(aggregate) => put(aggregate, names),
            Act::Drop(graph) => format!("DROP SILENT GRAPH {graph}"),
        })
        .collect();
    parts.join(" ;\n")
}

/// Replaces the graph, unless it holds a greater version. Terms are serialised by oxrdf; nothing is pasted.
fn put(aggregate: &Aggregate, names: &Namespaces) -> String {
    let graph = &aggregate.graph;
    let version = names.homeo("version");
    let is_newer = format!(
        "FILTER NOT EXISTS {{ GRAPH {graph} {{ ?node {version} ?version . FILTER(?version > {}) }} }}",
        aggregate.version
    );
    let triples: String = aggregate.triples.iter().map(|triple| format!("{triple} .\n")).collect();
    format!(
        "DELETE {{ GRAPH {graph} {{ ?s ?p ?o }} }} WHERE {{ GRAPH {graph} {{ ?s ?p ?o }} {is_newer} }} ;\n\
         INSERT {{ GRAPH {graph} {{\n{triples}}} }} WHERE {{ {is_newer} }}"
    )
}
