//! `nats` against a real nats-server: what is in the stream afterwards, whatever happened to the server.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use homeostat_pipeline::finding::{Finding, Transition};
use homeostat_pipeline::ledger::LedgerEntry;
use homeostat_tests::findings::{Opened, at, behavior, deviation, entries, notice, open, step};
use homeostat_tests::logged::Log;
use homeostat_tests::messages::{Event, stored};
use homeostat_tests::nats::Nats;
use homeostat_tests::process::eventually;
use serde_json::{Value, json};

/// Short, so that what fails on purpose fails soon.
fn settings(nats: &Nats) -> Value {
    json!({ "servers": [nats.url()], "timeout": "2s", "connect_timeout": "2s",
        // Longer than any of these tests, whatever the machine: what is counted below is the server's own knowledge.
        "stream": { "duplicate_window": "1h" } })
}

async fn exporter(nats: &Nats) -> Opened {
    open("nats", settings(nats)).await
}

async fn context(nats: &Nats) -> Context {
    jetstream::new(nats.client().await)
}

/// A life in four entries, which are five events.
fn life() -> Vec<LedgerEntry> {
    entries(vec![
        deviation("f1", 0, 1, Transition::Detected),
        Finding::Behaviors { behaviors: vec![behavior("A", at(0), 1, 10), behavior("B", at(0), 1, 20)] },
        deviation("f1", 0, 2, Transition::Recovering),
        deviation("f1", 0, 3, Transition::Resolved),
    ])
}

fn subjects(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.subject.as_str()).collect()
}

const SUBJECTS: [&str; 5] = [
    "sea.event.deviation_detected.v1.critical.orders.REQ-NFR-PERF-001",
    "sea.event.behavior_observed.v1._.orders.REQ-NFR-PERF-001",
    "sea.event.behavior_observed.v1._.orders.REQ-NFR-PERF-001",
    "sea.event.deviation_recovering.v1.critical.orders.REQ-NFR-PERF-001",
    "sea.event.deviation_resolved.v1.critical.orders.REQ-NFR-PERF-001",
];

#[tokio::test]
async fn the_stream_is_made_as_documented_and_repeats_change_nothing() {
    let nats = Nats::start().await;
    let exporter = exporter(&nats).await;
    for _ in 0..3 {
        assert_eq!(exporter.until_taken(&life()).await, []);
    }
    let events = stored(&nats.client().await).await;
    assert_eq!(subjects(&events), SUBJECTS);
    let body = &events[0].body;
    assert_eq!(body["specversion"], "1.0");
    assert_eq!(body["type"], "sea.event.deviation_detected.v1");
    assert_eq!(body["id"], events[0].id);
    assert_eq!(body["data"]["current_value"], 850.0);

    let mut stream = context(&nats).await.get_stream("SEA_EVENTS").await.unwrap();
    let config = stream.info().await.unwrap().config.clone();
    assert_eq!(config.subjects, ["sea.event.>"]);
    assert_eq!((config.storage, config.discard), (StorageType::File, DiscardPolicy::New));
    assert_eq!((config.max_age, config.num_replicas), (Duration::from_secs(7 * 86_400), 1));
}

#[tokio::test]
async fn headers_say_what_the_vocabulary_says() {
    let nats = Nats::start().await;
    exporter(&nats).await.until_taken(&life()).await;
    let stream = context(&nats).await.get_stream("SEA_EVENTS").await.unwrap();
    let message = stream.get_raw_message(1).await.unwrap();
    let header = |name: &str| message.headers.get(name).map_or("", |value| value.as_str()).to_owned();
    let uid = step("f1", 0, 1, Transition::Detected).uid;
    assert_eq!(header("Nats-Msg-Id"), format!("{uid}:1"));
    assert_eq!(header("X-Correlation-Id"), uid);
    assert_eq!(header("X-Causation-Id"), "local:journal:100");
    assert_eq!(header("X-Event-Version"), "1");
    assert_eq!(header("Content-Type"), "application/cloudevents+json");
    assert!(header("traceparent").starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
}

#[tokio::test]
async fn the_flat_layout_and_another_prefix_are_kept() {
    let nats = Nats::start().await;
    let mut settings = settings(&nats);
    settings["subject_layout"] = json!("flat");
    settings["prefix"] = json!("acme.sea");
    let exporter = open("nats", settings).await;
    exporter.until_taken(&entries(vec![deviation("f1", 0, 1, Transition::Detected)])).await;
    let events = stored(&nats.client().await).await;
    assert_eq!(subjects(&events), ["acme.sea.event.deviation_detected.v1"]);
}

#[tokio::test]
async fn a_stream_that_covers_the_subjects_is_used() {
    let nats = Nats::start().await;
    let context = context(&nats).await;
    let own = Config { name: "OURS".to_owned(), subjects: vec!["sea.>".to_owned()], ..Config::default() };
    context.create_stream(own).await.unwrap();
    exporter(&nats).await.until_taken(&life()).await;
    assert!(context.get_stream("SEA_EVENTS").await.is_err(), "no second stream was made");
    let mut stream = context.get_stream("OURS").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 5);
}

