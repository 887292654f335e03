//! Keys of the Collector's exporters that homeostat does not have, and what to do without them.

use homeostat_pipeline::settings::{Node, Problem, Value};

const KEYS: &[(&str, &str)] = &[
    ("balancer_name", "one connection is kept per endpoint"),
    ("authority", "the endpoint's is sent"),
    ("keepalive", "connections are watched by the operating system"),
    ("wait_for_ready", "an attempt that fails is repeated"),
    ("read_buffer_size", "buffers are sized by the program"),
    ("write_buffer_size", "buffers are sized by the program"),
    ("proxy_url", "requests go straight to the endpoint"),
    ("max_conns_per_host", "connections follow the requests under way"),
    ("max_idle_conns", "idle connections are closed after 60 s"),
    ("max_idle_conns_per_host", "idle connections are closed after 60 s"),
    ("idle_conn_timeout", "idle connections are closed after 60 s"),
    ("disable_keep_alives", "connections are always kept alive"),
    ("force_attempt_http2", "OTLP/HTTP goes out over HTTP/1.1"),
    ("http2_read_idle_timeout", "connections are watched by the operating system"),
    ("http2_ping_timeout", "connections are watched by the operating system"),
    ("cookies", "no cookies are kept"),
    ("middlewares", "processors do what middlewares do"),
    ("compression_params", "gzip is made at level 4, zstd at level 1"),
    ("profiles_endpoint", "profiles are not taken"),
    ("batcher", "write a `batch` processor"),
];

const QUEUE: &[(&str, &str)] = &[
    ("storage", "the queue is on disk, below `service.storage.directory`"),
    ("wait_for_result", "without `sending_queue` the sender waits for the backend"),
    ("batch", "write a `batch` processor, and `max_request_bytes` beside `endpoint`"),
    ("blocking", "write `block_on_overflow`"),
];

const TLS: &[(&str, &str)] = &[
    ("ca_pem", "write the file's name into `ca_file`"),
    ("cert_pem", "write the file's name into `cert_file`"),
    ("key_pem", "write the file's name into `key_file`"),
    ("include_system_ca_certs_pool", "without `ca_file` they are the system's, with it those of the file"),
    ("cipher_suites", "the TLS library's choice holds"),
    ("curve_preferences", "the TLS library's choice holds"),
    ("tpm", "the private key is read from `key_file`"),
];

/// Says which key or value of the Collector is not supported, before the general error would.
///
/// # Errors
/// At the first such key.
pub fn check_keys(node: &Node) -> Result<(), Problem> {
    check_block(node, "otlp exporter", KEYS)?;
    for (key, name, keys) in
        [("sending_queue", "`sending_queue`", QUEUE), ("tls", "`tls` of an exporter", TLS)]
    {
        if let Some(block) = node.get(key) {
            check_block(block, name, keys)?;
        }
    }
    let value = |key| node.get(key).and_then(|node| Some((&node.at, node.as_text()?)));
    match value("compression") {
        Some((at, value)) if ["snappy", "deflate", "zlib", "lz4", "x-snappy-framed"].contains(&value) => {
            return Err(Problem::error(
                at,
                format!(
                    "`compression: {value}` is not supported here: write `passthrough` (frames go out as they came in, \
                     compressed or not), `none`, `gzip` or `zstd`"
                ),
            ));
        }
        Some(_) | None => {}
    }
    match value("encoding") {
        Some((at, "json")) => Err(Problem::error(
            at,
            "`encoding: json` is not supported here (what came as JSON goes out as JSON): remove it",
        )),
        Some(_) | None => Ok(()),
    }
}

fn check_block(node: &Node, name: &str, keys: &[(&str, &str)]) -> Result<(), Problem> {
    let Value::Map(fields) = &node.value else { return Ok(()) };
    for field in fields {
        if let Some((key, remedy)) = keys.iter().find(|(key, _)| *key == field.key) {
            return Err(Problem::error(
                &field.at,
                format!("`{key}` of the Collector's {name} is not supported here ({remedy}): remove it"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = (Option<&'static str>, &'static str)> {
    let of = |block, keys: &'static [(&str, &str)]| keys.iter().map(move |(key, _)| (block, *key));
    of(None, KEYS).chain(of(Some("sending_queue"), QUEUE)).chain(of(Some("tls"), TLS))
}
