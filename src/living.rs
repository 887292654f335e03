//! An exporter whose background tasks end when the last request that goes through it has ended, whoever holds it then.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use homeostat_pipeline::batch::Telemetry;
use homeostat_pipeline::contract::{FindingExporter, Reject, Taken, TelemetryExporter};
use homeostat_pipeline::ledger::LedgerEntry;
use homeostat_pipeline::refusal::Refusal;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

/// An exporter and its life.
pub struct Living<T: ?Sized> {
    exporter: Arc<T>,
    _life: DropGuard,
}

impl<T: ?Sized> Living<T> {
    /// `life` ends when this is dropped.
    pub fn new(exporter: Arc<T>, life: DropGuard) -> Living<T> {
        Living { exporter, _life: life }
    }
}

type Outcome<'f, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'f>>;

// Written as `async_trait` would write them, but without a future around the exporter's own.
impl TelemetryExporter for Living<dyn TelemetryExporter> {
    fn export<'s, 't, 'f>(&'s self, telemetry: &'t Telemetry, deadline: Instant) -> Outcome<'f, Taken>
    where
        's: 'f,
        't: 'f,
        Self: 'f,
    {
        self.exporter.export(telemetry, deadline)
    }

    fn is_queued(&self) -> bool {
        self.exporter.is_queued()
    }
}

impl FindingExporter for Living<dyn FindingExporter> {
    fn export<'s, 'e, 'f>(&'s self, entries: &'e [LedgerEntry]) -> Outcome<'f, Vec<Reject>>
    where
        's: 'f,
        'e: 'f,
        Self: 'f,
    {
        self.exporter.export(entries)
    }
}
