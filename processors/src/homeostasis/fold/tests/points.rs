//! Cumulative points against a reference: whatever the order, the cut and the checkpoint, what was added is what was added.

use homeostat_pipeline::evidence::point::{Content, Form, Histogram, Point, Series, Totals};
use proptest::prelude::*;

use super::*;

const MODEL: &str = r#"
homeostasis_model:
  defaults:
    window: { size: 60s, allowed_lateness: 30s, correction: 5m, min_samples: 1 }
    cooldown: 0s
    keep_firing_for: 0s
  requirements:
    REQ-F-SUM-001:
      thresholds: { error_count: { critical: 0.5 } }
      deviation_rules: [{ condition: "value > threshold.critical", severity: critical }]
    REQ-F-BUCKETS-001:
      thresholds: { p50_latency_ms: { critical: 0.5 } }
      deviation_rules: [{ condition: "value > threshold.critical", severity: critical }]
"#;

/// One report of one series: when, which, what was added since the last, and whether the process began anew before.
#[derive(Clone, Debug)]
struct Report {
    second: u32,
    series: u8,
    added: u32,
    restarts: bool,
}

fn reports() -> impl Strategy<Value = Vec<Report>> {
    let report = (1_u32..25, 0_u8..3, 0_u32..50, prop::bool::weighted(0.1));
    prop::collection::vec(report, 2..40).prop_map(|steps| {
        let mut second = 1;
        steps
            .into_iter()
            .map(|(pause, series, added, restarts)| {
                second += pause;
                Report { second, series, added, restarts }
            })
            .collect()
    })
}

/// The rows of the reports, in order of time: the counter of each series as its process knows it.
fn rows(reports: &[Report]) -> Vec<(f64, Rows)> {
    // Of each series: value, start, last report.
    let mut known = [(0_u64, 0.5_f64, 0_u32); 3];
    let mut all = Vec::new();
    for report in reports {
        let (value, start, last) = &mut known[usize::from(report.series)];
        if report.restarts {
            (*value, *start) = (0, f64::from(*last) + 0.5);
        }
        *value += u64::from(report.added);
        *last = report.second;
        let series = Series { id: [report.series; 16], start: at(*start).as_nanos().cast_unsigned() };
        let totals = Totals { count: *value, ..Totals::default() };
        let histogram = Histogram { totals, bounds: vec![100.0], counts: vec![*value, 0] };
        let second = f64::from(report.second);
        all.push((
            second,
            row(
                second,
                "REQ-F-SUM-001",
                "error_count",
                *value as f64,
                Form::CumulativeSum,
                series,
                Content::Value,
            ),
        ));
        let content = Content::Histogram(histogram);
        all.push((
            second,
            row(
                second,
                "REQ-F-BUCKETS-001",
                "p50_latency_ms",
                f64::NAN,
                Form::CumulativeHistogram,
                series,
                content,
            ),
        ));
    }
    all
}

fn row(
    second: f64,
    req: &'static str,
    measure: &str,
    value: f64,
    form: Form,
    series: Series,
    content: Content,
) -> Rows {
    let mut rows = super::rows(&[Seen { second, req, ..Seen::default() }]);
    let measure = rows.intern(measure);
    let sketch = rows.write(|bytes| Point { form, series, content, exemplars: Vec::new() }.encode(bytes));
    let row = &mut rows.rows_mut()[0];
    (row.signal, row.measure, row.unit, row.value, row.sketch) =
        (Signal::Metrics, measure, Text::NONE, value, sketch);
    rows
}

fn entry(second: f64, group: &[&Rows]) -> Entry {
    let batch = schema::build(group).expect("the rows are in the schema");
    let request = Request { hash: RequestHash([0; 16]), rows: u32::try_from(batch.num_rows()).unwrap() };
    Entry {
        offset: Offset(0),
        time: at(second),
        event: Event::Evidence(EvidenceEvent { requests: vec![request], batch }),
    }
}

