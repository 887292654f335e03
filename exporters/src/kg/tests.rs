//! The graph against itself: rebuilt, repeated, in any order of repeats, and at a real endpoint.

use std::collections::BTreeMap;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::entry::Offset;
use homeostat_pipeline::finding::{
    Behavior, Deviation, Finding, MeasureValue, ModelChanged, Requirement, RequirementSource, Status,
    Threshold, Transition, behavior_uid, deviation_uid,
};
use homeostat_pipeline::ledger::{Ledger, LedgerEntry};
use oxigraph::sparql::SparqlEvaluator;
use oxigraph::store::Store;
use serde_json::json;

use super::describe::BEHAVIOR_QUADS_MAX;
use super::graph::nquads;
use super::*;

const NODE: &str = "sea:auth:Login";
const KEY: &str = "REQ-NFR-PERF-001";

/// The start of the window with this number.
fn at(window: i64) -> Timestamp {
    Timestamp::from_millis(1_764_770_400_000 + window * 300_000)
}

fn behavior(node: &str, window: i64, version: u32) -> Behavior {
    let measure = |value| MeasureValue { value, unit: "ms".into() };
    Behavior {
        uid: behavior_uid(node, at(window), at(window + 1)),
        version,
        spec_node_id: node.into(),
        context: "auth".into(),
        flow: "Login".into(),
        window_start: at(window),
        window_end: at(window + 1),
        count: 100 + u64::from(version),
        errors: 1,
        measures: (0..12)
            .map(|number| (format!("p{}_latency_ms", 84 + number), measure(f64::from(number) + 0.1)))
            .collect(),
        req_ids: (1..9).map(|number| format!("REQ-NFR-PERF-00{number}")).collect(),
        trace_ids: (0..8).map(|number| format!("{number:032x}")).collect(),
        confidence: 1.0,
    }
}

fn behaviors(windows: std::ops::Range<i64>) -> Vec<Finding> {
    windows
        .map(|window| Finding::Behaviors {
            behaviors: vec![behavior(NODE, window, 1), behavior("sea:orders:Place Order", window, 1)],
        })
        .collect()
}

fn deviation(window: i64, version: u32, status: Status) -> Deviation {
    let transition = if status == Status::Open { Transition::Detected } else { Transition::Resolved };
    let text = json!({
        "deviation_id": "DEV-20251203-001", "uid": deviation_uid("f", at(0)), "fingerprint": "f", "status": status,
        "transition": transition, "reason": "\"} ; DROP ALL #\n", "at": at(window + 1), "version": version,
        "req_id": KEY, "also_req_ids": [], "title": "Login is fast", "deviation_type": "performance_degradation",
        "severity": "critical", "metric_name": "p95_latency_ms", "unit": "ms", "direction": "lower_is_better",
        "current_value": 850.0, "worst_value": 910.5, "threshold_value": 500.0, "threshold_level": "critical",
        "baseline_value": null, "deviation_percentage": null,
        "rule": { "id": "p95-critical", "condition": "value > threshold.critical", "for_seconds": 0.0, "model_hash": "m1",
                  "requirement_source": null },
        "window": { "kind": "tumbling", "start": at(window), "end": at(window + 1), "samples": "120" },
        "started_at": at(0), "detected_at": at(1), "duration_seconds": 300.0, "spec_node_id": NODE,
        "correlation": { "status": "matched", "confidence": 1.0, "method": "attribute", "manifest_hash": null },
        "evidence": { "kg_graph": format!("urn:homeostat:deviation:{}", deviation_uid("f", at(0))),
                      "trace_ids": ["0af7651916cd43dd8448eb211c80319c"], "counts": { "total": "120", "errors": "3" } },
        "context": { "service": "login", "environment": null, "alert_id": null, "labels": { "region": "eu" } },
        "source": { "receiver": "otlp" }, "telemetry_links": ["https://example.org/a"], "actions": [],
        "intent_id": null, "resolved_at": null, "verified_at": null, "resolution": null, "previous_uid": null,
    });
    serde_json::from_value(text).expect("a deviation")
}

fn opened(window: i64, version: u32) -> Finding {
    Finding::Deviation(Box::new(deviation(window, version, Status::Open)))
}

