//! What a listener counts. Handles are resolved once, never per request.

use homeostat_pipeline::batch::{Content, Signal};
use homeostat_pipeline::contract::Taken;
use homeostat_pipeline::drops::{self, Reason};
use homeostat_pipeline::refusal::{Cause, Refusal};
use homeostat_pipeline::tracer::Span;
use metrics::{Counter, counter};

use super::connection::End;

/// The label `outcome`, in the order of [`outcome`]'s numbers.
const OUTCOMES: [&str; 9] = [
    "taken",
    "partial",
    "unavailable",
    "malformed",
    "too_large",
    "unauthenticated",
    "unknown",
    "unsupported",
    "backend",
];

fn outcome(result: &Result<Taken, Refusal>) -> usize {
    match result {
        Ok(taken) if taken.rejected == 0 => 0,
        Ok(_) => 1,
        Err(Refusal::Unavailable { .. }) => 2,
        Err(Refusal::Rejected { cause, .. }) => match cause {
            Cause::Malformed => 3,
            Cause::TooLarge => 4,
            Cause::Unauthenticated => 5,
            Cause::Unknown => 6,
            Cause::Unsupported => 7,
            Cause::Backend => 8,
        },
    }
}

fn reason(refusal: &Refusal) -> &'static Reason {
    match refusal {
        Refusal::Unavailable { .. } => &drops::RECEIVER_UNAVAILABLE,
        Refusal::Rejected { cause, .. } => match cause {
            Cause::Malformed => &drops::RECEIVER_MALFORMED,
            Cause::TooLarge => &drops::RECEIVER_TOO_LARGE,
            Cause::Unauthenticated => &drops::RECEIVER_UNAUTHENTICATED,
            Cause::Unknown => &drops::RECEIVER_UNKNOWN,
            Cause::Unsupported => &drops::RECEIVER_UNSUPPORTED,
            Cause::Backend => &drops::RECEIVER_BACKEND,
        },
    }
}

/// The counters of one listener.
pub struct Meter {
    receiver: String,
    transport: &'static str,
    requests: [Counter; OUTCOMES.len()],
    accepted: [Counter; Signal::ALL.len()],
    refused: [Counter; Signal::ALL.len()],
    failed: [Counter; Signal::ALL.len()],
    connections_refused: Counter,
    silent: Counter,
    faulty: Counter,
}

impl Meter {
    /// Of the receiver with the component id `receiver`, over `transport` (`grpc` or `http`).
    pub fn new(receiver: &str, transport: &'static str) -> Meter {
        let labels = [("receiver", receiver.to_owned()), ("transport", transport.to_owned())];
        let accepted = |signal| match signal {
            Signal::Traces => counter!("otelcol_receiver_accepted_spans", &labels),
            Signal::Metrics => counter!("otelcol_receiver_accepted_metric_points", &labels),
            Signal::Logs => counter!("otelcol_receiver_accepted_log_records", &labels),
        };
        let refused = |signal| match signal {
            Signal::Traces => counter!("otelcol_receiver_refused_spans", &labels),
            Signal::Metrics => counter!("otelcol_receiver_refused_metric_points", &labels),
            Signal::Logs => counter!("otelcol_receiver_refused_log_records", &labels),
        };
        let failed = |signal| match signal {
            Signal::Traces => counter!("otelcol_receiver_failed_spans", &labels),
            Signal::Metrics => counter!("otelcol_receiver_failed_metric_points", &labels),
            Signal::Logs => counter!("otelcol_receiver_failed_log_records", &labels),
        };
        let request = |outcome: &'static str| {
            let labels = [labels[0].clone(), labels[1].clone(), ("outcome", outcome.to_owned())];
            counter!("homeostat_receiver_requests_total", &labels)
        };
        let cut = |reason: &'static str| {
            let labels = [labels[0].clone(), labels[1].clone(), ("reason", reason.to_owned())];
            counter!("homeostat_receiver_connections_cut_total", &labels)
        };
        Meter {
            receiver: receiver.to_owned(),
            transport,
            requests: OUTCOMES.map(request),
            accepted: Signal::ALL.map(accepted),
            refused: Signal::ALL.map(refused),
            failed: Signal::ALL.map(failed),
            connections_refused: counter!("homeostat_receiver_connections_refused_total", &labels),
            silent: cut("silent"),
            faulty: cut("fault"),
        }
    }

    /// The receiver's id.
    pub fn receiver(&self) -> &str {
        &self.receiver
    }

    /// Says in the request's own span how it ended, in the words of the Collector.
    pub fn tell(
        &self,
        span: &mut Span,
        signal: Signal,
        content: Content,
        records: u64,
        result: &Result<Taken, Refusal>,
    ) {
        let [accepted, refused] = match signal {
            Signal::Traces => ["accepted_spans", "refused_spans"],
            Signal::Metrics => ["accepted_metric_points", "refused_metric_points"],
            Signal::Logs => ["accepted_log_records", "refused_log_records"],
        };
        span.text("receiver", self.receiver.as_str());
        span.text("transport", self.transport);
        span.text("format", if content == Content::Json { "json" } else { "protobuf" });
        let taken = if result.is_ok() { records } else { 0 };
        span.number(accepted, taken);
        span.number(refused, records - taken);
        if let Err(refusal) = result {
            span.fail(refusal);
        }
    }

    /// One connection ended.
    pub fn ended(&self, end: End) {
        match end {
            End::Usual => {}
            End::Silent => self.silent.increment(1),
            End::Fault => self.faulty.increment(1),
        }
    }

    /// A connection was closed because there were too many.
    pub fn connection_refused(&self) {
        self.connections_refused.increment(1);
        drops::RECEIVER_CONNECTIONS.count_with(1, || self.receiver.clone());
    }

    /// One request was answered.
    pub fn answered(&self, result: &Result<Taken, Refusal>) {
        self.requests[outcome(result)].increment(1);
        if let Err(refusal) = result {
            reason(refusal).count_with(1, || self.receiver.clone());
        }
    }

    /// Records are on their way: what is not told how that ended has failed.
    pub fn submitting(&self, signal: Signal, records: u64) -> Submitting<'_> {
        Submitting { meter: self, signal, records, is_over: false }
    }
}

