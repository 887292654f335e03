//! What may change while the engine runs: models, ways, sinks. The binary opens what is new first, then calls these.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::writer::Command;
use super::{Engine, Pipeline};
use crate::contract::FindingExporter;
use crate::entry::Epoch;
use crate::refusal::Refusal;

impl Engine {
    /// Journals what holds from now on, where it is not what held last, all in one commit; says whose it was. Call it before
    /// [`Engine::rewire`] with processors that look for what the new models want: what they find then comes after the epoch.
    ///
    /// # Errors
    /// The journal takes nothing; then nothing has changed.
    pub async fn journal_epochs(&self, epochs: Vec<Epoch>) -> Result<Vec<String>, Refusal> {
        // Held while the journal is written, so that two reloads cannot both find that an epoch is new.
        let mut known = self.epochs.lock().await;
        let is_new = |epoch: &Epoch| known.get(&epoch.component) != Some(&epoch.hash);
        let epochs: Vec<Epoch> = epochs.into_iter().filter(is_new).collect();
        if epochs.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<(String, String)> =
            epochs.iter().map(|epoch| (epoch.component.clone(), epoch.hash.clone())).collect();
        let (done, wait) = oneshot::channel();
        let stopping = || Refusal::busy("homeostat is stopping, or cannot go on (its log says why)");
        self.shared.queue.send(Command::Epochs { epochs, done }).await.map_err(|_| stopping())?;
        wait.await.map_err(|_| stopping())??;
        let components = names.iter().map(|(component, _)| component.clone()).collect();
        for (component, hash) in names {
            tracing::info!(component, hash, "another model holds from now on");
            known.insert(component, hash);
        }
        Ok(components)
    }

    /// Requests that begin from now on take these ways; those under way end on the old ones, and so do those of receivers that no
    /// pipeline names any more, until they have ended ([`super::Inlet::leave`]). An exporter that is the same
    /// instance as before is not asked again for what it has taken. Who judges must not change.
    pub fn rewire(&self, pipelines: &[Pipeline]) {
        self.shared.wiring.set(pipelines, &self.shared.memory);
    }

    /// Ends the delivery to these finding exporters, each after the attempt that is under way. Their cursors stay.
    pub async fn pause_delivery(&self, ids: &[&str]) {
        self.deliveries.pause(ids).await;
    }

    /// Delivers to `exporter` from the cursor of `id`, which is the ledger's start for one that never was. What delivered for
    /// this id before has to be paused.
    pub fn deliver(&self, id: &str, exporter: Arc<dyn FindingExporter>) {
        self.deliveries.start(id, exporter);
    }

    /// The ledger waits no longer for the cursor of a finding exporter that was paused and does not come back.
    pub fn forget_delivery(&self, id: &str) {
        self.deliveries.forget(id);
    }

    /// Receivers take nothing new from now on, and finish what they took.
    pub fn stop_taking(&self) {
        self.shared.stopping.cancel();
    }
}
