//! Merging before a backend that does as it is told, in paused time.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::refusal::Cause;

/// A body is words with a comma behind each, so that bodies concatenate as protobuf does. Each word is a record.
fn request(text: &str) -> Telemetry {
    let body = Bytes::copy_from_slice(text.as_bytes());
    let frame = Frame { content: Content::Protobuf, compression: Compression::Gzip, bytes: body.clone() };
    Telemetry { signal: Signal::Traces, frame, body, records: text.matches(',').count() as u64 }
}

/// Takes `latency`; refuses for good what holds `bad`, and for now what holds `busy`; panics at `panic`; takes nothing before `up`.
struct Backend {
    latency: Duration,
    up: Instant,
    said: Taken,
    calls: Mutex<Vec<Telemetry>>,
    took: Mutex<Vec<String>>,
}

impl Backend {
    fn new(latency_ms: u64) -> Arc<Backend> {
        Arc::new(Backend {
            latency: Duration::from_millis(latency_ms),
            up: Instant::now(),
            said: Taken::default(),
            calls: Mutex::default(),
            took: Mutex::default(),
        })
    }

    /// What it was sent, in order.
    fn calls(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().map(|telemetry| String::from_utf8(telemetry.body.to_vec()).unwrap()).collect()
    }
}

#[async_trait]
impl TelemetryExporter for Backend {
    async fn export(&self, telemetry: &Telemetry, deadline: Instant) -> Result<Taken, Refusal> {
        self.calls.lock().unwrap().push(telemetry.clone());
        let done = (Instant::now() + self.latency).max(self.up);
        if done > deadline {
            tokio::time::sleep_until(deadline).await;
            return Err(Refusal::busy("too late"));
        }
        tokio::time::sleep_until(done).await;
        let text = String::from_utf8(telemetry.body.to_vec()).unwrap();
        assert_eq!(telemetry.records, text.matches(',').count() as u64);
        assert!(!text.contains("panic"), "as it was told");
        if text.contains("busy") {
            return Err(Refusal::busy("not now"));
        }
        if text.contains("bad") {
            return Err(Refusal::rejected(Cause::Backend, "never"));
        }
        let words = text.split_terminator(',').map(str::to_owned);
        self.took.lock().unwrap().extend(words);
        Ok(self.said.clone())
    }

    fn is_queued(&self) -> bool {
        false
    }
}

fn limits(timeout_ms: u64, records_enough: u64, records_max: Option<u64>) -> Limits {
    Limits { timeout: Duration::from_millis(timeout_ms), records_enough, records_max }
}

fn merging(backend: &Arc<Backend>, limits: Limits, budget: &Budget) -> Arc<Merging> {
    let exporter: Arc<dyn TelemetryExporter> = backend.clone();
    Arc::new(Merging::new("batch", "otlp", &exporter, &limits, budget))
}

/// Sends each text at its time with its time to live, both in ms; gives the outcomes and when they came, in the same order.
async fn send(merging: &Arc<Merging>, requests: &[(u64, u64, &str)]) -> Vec<(u64, Result<Taken, Refusal>)> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (index, (at, live, text)) in requests.iter().enumerate() {
        let (merging, telemetry) = (merging.clone(), request(text));
        let (at, live) = (Duration::from_millis(*at), Duration::from_millis(*live));
        tasks.spawn(async move {
            sleep(at).await;
            let outcome = merging.export(&telemetry, Instant::now() + live).await;
            (index, (start.elapsed().as_millis() as u64, outcome))
        });
    }
    let mut outcomes = BTreeMap::new();
    while let Some(outcome) = tasks.join_next().await {
        let (index, outcome) = outcome.unwrap();
        outcomes.insert(index, outcome);
    }
    outcomes.into_values().collect()
}

fn budget() -> Budget {
    Budget::new(64 << 20)
}

fn kinds(outcomes: &[(u64, Result<Taken, Refusal>)]) -> Vec<(u64, &'static str)> {
    let kind = |outcome: &Result<Taken, Refusal>| match outcome {
        Ok(_) => "taken",
        Err(Refusal::Unavailable { .. }) => "later",
        Err(Refusal::Rejected { .. }) => "never",
    };
    outcomes.iter().map(|(at, outcome)| (*at, kind(outcome))).collect()
}

