//! What gRPC and HTTP have in common: from the frame on the wire to the pipeline's answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use homeostat_pipeline::batch::{Batch, Compression, Content, Frame, Signal, Telemetry};
use homeostat_pipeline::budget::Budget;
use homeostat_pipeline::contract::Taken;
use homeostat_pipeline::engine::Inlet;
use homeostat_pipeline::extension::Guard;
use homeostat_pipeline::otlp;
use homeostat_pipeline::refusal::{Answer, Cause, Refusal};
use homeostat_pipeline::tracer::{self, Span};
use http::{HeaderMap, HeaderValue, header};
use tokio::time::Instant;

use super::account::Account;
use super::body::Pace;
use super::connection::Ends;
use super::inflate::inflate;
use super::json;
use super::meter::Meter;

/// What a request may take where its sender names no deadline.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// No sender waits longer than this, whatever it says.
pub const PATIENCE_MAX: Duration = Duration::from_secs(300);

/// What an open request costs besides its head and its body, roughly.
const REQUEST_BYTES: usize = 1024;

/// Where requests go. The engine's inlet; a fake in the tests of this receiver.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Whether anything takes this signal.
    fn takes(&self, signal: Signal) -> bool;

    /// As [`Inlet::submit`].
    ///
    /// # Errors
    /// As [`Inlet::submit`].
    async fn submit(&self, telemetry: Telemetry, deadline: Instant) -> Result<Taken, Refusal>;
}

#[async_trait]
impl Gate for Inlet {
    fn takes(&self, signal: Signal) -> bool {
        Inlet::takes(self, signal)
    }

    async fn submit(&self, telemetry: Telemetry, deadline: Instant) -> Result<Taken, Refusal> {
        Inlet::submit(self, Batch::Telemetry(telemetry), deadline).await.map(|receipt| receipt.taken)
    }
}

/// What all requests of one listener share.
pub struct Intake {
    /// Where they go.
    pub gate: Box<dyn Gate>,
    /// Who may send; everybody where there is none.
    pub guard: Option<Arc<dyn Guard>>,
    /// What they count.
    pub meter: Meter,
    /// What they charge.
    pub budget: Budget,
    /// The largest message, on the wire and inflated.
    pub message_bytes_max: usize,
    /// How fast bodies have to come.
    pub pace: Pace,
    /// When the receiver ends; new requests are refused when the process stops.
    pub ends: Ends,
    /// Makes the times to come back differ.
    pub dice: AtomicU64,
}

/// One message as it came.
pub struct Arrival {
    /// What it holds.
    pub signal: Signal,
    /// How it is encoded once inflated.
    pub content: Content,
    /// How it is compressed.
    pub compression: Compression,
    /// The message itself.
    pub wire: Bytes,
    /// Until when its sender waits.
    pub deadline: Instant,
    /// The request's own span; none where it has none.
    pub span: Option<Span>,
}

impl Intake {
    /// An account for one request of `peer`, charged with its head: thousands of requests without a body are not free either.
    ///
    /// # Errors
    /// Over the memory budget.
    pub fn account(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Account, Refusal> {
        let mut account = Account::new(self.budget.clone(), peer);
        let bytes = |(name, value): (&http::HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        account.cover(REQUEST_BYTES + headers.iter().map(bytes).sum::<usize>())?;
        Ok(account)
    }

    /// Refuses whose credentials are missing or wrong. Asked before anything else, and before a body is read.
    ///
    /// # Errors
    /// The same for all of them; `Unavailable` where credentials cannot be checked now.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(guard) = &self.guard else { return Ok(()) };
        guard.judge(headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes)).known().await
    }

    /// Refuses what nobody takes, and everything while the process stops. Asked before a body is read.
    ///
    /// # Errors
    /// Says which.
    pub fn admit(&self, signal: Signal) -> Result<(), Refusal> {
        if self.ends.stopping.is_cancelled() {
            return Err(Refusal::busy("homeostat is shutting down"));
        }
        if !self.gate.takes(signal) {
            let reason = format!("no pipeline takes {} from this receiver", signal.name());
            return Err(Refusal::rejected(Cause::Unknown, reason));
        }
        Ok(())
    }

