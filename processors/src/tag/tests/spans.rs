//! Spans: where keys and sea.* attributes stand, and what their rows say.

use super::*;

#[track_caller]
fn check_span(attributes: Vec<KeyValue>, expected: &[&str]) {
    let body = traces(vec![], vec![], vec![Span { attributes, ..span() }]);
    assert_eq!(keys(&tag_traces(&body)), expected);
}

#[test]
fn a_key_is_found_wherever_it_may_stand_on_a_span() {
    check_span(texts(&[("req", "REQ-F-A-001")]), &["REQ-F-A-001 attribute*"]);
    check_span(texts(&[("requirement", "REQ-F-A-001.1.2.0")]), &["REQ-F-A-001@1.2.0 attribute*"]);
    check_span(
        texts(&[("req", "REQ-F-A-001, REQ_F_B_002")]),
        &["REQ-F-A-001 attribute*", "REQ-F-B-002 attribute"],
    );
    check_span(
        vec![pair("req", list(vec![text("REQ-F-A-001"), list(vec![text("REQ-F-B-002")])]))],
        &["REQ-F-A-001 attribute*", "REQ-F-B-002 attribute"],
    );
    check_span(
        vec![pair("labels", list(vec![map(texts(&[("x", "REQ-F-X-009"), ("req", "REQ-F-A-001")]))]))],
        &["REQ-F-A-001 attribute*"],
    );
    check_span(vec![pair("req", map(texts(&[("id", "REQ-F-A-001")])))], &["REQ-F-A-001 attribute*"]);
    check_span(vec![pair("tags", list(vec![text("req:REQ-F-A-001")]))], &["REQ-F-A-001 text*"]);
    check_span(texts(&[("req", "none"), ("other", "REQ-F-A-001"), ("xreq", "REQ-F-A-001")]), &[]);
    check_span(texts(&[("req", "REQ_F_A_001"), ("requirement", "REQ-F-A-001")]), &["REQ-F-A-001 attribute*"]);
}

#[test]
fn keys_come_from_the_nearest_place_outwards_each_once() {
    let event = span::Event { attributes: texts(&[("req", "REQ-F-EVENT-001")]), ..Default::default() };
    let link =
        span::Link { attributes: texts(&[("req", "REQ-F-LINK-001, REQ-F-SPAN-001")]), ..Default::default() };
    let all = Span {
        attributes: texts(&[("message", "REQ-F-TEXT-001"), ("req", "REQ-F-SPAN-001")]),
        events: vec![event],
        links: vec![link],
        status: Some(Status { code: 2, message: "REQ-F-STATUS-001 violated".to_owned() }),
        name: "check REQ-F-NAME-001.1.0.0".to_owned(),
        ..span()
    };
    let resource = texts(&[("req", "REQ-F-RES-001,REQ-F-NAME-001")]);
    let body = traces(resource, texts(&[("requirement", "REQ-F-SCOPE-001")]), vec![all]);
    let rows = tag_traces(&body);
    assert_eq!(
        keys(&rows),
        [
            "REQ-F-SPAN-001 attribute*",
            "REQ-F-EVENT-001 nested",
            "REQ-F-LINK-001 nested",
            "REQ-F-SCOPE-001 scope",
            "REQ-F-RES-001 resource",
            "REQ-F-NAME-001@1.0.0 resource",
            "REQ-F-TEXT-001 text",
            "REQ-F-STATUS-001 text",
        ]
    );
    assert_eq!(
        rows.text(rows.rows()[6].also),
        "REQ-F-SPAN-001,REQ-F-EVENT-001,REQ-F-LINK-001,REQ-F-SCOPE-001,REQ-F-RES-001,REQ-F-NAME-001,REQ-F-STATUS-001"
    );
}

#[test]
fn a_row_of_a_span_says_all_that_the_span_does() {
    let resource = texts(&[
        ("service.name", "auth"),
        ("deployment.environment.name", "production"),
        ("deployment.environment", "old"),
        ("sea.domain", "identity"),
        ("sea.flow", "Outer"),
    ]);
    let attributes = texts(&[
        ("sea.conceptId", "by alias"),
        ("sea.concept", "Session"),
        ("sea.flow", "Login"),
        ("req", "REQ-F-A-001"),
        ("sea.policy", ""),
    ]);
    let scope = texts(&[("sea.context", "auth"), ("sea.regime_id", "regime:v1"), ("sea.domain", "access")]);
    let failed = Span { attributes, status: Some(Status { code: 2, message: String::new() }), ..span() };
    let rows = tag_traces(&traces(resource, scope, vec![failed, Span { end_time_unix_nano: 9, ..span() }]));
    let [row, inherited] = rows.rows() else { panic!("{:?}", shown(&rows)) };
    let of = |text| rows.text(text);
    assert_eq!(of(row.flow), "Login");
    assert_eq!(of(row.context), "auth");
    assert_eq!(of(row.domain), "access");
    assert_eq!(of(row.concept), "Session");
    assert_eq!(of(row.regime), "regime:v1");
    assert_eq!(of(row.policy), "");
    assert_eq!(of(row.service), "auth");
    assert_eq!(of(row.environment), "production");
    assert_eq!(of(row.name), "POST /login");
    assert_eq!(of(row.spec_node), "sea:auth:Login");
    assert_eq!((of(row.measure), of(row.unit), of(row.labels)), ("", "ns", ""));
    assert_eq!((row.value, row.time.as_nanos(), row.count), (250_000_000.0, 1_250_000_000, 1));
    assert_eq!((row.trace_id, row.span_id), ([7; 16], [8; 8]));
    assert!(row.is_error && row.is_primary);
    assert_eq!(row.kind.name(), "SERVER");
    assert_eq!((row.status.name(), row.confidence), ("matched", 1.0));
    assert_eq!(of(inherited.spec_node), "sea:auth:Outer");
    assert_eq!((of(inherited.req), inherited.method.name()), ("", "flow"));
    assert_eq!(inherited.status.name(), "partial");
    assert!(inherited.value.is_nan(), "it ends before it starts");
    assert!(!inherited.is_error);
}

