//! The connection and the stream behind it, kept up in the background: made, watched, and bound again after every reconnect.

use std::time::Duration;

use async_nats::jetstream::context::{Context, ContextBuilder, GetStreamByNameErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use async_nats::{ConnectOptions, Event, ServerAddr};
use metrics::gauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::settings::StreamSettings;

/// What is known before anything was said.
const NOT_YET: &str = "not connected yet";
/// What is known when a connection has ended and the next attempt has not failed yet.
const LOST: &str = "disconnected";
/// The first and the longest pause before the stream is looked for again.
const REBIND_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What is between us and the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No connection, and what was said last about it.
    Down(String),
    /// A connection, but no stream that takes our subjects.
    Unbound(String),
    /// Ready: the stream of this name takes our subjects.
    Bound(String),
}

/// What the connection says of itself.
#[derive(Clone, Debug, Default)]
struct Wire {
    is_up: bool,
    /// One more with every connection, so that a quick reconnect is not missed.
    generation: u64,
    fault: String,
}

/// What is kept up.
pub struct Link {
    jetstream: Context,
    state: watch::Receiver<State>,
    doubt: watch::Sender<()>,
    /// The servers as people know them, without credentials.
    peers: String,
}

/// What [`Link::open`] needs.
pub struct Plan {
    /// The component id, for logs and metrics.
    pub id: String,
    /// Without credentials.
    pub addresses: Vec<ServerAddr>,
    /// With them.
    pub options: ConnectOptions,
    /// For answers and acknowledgements.
    pub timeout: Duration,
    /// What to create when nothing covers the subjects.
    pub stream: StreamSettings,
    /// `sea.event.>`.
    pub wildcard: String,
}

impl Link {
    /// Begins to connect; the connection is made in the background and for as long as `stop` allows.
    ///
    /// # Errors
    /// The addresses are none. A server that is not there is no error.
    pub async fn open(plan: Plan, stop: CancellationToken) -> anyhow::Result<Link> {
        let (wire_tx, wire) = watch::channel(Wire { fault: NOT_YET.to_owned(), ..Wire::default() });
        let options = plan.options.event_callback(move |event| {
            wire_tx.send_modify(|wire| note(wire, event));
            std::future::ready(())
        });
        let peers: Vec<&str> = plan.addresses.iter().map(ServerAddr::as_url_str).collect();
        let peers = peers.join(", ");
        let client = options.connect(plan.addresses).await?;
        let jetstream = ContextBuilder::new().timeout(plan.timeout).ack_timeout(plan.timeout).build(client);
        let (state_tx, state) = watch::channel(State::Down(NOT_YET.to_owned()));
        let (doubt, doubts) = watch::channel(());
        let binder = Binder {
            id: plan.id,
            jetstream: jetstream.clone(),
            stream: plan.stream,
            wildcard: plan.wildcard,
            peers: peers.clone(),
            state: state_tx,
            is_outage_said: false,
        };
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => (),
                () = binder.keep(wire, doubts) => (),
            }
        });
        Ok(Link { jetstream, state, doubt, peers })
    }

    /// The stream, waiting for it for at most `patience`.
    ///
    /// # Errors
    /// Says what is missing, and where.
    pub async fn ready(&self, patience: Duration) -> Result<&Context, String> {
        let mut state = self.state.clone();
        let bound = state.wait_for(|state| matches!(state, State::Bound(_)));
        let is_bound = tokio::time::timeout(patience, bound).await.is_ok_and(|state| state.is_ok());
        if is_bound { Ok(&self.jetstream) } else { Err(self.why()) }
    }

    /// What stands between us and the stream, for people.
    pub fn why(&self) -> String {
        match &*self.state.borrow() {
            State::Down(fault) => format!("no connection to {}: {fault}", self.peers),
            State::Unbound(fault) => format!("no stream at {}: {fault}", self.peers),
            State::Bound(stream) => format!("the stream {stream} at {}", self.peers),
        }
    }

    /// The stream did not take what it covers: look for it again.
    pub fn doubt(&self) {
        self.doubt.send_modify(|()| ());
    }
}

fn note(wire: &mut Wire, event: Event) {
    match event {
        Event::Connected => {
            wire.is_up = true;
            wire.generation += 1;
        }
        Event::Disconnected | Event::Closed => {
            wire.is_up = false;
            wire.fault = LOST.to_owned();
        }
        Event::ServerError(error) => wire.fault = error.to_string(),
        Event::ClientError(error) => wire.fault = error.to_string(),
        Event::LameDuckMode | Event::Draining | Event::SlowConsumer(_) => {}
    }
}

struct Binder {
    id: String,
    jetstream: Context,
    stream: StreamSettings,
    wildcard: String,
    peers: String,
    state: watch::Sender<State>,
    /// Whether the log knows of the outage that there is.
    is_outage_said: bool,
}

