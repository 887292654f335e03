//! What the `otlp` receiver's YAML says, in the Collector's shape. A Collector's block loads unchanged, or says which of its
//! keys homeostat does not have.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use homeostat_pipeline::extension::Auth;
use homeostat_pipeline::settings::{At, Node, Period, Problem, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::cors::Cors;
use super::tls::Tls;

/// Keys of the Collector's receiver that are not supported, and what to do without them.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("include_metadata", "nothing in homeostat reads request metadata"),
    ("compression_algorithms", "gzip, zstd and identity are always taken"),
    ("read_buffer_size", "buffers are sized by the program"),
    ("write_buffer_size", "buffers are sized by the program"),
    ("enforcement_policy", "pings are limited by the program"),
    ("response_headers", "answers carry OTLP's headers only"),
    ("middlewares", "processors do what middlewares do"),
    ("write_timeout", "an answer is sent within the sender's deadline"),
    ("keep_alives_enabled", "connections are always kept alive"),
    ("dialer_timeout", "a receiver dials nobody"),
];

/// Says which key of the Collector is not supported, before the general "unknown key" would.
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
                    "`{key}` of the Collector's otlp receiver is not supported here ({remedy}): remove it"
                ),
            ));
        }
        check_keys(&field.node)?;
    }
    Ok(())
}

/// Receives OTLP over gRPC and HTTP.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Otlp {
    /// Which of the two to speak; both where it is left out.
    pub protocols: Protocols,
}

/// The two listeners. An empty block is one with its defaults.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Protocols {
    /// OTLP/gRPC.
    #[serde(deserialize_with = "present")]
    pub grpc: Option<Grpc>,
    /// OTLP/HTTP.
    #[serde(deserialize_with = "present")]
    pub http: Option<Http>,
}

/// `grpc:` with nothing after it is there, as in the Collector.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A path whose `/` was left out has one, as in the Collector.
fn url_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let path = String::deserialize(deserializer)?;
    Ok(if path.starts_with(|first: char| first.is_ascii_alphanumeric()) { format!("/{path}") } else { path })
}

impl Otlp {
    /// The listeners to open: both where none is named.
    pub fn listeners(&self) -> (Option<Grpc>, Option<Http>) {
        match (&self.protocols.grpc, &self.protocols.http) {
            (None, None) => (Some(Grpc::default()), Some(Http::default())),
            (grpc, http) => (grpc.clone(), http.clone()),
        }
    }
}

/// The gRPC listener.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grpc {
    /// `host:port`; 127.0.0.1:4317 where it is left out.
    pub endpoint: Option<At<String>>,
    /// Only `tcp`.
    pub transport: Option<Transport>,
    /// Listens beyond loopback without both of TLS and authentication.
    pub insecure: bool,
    /// Plain where it is left out.
    pub tls: Option<Tls>,
    /// Whose credentials are taken; everybody's where it is left out.
    pub auth: Option<Auth>,
    /// The largest message, in MiB, inflated; 4 where it is left out or 0.
    pub max_recv_msg_size_mib: u32,
    /// 128 where it is left out or 0.
    pub max_concurrent_streams: u32,
    /// When connections are probed and closed.
    pub keepalive: Keepalive,
}

/// As gRPC's servers call it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Keepalive {
    /// The server's side of it.
    pub server_parameters: ServerParameters,
}

/// When connections are probed and closed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerParameters {
    /// A connection without a request is closed after this; 60 s where it is left out.
    pub max_connection_idle: Option<Period>,
    /// A connection is closed gracefully after this; never where it is left out.
    pub max_connection_age: Option<Period>,
    /// … and what it still does then is cut off after this; 10 s where it is left out.
    pub max_connection_age_grace: Option<Period>,
    /// A silent peer is pinged after this; never where it is left out, because idle connections are closed anyway.
    pub time: Option<Period>,
    /// … and cut off when it does not answer within this; 20 s where it is left out.
    pub timeout: Option<Period>,
}

/// The HTTP listener.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// `host:port`; 127.0.0.1:4318 where it is left out.
    pub endpoint: Option<At<String>>,
    /// Only `tcp`.
    pub transport: Option<Transport>,
    /// Listens beyond loopback without both of TLS and authentication.
    pub insecure: bool,
    /// Plain where it is left out.
    pub tls: Option<Tls>,
    /// Whose credentials are taken; everybody's where it is left out.
    pub auth: Option<Auth>,
    /// Which pages of browsers may send; none where it is left out.
    pub cors: Option<Cors>,
    /// The largest body, in bytes, on the wire and inflated; 20 MiB where it is left out or 0.
    pub max_request_body_size: u64,
    /// Where traces are posted.
    #[serde(deserialize_with = "url_path")]
    pub traces_url_path: String,
    /// Where metrics are posted.
    #[serde(deserialize_with = "url_path")]
    pub metrics_url_path: String,
    /// Where logs are posted.
    #[serde(deserialize_with = "url_path")]
    pub logs_url_path: String,
    /// A connection without a request is closed after this; 60 s where it is left out.
    pub idle_timeout: Option<Period>,
    /// A new connection must have sent the head of its first request after this; 10 s where it is left out.
    pub read_header_timeout: Option<Period>,
    /// The body of a request must be there after this; 30 s where it is left out.
    pub read_timeout: Option<Period>,
}

