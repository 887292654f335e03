//! The relation between walk, views and prost, for one body. The fuzz targets include this file, so it names nothing but its
//! siblings and what `pipeline::otlp` makes public.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;

use super::super::*;
use super::Signal;
use super::decoded::{logs_of, plain_logs, plain_traces, traces_of};
use super::decoded_metrics::{metrics_of, plain_metrics};

fn points(request: &ExportMetricsServiceRequest) -> u64 {
    let metrics = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
    let counts = metrics.map(|metric| match &metric.data {
        None => 0,
        Some(Data::Gauge(data)) => data.data_points.len(),
        Some(Data::Sum(data)) => data.data_points.len(),
        Some(Data::Histogram(data)) => data.data_points.len(),
        Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(Data::Summary(data)) => data.data_points.len(),
    });
    counts.sum::<usize>() as u64
}

/// The whole relation, for one body.
#[track_caller]
pub(super) fn check(signal: Signal, body: &[u8]) {
    let walked = walk(signal, body);
    let same = |decoded: Result<u64, prost::DecodeError>| match (&walked, decoded) {
        (Ok(records), Ok(decoded)) => assert_eq!(*records, decoded, "{signal:?} {body:x?}"),
        (Err(malformed), Err(_)) => assert!(malformed.at() <= body.len()),
        (walked, decoded) => panic!("the walk says {walked:?} and prost {decoded:?} to {signal:?} {body:x?}"),
    };
    match signal {
        Signal::Traces => {
            let (views, decoded) = (traces_of(body), ExportTraceServiceRequest::decode(body));
            if let Ok(decoded) = &decoded {
                let decoded = plain_traces(decoded.clone());
                assert_eq!(views.encode_to_vec(), decoded.encode_to_vec(), "{views:#?}\n{decoded:#?}");
            }
            same(decoded.map(|r| {
                r.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len() as u64).sum()
            }));
        }
        Signal::Logs => {
            let (views, decoded) = (logs_of(body), ExportLogsServiceRequest::decode(body));
            if let Ok(decoded) = &decoded {
                let decoded = plain_logs(decoded.clone());
                assert_eq!(views.encode_to_vec(), decoded.encode_to_vec(), "{views:#?}\n{decoded:#?}");
            }
            same(decoded.map(|r| {
                r.resource_logs.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len() as u64).sum()
            }));
        }
        Signal::Metrics => {
            let (views, decoded) = (metrics_of(body), ExportMetricsServiceRequest::decode(body));
            if let Ok(decoded) = &decoded {
                let decoded = plain_metrics(decoded.clone());
                assert_eq!(views.encode_to_vec(), decoded.encode_to_vec(), "{views:#?}\n{decoded:#?}");
            }
            assert_eq!(walked.is_ok(), decoded.is_ok(), "{walked:?} {decoded:?} {body:x?}");
            if let (Ok(records), Ok(decoded)) = (walked, decoded) {
                assert!(records >= points(&decoded), "{body:x?}");
                assert_eq!(walk(signal, &decoded.encode_to_vec()), Ok(points(&decoded)), "{body:x?}");
            }
        }
    }
}
