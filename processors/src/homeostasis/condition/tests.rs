//! Conditions: the seed's, the grammar's, and every mistake with its column.

mod lookbacks;
mod property;

use std::time::Duration;

use homeostat_pipeline::finding::Level;

use super::*;
use crate::homeostasis::model::{Baseline, Measure, Thresholds};
use crate::homeostasis::units::Unit;

/// What the seed says of the p95 of its login.
fn latency() -> Expectation {
    Expectation {
        measure: Measure::parse("p95_latency_ms"),
        unit: Unit::MILLISECONDS,
        direction: Direction::LowerIsBetter,
        thresholds: Thresholds {
            target: Some(250.0),
            warning: Some(400.0),
            critical: Some(500.0),
            ..Thresholds::default()
        },
        baseline: Some(Baseline { center: Some(235.0), ..Baseline::default() }),
        source: None,
    }
}

fn uptime() -> Expectation {
    Expectation {
        measure: Measure::parse("uptime_percentage"),
        unit: Unit::PERCENT,
        direction: Direction::HigherIsBetter,
        thresholds: Thresholds {
            target: Some(99.99),
            warning: Some(99.9),
            critical: Some(99.0),
            ..Thresholds::default()
        },
        baseline: None,
        source: None,
    }
}

fn error_rate() -> Expectation {
    let thresholds =
        Thresholds { warning: Some(0.01), critical: Some(0.05), upper: Some(0.2), ..Thresholds::default() };
    Expectation {
        measure: Measure::parse("error_rate"),
        unit: Unit::RATIO,
        thresholds,
        baseline: Some(Baseline { center: Some(0.0), ..Baseline::default() }),
        ..latency()
    }
}

fn learned() -> Expectation {
    let baseline = Baseline {
        center: Some(240.0),
        p50: Some(120.0),
        p95: Some(240.0),
        p99: Some(380.0),
        mean: Some(200.0),
        median: Some(190.0),
        mad: Some(10.0),
        stddev: Some(25.0),
        ..Baseline::default()
    };
    Expectation { baseline: Some(baseline), ..latency() }
}