impl Default for Http {
    fn default() -> Http {
        Http {
            endpoint: None,
            transport: None,
            insecure: false,
            tls: None,
            auth: None,
            cors: None,
            max_request_body_size: 0,
            traces_url_path: "/v1/traces".to_owned(),
            metrics_url_path: "/v1/metrics".to_owned(),
            logs_url_path: "/v1/logs".to_owned(),
            idle_timeout: None,
            read_header_timeout: None,
            read_timeout: None,
        }
    }
}

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP over IPv4 or IPv6.
    Tcp,
}

impl Grpc {
    /// Whether others may reach it.
    pub fn is_protected(&self) -> bool {
        self.tls.is_some() && self.auth.is_some()
    }
}

impl Http {
    /// Whether others may reach it.
    pub fn is_protected(&self) -> bool {
        self.tls.is_some() && self.auth.is_some()
    }
}

impl Otlp {
    /// `tls` of both listeners.
    pub fn listener_tls(&self) -> Vec<&Tls> {
        let Protocols { grpc, http } = &self.protocols;
        let (grpc, http) = (grpc.as_ref().map(|grpc| &grpc.tls), http.as_ref().map(|http| &http.tls));
        [grpc, http].into_iter().flatten().flatten().collect()
    }

    /// `auth` of both listeners.
    pub fn listener_auth(&self) -> Vec<&Auth> {
        let Protocols { grpc, http } = &self.protocols;
        let (grpc, http) = (grpc.as_ref().map(|grpc| &grpc.auth), http.as_ref().map(|http| &http.auth));
        [grpc, http].into_iter().flatten().flatten().collect()
    }

    /// Everything wrong with the endpoints and paths.
    pub fn problems(&self) -> Vec<Problem> {
        let (grpc, http) = self.listeners();
        let mut problems = Vec::new();
        if let Some(grpc) = &grpc {
            problems.extend(check_endpoint(grpc.endpoint.as_ref(), grpc.insecure || grpc.is_protected()));
            if grpc.max_recv_msg_size_mib > 1024 {
                problems.push(Problem::somewhere(
                    "`max_recv_msg_size_mib` of the otlp receiver is in MiB and at most 1024".to_owned(),
                ));
            }
        }
        if let Some(http) = &http {
            problems.extend(check_endpoint(http.endpoint.as_ref(), http.insecure || http.is_protected()));
            problems.extend(http.cors.iter().flat_map(Cors::problems));
            let paths = [&http.traces_url_path, &http.metrics_url_path, &http.logs_url_path];
            for path in paths {
                if !path.starts_with('/') || paths.iter().filter(|other| *other == &path).count() > 1 {
                    problems.push(Problem::somewhere(format!(
                        "the path `{path}` of the otlp receiver must begin with `/` and belong to one signal only"
                    )));
                }
            }
        }
        problems
    }
}

fn check_endpoint(endpoint: Option<&At<String>>, insecure: bool) -> Option<Problem> {
    let endpoint = endpoint?;
    let message = match read_endpoint(&endpoint.value) {
        Err(message) => message,
        Ok((host, _)) => match is_loopback(&host) {
            Some(false) if !insecure => beyond_loopback(&endpoint.value),
            Some(_) | None => return None,
        },
    };
    Some(Problem::error(&endpoint.at, message))
}

/// The error for an endpoint that others can reach.
pub fn beyond_loopback(endpoint: &str) -> String {
    format!(
        "`{endpoint}` can be reached from other machines without TLS and authentication: write `tls` and `auth` beside it, \
         bind to 127.0.0.1, or write `insecure: true`"
    )
}

/// Host and port of `host:port`. An empty host means every interface, as in the Collector.
///
/// # Errors
/// Names what is missing.
pub fn read_endpoint(text: &str) -> Result<(String, u16), String> {
    let fault = || format!("`{text}` is no endpoint (write `host:port`, for example `127.0.0.1:4317`)");
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((address.ip().to_string(), address.port()));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(fault)?;
    let port = port.parse().map_err(|_| fault())?;
    if host.contains([':', '/', '[', ']']) {
        return Err(fault());
    }
    Ok((if host.is_empty() { "0.0.0.0".to_owned() } else { host.to_owned() }, port))
}

