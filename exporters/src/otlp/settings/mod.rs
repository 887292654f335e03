//! What the YAML of the `otlp` and `otlphttp` exporters says, in the Collector's shape. A Collector's block loads unchanged, or
//! says which of its keys homeostat does not have.

mod endpoint;
mod queue;
mod retry;
#[cfg(test)]
mod tests;
mod unsupported;

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat_pipeline::extension::Auth;
use homeostat_pipeline::secret::Secret;
use homeostat_pipeline::settings::{At, Period, Position, Problem};
use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use endpoint::{Target, read_target};
pub use queue::{Capacity, SendingQueue, Sizer};
pub use retry::RetryOnFailure;
pub use unsupported::check_keys;

use super::tls::Tls;

/// No peer has a smaller limit, and what is repeated in each part must stay less than what it is repeated for.
const MAX_REQUEST_BYTES_MIN: u64 = 4_096;

/// Forwards telemetry to an OTLP backend.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// `http://host:port`, or `host:port` together with `tls: { insecure: true }`. Never printed as it is.
    pub endpoint: Option<At<Secret>>,
    /// gRPC for `otlp` and HTTP for `otlphttp` where it is left out.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// As frames came, plain, or in one encoding.
    #[serde(default)]
    pub compression: Wanted,
    /// The largest inflated message that the backend takes; larger requests are split. Only the backend knows where it is left out.
    #[serde(default)]
    pub max_request_bytes: Option<At<u64>>,
    /// Sent with every request; the values are secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, At<Secret>>,
    /// For one request with all its repetitions, with `sending_queue` for one attempt; 5 s where it is left out.
    #[serde(default)]
    pub timeout: Option<Period>,
    /// Whether and when a refused request is sent again: within `timeout`, with `sending_queue` for ever.
    #[serde(default)]
    pub retry_on_failure: RetryOnFailure,
    /// Accepts requests by writing them to disk.
    #[serde(default)]
    pub sending_queue: Option<SendingQueue>,
    /// How `https` is spoken, and that an endpoint without a scheme is plain.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Whose credentials are sent.
    #[serde(default)]
    pub auth: Option<Auth>,
    /// `proto`: what came as JSON goes out as protobuf. As it came where it is left out.
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// Where traces go, instead of `endpoint` + `/v1/traces`. Only over HTTP.
    #[serde(default)]
    pub traces_endpoint: Option<At<Secret>>,
    /// Where metrics go, instead of `endpoint` + `/v1/metrics`. Only over HTTP.
    #[serde(default)]
    pub metrics_endpoint: Option<At<Secret>>,
    /// Where logs go, instead of `endpoint` + `/v1/logs`. Only over HTTP.
    #[serde(default)]
    pub logs_endpoint: Option<At<Secret>>,
}

/// What is spoken to the backend; the words of the SDKs' `OTEL_EXPORTER_OTLP_PROTOCOL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Protocol {
    /// OTLP/gRPC.
    #[serde(rename = "grpc")]
    Grpc,
    /// OTLP/HTTP.
    #[serde(rename = "http/protobuf")]
    Http,
}

/// How requests go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// As they came.
    #[default]
    Passthrough,
    /// Plain.
    None,
    /// In gzip, compressed again only where they came otherwise.
    Gzip,
    /// In zstd, likewise.
    Zstd,
}

/// The Collector's `encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Protobuf.
    Proto,
}

impl Otlp {
    /// The queue, where there is one.
    pub fn queue(&self) -> Option<&SendingQueue> {
        self.sending_queue.as_ref().filter(|queue| queue.enabled)
    }

    fn bare(&self) -> Option<&'static str> {
        self.tls.as_ref().map(|tls| if tls.insecure { "http" } else { "https" })
    }

    /// The target of one of the endpoints.
    ///
    /// # Errors
    /// At the endpoint.
    pub fn target(&self, endpoint: &At<Secret>) -> Result<Target, Problem> {
        read_target(endpoint.value.reveal(), self.bare())
            .map_err(|message| Problem::error(&endpoint.at, message))
    }

    /// The headers to send, marked as secrets.
    ///
    /// # Errors
    /// Names the header that is none, never its value.
    pub fn header_map(&self) -> Result<HeaderMap, Problem> {
        let mut map = HeaderMap::with_capacity(self.headers.len());
        for (name, secret) in &self.headers {
            let problem = |what: &str| Problem::error(&secret.at, format!("the header `{name}` {what}"));
            let key = HeaderName::try_from(name.as_str()).map_err(|_| problem("is no header's name"))?;
            if is_ours(&key) {
                return Err(problem("is set by the exporter itself: remove it"));
            }
            let mut value = HeaderValue::try_from(secret.value.reveal())
                .map_err(|_| problem("has a value that no header can have"))?;
            value.set_sensitive(true);
            map.insert(key, value);
        }
        Ok(map)
    }

    /// Everything wrong with the settings of an exporter that speaks `protocol`.
    pub fn problems(&self, protocol: Protocol) -> Vec<Problem> {
        let mut problems = Vec::new();
        let own = [&self.traces_endpoint, &self.metrics_endpoint, &self.logs_endpoint];
        for endpoint in own.into_iter().chain([&self.endpoint]).flatten() {
            problems.extend(self.target(endpoint).err());
        }
        if protocol == Protocol::Grpc {
            let one = |at: &Position| {
                Problem::error(at, "an endpoint of one signal is only for OTLP/HTTP: remove it")
            };
            problems.extend(own.into_iter().flatten().map(|endpoint| one(&endpoint.at)));
        }
        let is_complete = protocol == Protocol::Http && own.iter().all(|endpoint| endpoint.is_some());
        if self.endpoint.is_none() && !is_complete {
            problems.push(Problem::somewhere(
                "the otlp exporter needs an `endpoint`, such as `http://127.0.0.1:4317`",
            ));
        }
        if self.auth.is_some() && self.headers.keys().any(|name| name.eq_ignore_ascii_case("authorization")) {
            problems.push(Problem::somewhere(
                "the otlp exporter has `auth`, and `authorization` among its `headers`: remove one of them",
            ));
        }
        if let Some(size) = &self.max_request_bytes
            && size.value < MAX_REQUEST_BYTES_MIN
        {
            let message = format!("`max_request_bytes` is at least {MAX_REQUEST_BYTES_MIN}");
            problems.push(Problem::error(&size.at, message));
        }
        if let Some(queue) = self.queue() {
            problems.extend(queue.problems());
            if !self.retry_on_failure.enabled {
                problems.push(Problem::somewhere(
                    "`retry_on_failure: { enabled: false }` beside `sending_queue` would give up what was acknowledged: \
                     remove one of them",
                ));
            }
        }
        problems.extend(self.header_map().err());
        problems.extend(self.retry_on_failure.problem());
        problems
    }
}

/// The Collector's way to say "the default": zero or nothing.
pub fn period_or(period: Option<Period>, default: Duration) -> Duration {
    period.map(|period| period.0).filter(|period| !period.is_zero()).unwrap_or(default)
}

fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    ["content-type", "content-encoding", "content-length", "host", "te", "connection", "transfer-encoding"]
        .contains(&name)
        || name.starts_with("grpc-")
}
