//! Forwards telemetry to an OTLP backend over gRPC or HTTP: the frame's bytes as they came, within the sender's deadline.
//!
//! ```yaml
//! otlp/backend: { endpoint: http://127.0.0.1:5317, timeout: 5s }
//! otlphttp/vendor: { endpoint: http://127.0.0.1:5318, headers: { api-key: "${env:API_KEY:-none}" } }
//! ```
//!
//! What the backend may take later is sent again (`attempt` says what that is) until the time is over; then the sender is
//! asked to come back. What the backend took in part is never sent again.
//!
//! Deliberately absent: compressing (frames pass through), splitting, a queue.

mod attempt;
mod settings;
mod tls;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use homeostat_pipeline::batch::{self, Content, Signal, Telemetry};
use homeostat_pipeline::contract::{Taken, TelemetryExporter};
use homeostat_pipeline::extension::{Auth, Credentials, Side};
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::{Component, Context, Registration, Role, Settings};
use homeostat_pipeline::settings::{Files, Problem, read};
use http::{HeaderMap, HeaderValue, Uri, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use metrics::{Counter, counter};
use tokio::time::{Instant, sleep, timeout_at};

use attempt::{Outcome, Payload};
use settings::{Compression, Encoding, Otlp, Protocol, RetryOnFailure, period_or};
use tls::Connector;

const TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(60);
/// A connection whose bytes nobody acknowledges for this long is given up, so that the next attempt makes a new one.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
const CONNECTIONS_IDLE_MAX: usize = 128;
/// A backend that says "at once" is not asked more often than this.
const WAIT_MIN: Duration = Duration::from_millis(10);
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// `otlp` and `otlphttp` in the list of exporters.
pub fn registrations() -> [Registration; 2] {
    [
        Registration::reading::<Otlp>(
            "otlp",
            "forwards telemetry as it came to an OTLP backend, over gRPC unless `protocol` says otherwise",
            |node| {
                settings::check_keys(node)?;
                let settings = read::<Otlp>(node)?;
                let protocol = settings.protocol.unwrap_or(Protocol::Grpc);
                Ok(Box::new(Kind { settings, protocol }))
            },
        ),
        Registration::reading::<Otlp>(
            "otlphttp",
            "forwards telemetry as it came to an OTLP backend over HTTP",
            |node| {
                settings::check_keys(node)?;
                let settings = read::<Otlp>(node)?;
                let protocol = settings.protocol.unwrap_or(Protocol::Http);
                Ok(Box::new(Kind { settings, protocol }))
            },
        ),
    ]
}

/// The settings and what the exporter's type says where they are silent.
#[derive(Debug)]
struct Kind {
    settings: Otlp,
    protocol: Protocol,
}

#[async_trait]
impl Settings for Kind {
    fn role(&self) -> Role {
        Role::TelemetryExporter
    }

    fn check(&self, files: &Files) -> Vec<Problem> {
        let mut problems = self.settings.problems(self.protocol);
        problems.extend(self.settings.tls.iter().flat_map(|tls| tls.problems(files)));
        problems
    }

    fn authenticators(&self) -> Vec<(Side, &Auth)> {
        self.settings.auth.iter().map(|auth| (Side::Credentials, auth)).collect()
    }

    async fn open(&self, context: Context) -> anyhow::Result<Component> {
        Ok(Component::TelemetryExporter(Arc::new(Exporter::new(self, &context)?)))
    }
}

/// The exporter: a client and where each signal goes.
struct Exporter {
    client: Client<Connector, Payload>,
    protocol: Protocol,
    compression: Compression,
    encoding: Option<Encoding>,
    /// In the order of [`Signal::ALL`].
    uris: [Uri; 3],
    headers: HeaderMap,
    credentials: Option<Arc<dyn Credentials>>,
    timeout: Duration,
    retry: RetryOnFailure,
    retries: Counter,
    /// Makes the waits differ.
    dice: AtomicU64,
}

impl Exporter {
    fn new(kind: &Kind, context: &Context) -> anyhow::Result<Exporter> {
        let Kind { settings, protocol } = kind;
        if let Some(problem) = settings.problems(*protocol).into_iter().find(|problem| !problem.is_warning) {
            return Err(problem.into());
        }
        let own = [&settings.traces_endpoint, &settings.metrics_endpoint, &settings.logs_endpoint];
        let mut is_secure = false;
        let mut uris = [(); 3].map(|()| Uri::default());
        for ((signal, own), uri) in Signal::ALL.into_iter().zip(own).zip(&mut uris) {
            let endpoint = own.as_ref().or(settings.endpoint.as_ref());
            let target =
                settings.target(endpoint.ok_or_else(|| anyhow::anyhow!("an endpoint is missing"))?)?;
            let path = match (protocol, own) {
                (Protocol::Grpc, _) => attempt::grpc_path(signal),
                (Protocol::Http, None) => attempt::http_path(signal),
                (Protocol::Http, Some(_)) => "",
            };
            is_secure |= target.scheme == "https";
            *uri = format!("{}://{}{}{path}", target.scheme, target.authority, target.path).parse()?;
        }
        let mut headers = settings.header_map()?;
        headers
            .entry(header::USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!("homeostat/", env!("CARGO_PKG_VERSION"))));
        let connector = if is_secure {
            let alpn: &[u8] = match protocol {
                Protocol::Grpc => b"h2",
                Protocol::Http => b"http/1.1",
            };
            let tls = settings.tls.clone().unwrap_or_default();
            Connector::secure(tcp(), &tls, alpn, &context.files, context.stop.clone())?
        } else {
            Connector::plain(tcp())
        };
        let credentials =
            settings.auth.as_ref().map(|auth| context.extensions.credentials(auth)).transpose()?;
        Ok(Exporter {
            client: client(*protocol, connector),
            credentials,
            protocol: *protocol,
            compression: settings.compression,
            encoding: settings.encoding,
            uris,
            headers,
            timeout: period_or(settings.timeout, TIMEOUT),
            retry: settings.retry_on_failure,
            retries: counter!("homeostat_exporter_retries_total", "exporter" => context.id.clone()),
            dice: AtomicU64::new(0),
        })
    }

    fn uri(&self, signal: Signal) -> &Uri {
        match signal {
            Signal::Traces => &self.uris[0],
            Signal::Metrics => &self.uris[1],
            Signal::Logs => &self.uris[2],
        }
    }

    /// The bytes to send and what they are: the frame's own, unless it may not pass as it is. gRPC speaks no JSON.
    fn message(&self, telemetry: &Telemetry) -> (Content, batch::Compression, Bytes) {
        let frame = &telemetry.frame;
        let is_spoken = match (frame.content, self.protocol) {
            (Content::Protobuf, Protocol::Grpc | Protocol::Http) => true,
            (Content::Json, Protocol::Grpc) => false,
            (Content::Json, Protocol::Http) => self.encoding.is_none(),
        };
        match self.compression {
            Compression::Passthrough if is_spoken => (frame.content, frame.compression, frame.bytes.clone()),
            Compression::Passthrough | Compression::None => {
                (Content::Protobuf, batch::Compression::None, telemetry.body.clone())
            }
        }
    }

    /// Those of the settings, with the credentials as of now.
    fn headers(&self) -> Result<Cow<'_, HeaderMap>, String> {
        let Some(credentials) = &self.credentials else { return Ok(Cow::Borrowed(&self.headers)) };
        let mut value = HeaderValue::try_from(credentials.authorization().reveal())
            .map_err(|_| "the credentials are such as no header can have".to_owned())?;
        value.set_sensitive(true);
        let mut headers = self.headers.clone();
        headers.insert(header::AUTHORIZATION, value);
        Ok(Cow::Owned(headers))
    }

    async fn attempt(&self, telemetry: &Telemetry, deadline: Instant) -> Outcome {
        let (content, compression, message) = self.message(telemetry);
        let headers = match self.headers() {
            Ok(headers) => headers,
            Err(reason) => return Outcome::Later { after: None, reason },
        };
        let uri = self.uri(telemetry.signal).clone();
        let request = match self.protocol {
            Protocol::Http => attempt::http_request(uri, &headers, (content, compression), message),
            Protocol::Grpc => {
                let patience = deadline.saturating_duration_since(Instant::now());
                attempt::grpc_request(uri, &headers, compression, message, patience)
            }
        };
        match (self.client.request(request).await, self.protocol) {
            (Err(error), _) => Outcome::Later {
                after: None,
                reason: format!("the backend cannot be reached: {}", causes(&error)),
            },
            (Ok(response), Protocol::Http) => attempt::read_http(response).await,
            (Ok(response), Protocol::Grpc) => attempt::read_grpc(response).await,
        }
    }

    /// Between 0 and 1, evenly spread (a Weyl sequence).
    fn roll(&self) -> f64 {
        let roll = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) >> 48;
        roll as f64 / 65_536.0
    }

    fn unavailable(&self, signal: Signal, after: Option<Duration>, reason: &str) -> Refusal {
        Refusal::Unavailable {
            retry_after: after.unwrap_or(RETRY_AFTER_MIN).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX),
            reason: self.explain(signal, reason),
        }
    }

    /// Endpoints have no credentials in them: those that do are refused at the start.
    fn explain(&self, signal: Signal, reason: &str) -> String {
        let uri = self.uri(signal);
        format!(
            "{}://{}: {reason}",
            uri.scheme_str().unwrap_or("http"),
            uri.authority().map_or("", |at| at.as_str())
        )
    }
}

