//! JSON that peers write, JSON that nobody should, and every message by property.

use homeostat_pipeline::budget::Budget;
use homeostat_pipeline::otlp;
use homeostat_pipeline::refusal::Cause;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{self as m, metric::Data};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use proptest::prelude::*;

use super::super::account::tests::roomy;
use super::*;

const CAP: usize = 1 << 20;

fn read<M: prost::Message + Default>(signal: Signal, json: &str) -> Result<M, Refusal> {
    let body = transcode(signal, json.as_bytes(), CAP, 0, &mut roomy())?;
    otlp::walk(signal, &body).expect("what was transcoded is well-formed");
    Ok(M::decode(body).expect("prost reads it"))
}

fn traces(json: &str) -> Result<ExportTraceServiceRequest, Refusal> {
    read(Signal::Traces, json)
}

fn span(fields: &str) -> Result<Span, Refusal> {
    let mut request =
        traces(&format!("{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{{{fields}}}]}}]}}]}}"))?;
    Ok(request.resource_spans.remove(0).scope_spans.remove(0).spans.remove(0))
}

fn value(json: &str) -> Result<Option<Value>, Refusal> {
    let mut span = span(&format!("\"attributes\":[{{\"key\":\"k\",\"value\":{json}}}]"))?;
    Ok(span.attributes.remove(0).value.and_then(|value| value.value))
}

#[test]
fn numbers_are_read_as_numbers_and_as_text() {
    for written in ["1544712660300000000", "\"1544712660300000000\"", "15447126603e8"] {
        let span = span(&format!("\"startTimeUnixNano\":{written}")).unwrap();
        assert_eq!(span.start_time_unix_nano, 1_544_712_660_300_000_000, "{written}");
    }
    assert_eq!(value("{\"intValue\":\"-9223372036854775808\"}"), Ok(Some(Value::IntValue(i64::MIN))));
    assert_eq!(value("{\"intValue\":-7}"), Ok(Some(Value::IntValue(-7))));
    assert_eq!(value("{\"doubleValue\":3}"), Ok(Some(Value::DoubleValue(3.0))));
    assert_eq!(value("{\"doubleValue\":\"-Infinity\"}"), Ok(Some(Value::DoubleValue(f64::NEG_INFINITY))));
    assert_eq!(value("{\"doubleValue\":0.1}"), Ok(Some(Value::DoubleValue(0.1))));
}

#[test]
fn enumerations_are_read_by_number_and_by_name() {
    for written in ["2", "\"SPAN_KIND_SERVER\"", "\"2\""] {
        assert_eq!(span(&format!("\"kind\":{written}")).map(|span| span.kind), Ok(2), "{written}");
    }
    assert_eq!(span("\"kind\":99").map(|span| span.kind), Ok(99));
    assert!(span("\"kind\":\"SPAN_KIND_SERVANT\"").is_err());
}

#[test]
fn ids_are_hexadecimal_and_bytes_are_base64() {
    let read = span("\"traceId\":\"5B8EFFF798038103D269B633813FC60C\",\"spanId\":\"eee19b7ec3c1b174\",\"parentSpanId\":\"\"").unwrap();
    assert_eq!(read.trace_id[..3], [0x5b, 0x8e, 0xff]);
    assert_eq!((read.trace_id.len(), read.span_id.len(), read.parent_span_id.len()), (16, 8, 0));
    for (text, bytes) in [("+/8=", vec![0xfb, 0xff]), ("-_8", vec![0xfb, 0xff]), ("", vec![])] {
        assert_eq!(
            value(&format!("{{\"bytesValue\":\"{text}\"}}")),
            Ok(Some(Value::BytesValue(bytes))),
            "{text}"
        );
    }
    assert!(span("\"traceId\":\"5B8\"").is_err() && span("\"traceId\":\"zz\"").is_err());
    assert!(value("{\"bytesValue\":\"*\"}").is_err());
}

#[test]
fn what_is_unknown_or_null_is_skipped() {
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let read = span(&format!(
        "\"name\":\"a\",\"new\":{deep},\"span_id\":7,\"status\":null,\"events\":null,\"kind\":null"
    ));
    assert_eq!(read, Ok(Span { name: "a".to_owned(), ..Span::default() }));
    assert_eq!(value("{\"newValue\":{\"x\":[1]}}"), Ok(None));
    assert_eq!(value("{}"), Ok(None));
    assert_eq!(value("{\"stringValue\":\"\"}"), Ok(Some(Value::StringValue(String::new()))));
    assert_eq!(traces("{}"), Ok(ExportTraceServiceRequest::default()));
}

