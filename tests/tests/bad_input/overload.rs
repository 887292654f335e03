//! Near and over the memory budget: many peers hold what they may, the rest are told when to come back, and what was given
//! back is there for the next.

use std::net::SocketAddr;

use homeostat_tests::process::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::ask::PATIENCE;
use crate::bytes_of::with_attributes;
use crate::site::Site;

const CLIENTS: u8 = 64;
const BUDGET_MIB: u64 = 16;

/// A connection from an address of its own, because one peer may hold only a quarter.
async fn connect(from: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("there are sockets");
    socket.bind(([127, 0, 1, from], 0).into()).expect("all of 127/8 is loopback");
    socket.connect(to).await.expect("it listens")
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = async {
        while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => answer.push(byte),
                Err(_) => break,
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("there is an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_memory_budget_sixty_four_clients_are_told_when_to_come_back() {
    let site = Site::start_with("", "", BUDGET_MIB).await;
    let body = with_attributes([("filler".to_owned(), "x".repeat(1 << 20))]);
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // All but the last byte of a mebibyte from each: more than the budget holds.
    let mut clients = Vec::new();
    for number in 1..=CLIENTS {
        let mut stream = connect(number, site.http()).await;
        stream.write_all(head.as_bytes()).await.expect("it reads");
        clients.push(stream);
    }
    let held = clients.into_iter().map(|mut stream| {
        let start = body.slice(..body.len() - 1);
        tokio::spawn(async move {
            let _ = stream.write_all(&start).await;
            stream
        })
    });
    let mut streams = Vec::new();
    for task in held.collect::<Vec<_>>() {
        streams.push(task.await.expect("writing does not panic"));
    }
    eventually("some are refused", async || {
        site.outcomes().await.get(&("http".to_owned(), "unavailable".to_owned())).copied()
    })
    .await;
    let (mut taken, mut refused) = (0_u64, 0_u64);
    for stream in &mut streams {
        let _ = stream.write_all(&body[body.len() - 1..]).await;
        let answer = answer(stream).await;
        if answer.starts_with("HTTP/1.1 200 ") {
            taken += 1;
        } else {
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            let after = answer.to_ascii_lowercase();
            let after = after
                .split_once("retry-after: ")
                .and_then(|(_, rest)| rest.lines().next()?.parse::<u64>().ok());
            assert!(after.is_some_and(|seconds| (1..=30).contains(&seconds)), "{answer}");
            refused += 1;
        }
    }
    assert!(
        taken > 0 && refused > 0 && taken + refused == u64::from(CLIENTS),
        "{taken} taken, {refused} refused"
    );
    let outcomes = site.outcomes().await;
    assert_eq!(outcomes.get(&("http".to_owned(), "unavailable".to_owned())), Some(&refused), "{outcomes:?}");
    drop(streams);
    site.is_well("64 clients over the budget").await;
}
