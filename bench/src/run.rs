//! Runs one case: its own subject, its own sink, and what both and the kernel say at the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep};

use crate::account::{Account, Cores};
use crate::case::{CONCURRENCY, Case, Drive, Quantity};
use crate::load::{Load, Pace, Tally};
use crate::payload::{Payloads, Shape};
use crate::sink::Sink;
use crate::subject::{Setup, Subject};
use crate::system::{System, Wiring, free_ports};

/// What the fold may lag behind the acknowledgements, and is waited for: its work belongs to the spans.
const SETTLE: Duration = Duration::from_secs(1);
/// Requests on the way at the stalled sink: ten times what the memory budget of 32 MiB holds of them.
const OVERLOAD: usize = 1024;
/// How long nothing may arrive at the sink before what is missing counts as lost: rivals try again after five seconds.
const GIVE_UP: Duration = Duration::from_secs(10);

/// What is the same for all cases.
pub struct Bench {
    /// For its data.
    pub directory: PathBuf,
    /// `None` where nothing is pinned.
    pub cores: Option<Cores>,
    /// Inflated bytes of the distinct payloads.
    pub payload_bytes: usize,
    /// How long each case is measured.
    pub lasting: Duration,
    /// The 99th percentile of one `fdatasync` in the directory, in milliseconds.
    pub sync_ms_p99: f64,
}

/// What a case came to. Times are milliseconds where they are not said to be otherwise.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// The case.
    pub case: String,
    /// What ran it.
    pub system: &'static str,
    /// Why there is nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Inflated bytes of a span.
    pub bytes_per_span: f64,
    /// Acknowledged spans a second; flat out, until the sink had them.
    pub spans_per_second: f64,
    /// Flat out: what a whole core would take in a second, by the processor time of a span.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core_spans_per_second: Option<f64>,
    /// Requests that were to be sent again.
    pub refused: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Spans that were acknowledged and did not arrive at the sink; nobody waits for them where it stalls.
    pub lost: u64,
    /// Microseconds of processor time an acknowledged span.
    pub cpu_us_per_span: Option<f64>,
    /// Of one core, while it was measured.
    pub cpu_percent: f64,
    /// The most that was seen.
    pub resident_mib: f64,
    /// Half of the acknowledgements came within it.
    pub ack_ms_p50: Option<f64>,
    /// 99 of 100 acknowledgements came within it.
    pub ack_ms_p99: Option<f64>,
    /// What the design allows, and what was reached.
    pub budgets: Vec<Reached>,
}

/// A budget and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reached {
    /// Of what.
    pub quantity: &'static str,
    /// At most.
    pub budget: f64,
    /// What was measured.
    pub reached: f64,
}

