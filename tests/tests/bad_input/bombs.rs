//! Ten gibibytes in a few hundred kilobytes: refused at the limit, alone and 64 at once, in bounded memory.

use bytes::Bytes;
use futures::future::join_all;
use homeostat_tests::client::TRACES;
use homeostat_tests::telemetry::gzip;

use crate::ask::{Ask, Said, ask, framed};
use crate::bytes_of::{gzip_bomb, zstd_bomb, zstd_frames_bomb};
use crate::site::Site;
use crate::table::{Row, check};

const AT_ONCE: usize = 64;

/// Name, encoding, bytes.
fn bombs() -> Vec<(&'static str, &'static str, Bytes)> {
    let gzipped = gzip_bomb(None);
    vec![
        ("gzip", "gzip", gzipped.clone()),
        ("gzip that says it is small", "gzip", gzip_bomb(Some(1_000))),
        ("gzip with a small member behind it", "gzip", [&gzipped[..], &gzip(b"x")].concat().into()),
        ("zstd", "zstd", zstd_bomb(true)),
        ("zstd that does not say its size", "zstd", zstd_bomb(false)),
        ("zstd in frames of a mebibyte", "zstd", zstd_frames_bomb()),
    ]
}

fn http(encoding: &str, body: Bytes) -> Ask {
    Ask::http(TRACES.1, "application/x-protobuf", body).with("content-encoding", encoding)
}

fn json(encoding: &str, body: Bytes) -> Ask {
    Ask::http(TRACES.1, "application/json", body).with("content-encoding", encoding)
}

fn grpc(encoding: &str, body: &[u8]) -> Ask {
    Ask::grpc(TRACES.0, framed(1, body)).with("grpc-encoding", encoding)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_is_too_large_whether_it_passes_the_wire_or_not() {
    let site = Site::start_with("", "", 128).await;
    let row = |name: &str, ask, said| Row { name: name.to_owned(), ask, said, outcome: "too_large" };
    for (name, encoding, bomb) in bombs() {
        // The gzip ones have ten mebibytes: below HTTP's limit, above gRPC's. The zstd ones pass both.
        assert_eq!(bomb.len() > 4 << 20, encoding == "gzip", "{name} has {} bytes", bomb.len());
        assert!(bomb.len() < 20 << 20, "{name} has {} bytes", bomb.len());
        check(&site, "http", vec![row(name, http(encoding, bomb.clone()), (413, None))]).await;
        check(&site, "http", vec![row(name, json(encoding, bomb.clone()), (413, None))]).await;
        check(&site, "grpc", vec![row(name, grpc(encoding, &bomb), (200, Some(8)))]).await;
    }
    // Those that pass gRPC's wire, too: a gibibyte of zeros is a mebibyte.
    let first = &gzip_bomb(Some(0))[..1 << 20];
    let cut = row("a gzip bomb cut at a mebibyte", grpc("gzip", &[first, &[0; 8]].concat()), (200, Some(8)));
    check(&site, "grpc", vec![cut]).await;
    site.is_well("bombs one by one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_bombs_at_once_stay_within_the_budget() {
    let site = Site::start().await;
    for (name, encoding, bomb) in bombs() {
        let all = (0..AT_ONCE).map(|number| {
            let bomb = bomb.clone();
            let (is_grpc, to) =
                if number.is_multiple_of(2) { (true, site.grpc()) } else { (false, site.http()) };
            let what = if is_grpc { grpc(encoding, &bomb) } else { http(encoding, bomb) };
            async move { (is_grpc, ask(to, is_grpc, what).await) }
        });
        let before = site.outcomes().await;
        let mut final_ones = 0_u64;
        for (is_grpc, said) in join_all(all).await {
            let said = said.unwrap_or_else(|error| panic!("{name}: {error}"));
            let is_final = is_too_large(is_grpc, &said);
            assert!(is_final || is_busy(is_grpc, &said), "{name}: {said:?}");
            final_ones += u64::from(is_final);
        }
        let after = site.outcomes().await;
        let counted = |outcome: &str| {
            let of = |counts: &std::collections::BTreeMap<(String, String), u64>| {
                counts.iter().filter(|((_, one), _)| one == outcome).map(|(_, count)| count).sum::<u64>()
            };
            of(&after) - of(&before)
        };
        assert_eq!(counted("too_large"), final_ones, "{name}");
        assert_eq!(counted("unavailable"), AT_ONCE as u64 - final_ones, "{name}");
    }
    site.is_well("64 bombs at once").await;
}

fn is_too_large(is_grpc: bool, said: &Said) -> bool {
    !said.has_retry && if is_grpc { said.code == Some(8) } else { said.status == 413 }
}

/// Over the budget for now.
fn is_busy(is_grpc: bool, said: &Said) -> bool {
    said.has_retry && if is_grpc { said.code == Some(14) } else { said.status == 503 }
}
