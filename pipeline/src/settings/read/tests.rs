//! What fits is read; what does not says where, what would, and never what it is.

use super::*;
use crate::settings::Period;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    endpoint: String,
    #[serde(default)]
    limit: Option<f64>,
    #[serde(default)]
    timeout: Period,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    tags: Vec<At<String>>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Plain,
    Retry(u32),
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Empty {
    is_enabled: bool,
}

fn position(line: u32, column: u32) -> Position {
    Position { source: Arc::from("a.yaml"), line, column }
}

fn node(line: u32, value: Value) -> Node {
    Node { at: position(line, 20), value }
}

fn text(line: u32, text: &str) -> Node {
    node(line, Value::Text(text.to_owned()))
}

/// A mapping with one key a line, from line 2 on.
fn map(fields: Vec<(&str, Value)>) -> Node {
    let field = |(line, (key, value)): (u32, (&str, Value))| Field {
        key: key.to_owned(),
        at: position(line, 3),
        node: node(line, value),
    };
    node(1, Value::Map((2..).zip(fields).map(field).collect()))
}

#[track_caller]
fn check<T: DeserializeOwned + fmt::Debug>(fields: Vec<(&str, Value)>, expected: &str) {
    assert_eq!(read::<T>(&map(fields)).map_err(|problem| problem.to_string()).unwrap_err(), expected);
}

fn endpoint() -> (&'static str, Value) {
    ("endpoint", Value::Text("x".to_owned()))
}

#[test]
fn what_fits_is_read_and_what_is_left_out_has_its_default() {
    let server: Server = read(&map(vec![endpoint()])).unwrap();
    assert_eq!(
        server,
        Server {
            endpoint: "x".to_owned(),
            limit: None,
            timeout: Period::default(),
            mode: Mode::Plain,
            tags: vec![]
        }
    );
    let retry = Node { at: position(9, 9), value: Value::Integer(3) };
    let mode = Value::Map(vec![Field { key: "retry".to_owned(), at: position(9, 5), node: retry }]);
    let server: Server = read(&map(vec![
        endpoint(),
        ("limit", Value::Integer(5)),
        ("timeout", Value::Text("1h30m".to_owned())),
        ("mode", mode),
        ("tags", Value::List(vec![text(7, "a"), text(8, "b")])),
    ]))
    .unwrap();
    assert_eq!(server.limit, Some(5.0));
    assert_eq!(server.timeout.0.as_secs(), 5400);
    assert_eq!(server.mode, Mode::Retry(3));
    assert_eq!(
        server.tags,
        [
            At { at: position(7, 20), value: "a".to_owned() },
            At { at: position(8, 20), value: "b".to_owned() }
        ]
    );
}

#[test]
fn an_empty_block_is_an_empty_mapping() {
    assert_eq!(read::<Empty>(&node(1, Value::Null)).unwrap(), Empty::default());
    let limit: Server = read(&map(vec![endpoint(), ("limit", Value::Null)])).unwrap();
    assert_eq!(limit.limit, None);
}

#[test]
fn what_does_not_fit_says_where_and_what_would() {
    let known = "known: `endpoint`, `limit`, `timeout`, `mode`, `tags`";
    let unknown = format!("a.yaml:3:3: unknown key `limt` (did you mean \"limit\"?); {known}");
    check::<Server>(vec![endpoint(), ("limt", Value::Integer(1))], &unknown);
    check::<Server>(vec![("limit", Value::Null)], "a.yaml:1:20: the key `endpoint` is missing");
    check::<Server>(
        vec![("endpoint", Value::Integer(4317))],
        "a.yaml:2:20: a number is not text (put it in quotes)",
    );
    check::<Server>(vec![("endpoint", Value::List(vec![]))], "a.yaml:2:20: a list is not text");
    check::<Server>(
        vec![endpoint(), ("timeout", Value::Integer(5))],
        "a.yaml:3:20: `5` has no unit (write `5s` or `5ms`)",
    );
    check::<Server>(
        vec![endpoint(), ("mode", Value::Text("plian".to_owned()))],
        "a.yaml:3:20: `plian` is none of `plain`, `retry` (did you mean \"plain\"?)",
    );
    check::<Server>(
        vec![endpoint(), ("mode", Value::Text("retry".to_owned()))],
        "a.yaml:3:20: this word takes a value: write it as a mapping with one key",
    );
    check::<Server>(
        vec![endpoint(), ("mode", Value::Bool(true))],
        "a.yaml:3:20: `true` is not one word, or a mapping with one key",
    );
    check::<Server>(
        vec![endpoint(), ("tags", Value::List(vec![text(7, "a"), node(8, Value::Bool(true))]))],
        "a.yaml:8:20: `true` is not text (put it in quotes)",
    );
    assert_eq!(read::<Empty>(&text(4, "x")).unwrap_err().to_string(), "a.yaml:4:20: text is not a mapping");
}

#[test]
fn a_value_in_the_wrong_place_is_not_printed_for_it_may_be_a_secret() {
    let secret = || Value::Text("nats://u:s3cret@h".to_owned());
    check::<Server>(vec![endpoint(), ("tags", secret())], "a.yaml:3:20: text is not a list (write `[…]`)");
    check::<Server>(vec![endpoint(), ("limit", secret())], "a.yaml:3:20: text is not a number");
    check::<Empty>(vec![("is_enabled", secret())], "a.yaml:2:20: text is not `true` or `false`");
    check::<Vec<u32>>(vec![], "a.yaml:1:20: a mapping is not a list (write `[…]`)");
    let negative = node(1, Value::List(vec![node(2, Value::Integer(-3))]));
    assert_eq!(
        read::<Vec<u32>>(&negative).unwrap_err().to_string(),
        "a.yaml:2:20: `-3` is not a whole number of 0 or more"
    );
}

#[test]
fn what_a_reference_gives_is_the_number_that_the_settings_want() {
    let server: Server = read(&map(vec![
        ("endpoint", Value::Text("007".to_owned())),
        ("limit", Value::Text("1.5".to_owned())),
    ]))
    .unwrap();
    assert_eq!((server.endpoint.as_str(), server.limit), ("007", Some(1.5)));
    assert!(read::<Empty>(&map(vec![("is_enabled", Value::Text("true".to_owned()))])).unwrap().is_enabled);
    assert_eq!(read::<Vec<u32>>(&node(1, Value::List(vec![text(2, "32")]))).unwrap(), [32]);
}

#[test]
fn a_place_is_only_read_from_a_configuration() {
    assert!(serde_json::from_str::<At<String>>("\"x\"").is_err());
}
