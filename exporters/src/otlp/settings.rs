//! What the YAML of the `otlp` and `otlphttp` exporters says, in the Collector's shape. A Collector's block loads unchanged, or
//! says which of its keys homeostat does not have.

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat_pipeline::extension::Auth;
use homeostat_pipeline::secret::Secret;
use homeostat_pipeline::settings::{At, Node, Period, Position, Problem, Value};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tls::Tls;

/// Keys of the Collector's exporters that are not supported, and what to do without them.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("balancer_name", "one connection is kept per endpoint"),
    ("authority", "the endpoint's is sent"),
    ("keepalive", "connections are watched by the operating system"),
    ("wait_for_ready", "an attempt that fails is repeated within `timeout`"),
    ("read_buffer_size", "buffers are sized by the program"),
    ("write_buffer_size", "buffers are sized by the program"),
    ("proxy_url", "requests go straight to the endpoint"),
    ("max_conns_per_host", "connections follow the requests under way"),
    ("max_idle_conns", "idle connections are closed after 60 s"),
    ("max_idle_conns_per_host", "idle connections are closed after 60 s"),
    ("idle_conn_timeout", "idle connections are closed after 60 s"),
    ("disable_keep_alives", "connections are always kept alive"),
    ("http2_read_idle_timeout", "connections are watched by the operating system"),
    ("http2_ping_timeout", "connections are watched by the operating system"),
    ("cookies", "no cookies are kept"),
    ("middlewares", "processors do what middlewares do"),
    ("compression_params", "nothing is compressed again"),
    ("batcher", "requests are forwarded as they came"),
];