#[tokio::test(start_paused = true)]
async fn what_arrives_within_the_timeout_goes_as_one_and_each_hears_of_it() {
    let backend = Backend::new(10);
    let merging = merging(&backend, limits(200, 100, None), &budget());
    let outcomes =
        send(&merging, &[(0, 9000, "a,b,"), (50, 9000, "c,"), (199, 9000, "d,"), (201, 9000, "e,")]).await;
    assert_eq!(backend.calls(), ["a,b,c,d,", "e,"]);
    assert_eq!(kinds(&outcomes), [(210, "taken"), (210, "taken"), (210, "taken"), (411, "taken")]);
    let calls = backend.calls.lock().unwrap();
    let compressions: Vec<_> = calls.iter().map(|call| call.frame.compression).collect();
    assert_eq!(compressions, [Compression::None, Compression::Gzip], "what is alone goes as it came");
}

#[tokio::test(start_paused = true)]
async fn enough_records_go_at_once_and_a_large_request_alone() {
    let backend = Backend::new(10);
    let merging = merging(&backend, limits(200, 4, None), &budget());
    let outcomes =
        send(&merging, &[(0, 9000, "a,b,"), (5, 9000, "A,B,C,D,"), (20, 9000, "c,d,e,"), (30, 9000, "f,")])
            .await;
    assert_eq!(backend.calls(), ["A,B,C,D,", "a,b,c,d,e,", "f,"]);
    assert_eq!(kinds(&outcomes), [(30, "taken"), (15, "taken"), (30, "taken"), (240, "taken")]);
}

