//! What `filter` drops, what it leaves, and which blocks it takes.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord as Log, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource as Origin;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;

use super::*;

fn settings(text: &str) -> Result<Filter, Problem> {
    read::<Filter>(&homeostat_config::parse("a.yaml", text).expect("the text is YAML"))
}

fn dropper(text: &str) -> Dropper {
    let filter = settings(text).expect("a filter");
    assert_eq!(filter.rules().1, []);
    filter.dropper("filter", Budget::new(64 << 20))
}

fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) }
}

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(text(value)), ..KeyValue::default() }
}

fn origin(service: &str) -> Option<Origin> {
    Some(Origin { attributes: vec![pair("service.name", service)], ..Origin::default() })
}

fn scope(name: &str) -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: name.to_owned(), ..InstrumentationScope::default() })
}

/// Resources of scopes of names.
type Names<'a> = &'a [(&'a str, &'a [(&'a str, &'a [&'a str])])];

fn traces(names: Names<'_>) -> ExportTraceServiceRequest {
    let span =
        |name: &&str| Span { name: (*name).to_owned(), kind: 2, span_id: vec![7; 8], ..Span::default() };
    let scope_spans = |(name, spans): &(&str, &[&str])| ScopeSpans {
        scope: scope(name),
        spans: spans.iter().map(span).collect(),
        ..ScopeSpans::default()
    };
    let resource_spans = |(service, scopes): &(&str, &[(&str, &[&str])])| ResourceSpans {
        resource: origin(service),
        scope_spans: scopes.iter().map(scope_spans).collect(),
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: names.iter().map(resource_spans).collect() }
}

fn telemetry(signal: Signal, body: Vec<u8>) -> Telemetry {
    let records = otlp::walk(signal, &body).expect("well-formed");
    let body = Bytes::from(body);
    let frame =
        Frame { content: Content::Json, compression: Compression::Gzip, bytes: Bytes::from_static(b"x") };
    Telemetry { signal, frame, body, records }
}

fn process(dropper: &Dropper, telemetry: &Telemetry) -> Option<Telemetry> {
    let mut out = Vec::new();
    dropper.process(Batch::Telemetry(telemetry.clone()), &mut out).expect("taken");
    match out.pop() {
        Some(Batch::Telemetry(telemetry)) => Some(telemetry),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check_traces(yaml: &str, before: Names<'_>, after: Names<'_>) {
    let before = telemetry(Signal::Traces, traces(before).encode_to_vec());
    let forwarded = process(&dropper(yaml), &before);
    let expected = traces(after);
    match forwarded {
        None => assert_eq!(expected.resource_spans, []),
        Some(forwarded) => {
            let got = ExportTraceServiceRequest::decode(&forwarded.body[..]).expect("well-formed");
            assert_eq!(got, expected);
            let is_same = forwarded.body == before.body;
            assert_eq!(forwarded.frame == before.frame, is_same, "what was not changed goes out as it came");
            assert!(is_same || forwarded.frame.bytes == forwarded.body);
            assert_eq!(Ok(forwarded.records), otlp::walk(Signal::Traces, &forwarded.body));
        }
    }
}

#[test]
fn spans_that_match_go_with_what_they_leave_empty() {
    let unstruck = drops::unstruck(&[&drops::FILTER_DROPPED]);
    let all: Names<'_> =
        &[("a", &[("s", &["get", "healthz", "put"]), ("t", &["healthz"])]), ("b", &[("s", &["healthz"])])];
    check_traces(r#"{spans: ['name == "healthz"']}"#, all, &[("a", &[("s", &["get", "put"])])]);
    check_traces(r#"{spans: ['name == "nothing"']}"#, all, all);
    check_traces(r#"{spans: ['resource["service.name"] == "a"']}"#, all, &[("b", &[("s", &["healthz"])])]);
    check_traces(
        r#"{spans: ['scope.name == "t"', 'name == "put"']}"#,
        all,
        &[("a", &[("s", &["get", "healthz"])]), ("b", &[("s", &["healthz"])])],
    );
    check_traces("{spans: ['kind == SERVER']}", all, &[]);
    check_traces(r#"{logs: ['body == "healthz"']}"#, all, all);
    check_traces(
        r#"{traces: {span: ['name != "put"']}, error_mode: ignore}"#,
        all,
        &[("a", &[("s", &["put"])])],
    );
    let empty: Names<'_> = &[("a", &[("s", &[])]), ("b", &[])];
    check_traces("{spans: ['kind == SERVER']}", empty, empty);
    assert_eq!(unstruck(), [""; 0]);
}

fn logs(records: Vec<Log>) -> Telemetry {
    let scope_logs = vec![ScopeLogs { log_records: records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { resource: origin("a"), scope_logs, ..ResourceLogs::default() }];
    telemetry(Signal::Logs, ExportLogsServiceRequest { resource_logs }.encode_to_vec())
}

#[track_caller]
fn check_logs(yaml: &str, expected: &[&str]) {
    let log =
        |number: i32, body: &str| Log { severity_number: number, body: Some(text(body)), ..Log::default() };
    let before = logs(vec![log(5, "low"), log(17, "high"), log(0, "none"), log(0, r#"{"level":"debug"}"#)]);
    let after = process(&dropper(yaml), &before);
    let bodies: Vec<String> = after
        .map(|after| ExportLogsServiceRequest::decode(&after.body[..]).expect("well-formed"))
        .into_iter()
        .flat_map(|request| request.resource_logs)
        .flat_map(|resource| resource.scope_logs)
        .flat_map(|scope| scope.log_records)
        .map(|log| match log.body.and_then(|body| body.value) {
            Some(any_value::Value::StringValue(text)) => text,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(bodies, expected, "{yaml}");
}

#[test]
fn a_collectors_condition_sees_severities_as_they_came_and_a_selector_what_they_mean() {
    check_logs("{logs: ['severity < INFO']}", &["high", "none"]);
    check_logs("{logs: {log_record: ['severity_number < SEVERITY_NUMBER_INFO']}}", &["high"]);
    check_logs(
        "{logs: {log_record: ['severity_number >= SEVERITY_NUMBER_ERROR']}}",
        &["low", "none", r#"{"level":"debug"}"#],
    );
    check_logs(r#"{logs: ['body["level"] == "debug"']}"#, &["low", "high", "none"]);
    check_logs(
        r#"{logs: {log_record: ['body["level"] == "debug"']}}"#,
        &["low", "high", "none", r#"{"level":"debug"}"#],
    );
}

fn metric(name: &str, hosts: &[&str]) -> Metric {
    let point = |host: &&str| NumberDataPoint {
        attributes: vec![pair("host", host)],
        value: Some(number_data_point::Value::AsInt(1)),
        ..NumberDataPoint::default()
    };
    let data = Data::Gauge(Gauge { data_points: hosts.iter().map(point).collect() });
    Metric { name: name.to_owned(), data: Some(data), ..Metric::default() }
}

#[track_caller]
fn check_metrics(yaml: &str, expected: &[(&str, &[&str])]) {
    let request = |metrics| {
        let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
        let resource = ResourceMetrics { resource: origin("a"), scope_metrics, ..ResourceMetrics::default() };
        ExportMetricsServiceRequest { resource_metrics: vec![resource] }
    };
    let before = request(vec![metric("m", &["a", "b"]), metric("n", &["a"]), metric("empty", &[])]);
    let expected = request(expected.iter().map(|(name, hosts)| metric(name, hosts)).collect());
    let before = telemetry(Signal::Metrics, before.encode_to_vec());
    let after = process(&dropper(yaml), &before).expect("some stay");
    assert_eq!(
        ExportMetricsServiceRequest::decode(&after.body[..]).expect("well-formed"),
        expected,
        "{yaml}"
    );
}

#[test]
fn data_points_go_one_by_one_or_with_their_metric() {
    check_metrics(r#"{metrics: ['attributes["host"] == "a"']}"#, &[("m", &["b"]), ("empty", &[])]);
    check_metrics(r#"{metrics: ['name == "m"']}"#, &[("n", &["a"]), ("empty", &[])]);
    check_metrics(r#"{metrics: {metric: ['name == "empty"']}}"#, &[("m", &["a", "b"]), ("n", &["a"])]);
    check_metrics(
        r#"{metrics: {metric: ['name == "n"'], datapoint: ['metric.name == "m" and attributes["host"] == "b"']}}"#,
        &[("m", &["a"]), ("empty", &[])],
    );
}

#[test]
fn what_is_rewritten_is_charged_as_long_as_anybody_has_it() {
    let budget = Budget::new(64 << 20);
    let filter = settings(r#"{spans: ['name == "b"']}"#).expect("a filter");
    let dropper = filter.dropper("filter", budget.clone());
    let forwarded = process(
        &dropper,
        &telemetry(Signal::Traces, traces(&[("a", &[("s", &["a", "b"])])]).encode_to_vec()),
    );
    assert!(budget.used_bytes() > 0);
    drop(forwarded);
    assert_eq!(budget.used_bytes(), 0);
}

#[track_caller]
fn refuses(yaml: &str, says: &str) {
    let files = Files { base: "".into(), embedded: BTreeMap::new(), parse: homeostat_config::parse };
    let problems = match read_block(&homeostat_config::parse("a.yaml", yaml).expect("the text is YAML")) {
        Ok(filter) => filter.check(&files),
        Err(problem) => vec![problem],
    };
    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|problem| problem.contains(says)), "{said:?}");
}

#[test]
fn what_cannot_be_done_is_said_with_its_place() {
    refuses("{spans: ['nam == 1']}", "did you mean");
    refuses("{span: ['name == 1']}", "unknown key `span` (did you mean \"spans\"?)");
    refuses("{}", "drops nothing");
    refuses(
        "{metrics: {include: {match_type: strict}}}",
        "`include` of the Collector's filter is not supported",
    );
    refuses(
        "{traces: {spanevent: ['name == \"x\"']}}",
        "`spanevent` of the Collector's filter is not supported",
    );
    refuses(
        "{trace_conditions: ['span.name == \"x\"']}",
        "`trace_conditions` of the Collector's filter is not supported",
    );
    refuses("{logs: {datapoint: ['name == \"x\"']}}", "unknown key `datapoint`");
    refuses("{logs: {log_record: ['IsMatch(body, \"x\")']}}", "the function `IsMatch`");
    refuses("{error_mode: loud}", "`loud` is none of");
    refuses("{logs: 3}", "a list of selectors, or a mapping");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A miss of the texts means that nothing goes, and what goes is what the oracle takes out.
    #[test]
    fn what_is_forwarded_is_the_decoded_original_without_the_matching_records(
        shape in prop::collection::vec(prop::collection::vec(prop::collection::vec(0usize..4, 0..5), 0..3), 0..3),
        dropped in 0usize..4,
    ) {
        const NAMES: [&str; 4] = ["GET /", "healthz", "a", "Grüße"];
        let named: Vec<Vec<Vec<&str>>> = shape
            .iter()
            .map(|scopes| scopes.iter().map(|spans| spans.iter().map(|name| NAMES[*name]).collect()).collect())
            .collect();
        let build = |keep: &dyn Fn(&str) -> bool| {
            let mut request = ExportTraceServiceRequest::default();
            for scopes in &named {
                let mut lost_scope = false;
                let mut kept = Vec::new();
                for spans in scopes {
                    let left: Vec<&str> = spans.iter().copied().filter(|name| keep(name)).collect();
                    if left.is_empty() && !spans.is_empty() {
                        lost_scope = true;
                    } else {
                        kept.push(("s", left));
                    }
                }
                if kept.is_empty() && lost_scope {
                    continue;
                }
                let scopes: Vec<(&str, &[&str])> = kept.iter().map(|(name, left)| (*name, left.as_slice())).collect();
                request.resource_spans.extend(traces(&[("a", &scopes)]).resource_spans);
            }
            request
        };
        let before = telemetry(Signal::Traces, build(&|_| true).encode_to_vec());
        let dropper = dropper(&format!("{{spans: ['name == \"{}\"']}}", NAMES[dropped]));
        let expected = build(&|name| name != NAMES[dropped]);
        let forwarded = process(&dropper, &before);
        match forwarded {
            None => prop_assert_eq!(otlp::walk(Signal::Traces, &expected.encode_to_vec()), Ok(0)),
            Some(forwarded) => {
                prop_assert_eq!(ExportTraceServiceRequest::decode(&forwarded.body[..]).unwrap(), expected);
            }
        }
    }
}