#[test]
fn what_is_no_otlp_is_malformed_and_quoted_briefly() {
    let long = format!("{{\"resourceSpans\":\"{}\"}}", "x".repeat(100_000));
    let unended = "{\"resourceSpans\":[{";
    for json in [
        "",
        "null",
        "[]",
        "{",
        unended,
        "{}x",
        "{\"resourceSpans\":{}}",
        "{\"resourceSpans\":[null]}",
        "{\"resourceSpans\":[[]]}",
        &long,
        "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"name\":1}]}]}]}",
        "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"kind\":true}]}]}]}",
        "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"flags\":4294967296}]}]}]}",
        "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"endTimeUnixNano\":-1}]}]}]}",
        "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"endTimeUnixNano\":1.5}]}]}]}",
        "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"name\":\"\\ud800\"}]}]}]}",
    ] {
        match traces(json) {
            Err(Refusal::Rejected { cause: Cause::Malformed, reason }) => {
                assert!(reason.starts_with("malformed OTLP/JSON: ") && reason.len() < 300, "{reason}");
            }
            other => panic!("{json}: {other:?}"),
        }
    }
    assert!(
        transcode(Signal::Logs, b"{\"resourceLogs\":[{\"schemaUrl\":\"\xff\"}]}", CAP, 0, &mut roomy())
            .is_err()
    );
}

#[test]
fn a_depth_bomb_ends_at_the_parsers_depth() {
    let bomb = format!("{}{{}}{}", "{\"arrayValue\":{\"values\":[".repeat(20_000), "]}}".repeat(20_000));
    let refused = value(&bomb).unwrap_err().to_string();
    assert!(refused.contains("recursion limit"), "{refused}");
    let deep =
        format!("{}{{\"boolValue\":true}}{}", "{\"arrayValue\":{\"values\":[".repeat(30), "]}}".repeat(30));
    assert!(value(&deep).is_ok());
}

#[test]
fn what_grows_ends_at_the_cap_and_at_the_budget() {
    // Two bytes of JSON become eight of protobuf.
    let json = format!(
        "{{\"resourceMetrics\":[{{\"scopeMetrics\":[{{\"metrics\":[{{\"histogram\":{{\"dataPoints\":[{{\"bucketCounts\":[1{}]}}]}}}}]}}]}}]}}",
        ",1".repeat(10_000)
    );
    let run = |cap, account: &mut Account| {
        transcode(Signal::Metrics, json.as_bytes(), cap, 0, account).map(|body| body.len())
    };
    assert!(run(100_000, &mut roomy()).is_ok_and(|bytes| bytes > 80_000));
    assert!(matches!(run(50_000, &mut roomy()), Err(Refusal::Rejected { cause: Cause::TooLarge, .. })));
    let mut poor = Account::new(Budget::new(160 << 10), std::net::Ipv4Addr::LOCALHOST.into());
    assert!(run(100_000, &mut poor).is_err() && poor.held_bytes() < 160 << 10);
}

/// Decisions, drawn from the bytes that proptest makes and shrinks; zeros when they have run out.
struct Dice<'a>(&'a [u8]);