/// Records on their way through the pipeline.
pub struct Submitting<'m> {
    meter: &'m Meter,
    signal: Signal,
    records: u64,
    is_over: bool,
}

impl Submitting<'_> {
    /// The pipeline took them, or refused them.
    pub fn ended(mut self, is_taken: bool) {
        self.is_over = true;
        let Meter { accepted, refused, receiver, .. } = self.meter;
        let counters = if is_taken { accepted } else { refused };
        counters[self.signal as usize].increment(self.records);
        if !is_taken {
            drops::RECEIVER_REFUSED.count_with(self.records, || receiver.clone());
        }
    }
}

impl Drop for Submitting<'_> {
    /// Nobody got an answer: the sender has gone, or something panicked.
    fn drop(&mut self) {
        if !self.is_over {
            self.meter.failed[self.signal as usize].increment(self.records);
            drops::RECEIVER_FAILED.count_with(self.records, || self.meter.receiver.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_outcome_and_records_by_signal() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let page = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let meter = Meter::new("otlp/a", "grpc");
            meter.answered(&Ok(Taken::default()));
            meter.answered(&Ok(Taken { rejected: 1, share: 0, message: String::new() }));
            meter.answered(&Err(Refusal::busy("full")));
            for cause in [
                Cause::Malformed,
                Cause::TooLarge,
                Cause::Unauthenticated,
                Cause::Unknown,
                Cause::Unsupported,
            ] {
                meter.answered(&Err(Refusal::rejected(cause, "no")));
            }
            meter.answered(&Err(Refusal::rejected(Cause::Backend, "no")));
            meter.submitting(Signal::Traces, 3).ended(true);
            meter.submitting(Signal::Metrics, 4).ended(false);
            meter.submitting(Signal::Logs, 5).ended(true);
            drop(meter.submitting(Signal::Metrics, 6));
        });
        let page = page.render();
        let labels = r#"receiver="otlp/a",transport="grpc""#;
        for outcome in OUTCOMES {
            let line = format!("homeostat_receiver_requests_total{{{labels},outcome=\"{outcome}\"}} 1\n");
            assert!(page.contains(&line), "{line} is not in\n{page}");
        }
        for (name, count) in [
            ("accepted_spans", 3),
            ("refused_spans", 0),
            ("accepted_metric_points", 0),
            ("refused_metric_points", 4),
            ("failed_metric_points", 6),
            ("accepted_log_records", 5),
            ("refused_log_records", 0),
            ("failed_log_records", 0),
        ] {
            let line = format!("otelcol_receiver_{name}{{{labels}}} {count}\n");
            assert!(page.contains(&line), "{line} is not in\n{page}");
        }
    }
}