fn tcp() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    connector
}

fn client(protocol: Protocol, connector: Connector) -> Client<Connector, Payload> {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(CONNECTIONS_IDLE_MAX)
        .http2_only(protocol == Protocol::Grpc)
        .build(connector)
}

/// An error and its causes in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[async_trait]
impl TelemetryExporter for Exporter {
    async fn export(&self, telemetry: &Telemetry, deadline: Instant) -> Result<Taken, Refusal> {
        let signal = telemetry.signal;
        let start = Instant::now();
        let deadline = deadline.min(start + self.timeout);
        let last_start = match self.retry.max_elapsed_time.0 {
            Duration::ZERO => deadline,
            elapsed => deadline.min(start + elapsed),
        };
        let mut repetition = 0;
        let mut last_reason = String::from("the backend did not answer in time");
        loop {
            let outcome = match timeout_at(deadline, self.attempt(telemetry, deadline)).await {
                Ok(outcome) => outcome,
                Err(_) => return Err(self.unavailable(signal, None, &last_reason)),
            };
            let (after, reason) = match outcome {
                Outcome::Taken(taken) => return Ok(taken),
                Outcome::Never { cause, reason } => {
                    return Err(Refusal::rejected(cause, reason));
                }
                Outcome::Later { after, reason } => (after, reason),
            };
            let wait = after
                .map(|after| after.max(WAIT_MIN))
                .unwrap_or_else(|| self.retry.wait(repetition, self.roll()));
            if !self.retry.enabled || Instant::now() + wait >= last_start {
                return Err(self.unavailable(signal, after, &reason));
            }
            sleep(wait).await;
            repetition += 1;
            self.retries.increment(1);
            last_reason = reason;
        }
    }
}

#[cfg(test)]
mod tests;
