//! What a NATS subscriber sees: the CloudEvents of the stream, read by a JetStream consumer from the start.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::{self, consumer};
use futures::StreamExt;
use serde_json::Value;

use crate::schema::check_event;

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// The subject it was published on.
    pub subject: String,
    /// `Nats-Msg-Id`.
    pub id: String,
    /// The CloudEvent.
    pub body: Value,
}

impl Event {
    /// The CloudEvent's `data`.
    pub fn data(&self) -> &Value {
        &self.body["data"]
    }

    /// A text field of `data`.
    pub fn text(&self, field: &str) -> String {
        self.data()[field].as_str().unwrap_or_default().to_owned()
    }
}

/// Every event that the stream `SEA_EVENTS` holds now, each held to its schema; none when there is no stream yet.
pub async fn stored(client: &async_nats::Client) -> Vec<Event> {
    let context = jetstream::new(client.clone());
    let Ok(mut stream) = context.get_stream("SEA_EVENTS").await else { return Vec::new() };
    let Ok(state) = stream.info().await.map(|info| info.state.clone()) else { return Vec::new() };
    let config = consumer::pull::OrderedConfig::default();
    let Ok(consumer) = stream.create_consumer(config).await else { return Vec::new() };
    let Ok(mut messages) = consumer.messages().await else { return Vec::new() };
    let mut events = Vec::new();
    while (events.len() as u64) < state.messages {
        // A stream that is being changed may hold fewer than it said; the caller asks again.
        let Ok(Some(Ok(message))) = tokio::time::timeout(Duration::from_secs(10), messages.next()).await
        else {
            break;
        };
        let header =
            |name| message.headers.as_ref().and_then(|headers| headers.get(name)).map(ToString::to_string);
        let event = Event {
            subject: message.subject.to_string(),
            id: header("Nats-Msg-Id").unwrap_or_default(),
            body: serde_json::from_slice(&message.payload).unwrap_or_default(),
        };
        check_event(&event.body);
        events.push(event);
    }
    events
}

/// The deviations among `events`: uid → the names of its events, in the order of the stream.
pub fn deviations(events: &[Event]) -> BTreeMap<String, Vec<String>> {
    let mut lives: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events {
        let kind = event.body["type"].as_str().unwrap_or_default();
        if let Some(name) =
            kind.strip_prefix("sea.event.deviation_").and_then(|rest| rest.strip_suffix(".v1"))
        {
            lives.entry(event.text("uid")).or_default().push(name.to_owned());
        }
    }
    lives
}