/// Says which key or value of the Collector is not supported, before the general error would.
///
/// # Errors
/// At the first such key.
pub fn check_keys(node: &Node) -> Result<(), Problem> {
    let Value::Map(fields) = &node.value else { return Ok(()) };
    for field in fields {
        if let Some((key, remedy)) = UNSUPPORTED.iter().find(|(key, _)| *key == field.key) {
            return Err(Problem::error(
                &field.at,
                format!(
                    "`{key}` of the Collector's otlp exporter is not supported here ({remedy}): remove it"
                ),
            ));
        }
        let value = field.node.as_text().unwrap_or_default();
        match field.key.as_str() {
            "compression" if ["gzip", "zstd", "snappy", "deflate", "zlib", "lz4"].contains(&value) => {
                return Err(Problem::error(
                    &field.node.at,
                    format!(
                        "`compression: {value}` is not supported here: nothing is compressed again; write \
                         `passthrough` (frames go out as they came in, compressed or not) or `none`"
                    ),
                ));
            }
            "encoding" if value == "json" => {
                return Err(Problem::error(
                    &field.node.at,
                    "`encoding: json` is not supported here (what came as JSON goes out as JSON): remove it",
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Forwards telemetry to an OTLP backend.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// `http://host:port`, or `host:port` together with `tls: { insecure: true }`. Never printed as it is.
    pub endpoint: Option<At<Secret>>,
    /// gRPC for `otlp` and HTTP for `otlphttp` where it is left out.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// As frames came, or plain.
    #[serde(default)]
    pub compression: Compression,
    /// Sent with every request; the values are secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, At<Secret>>,
    /// For one request with all its repetitions; 5 s where it is left out.
    #[serde(default)]
    pub timeout: Option<Period>,
    /// Whether and when a refused request is sent again within `timeout`.
    #[serde(default)]
    pub retry_on_failure: RetryOnFailure,
    /// Must be off.
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

/// How requests are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As they came.
    #[default]
    Passthrough,
    /// Not at all.
    None,
}

/// The Collector's `encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Protobuf.
    Proto,
}

/// The Collector's queue in front of an exporter, which would change what OK means.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendingQueue {
    /// Must be false.
    pub enabled: At<bool>,
}

/// When a refused request is sent again. A backend that names a time (RetryInfo, Retry-After) is obeyed instead.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryOnFailure {
    /// False: the sender is asked to repeat at once.
    pub enabled: bool,
    /// Before the first repetition; 100 ms where it is left out.
    pub initial_interval: Period,
    /// The most between two of them; 30 s where it is left out.
    pub max_interval: Period,
    /// Each wait is this many times as long as the one before; 2 where it is left out.
    pub multiplier: f64,
    /// Each wait is up to this part of it longer or shorter; 0.5 where it is left out.
    pub randomization_factor: f64,
    /// No repetition begins later than this; `timeout` where it is left out or 0.
    pub max_elapsed_time: Period,
}

impl Default for RetryOnFailure {
    fn default() -> RetryOnFailure {
        RetryOnFailure {
            enabled: true,
            initial_interval: Period(Duration::from_millis(100)),
            max_interval: Period(Duration::from_secs(30)),
            multiplier: 2.0,
            randomization_factor: 0.5,
            max_elapsed_time: Period(Duration::ZERO),
        }
    }
}

impl RetryOnFailure {
    /// How long to wait before repetition number `repetition` (from 0), where `roll` is between 0 and 1.
    pub fn wait(&self, repetition: u32, roll: f64) -> Duration {
        let exponent = i32::try_from(repetition).unwrap_or(i32::MAX);
        let most = self.max_interval.0.as_secs_f64();
        let wait = (self.initial_interval.0.as_secs_f64() * self.multiplier.powi(exponent)).min(most);
        let spread = self.randomization_factor * (2.0 * roll - 1.0);
        Duration::try_from_secs_f64(wait * (1.0 + spread)).unwrap_or(self.max_interval.0)
    }

    fn problem(&self) -> Option<Problem> {
        let fits =
            (1.0..=100.0).contains(&self.multiplier) && (0.0..=1.0).contains(&self.randomization_factor);
        (!fits || self.initial_interval.0.is_zero()).then(|| {
            Problem::somewhere(
                "`retry_on_failure` of the otlp exporter needs an `initial_interval` above 0, a `multiplier` from 1 to \
                 100 and a `randomization_factor` from 0 to 1",
            )
        })
    }
}

/// An endpoint, taken apart. Never has credentials in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// `host:port`, for `:authority`, `host` and for people.
    pub authority: String,
    /// Without the last `/`.
    pub path: String,
}

/// Reads an endpoint. `bare` is what one without a scheme means, as the Collector writes those of gRPC.
///
/// # Errors
/// Says what is wrong without repeating what could be a secret.
pub fn read_target(endpoint: &str, bare: Option<&'static str>) -> Result<Target, String> {
    let example = "write for example `http://127.0.0.1:4317`";
    let (scheme, rest) = match (endpoint.split_once("://"), bare) {
        (Some((scheme, rest)), _) if scheme.eq_ignore_ascii_case("http") => ("http", rest),
        (Some((scheme, rest)), _) if scheme.eq_ignore_ascii_case("https") => ("https", rest),
        (Some(_), _) => return Err(format!("the endpoint's scheme is neither http nor https: {example}")),
        (None, Some(scheme)) => (scheme, endpoint),
        (None, None) => {
            return Err(format!(
                "the endpoint has no scheme: {example}, or `tls: {{ insecure: true }}` beside it"
            ));
        }
    };
    if rest.split('/').next().is_some_and(|authority| authority.contains('@')) {
        return Err("the endpoint has credentials in it: write them into `headers`".to_owned());
    }
    let uri: Uri =
        format!("http://{rest}").parse().map_err(|_| format!("the endpoint is no URL: {example}"))?;
    let authority = uri.authority().ok_or_else(|| format!("the endpoint names no host: {example}"))?;
    if uri.query().is_some() {
        return Err(format!("the endpoint has a query: {example}"));
    }
    let port = if scheme == "https" { 443 } else { 80 };
    let authority = match authority.port() {
        Some(_) => authority.to_string(),
        None => format!("{}:{port}", authority.host()),
    };
    Ok(Target { scheme, authority, path: uri.path().trim_end_matches('/').to_owned() })
}

impl Otlp {
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
        if let Some(queue) = self.sending_queue.as_ref().filter(|queue| queue.enabled.value) {
            problems.push(Problem::error(
                &queue.enabled.at,
                "`sending_queue` is not supported here (a request is answered when the backend has taken it): remove it",
            ));
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use homeostat_pipeline::settings::{Field, read};

    use super::*;

    fn node(value: Value) -> Node {
        Node { at: Position { source: Arc::from("test.yaml"), line: 1, column: 1 }, value }
    }

    fn map(fields: Vec<(&str, Value)>) -> Value {
        let at = node(Value::Null).at;
        let field =
            |(key, value): (&str, Value)| Field { key: key.to_owned(), at: at.clone(), node: node(value) };
        Value::Map(fields.into_iter().map(field).collect())
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn check(protocol: Protocol, fields: Vec<(&str, Value)>) -> Vec<String> {
        let node = node(map(fields));
        if let Err(problem) = check_keys(&node) {
            return vec![problem.message];
        }
        match read::<Otlp>(&node) {
            Ok(settings) => settings.problems(protocol).into_iter().map(|problem| problem.message).collect(),
            Err(problem) => vec![problem.message],
        }
    }

    #[test]
    fn a_collectors_blocks_load_unchanged() {
        let insecure = || map(vec![("insecure", Value::Bool(true))]);
        let retry = map(vec![
            ("enabled", Value::Bool(true)),
            ("initial_interval", text("5s")),
            ("max_interval", text("30s")),
            ("max_elapsed_time", text("300s")),
        ]);
        let grpc = vec![("endpoint", text("backend:4317")), ("tls", insecure()), ("retry_on_failure", retry)];
        assert_eq!(check(Protocol::Grpc, grpc), Vec::<String>::new());
        let http = vec![
            ("endpoint", text("http://backend:4318/otlp/")),
            ("headers", map(vec![("authorization", text("Bearer x"))])),
            ("encoding", text("proto")),
            ("compression", text("none")),
            ("sending_queue", map(vec![("enabled", Value::Bool(false))])),
        ];
        assert_eq!(check(Protocol::Http, http), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_there_is_named_with_a_remedy() {
        let endpoint = || ("endpoint", text("http://backend:4317"));
        for (key, _) in UNSUPPORTED {
            let problems = check(Protocol::Grpc, vec![endpoint(), (key, map(vec![]))]);
            assert!(problems.len() == 1 && problems[0].contains(key), "{key}: {problems:?}");
        }
        for (field, expected) in [
            (("compression", text("gzip")), "passthrough"),
            (("encoding", text("json")), "remove it"),
            (("sending_queue", map(vec![("enabled", Value::Bool(true))])), "remove it"),
            (("tls", map(vec![("ciphers", text("x"))])), "unknown key `ciphers`"),
            (("traces_endpoint", text("http://x:1/t")), "only for OTLP/HTTP"),
            (("headers", map(vec![("grpc-timeout", text("1S"))])), "set by the exporter itself"),
            (("headers", map(vec![("a b", text("1S"))])), "no header's name"),
            (("retry_on_failure", map(vec![("initial_interval", text("0s"))])), "initial_interval"),
        ] {
            let problems = check(Protocol::Grpc, vec![endpoint(), field]);
            assert!(problems.len() == 1 && problems[0].contains(expected), "{expected}: {problems:?}");
        }
    }

    #[test]
    fn an_endpoint_is_http_and_has_no_credentials() {
        for (endpoint, bare, expected) in [
            ("http://a:1", None, Ok(("http", "a:1", ""))),
            ("http://a", None, Ok(("http", "a:80", ""))),
            ("https://a", None, Ok(("https", "a:443", ""))),
            ("HTTPS://a:1/x", Some("http"), Ok(("https", "a:1", "/x"))),
            ("http://[::1]:4318/x/", None, Ok(("http", "[::1]:4318", "/x"))),
            ("a:1", Some("http"), Ok(("http", "a:1", ""))),
            ("a:1", Some("https"), Ok(("https", "a:1", ""))),
            ("a:1", None, Err("no scheme")),
            ("ftp://a:1", None, Err("neither http nor https")),
            ("http://me:secret@a:1", None, Err("credentials")),
            ("http://", None, Err("http://127.0.0.1:4317")),
            ("http://a:1?x=1", None, Err("query")),
        ] {
            let target = read_target(endpoint, bare);
            match (target, expected) {
                (Ok(target), Ok(expected)) => {
                    assert_eq!(
                        (target.scheme, target.authority.as_str(), target.path.as_str()),
                        expected,
                        "{endpoint}"
                    );
                }
                (Err(message), Err(part)) => {
                    assert!(message.contains(part) && !message.contains("secret"), "{endpoint}: {message}");
                }
                (target, _) => panic!("{endpoint}: {target:?}"),
            }
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let fields = vec![
            ("endpoint", text("http://me:hunter2@a:1")),
            ("headers", map(vec![("authorization", text("hunter2"))])),
        ];
        let settings = read::<Otlp>(&node(map(fields))).unwrap();
        assert!(!format!("{settings:?} {:?}", settings.problems(Protocol::Grpc)).contains("hunter2"));
        assert!(!format!("{:?}", settings.header_map()).contains("hunter2"));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let retry = RetryOnFailure { randomization_factor: 0.0, ..RetryOnFailure::default() };
        for (repetition, millis) in [(0, 100), (1, 200), (5, 3_200), (9, 30_000), (u32::MAX, 30_000)] {
            assert_eq!(retry.wait(repetition, 0.3), Duration::from_millis(millis), "{repetition}");
        }
        let retry = RetryOnFailure::default();
        assert_eq!(retry.wait(0, 0.0), Duration::from_millis(50));
        assert_eq!(retry.wait(0, 1.0), Duration::from_millis(150));
    }
}
