//! Accepts connections within a limit, and lets them finish when the receiver stops.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use homeostat_pipeline::extension::Guard;
use homeostat_pipeline::registry::Context;
use homeostat_pipeline::sockets::Socket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::body::Pace;
use super::connection::{self, Limits};
use super::intake::Intake;
use super::post::{self, Paths};
use super::tls::Acceptor;
use super::{grpc, settings};

/// After an accept that failed, usually for want of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// For what is under way when another receiver takes over: longer than senders wait who do not say for how long.
const GIVING_WAY: Duration = Duration::from_secs(60);

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
    /// The socket, as long as this accepts.
    pub socket: Socket,
    /// To accept from.
    pub listener: TcpListener,
    /// Plain where there is none.
    pub tls: Option<Acceptor>,
    /// Who may send; everybody where there is none.
    pub guard: Option<Arc<dyn Guard>>,
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
    /// How fast bodies have to come.
    pub pace: Pace,
}

/// Binds `endpoint`, which must be loopback unless it is called insecure, or takes over the socket of the receiver that has it.
///
/// # Errors
/// Names the endpoint and what is wrong with it.
pub async fn bind(
    context: &Context,
    name: &str,
    endpoint: &str,
    insecure: bool,
) -> anyhow::Result<(Socket, TcpListener)> {
    use anyhow::Context as _;
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
    let socket = context.sockets.bind(&context.id, name, &addresses);
    let socket = socket.with_context(|| format!("cannot listen on `{endpoint}`"))?;
    let listener = TcpListener::from_std(socket.listener()?)?;
    Ok((socket, listener))
}

impl Listener {
    /// Accepts until the receiver ends, then waits for the connections to finish.
    pub async fn run(self, intake: Arc<Intake>) {
        let Listener {
            socket,
            listener,
            tls,
            guard: _,
            protocol,
            connections_max,
            drain,
            limits,
            message_bytes_max: _,
            pace: _,
        } = self;
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = intake.ends.leaving.cancelled() => break,
                Some(ended) = connections.join_next() => note_panic(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) if connections.len() < connections_max => {
                        let (tls, protocol, intake) = (tls.clone(), protocol.clone(), intake.clone());
                        connections.spawn(serve(stream, tls, peer.ip(), limits, protocol, intake));
                    }
                    Ok(_) => intake.meter.connection_refused(),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection, trying again");
                        sleep(BREATH).await;
                    }
                },
            }
        }
        drop((listener, socket));
        let finish = async {
            while let Some(ended) = connections.join_next().await {
                note_panic(ended);
            }
        };
        // Who only gives way has time for what its senders still wait for.
        let end = async {
            let stopping = intake.ends.stopping.cancelled();
            if timeout(GIVING_WAY, stopping).await.is_ok() {
                sleep(drain).await;
            }
        };
        let is_finished = tokio::select! {
            biased;
            () = finish => true,
            () = end => false,
        };
        if !is_finished {
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

async fn serve(
    stream: TcpStream,
    tls: Option<Acceptor>,
    peer: IpAddr,
    limits: Limits,
    protocol: Protocol,
    intake: Arc<Intake>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let Some(tls) = tls else { return speak(stream, peer, limits, protocol, intake).await };
    let handshake = timeout(limits.first_request, TlsAcceptor::from(tls.get()).accept(stream));
    match intake.ends.stopping.clone().run_until_cancelled(handshake).await {
        Some(Ok(Ok(stream))) => Box::pin(speak(stream, peer, limits, protocol, intake)).await,
        Some(Ok(Err(error))) => tracing::debug!(%error, "a TLS handshake failed"),
        Some(Err(_)) | None => tracing::debug!("a TLS handshake was cut off"),
    }
}

async fn speak<S>(stream: S, peer: IpAddr, limits: Limits, protocol: Protocol, intake: Arc<Intake>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (ends, shared) = (intake.ends.clone(), intake.clone());
    let end = match protocol {
        Protocol::Grpc => {
            let answer = move |request| {
                let intake = intake.clone();
                async move { grpc::answer(&intake, request, peer).await }
            };
            connection::serve(stream, limits, ends, answer).await
        }
        Protocol::Http(paths) => {
            let answer = move |request| {
                let (intake, paths) = (intake.clone(), paths.clone());
                async move { post::answer(&intake, &paths, request, peer).await }
            };
            connection::serve(stream, limits, ends, answer).await
        }
    };
    shared.meter.ended(end);
}
