//! Settings and limits, and what becomes of a batch.

use super::*;

#[test]
fn what_is_expected_is_a_setting() {
    let tag = settings("expect: { traces: { required: [sea.policy], optional: [] } }");
    let body = traces(vec![], vec![], vec![Span { attributes: texts(&[("req", "REQ-F-A-001")]), ..span() }]);
    let rows = tag_with(&tag, &Interest::default(), Signal::Traces, &body);
    assert_eq!(rows.rows()[0].status.name(), "failed");
}

#[test]
fn names_and_patterns_of_the_settings_hold() {
    let tag = settings("keys: { pattern: 'SHOP-\\d+', attributes: [ticket] }");
    let body = traces(vec![], vec![], vec![Span { attributes: texts(&[("ticket", "SHOP-12")]), ..span() }]);
    assert_eq!(keys(&tag_with(&tag, &Interest::default(), Signal::Traces, &body)), ["SHOP-12 attribute*"]);
    let tag = settings("keys: { profile: aisdlc }");
    let attributes = texts(&[("req", "REQ-RUNTIME-001 REQ-NFR-PERF-001")]);
    let body = traces(vec![], vec![], vec![Span { attributes, ..span() }]);
    assert_eq!(
        keys(&tag_with(&tag, &Interest::default(), Signal::Traces, &body)),
        ["REQ-NFR-PERF-001 attribute*"]
    );
}

#[test]
fn limits_cut_and_are_counted() {
    let unstruck =
        drops::unstruck(&[&drops::TAG_ATTRIBUTES, &drops::TAG_VALUE, &drops::TAG_BODY, &drops::TAG_KEYS]);
    let mut attributes: Vec<_> = (0..200).map(|index| number(&format!("a{index}"), index)).collect();
    attributes.push(pair("req", text("REQ-F-LATE-001")));
    let many: Vec<String> = (100..200).map(|index| format!("REQ-F-MANY-{index}")).collect();
    let long = format!("{} REQ-F-LONG-001", "x".repeat(level::VALUE_BYTES_MAX));
    let spans = vec![
        Span { attributes, ..span() },
        Span { attributes: texts(&[("req", &many.join(","))]), ..span() },
        Span { attributes: texts(&[("req", &long), ("sea.flow", &"ü".repeat(5000))]), ..span() },
    ];
    let tagger = Tag::default().tagger(&Interest::default()).unwrap();
    let body = traces(vec![], vec![], spans);
    tagger.process(Batch::Telemetry(telemetry(Signal::Traces, body.clone())), &mut Vec::new()).unwrap();
    let (rows, cut) = tagger.plans[0].0.rows(&body).unwrap();
    assert_eq!(cut, Cut { attributes: 1, values: 2, keys: 68, ..Cut::default() });
    assert_eq!(rows.len(), 32 + 1);
    assert_eq!(rows.text(rows.rows()[32].flow).len(), level::VALUE_BYTES_MAX);
    let long = format!("{} REQ-F-LONG-001", "x".repeat(level::BODY_BYTES_MAX));
    let body = logs(vec![], vec![log(text(&long))]);
    tagger.process(Batch::Telemetry(telemetry(Signal::Logs, body.clone())), &mut Vec::new()).unwrap();
    let (rows, cut) = tagger.plans[2].0.rows(&body).unwrap();
    assert_eq!((rows.len(), cut), (0, Cut { bodies: 1, ..Cut::default() }));
    assert_eq!(unstruck(), [""; 0]);
}

#[test]
fn a_request_that_would_yield_too_many_rows_is_refused() {
    let keys: Vec<String> = (100..132).map(|index| format!("REQ-F-MANY-{index}")).collect();
    let body =
        traces(texts(&[("req", &keys.join(","))]), vec![], vec![Span::default(); plan::ROWS_MAX / 32 + 1]);
    let tagger = Tag::default().tagger(&Interest::default()).unwrap();
    let refusal = tagger.plans[0].0.rows(&body).unwrap_err();
    assert!(!refusal.is_retryable());
    assert!(refusal.to_string().contains("send smaller batches"), "{refusal}");
}

pub fn telemetry(signal: Signal, body: Vec<u8>) -> Telemetry {
    use homeostat_pipeline::batch::{Compression, Content, Frame};
    let body = bytes::Bytes::from(body);
    let frame = Frame { content: Content::Protobuf, compression: Compression::None, bytes: body.clone() };
    Telemetry { signal, frame, body, records: 1 }
}

#[test]
fn telemetry_goes_on_untouched_and_evidence_follows_it() {
    let tagger = Tag::default().tagger(&Interest::default()).unwrap();
    let keyed = traces(vec![], vec![], vec![Span { attributes: texts(&[("req", "REQ-F-A-001")]), ..span() }]);
    for (signal, body, batches) in [
        (Signal::Traces, keyed.clone(), 2),
        (Signal::Traces, traces(vec![], vec![], vec![span()]), 1),
        (Signal::Metrics, keyed, 1),
        (Signal::Logs, Vec::new(), 1),
    ] {
        let sent = telemetry(signal, body);
        let mut out = Vec::new();
        tagger.process(Batch::Telemetry(sent.clone()), &mut out).unwrap();
        assert_eq!(out.len(), batches, "{signal:?}");
        assert!(matches!(&out[0], Batch::Telemetry(passed) if *passed == sent));
        assert!(out.get(1).is_none_or(|batch| matches!(batch, Batch::Evidence(rows) if rows.len() == 1)));
    }
    let mut out = Vec::new();
    tagger.process(Batch::Alerts(Vec::new()), &mut out).unwrap();
    assert!(matches!(&out[..], [Batch::Alerts(_)]));
}

#[test]
fn wrong_settings_are_said_where_they_stand() {
    let check = |yaml: &str, expected: &str| {
        let node = homeostat_config::parse("tag.yaml", yaml).unwrap();
        let said = match read::<Tag>(&node) {
            Ok(tag) => {
                let files =
                    Files { base: ".".into(), embedded: BTreeMap::new(), parse: homeostat_config::parse };
                let problems = tag.check(&files);
                problems
                    .iter()
                    .map(|problem| format!("{} {problem}", problem.is_warning))
                    .collect::<Vec<_>>()
                    .join("\n")
            }
            Err(problem) => problem.to_string(),
        };
        assert!(said.contains(expected), "{yaml}: {said}");
    };
    check("key: {}", "tag.yaml:1:1: unknown key `key` (did you mean \"keys\"?)");
    check("keys: { profile: aisdl }", "`aisdl` is none of `default`, `aisdlc` (did you mean \"aisdlc\"?)");
    check("keys: { pattern: '[' }", "false tag.yaml:1:18: `[` is no regular expression");
    check("keys: { pattern: '[A-Z]+-\\d+' }", "true tag.yaml:1:18: `[A-Z]+-\\d+` begins with no literal");
    check("keys: { pattern: 'SHOP-\\d+', profile: aisdlc }", "`profile` and `pattern` exclude each other");
    check("aliases: { sea.flo: [x] }", "`sea.flo` is none of");
    check("aliases: { sea.flow: [''] }", "false an alias of `sea.flow` is empty");
    check("expect: { trace: {} }", "`trace` is none of");
    let page: String = include_str!("../mod.rs")
        .lines()
        .skip_while(|line| *line != "//! ```yaml")
        .skip(2)
        .take_while(|line| *line != "//! ```")
        .map(|line| format!("{}\n", line.trim_start_matches("//! ")))
        .collect();
    assert!(settings(&page).tagger(&Interest::default()).is_ok());
}
