//! What every release must survive: kill -9 at random and at named points, and every sink down. After each, everything that was
//! acknowledged is judged, once, in every sink, and the trail replays to the same bytes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use homeostat_tests::homeostat::{Homeostat, command};
use homeostat_tests::judged::records_judged;
use homeostat_tests::load::Load;
use homeostat_tests::postgres::Postgres;
use homeostat_tests::process::{Process, eventually};
use homeostat_tests::telemetry::{Spans, now, traces};
use homeostat_tests::world::{World, latency_model};
use rand::RngExt;
use tokio::sync::watch;
use tokio::time::Instant;

/// Spans of one request.
const SPANS: usize = 5;

fn key(number: usize) -> String {
    format!("REQ-NFR-KILL-{number:03}")
}

fn slow(req: &str) -> Spans {
    let duration = Duration::from_millis(900);
    Spans { count: SPANS, req: req.to_owned(), node: ("shop", "Work"), duration, is_error: false }
}

fn model(keys: usize) -> String {
    latency_model((0..keys).map(key), "1h")
}

type Address = watch::Sender<Option<(SocketAddr, SocketAddr)>>;

/// Starts homeostat, which may be told to die on the way, and tells the load where it is.
async fn start(world: &World, address: &Address) -> Homeostat {
    let homeostat = Homeostat::start(world.path()).await;
    address.send_replace(Some((homeostat.grpc, homeostat.http)));
    homeostat
}

/// Waits until exactly `sent` spans are judged.
async fn all_judged(world: &World, sent: u64) {
    eventually(&format!("{sent} spans are judged"), async || {
        let judged = records_judged(&world.path().join("data"));
        assert!(judged <= sent, "{judged} spans were judged where {sent} were sent: some count twice");
        (judged == sent).then_some(())
    })
    .await;
}

/// The chain verifies, and the journal replayed gives the same findings byte for byte.
async fn trail_is_whole(world: &World) {
    for arguments in [
        ["ledger", "verify", "data"].as_slice(),
        ["ledger", "replay", "data", "--config", "config.yaml"].as_slice(),
    ] {
        let mut process = Process::spawn("homeostat", command(world.path(), arguments));
        let status = process.exit().await;
        assert!(status.success(), "{arguments:?}: {status}\n{}", process.output());
    }
}

