//! Selectors: what parses, what matches, and which literals a match cannot do without.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A record as a test writes it.
#[derive(Debug, Default)]
struct Record {
    kind: Kind,
    name: &'static str,
    status: Option<Status>,
    severity: u8,
    severity_text: &'static str,
    body: BTreeMap<&'static str, Scalar<'static>>,
    attributes: BTreeMap<&'static str, Scalar<'static>>,
    resource: BTreeMap<&'static str, Scalar<'static>>,
    scope: BTreeMap<&'static str, Scalar<'static>>,
    scope_name: &'static str,
}

impl Fields for Record {
    fn kind(&self) -> Kind {
        self.kind
    }
    fn name(&self) -> &str {
        self.name
    }
    fn status(&self) -> Option<Status> {
        self.status
    }
    fn severity(&self) -> u8 {
        self.severity
    }
    fn severity_text(&self) -> &str {
        self.severity_text
    }
    fn body(&self, path: &[String]) -> Option<Scalar<'_>> {
        self.body.get(path.join(".").as_str()).copied()
    }
    fn attribute(&self, key: &str) -> Option<Scalar<'_>> {
        self.attributes.get(key).copied()
    }
    fn resource(&self, key: &str) -> Option<Scalar<'_>> {
        self.resource.get(key).copied()
    }
    fn scope(&self, key: &str) -> Option<Scalar<'_>> {
        self.scope.get(key).copied()
    }
    fn scope_name(&self) -> &str {
        self.scope_name
    }
    fn scope_version(&self) -> &str {
        ""
    }
}

fn record() -> Record {
    Record {
        kind: Kind::Server,
        name: "POST /login",
        status: Some(Status::Unset),
        severity: 18,
        severity_text: "Error",
        body: [("", Scalar::Text("boom")), ("level", Scalar::Text("ERROR")), ("a.b", Scalar::Float(1.5))]
            .into(),
        attributes: [
            ("sea.flow", Scalar::Text("Login")),
            ("http.response.status_code", Scalar::Integer(503)),
            ("retry", Scalar::Bool(false)),
            ("list", Scalar::Composite),
            ("ratio", Scalar::Float(0.25)),
        ]
        .into(),
        resource: [("service.name", Scalar::Text("auth"))].into(),
        scope: [("lib", Scalar::Text("x"))].into(),
        scope_name: "io.shop",
    }
}

fn check(selector: &str, expected: bool) {
    let parsed = Selector::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}"));
    assert_eq!(parsed.matches(&record()), expected, "{selector}");
    assert_eq!(parsed.to_string(), selector);
}

