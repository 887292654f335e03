//! HTTP/2 against its server: rapid resets, endless heads, floods of SETTINGS and PING, frames that are none. The peer is told
//! to calm down or cut off, is counted, and costs nobody else anything.

use homeostat_tests::process::eventually;

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, Wire, call_head, frame, goaways, literal,
};
use crate::site::Site;

/// How often a flood repeats its piece, when nobody stops it.
const FLOOD: usize = 20_000;

/// The client's stream number `number`.
fn stream(number: usize) -> u32 {
    u32::try_from(number * 2 + 1).expect("few streams")
}

async fn is_counted(site: &Site, what: &str, before: u64) {
    eventually(what, async || (site.cut_for("grpc", "fault").await > before).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_are_told_to_calm_down() {
    let site = Site::start().await;
    let before = site.cut_for("grpc", "fault").await;
    let head = call_head();
    let (written, frames) = Wire::open(site.grpc())
        .await
        .flood(FLOOD, |number| {
            let open = frame(HEADERS, END_HEADERS, stream(number), &head);
            [open, frame(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes())].concat()
        })
        .await;
    let told = goaways(&frames);
    assert!(written < FLOOD || told.contains(&ENHANCE_YOUR_CALM), "{written} resets were taken: {told:?}");
    is_counted(&site, "rapid resets are counted", before).await;
    site.is_well("rapid resets").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_end_is_cut_off() {
    let site = Site::start().await;
    let before = site.cut_for("grpc", "fault").await;
    let mut wire = Wire::open(site.grpc()).await;
    wire.write(&frame(HEADERS, 0, 1, &call_head())).await;
    let piece = frame(CONTINUATION, 0, 1, &literal("x", &"y".repeat(8_000)));
    let (written, frames) = wire.flood(FLOOD, |_| piece.clone()).await;
    assert!(written < FLOOD, "{written} CONTINUATIONs were taken");
    assert!(!goaways(&frames).is_empty() || written < FLOOD / 10, "{frames:?}");
    is_counted(&site, "the endless head is counted", before).await;
    site.is_well("CONTINUATION flood").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_continuations_do_not_go_on_for_ever() {
    let site = Site::start().await;
    let mut wire = Wire::open(site.grpc()).await;
    wire.write(&frame(HEADERS, 0, 1, &call_head())).await;
    let piece = frame(CONTINUATION, 0, 1, &[]);
    let (_, frames) = wire.flood(FLOOD, |_| piece.clone()).await;
    assert!(!goaways(&frames).is_empty(), "{frames:?}");
    site.is_well("empty CONTINUATIONs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_pings_are_answered_without_being_kept() {
    let site = Site::start().await;
    for (name, piece) in [
        ("SETTINGS", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("PING", frame(PING, 0, 0, &[7; 8])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &0_u32.wrapping_add(1).to_be_bytes())),
        ("empty DATA of no stream", frame(DATA, 0, 1, &[])),
        ("unknown frames", frame(0xfa, 0, 0, &[0; 64])),
    ] {
        let (written, frames) = Wire::open(site.grpc()).await.flood(FLOOD, |_| piece.clone()).await;
        assert!(written > 0 && frames.len() <= FLOOD + 10, "{name}");
    }
    // And one that never reads its answers.
    let mut deaf = Wire::open(site.grpc()).await;
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(1_000);
    for _ in 0..1_000 {
        let write = tokio::time::timeout(std::time::Duration::from_millis(500), deaf.write(&pings));
        if !matches!(write.await, Ok(true)) {
            break;
        }
    }
    site.is_well("floods of SETTINGS and PING").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_head_is_refused_and_the_connection_goes_on() {
    let site = Site::start().await;
    let mut wire = Wire::open(site.grpc()).await;
    let mut head = call_head();
    for number in 0..40 {
        head.extend_from_slice(&literal(&format!("x-{number}"), &"y".repeat(500)));
    }
    let (first, rest) = head.split_at(10_000);
    let open = [
        frame(HEADERS, END_STREAM, 1, first),
        frame(CONTINUATION, END_HEADERS, 1, rest),
        frame(HEADERS, END_STREAM | END_HEADERS, 3, &call_head()),
    ];
    assert!(wire.write(&open.concat()).await);
    let mut answered = std::collections::BTreeMap::new();
    while answered.len() < 2 {
        let frame = wire.read().await.expect("the connection goes on");
        if frame.kind == HEADERS || frame.kind == RST_STREAM {
            answered.entry(frame.stream).or_insert(frame);
        }
    }
    // 431 as HPACK's literal, or a stream that is ended; and the call without a message is an ordinary refusal.
    assert!(
        answered[&1].kind == RST_STREAM
            || answered[&1].payload.windows(3).any(|three| three == b"431")
            || answered[&1].payload.len() < 64,
        "{answered:?}"
    );
    assert_eq!(answered[&3].kind, HEADERS);
    let outcomes = site.outcomes().await;
    assert_eq!(outcomes.get(&("grpc".to_owned(), "malformed".to_owned())), Some(&1), "{outcomes:?}");
    site.is_well("a huge head").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_the_protocol_end_the_connection_and_are_counted() {
    let site = Site::start().await;
    let head = call_head();
    let huge = [&[0xff, 0xff, 0xff, DATA, 0][..], &1_u32.to_be_bytes(), &[0; 100]].concat();
    for (name, bytes) in [
        ("a frame of 16 MiB", huge),
        ("a head on stream 0", frame(HEADERS, END_HEADERS, 0, &head)),
        ("a head on the server's stream", frame(HEADERS, END_HEADERS, 2, &head)),
        ("data on stream 0", frame(DATA, 0, 0, b"x")),
        ("settings of five bytes", frame(SETTINGS, 0, 0, &[0; 5])),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[0; 6])),
        ("a window beyond 2^31", frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())),
        ("a window of nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("a ping of seven bytes", frame(PING, 0, 0, &[0; 7])),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, &head)),
        ("a head that is no HPACK", frame(HEADERS, END_HEADERS, 1, &[0xff; 40])),
        ("RST_STREAM of an idle stream", frame(RST_STREAM, 0, 9, &[0; 4])),
    ] {
        let before = site.cut_for("grpc", "fault").await;
        let (_, frames) = Wire::open(site.grpc()).await.flood(1, |_| bytes.clone()).await;
        assert!(goaways(&frames).iter().any(|code| *code != 0), "{name}: {frames:?}");
        is_counted(&site, name, before).await;
    }
    site.is_well("broken frames").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http2_is_not_spoken_to_on_the_grpc_port() {
    let site = Site::start().await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage-garbage",
        &[0; 100],
    ] {
        let answer = crate::ask::raw(site.grpc(), bytes).await;
        assert!(!answer.contains("200"), "{answer}");
    }
    site.is_well("no HTTP/2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_bodies_are_bounded_and_told_to_come_back() {
    let site = Site::start_with("", "", 16).await;
    let head = call_head();
    let mut wires = Vec::new();
    // More streams than a connection may have, on several connections.
    for _ in 0..20 {
        let mut wire = Wire::open(site.grpc()).await;
        let calls: Vec<u8> =
            (0..200).flat_map(|number| frame(HEADERS, END_HEADERS, stream(number), &head)).collect();
        wire.write(&calls).await;
        wires.push(wire);
    }
    for mut wire in wires {
        let (mut refused, mut answered) = (0, 0);
        while refused + answered < 200 {
            let Some(frame) = wire.read().await else { break };
            match frame.kind {
                // REFUSED_STREAM: it was over the limit of streams, nothing of it was looked at.
                RST_STREAM if frame.payload == 7_u32.to_be_bytes() => refused += 1,
                HEADERS => answered += 1,
                _ => {}
            }
        }
        assert!(refused >= 72 || answered + refused < 200, "{refused} refused, {answered} answered");
    }
    let outcomes = site.outcomes().await;
    assert!(
        outcomes.get(&("grpc".to_owned(), "unavailable".to_owned())).is_some_and(|count| *count > 0),
        "{outcomes:?}"
    );
    site.is_well("calls without bodies").await;
}