/// What was added in each window, by the second of its start. A report covers less than a window, or only its part counts.
fn reference(reports: &[Report]) -> BTreeMap<u32, f64> {
    let mut last = [0.0_f64; 3];
    let mut windows = BTreeMap::new();
    for report in reports {
        let since = &mut last[usize::from(report.series)];
        let from = if report.restarts || *since == 0.0 { *since + 0.5 } else { *since };
        let part = (60.0 / (f64::from(report.second) - from)).min(1.0);
        *windows.entry(report.second / 60 * 60).or_default() += f64::from(report.added) * part;
        *since = f64::from(report.second);
    }
    windows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_cumulative_points_added_is_what_the_reference_says(
        reports in reports(),
        turn in 0_usize..7,
        split in any::<prop::sample::Index>(),
    ) {
        // Of a series that is first seen later than a window after its start, or after minutes of silence, nobody knows.
        let mut last = [0; 3];
        for report in &reports {
            let since = std::mem::replace(&mut last[usize::from(report.series)], report.second);
            prop_assume!(report.second - since < if since == 0 { 60 } else { 300 });
        }
        let rows = rows(&reports);
        let mut by_slot: BTreeMap<u64, Vec<&Rows>> = BTreeMap::new();
        for (second, rows) in &rows {
            // Up to 25 s late, out of order.
            by_slot.entry((second / 25.0) as u64 * 25 + 25).or_default().push(rows);
        }
        let mut entries = vec![epoch(0.0, MODEL)];
        for second in 0..2_000_u64 {
            if let Some(group) = by_slot.get_mut(&second) {
                let length = group.len();
                group.rotate_left(turn % length);
                entries.push(entry(second as f64, group));
            }
            entries.push(tick(second as f64));
        }
        let whole = run(&mut fresh(100), &entries);
        let split = split.index(entries.len());
        let mut fold = fresh(100);
        let mut parts = run(&mut fold, &entries[..split]);
        let mut state = Memory::default();
        fold.checkpoint(&mut state).unwrap();
        let mut fold = fresh(100);
        fold.restore(&state).unwrap();
        parts.extend(run(&mut fold, &entries[split..]));
        prop_assert_eq!(serde_json::to_string(&parts).unwrap(), serde_json::to_string(&whole).unwrap());
        let reference = reference(&reports);
        let mut judged = 0;
        for deviation in deviations(&whole) {
            let window = deviation.window.start.since(at(0.0)).as_secs() as u32;
            if let (Some(value), "error_count") = (deviation.current_value, deviation.metric_name.as_str()) {
                let expected = reference[&window];
                prop_assert!((value - expected).abs() <= expected * 1e-6 + 1e-6, "{value} is not {expected} in {window}");
                judged += 1;
            }
        }
        let breaches = reference.values().filter(|value| **value > 0.5).count();
        prop_assert!(breaches == 0 || judged > 0, "nothing was judged");
    }
}

#[test]
fn a_point_of_another_version_and_one_without_a_measure_are_nothing() {
    let unstruck = drops::unstruck(&[&drops::FOLD_UNREADABLE, &drops::FOLD_NO_MEASURE]);
    let series = Series::default();
    let mut unreadable = row(5.0, "REQ-F-SUM-001", "error_count", 9.0, Form::Sum, series, Content::Value);
    let sketch = unreadable.write(|bytes| bytes.push(99));
    unreadable.rows_mut()[0].sketch = sketch;
    let mut unnamed = row(5.0, "REQ-F-BUCKETS-001", "", 9.0, Form::Sum, series, Content::Value);
    let unit = unnamed.intern("ms");
    unnamed.rows_mut()[0].unit = unit;
    let named = row(65.0, "REQ-F-SUM-001", "error_count", 9.0, Form::Sum, series, Content::Value);
    let entries = [
        epoch(0.0, MODEL),
        entry(5.0, &[&unreadable, &unnamed]),
        entry(65.0, &[&named]),
        tick(95.0),
        tick(155.0),
    ];
    let findings = run(&mut fresh(100), &entries);
    let windows: Vec<_> =
        deviations(&findings).iter().map(|of| (of.window.start, of.current_value)).collect();
    assert_eq!(windows, [(at(60.0), Some(9.0))]);
    assert_eq!(unstruck(), [""; 0]);
}

