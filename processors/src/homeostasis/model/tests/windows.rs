//! Windows that slide, functions of windows, and what `measures` defines.

use homeostat_pipeline::batch::Signal;

use super::*;
use crate::homeostasis::model::pane_of;

fn window_of(text: &str) -> String {
    format!(
        "homeostasis_model: {{ defaults: {{ window: {text} }}, requirements: {{ REQ-A-001: {{ thresholds: {{ error_rate: {{ \
         critical: 0.1 }} }} }} }} }}"
    )
}

#[test]
fn a_window_tumbles_or_slides() {
    let seconds = Duration::from_secs;
    let window = good(&window_of("{ kind: sliding, size: 10m, slide: 1m }")).defaults.window;
    assert_eq!((window.size, window.every, window.kind()), (seconds(600), seconds(60), "sliding"));
    let window = good(&window_of("{ kind: tumbling, size: 10m }")).defaults.window;
    assert_eq!((window.every, window.kind()), (seconds(600), "tumbling"));
    for (text, says) in [
        ("{ kind: sliding, size: 10m, slide: 3m }", "without a remainder"),
        ("{ kind: sliding, size: 10m, slide: 11m }", "without a remainder"),
        ("{ kind: sliding, size: 10m, slide: 0s }", "without a remainder"),
        ("{ size: 10m, slide: 1m }", "only sliding windows have a `slide`"),
        ("{ kind: session, size: 10m }", "is no kind of window (write `tumbling` or `sliding`)"),
        ("{ kind: sliding, size: 1d, slide: 1m }", "more than 512 panes"),
    ] {
        let found = errors(&window_of(text));
        assert!(found.iter().any(|error| error.contains(says)), "{text}\n{found:#?}");
    }
}

fn with_rule(condition: &str) -> String {
    one(&format!(
        "thresholds: {{ p95_latency_ms: {{ critical: 500 }} }}\ndeviation_rules:\n- {{ condition: \"{condition}\", \
         severity: low }}"
    ))
}

#[test]
fn panes_divide_every_window_of_the_model() {
    for (condition, seconds) in [
        ("value > 3", 300),
        ("rate(1m) > 3", 60),
        ("p95(1h) > 3 and rate(90 s) > 3", 30),
        ("count(30d) > 3", 300),
        ("value > previous", 300),
        ("missing(10m)", 300),
    ] {
        let model = good(&with_rule(condition));
        let pane = pane_of(&model.defaults.window, &model.requirements);
        assert_eq!(pane, Duration::from_secs(seconds), "{condition}");
    }
    let found = errors(&with_rule("p95(6h) > 3 and rate(7 s) > 3"));
    assert!(found[0].contains("have only 1 s in common"), "{found:?}");
}

#[test]
fn a_ratio_is_what_two_selectors_take() {
    let text = one(
        "measures: { checkout_ok: { ratio: { good: 'name == \"POST /pay\" and status != ERROR', total: 'name == \"POST /pay\"' } } }\n\
         thresholds: { checkout_ok: { critical: 0.9, target: 0.99, unit: ratio } }\n\
         deviation_rules:\n- { condition: \"value < threshold.critical\", severity: critical }",
    );
    let model = good(&text);
    let requirement = &model.requirements["REQ-NFR-PERF-001"];
    let expected = &requirement.expectations["checkout_ok"];
    assert_eq!((expected.measure.statistic, expected.unit), (Statistic::Ratio, Unit::RATIO));
    assert_eq!(expected.direction, Direction::HigherIsBetter);
    let rows: Vec<(&str, Signal, bool)> = requirement
        .selections
        .iter()
        .map(|one| (one.measure.as_str(), one.signal, one.takes_keyed))
        .collect();
    let spans = Signal::Traces;
    assert_eq!(rows, [("checkout_ok#good", spans, true), ("checkout_ok#total", spans, true)]);
    for (measures, says) in [
        ("{ x: { ratio: { good: 'kind == SERVER' } } }", "`ratio` needs `total`"),
        ("{ x: { ratio: { good: 'kind =', total: 'kind == SERVER' } } }", "of the selector"),
        ("{ x: { window: 5m } }", "write `calendar_month`"),
        ("{ x: {} }", "state `ratio` or `window`"),
        ("{ x: { ration: 1 } }", "did you mean \"ratio\"?"),
    ] {
        let found = errors(&one(&format!("measures: {measures}")));
        assert!(found.iter().any(|error| error.contains(says)), "{measures}\n{found:#?}");
    }
}

#[test]
fn a_span_with_the_key_is_selected_where_it_does_not_feed_the_measure_by_itself() {
    let takes_keyed = |signal: &str, measure: &str| {
        let model = good(&one(&format!(
            "thresholds: {{ {measure}: {{ critical: 500 }} }}\n\
             telemetry: {{ otlp: [{{ signal: {signal}, name: query, as: {measure} }}] }}"
        )));
        model.requirements["REQ-NFR-PERF-001"].selections[0].takes_keyed
    };
    assert!(takes_keyed("span", "p95_db_latency_ms"));
    assert!(!takes_keyed("span", "p95_latency_ms"));
    assert!(!takes_keyed("metric", "p95_db_latency_ms"));
    assert!(!takes_keyed("log", "p95_db_latency_ms"));
}

#[test]
fn a_month_is_a_window_of_what_can_be_added_up() {
    let model = good(&one(
        "thresholds: { max_downtime_minutes_per_month: { critical: 22 }, error_rate: { critical: 0.1 } }\n\
         measures: { error_rate: { window: calendar_month } }",
    ));
    let expectations = &model.requirements["REQ-NFR-PERF-001"].expectations;
    assert!(expectations["max_downtime_minutes_per_month"].measure.is_monthly);
    assert!(expectations["error_rate"].measure.is_monthly);
    let found = errors(&one(
        "thresholds: { p95_latency_ms: { critical: 5 } }\nmeasures: { p95_latency_ms: { window: calendar_month } }",
    ));
    assert!(found[0].contains("only counts, shares, sums, uptime and downtime"), "{found:?}");
}