impl Bench {
    /// Runs a case; an error is an outcome too.
    pub async fn run(&self, system: &System, case: &Case) -> Outcome {
        let outcome = match self.measure(system, case).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome { error: Some(format!("{error:#}")), ..Outcome::default() },
        };
        Outcome { case: case.name.clone(), system: system.kind.name(), ..outcome }
    }

    async fn measure(&self, system: &System, case: &Case) -> anyhow::Result<Outcome> {
        let warm_up = self.lasting.div_f64(4.0).max(Duration::from_millis(500));
        let payloads = Arc::new(Payloads::new(Shape {
            compression: case.compression,
            tagged_percent: case.tagged_percent,
            batch: case.batch,
            bytes: self.payload_bytes,
            from: now(),
            over: (warm_up + self.lasting).as_nanos() as u64,
        }));
        let is_exact = system.kind.answers_after_the_sink();
        let sink = Sink::start(!is_exact).await.context("cannot start the sink")?;
        let (grpc, http) = free_ports()?;
        let wiring = Wiring {
            sink: sink.address,
            forward: case.protocol,
            compression: case.compression,
            is_tagged: case.tagged_percent > 0,
            grpc,
            http,
        };
        let setup = Setup { system, directory: &self.directory, cores: self.cores.as_ref(), wiring };
        let subject = Subject::start(&setup).await?;
        let load = Load {
            target: subject.address(case.protocol),
            protocol: case.protocol,
            payloads: Arc::clone(&payloads),
            sequence: Arc::new(AtomicU64::new(0)),
        };
        let warm = self.warm(case, &load, &sink, warm_up).await?;
        if !is_exact {
            drained(&sink, warm.taken * case.batch).await;
        }
        let before = Arrived::at(&sink);
        let expected = (!is_exact && case.drive != Drive::Stalled).then_some(before.spans);
        let measured =
            Measured::of(subject.account, &warm.pace, &load, self.lasting, &sink, expected).await?;
        if measured.tally.taken == 0 && matches!(case.drive, Drive::Flat(_) | Drive::Rate(_) | Drive::Half) {
            let Tally { refused, failed, .. } = measured.tally;
            bail!("nothing was acknowledged ({refused} refused, {failed} failed)");
        }
        let arrived = Arrived::at(&sink).since(&before);
        let mut outcome = self.outcome(case, &payloads, &measured);
        match case.drive {
            // What a rival does with a queue that nobody takes is not waited for.
            Drive::Stalled if !is_exact => drop(subject),
            Drive::Stalled => drop(subject.stop().await),
            Drive::Flat(_) | Drive::Rate(_) | Drive::Half | Drive::Idle => {
                let stopped = subject.stop().await;
                if is_exact {
                    check_forwarded(&measured.tally, (arrived.requests, arrived.bytes))?;
                } else {
                    outcome.lost = (measured.tally.taken * case.batch).saturating_sub(arrived.spans);
                }
                stopped?;
            }
        }
        Ok(outcome)
    }

    /// Warms up, and finds out how fast to send.
    async fn warm(&self, case: &Case, load: &Load, sink: &Sink, warm_up: Duration) -> anyhow::Result<Warm> {
        let (tally, pace) = match case.drive {
            Drive::Idle => {
                sleep(warm_up).await;
                (Tally::default(), None)
            }
            Drive::Flat(concurrency) => {
                let pace = Pace::Closed(concurrency);
                (load.run(pace, warm_up).await?, Some(pace))
            }
            Drive::Rate(spans) => {
                let pace = Pace::Open(spans / case.batch as f64);
                (load.run(pace, warm_up).await?, Some(pace))
            }
            Drive::Half => {
                let flat_out = load.run(Pace::Closed(CONCURRENCY), self.lasting).await?;
                if flat_out.taken == 0 {
                    bail!(
                        "nothing was acknowledged flat out ({} refused, {} failed)",
                        flat_out.refused,
                        flat_out.failed
                    );
                }
                sleep(SETTLE).await;
                let rate = flat_out.taken as f64 / self.lasting.as_secs_f64() / 2.0;
                (flat_out, Some(Pace::Open(rate)))
            }
            Drive::Stalled => {
                sink.stall();
                (Tally::default(), Some(Pace::Closed(OVERLOAD)))
            }
        };
        Ok(Warm { pace, taken: tally.taken })
    }

    fn outcome(&self, case: &Case, payloads: &Payloads, measured: &Measured) -> Outcome {
        let spans = (measured.tally.taken * payloads.batch) as f64;
        // Flat out, what was acknowledged ahead of the sink is not what it can take.
        let seconds = match case.drive {
            Drive::Flat(_) => measured.drained.as_secs_f64(),
            Drive::Rate(_) | Drive::Half | Drive::Idle | Drive::Stalled => measured.lasted.as_secs_f64(),
        };
        // What was acknowledged at a stalled sink was not dealt with.
        let is_dealt_with = spans > 0.0 && case.drive != Drive::Stalled;
        let cpu_us_per_span = is_dealt_with.then(|| measured.cpu.as_secs_f64() * 1e6 / spans);
        let mut outcome = Outcome {
            bytes_per_span: payloads.bytes_per_span,
            spans_per_second: spans / seconds,
            refused: measured.tally.refused,
            failed: measured.tally.failed,
            core_spans_per_second: cpu_us_per_span
                .filter(|cpu| *cpu > 0.0 && matches!(case.drive, Drive::Flat(_)))
                .map(|cpu| 1e6 / cpu),
            cpu_us_per_span,
            cpu_percent: measured.cpu.as_secs_f64() * 100.0 / seconds,
            resident_mib: measured.resident as f64 / f64::from(1 << 20),
            ack_ms_p50: measured.tally.latency.quantile_ms(0.5),
            ack_ms_p99: measured.tally.latency.quantile_ms(0.99),
            ..Outcome::default()
        };
        outcome.budgets = case
            .budgets
            .iter()
            .filter_map(|budget| {
                let reached = self.reached(budget.of, &outcome)?;
                Some(Reached { quantity: budget.of.name(), budget: budget.limit, reached })
            })
            .collect();
        outcome
    }

    fn reached(&self, quantity: Quantity, outcome: &Outcome) -> Option<f64> {
        match quantity {
            Quantity::CpuPerSpan => outcome.cpu_us_per_span,
            Quantity::CpuPercent => Some(outcome.cpu_percent),
            Quantity::Resident => Some(outcome.resident_mib),
            Quantity::Acknowledgement => outcome.ack_ms_p99.map(|ms| (ms - self.sync_ms_p99).max(0.0)),
        }
    }
}