/// Whether only this machine reaches `host`; unknown for a name that would have to be looked up.
pub fn is_loopback(host: &str) -> Option<bool> {
    if host == "localhost" {
        return Some(true);
    }
    host.parse::<IpAddr>().ok().map(|ip| ip.is_loopback())
}

/// The Collector's way to say "the default": zero or nothing.
pub fn period_or(period: Option<Period>, default: Duration) -> Duration {
    period.map(|period| period.0).filter(|period| !period.is_zero()).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use homeostat_pipeline::settings::{Field, Position, read};

    use super::*;

    fn at(line: u32) -> Position {
        Position { source: Arc::from("test.yaml"), line, column: 1 }
    }

    fn map(fields: Vec<(&str, Value)>) -> Value {
        let field = |(key, value): (&str, Value)| Field {
            key: key.to_owned(),
            at: at(2),
            node: Node { at: at(3), value },
        };
        Value::Map(fields.into_iter().map(field).collect())
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    /// The problems of `protocols: <value>`, in the order in which `validate` finds them.
    fn check(protocols: Value) -> Vec<String> {
        let node = Node { at: at(1), value: map(vec![("protocols", protocols)]) };
        if let Err(problem) = check_keys(&node) {
            return vec![problem.to_string()];
        }
        match read::<Otlp>(&node) {
            Ok(settings) => settings.problems().iter().map(ToString::to_string).collect(),
            Err(problem) => vec![problem.to_string()],
        }
    }

    #[test]
    fn nothing_named_means_both_and_an_empty_block_means_its_defaults() {
        let listeners = |node: Value| {
            let (grpc, http) = read::<Otlp>(&Node { at: at(1), value: node }).unwrap().listeners();
            (grpc.is_some(), http.is_some())
        };
        assert_eq!(listeners(Value::Null), (true, true));
        assert_eq!(listeners(map(vec![("protocols", Value::Null)])), (true, true));
        assert_eq!(listeners(map(vec![("protocols", map(vec![("grpc", Value::Null)]))])), (true, false));
        assert_eq!(listeners(map(vec![("protocols", map(vec![("http", map(vec![]))]))])), (false, true));
    }

    #[test]
    fn an_endpoint_beyond_loopback_wants_to_be_called_insecure() {
        for endpoint in ["0.0.0.0:4317", ":4317", "[::]:4317", "10.1.2.3:4317"] {
            let problems = check(map(vec![("grpc", map(vec![("endpoint", text(endpoint))]))]));
            assert!(
                problems.len() == 1 && problems[0].contains("insecure: true"),
                "{endpoint}: {problems:?}"
            );
            let insecure = map(vec![("endpoint", text(endpoint)), ("insecure", Value::Bool(true))]);
            assert_eq!(check(map(vec![("http", insecure)])), Vec::<String>::new(), "{endpoint}");
        }
        for endpoint in ["127.0.0.1:0", "localhost:4317", "[::1]:4317"] {
            assert_eq!(
                check(map(vec![("grpc", map(vec![("endpoint", text(endpoint))]))])),
                Vec::<String>::new()
            );
        }
    }

    #[test]
    fn what_is_no_endpoint_is_named() {
        for endpoint in ["127.0.0.1", "http://127.0.0.1:4317", "a:b", "127.0.0.1:70000", ""] {
            let problems = check(map(vec![("grpc", map(vec![("endpoint", text(endpoint))]))]));
            assert!(problems.len() == 1 && problems[0].contains("host:port"), "{endpoint}: {problems:?}");
        }
    }

    #[test]
    fn keys_of_the_collector_that_are_not_there_are_named_with_a_remedy() {
        for (key, _) in UNSUPPORTED {
            let problems = check(map(vec![("grpc", map(vec![(key, map(vec![]))]))]));
            assert!(problems.len() == 1 && problems[0].contains(key), "{problems:?}");
            assert!(
                problems[0].starts_with("test.yaml:2:1: ") && problems[0].contains("remove it"),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn what_nobody_knows_is_named_with_the_nearest_known_key() {
        let problems = check(map(vec![("grpc", map(vec![("endpiont", text("127.0.0.1:1"))]))]));
        assert!(problems[0].contains("did you mean \"endpoint\""), "{problems:?}");
        let problems = check(map(vec![("grpc", map(vec![("transport", text("unix"))]))]));
        assert!(problems[0].contains("`unix` is none of `tcp`"), "{problems:?}");
    }

    #[test]
    fn two_signals_cannot_share_a_path() {
        let shared = map(vec![("traces_url_path", text("/x")), ("logs_url_path", text("/x"))]);
        assert_eq!(check(map(vec![("http", shared)])).len(), 2);
        assert_eq!(check(map(vec![("http", map(vec![("logs_url_path", text(":logs"))]))])).len(), 1);
    }
}