#[test]
fn the_selectors_of_the_reference_match_what_they_say() {
    check(r#"attributes["sea.flow"] == "Login""#, true);
    check(r#"kind == SERVER and name == "POST /login""#, true);
    check(r#"kind == SERVER"#, true);
    check(r#"attributes["db.system.name"] != null"#, false);
    check(r#"name == "audit.write""#, false);
    check("status != ERROR", true);
    check(r#"resource["service.name"] == "auth""#, true);
}

#[test]
fn every_field_and_operator_is_understood() {
    for (selector, expected) in [
        (r#"kind == "server""#, true),
        ("kind != CLIENT", true),
        ("kind == SPAN_KIND_CLIENT", false),
        ("status == UNSET", true),
        ("status == null", false),
        ("severity >= ERROR", true),
        ("severity == ERROR", true),
        ("severity > ERROR", false),
        ("severity < FATAL", true),
        ("severity == info", false),
        ("severity_number == 18", true),
        ("severity_number >= 17", true),
        ("severity_number <= 17", false),
        (r#"severity_text == "Error""#, true),
        (r#"body == "boom""#, true),
        (r#"body["level"] == "ERROR""#, true),
        (r#"body["a"]["b"] > 1"#, true),
        (r#"attributes["http.response.status_code"] >= 500"#, true),
        (r#"attributes["http.response.status_code"] == 503.0"#, true),
        (r#"attributes["http.response.status_code"] == "503""#, false),
        (r#"attributes["http.response.status_code"] != "503""#, true),
        (r#"attributes["ratio"] < 1"#, true),
        (r#"attributes["ratio"] >= 2.5e-1"#, true),
        (r#"attributes["ratio"] > -1"#, true),
        (r#"attributes["retry"] == false"#, true),
        (r#"attributes["retry"] != true"#, true),
        (r#"attributes["list"] != null"#, true),
        (r#"attributes["list"] == "x""#, false),
        (r#"scope["lib"] == 'x'"#, true),
        (r#"scope.name == "io.shop""#, true),
        (r#"scope.version == null"#, true),
        (r#"resource.attributes["service.name"] != "auth""#, false),
    ] {
        check(selector, expected);
    }
}

#[test]
fn a_missing_field_equals_null_and_nothing_else() {
    check(r#"attributes["gone"] == null"#, true);
    check(r#"attributes["gone"] != null"#, false);
    check(r#"attributes["gone"] != "x""#, false);
    check(r#"attributes["gone"] < 1"#, false);
    check(r#"not attributes["gone"] == "x""#, true);
    check(r#"attributes["sea.flow"] == null"#, false);
}

#[test]
fn and_binds_closer_than_or_and_not_closer_than_and() {
    check("kind == CLIENT and kind == CLIENT or kind == SERVER", true);
    check("kind == SERVER or kind == CLIENT and kind == CLIENT", true);
    check("(kind == SERVER or kind == CLIENT) and kind == CLIENT", false);
    check("not kind == CLIENT and kind == SERVER", true);
    check("!(kind == SERVER || kind == CLIENT) && kind == SERVER", false);
    check("not not kind == SERVER", true);
}

#[test]
fn an_error_names_the_column_and_the_nearest_name() {
    for (selector, message) in [
        (
            r#"atributes["a"] == 1"#,
            r#"unknown field `atributes` (did you mean "attributes"?) at column 1 of the selector"#,
        ),
        (
            "kind == SERVR",
            r#"unknown kind `SERVR` (did you mean "SERVER"?); known: SERVER, CLIENT, INTERNAL, PRODUCER, CONSUMER at column 9 of the selector"#,
        ),
        ("name = \"a\"", r#"`=` is no comparison (did you mean "=="?) at column 6 of the selector"#),
        ("name == \"a", "the text has no closing \" at column 9 of the selector"),
        ("name == a", "expected text in quotes, or null at column 9 of the selector"),
        (
            "name < \"a\"",
            "only numbers and severities are less or greater (use == or !=) at column 8 of the selector",
        ),
        ("(name == \"a\"", "expected `)` at column 13 of the selector"),
        ("name == \"a\" name", "expected `and`, `or` or the end at column 13 of the selector"),
        ("attributes[\"é\"] == 1.2.3", "`1.2.3` is no number at column 20 of the selector"),
        (
            "severity == 17",
            "a severity is a word such as ERROR (`severity_number` takes numbers) at column 13 of the selector",
        ),
        (
            "",
            "expected a field such as `name` or `attributes[\"…\"]` (the value stands on the right) at column 1 of the selector",
        ),
        (
            "name",
            "expected a comparison: ==, !=, <, <=, >, >= (`!= null` asks whether it is there) at column 5 of the selector",
        ),
    ] {
        assert_eq!(Selector::parse(selector).unwrap_err().to_string(), message, "{selector}");
    }
    let deep = format!("{}kind == SERVER", "not ".repeat(100));
    assert!(Selector::parse(&deep).unwrap_err().message.contains("nests deeper"));
    assert!(Selector::parse(&" ".repeat(5000)).unwrap_err().message.contains("longer than"));
}

fn literals(selector: &str) -> Option<Vec<String>> {
    let literals = Selector::parse(selector).unwrap().literals()?;
    Some(literals.into_iter().map(|literal| String::from_utf8(literal).unwrap()).collect())
}

#[test]
fn the_literals_are_what_a_match_cannot_do_without() {
    for (selector, expected) in [
        (r#"attributes["sea.flow"] == "Login""#, Some(vec!["sea.flow"])),
        (r#"attributes["flow"] == "CreateOrder""#, Some(vec!["CreateOrder"])),
        (r#"attributes["db.system.name"] != null"#, Some(vec!["db.system.name"])),
        (r#"attributes["a.code"] >= 500"#, Some(vec!["a.code"])),
        (r#"attributes["a"] != "long value""#, Some(vec!["a"])),
        (r#"kind == SERVER and name == "POST /login""#, Some(vec!["POST /login"])),
        (r#"name == "a" or name == "b""#, Some(vec!["a", "b"])),
        (r#"name == "a" or kind == SERVER"#, None),
        (
            r#"(name == "a" or name == "bbb") and resource["service.name"] == "xy""#,
            Some(vec!["service.name"]),
        ),
        (r#"body["level"] == "a/bc""#, Some(vec!["level", "\\u"])),
        (r#"body == "broken \"pipe\"""#, Some(vec!["broken \"pipe\""])),
        (r#"attributes["a"] == null"#, None),
        (r#"not attributes["a"] == "x""#, None),
        (r#"name != "a""#, None),
        ("status != ERROR", None),
        ("severity >= ERROR", None),
    ] {
        let expected = expected.map(|all: Vec<&str>| all.into_iter().map(str::to_owned).collect());
        assert_eq!(literals(selector), expected, "{selector}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
        let _ = Selector::parse(&text);
    }

    #[test]
    fn shuffled_words_make_the_parser_answer_and_never_panic(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "kind", "name", "body", "attributes", "[\"a\"]", "==", "!=", "<", "SERVER", "\"x\"", "1", "(", ")", "not", "and",
                "or", "null", "!", "-1.5", "severity", "ERROR",
            ]),
            0..16,
        ),
    ) {
        let text = words.join(" ");
        if let Ok(selector) = Selector::parse(&text) {
            // Whatever parses can be asked, and means the same when it is read again.
            let again = Selector::parse(&selector.to_string()).unwrap();
            prop_assert_eq!(selector.matches(&record()), again.matches(&record()));
            prop_assert_eq!(selector, again);
        }
    }
}