impl Dice<'_> {
    fn below(&mut self, limit: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % limit
    }

    fn bits(&mut self) -> u64 {
        let word = u64::from_le_bytes([(); 8].map(|()| self.below(256) as u8));
        word >> [0, 32, 60][self.below(3)]
    }

    fn double(&mut self) -> f64 {
        let double = f64::from_bits(self.bits());
        if double.is_finite() { double } else { 0.25 }
    }

    fn text(&mut self) -> String {
        ["", "a", "REQ-NFR-PERF-001", "Grüße \"\\\n\u{1}", "日本語 😀", "of more than one hundred and twenty-eight bytes, so that its length takes two bytes of protobuf, and so does that of what holds it ..."]
            [self.below(6)].to_owned()
    }

    fn id(&mut self, length: usize) -> Vec<u8> {
        let length = [length, 0][self.below(2)];
        (0..length).map(|_| self.below(256) as u8).collect()
    }

    fn many<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| make(self)).collect()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 1).then(|| make(self))
    }

    fn any(&mut self, levels: usize) -> AnyValue {
        let value = match self.below(if levels == 0 { 5 } else { 7 }) {
            0 => Value::StringValue(self.text()),
            1 => Value::BoolValue(self.below(2) == 1),
            2 => Value::IntValue(self.bits().cast_signed()),
            3 => Value::DoubleValue(self.double()),
            4 => Value::BytesValue(self.id(5)),
            5 => Value::ArrayValue(ArrayValue { values: self.many(|dice| dice.any(levels - 1)) }),
            _ => Value::KvlistValue(KeyValueList { values: self.many(|dice| dice.pair(levels - 1)) }),
        };
        AnyValue { value: Some(value) }
    }

    fn pair(&mut self, levels: usize) -> KeyValue {
        KeyValue { key: self.text(), value: self.maybe(|dice| dice.any(levels)), key_strindex: 0 }
    }

    fn pairs(&mut self) -> Vec<KeyValue> {
        self.many(|dice| dice.pair(2))
    }

    fn count(&mut self) -> u32 {
        self.bits() as u32
    }

    fn resource(&mut self) -> Option<Resource> {
        self.maybe(|dice| Resource {
            attributes: dice.pairs(),
            dropped_attributes_count: dice.count(),
            entity_refs: vec![],
        })
    }

    fn scope(&mut self) -> Option<InstrumentationScope> {
        self.maybe(|dice| InstrumentationScope {
            name: dice.text(),
            version: dice.text(),
            attributes: dice.pairs(),
            dropped_attributes_count: dice.count(),
        })
    }

    fn span(&mut self) -> Span {
        Span {
            trace_id: self.id(16),
            span_id: self.id(8),
            trace_state: self.text(),
            parent_span_id: self.id(8),
            flags: self.count(),
            name: self.text(),
            kind: self.below(7) as i32,
            start_time_unix_nano: self.bits(),
            end_time_unix_nano: self.bits(),
            attributes: self.pairs(),
            dropped_attributes_count: self.count(),
            events: self.many(|dice| span::Event {
                time_unix_nano: dice.bits(),
                name: dice.text(),
                attributes: dice.pairs(),
                dropped_attributes_count: dice.count(),
            }),
            dropped_events_count: self.count(),
            links: self.many(|dice| span::Link {
                trace_id: dice.id(16),
                span_id: dice.id(8),
                trace_state: dice.text(),
                attributes: dice.pairs(),
                dropped_attributes_count: dice.count(),
                flags: dice.count(),
            }),
            dropped_links_count: self.count(),
            status: self.maybe(|dice| Status { message: dice.text(), code: dice.below(3) as i32 }),
        }
    }

    fn log(&mut self) -> LogRecord {
        LogRecord {
            time_unix_nano: self.bits(),
            observed_time_unix_nano: self.bits(),
            severity_number: self.below(25) as i32,
            severity_text: self.text(),
            body: self.maybe(|dice| dice.any(2)),
            attributes: self.pairs(),
            dropped_attributes_count: self.count(),
            flags: self.count(),
            trace_id: self.id(16),
            span_id: self.id(8),
            event_name: self.text(),
        }
    }

    fn exemplar(&mut self) -> m::Exemplar {
        use m::exemplar::Value;
        let value = self.maybe(|dice| {
            if dice.below(2) == 0 {
                Value::AsDouble(dice.double())
            } else {
                Value::AsInt(dice.bits().cast_signed())
            }
        });
        m::Exemplar {
            filtered_attributes: self.pairs(),
            time_unix_nano: self.bits(),
            span_id: self.id(8),
            trace_id: self.id(16),
            value,
        }
    }

    fn number(&mut self) -> m::NumberDataPoint {
        use m::number_data_point::Value;
        let value = self.maybe(|dice| {
            if dice.below(2) == 0 {
                Value::AsDouble(dice.double())
            } else {
                Value::AsInt(dice.bits().cast_signed())
            }
        });
        m::NumberDataPoint {
            attributes: self.pairs(),
            start_time_unix_nano: self.bits(),
            time_unix_nano: self.bits(),
            exemplars: self.many(Dice::exemplar),
            flags: self.count(),
            value,
        }
    }

    fn histogram(&mut self) -> m::HistogramDataPoint {
        m::HistogramDataPoint {
            attributes: self.pairs(),
            start_time_unix_nano: self.bits(),
            time_unix_nano: self.bits(),
            count: self.bits(),
            sum: self.maybe(Dice::double),
            bucket_counts: self.many(Dice::bits),
            explicit_bounds: self.many(Dice::double),
            exemplars: self.many(Dice::exemplar),
            flags: self.count(),
            min: self.maybe(Dice::double),
            max: self.maybe(Dice::double),
        }
    }

    fn buckets(&mut self) -> m::exponential_histogram_data_point::Buckets {
        m::exponential_histogram_data_point::Buckets {
            offset: self.count().cast_signed(),
            bucket_counts: self.many(Dice::bits),
        }
    }

    fn exponential(&mut self) -> m::ExponentialHistogramDataPoint {
        m::ExponentialHistogramDataPoint {
            attributes: self.pairs(),
            start_time_unix_nano: self.bits(),
            time_unix_nano: self.bits(),
            count: self.bits(),
            sum: self.maybe(Dice::double),
            scale: self.count().cast_signed(),
            zero_count: self.bits(),
            positive: self.maybe(Dice::buckets),
            negative: self.maybe(Dice::buckets),
            flags: self.count(),
            exemplars: self.many(Dice::exemplar),
            min: self.maybe(Dice::double),
            max: self.maybe(Dice::double),
            zero_threshold: self.double(),
        }
    }

    fn summary(&mut self) -> m::SummaryDataPoint {
        m::SummaryDataPoint {
            attributes: self.pairs(),
            start_time_unix_nano: self.bits(),
            time_unix_nano: self.bits(),
            count: self.bits(),
            sum: self.double(),
            quantile_values: self.many(|dice| m::summary_data_point::ValueAtQuantile {
                quantile: dice.double(),
                value: dice.double(),
            }),
            flags: self.count(),
        }
    }

    fn metric(&mut self) -> m::Metric {
        let temporality = self.below(3) as i32;
        let data = match self.below(5) {
            0 => Data::Gauge(m::Gauge { data_points: self.many(Dice::number) }),
            1 => Data::Sum(m::Sum {
                data_points: self.many(Dice::number),
                aggregation_temporality: temporality,
                is_monotonic: self.below(2) == 1,
            }),
            2 => Data::Histogram(m::Histogram {
                data_points: self.many(Dice::histogram),
                aggregation_temporality: temporality,
            }),
            3 => Data::ExponentialHistogram(m::ExponentialHistogram {
                data_points: self.many(Dice::exponential),
                aggregation_temporality: temporality,
            }),
            _ => Data::Summary(m::Summary { data_points: self.many(Dice::summary) }),
        };
        m::Metric {
            name: self.text(),
            description: self.text(),
            unit: self.text(),
            metadata: self.pairs(),
            data: Some(data),
        }
    }
}

