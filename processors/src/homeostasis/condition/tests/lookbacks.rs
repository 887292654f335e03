//! Functions of windows: what they are called, what they may be compared with, and what is no window.

use super::*;

fn named(text: &str, expected: &Expectation) -> Vec<String> {
    let mut lookbacks = Vec::new();
    Parsed::new(text).and_then(|parsed| parsed.compile(expected, &mut lookbacks)).expect(text);
    lookbacks.iter().map(ToString::to_string).collect()
}

#[test]
fn each_function_is_a_column_and_the_same_one_twice_is_one() {
    for (text, columns) in [
        ("p95(5m) > 500", vec!["p95(300 s)"]),
        ("value > p99.9(1h) * 2 and value > p99.9(60 minutes)", vec!["p99.9(3600 s)"]),
        ("p50(1m) > avg(5m)", vec!["p50(60 s)", "avg(300 s)"]),
        ("count(30 d) > 10", vec!["count(2592000 s)"]),
        ("rate(90 s) > 10", vec!["rate(90 s)"]),
        ("missing(10m)", vec!["missing(600 s)"]),
        ("not changed(1h) and value > previous", vec!["changed(3600 s)", "previous"]),
        ("value > 3", vec![]),
    ] {
        assert_eq!(named(text, &latency()), columns, "{text}");
    }
    let mut lookbacks = Vec::new();
    for text in ["p95(5m) > 500", "rate(1m) < 3", "value > 5 and p95(5m) > 400"] {
        Parsed::new(text).unwrap().compile(&latency(), &mut lookbacks).expect(text);
    }
    assert_eq!(lookbacks.len(), 2, "the rules of a measure share their columns");
}

#[test]
fn a_function_of_a_window_is_compared_as_what_it_is() {
    let judge = |text: &str, expected: &Expectation, seen: &[Option<f64>]| {
        let (condition, _) =
            Parsed::new(text).and_then(|parsed| parsed.compile(expected, &mut Vec::new())).expect(text);
        let facts = Facts { value: Some(300.0), count: 50, expected, lookbacks: seen };
        let compiled = Subjects::new(&[facts]).judge(&condition, 0..1)[0];
        assert_eq!(compiled, condition.holds(&facts), "{text}");
        compiled
    };
    assert_eq!(judge("p95(5m) > 0.5 s", &latency(), &[Some(501.0)]), Some(true));
    assert_eq!(judge("value > p95(5m) * 150%", &latency(), &[Some(190.0)]), Some(true));
    assert_eq!(judge("value > previous", &latency(), &[None]), None);
    assert_eq!(judge("count(1h) >= 10 and value > 100", &latency(), &[Some(9.0)]), Some(false));
    assert_eq!(judge("avg(1h) > 5%", &error_rate(), &[Some(0.06)]), Some(true));
    assert_eq!(judge("missing(10m)", &latency(), &[Some(1.0)]), Some(true));
    assert_eq!(judge("missing(10m) or value > 1", &latency(), &[None]), Some(true));
    assert_eq!(judge("not changed(10m)", &latency(), &[Some(0.0)]), Some(true));
    let rate = Expectation {
        measure: Measure::parse("rate_per_minute"),
        unit: Unit::parse("per_minute").unwrap(),
        baseline: None,
        ..latency()
    };
    assert_eq!(judge("rate(1m) > threshold.critical", &rate, &[Some(8.0)]), Some(false), "480 a minute");
    assert_eq!(judge("rate(1m) > threshold.critical", &rate, &[Some(9.0)]), Some(true), "540 a minute");
}

#[test]
fn what_is_no_window_says_so() {
    for (text, column, says) in [
        ("value > p95()", 9, "takes one length of time"),
        ("value > p95(5m, 1h)", 9, "takes one length of time"),
        ("value > p95(5)", 13, "is a length of time, such as `5m`"),
        ("value > p95(5 bytes)", 13, "is a length of time, such as `5m`"),
        ("value > p95(value)", 13, "is a length of time, such as `5m`"),
        ("value > p95(7h)", 13, "between 100 ms and 6 h"),
        ("rate(31d) > 3", 6, "between 100 ms and 720 h"),
        ("rate(1m) > 5 s", 12, "cannot be compared"),
        ("value > missing(5m)", 9, "is a condition"),
        ("p100(5m) > 3", 1, "unknown function"),
        ("pfoo(5m) > 3", 1, "unknown function"),
    ] {
        let (at, message) = fault(text, &latency());
        assert_eq!(at, column, "{text}: {message}");
        assert!(message.contains(says), "{text}: {message}");
    }
    assert!(fault("p95(5m) > 1%", &error_rate()).1.contains("counts observations"));
    let many: Vec<String> = (1..=17).map(|minutes| format!("p50({minutes}m) > 1")).collect();
    assert!(fault(&many.join(" or "), &latency()).1.contains("more than 16 functions"));
}
