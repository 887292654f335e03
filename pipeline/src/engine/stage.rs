//! A pure processor in its place: what it is given and what it gives on is counted, and a panic of it harms one request only.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use metrics::{Counter, counter};
use tokio::time::Instant;

use super::complaint::Complaint;
use crate::batch::{Batch, Signal};
use crate::contract::Processor;
use crate::drops;
use crate::refusal::Refusal;

/// One processor of the process; pipelines share it.
pub(super) struct Stage {
    id: String,
    processor: Arc<dyn Processor>,
    incoming: [Counter; 3],
    outgoing: [Counter; 3],
    panics: Counter,
    complaint: Complaint,
}

impl Stage {
    pub(super) fn new(id: &str, processor: Arc<dyn Processor>) -> Stage {
        let labels =
            |signal: Signal| [("processor", id.to_owned()), ("otel_signal", signal.name().to_owned())];
        Stage {
            id: id.to_owned(),
            processor,
            incoming: Signal::ALL.map(|signal| counter!("otelcol_processor_incoming_items", &labels(signal))),
            outgoing: Signal::ALL.map(|signal| counter!("otelcol_processor_outgoing_items", &labels(signal))),
            panics: counter!("homeostat_processor_panics_total", "processor" => id.to_owned()),
            complaint: Complaint::default(),
        }
    }

    /// As [`Processor::process`].
    ///
    /// # Errors
    /// As [`Processor::process`], and `Unavailable` where it panics: another version may know better.
    pub(super) fn process(&self, batch: Batch, out: &mut Vec<Batch>) -> Result<(), Refusal> {
        count(&self.incoming, &batch);
        let from = out.len();
        let result = catch_unwind(AssertUnwindSafe(|| self.processor.process(batch, out)));
        let processed = result.unwrap_or_else(|panic| {
            self.panics.increment(1);
            drops::PROCESSOR_PANIC.count_with(1, || self.id.clone());
            if self.complaint.note(false, Instant::now()) {
                let reason = said(&*panic).unwrap_or("it does not say why");
                tracing::error!(
                    processor = self.id,
                    reason,
                    "a processor panicked; senders of such requests are told to come back"
                );
            }
            Err(Refusal::busy(format!("processor `{}` cannot process it", self.id)))
        });
        processed?;
        for batch in out.get(from..).unwrap_or_default() {
            count(&self.outgoing, batch);
        }
        Ok(())
    }
}

fn count(counters: &[Counter; 3], batch: &Batch) {
    match batch {
        Batch::Telemetry(telemetry) => counters[telemetry.signal as usize].increment(telemetry.records),
        Batch::Alerts(_) | Batch::Evidence(_) => {}
    }
}

/// What a panic says, where it says anything.
pub(super) fn said(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied())
}
