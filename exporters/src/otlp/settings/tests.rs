//! What the settings take, refuse, and never print.

use std::sync::Arc;

use homeostat_pipeline::settings::{Field, Node, Value, read};

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
    for (block, key) in unsupported::all() {
        let field = match block {
            Some(block) => (block, map(vec![(key, map(vec![]))])),
            None => (key, map(vec![])),
        };
        let problems = check(Protocol::Grpc, vec![endpoint(), field]);
        assert!(problems.len() == 1 && problems[0].contains(key), "{key}: {problems:?}");
    }
    for (field, expected) in [
        (("compression", text("snappy")), "passthrough"),
        (("max_request_bytes", Value::Integer(100)), "at least 4096"),
        (("encoding", text("json")), "remove it"),
        (("sending_queue", map(vec![("num_consumers", Value::Integer(0))])), "from 1 to 1000"),
        (("sending_queue", map(vec![("queue_size", Value::Integer(0))])), "at least 1"),
        (("sending_queue", map(vec![("sizer", text("items"))])), "needs a `queue_size`"),
        (("sending_queue", map(vec![("max_mib", Value::Integer(0))])), "1048576"),
        (("sending_queue", map(vec![("queue", text("x"))])), "queue_size"),
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
fn a_queue_that_would_give_up_what_was_acknowledged_is_refused() {
    let off = map(vec![("enabled", Value::Bool(false))]);
    let fields = vec![
        ("endpoint", text("http://a:1")),
        ("retry_on_failure", off.clone()),
        ("sending_queue", map(vec![])),
    ];
    let problems = check(Protocol::Grpc, fields);
    assert!(problems.len() == 1 && problems[0].contains("acknowledged"), "{problems:?}");
    let fields =
        vec![("endpoint", text("http://a:1")), ("retry_on_failure", off.clone()), ("sending_queue", off)];
    assert_eq!(check(Protocol::Grpc, fields), Vec::<String>::new());
}

#[test]
fn what_a_queue_may_hold_is_counted_as_it_says() {
    let capacity = |fields: Vec<(&str, Value)>, is_on_disk| {
        let Capacity { sizer, units, bytes } =
            read::<SendingQueue>(&node(map(fields))).unwrap().capacity(is_on_disk);
        (sizer, units, bytes >> 20)
    };
    let size = || ("queue_size", Value::Integer(7));
    let sizer = |name| ("sizer", text(name));
    assert_eq!(capacity(vec![], true), (Sizer::Bytes, 1 << 30, 1_024));
    assert_eq!(capacity(vec![], false), (Sizer::Bytes, 64 << 20, 64));
    assert_eq!(capacity(vec![size()], true), (Sizer::Requests, 7, 1_024));
    assert_eq!(capacity(vec![sizer("requests")], true), (Sizer::Requests, 1_000, 1_024));
    assert_eq!(capacity(vec![sizer("items"), size()], true), (Sizer::Items, 7, 1_024));
    assert_eq!(capacity(vec![("max_mib", Value::Integer(2))], true), (Sizer::Bytes, 2 << 20, 2));
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
