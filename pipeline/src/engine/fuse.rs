//! A telemetry exporter in its place: a panic of it harms one request, whose sender is told to come back; the others of the same
//! connection, and those that were merged with it, go on.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use metrics::{Counter, counter};
use tokio::time::Instant;

use super::complaint::Complaint;
use super::stage::said;
use crate::batch::Telemetry;
use crate::contract::{Taken, TelemetryExporter};
use crate::refusal::Refusal;

/// An exporter, and what its panics count.
pub(crate) struct Fuse {
    id: String,
    exporter: Arc<dyn TelemetryExporter>,
    panics: Counter,
    complaint: Complaint,
}

impl Fuse {
    /// `id` is the exporter's.
    pub(crate) fn new(id: &str, exporter: Arc<dyn TelemetryExporter>) -> Fuse {
        Fuse {
            id: id.to_owned(),
            exporter,
            panics: counter!("homeostat_exporter_panics_total", "exporter" => id.to_owned()),
            complaint: Complaint::default(),
        }
    }

    /// What it stands before.
    pub(crate) fn exporter(&self) -> &Arc<dyn TelemetryExporter> {
        &self.exporter
    }

    /// As [`TelemetryExporter::export`], and `Unavailable` where it panics: another version may know better.
    ///
    /// # Errors
    /// Those.
    pub(crate) async fn export(&self, telemetry: &Telemetry, deadline: Instant) -> Result<Taken, Refusal> {
        let panicked = || Err(Refusal::busy("it cannot be handed on: the exporter panicked"));
        self.call(telemetry, deadline).await.unwrap_or_else(panicked)
    }

    /// The same; none where it panicked, which is counted and said.
    pub(crate) async fn call(
        &self,
        telemetry: &Telemetry,
        deadline: Instant,
    ) -> Option<Result<Taken, Refusal>> {
        let call = AssertUnwindSafe(async { self.exporter.export(telemetry, deadline).await });
        let panic = match call.catch_unwind().await {
            Ok(outcome) => return Some(outcome),
            Err(panic) => panic,
        };
        self.panics.increment(1);
        if self.complaint.note(false, Instant::now()) {
            let reason = said(&*panic).unwrap_or("it does not say why");
            tracing::error!(
                exporter = self.id,
                reason,
                "an exporter panicked; senders of such requests are told to come back"
            );
        }
        None
    }
}