impl Binder {
    async fn keep(mut self, mut wire: watch::Receiver<Wire>, mut doubts: watch::Receiver<()>) {
        let mut bound_in = None;
        let mut pause = REBIND_PAUSE.0;
        loop {
            let now = wire.borrow_and_update().clone();
            doubts.borrow_and_update();
            if !now.is_up {
                bound_in = None;
                self.say(State::Down(now.fault));
            } else if bound_in != Some(now.generation) {
                let state = self.bind().await.map_or_else(State::Unbound, State::Bound);
                bound_in = matches!(state, State::Bound(_)).then_some(now.generation);
                self.say(state);
            }
            let is_settled = !now.is_up || bound_in.is_some();
            if is_settled {
                pause = REBIND_PAUSE.0;
            }
            tokio::select! {
                changed = wire.changed() => if changed.is_err() { return },
                changed = doubts.changed() => {
                    if changed.is_err() { return }
                    bound_in = None;
                }
                () = tokio::time::sleep(pause), if !is_settled => pause = (pause * 2).min(REBIND_PAUSE.1),
            }
        }
    }

    /// Says a change to those who wait, and in the log: an outage once, with the first reason that tells something.
    fn say(&mut self, state: State) {
        let is_news = self.state.send_if_modified(|last| {
            let is_news = *last != state;
            last.clone_from(&state);
            is_news
        });
        if !is_news {
            return;
        }
        let up = if matches!(state, State::Bound(_)) { 1.0 } else { 0.0 };
        gauge!("homeostat_nats_connected", "exporter" => self.id.clone()).set(up);
        let (exporter, servers) = (&self.id, &self.peers);
        match state {
            State::Down(fault) => {
                if !self.is_outage_said && fault != NOT_YET && fault != LOST {
                    self.is_outage_said = true;
                    tracing::warn!(exporter, servers, fault, "no connection to NATS; events wait");
                }
                return;
            }
            State::Unbound(fault) => {
                tracing::error!(exporter, servers, fault, "no stream takes the events; they wait");
            }
            State::Bound(stream) => tracing::info!(exporter, servers, stream, "events go to NATS"),
        }
        self.is_outage_said = false;
    }

    /// The name of the stream that takes our subjects: one that is there, else ours, made now.
    async fn bind(&self) -> Result<String, String> {
        let wildcard = &self.wildcard;
        let name = match self.jetstream.stream_by_subject(wildcard).await {
            Ok(name) => name,
            Err(error) if error.kind() == GetStreamByNameErrorKind::NotFound => {
                if !self.stream.create {
                    return Err(format!("none takes {wildcard} and `stream.create` is false (create one)"));
                }
                return self.create().await;
            }
            Err(error) => return Err(hinted(spoken(&error))),
        };
        let stream = self.jetstream.get_stream(&name).await.map_err(|error| spoken(&error))?;
        let config = &stream.cached_info().config;
        // Subjects of streams never overlap, so where this one takes only a part of ours, no other can take them all.
        if !config.subjects.iter().any(|subject| covers(subject, wildcard)) {
            return Err(format!(
                "{name} takes a part of {wildcard}, and NATS allows no second stream beside it (let one stream take {wildcard})"
            ));
        }
        if config.no_ack {
            return Err(format!("the stream {name} acknowledges nothing (set its `no_ack` to false)"));
        }
        Ok(name)
    }

    async fn create(&self) -> Result<String, String> {
        let name = self.stream.name().to_owned();
        let config = Config {
            name: name.clone(),
            description: Some("the events of homeostat".to_owned()),
            subjects: vec![self.wildcard.clone()],
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            max_age: self.stream.max_age.0,
            max_bytes: i64::try_from(self.stream.max_bytes).ok().filter(|bytes| *bytes > 0).unwrap_or(-1),
            num_replicas: self.stream.replicas,
            duplicate_window: self.stream.duplicate_window.0,
            ..Config::default()
        };
        self.jetstream.create_stream(config).await.map_err(|error| spoken(&error))?;
        tracing::info!(exporter = self.id, stream = name, "created the stream");
        Ok(name)
    }
}

/// An error with its causes, in one line.
pub fn spoken(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// Nobody answers JetStream's subjects where a server runs without it, and the client says that in words of its own.
fn hinted(fault: String) -> String {
    let is_missing = fault.contains("JetStream resource does not exist") || fault.contains("no responders");
    if is_missing {
        format!("{fault} (is JetStream switched on there? start the server with `-js`)")
    } else {
        fault
    }
}

/// Whether every subject that `wanted` matches is matched by `held`; both may end in `>` and hold `*`.
fn covers(held: &str, wanted: &str) -> bool {
    let (mut held, mut wanted) = (held.split('.'), wanted.split('.'));
    loop {
        match (held.next(), wanted.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(held), Some(wanted)) if held == wanted => {}
            (Some(_) | None, _) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_jetstream_is_told_from_one_without_the_stream() {
        let fault = "request error: request failed: requested JetStream resource does not exist".to_owned();
        assert!(hinted(fault).ends_with("(is JetStream switched on there? start the server with `-js`)"));
        assert_eq!(hinted("timed out".to_owned()), "timed out");
    }

    #[test]
    fn a_stream_covers_what_all_its_subjects_would_take() {
        for (held, wanted, expected) in [
            ("sea.event.>", "sea.event.>", true),
            ("sea.>", "sea.event.>", true),
            (">", "sea.event.>", true),
            ("*.event.>", "sea.event.>", true),
            ("sea.event.*", "sea.event.>", false),
            ("sea.event.deviation_detected.v1.>", "sea.event.>", false),
            ("sea.event", "sea.event.>", false),
            ("orders.>", "sea.event.>", false),
            ("sea.*.a", "sea.event.>", false),
        ] {
            assert_eq!(covers(held, wanted), expected, "{held}");
        }
    }
}
