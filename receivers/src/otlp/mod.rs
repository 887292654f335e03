//! Receives OTLP over gRPC and HTTP, and answers each sender only after the pipeline has answered.
//!
//! ```yaml
//! otlp:
//!   protocols:
//!     grpc: { endpoint: 127.0.0.1:4317, max_recv_msg_size_mib: 4 }
//!     http: { endpoint: 127.0.0.1:4318, max_request_body_size: 20971520 }
//! ```
//!
//! A request is read into one buffer (`body`), inflated once ([`inflate`]), transcoded where it is JSON (`json`), walked,
//! submitted (`intake`) and answered (`grpc`, `post`), all in the task of its connection (`connection`). Frames stay the bytes
//! they came as.
//!
//! Credentials are checked before a body is read, by an extension; TLS is `tls`.
//!
//! Deliberately absent: any queue. What is not taken is refused.

pub mod account;
pub mod body;
mod connection;
mod cors;
mod grpc;
pub mod inflate;
mod intake;
pub mod json;
mod listener;
mod meter;
mod post;
mod reply;
mod settings;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use homeostat_pipeline::budget::Budget;
use homeostat_pipeline::contract;
use homeostat_pipeline::engine::Inlet;
use homeostat_pipeline::extension::{Auth, Side};
use homeostat_pipeline::registry::{Component, Context, Registration, Role, Settings};
use homeostat_pipeline::settings::{Files, Problem, read};
use tokio_util::sync::CancellationToken;

pub use grpc::read_timeout as read_grpc_timeout;

use body::Pace;
use connection::{Ends, Limits};
use cors::Cors;
use intake::{Gate, Intake};
use listener::{Listener, Protocol};
use meter::Meter;
use post::Paths;
use settings::{Grpc, Http, Otlp, period_or};

const MIB: usize = 1024 * 1024;
const GRPC_MESSAGE_MIB: u32 = 4;
const HTTP_BODY_BYTES: u64 = 20 * 1024 * 1024;
const CONNECTIONS_MAX: usize = 1024;
const STREAMS_MAX: u32 = 128;
/// Longer than an exporter's time-out, shorter than the process has when it is told to end.
const DRAIN: Duration = Duration::from_secs(6);
const FIRST_REQUEST: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
const AGE_GRACE: Duration = Duration::from_secs(10);

/// `otlp` in the list of receivers.
pub fn registration() -> Registration {
    Registration::reading::<Otlp>(
        "otlp",
        "receives OTLP traces, metrics and logs over gRPC (4317) and HTTP (4318)",
        |node| {
            settings::check_keys(node)?;
            Ok(Box::new(read::<Otlp>(node)?))
        },
    )
}

#[async_trait]
impl Settings for Otlp {
    fn role(&self) -> Role {
        Role::Receiver
    }

    fn check(&self, files: &Files) -> Vec<Problem> {
        let mut problems = self.problems();
        problems.extend(self.listener_tls().into_iter().filter_map(|tls| tls.problem(files)));
        problems
    }

    fn request_bytes_max(&self) -> Option<u64> {
        let (grpc, http) = self.listeners();
        let grpc = grpc.map(|grpc| u64::from(grpc.message_mib()) * MIB as u64);
        grpc.max(http.map(|http| http.body_bytes()))
    }

    fn authenticators(&self) -> Vec<(Side, &Auth)> {
        self.listener_auth().into_iter().map(|auth| (Side::Guard, auth)).collect()
    }

    async fn open(&self, context: Context) -> anyhow::Result<Component> {
        let (grpc, http) = self.listeners();
        let mut listeners = Vec::new();
        if let Some(grpc) = grpc {
            listeners.push(grpc.open(&context).await?);
        }
        if let Some(http) = http {
            listeners.push(http.open(&context).await?);
        }
        Ok(Component::Receiver(Box::new(Receiver { id: context.id, budget: context.budget, listeners })))
    }
}

impl Grpc {
    fn message_mib(&self) -> u32 {
        if self.max_recv_msg_size_mib == 0 { GRPC_MESSAGE_MIB } else { self.max_recv_msg_size_mib }
    }

