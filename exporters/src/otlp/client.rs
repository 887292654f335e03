//! One attempt to hand a request to the backend: over which connection, with which headers, in which encoding.
//!
//! An encoding that the backend does not take (HTTP 415, gRPC UNIMPLEMENTED) is remembered for an hour, and requests go out as
//! plain protobuf meanwhile. Whether it is the encoding is found out by sending that request plain at once.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use homeostat_pipeline::batch::{Compression, Content, Signal};
use homeostat_pipeline::clock::Clock;
use homeostat_pipeline::extension::Credentials;
use homeostat_pipeline::refusal::Cause;
use homeostat_pipeline::registry::Context;
use http::{HeaderMap, HeaderValue, Uri, header};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};

use super::CONNECT_TIMEOUT;
use super::answer::{self, Outcome};
use super::attempt::{self, Payload};
use super::parcel::Parcel;
use super::settings::{Encoding, Otlp, Protocol, Wanted};
use super::tls::Connector;

const IDLE: Duration = Duration::from_secs(60);
/// A connection whose bytes nobody acknowledges for this long is given up, so that the next attempt makes a new one.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
const CONNECTIONS_IDLE_MAX: usize = 128;
/// How long a backend is not asked again to take an encoding.
const REMEMBERED: Duration = Duration::from_hours(1);

/// A client and where each signal goes.
pub struct Client {
    connections: legacy::Client<Connector, Payload>,
    protocol: Protocol,
    wanted: Wanted,
    encoding: Option<Encoding>,
    /// In the order of [`Signal::ALL`].
    uris: [Uri; 3],
    headers: HeaderMap,
    credentials: Option<Arc<dyn Credentials>>,
    clock: Arc<dyn Clock>,
    unspoken: Unspoken,
    id: String,
}

impl Client {
    /// A client for `protocol`. Connects when it is first asked.
    ///
    /// # Errors
    /// The settings are not valid, a file of `tls` is not what it should be, or an extension is missing.
    pub fn new(settings: &Otlp, protocol: Protocol, context: &Context) -> anyhow::Result<Client> {
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
        Ok(Client {
            connections: connections(protocol, connector),
            protocol,
            wanted: settings.compression,
            encoding: settings.encoding,
            uris,
            headers,
            credentials,
            clock: Arc::clone(&context.clock),
            unspoken: Unspoken::default(),
            id: context.id.clone(),
        })
    }

    fn uri(&self, signal: Signal) -> &Uri {
        match signal {
            Signal::Traces => &self.uris[0],
            Signal::Metrics => &self.uris[1],
            Signal::Logs => &self.uris[2],
        }
    }

    /// The reason with the endpoint before it. Endpoints have no credentials in them: those that do are refused at the start.
    pub fn explain(&self, signal: Signal, reason: &str) -> String {
        let uri = self.uri(signal);
        let authority = uri.authority().map_or("", |at| at.as_str());
        format!("{}://{authority}: {reason}", uri.scheme_str().unwrap_or("http"))
    }

    /// Whether frames go out as they came.
    pub fn passes(&self) -> bool {
        self.wanted == Wanted::Passthrough
    }