/// What was acknowledged must be at the sink, byte for byte as long as it was; what failed may be there too.
fn check_forwarded(tally: &Tally, (requests, bytes): (u64, u64)) -> anyhow::Result<()> {
    let is_exact =
        tally.failed > 0 || tally.refused > 0 || (requests, bytes) == (tally.taken, tally.taken_bytes);
    if requests < tally.taken || bytes < tally.taken_bytes || !is_exact {
        bail!(
            "{} requests of {} bytes were acknowledged, and the sink took {requests} of {bytes}",
            tally.taken,
            tally.taken_bytes
        );
    }
    Ok(())
}

/// How it is to be driven, and what was acknowledged until it was warm.
struct Warm {
    pace: Option<Pace>,
    taken: u64,
}

/// What the sink has.
struct Arrived {
    requests: u64,
    bytes: u64,
    spans: u64,
}

impl Arrived {
    fn at(sink: &Sink) -> Arrived {
        Arrived { requests: sink.requests(), bytes: sink.bytes(), spans: sink.spans() }
    }

    fn since(&self, before: &Arrived) -> Arrived {
        Arrived {
            requests: self.requests - before.requests,
            bytes: self.bytes - before.bytes,
            spans: self.spans - before.spans,
        }
    }
}

/// Waits until so many spans are at the sink, or none has come for long, and says when the last came.
async fn drained(sink: &Sink, spans: u64) -> Instant {
    let (mut seen, mut last) = (sink.spans(), Instant::now());
    while seen < spans && last.elapsed() < GIVE_UP {
        sleep(Duration::from_millis(5)).await;
        if sink.spans() > seen {
            (seen, last) = (sink.spans(), Instant::now());
        }
    }
    last
}

struct Measured {
    tally: Tally,
    /// Until the last answer.
    lasted: Duration,
    /// Until the sink had it too.
    drained: Duration,
    cpu: Duration,
    resident: u64,
}

