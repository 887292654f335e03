//! Forwards telemetry to an OTLP backend over gRPC or HTTP: the frame's bytes as they came, within the sender's deadline.
//!
//! ```yaml
//! otlp/backend: { endpoint: http://127.0.0.1:5317, timeout: 5s }
//! otlphttp/vendor: { endpoint: http://127.0.0.1:5318, headers: { api-key: "${env:API_KEY:-none}" } }
//! otlp/far:
//!   endpoint: https://backend.example:4317
//!   compression: zstd
//!   max_request_bytes: 4194304
//!   timeout: 10s
//!   retry_on_failure: { initial_interval: 1s, max_interval: 30s, max_elapsed_time: 0s, multiplier: 1.5, randomization_factor: 0.5 }
//!   sending_queue: { enabled: true, num_consumers: 4, sizer: requests, queue_size: 100000, block_on_overflow: false, max_mib: 2048, max_age: 24h }
//!   tls: { min_version: "1.2", max_version: "1.3" }
//! ```
//!
//! What the backend may take later is sent again (`answer` says what that is) until the time is over; then the sender is asked to
//! come back. What the backend took in part is never sent again, and a request that is too large for it goes out in parts. With
//! `sending_queue` the sender waits for the disk instead of the backend (`spool`).

mod answer;
mod attempt;
mod begun;
mod client;
mod parcel;
mod retry_after;
mod sending;
mod settings;
mod spool;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use homeostat_pipeline::batch::{Signal, Telemetry};
use homeostat_pipeline::contract::{Taken, TelemetryExporter};
use homeostat_pipeline::extension::{Auth, Side};
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::{Component, Context, Registration, Role, Settings};
use homeostat_pipeline::settings::{Files, Problem, read};
use metrics::{Counter, counter};
use tokio::time::{Instant, sleep};

use begun::Begun;
use client::Client;
use parcel::Parcel;
use sending::{Advance, Knife, Patience, Sending};
use settings::{Otlp, Protocol, RetryOnFailure, period_or};
use spool::{Queued, Way};

pub use spool::waiting_requests;

const TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A backend that says "at once" is not asked more often than this.
const WAIT_MIN: Duration = Duration::from_millis(10);
/// A backend that names a later time is asked again all the same, for a queue must not stand still by a mistake of its date.
const WAIT_MAX: Duration = Duration::from_mins(15);
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// `otlp` and `otlphttp` in the list of exporters.
pub fn registrations() -> [Registration; 2] {
    [
        Registration::reading::<Otlp>(
            "otlp",
            "forwards telemetry as it came to an OTLP backend, over gRPC unless `protocol` says otherwise",
            |node| {
                settings::check_keys(node)?;
                let settings = read::<Otlp>(node)?;
                let protocol = settings.protocol.unwrap_or(Protocol::Grpc);
                Ok(Box::new(Kind { settings, protocol }))
            },
        ),
        Registration::reading::<Otlp>(
            "otlphttp",
            "forwards telemetry as it came to an OTLP backend over HTTP",
            |node| {
                settings::check_keys(node)?;
                let settings = read::<Otlp>(node)?;
                let protocol = settings.protocol.unwrap_or(Protocol::Http);
                Ok(Box::new(Kind { settings, protocol }))
            },
        ),
    ]
}

/// The settings and what the exporter's type says where they are silent.
#[derive(Debug)]
struct Kind {
    settings: Otlp,
    protocol: Protocol,
}

#[async_trait]
impl Settings for Kind {
    fn role(&self) -> Role {
        Role::TelemetryExporter
    }

    fn check(&self, files: &Files) -> Vec<Problem> {
        let mut problems = self.settings.problems(self.protocol);
        problems.extend(self.settings.tls.iter().flat_map(|tls| tls.problems(files)));
        problems
    }

    fn authenticators(&self) -> Vec<(Side, &Auth)> {
        self.settings.auth.iter().map(|auth| (Side::Credentials, auth)).collect()
    }

    fn is_exclusive(&self) -> bool {
        self.settings.queue().is_some()
    }

    async fn open(&self, context: Context) -> anyhow::Result<Component> {
        let way = self.way(&context)?;
        Ok(Component::TelemetryExporter(match self.settings.queue() {
            Some(queue) => Arc::new(Queued::open(queue, way, &context)?),
            None => Arc::new(Exporter::new(way)),
        }))
    }
}