/// Both ways of evaluation, which must agree.
fn judge(text: &str, expected: &Expectation, value: Option<f64>, count: u64) -> Option<bool> {
    let parsed = Parsed::new(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    let (condition, _) =
        parsed.compile(expected, &mut Vec::new()).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    let facts = Facts { value, count, expected, lookbacks: &[] };
    let compiled = Subjects::new(&[facts]).judge(&condition, 0..1)[0];
    assert_eq!(compiled, condition.holds(&facts), "{text} of {value:?}");
    compiled
}

fn fault(text: &str, expected: &Expectation) -> (usize, String) {
    let fault =
        Parsed::new(text).and_then(|parsed| parsed.compile(expected, &mut Vec::new())).expect_err(text);
    (fault.column, fault.message)
}

fn warnings(text: &str, expected: &Expectation) -> Vec<String> {
    Parsed::new(text).unwrap().compile(expected, &mut Vec::new()).unwrap().1
}

#[test]
fn every_condition_of_the_seed_judges_as_it_reads() {
    for (text, value, expected) in [
        ("value > threshold.critical", 500.0, false),
        ("value > threshold.critical", 500.1, true),
        ("value > threshold.warning", 450.0, true),
        ("value < threshold.critical", 499.9, true),
        ("value < threshold.warning", 400.0, false),
        ("value >= threshold.critical", 500.0, true),
        ("value >= threshold.warning", 399.9, false),
        ("value > baseline * 2", 470.0, false),
        ("value > baseline * 2", 470.1, true),
        ("value > 500", 850.0, true),
        ("deviation > 50% from baseline", 352.5, false),
        ("deviation > 50% from baseline", 353.0, true),
        ("deviation <= 50% from baseline", 100.0, true),
    ] {
        assert_eq!(judge(text, &latency(), Some(value), 100), Some(expected), "{text} of {value}");
        assert_eq!(judge(text, &latency(), None, 3), None, "{text} of nothing");
        assert_eq!(judge(text, &latency(), Some(f64::NAN), 100), None, "{text} of NaN");
        assert_eq!(judge(text, &latency(), Some(f64::INFINITY), 100), None, "{text} of infinity");
    }
    for (value, expected) in [(99.995, false), (99.0, false), (98.9, true), (0.0, true)] {
        assert_eq!(
            judge("value < threshold.critical", &uptime(), Some(value), 100),
            Some(expected),
            "{value}"
        );
    }
}

#[test]
fn the_rest_of_the_language_judges_as_it_reads() {
    for (text, value, expected) in [
        ("value ≥ threshold.critical", 500.0, Some(true)),
        ("value ≤ threshold.critical", 500.0, Some(true)),
        ("VALUE > 500 AND count > 10", 501.0, Some(true)),
        ("value > 400 && !(value > 500)", 450.0, Some(true)),
        ("value > 400 || count > 1000", 300.0, Some(false)),
        ("not value > 500", 500.0, Some(true)),
        ("value == 0", -0.0, Some(true)),
        ("value >= 0", -0.0, Some(true)),
        ("-value == 0", 0.0, Some(true)),
        ("value != 5", 6.0, Some(true)),
        ("value within [200, 300]", 300.0, Some(true)),
        ("value within [200, 300]", 300.5, Some(false)),
        ("value outside [threshold.target, threshold.critical]", 249.0, Some(true)),
        ("value > 0.5 s", 501.0, Some(true)),
        ("value > 0.5 s", 499.0, Some(false)),
        ("value > 1e2 ms + 0.4 seconds", 500.5, Some(true)),
        ("value > baseline * 150%", 361.0, Some(true)),
        ("value - baseline.mean > 100ms", 301.0, Some(true)),
        ("value / baseline > 2", 481.0, Some(true)),
        ("value / baseline > 200%", 481.0, Some(true)),
        ("value / (baseline - baseline) > 2", 481.0, None),
        ("value > 500 and value / (baseline - baseline) > 2", 300.0, Some(false)),
        ("value > 500 or value / (baseline - baseline) > 2", 600.0, Some(true)),
        ("value > baseline.median + 6 * baseline.mad", 251.0, Some(true)),
        ("abs(zscore) > 3", 100.0, Some(true)),
        ("zscore > 3", 100.0, Some(false)),
        ("zscore > 3", 276.0, Some(true)),
        ("deviation > 0.5", 361.0, Some(true)),
        ("deviation > 50%", 100.0, Some(false)),
        ("value > max(threshold.warning, baseline * 2)", 481.0, Some(true)),
        ("value > min(threshold.warning, baseline * 2, 300)", 301.0, Some(true)),
        ("1 + 2 * 3 - 4 / 2 == 5", 1.0, Some(true)),
        ("(1 + 2) * 3 == 9", 1.0, Some(true)),
        ("count >= 100", 1.0, Some(true)),
        (".5 < value", 1.0, Some(true)),
    ] {
        assert_eq!(judge(text, &learned(), Some(value), 100), expected, "{text} of {value}");
    }
    // The baseline of an error rate may be zero: the distance from it is unknown, and no deviation.
    assert_eq!(judge("deviation > 50% from baseline", &error_rate(), Some(0.5), 100), None);
    assert_eq!(judge("count > 5", &latency(), None, 6), Some(true));
}

#[test]
fn a_percentage_is_a_part_and_meets_a_ratio_in_its_own_unit() {
    assert_eq!(judge("value > 5%", &error_rate(), Some(0.051), 100), Some(true));
    assert_eq!(judge("value > 5%", &error_rate(), Some(0.05), 100), Some(false));
    assert_eq!(judge("value > 5 percent", &error_rate(), Some(0.06), 100), Some(true));
    assert_eq!(judge("value < 99.5%", &uptime(), Some(99.4), 100), Some(true));
    assert_eq!(judge("value < 0.995 ratio", &uptime(), Some(99.6), 100), Some(false));
    assert_eq!(judge("value < threshold.critical - 0.5%", &uptime(), Some(98.4), 100), Some(true));
    assert_eq!(judge("value < threshold.critical * 50%", &uptime(), Some(49.0), 100), Some(true));
}

#[test]
fn an_improvement_is_never_a_deviation() {
    let better =
        Expectation { baseline: Some(Baseline { center: Some(99.5), ..Baseline::default() }), ..uptime() };
    assert_eq!(judge("deviation > 0.1%", &better, Some(100.0), 100), Some(false));
    assert_eq!(judge("deviation > 0.1%", &better, Some(99.0), 100), Some(true));
    assert_eq!(judge("deviation > 0.1%", &latency(), Some(10.0), 100), Some(false));
}

#[test]
fn the_numbers_of_the_reference_hold() {
    let percent = |value: f64, baseline: f64| {
        let baseline = Some(Baseline { center: Some(baseline), ..Baseline::default() });
        let expected = Expectation { baseline, ..latency() };
        expected.deviation(value).map(|deviation| format!("{:.1}", deviation * 100.0))
    };
    assert_eq!(percent(850.0, 235.0), Some("261.7".to_owned()));
    assert_eq!(percent(450.0, 240.0), Some("87.5".to_owned()));
    assert_eq!(percent(450.0, 0.0), None);
    assert_eq!(Expectation { baseline: None, ..latency() }.deviation(450.0), None);
}

#[test]
fn duration_is_how_long_and_the_first_threshold_is_the_level() {
    let compile = |text: &str| Parsed::new(text).unwrap().compile(&latency(), &mut Vec::new()).unwrap().0;
    for (text, holds_for, level) in [
        ("value > threshold.critical", None, Some(Level::Critical)),
        ("value >= threshold.warning and duration > 10 minutes", Some(600), Some(Level::Warning)),
        ("duration >= 5m and value > 500", Some(300), None),
        (
            "value > threshold.warning and (value < threshold.critical and duration > 1 hour)",
            Some(3_600),
            Some(Level::Warning),
        ),
    ] {
        let condition = compile(text);
        assert_eq!(condition.holds_for(), holds_for.map(Duration::from_secs), "{text}");
        assert_eq!(condition.threshold_level(), level, "{text}");
        assert_eq!(condition.text(), text);
    }
}

#[test]
fn what_does_not_parse_says_where_and_what_would_be_right() {
    for (text, column, says) in [
        ("", 1, "the condition is empty"),
        ("  ", 1, "the condition is empty"),
        ("vlaue > 5", 1, "did you mean \"value\"?"),
        ("value > threshold.critcal", 9, "did you mean \"critical\"?"),
        ("value > threshold", 9, "name the threshold"),
        ("value > baseline.p96", 9, "unknown word `baseline.p96`"),
        ("value > 5 minuts", 11, "unknown unit `minuts` (did you mean \"minutes\"?)"),
        ("value = 5", 7, "equality is `==`"),
        ("value > 5 & count > 3", 11, "write `and`"),
        ("value > 5 | count > 3", 11, "write `or`"),
        ("value > \"5\"", 9, "conditions hold numbers"),
        ("value >", 8, "the end stands where a number is expected"),
        ("value > 5 and", 14, "the end stands where a number is expected"),
        ("(value > 5", 11, "`)` is missing"),
        ("value > 5)", 10, "`)` does not follow here"),
        ("1 < value < 5", 11, "comparisons do not chain"),
        ("value within [1 2]", 17, "`,` is missing"),
        ("value within 1", 14, "`[` is missing"),
        ("ab(value) > 3", 1, "unknown function `ab` (did you mean \"abs\"?)"),
        ("abs(value, 3) > 3", 1, "`abs` takes one argument, here are 2"),
        ("max() > 3", 1, "one argument or more"),
        ("deviation > 50% from target", 22, "`from` is followed by `baseline`"),
        ("value > 1.2.3", 9, "a number has one point"),
        ("value > 1_000", 9, "a number has one point and no separators"),
        ("value > 1e999", 9, "no number that can be compared"),
        ("wért > 3", 1, "unknown word `wért`"),
        ("value ≥ € 3", 9, "`€` means nothing here"),
        ("and > 3", 1, "`and` stands where a number is expected"),
    ] {
        let (at, message) = fault(text, &latency());
        assert_eq!(at, column, "{text}: {message}");
        assert!(message.contains(says), "{text}: {message}");
    }
}

#[test]
fn what_does_not_fit_the_measure_says_where_and_why() {
    for (text, column, says) in [
        ("value > threshold.lower", 9, "`threshold.lower` is not stated for p95_latency_ms"),
        ("value > 5 MiB", 9, "`5 MiB` is an amount of data, but p95_latency_ms is a time in `ms`"),
        ("value > 50%", 9, "a time in `ms` and a ratio cannot be compared"),
        ("value > count", 9, "a time in `ms` and a count cannot be compared"),
        ("value + zscore > 3", 9, "cannot be added"),
        ("value * value > 3", 9, "cannot be multiplied"),
        ("3 / value > 3", 5, "cannot be divided"),
        ("max(value, count) > 3", 12, "cannot be compared"),
        ("value", 1, "a number stands where a condition is expected"),
        ("not value", 5, "a number stands where a condition is expected"),
        ("(value > 3) > 2", 1, "a condition stands where a number is expected"),
        ("value > 50% from baseline", 1, "`from baseline` follows a comparison of `deviation`"),
        ("duration > 5 minutes", 1, "join it to a condition"),
        ("value > 3 or duration > 5 minutes", 14, "joined by `and` at the top"),
        ("value > 3 and not duration > 5 minutes", 19, "joined by `and` at the top"),
        ("value > 3 and duration < 5 minutes", 15, "`duration` is compared with `>` or `>=`"),
        ("value > 3 and duration > 5", 26, "`duration` is compared with a time"),
        ("value > 3 and duration > 5 bytes", 26, "`bytes` is no time"),
        ("value > 3 and duration > 9999 weeks", 26, "at most a year"),
        ("duration > 5m and value > 3 and duration > 5m", 33, "stated twice"),
    ] {
        let (at, message) = fault(text, &latency());
        assert_eq!(at, column, "{text}: {message}");
        assert!(message.contains(says), "{text}: {message}");
    }
}

#[test]
fn what_has_no_data_yet_is_refused_by_name() {
    for (text, name) in [
        ("burn_rate(1h) > 14.4", "`burn_rate(…)`"),
        ("budget.remaining < 10%", "`budget.remaining`"),
        ("budget.burn_rate > 2", "`budget.burn_rate`"),
    ] {
        let (_, message) = fault(text, &latency());
        assert_eq!(message, format!("{name} is not supported yet"), "{text}");
    }
}

#[test]
fn a_condition_that_would_exhaust_the_stack_is_refused() {
    let deep = format!("{}value > 3{}", "(".repeat(100), ")".repeat(100));
    assert!(fault(&deep, &latency()).1.contains("nested more than"));
    assert!(fault(&format!("value > {}3", "-".repeat(100)), &latency()).1.contains("nested more than"));
    assert!(fault(&format!("{}value > 3", "not ".repeat(100)), &latency()).1.contains("nested more than"));
    assert!(fault(&format!("value > 1{}", "+1".repeat(100)), &latency()).1.contains("in a row"));
    assert!(fault(&format!("value > 1 {}", "or value > 1 ".repeat(70)), &latency()).1.contains("in a row"));
    assert!(fault(&"x".repeat(1_001), &latency()).1.contains("at most"));
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    for (text, says) in [
        ("value < threshold.critical", "lower is better for p95_latency_ms"),
        ("value > threshold.critical and value < threshold.warning", "can never fire"),
        ("value < 0", "can never fire"),
        ("value within [500, 400]", "can never fire"),
        ("value > baseline.p95", "`baseline.p95`"),
        ("abs(zscore) > 3", "`zscore` is unknown"),
    ] {
        let found = warnings(text, &latency());
        assert!(found.iter().any(|warning| warning.contains(says)), "{text}: {found:?}");
    }
    assert!(warnings("value > 1.5", &error_rate())[0].contains("can never fire"));
    assert!(warnings("value > threshold.critical", &uptime())[0].contains("higher is better"));
    for text in [
        "value > threshold.critical",
        "value > baseline * 2",
        "deviation > 50% from baseline",
        "value > threshold.warning and value < threshold.critical",
        "value within [threshold.target, threshold.warning]",
        "value > 123456789",
        "value > 500 and count > 123456",
        "count < 3",
        "not value < 500",
        "value - baseline > 100",
        "value / baseline > 3",
    ] {
        assert_eq!(warnings(text, &latency()), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn operators_say_which_way_is_adverse() {
    for (text, direction) in [
        ("value > 5", Some(Direction::LowerIsBetter)),
        ("5 < value", Some(Direction::LowerIsBetter)),
        ("value < threshold.critical", Some(Direction::HigherIsBetter)),
        ("not value >= 99", Some(Direction::HigherIsBetter)),
        ("value > 5 and value < 3", None),
        ("value < threshold.lower", None),
        ("value == 5", None),
        ("deviation > 5%", None),
        ("value within [1, 2]", None),
    ] {
        assert_eq!(Parsed::new(text).unwrap().direction(), direction, "{text}");
    }
}

#[test]
fn rules_judge_their_own_rows_of_one_batch() {
    let (slow, up) = (latency(), uptime());
    let facts = [
        Facts { value: Some(850.0), count: 50, expected: &slow, lookbacks: &[] },
        Facts { value: Some(100.0), count: 50, expected: &slow, lookbacks: &[] },
        Facts { value: None, count: 0, expected: &slow, lookbacks: &[] },
        Facts { value: Some(98.0), count: 50, expected: &up, lookbacks: &[] },
        Facts { value: Some(99.5), count: 50, expected: &up, lookbacks: &[] },
    ];
    let subjects = Subjects::new(&facts);
    assert_eq!(subjects.len(), 5);
    let compile =
        |text: &str, expected| Parsed::new(text).unwrap().compile(expected, &mut Vec::new()).unwrap().0;
    let critical = compile("value > threshold.critical", &slow);
    assert_eq!(subjects.judge(&critical, 0..3), [Some(true), Some(false), None]);
    let down = compile("value < threshold.critical", &up);
    assert_eq!(subjects.judge(&down, 3..5), [Some(true), Some(false)]);
    assert_eq!(subjects.judge(&down, 2..2), []);
    assert!(Subjects::new(&[]).is_empty());
}
