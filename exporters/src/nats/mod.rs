//! `nats` publishes every finding to NATS JetStream as CloudEvents, once each, and waits for the server to have stored it.
//!
//! ```yaml
//! nats:
//!   servers: ["nats://127.0.0.1:4222"]
//!   prefix: sea
//!   subject_layout: routed        # or flat: without the tail of severity, context and requirement
//!   stream: { name: SEA_EVENTS, max_age: 7d, max_bytes: 0, replicas: 1, duplicate_window: 2m, create: true }
//!   auth: {}                      # user and password, or token, or nkey, or creds_file
//!   connect_timeout: 5s
//!   timeout: 5s
//!   ping_interval: 3s
//!   in_flight: 256
//! ```
//!
//! A publish counts when its acknowledgement has come with a sequence above 0. Until all events of a batch have one, the
//! batch is not written and comes again; `Nats-Msg-Id` lets the server, and consumers, know what they have.

mod event;
mod link;
mod schema;
mod settings;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{
    Context as JetStream, PublishAckFuture, PublishError, PublishErrorKind,
};
use async_trait::async_trait;
use homeostat_pipeline::contract::{FindingExporter, Reject};
use homeostat_pipeline::ledger::LedgerEntry;
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::{Component, Context, Role, Settings};
use homeostat_pipeline::settings::{Files, Problem};
use metrics::counter;

use event::{Event, Naming, events};
use link::{Link, Plan, spoken};
pub use schema::{EventSchema, schemas};
pub use settings::{Auth, Nats, StreamSettings};

#[async_trait]
impl Settings for Nats {
    fn role(&self) -> Role {
        Role::FindingExporter
    }

    fn check(&self, files: &Files) -> Vec<Problem> {
        self.problems(files)
    }

    fn files(&self) -> Vec<&str> {
        self.auth.creds_file.iter().map(|file| file.value.as_str()).collect()
    }

    async fn open(&self, context: Context) -> anyhow::Result<Component> {
        let (addresses, credentials) = self.addresses()?;
        let naming = self.naming();
        let plan = Plan {
            id: context.id.clone(),
            addresses,
            options: self.options(&context.files, credentials)?,
            timeout: self.timeout.0,
            stream: self.stream.clone(),
            wildcard: naming.wildcard(),
        };
        let link = Link::open(plan, context.stop).await?;
        Ok(Component::FindingExporter(Arc::new(Exporter {
            id: context.id,
            link,
            naming,
            patience: self.connect_timeout.0,
            in_flight: self.in_flight,
        })))
    }
}

struct Exporter {
    id: String,
    link: Link,
    naming: Naming,
    /// How long one export waits for the connection before it says that there is none.
    patience: Duration,
    in_flight: usize,
}

#[async_trait]
impl FindingExporter for Exporter {
    async fn export(&self, entries: &[LedgerEntry]) -> Result<Vec<Reject>, Refusal> {
        let jetstream = self.link.ready(self.patience).await.map_err(Refusal::busy)?;
        let mut batch = Batch { exporter: self, waiting: VecDeque::new(), rejects: BTreeMap::new() };
        for entry in entries {
            for event in events(entry, &self.naming) {
                if batch.waiting.len() >= self.in_flight {
                    batch.settle_one().await?;
                }
                batch.publish(jetstream, entry.sequence, event).await?;
            }
        }
        while !batch.waiting.is_empty() {
            batch.settle_one().await?;
        }
        Ok(batch.rejects.into_iter().map(|(sequence, reason)| Reject { sequence, reason }).collect())
    }
}

/// One export under way: what was published and not yet acknowledged, and what the server refused for good.
struct Batch<'a> {
    exporter: &'a Exporter,
    waiting: VecDeque<(u64, String, PublishAckFuture)>,
    rejects: BTreeMap<u64, String>,
}

/// What a failed publish means.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// This event can never be stored.
    Final,
    /// The stream is not where it was.
    Unbound,
    /// Later.
    Later,
}

impl Batch<'_> {
    /// The first await of async-nats: the message is on its way.
    async fn publish(&mut self, jetstream: &JetStream, sequence: u64, event: Event) -> Result<(), Refusal> {
        let Event { id, subject, headers, payload } = event;
        match jetstream.publish_with_headers(subject, headers, payload).await {
            Ok(ack) => {
                self.waiting.push_back((sequence, id, ack));
                Ok(())
            }
            Err(error) => self.failed(sequence, &id, &error),
        }
    }

    /// The second await: the server has stored it, or says why not.
    async fn settle_one(&mut self) -> Result<(), Refusal> {
        let Some((sequence, id, ack)) = self.waiting.pop_front() else { return Ok(()) };
        match ack.await {
            Ok(ack) if ack.sequence > 0 => {
                let exporter = self.exporter.id.clone();
                let is_duplicate = if ack.duplicate { "true" } else { "false" };
                counter!("homeostat_nats_published_total", "exporter" => exporter, "duplicate" => is_duplicate)
                    .increment(1);
                Ok(())
            }
            Ok(ack) => Err(Refusal::busy(format!("the stream {} did not store {id}", ack.stream))),
            Err(error) => self.failed(sequence, &id, &error),
        }
    }

    fn failed(&mut self, sequence: u64, id: &str, error: &PublishError) -> Result<(), Refusal> {
        let code = std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>())
            .map(async_nats::jetstream::Error::error_code);
        let link = &self.exporter.link;
        match failure(error.kind(), code) {
            Failure::Final => {
                self.rejects.entry(sequence).or_insert_with(|| format!("event {id}: {}", spoken(error)));
                Ok(())
            }
            Failure::Unbound => {
                link.doubt();
                Err(Refusal::busy(format!("{}: {}", link.why(), spoken(error))))
            }
            Failure::Later => Err(Refusal::busy(format!("{}: {}", link.why(), spoken(error)))),
        }
    }
}

fn failure(kind: PublishErrorKind, code: Option<ErrorCode>) -> Failure {
    match kind {
        PublishErrorKind::MaxPayloadExceeded => Failure::Final,
        PublishErrorKind::StreamNotFound => Failure::Unbound,
        PublishErrorKind::Other => match code {
            Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM) => {
                Failure::Final
            }
            Some(ErrorCode::STREAM_NOT_FOUND | ErrorCode::STREAM_SEALED) => Failure::Unbound,
            Some(_) | None => Failure::Later,
        },
        PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending => Failure::Later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_never_be_stored_is_final() {
        let code = |code| failure(PublishErrorKind::Other, Some(code));
        assert_eq!(failure(PublishErrorKind::MaxPayloadExceeded, None), Failure::Final);
        assert_eq!(code(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM), Failure::Final);
        assert_eq!(failure(PublishErrorKind::StreamNotFound, None), Failure::Unbound);
        for full in [ErrorCode::STORAGE_RESOURCES_EXCEEDED, ErrorCode::STREAM_STORE_FAILED] {
            assert_eq!(code(full), Failure::Later);
        }
        for kind in [PublishErrorKind::TimedOut, PublishErrorKind::BrokenPipe, PublishErrorKind::Other] {
            assert_eq!(failure(kind, None), Failure::Later);
        }
    }
}