fn check<M: prost::Message + std::fmt::Debug + serde::Serialize + PartialEq + Default>(
    signal: Signal,
    message: &M,
) -> Result<(), TestCaseError> {
    let json = serde_json::to_string(message).expect("the oracle writes it");
    let ours = read::<M>(signal, &json);
    prop_assert!(ours.as_ref() == Ok(message), "{json}: {ours:?} is not {message:?}");
    // And back: what homeostat records.
    let mut json = Vec::new();
    otlp::json::write(signal, &message.encode_to_vec(), &mut json);
    let json = String::from_utf8(json).expect("JSON is text");
    prop_assert!(!json.contains('\n'), "a request is one line: {json}");
    let again = read::<M>(signal, &json);
    prop_assert!(again.as_ref() == Ok(message), "{json}: {again:?} is not {message:?}");
    Ok(())
}

proptest! {
    #[test]
    fn every_message_comes_through_json_as_it_was(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let dice = &mut Dice(&bytes);
        check(Signal::Traces, &ExportTraceServiceRequest { resource_spans: dice.many(|dice| ResourceSpans {
            resource: dice.resource(), schema_url: dice.text(),
            scope_spans: dice.many(|dice| ScopeSpans { scope: dice.scope(), spans: dice.many(Dice::span), schema_url: dice.text() }),
        }) })?;
        let dice = &mut Dice(&bytes);
        check(Signal::Logs, &ExportLogsServiceRequest { resource_logs: dice.many(|dice| ResourceLogs {
            resource: dice.resource(), schema_url: dice.text(),
            scope_logs: dice.many(|dice| ScopeLogs { scope: dice.scope(), log_records: dice.many(Dice::log), schema_url: dice.text() }),
        }) })?;
        let dice = &mut Dice(&bytes);
        check(Signal::Metrics, &ExportMetricsServiceRequest { resource_metrics: dice.many(|dice| m::ResourceMetrics {
            resource: dice.resource(), schema_url: dice.text(),
            scope_metrics: dice.many(|dice| m::ScopeMetrics { scope: dice.scope(), metrics: dice.many(Dice::metric), schema_url: dice.text() }),
        }) })?;
    }

    #[test]
    fn arbitrary_text_never_panics(text in "[\\[\\]{}\",:a-z0-9.e-]{0,200}", cut in 0..400_usize) {
        let good = "{\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":[{\"timeUnixNano\":\"1\",\"body\":{\"kvlistValue\":{\"values\":[{\"key\":\"a\",\"value\":{\"arrayValue\":{\"values\":[{\"intValue\":\"1\"}]}}}]}}}]}]}]}";
        let cut = cut.min(good.len());
        let _ = transcode(Signal::Logs, format!("{}{text}{}", &good[..cut], &good[cut..]).as_bytes(), CAP, 0, &mut roomy());
    }
}
