//! A request that is too large for a peer, in parts: by byte ranges, without decoding it to objects.
//!
//! A request is one repeated field, so between two resources it is simply cut: the parts are slices of the body, and one behind
//! the other they are the body. A resource that is too large alone is cut between its scopes, a scope between its records, a
//! metric between its data points; what stands around them is repeated in each part, which is then a copy.

use bytes::Bytes;

use super::wire;
use crate::batch::Signal;

/// A field's key and length prefix are never longer.
const PREFIX_BYTES_MAX: usize = 11;

/// What holds what, from the request down: the field numbers of the children at each level.
type Levels = &'static [&'static [u32]];

const RECORDS: Levels = &[&[1], &[2], &[2]];
/// `Metric` holds one of five kinds of data, which holds the points.
const POINTS: Levels = &[&[1], &[2], &[2], METRIC, &[1]];
const METRIC: &[u32] = &[5, 7, 9, 10, 11];

/// One field of a message: all of its bytes, and the part behind key and length where it has a length.
struct Field<'a> {
    tag: u32,
    whole: &'a [u8],
    payload: Option<&'a [u8]>,
}

/// Requests that hold together what `body` holds, in its order, each of at most `limit` bytes unless a single record, or what
/// stands around it, is larger. One part, the body itself, where it cannot or need not be cut. `body` has passed [`super::walk`].
pub fn split(signal: Signal, body: &Bytes, limit: usize) -> Vec<Bytes> {
    let levels = match signal {
        Signal::Traces | Signal::Logs => RECORDS,
        Signal::Metrics => POINTS,
    };
    let whole = || vec![body.clone()];
    if body.len() <= limit {
        return whole();
    }
    let Some(fields) = fields(body) else { return whole() };
    let mut parts = Vec::new();
    let (mut start, mut end) = (0, 0);
    for field in fields {
        let next = end + field.whole.len();
        if next - start > limit && end > start {
            parts.push(body.slice(start..end));
            start = end;
        }
        if field.whole.len() > limit {
            let pieces = pieces(&field, levels, limit);
            if pieces.len() > 1 {
                parts.extend(pieces.into_iter().map(Bytes::from));
                start = next;
            }
        }
        end = next;
    }
    if end > start {
        parts.push(body.slice(start..end));
    }
    parts
}