#[test]
fn a_window_keeps_a_hundred_thousand_cumulative_points_of_a_subject() {
    let unstruck = drops::unstruck(&[&drops::FOLD_POINTS]);
    let series = Series::default();
    let one = |value: f64| {
        row(5.0, "REQ-F-SUM-001", "error_count", value, Form::CumulativeSum, series, Content::Value)
    };
    let mut rows = one(0.0);
    let first = rows.rows()[0];
    for number in 1..=100_000 {
        rows.push(Row { value: f64::from(number), ..first });
    }
    let mut fold = fresh(100);
    run(&mut fold, &[epoch(0.0, MODEL), entry(5.0, &[&rows])]);
    let panes = fold.windows.values().flat_map(|window| window.panes());
    assert_eq!(panes.map(|(_, pane)| pane.raw.len()).max(), Some(100_000));
    assert_eq!(unstruck(), [""; 0]);
}

/// A counter of one reporter, as its process knows it.
fn counted(second: f64, value: f64) -> Entry {
    let series = Series { id: [7; 16], start: at(0.5).as_nanos().cast_unsigned() };
    let form = Form::CumulativeSum;
    entry(second, &[&row(second, "REQ-F-SUM-001", "error_count", value, form, series, Content::Value)])
}

/// A model of one rule on a counter.
fn counting(condition: &str, more: &str) -> String {
    MODEL
        .replace(
            "value > threshold.critical\", severity: critical }]\n    REQ-F-B",
            &format!("{condition}\", severity: critical }}]\n    REQ-F-B"),
        )
        .replace("REQ-F-SUM-001:", &format!("REQ-F-SUM-001:\n      {more}"))
}

fn values(findings: &[Finding]) -> Vec<(Timestamp, Option<f64>)> {
    let detected = deviations(findings).into_iter().filter(|one| one.version == 1);
    detected.map(|one| (one.at, one.current_value)).collect()
}

#[test]
fn what_a_slow_counter_added_is_whole_in_windows_longer_than_its_pauses() {
    let mut reports: Vec<Entry> = (0..8_u32)
        .map(|number| counted(f64::from(number) * 120.0 + 30.0, f64::from(number) * 10.0))
        .collect();
    reports.extend((0..1_000_u32).map(|second| tick(f64::from(second))));
    reports.sort_by_key(|entry| entry.time);
    let of = |model: &str| {
        let mut all = vec![epoch(0.0, model)];
        all.extend(reports.clone());
        values(&run(&mut fresh(10), &all))
    };
    // Ten in two minutes are five in one, and thirty in six.
    assert_eq!(of(&counting("value > 4", ""))[0], (at(180.0), Some(5.0)));
    assert_eq!(of(&counting("count(6m) > 29", ""))[0].0, at(420.0));
    assert_eq!(of(&counting("count(6m) > 30", "")), []);
    assert_eq!(of(&counting("count(12h) > 69", ""))[0].0, at(900.0));
    let monthly = "measures: { error_count: { window: calendar_month } }";
    assert_eq!(of(&counting("value > 69", monthly)), [(at(900.0), Some(70.0))]);
}

#[test]
fn what_was_added_after_a_long_pause_is_known_as_long_as_it_is_looked_back_at() {
    // An hour of silence is longer than its predecessor is kept.
    let mut entries = vec![epoch(0.0, &counting("avg(2h) > 1e9 or count(2h) > 49", ""))];
    entries.extend([counted(30.0, 1.0), counted(3_630.0, 41.0)]);
    entries.extend((0..200_u32).map(|number| tick(f64::from(number) * 60.0)));
    entries.push(counted(10_000.0, 51.0));
    entries.sort_by_key(|entry| entry.time);
    let whole = run(&mut fresh(10), &entries);
    assert_eq!(values(&whole)[0].0, at(10_020.0));
    for split in (60..entries.len()).step_by(7) {
        let mut fold = fresh(10);
        let mut parts = run(&mut fold, &entries[..split]);
        let mut state = Memory::default();
        fold.checkpoint(&mut state).unwrap();
        let mut fold = fresh(10);
        fold.restore(&state).unwrap();
        parts.extend(run(&mut fold, &entries[split..]));
        assert_eq!(
            serde_json::to_string(&parts).unwrap(),
            serde_json::to_string(&whole).unwrap(),
            "at {split}"
        );
    }
}

