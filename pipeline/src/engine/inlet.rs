//! Where receivers submit: processors inline, then journal and telemetry exporters at the same time.
//!
//! Everything happens in the receiver's task; the one hop is to the journal's writer, and only when there is evidence.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::forward::{Forwarded, Forwarding, Memory, worst};
use super::wiring::{Route, Wiring};
use super::writer::{Command, Verdict};
use crate::batch::{Batch, RequestHash, Signal};
use crate::budget::{Budget, Class};
use crate::contract::Taken;
use crate::drops;
use crate::entry::Alert;
use crate::evidence::{Row, Rows};
use crate::finding::Finding;
use crate::refusal::{Cause, Refusal};

/// Where one receiver submits. Cheap to clone.
#[derive(Clone)]
pub struct Inlet {
    pub(super) receiver: Arc<str>,
    pub(super) shared: Arc<Shared>,
}

/// What all inlets share.
pub(super) struct Shared {
    pub(super) queue: mpsc::Sender<Command>,
    pub(super) budget: Budget,
    pub(super) memory: Memory,
    pub(super) wiring: Wiring,
    /// Cancelled when receivers are to take nothing new.
    pub(super) stopping: CancellationToken,
    /// Cancelled when the engine takes no more.
    pub(super) draining: CancellationToken,
    /// Counts the submissions under way.
    pub(super) tracker: TaskTracker,
}

/// What became of a batch that was taken.
#[derive(Debug, Default)]
pub struct Receipt {
    /// What telemetry backends refused for good of it, for OTLP's partial success.
    pub taken: Taken,
    verdict: Option<oneshot::Receiver<Verdict>>,
}

/// An append to the journal under way.
struct Journalling {
    done: oneshot::Receiver<Result<(), Refusal>>,
    verdict: Option<oneshot::Receiver<Verdict>>,
}

impl Inlet {
    /// Cancelled when the process stops: then what is new is refused. A receiver that only gives way to its successor goes on
    /// taking what its connections bring.
    pub fn stopping(&self) -> CancellationToken {
        self.shared.stopping.clone()
    }

    /// Whether any pipeline of this receiver takes `signal`; if none does, its senders are told that the path is unknown.
    pub fn takes(&self, signal: Signal) -> bool {
        let wired = self.shared.wiring.of(&self.receiver);
        // A receiver that has left its pipelines tells its senders to come back, for they may reach its successor.
        wired.is_none_or(|routes| routes.iter().any(|route| route.signals.contains(&signal)))
    }

    /// The receiver has ended. If a reload took it out of its pipelines, the way that it had until now ends too.
    pub fn leave(&self) {
        self.shared.wiring.left(&self.receiver);
    }

    /// Resolves when the batch is durable and forwarded, or refused. `deadline` is the sender's, or the receiver's own
    /// where the sender says none. Dropping the future undoes nothing that is already under way.
    ///
    /// # Errors
    /// `Unavailable` when the same batch may come again, `Rejected` when it must not.
    pub async fn submit(&self, batch: Batch, deadline: Instant) -> Result<Receipt, Refusal> {
        let _under_way = self.shared.tracker.token();
        if self.shared.draining.is_cancelled() {
            return Err(Refusal::busy("homeostat is stopping"));
        }
        // What begins on one wiring ends on it, whatever is reloaded meanwhile.
        let Some(wired) = self.shared.wiring.of(&self.receiver) else {
            return Err(Refusal::busy("no pipeline names this receiver any more"));
        };
        let takes = |route: &&Route| match &batch {
            Batch::Telemetry(telemetry) => route.signals.contains(&telemetry.signal),
            Batch::Alerts(_) | Batch::Evidence(_) => route.judges,
        };
        let mut routes = wired.iter().filter(takes);
        let Some(first) = routes.next() else {
            return Err(Refusal::rejected(Cause::Unknown, "no pipeline takes this"));
        };
        let mut forwardings = Vec::new();
        let mut evidence = Vec::new();
        let mut alerts = Vec::new();
        for route in std::iter::once(first).chain(routes) {
            for output in route.process(batch.clone())? {
                match output {
                    Batch::Telemetry(telemetry) if !route.outlets.is_empty() => {
                        forwardings.push(Forwarding { outlets: &route.outlets, telemetry });
                    }
                    Batch::Evidence(rows) if route.judges && !rows.is_empty() => evidence.push(rows),
                    Batch::Alerts(more) if route.judges => alerts.extend(more),
                    Batch::Evidence(rows) => drops::PIPELINE_NOT_JUDGED.count(rows.len() as u64),
                    // Nobody exports it, or nobody judges here.
                    Batch::Telemetry(_) | Batch::Alerts(_) => {}
                }
            }
        }
        let hash = |batch: &Batch| match batch {
            Batch::Telemetry(telemetry) => Some(telemetry.hash()),
            Batch::Alerts(_) | Batch::Evidence(_) => None,
        };
        let hash = if evidence.is_empty() { None } else { hash(&batch) };
        drop(batch);
        let journalling = self.journal(evidence, alerts, hash);
        self.finish(&forwardings, journalling, deadline).await
    }