/// `field`, a child at `levels[0]`, as several fields of at most `limit` bytes; itself when it cannot be cut.
fn pieces(field: &Field<'_>, levels: Levels, limit: usize) -> Vec<Vec<u8>> {
    let whole = || vec![field.whole.to_vec()];
    let [own, deeper @ ..] = levels else { return whole() };
    let (Some(payload), Some(children)) = (field.payload, deeper.first()) else { return whole() };
    let Some(fields) = own.contains(&field.tag).then(|| fields(payload)).flatten() else { return whole() };
    let (children, around): (Vec<_>, Vec<_>) =
        fields.into_iter().partition(|inside| children.contains(&inside.tag) && inside.payload.is_some());
    let around = around.iter().map(|field| field.whole).collect::<Vec<_>>().concat();
    // What is repeated must stay less than what it is repeated for.
    if children.is_empty() || around.len() > limit / 2 {
        return whole();
    }
    // Of several kinds of data in one metric only the last counts; nobody writes that, and cutting it would change it.
    if deeper.first().is_some_and(|tags| *tags == METRIC) && children.len() > 1 {
        return whole();
    }
    let room = limit.saturating_sub(around.len() + PREFIX_BYTES_MAX);
    let mut groups: Vec<Vec<u8>> = Vec::new();
    let mut group = Vec::new();
    for child in &children {
        if !group.is_empty() && group.len() + child.whole.len() > room {
            groups.push(std::mem::take(&mut group));
        }
        if child.whole.len() > room {
            groups.extend(pieces(child, deeper, room));
        } else {
            group.extend_from_slice(child.whole);
        }
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups.iter().map(|group| encode(field.tag, &around, group)).collect()
}

fn encode(tag: u32, around: &[u8], group: &[u8]) -> Vec<u8> {
    let bytes = around.len() + group.len();
    let mut out = Vec::with_capacity(bytes + PREFIX_BYTES_MAX);
    put_varint(&mut out, u64::from(tag) << 3 | 2);
    put_varint(&mut out, bytes as u64);
    out.extend_from_slice(around);
    out.extend_from_slice(group);
    out
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// The fields of a message; none when it is none.
fn fields(message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    let mut at = 0;
    while at < message.len() {
        let start = at;
        let (tag, wire) = wire::key(message, &mut at).ok()?;
        let payload = if wire == 2 {
            Some(wire::delimited(message, &mut at).ok()?)
        } else {
            wire::skip(message, &mut at, tag, wire, super::LEVELS_MAX).ok()?;
            None
        };
        fields.push(Field { tag, whole: &message[start..at], payload });
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    use opentelemetry_proto::tonic::metrics::v1::{
        Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    };
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use proptest::prelude::*;
    use prost::Message;

    use super::super::walk;
    use super::*;

    /// Sizes of the records of each scope of each resource.
    type Shape = Vec<Vec<Vec<usize>>>;

    fn shape() -> impl Strategy<Value = Shape> {
        let scope = proptest::collection::vec(0..300_usize, 0..8);
        proptest::collection::vec(proptest::collection::vec(scope, 0..4), 0..5)
    }

    fn logs(shape: &Shape) -> ExportLogsServiceRequest {
        let mut number = 0;
        let record = |size: &usize| {
            number += 1;
            LogRecord { time_unix_nano: number, severity_text: "x".repeat(*size), ..LogRecord::default() }
        };
        let mut record = record;
        let resource_logs = shape
            .iter()
            .enumerate()
            .map(|(at, scopes)| ResourceLogs {
                resource: Some(Resource {
                    dropped_attributes_count: u32::try_from(at).unwrap() + 1,
                    ..Resource::default()
                }),
                scope_logs: scopes
                    .iter()
                    .map(|sizes| ScopeLogs {
                        log_records: sizes.iter().map(&mut record).collect(),
                        schema_url: format!("scope of {at}"),
                        ..ScopeLogs::default()
                    })
                    .collect(),
                schema_url: "resource".to_owned(),
            })
            .collect();
        ExportLogsServiceRequest { resource_logs }
    }

    /// Each record with what stands around it.
    fn flat(requests: &[ExportLogsServiceRequest]) -> Vec<(Option<Resource>, String, String, LogRecord)> {
        let mut flat = Vec::new();
        for resource in requests.iter().flat_map(|request| &request.resource_logs) {
            for scope in &resource.scope_logs {
                for record in &scope.log_records {
                    let around = (resource.resource.clone(), resource.schema_url.clone());
                    flat.push((around.0, around.1, scope.schema_url.clone(), record.clone()));
                }
            }
        }
        flat
    }

    #[test]
    fn what_fits_is_not_touched() {
        let body = Bytes::from(logs(&vec![vec![vec![1, 2]]]).encode_to_vec());
        let parts = split(Signal::Logs, &body, body.len());
        assert_eq!((parts.len(), &parts[0]), (1, &body));
        assert_eq!(parts[0].as_ptr(), body.as_ptr());
    }

    #[test]
    fn a_record_that_is_too_large_alone_stays_whole_and_the_others_are_cut_off() {
        let request = logs(&vec![vec![vec![10, 5_000, 10]]]);
        let body = Bytes::from(request.encode_to_vec());
        let parts = split(Signal::Logs, &body, 200);
        assert_eq!(parts.len(), 3);
        assert!(parts[0].len() <= 200 && parts[1].len() > 5_000 && parts[2].len() <= 200);
        assert_eq!(split(Signal::Logs, &parts[1], 200), [parts[1].clone()], "it is cut no further");
    }

    #[test]
    fn what_stands_around_is_not_repeated_where_it_is_the_larger_part() {
        let mut request = logs(&vec![vec![vec![10; 100]]]);
        request.resource_logs[0].schema_url = "u".repeat(2_000);
        let body = Bytes::from(request.encode_to_vec());
        assert_eq!(split(Signal::Logs, &body, 1_000), [body]);
    }

    #[test]
    fn a_metric_is_cut_between_its_points_and_keeps_what_it_is() {
        let point = |time| NumberDataPoint { time_unix_nano: time, ..NumberDataPoint::default() };
        let sum = Sum {
            data_points: (1..=500).map(point).collect(),
            aggregation_temporality: 2,
            is_monotonic: true,
        };
        let metric = Metric { name: "requests".to_owned(), data: Some(Data::Sum(sum)), ..Metric::default() };
        let scope_metrics = vec![ScopeMetrics { metrics: vec![metric.clone()], ..ScopeMetrics::default() }];
        let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
        let body = Bytes::from(ExportMetricsServiceRequest { resource_metrics }.encode_to_vec());
        let parts = split(Signal::Metrics, &body, 600);
        assert!(parts.len() > 5 && parts.iter().all(|part| part.len() <= 600));
        let mut times = Vec::new();
        for part in &parts {
            let request = ExportMetricsServiceRequest::decode(part.clone()).unwrap();
            let found = &request.resource_metrics[0].scope_metrics[0].metrics[0];
            let Some(Data::Sum(sum)) = &found.data else { panic!("{found:?}") };
            assert_eq!((found.name.as_str(), sum.aggregation_temporality), ("requests", 2));
            assert!(sum.is_monotonic);
            times.extend(sum.data_points.iter().map(|point| point.time_unix_nano));
        }
        assert_eq!(times, (1..=500).collect::<Vec<_>>());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn parts_hold_what_the_body_holds_and_fit(shape in shape(), limit in 1..3_000_usize) {
            let request = logs(&shape);
            let body = Bytes::from(request.encode_to_vec());
            let parts = split(Signal::Logs, &body, limit);
            let decoded: Vec<_> =
                parts.iter().map(|part| ExportLogsServiceRequest::decode(part.clone()).unwrap()).collect();
            prop_assert_eq!(flat(&decoded), flat(&[request]));
            let walked: u64 = parts.iter().map(|part| walk(Signal::Logs, part).unwrap()).sum();
            prop_assert_eq!(walked, walk(Signal::Logs, &body).unwrap());
            for (part, decoded) in parts.iter().zip(&decoded) {
                let records = flat(std::slice::from_ref(decoded)).len();
                // What stands around a record is some 40 bytes here, and is repeated up to half of the limit.
                prop_assert!(part.len() <= limit || records <= 1 || limit < 120, "{} bytes", part.len());
            }
        }

        #[test]
        fn between_resources_the_body_is_only_cut(shape in shape()) {
            let request = logs(&shape);
            let body = Bytes::from(request.encode_to_vec());
            let largest = request.resource_logs.iter().map(|one| one.encoded_len() + 11).max().unwrap_or(1);
            let parts = split(Signal::Logs, &body, largest);
            prop_assert_eq!(parts.concat(), body.to_vec());
            prop_assert!(parts.iter().all(|part| part.len() <= largest));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), limit in 0..200_usize) {
            let body = Bytes::from(bytes);
            for signal in Signal::ALL {
                split(signal, &body, limit);
            }
        }
    }
}