    /// The bytes to send and what they are. gRPC speaks no JSON; what cannot pass as it came is not compressed again unless the
    /// settings name an encoding.
    fn message(&self, parcel: &Parcel) -> Result<(Content, Compression, Bytes), String> {
        let frame = &parcel.frame;
        let takes_json = self.protocol == Protocol::Http && self.encoding.is_none();
        let wanted = match self.wanted {
            Wanted::Passthrough if frame.content == Content::Json && !takes_json => Compression::None,
            Wanted::Passthrough => frame.compression,
            Wanted::None => Compression::None,
            Wanted::Gzip => Compression::Gzip,
            Wanted::Zstd => Compression::Zstd,
        };
        let (content, bytes) = parcel.message(wanted, takes_json)?;
        if self.unspoken.holds(content, wanted, Instant::now()) {
            return Ok((Content::Protobuf, Compression::None, parcel.body()?));
        }
        Ok((content, wanted, bytes))
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

    /// Sends `parcel` once, and once more as plain protobuf when the backend does not take its encoding.
    pub async fn send(&self, parcel: &Parcel, deadline: Instant) -> Outcome {
        let never = |cause, reason| Outcome::Never { cause, reason };
        let (content, compression, bytes) = match self.message(parcel) {
            Ok(message) => message,
            Err(reason) => return never(Cause::Malformed, reason),
        };
        let is_plain = content == Content::Protobuf && compression == Compression::None;
        let outcome = self.attempt(parcel.signal, (content, compression), bytes, deadline).await;
        let Outcome::Never { cause: Cause::Unsupported, reason } = outcome else { return outcome };
        if is_plain {
            return never(Cause::Backend, reason);
        }
        let body = match parcel.body() {
            Ok(body) => body,
            Err(reason) => return never(Cause::Malformed, reason),
        };
        let plain = (Content::Protobuf, Compression::None);
        match self.attempt(parcel.signal, plain, body, deadline).await {
            Outcome::Never { cause: Cause::Unsupported, reason } => never(Cause::Backend, reason),
            outcome => {
                let encoding = if content == Content::Json { "json" } else { compression.token() };
                tracing::warn!(
                    exporter = self.id,
                    encoding,
                    reason,
                    "the backend does not take this encoding; requests go out as plain protobuf for an hour"
                );
                self.unspoken.note(content, compression, Instant::now());
                outcome
            }
        }
    }

    async fn attempt(
        &self,
        signal: Signal,
        (content, compression): (Content, Compression),
        message: Bytes,
        deadline: Instant,
    ) -> Outcome {
        let later = |reason| Outcome::Later { after: None, reason };
        let headers = match self.headers() {
            Ok(headers) => headers,
            Err(reason) => return later(reason),
        };
        let uri = self.uri(signal).clone();
        let request = match self.protocol {
            Protocol::Http => attempt::http_request(uri, &headers, (content, compression), message),
            Protocol::Grpc => {
                let patience = deadline.saturating_duration_since(Instant::now());
                attempt::grpc_request(uri, &headers, compression, message, patience)
            }
        };
        let answer = async {
            match (self.connections.request(request).await, self.protocol) {
                (Err(error), _) => later(format!("the backend cannot be reached: {}", causes(&error))),
                (Ok(response), Protocol::Http) => answer::read_http(response, self.clock.now()).await,
                (Ok(response), Protocol::Grpc) => answer::read_grpc(response, compression).await,
            }
        };
        let late = || later("the backend did not answer in time".to_owned());
        timeout_at(deadline, answer).await.unwrap_or_else(|_| late())
    }
}

/// When the backend was last found not to take an encoding: seconds since this was made, plus one; 0 for never.
struct Unspoken {
    since: Instant,
    noted: [AtomicU64; 6],
}

impl Default for Unspoken {
    fn default() -> Unspoken {
        Unspoken { since: Instant::now(), noted: Default::default() }
    }
}

impl Unspoken {
    fn place(&self, content: Content, compression: Compression) -> &AtomicU64 {
        let row = match content {
            Content::Protobuf => 0,
            Content::Json => 3,
        };
        match compression {
            Compression::None => &self.noted[row],
            Compression::Gzip => &self.noted[row + 1],
            Compression::Zstd => &self.noted[row + 2],
        }
    }

    fn note(&self, content: Content, compression: Compression, now: Instant) {
        let seconds = now.duration_since(self.since).as_secs() + 1;
        self.place(content, compression).store(seconds, Ordering::Relaxed);
    }

    fn holds(&self, content: Content, compression: Compression, now: Instant) -> bool {
        let noted = self.place(content, compression).load(Ordering::Relaxed);
        noted > 0 && now.duration_since(self.since).as_secs() < noted + REMEMBERED.as_secs()
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

fn connections(protocol: Protocol, connector: Connector) -> legacy::Client<Connector, Payload> {
    legacy::Client::builder(TokioExecutor::new())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_asked_for_again_after_an_hour() {
        let unspoken = Unspoken::default();
        let noted = unspoken.since + Duration::from_secs(100);
        unspoken.note(Content::Protobuf, Compression::Zstd, noted);
        let holds = |content, compression, seconds| {
            unspoken.holds(content, compression, noted + Duration::from_secs(seconds))
        };
        assert!(holds(Content::Protobuf, Compression::Zstd, 0));
        assert!(holds(Content::Protobuf, Compression::Zstd, 3_500));
        assert!(!holds(Content::Protobuf, Compression::Zstd, 3_700));
        assert!(
            !holds(Content::Protobuf, Compression::Gzip, 0) && !holds(Content::Json, Compression::Zstd, 0)
        );
    }
}