#[test]
fn a_pane_of_very_many_series_is_resolved_in_no_time_to_speak_of() {
    const SERIES: u32 = 50_000;
    let all = |second: f64, value: f64| {
        let mut rows =
            super::rows(&vec![Seen { second, req: "REQ-F-SUM-001", ..Seen::default() }; SERIES as usize]);
        let measure = rows.intern("error_count");
        for number in 0..SERIES {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            let series = Series { id, start: at(-4_000.0).as_nanos().cast_unsigned() };
            let point =
                Point { form: Form::CumulativeSum, series, content: Content::Value, exemplars: Vec::new() };
            let sketch = rows.write(|bytes| point.encode(bytes));
            let row = &mut rows.rows_mut()[number as usize];
            (row.signal, row.measure, row.unit, row.value, row.sketch) =
                (Signal::Metrics, measure, Text::NONE, value, sketch);
        }
        entry(second, &[&rows])
    };
    // Quadratic, these are billions of comparisons: minutes, where this takes a second.
    let entries = [epoch(0.0, MODEL), all(10.0, 1.0), all(70.0, 3.0), tick(95.0), tick(155.0)];
    let findings = run(&mut fresh(10), &entries);
    assert_eq!(values(&findings), [(at(120.0), Some(2.0 * f64::from(SERIES)))]);
}

#[test]
fn senders_cannot_make_more_slots_than_the_model_can_tell_apart() {
    let mut fold = fresh(100);
    run(&mut fold, &[epoch(0.0, MODEL)]);
    fold.keep_accounts();
    let series = Series::default();
    let empty = || {
        Content::Histogram(Histogram { totals: Totals::default(), bounds: Vec::new(), counts: Vec::new() })
    };
    for number in 0..200_u32 {
        let unit = format!("{{thing {number}}}");
        let of = |req, measure, form, content| {
            let mut rows = row(5.0, req, measure, 1.0, form, series, content);
            let unit = rows.intern(if number % 2 == 0 { &unit } else { &unit[1..unit.len() - 1] });
            rows.rows_mut()[0].unit = unit;
            rows
        };
        let sum = of("REQ-F-SUM-001", "error_count", Form::Sum, Content::Value);
        let histogram = of("REQ-F-BUCKETS-001", "p50_latency_ms", Form::Histogram, empty());
        let quantiles = Content::Summary(vec![(f64::from(number) / 1e3, 1.0)]);
        let summary = of("REQ-F-BUCKETS-001", "p50_latency_ms", Form::Summary, quantiles);
        run(&mut fold, &[entry(5.0, &[&sum, &histogram, &summary])]);
    }
    let names: Vec<_> =
        fold.slots.iter().map(|slot| (slot.measure.as_str(), slot.unit.as_str(), slot.take)).collect();
    assert!(fold.slots.len() <= 6, "{names:?}");
    assert_eq!(
        (fold.tally().folded, fold.tally().unmeasured),
        (400, 200),
        "no measure asks for these quantiles"
    );
    // What a model does not use any more is there for the next.
    let taken = fold.slots.len();
    run(
        &mut fold,
        &[tick(95.0), tick(2_000.0), epoch(2_001.0, &MODEL.replace("error_count", "error_total"))],
    );
    let mut again = row(2_005.0, "REQ-F-SUM-001", "error_total", 1.0, Form::Sum, series, Content::Value);
    again.rows_mut()[0].time = at(2_005.0);
    run(&mut fold, &[entry(2_005.0, &[&again])]);
    assert_eq!((fold.slots.len(), fold.slots[1].measure.as_str()), (taken, "error_total"));
}