#[tokio::test]
async fn a_stream_in_the_way_is_named_and_once_it_is_widened_all_arrives() {
    let nats = Nats::start().await;
    let context = context(&nats).await;
    let part = Config {
        name: "PART".to_owned(),
        subjects: vec!["sea.event.deviation_detected.v1.>".to_owned()],
        ..Config::default()
    };
    context.create_stream(&part).await.unwrap();
    let exporter = exporter(&nats).await;
    eventually("the stream in the way is named", async || {
        exporter.refusal(&life()).await.contains("PART takes a part of sea.event.>").then_some(())
    })
    .await;
    context.update_stream(Config { subjects: vec!["sea.event.>".to_owned()], ..part }).await.unwrap();
    assert_eq!(exporter.until_taken(&life()).await, []);
    let mut stream = context.get_stream("PART").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 5);
}

#[tokio::test]
async fn a_server_that_is_down_at_first_gets_everything_once() {
    let nats = Nats::stopped();
    let exporter = exporter(&nats).await;
    let reason = exporter.refusal(&life()).await;
    assert!(reason.contains(&format!("no connection to {}", nats.url())), "{reason}");
    nats.restart().await;
    assert_eq!(exporter.until_taken(&life()).await, []);
    assert_eq!(subjects(&stored(&nats.client().await).await), SUBJECTS);
}

#[tokio::test]
async fn a_server_that_is_killed_in_between_gets_everything_once() {
    let nats = Nats::start().await;
    let exporter = exporter(&nats).await;
    let all = life();
    assert_eq!(exporter.until_taken(&all[..2]).await, []);
    nats.kill();
    exporter.refusal(&all[1..]).await;
    nats.restart().await;
    // Entries that were taken before come again, as after a cursor that did not move.
    assert_eq!(exporter.until_taken(&all[1..]).await, []);
    assert_eq!(subjects(&stored(&nats.client().await).await), SUBJECTS);
}

#[tokio::test]
async fn a_server_that_stands_still_is_noticed_and_gets_everything_once() {
    let nats = Nats::start().await;
    let exporter = exporter(&nats).await;
    let all = life();
    assert_eq!(exporter.until_taken(&all[..1]).await, []);
    nats.pause();
    exporter.refusal(&all).await;
    exporter.refusal(&all).await;
    nats.resume();
    assert_eq!(exporter.until_taken(&all).await, []);
    let events = stored(&nats.client().await).await;
    let mut seen = subjects(&events);
    // What was sent into the standstill is stored when it ends, so only the set is sure.
    seen.sort_unstable();
    let mut expected = SUBJECTS;
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_stream_that_is_deleted_is_made_again() {
    let nats = Nats::start().await;
    let exporter = exporter(&nats).await;
    exporter.until_taken(&life()[..1]).await;
    context(&nats).await.delete_stream("SEA_EVENTS").await.unwrap();
    assert_eq!(exporter.until_taken(&life()).await, []);
    assert_eq!(subjects(&stored(&nats.client().await).await), SUBJECTS);
}

#[tokio::test]
async fn a_full_stream_makes_events_wait_and_loses_none() {
    let nats = Nats::start().await;
    let context = context(&nats).await;
    let full = Config {
        name: "SMALL".to_owned(),
        subjects: vec!["sea.event.>".to_owned()],
        max_messages: 1,
        discard: DiscardPolicy::New,
        ..Config::default()
    };
    context.create_stream(&full).await.unwrap();
    let exporter = exporter(&nats).await;
    eventually("the server says that the stream is full", async || {
        exporter.refusal(&life()).await.contains("maximum messages exceeded").then_some(())
    })
    .await;
    context.update_stream(Config { max_messages: 100, ..full }).await.unwrap();
    assert_eq!(exporter.until_taken(&life()).await, []);
    let mut stream = context.get_stream("SMALL").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 5);
}