    /// Starts the append; what it will need is charged to the budget until the fold has it.
    fn journal(
        &self,
        evidence: Vec<Rows>,
        alerts: Vec<Alert>,
        hash: Option<RequestHash>,
    ) -> Result<Vec<Journalling>, Refusal> {
        let mut journalling = Vec::new();
        for mut rows in evidence {
            let Some(hash) = rows.request.or(hash) else {
                return Err(Refusal::malformed("evidence without the hash of its request"));
            };
            fill_source(&mut rows, &self.receiver);
            let charge = self.shared.budget.try_charge(None, Class::Telemetry, rows.bytes() as u64)?;
            let (done, wait) = oneshot::channel();
            self.enqueue(Command::Evidence { rows, hash, charge, done })?;
            journalling.push(Journalling { done: wait, verdict: None });
        }
        if !alerts.is_empty() {
            let bytes = alerts.iter().map(alert_bytes).sum();
            let charge = self.shared.budget.try_charge(None, Class::Alerts, bytes)?;
            let (done, wait) = oneshot::channel();
            let (verdict, found) = oneshot::channel();
            self.enqueue(Command::Alerts { alerts, charge, done, verdict })?;
            journalling.push(Journalling { done: wait, verdict: Some(found) });
        }
        Ok(journalling)
    }

    fn enqueue(&self, command: Command) -> Result<(), Refusal> {
        self.shared.queue.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::busy("too many requests wait for the journal"),
            mpsc::error::TrySendError::Closed(_) => gone(),
        })
    }

    /// The journal works by itself meanwhile, so waiting for the exporters first costs nothing.
    async fn finish(
        &self,
        forwardings: &[Forwarding<'_>],
        journalling: Result<Vec<Journalling>, Refusal>,
        deadline: Instant,
    ) -> Result<Receipt, Refusal> {
        let Shared { memory, budget, .. } = &*self.shared;
        let mut outcome = Ok(Taken::default());
        let forwarded: Vec<Forwarded> = match forwardings {
            [] => Vec::new(),
            [only] => vec![only.run(memory, budget, deadline).await],
            several => {
                futures::future::join_all(several.iter().map(|each| each.run(memory, budget, deadline))).await
            }
        };
        for each in &forwarded {
            outcome = worst(outcome, each.outcome.clone());
        }
        let mut verdict = None;
        match journalling {
            Ok(waits) => {
                for wait in waits {
                    outcome = worst(outcome, journalled(wait.done, deadline).await);
                    verdict = wait.verdict.or(verdict);
                }
            }
            Err(refusal) => outcome = worst(outcome, Err(refusal)),
        }
        if let Err(Refusal::Unavailable { .. }) = &outcome {
            for (forwarding, forwarded) in forwardings.iter().zip(&forwarded) {
                forwarding.remember(memory, forwarded);
            }
        }
        outcome.map(|taken| Receipt { taken, verdict })
    }
}

impl Receipt {
    /// The findings that an alert caused, if the fold gets there before `deadline`; none for telemetry, and none the
    /// second time.
    pub async fn verdict(&mut self, deadline: Instant) -> Option<Vec<Finding>> {
        timeout_at(deadline, self.verdict.take()?).await.ok()?.ok().flatten()
    }
}

/// The journal's writer takes nothing any more.
pub(super) fn gone() -> Refusal {
    Refusal::busy("homeostat is stopping, or cannot go on (its log says why)")
}

pub(super) async fn journalled(
    done: oneshot::Receiver<Result<(), Refusal>>,
    deadline: Instant,
) -> Result<Taken, Refusal> {
    match timeout_at(deadline, done).await {
        Ok(Ok(outcome)) => outcome.map(|()| Taken::default()),
        Ok(Err(_)) => Err(gone()),
        Err(_) => Err(Refusal::busy("the journal did not commit within the sender's deadline")),
    }
}

/// `tag` leaves the source empty; only the inlet knows it.
fn fill_source(rows: &mut Rows, receiver: &str) {
    let source = rows.intern(receiver);
    for row in rows.rows_mut() {
        let Row { source: own, .. } = row;
        if own.is_none() {
            *own = source;
        }
    }
}

/// Roughly what an alert holds in memory.
fn alert_bytes(alert: &Alert) -> u64 {
    let pairs = alert.labels.iter().chain(&alert.annotations);
    let texts = pairs.map(|(name, value)| name.len() + value.len() + 48).sum::<usize>();
    let lists = alert.reqs.iter().chain(&alert.links).map(|text| text.len() + 24).sum::<usize>();
    (size_of::<Alert>() + texts + lists) as u64
}
