//! Log records: keys, numbers and severities in attributes, maps and JSON.

use super::*;

/// The seed's log line.
const LINE: &str = r#"{"timestamp":"2025-12-03T14:32:15.123Z","level":"ERROR","message":"Login failed\nREQ-F-OTHER-001","req":"REQ-F-AUTH-001","user_id":"user-12345","latency_ms":120,"service":"auth-service","environment":"production","extra":{"retries":2}}"#;

#[test]
fn the_log_line_of_the_seed_yields_its_keys_and_numbers() {
    let rows = tag_with(&Tag::default(), &wanted(), Signal::Logs, &logs(vec![], vec![log(text(LINE))]));
    let show = |row: &Row| format!("{} {:?} {}", rows.text(row.measure), row.value, row.method.name());
    assert_eq!(
        keys(&rows),
        [
            "REQ-F-AUTH-001 attribute*",
            "REQ-F-AUTH-001 attribute",
            "REQ-F-AUTH-001 attribute",
            "REQ-F-OTHER-001 text",
            "REQ-F-OTHER-001 text",
            "REQ-F-OTHER-001 text",
        ]
    );
    assert_eq!(
        rows.rows()[..3].iter().map(show).collect::<Vec<_>>(),
        [" NaN attribute", "latency_ms 120.0 attribute", "retries 2.0 attribute"]
    );
    let row = rows.rows()[0];
    assert!(row.is_error);
    assert_eq!(rows.text(row.service), "auth-service");
    assert_eq!(rows.text(row.environment), "production");
    assert_eq!(rows.text(row.labels), r#"{"user_id":"user-12345"}"#);
    assert_eq!(row.time.as_nanos(), 5);
}

#[test]
fn a_map_body_and_attributes_say_the_same_as_json() {
    let body =
        map(vec![pair("req", text("REQ-F-AUTH-001")), number("latency_ms", 120), pair("level", text("err"))]);
    let by_map = tag_with(&Tag::default(), &wanted(), Signal::Logs, &logs(vec![], vec![log(body)]));
    let record = LogRecord {
        attributes: vec![pair("req", text("REQ-F-AUTH-001")), number("latency_ms", 120)],
        severity_number: 17,
        ..log(text("plain"))
    };
    let by_attributes = tag_with(&Tag::default(), &wanted(), Signal::Logs, &logs(vec![], vec![record]));
    let json = r#"{"req":"REQ-F-AUTH-001","latency_ms":120.0,"severity":"Error"}"#;
    let by_json = tag_with(&Tag::default(), &wanted(), Signal::Logs, &logs(vec![], vec![log(text(json))]));
    assert_eq!(shown(&by_map), shown(&by_attributes));
    assert_eq!(shown(&by_map), shown(&by_json));
    assert_eq!(by_map.len(), 2);
}

#[test]
fn the_severity_is_the_number_else_the_word_else_the_body() {
    let check = |number: i32, word: &str, level: &str, is_error: bool| {
        let record = LogRecord {
            severity_number: number,
            severity_text: word.to_owned(),
            ..log(text(&format!(r#"{{"level":"{level}","req":"REQ-F-A-001"}}"#)))
        };
        let rows = tag_logs(&logs(vec![], vec![record]));
        assert_eq!(rows.rows()[0].is_error, is_error, "{number} {word} {level}");
    };
    check(17, "", "", true);
    check(16, "ERROR", "ERROR", false);
    check(24, "", "info", true);
    check(0, "Critical", "info", true);
    check(0, "FATAL", "", true);
    check(0, "warning", "error", false);
    check(0, "", "error", true);
    check(0, "odd", "Error", true);
    check(0, "", "", false);
}

#[test]
fn a_log_record_without_a_time_has_the_one_it_was_observed_at() {
    let record = LogRecord { time_unix_nano: 0, observed_time_unix_nano: 9, ..log(text("REQ-F-A-001")) };
    let rows = tag_logs(&logs(texts(&[("service.name", "shop")]), vec![record]));
    assert_eq!(rows.rows()[0].time.as_nanos(), 9);
    assert_eq!(rows.text(rows.rows()[0].service), "shop");
    assert_eq!(keys(&rows), ["REQ-F-A-001 text*"]);
}

#[test]
fn a_selected_log_record_gives_the_number_that_its_measure_is_named_after() {
    let interest = Interest {
        selections: vec![
            selection(Signal::Logs, "REQ-F-A-001", "p95_latency_ms", r#"body["message"] == "done""#),
            selection(
                Signal::Logs,
                "REQ-F-A-001",
                "error_rate",
                r#"body["message"] == "done" and severity < ERROR"#,
            ),
        ],
        ..wanted()
    };
    let body = logs(vec![], vec![log(text(r#"{"message":"\u0064one","level":"info","latency_ms":7}"#))]);
    let rows = tag_with(&Tag::default(), &interest, Signal::Logs, &body);
    let values: Vec<_> =
        rows.rows().iter().map(|row| (rows.text(row.measure), row.value.to_string())).collect();
    assert_eq!(values, [("p95_latency_ms", "7".to_owned()), ("error_rate", "NaN".to_owned())]);
}