fn model(hash: &str, window: i64) -> Finding {
    let threshold = Threshold {
        unit: "ms".into(),
        direction: "lower_is_better".into(),
        levels: BTreeMap::from([("critical".into(), 500.0), ("target".into(), 250.0)]),
        source: Some(RequirementSource {
            doc: "docs/auth.md".into(),
            line: Some(42),
            text: Some("< 500ms".into()),
        }),
    };
    let requirement = Requirement {
        req_id: KEY.into(),
        title: Some("Login response time < 500ms".into()),
        requirement_type: Some("performance".into()),
        spec_node_id: Some(NODE.into()),
        traces_to: [("sds", "SDS-030"), ("prd", "PRD-010"), ("adr", "ADR-029")]
            .map(|(kind, id)| (kind.to_owned(), vec![id.to_owned()]))
            .into(),
        thresholds: BTreeMap::from([("p95_latency_ms".into(), threshold)]),
    };
    Finding::Model(ModelChanged {
        model_hash: hash.into(),
        version: "1.0".into(),
        at: at(window),
        previous_hash: (hash != "m1").then(|| "m1".into()),
        requirements: vec![requirement],
    })
}

fn ledger(findings: &[Finding]) -> (Ledger, Vec<LedgerEntry>) {
    let mut ledger = Ledger::memory();
    let entries = findings
        .iter()
        .enumerate()
        .flat_map(|(offset, finding)| {
            let finding = std::slice::from_ref(finding);
            ledger.append(finding, at(0), Offset(offset as u64)).expect("memory takes entries")
        })
        .collect();
    (ledger, entries)
}

/// A life with everything in it: retention, citations, corrections, a rise of the version, a new model.
fn story() -> Vec<Finding> {
    let mut findings = vec![model("m1", 0)];
    findings.extend(behaviors(0..3));
    findings.push(opened(2, 1));
    findings.extend(behaviors(3..20));
    findings.push(Finding::Behaviors { behaviors: vec![behavior(NODE, 18, 2), behavior(NODE, 1, 2)] });
    findings.push(opened(19, 2));
    findings.push(model("m2", 20));
    findings.push(model("m3", 21));
    findings.extend(behaviors(20..23));
    findings.push(Finding::Deviation(Box::new(deviation(22, 3, Status::Resolved))));
    findings
}

fn graph(findings: &[Finding]) -> Graph {
    let mut graph = Graph::new(Shape::default()).expect("an empty graph");
    findings.iter().for_each(|finding| graph.apply(finding).expect("applied"));
    graph
}

