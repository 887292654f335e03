//! `debug` shows telemetry to the person who is setting things up, as the Collector's exporter of that name does.
//!
//! ```yaml
//! exporters:
//!   debug: {}                                   # one line a request, in homeostat's own log
//!   debug/all:
//!     verbosity: detailed                       # basic, normal or detailed
//!     sampling_initial: 2                       # so many requests of each second are shown …
//!     sampling_thereafter: 1                    # … and of those after them every so many; 0: none
//!     use_internal_logger: false                # to standard output instead
//! ```
//!
//! It takes everything and never holds a sender up: of what does not fit (1 MiB a second, and what a stalled reader leaves) nothing
//! is shown, and the next line says how much was left out. It shows what telemetry says, whatever that is: `redact` belongs before it.

mod page;
mod points;
mod records;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use homeostat_pipeline::batch::{Signal, Telemetry};
use homeostat_pipeline::contract::{Taken, TelemetryExporter};
use homeostat_pipeline::otlp;
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::{Component, Context, Role, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use page::Page;

const SECOND: Duration = Duration::from_secs(1);
/// What is shown in a second.
const BYTES_MAX: usize = 1 << 20;
/// Pages that wait for whoever reads standard output.
const WAITING_MAX: usize = 4;

/// The settings of `debug`; see the module for the YAML.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Debug {
    /// How much of a request is shown.
    pub verbosity: Verbosity,
    /// So many requests of each second are shown.
    pub sampling_initial: u64,
    /// Of those after them every so many; 0 for none.
    pub sampling_thereafter: u64,
    /// Into homeostat's log, else to standard output.
    pub use_internal_logger: bool,
}

impl Default for Debug {
    fn default() -> Debug {
        Debug {
            verbosity: Verbosity::Basic,
            sampling_initial: 2,
            sampling_thereafter: 1,
            use_internal_logger: true,
        }
    }
}

/// How much of a request is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verbosity {
    /// A line with counts.
    Basic,
    /// And a line for each record.
    Normal,
    /// And all that each record says.
    Detailed,
}

#[async_trait]
impl Settings for Debug {
    fn role(&self) -> Role {
        Role::TelemetryExporter
    }

    async fn open(&self, context: Context) -> anyhow::Result<Component> {
        Ok(Component::TelemetryExporter(Arc::new(Exporter {
            id: context.id,
            settings: self.clone(),
            shown: Mutex::default(),
            waiting: Arc::default(),
        })))
    }
}

struct Exporter {
    id: String,
    settings: Debug,
    shown: Mutex<Shown>,
    waiting: Arc<AtomicUsize>,
}

/// What was shown in this second.
#[derive(Default)]
struct Shown {
    since: Option<Instant>,
    requests: u64,
    bytes: usize,
    left_out: u64,
}

impl Shown {
    /// Whether the next request is one to show; how many bytes there is room for, and how many requests were left out before it
    /// for want of room.
    fn next(&mut self, settings: &Debug, now: Instant) -> Option<(usize, u64)> {
        if self.since.is_none_or(|since| now.duration_since(since) >= SECOND) {
            *self = Shown { since: Some(now), left_out: self.left_out, ..Shown::default() };
        }
        self.requests += 1;
        let after = self.requests.saturating_sub(settings.sampling_initial);
        if after > 0
            && (settings.sampling_thereafter == 0 || !after.is_multiple_of(settings.sampling_thereafter))
        {
            return None;
        }
        if self.bytes >= BYTES_MAX {
            self.left_out += 1;
            return None;
        }
        Some((BYTES_MAX - self.bytes, std::mem::take(&mut self.left_out)))
    }
}

#[async_trait]
impl TelemetryExporter for Exporter {
    async fn export(&self, telemetry: &Telemetry, _deadline: Instant) -> Result<Taken, Refusal> {
        let shown = || self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((room, left_out)) = shown().next(&self.settings, Instant::now()) else {
            return Ok(Taken::default());
        };
        let page = show(telemetry, self.settings.verbosity, room);
        shown().bytes += page.len().max(64);
        if left_out > 0 {
            let exporter = &*self.id;
            tracing::warn!(exporter, requests = left_out, "requests were not shown: too much in one second");
        }
        if self.settings.use_internal_logger {
            let exporter = &*self.id;
            tracing::info!(exporter, "{}", page.trim_end());
        } else if !self.print(page) {
            shown().left_out += 1;
        }
        Ok(Taken::default())
    }

    fn is_queued(&self) -> bool {
        false
    }
}

impl Exporter {
    /// Writes to standard output, where somebody else may be slow to read; false when too much waits for that.
    fn print(&self, page: String) -> bool {
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        let waiting = Arc::clone(&self.waiting);
        tokio::task::spawn_blocking(move || {
            let mut out = std::io::stdout().lock();
            // A reader that has gone is no reason to refuse telemetry.
            let _ = out.write_all(page.as_bytes()).and_then(|()| out.flush());
            waiting.fetch_sub(1, Ordering::AcqRel);
        });
        true
    }
}

/// A request as it is shown, in at most about `room` bytes.
fn show(telemetry: &Telemetry, verbosity: Verbosity, room: usize) -> String {
    let Telemetry { signal, body, records, .. } = telemetry;
    let resources = otlp::resources(body).count();
    let mut page = Page::new(room);
    match signal {
        Signal::Traces => page.line(format_args!("Traces: resource spans {resources}, spans {records}")),
        Signal::Metrics => {
            let scopes = otlp::resource_metrics(body).flat_map(|resource| resource.scopes());
            let metrics: usize = scopes.map(|scope| scope.messages().count()).sum();
            page.line(format_args!(
                "Metrics: resource metrics {resources}, metrics {metrics}, data points {records}"
            ));
        }
        Signal::Logs => page.line(format_args!("Logs: resource logs {resources}, log records {records}")),
    }
    match (verbosity, signal) {
        (Verbosity::Basic, _) => {}
        (Verbosity::Normal, Signal::Traces) => records::normal_spans(body, &mut page),
        (Verbosity::Normal, Signal::Logs) => records::normal_logs(body, &mut page),
        (Verbosity::Normal, Signal::Metrics) => points::normal(body, &mut page),
        (Verbosity::Detailed, Signal::Traces) => records::spans(body, &mut page),
        (Verbosity::Detailed, Signal::Logs) => records::logs(body, &mut page),
        (Verbosity::Detailed, Signal::Metrics) => points::detailed(body, &mut page),
    }
    page.finish()
}