impl Kind {
    fn way(&self, context: &Context) -> anyhow::Result<Way> {
        let Kind { settings, protocol } = self;
        if let Some(problem) = settings.problems(*protocol).into_iter().find(|problem| !problem.is_warning) {
            return Err(problem.into());
        }
        let bytes_max =
            settings.max_request_bytes.as_ref().map(|size| usize::try_from(size.value).unwrap_or(usize::MAX));
        // A queue has the memory before it sends.
        let budget = settings.queue().is_none().then(|| context.budget.clone());
        Ok(Way {
            client: Client::new(settings, *protocol, context)?,
            knife: Knife::new(&context.id, bytes_max, budget),
            timeout: period_or(settings.timeout, TIMEOUT),
            retry: Retry::new(settings.retry_on_failure, &context.id),
        })
    }
}

/// The exporter without a queue: the sender waits for the backend.
struct Exporter {
    way: Way,
    begun: Begun,
}

impl Exporter {
    fn new(way: Way) -> Exporter {
        Exporter { way, begun: Begun::default() }
    }

    /// What is still to be sent of a request.
    fn resume(&self, telemetry: &Telemetry) -> Result<Sending, Refusal> {
        let (parcel, now) = (Parcel::new(telemetry), Instant::now());
        let Some(trail) = self.begun.take(telemetry, now) else { return Ok(Sending::new(parcel)) };
        let resumed = Sending::resume(&parcel, &trail, &self.way.knife);
        resumed.inspect_err(|_| self.begun.keep(telemetry, trail, now))
    }

    fn unavailable(&self, signal: Signal, after: Option<Duration>, reason: &str) -> Refusal {
        Refusal::Unavailable {
            retry_after: after.unwrap_or(RETRY_AFTER_MIN).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX),
            reason: self.way.client.explain(signal, reason),
        }
    }
}

/// When a request is sent again.
struct Retry {
    settings: RetryOnFailure,
    retries: Counter,
    /// Makes the waits differ.
    dice: AtomicU64,
}

impl Retry {
    fn new(settings: RetryOnFailure, id: &str) -> Retry {
        let retries = counter!("homeostat_exporter_retries_total", "exporter" => id.to_owned());
        Retry { settings, retries, dice: AtomicU64::new(0) }
    }

    /// How long to wait before repetition number `repetition` (from 0); what the backend says counts.
    fn wait(&self, after: Option<Duration>, repetition: u32) -> Duration {
        let own = || self.settings.wait(repetition, self.roll());
        after.map_or_else(own, |after| after.clamp(WAIT_MIN, WAIT_MAX))
    }

    /// Between 0 and 1, evenly spread (a Weyl sequence).
    fn roll(&self) -> f64 {
        let roll = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) >> 48;
        roll as f64 / 65_536.0
    }
}

#[async_trait]
impl TelemetryExporter for Exporter {
    async fn export(&self, telemetry: &Telemetry, deadline: Instant) -> Result<Taken, Refusal> {
        let Way { client, knife, timeout, retry } = &self.way;
        let signal = telemetry.signal;
        let start = Instant::now();
        let deadline = deadline.min(start + *timeout);
        let last_start = match retry.settings.max_elapsed_time.0 {
            Duration::ZERO => deadline,
            elapsed => deadline.min(start + elapsed),
        };
        let mut followed = self.begun.follow(telemetry, self.resume(telemetry)?);
        let mut repetition = 0;
        let mut last_reason = None;
        loop {
            let (after, reason) =
                match followed.sending.advance(client, knife, Patience::Until(deadline)).await {
                    Advance::Done(Ok(taken)) => return Ok(taken),
                    Advance::Done(Err((cause, reason))) => {
                        return Err(Refusal::rejected(cause, reason));
                    }
                    Advance::Later { after, reason } => (after, reason),
                };
            // Whoever runs out of time is told what went wrong before.
            let reason = if Instant::now() >= deadline { last_reason.unwrap_or(reason) } else { reason };
            let wait = retry.wait(after, repetition);
            if !retry.settings.enabled || Instant::now() + wait >= last_start {
                return Err(self.unavailable(signal, after, &reason));
            }
            sleep(wait).await;
            repetition += 1;
            retry.retries.increment(1);
            last_reason = Some(reason);
        }
    }

    fn is_queued(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
