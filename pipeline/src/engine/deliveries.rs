//! The finding exporters that run, each with its delivery; a reload ends some and starts others, and cursors stay.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::checkpoint::Checkpoints;
use crate::contract::FindingExporter;
use crate::delivery::{Delivery, Sink};
use crate::ledger::LedgerReader;

/// The finding exporters whose cursors the ledger waits for before it is pruned.
#[derive(Default)]
pub(super) struct Ids(Mutex<BTreeSet<String>>);

impl Ids {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> BTreeSet<String> {
        self.lock().clone()
    }
}

/// Where deliveries read, and what they keep.
pub(super) struct Origin {
    pub(super) ledger: LedgerReader,
    pub(super) checkpoints: Checkpoints,
    pub(super) head: watch::Receiver<u64>,
    pub(super) dead_letters: Option<PathBuf>,
    pub(super) timeout: Duration,
}

/// All of them.
pub(super) struct Deliveries {
    origin: Origin,
    ids: Arc<Ids>,
    /// They end when they have caught up, or fail.
    closing: CancellationToken,
    running: Mutex<BTreeMap<String, Running>>,
}

struct Running {
    leaving: CancellationToken,
    task: JoinHandle<()>,
}

impl Deliveries {
    pub(super) fn new(origin: Origin) -> Deliveries {
        Deliveries {
            origin,
            ids: Arc::default(),
            closing: CancellationToken::new(),
            running: Mutex::default(),
        }
    }

    pub(super) fn ids(&self) -> Arc<Ids> {
        Arc::clone(&self.ids)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers to `exporter` from the cursor of `id`. Nobody else may deliver for this id.
    pub(super) fn start(&self, id: &str, exporter: Arc<dyn FindingExporter>) {
        let Origin { ledger, checkpoints, head, dead_letters, timeout } = &self.origin;
        let sink =
            Sink { id: id.to_owned(), exporter, timeout: *timeout, dead_letters: dead_letters.clone() };
        let delivery =
            Delivery::new(sink, ledger.clone(), checkpoints.clone(), head.clone(), self.closing.clone());
        self.ids.lock().insert(id.to_owned());
        let leaving = delivery.leaving();
        let task = tokio::spawn(delivery.run());
        self.running().insert(id.to_owned(), Running { leaving, task });
    }

    /// Ends the deliveries of `ids` after what each of them tries now; their cursors still hold back the ledger.
    pub(super) async fn pause(&self, ids: &[&str]) {
        let ending: Vec<Running> = {
            let mut running = self.running();
            ids.iter().filter_map(|id| running.remove(*id)).collect()
        };
        for one in &ending {
            one.leaving.cancel();
        }
        for one in ending {
            if let Err(error) = one.task.await {
                tracing::error!("a delivery did not end well: {error}");
            }
        }
    }

    /// The ledger waits no longer for this cursor.
    pub(super) fn forget(&self, id: &str) {
        self.ids.lock().remove(id);
    }

    /// Lets each catch up until the deadline.
    pub(super) async fn stop(&self, deadline: Instant) {
        self.closing.cancel();
        let running = std::mem::take(&mut *self.running());
        for (_, mut one) in running {
            if timeout_at(deadline, &mut one.task).await.is_err() {
                one.task.abort();
                // It says only that it was aborted.
                let _ = one.task.await;
            }
        }
    }
}
