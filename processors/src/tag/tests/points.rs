//! Data points become rows.

use homeostat_pipeline::evidence::point::{Content, Form, Point};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};

use super::*;

pub fn metrics(resource: Vec<KeyValue>, scope: Vec<KeyValue>, metrics: Vec<Metric>) -> Vec<u8> {
    let resource = Resource { attributes: resource, ..Resource::default() };
    let scope = InstrumentationScope { name: "lib".to_owned(), attributes: scope, ..Default::default() };
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
    let resource_metrics =
        vec![ResourceMetrics { resource: Some(resource), scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

pub fn number_point(attributes: Vec<KeyValue>, value: f64) -> NumberDataPoint {
    NumberDataPoint {
        attributes,
        start_time_unix_nano: 3,
        time_unix_nano: 5,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

pub fn gauge(name: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    let data = Some(metric::Data::Gauge(Gauge { data_points }));
    Metric { name: name.to_owned(), unit: "By".to_owned(), data, ..Metric::default() }
}

fn sum(name: &str, temporality: i32, is_monotonic: bool, data_points: Vec<NumberDataPoint>) -> Metric {
    let sum = Sum { data_points, aggregation_temporality: temporality, is_monotonic };
    Metric { name: name.to_owned(), data: Some(metric::Data::Sum(sum)), ..Metric::default() }
}

fn tagged(interest: &Interest, body: &[u8]) -> Rows {
    tag_with(&Tag::default(), interest, Signal::Metrics, body)
}

fn points(rows: &Rows) -> Vec<Point> {
    rows.rows().iter().map(|row| Point::decode(rows.sketch(row.sketch)).unwrap()).collect()
}

#[test]
fn a_key_of_a_point_of_its_exemplars_or_of_its_name_makes_a_row() {
    let req = texts(&[("req", "REQ-F-A-001")]);
    let lost = Exemplar {
        filtered_attributes: texts(&[("req", "REQ-F-B-002"), ("sea.flow", "Login")]),
        trace_id: vec![9; 16],
        ..Exemplar::default()
    };
    let exemplary = NumberDataPoint { exemplars: vec![lost], ..number_point(vec![], 2.0) };
    let body = metrics(
        texts(&[("service.name", "auth")]),
        vec![],
        vec![
            gauge("free", vec![number_point(req, 1.5), exemplary, number_point(vec![], 3.0)]),
            gauge("of REQ-F-C-003", vec![number_point(vec![], 4.0)]),
        ],
    );
    let rows = tagged(&Interest::default(), &body);
    assert_eq!(keys(&rows), ["REQ-F-A-001 attribute*", "REQ-F-B-002 nested*", "REQ-F-C-003 text*"]);
    let first = rows.rows()[0];
    assert_eq!((first.signal, first.value, first.count), (Signal::Metrics, 1.5, 1));
    assert_eq!(
        (rows.text(first.name), rows.text(first.unit), rows.text(first.service)),
        ("free", "By", "auth")
    );
    assert_eq!(first.time, homeostat_pipeline::clock::Timestamp::from_nanos(5));
    assert_eq!(rows.text(rows.rows()[1].flow), "Login");
    assert!(points(&rows).iter().all(|point| point.form == Form::Gauge));
}

#[test]
fn a_selector_takes_points_without_a_key_and_names_the_measure_of_those_with_one() {
    let selections = vec![
        selection(Signal::Metrics, "REQ-F-A-001", "p95_latency_ms", r#"name == "auth.login.duration""#),
        selection(Signal::Metrics, "REQ-F-A-001", "memory_bytes", r#"attributes["kind"] == "heap""#),
    ];
    let interest =
        Interest { selections, log_fields: ["queue_depth".to_owned()].into(), ..Interest::default() };
    let keyed = || texts(&[("req", "REQ-F-A-001")]);
    let body = metrics(
        vec![],
        vec![],
        vec![
            gauge("auth.login.duration", vec![number_point(vec![], 1.0), number_point(keyed(), 2.0)]),
            gauge("other", vec![number_point(texts(&[("kind", "heap")]), 3.0), number_point(vec![], 4.0)]),
            gauge("queue.depth", vec![number_point(keyed(), 5.0)]),
            gauge("unknown", vec![number_point(keyed(), 6.0)]),
        ],
    );
    let rows = tagged(&interest, &body);
    let shown: Vec<_> =
        rows.rows().iter().map(|row| (row.value, rows.text(row.measure), row.method.name())).collect();
    assert_eq!(
        shown,
        [
            (1.0, "p95_latency_ms", "selector"),
            (2.0, "p95_latency_ms", "attribute"),
            (3.0, "memory_bytes", "selector"),
            (5.0, "queue_depth", "attribute"),
            (6.0, "", "attribute"),
        ]
    );
}

#[test]
fn a_point_with_the_key_is_once_what_a_ratio_takes() {
    let of = |measure: &str| Selection {
        takes_keyed: true,
        ..selection(Signal::Metrics, "REQ-F-A-001", measure, r#"name == "orders""#)
    };
    let interest = Interest { selections: vec![of("ok#good"), of("ok#total")], ..Interest::default() };
    let keyed = number_point(texts(&[("req", "REQ-F-A-001")]), 2.0);
    let rows = tagged(
        &interest,
        &metrics(vec![], vec![], vec![gauge("orders", vec![keyed, number_point(vec![], 1.0)])]),
    );
    let shown: Vec<_> = rows.rows().iter().map(|row| (row.value, rows.text(row.measure))).collect();
    assert_eq!(shown, [(2.0, "ok#good"), (2.0, "ok#total"), (1.0, "ok#good"), (1.0, "ok#total")]);
}

#[test]
fn no_recorded_value_is_no_row_and_neither_is_a_sum_of_unknown_temporality() {
    let unstruck = drops::unstruck(&[&drops::TAG_NO_RECORDED_VALUE, &drops::TAG_UNUSABLE]);
    let req = || texts(&[("req", "REQ-F-A-001")]);
    let stale = NumberDataPoint { flags: 1, ..number_point(req(), 0.0) };
    let empty = NumberDataPoint { value: None, ..number_point(req(), 0.0) };
    let unspecified = AggregationTemporality::Unspecified as i32;
    let body = metrics(
        vec![],
        vec![],
        vec![gauge("a", vec![stale, empty]), sum("b", unspecified, true, vec![number_point(req(), 1.0)])],
    );
    let tagger = Tag::default().tagger(&Interest::default()).unwrap();
    let telemetry = settings::telemetry(Signal::Metrics, body.clone());
    tagger.process(Batch::Telemetry(telemetry), &mut Vec::new()).unwrap();
    let (rows, cut) = tagger.plans[Signal::Metrics as usize].0.rows(&body).unwrap();
    assert!(rows.is_empty());
    assert_eq!((cut.unrecorded, cut.unusable), (1, 2));
    assert_eq!(unstruck(), [""; 0]);
}

#[test]
fn a_series_is_who_reports_whatever_the_order_of_attributes() {
    let cumulative = AggregationTemporality::Cumulative as i32;
    let with = |resource: &[(&str, &str)], attributes: &[(&str, &str)], name: &str| {
        let point = number_point(texts(attributes), 1.0);
        let body = metrics(texts(resource), vec![], vec![sum(name, cumulative, true, vec![point])]);
        let points = points(&tagged(&Interest::default(), &body));
        assert_eq!((points[0].form, points[0].series.start), (Form::CumulativeSum, 3));
        points[0].series.id
    };
    let (a, b) = (("a", "1"), ("req", "REQ-F-A-001"));
    let one = with(&[("h", "x"), ("i", "y")], &[a, b], "n");
    assert_eq!(one, with(&[("i", "y"), ("h", "x")], &[b, a], "n"));
    for other in [
        with(&[("h", "x"), ("i", "z")], &[a, b], "n"),
        with(&[("h", "x"), ("i", "y")], &[b], "n"),
        with(&[("h", "x"), ("i", "y")], &[a, b], "m"),
    ] {
        assert_ne!(one, other);
    }
    let delta = AggregationTemporality::Delta as i32;
    for (temporality, is_monotonic, form) in
        [(delta, true, Form::Sum), (delta, false, Form::Sum), (cumulative, false, Form::Gauge)]
    {
        let point = number_point(texts(&[b]), 1.0);
        let body = metrics(vec![], vec![], vec![sum("n", temporality, is_monotonic, vec![point])]);
        assert_eq!(points(&tagged(&Interest::default(), &body))[0].form, form);
    }
}

#[test]
fn a_histogram_is_one_row_with_its_buckets_and_the_traces_of_its_exemplars() {
    let exemplar = |value: f64, trace: u8| Exemplar {
        value: Some(opentelemetry_proto::tonic::metrics::v1::exemplar::Value::AsDouble(value)),
        trace_id: vec![trace; 16],
        ..Exemplar::default()
    };
    let point = HistogramDataPoint {
        attributes: texts(&[("req", "REQ-F-A-001"), ("error.type", "timeout")]),
        time_unix_nano: 5,
        count: 6,
        sum: Some(12.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![1.0, 2.0],
        exemplars: vec![exemplar(1.5, 1), exemplar(7.0, 2)],
        ..HistogramDataPoint::default()
    };
    let data = Histogram { data_points: vec![point], aggregation_temporality: 1 };
    let metric = Metric {
        name: "d".to_owned(),
        unit: "s".to_owned(),
        data: Some(metric::Data::Histogram(data)),
        ..Metric::default()
    };
    let rows = tagged(&Interest::default(), &metrics(vec![], vec![], vec![metric]));
    let row = rows.rows()[0];
    assert_eq!((rows.len(), row.count, row.is_error, row.trace_id), (1, 6, true, [2; 16]));
    let point = &points(&rows)[0];
    assert_eq!(point.exemplars, [(7.0, [2; 16]), (1.5, [1; 16])]);
    let Content::Histogram(histogram) = &point.content else { panic!("{point:?}") };
    assert_eq!((histogram.totals.sum, &histogram.counts[..]), (Some(12.5), &[1, 2, 3][..]));
}
