//! The table: each row is an input, the answer that the table of outcomes gives it, and the one counter that says so.

use std::collections::BTreeMap;

use http::Method;

use crate::ask::{Ask, Said, ask};
use crate::site::Site;

/// One row.
pub struct Row {
    /// What it is.
    pub name: String,
    /// What is sent.
    pub ask: Ask,
    /// HTTP's status, and gRPC's.
    pub said: (u16, Option<i32>),
    /// The label `outcome` of the requests' counter.
    pub outcome: &'static str,
}

/// `count` more of `outcome` than `before`, and nothing else.
fn more(
    before: &BTreeMap<(String, String), u64>,
    transport: &str,
    outcome: &str,
) -> BTreeMap<(String, String), u64> {
    let mut after = before.clone();
    *after.entry((transport.to_owned(), outcome.to_owned())).or_default() += 1;
    after
}

/// Asks every row of one listener, and compares.
pub async fn check(site: &Site, transport: &'static str, rows: Vec<Row>) {
    let is_grpc = transport == "grpc";
    let to = if is_grpc { site.grpc() } else { site.http() };
    let mut counted = site.outcomes().await;
    for row in rows {
        let Row { name, ask: what, said: (status, code), outcome } = row;
        let (method, sent_kind) = (what.method.clone(), what.headers.first().map(|(_, kind)| kind.clone()));
        let said =
            ask(to, is_grpc, what).await.unwrap_or_else(|error| panic!("{transport}, {name}: {error}"));
        assert_eq!((said.status, said.code), (status, code), "{transport}, {name}: {said:?}");
        assert!(!said.has_retry, "{transport}, {name}: final, and yet it says when to come back: {said:?}");
        is_in_kind(&name, is_grpc, &method, sent_kind.as_deref(), &said);
        let expected = more(&counted, transport, outcome);
        counted = site.outcomes().await;
        assert_eq!(counted, expected, "{transport}, {name}: counted otherwise than answered");
    }
}

/// An answer speaks as the request did: gRPC, JSON, or protobuf.
fn is_in_kind(name: &str, is_grpc: bool, method: &Method, sent: Option<&str>, said: &Said) {
    let expected = match sent {
        _ if is_grpc && said.code.is_none() => "",
        _ if is_grpc => "application/grpc",
        Some("application/json") => "application/json",
        _ => "application/x-protobuf",
    };
    assert_eq!(said.kind, expected, "{name}, {method}: {said:?}");
}
