//! Properties: what holds for any request. The generator knows what means something, or nearly nothing would be found.

use proptest::prelude::*;

use opentelemetry_proto::tonic::metrics::v1::{Exemplar, NumberDataPoint};

use super::points::{gauge, metrics, number_point};
use super::*;

fn word() -> impl Strategy<Value = String> {
    let words = [
        "REQ-F-A-001",
        "REQ_F_B_002",
        "see REQ-NFR-PERF-003.1.2.3!",
        "REQUEST",
        "REQ",
        "req",
        "requirement",
        "sea.flow",
        "sea.context",
        "sea.boundedContext",
        "app.flow",
        "Login",
        "tags",
        "message",
        "tier",
        "front",
        "latency_ms",
        "POST /login",
        "x",
        "",
        "plain text",
        "ERROR",
        "service.name",
    ];
    prop::sample::select(words.map(str::to_owned).to_vec())
}

fn json() -> impl Strategy<Value = String> {
    let escape = |text: String| text.replacen('-', "\\u002d", 1).replacen('e', "\\u0065", 1);
    let part = move || {
        (word(), any::<bool>())
            .prop_map(move |(text, is_escaped)| if is_escaped { escape(text) } else { text })
    };
    prop::collection::vec((part(), part(), any::<bool>()), 0..4).prop_map(|fields| {
        let field = |(key, value, is_nested): &(String, String, bool)| match is_nested {
            true => format!("\"n\":{{\"{key}\":[\"{value}\\n\", 3]}}"),
            false => format!("\"{key}\":\"{value}\""),
        };
        format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
    })
}

fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        4 => word().prop_map(|word| text(&word)),
        1 => json().prop_map(|json| text(&json)),
        1 => any::<i64>().prop_map(|value| AnyValue { value: Some(any_value::Value::IntValue(value)) }),
        1 => Just(AnyValue { value: None }),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(list),
            prop::collection::vec((word(), inner).prop_map(|(key, value)| pair(&key, value)), 0..3)
                .prop_map(map),
        ]
    })
}

/// Any names and values, and often those that mean something together.
fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let telling = [
        ("req", "REQ-F-A-001"),
        ("sea.flow", "Login"),
        ("app.flow", "Order"),
        ("sea.context", "shop"),
        ("tier", "front"),
        ("service.name", "Login"),
    ];
    let one = prop_oneof![
        2 => (word(), value()).prop_map(|(key, value)| pair(&key, value)),
        1 => prop::sample::select(telling.to_vec()).prop_map(|(key, value)| pair(key, text(value))),
    ];
    prop::collection::vec(one, 0..3)
}

fn spans() -> impl Strategy<Value = Vec<Span>> {
    let span = (attributes(), attributes(), attributes(), word(), word(), 0..4_i32).prop_map(
        |(attributes, event, link, name, message, kind)| Span {
            attributes,
            events: vec![span::Event { attributes: event, ..Default::default() }],
            links: vec![span::Link { attributes: link, ..Default::default() }],
            name,
            kind,
            status: Some(Status { code: 2, message }),
            ..span()
        },
    );
    prop::collection::vec(span, 0..3)
}

fn records() -> impl Strategy<Value = Vec<LogRecord>> {
    let record = (attributes(), value(), word(), word(), prop::sample::select(vec![0, 9, 17])).prop_map(
        |(attributes, body, severity_text, event_name, severity_number)| LogRecord {
            attributes,
            severity_text,
            severity_number,
            event_name,
            ..log(body)
        },
    );
    prop::collection::vec(record, 0..3)
}

fn interest() -> impl Strategy<Value = Interest> {
    let selectors = vec![
        r#"name == "POST /login""#,
        r#"attributes["tier"] == "front""#,
        r#"attributes["tier"] != null"#,
        r#"resource["service.name"] == "Login""#,
        r#"resource["sea.flow"] != null"#,
        r#"scope["tier"] != null and kind == CLIENT"#,
        r#"scope.name == "front""#,
        r#"body["message"] == "Login""#,
        r#"body["n"]["requirement"] != null"#,
        r#"body == "plain text""#,
        r#"attributes["req"] == "x" or name == "Login""#,
    ];
    prop::collection::vec(prop::sample::select(selectors), 0..3).prop_map(|selectors| {
        let both = |selector: &&str| {
            Signal::ALL.map(|signal| selection(signal, "REQ-F-SEL-001", selector, selector))
        };
        Interest { selections: selectors.iter().flat_map(both).collect(), ..wanted() }
    })
}

/// The same without the prefilter: every record is decoded.
fn full_walk(tag: &Tag, interest: &Interest, signal: Signal, body: &[u8]) -> Vec<String> {
    let mut tagger = tag.tagger(interest).unwrap();
    let (plan, _) = &mut tagger.plans[signal as usize];
    plan.prefilter = Prefilter::new(Some(""), std::iter::empty(), &[]);
    assert!(plan.prefilter.is_off());
    shown(&plan.rows(body).unwrap().0)
}

fn several(bodies: Vec<Vec<u8>>) -> Vec<u8> {
    // Requests merge by concatenation: each is one repeated field.
    bodies.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_prefilter_never_hides_a_row_of_a_span(
        interest in interest(),
        parts in prop::collection::vec((attributes(), attributes(), spans()), 0..3),
    ) {
        let body = several(parts.into_iter().map(|(resource, scope, spans)| traces(resource, scope, spans)).collect());
        let tag = settings("aliases: { sea.flow: [app.flow] }");
        let found = shown(&tag_with(&tag, &interest, Signal::Traces, &body));
        prop_assert_eq!(found, full_walk(&tag, &interest, Signal::Traces, &body));
    }

    #[test]
    fn the_prefilter_never_hides_a_row_of_a_log_record(
        interest in interest(),
        parts in prop::collection::vec((attributes(), records()), 0..3),
    ) {
        let body = several(parts.into_iter().map(|(resource, records)| logs(resource, records)).collect());
        let tag = settings("aliases: { sea.flow: [app.flow] }");
        let found = shown(&tag_with(&tag, &interest, Signal::Logs, &body));
        prop_assert_eq!(found, full_walk(&tag, &interest, Signal::Logs, &body));
    }

    #[test]
    fn the_prefilter_never_hides_a_row_of_a_data_point(
        interest in interest(),
        parts in prop::collection::vec((attributes(), attributes(), word(), attributes(), attributes()), 0..3),
    ) {
        let body = several(parts.into_iter().map(|(resource, scope, name, point, exemplar)| {
            let exemplar = Exemplar { filtered_attributes: exemplar, ..Exemplar::default() };
            let point = NumberDataPoint { exemplars: vec![exemplar], ..number_point(point, 1.0) };
            metrics(resource, scope, vec![gauge(&name, vec![point, number_point(vec![], 2.0)])])
        }).collect());
        let tag = settings("aliases: { sea.flow: [app.flow] }");
        let found = shown(&tag_with(&tag, &interest, Signal::Metrics, &body));
        prop_assert_eq!(found, full_walk(&tag, &interest, Signal::Metrics, &body));
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200), text in word()) {
        let bytes = [&body[..], text.as_bytes()].concat();
        for signal in Signal::ALL {
            let rows = tag_with(&Tag::default(), &Interest::default(), signal, &bytes);
            prop_assert!(rows.len() <= bytes.len() * 32);
        }
    }
}