fn windows(graph: &Graph, node: &str) -> Vec<i64> {
    let query = format!(
        "PREFIX prov: <http://www.w3.org/ns/prov#> PREFIX sosa: <http://www.w3.org/ns/sosa/>
         SELECT ?at WHERE {{ ?o sosa:hasFeatureOfInterest <http://domainforge.ai/sea#{node}> ; prov:startedAtTime ?at }} ORDER BY ?at"
    );
    let answer = graph.query(&query).expect("answered");
    let number = |text: &str| Timestamp::parse(text).expect("a time").since(at(0)).as_secs() as i64 / 300;
    answer.rows.iter().map(|row| number(&row[0])).collect()
}

#[test]
fn a_rebuild_from_the_ledger_gives_the_same_bytes() {
    let story = story();
    let (ledger, _) = ledger(&story);
    let live = graph(&story).nquads().expect("written");
    assert!(live.lines().count() > 200);
    for _ in 0..2 {
        assert_eq!(Graph::rebuild(&ledger.reader()).and_then(|graph| graph.nquads()).expect("rebuilt"), live);
    }
    assert!(live.lines().is_sorted());
    assert!(!live.contains("_:"), "no blank nodes");
}

#[test]
fn any_part_of_the_story_may_come_again_and_nothing_changes() {
    let story = story();
    let expected = graph(&story).nquads().expect("written");
    for from in 0..story.len() {
        let mut graph = graph(&story);
        story[from..].iter().for_each(|finding| graph.apply(finding).expect("applied"));
        assert_eq!(graph.nquads().expect("written"), expected, "from {from}");
        graph.apply(&story[from]).expect("applied");
        assert_eq!(graph.nquads().expect("written"), expected, "only {from}");
    }
}

#[test]
fn the_last_twelve_behaviors_stay_and_those_that_a_deviation_cites() {
    let mut findings = behaviors(0..3);
    findings.push(opened(2, 1));
    findings.extend(behaviors(3..30));
    let graph = graph(&findings);
    let last: Vec<i64> = (18..30).collect();
    assert_eq!(windows(&graph, "auth:Login"), [&[0, 2], &last[..]].concat());
    assert_eq!(windows(&graph, "orders:Place%20Order"), last);
}

#[test]
fn a_behavior_takes_at_most_its_quads_and_says_what_it_is() {
    let full = describe::behavior(&behavior(NODE, 0, 1), &Namespaces::default());
    assert_eq!(full.triples.len(), BEHAVIOR_QUADS_MAX);
    let traces = full.triples.iter().filter(|triple| triple.predicate.as_str().ends_with("#traceId")).count();
    assert!(traces > 0, "some of what is left goes to traces");
    let uid = behavior_uid(NODE, at(0), at(1));
    let flow = format!(
        "<http://domainforge.ai/sea#auth:Login> <http://domainforge.ai/sea#observed_behavior> <urn:homeostat:behavior:{uid}>"
    );
    assert!(full.triples.iter().any(|triple| triple.to_string() == flow), "{flow}");
}

#[test]
fn an_older_version_never_overwrites_a_newer_one() {
    let correction = |version| Finding::Behaviors { behaviors: vec![behavior(NODE, 0, version)] };
    let newest = graph(&[correction(3), opened(2, 5), model("m2", 9)]).nquads().expect("written");
    let older = [correction(3), opened(2, 5), model("m2", 9), correction(2), opened(1, 4), model("m1", 3)];
    assert_eq!(graph(&older).nquads().expect("written"), newest);
}

#[test]
fn a_model_stays_while_it_holds_or_a_deviation_names_it() {
    let story = [model("m1", 0), opened(0, 1), model("m2", 1), model("m3", 2)];
    let query = "SELECT DISTINCT ?g WHERE { GRAPH ?g { ?m a <https://homeostat.dev/ns#Model> } } ORDER BY ?g";
    let answer = graph(&story).query(query).expect("answered");
    assert_eq!(answer.rows, [["urn:homeostat:spec:m1"], ["urn:homeostat:spec:m3"]]);
}

#[test]
fn the_walk_goes_from_a_deviation_to_its_requirement_flow_and_traces() {
    let mut findings = vec![model("m1", 0)];
    findings.extend(behaviors(0..3));
    findings.push(opened(2, 1));
    let answer = graph(&findings).query(WALK).expect("answered");
    let expected = [
        ("deviation", "DEV-20251203-001"),
        ("severity", "critical"),
        ("status", "open"),
        ("requirement", KEY),
        ("title", "Login response time < 500ms"),
        ("sds", "SDS-030"),
        ("flow", NODE),
        ("measure", "p95_latency_ms"),
        ("value", "910.5"),
        ("behaviors", "2"),
        ("traces", "0af7651916cd43dd8448eb211c80319c"),
    ];
    let [row] = &answer.rows[..] else { panic!("{answer}") };
    let found: Vec<(&str, &str)> =
        answer.columns.iter().map(String::as_str).zip(row.iter().map(String::as_str)).collect();
    assert_eq!(found, expected);
    assert!(answer.to_string().contains("  requirement  REQ-NFR-PERF-001\n"), "{answer}");
}

#[test]
fn one_query_goes_from_a_trace_up_to_the_decision() {
    let query = "PREFIX homeo: <https://homeostat.dev/ns#> PREFIX oslc_rm: <http://open-services.net/ns/rm#>
        PREFIX dcterms: <http://purl.org/dc/terms/>
        SELECT ?deviation ?adr WHERE {
          ?d homeo:traceId \"0af7651916cd43dd8448eb211c80319c\" ; homeo:violates ?r ; dcterms:identifier ?deviation .
          ?r oslc_rm:specifiedBy/oslc_rm:satisfies/oslc_rm:satisfies/dcterms:identifier ?adr }";
    let answer = graph(&[model("m1", 0), opened(0, 1)]).query(query).expect("answered");
    assert_eq!(answer.rows, [["DEV-20251203-001", "ADR-029"]]);
}

#[test]
fn a_mistake_in_a_query_is_named() {
    let error = graph(&[]).query("SELECT ?x WHERE { ?x ").expect_err("not SPARQL").to_string();
    assert!(error.contains("1:"), "{error}");
    let answer = graph(&[]).query("ASK { ?s ?p ?o }").expect("answered");
    assert_eq!((answer.columns, answer.rows), (vec!["answer".to_owned()], vec![vec!["false".to_owned()]]));
}

#[test]
fn settings_that_cannot_work_are_said() {
    let files = Files { base: ".".into(), embedded: BTreeMap::new(), parse: |_, _| unreachable!() };
    let at = |value: &str| {
        let position = homeostat_pipeline::settings::Position { source: "x".into(), line: 1, column: 1 };
        Some(At { at: position, value: value.to_owned() })
    };
    let said =
        |kg: Kg| kg.check(&files).into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ");
    assert_eq!(said(Kg::default()), "");
    assert_eq!(said(Kg { endpoint: at("http://127.0.0.1:7878/"), ..Kg::default() }), "");
    for (endpoint, word) in [
        ("https://kg.example.org", "http://"),
        ("nonsense", "http://"),
        ("http://user:word@kg.example.org", "credentials"),
    ] {
        let said = said(Kg { endpoint: at(endpoint), ..Kg::default() });
        assert!(said.contains(word) && !said.contains("word@"), "{said}");
    }
    let headers = BTreeMap::from([("authorization".to_owned(), Secret::new("a\nb"))]);
    assert!(said(Kg { endpoint: at("http://h"), headers, ..Kg::default() }).contains("`authorization`"));
    let namespaces = Namespaces { sea: "not an iri".into(), ..Namespaces::default() };
    assert!(said(Kg { namespaces, ..Kg::default() }).contains("`namespaces.sea`"));
}

/// A SPARQL endpoint on a port of its own, over oxigraph's store.
mod server {
    use std::convert::Infallible;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicU32, Ordering};

    use http::{Response, StatusCode};
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;

    use super::*;

    pub struct Server {
        pub store: Store,
        pub address: SocketAddr,
        /// How many of the next requests are answered with this status instead of being carried out.
        pub failing: Arc<(AtomicU32, StatusCode)>,
    }

    pub async fn start(status: StatusCode) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let store = Store::new().expect("a store");
        let failing = Arc::new((AtomicU32::new(0), status));
        let (for_store, for_failing) = (store.clone(), Arc::clone(&failing));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (store, failing) = (for_store.clone(), Arc::clone(&for_failing));
                let service = service_fn(move |request| answer(store.clone(), Arc::clone(&failing), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Server { store, address, failing }
    }

    async fn answer(
        store: Store,
        failing: Arc<(AtomicU32, StatusCode)>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let said = |status, words: String| {
            let mut response = Response::new(Full::new(Bytes::from(words)));
            *response.status_mut() = status;
            Ok(response)
        };
        let is_update = request.uri().path() == "/update"
            && request.headers()["content-type"] == "application/sparql-update"
            && request.headers()["authorization"] == "Basic eDp5";
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        if failing.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return said(failing.1, "not now".to_owned());
        }
        if !is_update {
            return said(StatusCode::NOT_FOUND, "no such path".to_owned());
        }
        let text = std::str::from_utf8(&body).expect("UTF-8");
        match SparqlEvaluator::new().parse_update(text) {
            Ok(update) => match update.on_store(&store).execute() {
                Ok(()) => said(StatusCode::NO_CONTENT, String::new()),
                Err(error) => said(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            },
            Err(error) => said(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }
    use bytes::Bytes;
    use http::Request;
}

use http::StatusCode;

fn endpoint(server: &server::Server, ledger: Option<&Ledger>) -> Endpoint {
    let uri = format!("http://{}/update", server.address).parse().expect("a URI");
    let headers =
        HeaderMap::from_iter([(http::header::AUTHORIZATION, HeaderValue::from_static("Basic eDp5"))]);
    let target = Target { uri, headers, timeout: Duration::from_secs(120) };
    let ledger =
        ledger.map(|ledger| Arc::new(ledger.reader()) as Arc<dyn homeostat_pipeline::ledger::Replay>);
    Endpoint::new(target, Shape::default(), ledger)
}

#[tokio::test]
async fn an_endpoint_holds_the_same_graph_however_often_entries_come() {
    let server = server::start(StatusCode::OK).await;
    let story = story();
    let (ledger, entries) = ledger(&story);
    let expected = graph(&story).nquads().expect("written");
    assert_eq!(endpoint(&server, Some(&ledger)).export(&entries).await, Ok(vec![]));
    assert_eq!(nquads(&server.store).expect("written"), expected);
    for from in 0..entries.len() {
        // As after a restart: a new exporter, whose cursor is behind.
        assert_eq!(endpoint(&server, Some(&ledger)).export(&entries[from..]).await, Ok(vec![]));
        assert_eq!(nquads(&server.store).expect("written"), expected, "from {from}");
    }
}

#[tokio::test]
async fn an_endpoint_refuses_an_older_version_by_itself() {
    let server = server::start(StatusCode::OK).await;
    let (_, newer) = ledger(&[opened(2, 5)]);
    let (_, older) = ledger(&[opened(1, 4)]);
    assert_eq!(endpoint(&server, None).export(&newer).await, Ok(vec![]));
    let expected = nquads(&server.store).expect("written");
    assert_eq!(endpoint(&server, None).export(&older).await, Ok(vec![]));
    assert_eq!(nquads(&server.store).expect("written"), expected);
}

#[tokio::test]
async fn an_endpoint_that_is_down_gets_everything_when_it_is_back() {
    use std::sync::atomic::Ordering;
    let server = server::start(StatusCode::SERVICE_UNAVAILABLE).await;
    let story = story();
    let (ledger, entries) = ledger(&story);
    let exporter = endpoint(&server, Some(&ledger));
    server.failing.0.store(2, Ordering::SeqCst);
    for _ in 0..2 {
        let refusal = exporter.export(&entries).await.expect_err("down");
        assert!(refusal.is_retryable() && refusal.to_string().contains("503"), "{refusal}");
    }
    assert_eq!(exporter.export(&entries).await, Ok(vec![]));
    assert_eq!(nquads(&server.store).expect("written"), graph(&story).nquads().expect("written"));
}

#[tokio::test]
async fn what_an_endpoint_refuses_for_good_is_a_reject_and_the_rest_is_written() {
    use std::sync::atomic::Ordering;
    let server = server::start(StatusCode::BAD_REQUEST).await;
    let (_, entries) = ledger(&[opened(0, 1), model("m1", 0)]);
    server.failing.0.store(1, Ordering::SeqCst);
    let rejects = endpoint(&server, None).export(&entries).await.expect("answered");
    assert_eq!(rejects.iter().map(|reject| reject.sequence).collect::<Vec<_>>(), [1]);
    assert!(rejects[0].reason.contains("400") && rejects[0].reason.contains("not now"), "{rejects:?}");
    assert_eq!(nquads(&server.store).expect("written"), graph(&[model("m1", 0)]).nquads().expect("written"));
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_named() {
    // Bound but not listening: nobody else gets the port, and nobody answers.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let address = socket.local_addr().expect("an address");
    let target = Target {
        uri: format!("http://{address}/update").parse().expect("a URI"),
        headers: HeaderMap::new(),
        timeout: Duration::from_secs(120),
    };
    let (_, entries) = ledger(&[opened(0, 1)]);
    let refusal =
        Endpoint::new(target, Shape::default(), None).export(&entries).await.expect_err("nobody listens");
    assert!(refusal.is_retryable() && refusal.to_string().contains(&address.to_string()), "{refusal}");
}

fn adjusted(change: &str, version: u32) -> Finding {
    let text = json!({
        "finding": "threshold", "id": "0f9d4c1e-8d1f-5a57-9d5b-0d6d0c8f2a11", "update_id": "HM-20251203-001", "version": version,
        "change": change, "at": at(1), "approved_at": at(0), "req_id": KEY, "measure": "p95_latency_ms", "level": "warning",
        "old": 400.0, "new": 350.0, "unit": "ms", "reason": "tighter \" after", "approved_by": "ada <a@b>", "effective_date": at(1),
        "model_hash": "m1", "void_because": null,
    });
    serde_json::from_value(text).expect("it is a finding")
}

#[test]
fn an_adjusted_threshold_says_who_approved_which_number_and_its_last_step_stays() {
    let names = Namespaces::default();
    let Finding::Threshold(last) = adjusted("effective", 2) else { panic!("it is a threshold") };
    let aggregate = super::describe::adjustment(&last, &names);
    let text: Vec<String> = aggregate.triples.iter().map(ToString::to_string).collect();
    let says = |part: &str| text.iter().any(|triple| triple.contains(part));
    for part in [
        "HM-20251203-001",
        "ThresholdAdjustment>",
        "newValue> \"350",
        "\"effective\"",
        "wasAssociatedWith> <urn:homeostat:agent:ada",
    ] {
        assert!(says(part), "{part}: {text:#?}");
    }
    assert_eq!(aggregate.version, 2);
    let mut index = super::index::Index::new(Shape::default());
    assert_eq!(index.apply(&adjusted("effective", 2)).len(), 1);
}

#[test]
fn the_runbook_of_a_rule_is_in_the_graph() {
    let mut one = deviation(0, 1, Status::Open);
    one.rule.runbook = Some("https://runbooks.example/login".to_owned());
    let aggregate = super::describe::deviation(&one, &Namespaces::default());
    let is_named = |triple: &oxigraph::model::Triple| {
        triple.to_string().contains("runbook> \"https://runbooks.example/login\"")
    };
    assert!(aggregate.triples.iter().any(is_named));
}
