//! The receivers that run, each in a task of its own; a reload starts some and lets others give way.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use homeostat_pipeline::engine::Engine;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::assemble::OpenedReceiver;

/// All of them.
#[derive(Default)]
pub struct Receivers {
    tasks: JoinSet<Ended>,
    running: BTreeMap<String, Running>,
}

struct Running {
    leave: CancellationToken,
    addresses: Vec<SocketAddr>,
}

struct Ended {
    id: String,
    outcome: anyhow::Result<()>,
    /// Whether it was told to.
    is_told: bool,
}

impl Receivers {
    /// Runs it. The one that had its id gives way: it accepts no more, and finishes what its connections bring.
    pub fn start(&mut self, opened: OpenedReceiver, engine: &Engine) {
        let OpenedReceiver { id, receiver, life } = opened;
        let (leave, inlet) = (CancellationToken::new(), engine.inlet(&id));
        let running = Running { leave: leave.clone(), addresses: receiver.local_addrs() };
        let name = id.clone();
        self.tasks.spawn(async move {
            let outcome = receiver.run(inlet.clone(), leave.clone()).await;
            inlet.leave();
            drop(life);
            Ended { id: name, outcome, is_told: leave.is_cancelled() }
        });
        if let Some(old) = self.running.insert(id, running) {
            old.leave.cancel();
        }
    }

    /// Lets it finish and end.
    pub fn retire(&mut self, id: &str) {
        if let Some(old) = self.running.remove(id) {
            old.leave.cancel();
        }
    }

    /// Receiver id → where it listens.
    pub fn addresses(&self) -> BTreeMap<String, Vec<SocketAddr>> {
        self.running.iter().map(|(id, running)| (id.clone(), running.addresses.clone())).collect()
    }

    /// Resolves when one ended that was not told to: says which, and why.
    pub async fn failed(&mut self) -> anyhow::Error {
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(Ended { id, outcome: Err(error), is_told: true }) => {
                    tracing::warn!(
                        receiver = id,
                        error = format!("{error:#}"),
                        "the receiver did not stop well"
                    );
                }
                Ok(Ended { is_told: true, .. }) => {}
                Ok(Ended { id, outcome: Err(error), .. }) => {
                    return error.context(format!("receiver `{id}` ended"));
                }
                Ok(Ended { id, .. }) => return anyhow::anyhow!("receiver `{id}` ended by itself"),
                Err(error) => return anyhow::Error::new(error).context("a receiver panicked"),
            }
        }
        std::future::pending().await
    }

    /// Lets all of them finish and end; what has not by the deadline is cut off.
    pub async fn stop(&mut self, deadline: Instant) {
        for running in self.running.values() {
            running.leave.cancel();
        }
        let drained = timeout_at(deadline, async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Ok(Ended { id, outcome: Err(error), .. }) = ended {
                    tracing::warn!(
                        receiver = id,
                        error = format!("{error:#}"),
                        "the receiver did not stop well"
                    );
                }
            }
        });
        if drained.await.is_err() {
            tracing::warn!("some senders did not finish in time; they have no OK and will repeat");
            self.tasks.abort_all();
        }
    }
}