    /// The span of a request that is to be taken, named as the Collector names it; none where spans are off.
    pub fn span(&self, signal: Signal, headers: &HeaderMap) -> Option<Span> {
        let name = || {
            let what = match signal {
                Signal::Traces => "TraceDataReceived",
                Signal::Metrics => "MetricsReceived",
                Signal::Logs => "LogsReceived",
            };
            format!("receiver/{}/{what}", self.meter.receiver())
        };
        tracer::request(name, headers.get("traceparent").map(HeaderValue::as_bytes))
    }

    /// Inflates, transcodes what is JSON, walks, submits, counts. The empty message is an empty request, and taken.
    ///
    /// # Errors
    /// Those of the steps.
    pub async fn take(&self, mut arrival: Arrival, account: &mut Account) -> Result<Taken, Refusal> {
        let mut records = 0;
        let Some(mut span) = arrival.span.take() else {
            return self.pass(arrival, account, &mut records).await;
        };
        let Arrival { signal, content, .. } = arrival;
        let result = span.of(self.pass(arrival, account, &mut records)).await;
        self.meter.tell(&mut span, signal, content, records, &result);
        result
    }

    /// The same, and how many records there are.
    async fn pass(
        &self,
        arrival: Arrival,
        account: &mut Account,
        records: &mut u64,
    ) -> Result<Taken, Refusal> {
        let Arrival { signal, content, compression, wire, deadline, span: _ } = arrival;
        if wire.is_empty() {
            return Ok(Taken::default());
        }
        let inflated = inflate(compression, &wire, self.message_bytes_max, account)?;
        let body = match content {
            Content::Protobuf => inflated,
            Content::Json => {
                let held_bytes = wire.len() + inflated.len();
                json::transcode(signal, &inflated, self.message_bytes_max, held_bytes, account)?
            }
        };
        if body.is_empty() {
            return Ok(Taken::default());
        }
        *records = otlp::walk(signal, &body)?;
        let records = *records;
        let frame = Frame { content, compression, bytes: wire };
        let submitting = self.meter.submitting(signal, records);
        let result = self.gate.submit(Telemetry { signal, frame, body, records }, deadline).await;
        submitting.ended(result.is_ok());
        result
    }

    /// The table's row for `refusal`, with up to twice the time to come back, so that senders do not come back together.
    pub fn answer(&self, refusal: &Refusal) -> Answer {
        let mut answer = refusal.answer();
        if let Some(after) = &mut answer.retry_after {
            // A Weyl sequence: evenly spread, and needs no more than a counter.
            let roll = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) >> 48;
            let jitter = after.as_millis() as u64 * roll / 0xffff;
            *after = (*after + Duration::from_millis(jitter)).min(Duration::from_secs(30));
        }
        answer
    }
}

/// `gzip`, `zstd` or nothing.
///
/// # Errors
/// Anything else, and more than one of them.
pub fn read_encoding(values: http::header::GetAll<'_, http::HeaderValue>) -> Result<Compression, Refusal> {
    let mut values = values.iter();
    let (Some(value), rest) = (values.next(), values.next()) else { return Ok(Compression::None) };
    let token = value.as_bytes().trim_ascii();
    if rest.is_none() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            if token.eq_ignore_ascii_case(compression.token().as_bytes()) {
                return Ok(compression);
            }
        }
    }
    Err(Refusal::rejected(
        Cause::Unsupported,
        "the body's encoding is not spoken here: send one of gzip, zstd and identity, not stacked",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&'static str], expected: Option<Compression>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONTENT_ENCODING, http::HeaderValue::from_static(value));
        }
        assert_eq!(read_encoding(headers.get_all(header::CONTENT_ENCODING)).ok(), expected, "{values:?}");
    }

    #[test]
    fn one_encoding_is_read_and_stacked_ones_are_not() {
        check(&[], Some(Compression::None));
        check(&["identity"], Some(Compression::None));
        check(&["gzip"], Some(Compression::Gzip));
        check(&[" GZIP "], Some(Compression::Gzip));
        check(&["zstd"], Some(Compression::Zstd));
        check(&["gzip, zstd"], None);
        check(&["gzip", "gzip"], None);
        check(&["br"], None);
        check(&[""], None);
    }
}