    async fn open(self, context: &Context) -> anyhow::Result<Listener> {
        let is_open = self.insecure || self.is_protected();
        let message_bytes_max = self.message_mib() as usize * MIB;
        let endpoint = self.endpoint.map_or_else(|| "127.0.0.1:4317".to_owned(), |endpoint| endpoint.value);
        let keepalive = self.keepalive.server_parameters;
        let limits = Limits {
            is_http2_only: true,
            streams_max: if self.max_concurrent_streams == 0 {
                STREAMS_MAX
            } else {
                self.max_concurrent_streams
            },
            first_request: FIRST_REQUEST,
            idle: period_or(keepalive.max_connection_idle, IDLE),
            age: keepalive
                .max_connection_age
                .map(|age| (age.0, period_or(keepalive.max_connection_age_grace, AGE_GRACE))),
            ping: keepalive.time.map(|time| (time.0, period_or(keepalive.timeout, PING_TIMEOUT))),
        };
        let (socket, listener) = listener::bind(context, "grpc", &endpoint, is_open).await?;
        Ok(Listener {
            socket,
            listener,
            tls: self.tls.map(|tls| tls.open(&context.files, &[b"h2"], context.stop.clone())).transpose()?,
            guard: self.auth.map(|auth| context.extensions.guard(&auth)).transpose()?,
            protocol: Protocol::Grpc,
            connections_max: CONNECTIONS_MAX,
            drain: DRAIN,
            limits,
            message_bytes_max,
            pace: Pace::default(),
        })
    }
}

impl Http {
    fn body_bytes(&self) -> u64 {
        if self.max_request_body_size == 0 { HTTP_BODY_BYTES } else { self.max_request_body_size }
    }

    async fn open(self, context: &Context) -> anyhow::Result<Listener> {
        let is_open = self.insecure || self.is_protected();
        let bytes = self.body_bytes();
        let endpoint = self.endpoint.map_or_else(|| "127.0.0.1:4318".to_owned(), |endpoint| endpoint.value);
        let limits = Limits {
            is_http2_only: false,
            streams_max: STREAMS_MAX,
            first_request: period_or(self.read_header_timeout, FIRST_REQUEST),
            idle: period_or(self.idle_timeout, IDLE),
            age: None,
            ping: None,
        };
        let pace = Pace::default();
        let paths = Paths {
            signals: [self.traces_url_path, self.metrics_url_path, self.logs_url_path],
            cors: self.cors.filter(Cors::is_on),
        };
        let (socket, listener) = listener::bind(context, "http", &endpoint, is_open).await?;
        Ok(Listener {
            socket,
            listener,
            tls: self
                .tls
                .map(|tls| tls.open(&context.files, &[b"h2", b"http/1.1"], context.stop.clone()))
                .transpose()?,
            guard: self.auth.map(|auth| context.extensions.guard(&auth)).transpose()?,
            protocol: Protocol::Http(Arc::new(paths)),
            connections_max: CONNECTIONS_MAX,
            drain: DRAIN,
            limits,
            message_bytes_max: usize::try_from(bytes)?,
            pace: Pace { longest: period_or(self.read_timeout, pace.longest), ..pace },
        })
    }
}

/// The receiver, bound.
struct Receiver {
    id: String,
    budget: Budget,
    listeners: Vec<Listener>,
}

impl Receiver {
    async fn serve<G: Gate + Clone + 'static>(self, gate: G, ends: Ends) {
        let running = self.listeners.into_iter().map(|listener| {
            let transport = match listener.protocol {
                Protocol::Grpc => "grpc",
                Protocol::Http(_) => "http",
            };
            let intake = Intake {
                gate: Box::new(gate.clone()),
                guard: listener.guard.clone(),
                meter: Meter::new(&self.id, transport),
                budget: self.budget.clone(),
                message_bytes_max: listener.message_bytes_max,
                pace: listener.pace,
                ends: ends.clone(),
                dice: AtomicU64::new(0),
            };
            listener.run(Arc::new(intake))
        });
        futures::future::join_all(running).await;
    }
}

#[async_trait]
impl contract::Receiver for Receiver {
    /// gRPC, then HTTP, of those that are configured.
    fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.socket.local_addr().ok()).collect()
    }

    async fn run(self: Box<Self>, inlet: Inlet, stop: CancellationToken) -> anyhow::Result<()> {
        let ends = Ends { leaving: stop, stopping: inlet.stopping() };
        self.serve(inlet, ends).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
