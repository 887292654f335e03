//! The exporter's edge, of tower's layers: one call at a time, each attempt under a timeout, tried for ever with a delay that
//! doubles from 0.1 to 30 seconds and is jittered.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::retry::Policy;
use tower::retry::backoff::{Backoff as _, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff as _};
use tower::util::{BoxCloneSyncService, rng::HasherRng};
use tower::{BoxError, Service as _, ServiceBuilder, ServiceExt as _};

use crate::contract::{FindingExporter, Reject};
use crate::ledger::LedgerEntry;
use crate::refusal::Refusal;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
const JITTER: f64 = 0.5;
const SAID_EVERY: Duration = Duration::from_secs(60);

type Entries = Arc<[LedgerEntry]>;

/// A finding exporter that is asked until it succeeds.
pub(super) struct Edge(BoxCloneSyncService<Entries, Vec<Reject>, BoxError>);

impl Edge {
    pub(super) fn new(
        id: String,
        exporter: Arc<dyn FindingExporter>,
        timeout: Duration,
        closing: CancellationToken,
    ) -> Edge {
        let call = move |entries: Entries| {
            let exporter = exporter.clone();
            async move { attempt(&*exporter, &entries).await }
        };
        let service = ServiceBuilder::new()
            .concurrency_limit(1)
            .retry(ForEver::new(id, closing))
            .timeout(timeout)
            .service_fn(call);
        Edge(BoxCloneSyncService::new(service))
    }

    /// What the sink refused for good; none when the process ends before the sink takes the rest.
    pub(super) async fn export(&mut self, entries: Entries) -> Option<Vec<Reject>> {
        let service = self.0.ready().await.ok()?;
        service.call(entries).await.ok()
    }
}

/// A panic of an exporter is an outage of its sink, not the end of delivery.
async fn attempt(exporter: &dyn FindingExporter, entries: &[LedgerEntry]) -> Result<Vec<Reject>, BoxError> {
    match AssertUnwindSafe(exporter.export(entries)).catch_unwind().await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Refusal::busy("the exporter panicked").into()),
    }
}

/// Retries until the process ends; logs when the sink goes down and when it is back.
#[derive(Clone)]
struct ForEver {
    id: Arc<str>,
    delays: ExponentialBackoff<HasherRng>,
    closing: CancellationToken,
    down: Arc<Mutex<Option<Outage>>>,
    failed: metrics::Counter,
    up: metrics::Gauge,
}

/// A sink is down; what was said of it in the log, and when.
struct Outage {
    since: Instant,
    said_at: Instant,
    said: String,
}

impl Outage {
    /// An outage is said once, and again when it has another reason: a server that is there but refuses the password is
    /// another thing to do than one that is not there.
    fn is_due(outage: Option<&Outage>, reason: &str, now: Instant) -> bool {
        outage.is_none_or(|outage| outage.said != reason && now.duration_since(outage.said_at) >= SAID_EVERY)
    }
}

impl ForEver {
    fn new(id: String, closing: CancellationToken) -> ForEver {
        let failed = metrics::counter!("homeostat_delivery_failed_attempts_total", "exporter" => id.clone());
        let up = metrics::gauge!("homeostat_delivery_up", "exporter" => id.clone());
        ForEver { id: id.into(), delays: delays(), closing, down: Arc::default(), failed, up }
    }

    fn note(&self, result: &Result<Vec<Reject>, BoxError>) {
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) => {
                self.up.set(1.0);
                if let Some(outage) = down.take() {
                    let seconds = outage.since.elapsed().as_secs();
                    tracing::info!(exporter = &*self.id, seconds, "the sink is back and catches up");
                }
            }
            Err(error) => {
                self.up.set(0.0);
                self.failed.increment(1);
                let (reason, now) = (reason(error), Instant::now());
                if Outage::is_due(down.as_ref(), &reason, now) {
                    tracing::warn!(
                        exporter = &*self.id,
                        "the sink is down, its findings wait in the ledger: {reason}"
                    );
                    let since = down.as_ref().map_or(now, |outage| outage.since);
                    *down = Some(Outage { since, said_at: now, said: reason });
                }
            }
        }
    }
}

/// Why the sink did not take it; when a sender should come back is nothing to an operator.
fn reason(error: &BoxError) -> String {
    match error.downcast_ref::<Refusal>() {
        Some(Refusal::Unavailable { reason, .. } | Refusal::Rejected { reason, .. }) => reason.clone(),
        None => error.to_string(),
    }
}

fn delays() -> ExponentialBackoff<HasherRng> {
    // The constants are in order, so it cannot fail; should somebody change them, tests do.
    ExponentialBackoffMaker::new(FIRST_DELAY, LONGEST_DELAY, JITTER, HasherRng::default())
        .unwrap_or_default()
        .make_backoff()
}

impl Policy<Entries, Vec<Reject>, BoxError> for ForEver {
    type Future = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

    fn retry(
        &mut self,
        _entries: &mut Entries,
        result: &mut Result<Vec<Reject>, BoxError>,
    ) -> Option<Self::Future> {
        self.note(result);
        if result.is_ok() || self.closing.is_cancelled() {
            return None;
        }
        let delay = self.delays.next_backoff();
        let closing = self.closing.clone();
        Some(Box::pin(async move {
            tokio::select! {
                // One last attempt, then no more.
                () = closing.cancelled() => {}
                () = delay => {}
            }
        }))
    }

    fn clone_request(&mut self, entries: &Entries) -> Option<Entries> {
        Some(entries.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_once_and_again_for_another_reason() {
        let now = Instant::now();
        let later = now + SAID_EVERY;
        let outage = Outage { since: now, said_at: now, said: "refused".to_owned() };
        assert!(Outage::is_due(None, "refused", now));
        assert!(!Outage::is_due(Some(&outage), "refused", later));
        assert!(!Outage::is_due(Some(&outage), "no such password", now));
        assert!(Outage::is_due(Some(&outage), "no such password", later));
    }
}