impl Measured {
    /// `sunk`: how many spans the sink had before, where it is waited for.
    async fn of(
        account: Account,
        pace: &Option<Pace>,
        load: &Load,
        lasting: Duration,
        sink: &Sink,
        sunk: Option<u64>,
    ) -> anyhow::Result<Measured> {
        let peak = watch(account);
        let (begin, before) = (Instant::now(), account.cpu()?);
        let tally = match pace {
            Some(pace) => load.run(*pace, lasting).await?,
            None => {
                sleep(lasting).await;
                Tally::default()
            }
        };
        let lasted = begin.elapsed();
        let mut until = lasted;
        if let Some(sunk) = sunk {
            let last = drained(sink, sunk + tally.taken * load.payloads.batch).await;
            until = lasted.max(last.duration_since(begin));
        }
        sleep(SETTLE).await;
        let cpu = account.cpu()?.saturating_sub(before);
        peak.stop.abort();
        let resident = peak.most.load(Ordering::Relaxed).max(account.resident()?);
        Ok(Measured { tally, lasted, drained: until, cpu, resident })
    }
}

struct Peak {
    most: Arc<AtomicU64>,
    stop: JoinHandle<()>,
}

/// Looks at the resident memory twenty times a second.
fn watch(account: Account) -> Peak {
    let most = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&most);
    let stop = tokio::spawn(async move {
        let mut looks = interval(Duration::from_millis(50));
        loop {
            looks.tick().await;
            if let Ok(resident) = account.resident() {
                seen.fetch_max(resident, Ordering::Relaxed);
            }
        }
    });
    Peak { most, stop }
}

/// Nanoseconds since the epoch: spans must be of now, or they are late.
fn now() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the load is of the real time; nothing is judged by it here"
    )]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Kind;

    fn tally(taken: u64, failed: u64) -> Tally {
        Tally { taken, taken_bytes: taken * 100, failed, ..Tally::default() }
    }

    #[test]
    fn an_acknowledged_request_that_the_sink_did_not_take_fails_the_case() {
        assert!(check_forwarded(&tally(3, 0), (3, 300)).is_ok());
        assert!(check_forwarded(&tally(3, 0), (2, 200)).is_err());
        assert!(check_forwarded(&tally(3, 0), (3, 299)).is_err());
        assert!(check_forwarded(&tally(3, 0), (3, 301)).is_err(), "a frame that grew was not passed through");
        assert!(check_forwarded(&tally(3, 1), (4, 400)).is_ok(), "an unanswered request may have arrived");
        assert!(check_forwarded(&tally(3, 1), (2, 400)).is_err());
    }

    #[tokio::test]
    async fn a_case_that_cannot_run_is_an_outcome_with_its_reason() {
        let directory = tempfile::tempdir().expect("a folder");
        let bench = Bench {
            directory: directory.path().into(),
            cores: None,
            payload_bytes: 100_000,
            lasting: Duration::from_millis(10),
            sync_ms_p99: 1.0,
        };
        let case = &crate::case::cases()[0];
        let system = System { kind: Kind::Homeostat, program: "/nowhere/homeostat".into() };
        let outcome = bench.run(&system, case).await;
        let error = outcome.error.expect("there is no such program");
        assert!(error.starts_with("cannot run /nowhere/homeostat"), "{error}");
    }

    #[test]
    fn budgets_are_set_against_what_was_measured() {
        let bench = Bench {
            directory: PathBuf::new(),
            cores: None,
            payload_bytes: 100_000,
            lasting: Duration::from_secs(1),
            sync_ms_p99: 2.0,
        };
        let outcome = Outcome {
            cpu_us_per_span: Some(0.4),
            cpu_percent: 3.0,
            resident_mib: 20.0,
            ack_ms_p99: Some(9.0),
            ..Outcome::default()
        };
        for (quantity, expected) in [
            (Quantity::CpuPerSpan, 0.4),
            (Quantity::CpuPercent, 3.0),
            (Quantity::Resident, 20.0),
            (Quantity::Acknowledgement, 7.0),
        ] {
            assert_eq!(bench.reached(quantity, &outcome), Some(expected), "{quantity:?}");
        }
        assert_eq!(bench.reached(Quantity::CpuPerSpan, &Outcome::default()), None);
    }
}