#[tokio::test]
async fn an_event_larger_than_the_server_takes_is_refused_alone() {
    let nats = Nats::start_with("max_payload: 8KB").await;
    let exporter = exporter(&nats).await;
    let all = entries(vec![
        deviation("f1", 0, 1, Transition::Detected),
        notice(&"x".repeat(9_000)),
        deviation("f1", 0, 2, Transition::Resolved),
    ]);
    let rejects = exporter.until_taken(&all).await;
    let refused: Vec<u64> = rejects.iter().map(|reject| reject.sequence).collect();
    assert_eq!(refused, [2]);
    assert!(rejects[0].reason.contains("limit"), "{}", rejects[0].reason);
    assert_eq!(stored(&nats.client().await).await.len(), 2);
}

#[tokio::test]
async fn an_event_larger_than_the_stream_takes_is_refused_alone() {
    let nats = Nats::start().await;
    let config = Config {
        name: "SMALL".to_owned(),
        subjects: vec!["sea.event.>".to_owned()],
        max_message_size: 8_000,
        ..Config::default()
    };
    context(&nats).await.create_stream(config).await.unwrap();
    let all = entries(vec![notice(&"x".repeat(9_000)), deviation("f1", 0, 1, Transition::Detected)]);
    let rejects = exporter(&nats).await.until_taken(&all).await;
    assert_eq!(rejects.iter().map(|reject| reject.sequence).collect::<Vec<_>>(), [1]);
    let mut stream = context(&nats).await.get_stream("SMALL").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
}

#[tokio::test]
async fn more_events_than_may_be_in_flight_arrive_in_order() {
    let nats = Nats::start().await;
    let mut settings = settings(&nats);
    settings["in_flight"] = json!(7);
    let exporter = open("nats", settings).await;
    let all = entries((0..100).map(|number| notice(&format!("{number}"))).collect());
    assert_eq!(exporter.until_taken(&all).await, []);
    let events = stored(&nats.client().await).await;
    let messages: Vec<String> = events.iter().map(|event| event.text("message")).collect();
    assert_eq!(messages, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn wrong_credentials_wait_until_they_are_right_and_are_never_shown() {
    let log = Log::begin();
    let right = "authorization { user: alice, password: \"right-horse\" }";
    let nats = Nats::start_with(right).await;
    let address = nats.address();
    let attempts = [
        json!({ "servers": [format!("nats://alice:wrong-horse@{address}")], "connect_timeout": "2s" }),
        json!({ "servers": [nats.url()], "connect_timeout": "2s", "auth": { "user": "alice", "password": "wrong-horse" } }),
        json!({ "servers": [nats.url()], "connect_timeout": "2s", "auth": { "token": "wrong-horse" } }),
    ];
    for settings in attempts {
        let exporter = open("nats", settings).await;
        eventually("the server's reason is said", async || {
            let reason = exporter.refusal(&life()).await;
            assert!(!reason.contains("horse"), "{reason}");
            reason.to_lowercase().contains("authorization violation").then_some(())
        })
        .await;
    }
    for settings in [
        json!({ "servers": [format!("nats://alice:right-horse@{address}")] }),
        json!({ "servers": [nats.url()], "auth": { "user": "alice", "password": "right-horse" } }),
    ] {
        assert_eq!(open("nats", settings).await.until_taken(&life()).await, []);
    }
    assert_eq!(log.lines_with("events go to NATS").len(), 2, "the log was heard");
    assert_eq!(log.lines_with("horse"), Vec::<String>::new());
}