#[tokio::test(start_paused = true)]
async fn a_merged_request_stays_within_its_limit() {
    let backend = Backend::new(10);
    let merging = merging(&backend, limits(200, 4, Some(5)), &budget());
    send(&merging, &[(0, 9000, "a,b,c,"), (1, 9000, "d,e,f,"), (2, 9000, "g,h,i,j,k,l,")]).await;
    assert_eq!(backend.calls(), ["a,b,c,", "g,h,i,j,k,l,", "d,e,f,"]);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_deadline_makes_all_go_earlier() {
    let backend = Backend::new(10);
    let merging = merging(&backend, limits(200, 100, None), &budget());
    let outcomes = send(&merging, &[(0, 9000, "a,"), (50, 60, "b,")]).await;
    assert_eq!(backend.calls(), ["a,b,"]);
    assert_eq!(kinds(&outcomes), [(90, "taken"), (90, "taken")]);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_two_seconds_whatever_the_timeout() {
    let backend = Backend::new(0);
    let merging = merging(&backend, limits(60_000, 100, None), &budget());
    let outcomes = send(&merging, &[(0, 9000, "a,"), (500, 9000, "b,")]).await;
    assert_eq!(kinds(&outcomes), [(2000, "taken"), (2000, "taken")]);
}

#[tokio::test(start_paused = true)]
async fn who_has_more_time_goes_on_without_those_whose_deadline_passed() {
    let mut backend = Backend::new(10);
    Arc::get_mut(&mut backend).unwrap().up = Instant::now() + Duration::from_secs(3);
    let merging = merging(&backend, limits(100, 100, None), &budget());
    let outcomes = send(&merging, &[(0, 9000, "a,"), (0, 1000, "b,"), (0, 9500, "c,")]).await;
    assert_eq!(backend.calls(), ["a,b,c,", "a,c,"]);
    assert_eq!(kinds(&outcomes), [(3000, "taken"), (1000, "later"), (3000, "taken")]);
    assert_eq!(*backend.took.lock().unwrap(), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_bad_request_does_not_reject_its_neighbours() {
    let backend = Backend::new(10);
    let merging = merging(&backend, limits(100, 100, None), &budget());
    let texts = ["a,", "b,", "c,", "bad,", "e,", "f,", "g,", "h,"];
    let requests: Vec<_> = texts.iter().map(|text| (0, 9000, *text)).collect();
    let outcomes = send(&merging, &requests).await;
    let expected = texts.map(|text| if text == "bad," { "never" } else { "taken" });
    assert_eq!(kinds(&outcomes).into_iter().map(|(_, kind)| kind).collect::<Vec<_>>(), expected);
    let mut took = backend.took.lock().unwrap().clone();
    took.sort();
    assert_eq!(took, ["a", "b", "c", "e", "f", "g", "h"]);
    assert_eq!(backend.calls().len(), 7, "halves find it: 1 + 2 + 2 + 2");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_exporter_panics_at_comes_again_and_its_neighbours_are_taken() {
    let backend = Backend::new(10);
    let merging = merging(&backend, limits(100, 100, None), &budget());
    let outcomes = send(&merging, &[(0, 9000, "a,"), (0, 9000, "panic,"), (0, 9000, "c,")]).await;
    assert_eq!(
        kinds(&outcomes).into_iter().map(|(_, kind)| kind).collect::<Vec<_>>(),
        ["taken", "later", "taken"]
    );
    assert_eq!(*backend.took.lock().unwrap(), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn later_is_everybodys() {
    let backend = Backend::new(10);
    let merging = merging(&backend, limits(100, 100, None), &budget());
    let outcomes = send(&merging, &[(0, 9000, "a,"), (0, 9000, "busy,")]).await;
    assert_eq!(kinds(&outcomes), [(110, "later"), (110, "later")]);
}

#[tokio::test(start_paused = true)]
async fn of_a_partial_success_each_hears_what_is_certain() {
    let mut backend = Backend::new(10);
    Arc::get_mut(&mut backend).unwrap().said = Taken { rejected: 3, share: 0, message: "too old".to_owned() };
    let merging = merging(&backend, limits(100, 100, None), &budget());
    let outcomes = send(&merging, &[(0, 9000, "a,b,c,"), (1, 9000, "d,")]).await;
    let said: Vec<_> = outcomes.into_iter().map(|(_, outcome)| outcome.unwrap()).collect();
    assert_eq!([(said[0].rejected, said[0].share), (said[1].rejected, said[1].share)], [(2, 1), (0, 0)]);
    assert!(said[1].message.contains("3 of the 4 records of 2 requests"), "{}", said[1].message);
}

#[tokio::test(start_paused = true)]
async fn without_memory_for_a_copy_requests_go_one_by_one() {
    let backend = Backend::new(10);
    let budget = Budget::new(1 << 20);
    let charge = || budget.try_charge(None, Class::Telemetry, 4 << 10).ok();
    let full: Vec<Charge> = std::iter::from_fn(charge).collect();
    let merging = merging(&backend, limits(100, 100, None), &budget);
    let outcomes = send(&merging, &[(0, 9000, "a,"), (0, 9000, "b,")]).await;
    assert_eq!(kinds(&outcomes), [(110, "taken"), (110, "taken")]);
    assert_eq!(backend.calls().len(), 2);
    drop(full);
    assert_eq!(budget.used_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_sender_has_gone_is_not_sent() {
    let backend = Backend::new(10);
    let merging = merging(&backend, limits(100, 100, None), &budget());
    let gone = {
        let (merging, telemetry) = (merging.clone(), request("gone,"));
        tokio::spawn(async move { merging.export(&telemetry, Instant::now() + Duration::from_secs(9)).await })
    };
    sleep(Duration::from_millis(10)).await;
    gone.abort();
    send(&merging, &[(0, 9000, "a,")]).await;
    assert_eq!(backend.calls(), ["a,"]);
}

#[tokio::test(start_paused = true)]
async fn signals_are_not_mixed() {
    let backend = Backend::new(10);
    let merging = merging(&backend, limits(100, 100, None), &budget());
    let logs = Telemetry { signal: Signal::Logs, ..request("log,") };
    let deadline = Instant::now() + Duration::from_secs(9);
    let (one, other) = (request("span,"), request("also,"));
    let outcomes = tokio::join!(
        merging.export(&one, deadline),
        merging.export(&logs, deadline),
        merging.export(&other, deadline)
    );
    assert!(outcomes.0.is_ok() && outcomes.1.is_ok() && outcomes.2.is_ok());
    let mut calls: Vec<_> =
        backend.calls.lock().unwrap().iter().map(|call| (call.signal, call.records)).collect();
    calls.sort();
    assert_eq!(calls, [(Signal::Traces, 2), (Signal::Logs, 1)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes whenever: who was told OK has each record at the backend exactly once, who was refused for good has none
    /// there, and only what is at fault is refused for good.
    #[test]
    fn an_outcome_is_the_truth_about_the_senders_own_records(
        arrivals in prop::collection::vec((0u64..600, 1u64..3000, 1usize..6, 0u8..10), 1..60),
        (latency, timeout, enough, max) in (0u64..300, 1u64..400, 1u64..20, 0u64..30),
    ) {
        let name = |index: usize, kind: u8| match kind {
            0 => format!("bad{index}"),
            _ => format!("w{index}"),
        };
        let texts: Vec<String> = arrivals.iter().enumerate().map(|(index, (_, _, words, kind))| {
            (0..*words).map(|word| format!("{}-{word},", name(index, *kind))).collect()
        }).collect();
        let requests: Vec<_> =
            arrivals.iter().zip(&texts).map(|((at, live, ..), text)| (*at, *live, text.as_str())).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let budget = budget();
        let (outcomes, took) = runtime.block_on(async {
            let backend = Backend::new(latency);
            let max = Some(max).filter(|max| *max > 0).map(|max| max.max(enough));
            let merging = merging(&backend, limits(timeout, enough, max), &budget);
            let outcomes = send(&merging, &requests).await;
            // Senders that gave up leave requests under way.
            sleep(Duration::from_secs(10)).await;
            let took = backend.took.lock().unwrap().clone();
            (outcomes, took)
        });
        let count = |word: &str| took.iter().filter(|one| *one == word).count();
        for ((text, (_, live, _, kind)), (_, outcome)) in texts.iter().zip(&arrivals).zip(&outcomes) {
            for word in text.split_terminator(',') {
                match outcome {
                    Ok(taken) => {
                        prop_assert_eq!(taken, &Taken::default());
                        prop_assert_eq!(count(word), 1, "{}", word);
                    }
                    Err(Refusal::Rejected { .. }) => {
                        prop_assert_eq!(*kind, 0);
                        prop_assert_eq!(count(word), 0);
                    }
                    Err(Refusal::Unavailable { .. }) => prop_assert!(count(word) <= 1),
                }
            }
            // With time enough for the wait and every half, nobody is told to come back.
            if *live > 2000 && latency < 20 {
                prop_assert!(!matches!(outcome, Err(Refusal::Unavailable { .. })), "{:?}", outcome);
            }
        }
        prop_assert_eq!(budget.used_bytes(), 0);
    }
}

/// Never answers.
struct Hangs;

#[async_trait]
impl TelemetryExporter for Hangs {
    async fn export(&self, _telemetry: &Telemetry, _deadline: Instant) -> Result<Taken, Refusal> {
        std::future::pending().await
    }

    fn is_queued(&self) -> bool {
        false
    }
}

/// A body that says whether anybody holds it.
struct Body {
    bytes: Vec<u8>,
    _held: Arc<()>,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_held_when_all_senders_have_gone() {
    // Merged; each alone for want of memory; one that waits alone.
    for (count, budget_bytes) in [(5, 64 << 20), (40, 1), (1, 64 << 20)] {
        let (budget, held) = (Budget::new(budget_bytes), Arc::new(()));
        let exporter: Arc<dyn TelemetryExporter> = Arc::new(Hangs);
        let merging = Arc::new(Merging::new("batch", "otlp", &exporter, &limits(100, 50, None), &budget));
        let mut senders = JoinSet::new();
        for number in 0..count {
            let bytes = Body { bytes: b"word,".to_vec(), _held: Arc::clone(&held) };
            let telemetry = Telemetry { body: Bytes::from_owner(bytes), records: 1, ..request("") };
            let merging = Arc::clone(&merging);
            senders.spawn(async move {
                // Some give up before the others.
                let deadline = Instant::now() + Duration::from_secs(60);
                let _ = tokio::time::timeout(
                    Duration::from_secs(1 + number % 3),
                    merging.export(&telemetry, deadline),
                )
                .await;
            });
        }
        sleep(Duration::from_millis(2_500)).await;
        assert_eq!(Arc::strong_count(&held) > 1, count > 1, "{count}: while one waits it is tried");
        sleep(Duration::from_millis(1_000)).await;
        assert_eq!(senders.join_all().await.len() as u64, count);
        assert_eq!((Arc::strong_count(&held), budget.used_bytes()), (1, 0), "{count}");
    }
}
