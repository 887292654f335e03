//! Load that loses nothing: each request is sent again, the same bytes, until it is answered OK, whatever homeostat goes through.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::client::{Answer, Sender, TRACES};
use crate::process::DEADLINE;

/// How long one try may take before the same bytes are sent again: shorter than what a dead process could keep us.
const TRY: Duration = Duration::from_secs(20);

/// Where homeostat listens now: gRPC and HTTP; none while it is down.
pub type Whereabouts = watch::Receiver<Option<(SocketAddr, SocketAddr)>>;

/// A sender of traces that does not give up.
pub struct Load {
    sender: Sender,
    whereabouts: Whereabouts,
    answers: Mutex<Vec<Answer>>,
    is_grpc: bool,
}

impl Load {
    /// A sender over gRPC, or HTTP.
    pub fn new(whereabouts: Whereabouts, is_grpc: bool) -> Load {
        Load { sender: Sender::default(), whereabouts, answers: Mutex::default(), is_grpc }
    }

    /// Sends `body` until it is taken; says how often it was sent.
    pub async fn deliver(&self, body: &Bytes) -> usize {
        let until = Instant::now() + DEADLINE;
        let mut whereabouts = self.whereabouts.clone();
        let mut sent = 0;
        loop {
            assert!(
                Instant::now() < until,
                "a request was never taken; answers: {:?}",
                self.answers().last()
            );
            let Ok(Some((grpc, http))) = timeout_at(until, whereabouts.wait_for(Option::is_some))
                .await
                .expect("it is up again in time")
                .map(|at| *at)
            else {
                panic!("nobody starts homeostat any more");
            };
            sent += 1;
            if let Some(answer) = self.once(grpc, http, body).await {
                let is_ok = answer.is_ok();
                self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
                if is_ok {
                    return sent;
                }
            }
            // Refused, or the process is gone: the table says when to come back; a test may be quicker.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// One try; none when there was no answer.
    pub async fn once(&self, grpc: SocketAddr, http: SocketAddr, body: &Bytes) -> Option<Answer> {
        let answer = async {
            if self.is_grpc {
                self.sender.grpc(grpc, TRACES.0, "identity", body.clone()).await
            } else {
                self.sender.http(http, TRACES.1, "identity", body.clone()).await
            }
        };
        timeout_at(Instant::now() + TRY, answer).await.ok()?.ok()
    }

    /// All answers so far.
    pub fn answers(&self) -> Vec<Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
