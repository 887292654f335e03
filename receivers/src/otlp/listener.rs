//! Accepts connections within a limit, and lets them finish when the receiver stops.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::{self, Limits};
use super::intake::Intake;
use super::post::{self, Paths};
use super::{grpc, settings};

/// After an accept that failed, usually for want of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// What is spoken on a listener.
#[derive(Clone)]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP at these paths.
    Http(Arc<Paths>),
}

/// A bound socket and what is spoken on it.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// What is spoken.
    pub protocol: Protocol,
    /// Connections beyond this are closed at once, so that their peers look elsewhere.
    pub connections_max: usize,
    /// For what is under way when the receiver stops.
    pub drain: Duration,
    /// For each of its connections.
    pub limits: Limits,
    /// The largest message.
    pub message_bytes_max: usize,
}

/// Binds `endpoint`, which must be loopback unless it is called insecure.
///
/// # Errors
/// Names the endpoint and what is wrong with it.
pub async fn bind(endpoint: &str, insecure: bool) -> anyhow::Result<TcpListener> {
    use anyhow::Context;
    let (host, port) = settings::read_endpoint(endpoint).map_err(anyhow::Error::msg)?;
    let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), port))
        .await
        .with_context(|| format!("cannot look up `{endpoint}`"))?
        .collect();
    // One socket listens on one address, and peers that mean `localhost` say 127.0.0.1.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    if !insecure && !addresses.iter().all(|address| address.ip().is_loopback()) {
        anyhow::bail!(settings::beyond_loopback(endpoint));
    }
    TcpListener::bind(&*addresses).await.with_context(|| format!("cannot listen on `{endpoint}`"))
}

impl Listener {
    /// Accepts until the intake's `stop`, then waits for the connections to finish.
    pub async fn run(self, intake: Arc<Intake>) {
        let Listener { socket, protocol, connections_max, drain, limits, message_bytes_max: _ } = self;
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = intake.stop.cancelled() => break,
                Some(ended) = connections.join_next() => note_panic(ended),
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) if connections.len() < connections_max => {
                        connections.spawn(serve(stream, peer.ip(), limits, protocol.clone(), intake.clone()));
                    }
                    Ok(_) => intake.meter.connections_refused.increment(1),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection, trying again");
                        sleep(BREATH).await;
                    }
                },
            }
        }
        drop(socket);
        let finish = async {
            while let Some(ended) = connections.join_next().await {
                note_panic(ended);
            }
        };
        if timeout(drain, finish).await.is_err() {
            tracing::warn!(connections = connections.len(), "cut off what was still under way at the end");
            connections.shutdown().await;
        }
    }
}

fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an OTLP connection ended in a panic; its sender has no answer and sends again");
    }
}

async fn serve(stream: TcpStream, peer: IpAddr, limits: Limits, protocol: Protocol, intake: Arc<Intake>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let stop = intake.stop.clone();
    match protocol {
        Protocol::Grpc => {
            let answer = move |request| {
                let intake = intake.clone();
                async move { grpc::answer(&intake, request, peer).await }
            };
            connection::serve(stream, limits, stop, answer).await;
        }
        Protocol::Http(paths) => {
            let answer = move |request| {
                let (intake, paths) = (intake.clone(), paths.clone());
                async move { post::answer(&intake, &paths, request, peer).await }
            };
            connection::serve(stream, limits, stop, answer).await;
        }
    }
}