#[test]
fn the_confidence_says_what_the_correlation_rests_on() {
    let check = |attributes: &[(&str, &str)], node: &str, confidence: f32| {
        let body = traces(vec![], vec![], vec![Span { attributes: texts(attributes), ..span() }]);
        let tag = settings("aliases: { sea.flow: [app.flow] }");
        let rows = tag_with(&tag, &Interest::default(), Signal::Traces, &body);
        let row = rows.rows()[0];
        assert_eq!((rows.text(row.spec_node), row.confidence), (node, confidence), "{attributes:?}");
    };
    check(&[("sea.flow", "F"), ("sea.context", "c")], "sea:c:F", 1.0);
    check(&[("sea.flow", "F"), ("sea.boundedContext", "c")], "sea:c:F", 0.8);
    check(&[("app.flow", "F"), ("sea.context", "c")], "sea:c:F", 0.8);
    check(&[("sea.flow", "F")], "", 0.5);
    check(&[("req", "REQ-F-A-001")], "", 0.0);
    check(&[("req", "REQ-F-A-001"), ("sea.context", "c")], "", 0.0);
}

#[test]
fn what_touches_nothing_yields_no_row() {
    let attributes = texts(&[("sea.domain", "shop"), ("http.route", "/REQUEST"), ("sea.flow", "")]);
    let body = traces(texts(&[("sea.platform", "p")]), vec![], vec![Span { attributes, ..span() }; 3]);
    assert!(tag_traces(&body).is_empty());
    assert!(tag_traces(&[]).is_empty());
}

#[test]
fn selectors_find_what_carries_no_key() {
    let interest = Interest {
        selections: vec![
            selection(Signal::Traces, "REQ-F-A-001", "p95_latency_ms", r#"name == "POST /login""#),
            selection(
                Signal::Traces,
                "REQ-F-A-001",
                "p95_latency_ms",
                r#"kind == SERVER and resource["tier"] == "front""#,
            ),
            selection(
                Signal::Traces,
                "REQ-F-A-001",
                "error_rate",
                r#"scope.name == "lib" and kind == SERVER"#,
            ),
            selection(Signal::Traces, "REQ-F-B-002", "count", r#"attributes["db.system.name"] != null"#),
            selection(Signal::Logs, "REQ-F-C-003", "count", r#"name == "POST /login""#),
        ],
        ..Interest::default()
    };
    let db =
        Span { name: "SELECT".to_owned(), kind: 3, attributes: texts(&[("db.system.name", "pg")]), ..span() };
    let keyed = Span { attributes: texts(&[("req", "REQ-F-A-001")]), ..span() };
    let flow = Span { attributes: texts(&[("sea.flow", "Login")]), ..span() };
    let body = traces(texts(&[("tier", "front")]), vec![], vec![span(), db, keyed, flow]);
    let rows = tag_with(&Tag::default(), &interest, Signal::Traces, &body);
    let show = |row: &Row| {
        let star = if row.is_primary { "*" } else { "" };
        format!("{} {} {}{star}", rows.text(row.req), rows.text(row.measure), row.method.name())
    };
    assert_eq!(
        rows.rows().iter().map(show).collect::<Vec<_>>(),
        [
            "REQ-F-A-001 p95_latency_ms selector*",
            "REQ-F-A-001 error_rate selector",
            "REQ-F-B-002 count selector*",
            "REQ-F-A-001  attribute*",
            "  flow*",
            "REQ-F-A-001 p95_latency_ms selector",
            "REQ-F-A-001 error_rate selector",
        ]
    );
    assert_eq!(rows.rows()[0].value, 250_000_000.0);
}

#[test]
fn labels_are_those_nearest_to_the_record() {
    let interest =
        Interest { labels: ["a".to_owned(), "b".to_owned(), "c".to_owned()].into(), ..Interest::default() };
    let attributes = vec![number("b", 7), pair("req", text("REQ-F-A-001"))];
    let body = traces(
        texts(&[("a", "outer"), ("b", "outer")]),
        texts(&[("a", "say \"x\"")]),
        vec![Span { attributes, ..span() }],
    );
    let rows = tag_with(&Tag::default(), &interest, Signal::Traces, &body);
    assert_eq!(rows.text(rows.rows()[0].labels), r#"{"a":"say \"x\"","b":"7"}"#);
}

#[test]
fn a_selection_takes_a_span_with_the_key_where_its_ordinary_row_feeds_another_measure() {
    let of = |measure: &str| selection(Signal::Traces, "REQ-F-A-001", measure, r#"name == "POST /login""#);
    let selections = vec![of("p95_latency_ms"), Selection { takes_keyed: true, ..of("p95_db_latency_ms") }];
    let interest = Interest { selections, ..Interest::default() };
    let keyed = Span { attributes: texts(&[("req", "REQ-F-A-001")]), ..span() };
    let rows = tag_with(&Tag::default(), &interest, Signal::Traces, &traces(vec![], vec![], vec![keyed]));
    let measures: Vec<&str> = rows.rows().iter().map(|row| rows.text(row.measure)).collect();
    assert_eq!(measures, ["", "p95_db_latency_ms"]);
}
