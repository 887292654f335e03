//! How long a queue is sent.
//!
//! | what happens | on disk | in memory |
//! | --- | --- | --- |
//! | a reload removes the exporter | until it is empty | until it is empty |
//! | … and another brings it back | the new one sends | the new one sends |
//! | the process stops | what is under way, for a second | until it is empty, or time is over |

use homeostat_pipeline::registry::Context;
use homeostat_pipeline::tasks::Tasks;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Of one exporter that has the queue open.
pub struct Term {
    stop: CancellationToken,
    tasks: Tasks,
    is_on_disk: bool,
    own: u64,
    opened: watch::Receiver<u64>,
}

impl Term {
    /// For whoever opens it now; `opened` counts.
    pub fn new(context: &Context, opened: &watch::Sender<u64>) -> Term {
        opened.send_modify(|count| *count += 1);
        let seen = opened.subscribe();
        let (own, is_on_disk) = (*seen.borrow(), context.directory.is_some());
        Term { stop: context.stop.clone(), tasks: context.tasks.clone(), is_on_disk, own, opened: seen }
    }

    /// Whether the exporter is gone: nothing comes any more, and what is there is all.
    pub fn is_closed(&self) -> bool {
        self.stop.is_cancelled() || self.tasks.stopping().is_cancelled()
    }

    /// Whether it is the process that stops.
    pub fn is_stopping(&self) -> bool {
        self.tasks.stopping().is_cancelled()
    }

    /// Resolves when the exporter is gone.
    pub async fn closed(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.tasks.stopping().cancelled() => {}
        }
    }

    /// Resolves when no request is to be begun any more.
    pub async fn ended(&self) {
        let superseded = async {
            self.stop.cancelled().await;
            let mut opened = self.opened.clone();
            if opened.wait_for(|last| *last > self.own).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let stopping = if self.is_on_disk { self.tasks.stopping() } else { self.tasks.over() };
        tokio::select! {
            () = superseded => {}
            () = stopping.cancelled() => {}
        }
    }

    /// Resolves when what is under way is to be cut off.
    pub async fn over(&self) {
        self.tasks.over().cancelled().await;
    }
}
