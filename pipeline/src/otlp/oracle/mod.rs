//! Holds the walk and the views to what `opentelemetry-proto` decodes.
//!
//! The relation: for every signal and any bytes, the walk accepts exactly what prost decodes, and on those bytes the
//! views say what prost decoded; on all others they do not panic. The records that the walk counts are prost's; only
//! a metric that writes its oneof several times is counted with the points that the last one replaces.
//!
//! Bodies are made of the schema's fields in any order, repeated, switched and mixed with unknown ones, which no
//! encoder would write but any sender may.

mod arbitrary;
mod cut;
mod decoded;
mod decoded_metrics;
mod relation;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message;

use self::arbitrary::{Source, arbitrary, mutate, put_bytes};
use self::relation::check;
use super::*;
use crate::batch::Signal;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn walk_and_views_are_prost_on_any_arrangement_of_fields(
        choices in prop::collection::vec(any::<u8>(), 0..1500),
        mutations in prop::collection::vec(any::<u8>(), 24),
    ) {
        for signal in Signal::ALL {
            let mut body = arbitrary(&mut Source(&choices), schema::request(signal), 9);
            check(signal, &body);
            mutate(&mut Source(&mutations), &mut body);
            check(signal, &body);
        }
    }

    #[test]
    fn walk_and_views_are_prost_on_random_bytes(body in prop::collection::vec(any::<u8>(), 0..64)) {
        Signal::ALL.into_iter().for_each(|signal| check(signal, &body));
    }

    #[test]
    fn any_selection_of_resources_is_a_request(choices in prop::collection::vec(any::<u8>(), 0..1500)) {
        let body = arbitrary(&mut Source(&choices), schema::request(Signal::Traces), 9);
        let whole = ExportTraceServiceRequest::decode(body.as_slice()).expect("a well-formed body");
        let ranges: Vec<_> = resources(&body).collect();
        prop_assert_eq!(ranges.len(), whole.resource_spans.len());
        let odd: Vec<u8> = ranges.iter().skip(1).step_by(2).flat_map(|range| &body[range.clone()]).copied().collect();
        let selected = ExportTraceServiceRequest::decode(odd.as_slice()).expect("a well-formed selection");
        let expected: Vec<_> = whole.resource_spans.iter().skip(1).step_by(2).cloned().collect();
        prop_assert_eq!(format!("{selected:?}"), format!("{:?}", ExportTraceServiceRequest { resource_spans: expected }));
        prop_assert!(resource_spans(&body).map(|resource| resource.range()).eq(ranges));
    }
}

#[test]
fn every_truncation_of_a_request_is_what_it_is_to_prost() {
    for signal in Signal::ALL {
        let bodies = (0..100_u32).map(|seed| {
            let choices: Vec<u8> =
                (0..3000_u32).map(|n| ((n + seed * 3000).wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            arbitrary(&mut Source(&choices), schema::request(signal), 9)
        });
        let body = bodies.max_by_key(Vec::len).expect("a hundred bodies");
        assert!(body.len() > 500, "{signal:?} has only {} bytes", body.len());
        let step = body.len() / 200 + 1;
        (0..body.len()).step_by(step).for_each(|end| check(signal, &body[..end]));
    }
}

/// `message` as the field 1 of a request, with `tags` on the way, from the inside out.
fn wrapped(message: &[u8], tags: &[u32]) -> Vec<u8> {
    tags.iter().fold(message.to_vec(), |message, tag| {
        let mut outer = Vec::new();
        put_bytes(*tag, &message, &mut outer);
        outer
    })
}

#[test]
fn every_changed_byte_of_usual_attributes_is_judged_as_prost_judges_it() {
    let values: [&[u8]; 5] = [b"\x0a\x02de", b"\x18\xac\x02", b"\x10\x01", b"\x21\0\0\0\0\0\0\xf0\x3f", b""];
    for value in values {
        let body = wrapped(&pair_of(value), &[9, 2, 2, 1]);
        check(Signal::Traces, &body);
        for at in 0..body.len() {
            for byte in [0, 1, 2, 3, 0x0a, 0x12, 0x7f, 0x80, 0xc3, 0xff] {
                let mut changed = body.clone();
                changed[at] = byte;
                check(Signal::Traces, &changed);
            }
        }
    }
}

fn pair_of(value: &[u8]) -> Vec<u8> {
    let mut pair = Vec::new();
    put_bytes(1, b"key", &mut pair);
    put_bytes(2, value, &mut pair);
    pair
}

fn in_array(value: &[u8]) -> Vec<u8> {
    wrapped(value, &[1, 5])
}

fn in_map(value: &[u8]) -> Vec<u8> {
    wrapped(&pair_of(value), &[1, 6])
}

#[test]
fn nesting_is_refused_where_prost_refuses_it() {
    // In an attribute of a span, of an event and of a resource, down to an empty value and to a string.
    for place in [&[9, 2, 2, 1][..], &[3, 11, 2, 2, 1], &[1, 1, 1]] {
        for nest in [in_array, in_map] {
            for innermost in [vec![], wrapped(b"x", &[1])] {
                let mut value = innermost;
                let mut outcomes = Vec::new();
                for _ in 0..55 {
                    let body = wrapped(&pair_of(&value), place);
                    check(Signal::Traces, &body);
                    outcomes.push(walk(Signal::Traces, &body).is_ok());
                    value = nest(&value);
                }
                assert!(outcomes[0] && !outcomes[54], "{outcomes:?}");
            }
        }
    }
    let deep = wrapped(b"", &[1; 5000]);
    check(Signal::Traces, &deep);
    let groups = [vec![0x1b; 100_000], vec![0x1c; 100_000]].concat();
    check(Signal::Logs, &groups);
    assert!(walk(Signal::Logs, &groups).is_err());
}

#[test]
fn a_fault_is_named_with_its_byte() {
    let mut body = Vec::new();
    put_bytes(1, &[0x1a, 2, 0xff, 0xfe], &mut body);
    let malformed = walk(Signal::Traces, &body).expect_err("no schema url is \\xff\\xfe");
    assert_eq!(malformed.to_string(), "malformed OTLP: a string is not UTF-8 at byte 2");
    for (body, message) in [
        (&[0x0a, 5, 1][..], "malformed OTLP: a value ends beyond the message that holds it at byte 1"),
        (&[0x08, 5], "malformed OTLP: a field has the wrong wire type at byte 0"),
        (&[0x02, 0], "malformed OTLP: a field number is out of range at byte 0"),
        (&[0x14], "malformed OTLP: a group ends that did not begin at byte 1"),
    ] {
        assert_eq!(walk(Signal::Logs, body).map_err(|m| m.to_string()), Err(message.into()));
    }
}