/// Every key of `keys` is one deviation, opened once, the same in all sinks.
async fn each_once(world: &World, keys: &BTreeSet<String>) {
    world.until("deviation_detected", keys).await;
    let agreed = world.agreed().await;
    let reqs: Vec<String> = agreed.iter().map(|seen| seen.req.clone()).collect();
    assert_eq!(reqs.iter().cloned().collect::<BTreeSet<_>>(), *keys);
    assert_eq!(reqs.len(), keys.len(), "a key has two deviations: {agreed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_at_random_moments_lose_nothing_and_double_nothing() {
    const KILLS: usize = 20;
    let world = World::start(&model(KILLS)).await;
    let (address, whereabouts) = watch::channel(None);
    let (round, mut rounds) = watch::channel(0_usize);
    let load = Load::new(whereabouts, true);
    // The load goes on through all kills; the key of its spans is that of the round.
    let sending = tokio::spawn(async move {
        let mut sent = vec![0_u64; KILLS];
        loop {
            let now_in = *rounds.borrow_and_update();
            if now_in >= KILLS {
                return sent;
            }
            load.deliver(&traces(&slow(&key(now_in)), now())).await;
            sent[now_in] += SPANS as u64;
        }
    });
    for number in 0..KILLS {
        let homeostat = start(&world, &address).await;
        round.send_replace(number);
        let moment = Duration::from_millis(rand::rng().random_range(0..1_200));
        // A random moment is the point of the test.
        tokio::time::sleep(moment).await;
        address.send_replace(None);
        homeostat.kill();
    }
    let homeostat = start(&world, &address).await;
    round.send_replace(KILLS);
    let sent = sending.await.expect("the load does not panic");
    let keys = (0..KILLS).filter(|number| sent[*number] > 0).map(key).collect();
    all_judged(&world, sent.iter().sum()).await;
    each_once(&world, &keys).await;
    homeostat.is_ready().await;
    let (status, output) = homeostat.stop().await;
    assert!(status.success(), "{output}");
    trail_is_whole(&world).await;
}

/// Where a crash can strike, and after how many passes.
const POINTS: [&str; 8] = [
    "journal.synced:3",
    "fold.before_ledger:2",
    "ledger.before_append:3",
    "ledger.appended:2",
    "checkpoint.before_commit",
    "checkpoint.after_commit",
    "delivery.exported:2",
    "recovery.replaying",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_each_named_point_loses_nothing_and_doubles_nothing() {
    let world = World::start(&model(POINTS.len())).await;
    let (address, whereabouts) = watch::channel(None);
    let load = Load::new(whereabouts, true);
    let mut sent = 0;
    for (number, point) in POINTS.into_iter().enumerate() {
        if point.starts_with("recovery") {
            // Something must be there to recover.
            let homeostat = start(&world, &address).await;
            load.deliver(&traces(&slow(&key(number)), now())).await;
            sent += SPANS as u64;
            homeostat.kill();
        }
        address.send_replace(None);
        if let Ok(mut homeostat) = Homeostat::try_start(world.path(), &[("HOMEOSTAT_CRASH_AT", point)]).await
        {
            address.send_replace(Some((homeostat.grpc, homeostat.http)));
            // It is asked for work until it has died of it; what it did not answer is sent again to the next one.
            let until = Instant::now() + Duration::from_secs(120);
            while homeostat.process.ended().is_none() {
                assert!(Instant::now() < until, "it never died at {point}:\n{}", homeostat.process.output());
                let body = traces(&slow(&key(number)), now());
                let answer = load.once(homeostat.grpc, homeostat.http, &body).await;
                sent += SPANS as u64;
                if !answer.is_some_and(|answer| answer.is_ok()) {
                    homeostat.process.exit().await;
                    let revived = start(&world, &address).await;
                    load.deliver(&body).await;
                    revived.kill();
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let homeostat = start(&world, &address).await;
        load.deliver(&traces(&slow(&key(number)), now())).await;
        sent += SPANS as u64;
        homeostat.kill();
    }
    let homeostat = start(&world, &address).await;
    all_judged(&world, sent).await;
    each_once(&world, &(0..POINTS.len()).map(key).collect()).await;
    homeostat.stop().await;
    trail_is_whole(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finding_sinks_that_are_down_delay_no_judgement_and_catch_up() {
    let mut world = World::start_with(&model(3), Arc::new(Postgres::start().await)).await;
    let (address, whereabouts) = watch::channel(None);
    let homeostat = start(&world, &address).await;
    let load = Load::new(whereabouts, false);
    load.deliver(&traces(&slow(&key(0)), now())).await;
    let mut sent = SPANS as u64;
    each_once(&world, &BTreeSet::from([key(0)])).await;

    world.nats.kill();
    Arc::get_mut(&mut world.postgres).expect("it is this test's own").stop();
    let down = Instant::now();
    while down.elapsed() < Duration::from_secs(20) {
        assert_eq!(
            load.deliver(&traces(&slow(&key(1)), now())).await,
            1,
            "OTLP is taken while sinks are down"
        );
        sent += SPANS as u64;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // The judgement went on, and the sink that is up has it.
    eventually("the graph has the second deviation", async || {
        world.in_graph().iter().any(|seen| seen.req == key(1)).then_some(())
    })
    .await;
    world.nats.restart().await;
    Arc::get_mut(&mut world.postgres).expect("it is this test's own").restart().await;
    load.deliver(&traces(&slow(&key(2)), now())).await;
    sent += SPANS as u64;
    all_judged(&world, sent).await;
    each_once(&world, &(0..3).map(key).collect()).await;
    homeostat.stop().await;
    trail_is_whole(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_down_makes_senders_repeat_and_blinds_nobody() {
    let world = World::start(&model(2)).await;
    let (address, whereabouts) = watch::channel(None);
    let homeostat = start(&world, &address).await;
    world.backend.refuse(true);
    let bodies = [traces(&slow(&key(0)), now()), traces(&slow(&key(1)), now())];
    let down = Instant::now();
    for (is_grpc, body) in [(true, &bodies[0]), (false, &bodies[1])] {
        let load = Load::new(whereabouts.clone(), is_grpc);
        let answer = load.once(homeostat.grpc, homeostat.http, body).await.expect("it answers");
        let expected = if is_grpc { (200, Some(14)) } else { (503, None) };
        assert_eq!((answer.status, answer.grpc_status), expected);
        assert!(answer.has_retry, "a refusal says when to come back: {answer:?}");
    }
    // The requests were judged all the same.
    world.until("deviation_detected", &(0..2).map(key).collect()).await;
    let load = Load::new(whereabouts, true);
    tokio::join!(
        async {
            while down.elapsed() < Duration::from_secs(20) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            world.backend.refuse(false);
        },
        async {
            for body in &bodies {
                load.deliver(body).await;
            }
        }
    );
    // What was sent again is forwarded, and counts once.
    for body in &bodies {
        assert!(world.backend.received().iter().any(|received| received.frame == *body));
    }
    all_judged(&world, 2 * SPANS as u64).await;
    each_once(&world, &(0..2).map(key).collect()).await;
    homeostat.stop().await;
    trail_is_whole(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_every_sink_is_down_keeps_its_time_and_loses_nothing() {
    let mut world = World::start_with(&model(1), Arc::new(Postgres::start().await)).await;
    let (address, whereabouts) = watch::channel(None);
    let homeostat = start(&world, &address).await;
    world.nats.kill();
    Arc::get_mut(&mut world.postgres).expect("it is this test's own").stop();
    let load = Load::new(whereabouts, true);
    load.deliver(&traces(&slow(&key(0)), now())).await;
    let asked = Instant::now();
    let (status, output) = homeostat.stop().await;
    assert!(status.success(), "{output}");
    // Ten seconds are promised; the rest is what a loaded machine takes to notice.
    assert!(asked.elapsed() < Duration::from_secs(30), "it took {:?}:\n{output}", asked.elapsed());

    world.nats.restart().await;
    Arc::get_mut(&mut world.postgres).expect("it is this test's own").restart().await;
    let homeostat = start(&world, &address).await;
    all_judged(&world, SPANS as u64).await;
    each_once(&world, &BTreeSet::from([key(0)])).await;
    homeostat.stop().await;
    trail_is_whole(&world).await;
}
