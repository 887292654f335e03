//! Holds the cutting to prost: the result decodes to what the body decodes to, without the records that went.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use proptest::prelude::*;
use prost::Message;

use super::super::{Part, cut, schema, walk};
use super::arbitrary::{Source, arbitrary};
use crate::batch::Signal;

/// Says yes or no by turns that the choices make.
struct Choices<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Choices<'_> {
    fn goes(&mut self) -> bool {
        let byte = self.bytes.get(self.at % self.bytes.len().max(1)).copied().unwrap_or(0);
        self.at += 1;
        byte % 3 == 0
    }

    /// Takes out of `list` what goes; whether anything went, and how many.
    fn retain<T>(&mut self, list: &mut Vec<T>, mut goes: impl FnMut(&mut Self, &mut T) -> bool) -> bool {
        let before = list.len();
        list.retain_mut(|one| !goes(self, one));
        list.len() < before
    }

    fn points<T>(&mut self, points: &mut Vec<T>) -> bool {
        self.retain(points, |own, _| own.goes()) && points.is_empty()
    }

    /// Whether the metric goes.
    fn metric(&mut self, metric: &mut Metric) -> bool {
        if self.goes() {
            return true;
        }
        match &mut metric.data {
            None => false,
            Some(Data::Gauge(data)) => self.points(&mut data.data_points),
            Some(Data::Sum(data)) => self.points(&mut data.data_points),
            Some(Data::Histogram(data)) => self.points(&mut data.data_points),
            Some(Data::ExponentialHistogram(data)) => self.points(&mut data.data_points),
            Some(Data::Summary(data)) => self.points(&mut data.data_points),
        }
    }
}

/// The oracle: decoded, cut, encoded.
fn expected(signal: Signal, body: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    match signal {
        Signal::Traces => {
            let mut request = ExportTraceServiceRequest::decode(body).expect("a well-formed body");
            choices.retain(&mut request.resource_spans, |own, resource| {
                own.retain(&mut resource.scope_spans, |own, scope| {
                    own.retain(&mut scope.spans, |own, _| own.goes()) && scope.spans.is_empty()
                }) && resource.scope_spans.is_empty()
            });
            request.encode_to_vec()
        }
        Signal::Logs => {
            let mut request = ExportLogsServiceRequest::decode(body).expect("a well-formed body");
            choices.retain(&mut request.resource_logs, |own, resource| {
                own.retain(&mut resource.scope_logs, |own, scope| {
                    own.retain(&mut scope.log_records, |own, _| own.goes()) && scope.log_records.is_empty()
                }) && resource.scope_logs.is_empty()
            });
            request.encode_to_vec()
        }
        Signal::Metrics => {
            let mut request = ExportMetricsServiceRequest::decode(body).expect("a well-formed body");
            choices.retain(&mut request.resource_metrics, |own, resource| {
                own.retain(&mut resource.scope_metrics, |own, scope| {
                    own.retain(&mut scope.metrics, Choices::metric) && scope.metrics.is_empty()
                }) && resource.scope_metrics.is_empty()
            });
            request.encode_to_vec()
        }
    }
}

fn encoded(signal: Signal, body: &[u8]) -> Vec<u8> {
    expected(signal, body, &mut Choices { bytes: &[1], at: 0 })
}

fn check(signal: Signal, body: &[u8], bytes: &[u8]) {
    let expected = expected(signal, body, &mut Choices { bytes, at: 0 });
    let mut choices = Choices { bytes, at: 0 };
    let cut = cut(signal, body, |_, _, part| {
        match part {
            Part::Record(_) | Part::Metric(_) | Part::Point(..) => {}
        }
        choices.goes()
    });
    match cut {
        None => assert_eq!(encoded(signal, body), expected, "{signal:?} {body:x?}"),
        Some(cut) => {
            assert_eq!(encoded(signal, &cut.body), expected, "{signal:?} {body:x?}\n{:x?}", cut.body);
            assert!(cut.body.len() < body.len());
            let records = walk(signal, &cut.body).expect("what was cut is well-formed");
            assert!(records >= cut.kept, "{records} {cut:?}");
            // A oneof that is written several times is counted with the points that the last one replaces.
            if signal != Signal::Metrics {
                assert_eq!(walk(signal, body), Ok(cut.kept + cut.dropped));
                assert_eq!(records, cut.kept);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_cut_decodes_to_the_rest_on_any_arrangement_of_fields(
        choices in prop::collection::vec(any::<u8>(), 0..1500),
        goes in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        for signal in Signal::ALL {
            let body = arbitrary(&mut Source(&choices), schema::request(signal), 9);
            check(signal, &body, &goes);
            check(signal, &body, &[0]);
            check(signal, &body, &[1]);
            // As an encoder writes it.
            check(signal, &encoded(signal, &body), &goes);
        }
    }
}
