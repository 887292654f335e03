//! `homeostat run`, and the instance that `demo` runs too: everything started in order, and stopped in the reverse order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use homeostat_pipeline::clock::{Clock, SystemClock};
use homeostat_pipeline::engine::{Engine, Health};
use homeostat_pipeline::ledger::LedgerReader;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Ask, recorder};
use crate::assemble::{Assembly, assemble};
use crate::cli::{self, COULD_NOT_RUN, FOUND, GOOD};
use crate::configuration::{self, Configuration};
use crate::extensions;
use crate::logs;

/// What of the stop's time is the receivers' to finish what they took; the rest is for the fold and the exporters.
const RECEIVERS_SHARE: f64 = 0.4;

/// A running homeostat.
pub struct Instance {
    engine: Arc<Engine>,
    receivers: JoinSet<(String, anyhow::Result<()>)>,
    admin: JoinSet<anyhow::Result<()>>,
    drain: CancellationToken,
    stop: CancellationToken,
    shutdown: Duration,
    ledger: LedgerReader,
    /// Receiver id → where it listens.
    pub addresses: BTreeMap<String, Vec<SocketAddr>>,
    /// `/metrics`, `/healthz`, `/readyz`.
    pub admin_address: SocketAddr,
}

impl Instance {
    /// Opens and starts everything. The metrics recorder must be installed before.
    ///
    /// # Errors
    /// Names what cannot be started, and why; nothing runs then.
    pub async fn start(configuration: &Configuration, handle: PrometheusHandle) -> anyhow::Result<Instance> {
        let service = &configuration.spec.service;
        let metrics = &service.telemetry.metrics;
        let admin = Admin::bind(&metrics.endpoint.value, metrics.insecure)?;
        let admin_address = admin.address();
        let extra_pages = extensions::bind(&configuration.spec, &configuration.extensions)?;
        let stop = CancellationToken::new();
        let drain = CancellationToken::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let Assembly { plan, receivers: opened } = assemble(configuration, clock, stop.clone()).await?;
        let ledger = plan.store.ledger.reader();
        let engine = Arc::new(Engine::start(plan)?);
        let ask: Ask = Arc::new({
            let (engine, drain) = (Arc::clone(&engine), drain.clone());
            move || health(&engine, drain.is_cancelled())
        });
        let mut pages = JoinSet::new();
        for bound in extra_pages {
            pages.spawn(bound.serve(Arc::clone(&ask), stop.clone()));
        }
        pages.spawn(admin.serve(handle, ask, stop.clone()));
        let mut addresses = BTreeMap::new();
        let mut receivers = JoinSet::new();
        for (id, receiver) in opened {
            addresses.insert(id.clone(), receiver.local_addrs());
            let (inlet, drain) = (engine.inlet(&id), drain.clone());
            receivers.spawn(async move {
                let ended = receiver.run(inlet, drain).await;
                (id, ended)
            });
        }
        let shutdown = service.shutdown;
        Ok(Instance {
            engine,
            receivers,
            admin: pages,
            drain,
            stop,
            shutdown,
            ledger,
            addresses,
            admin_address,
        })
    }

    /// What was found so far.
    pub fn ledger(&self) -> LedgerReader {
        self.ledger.clone()
    }

    /// Ends when something that should run for ever ended: says what.
    pub async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            Some(ended) = self.receivers.join_next() => match ended {
                Ok((id, Err(error))) => error.context(format!("receiver `{id}` ended")),
                Ok((id, Ok(()))) => anyhow::anyhow!("receiver `{id}` ended by itself"),
                Err(error) => anyhow::Error::new(error).context("a receiver panicked"),
            },
            Some(ended) = self.admin.join_next() => match ended {
                Ok(Err(error)) => error,
                Ok(Ok(())) => anyhow::anyhow!("the admin listener ended by itself"),
                Err(error) => anyhow::Error::new(error).context("the admin listener panicked"),
            },
            else => std::future::pending().await,
        }
    }

    /// Stops in order, within `service.shutdown`: receivers finish what they took, the fold writes its checkpoint, the
    /// exporters get the rest of the time.
    pub async fn stop(mut self) {
        let start = Instant::now();
        self.drain.cancel();
        let share = self.shutdown.mul_f64(RECEIVERS_SHARE);
        let drained = tokio::time::timeout_at(start + share, async {
            while let Some(ended) = self.receivers.join_next().await {
                if let Ok((id, Err(error))) = ended {
                    tracing::warn!(
                        receiver = id,
                        error = format!("{error:#}"),
                        "the receiver did not stop well"
                    );
                }
            }
        });
        if drained.await.is_err() {
            tracing::warn!("some senders did not finish in time; they have no OK and will repeat");
            self.receivers.abort_all();
        }
        self.engine.stop(start + self.shutdown).await;
        self.stop.cancel();
        while self.admin.join_next().await.is_some() {}
    }
}

fn health(engine: &Engine, is_draining: bool) -> Health {
    let mut health = engine.health();
    if is_draining {
        health.ready = false;
        health.reasons.push("the process is stopping".to_owned());
    }
    health
}

/// A runtime for the commands.
///
/// # Errors
/// The system gives no threads.
pub fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// It cannot start, or a part of it failed.
pub fn command(arguments: &cli::Run) -> anyhow::Result<u8> {
    let (configuration, warnings) = match configuration::read(&arguments.configuration) {
        Ok(read) => read,
        Err(problems) => {
            configuration::report(&problems);
            return Ok(COULD_NOT_RUN);
        }
    };
    logs::install(&configuration.spec.service.telemetry.logs)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let ready_file = arguments.ready_file.as_deref();
    if let Some(file) = ready_file {
        std::fs::write(aside(file), "")
            .with_context(|| format!("cannot write beside the ready file `{}`", file.display()))?;
    }
    let handle = recorder()?;
    let runtime = runtime()?;
    let code = runtime.block_on(serve(&configuration, handle, ready_file));
    runtime.shutdown_timeout(Duration::from_millis(500));
    code
}

async fn serve(
    configuration: &Configuration,
    handle: PrometheusHandle,
    ready_file: Option<&Path>,
) -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut instance = Instance::start(configuration, handle).await?;
    announce(&instance, ready_file)?;
    let failure = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        failure = instance.failed() => Some(failure),
    };
    if failure.is_none() {
        tracing::info!("stopping");
    }
    instance.stop().await;
    match failure {
        Some(failure) => {
            tracing::error!("{failure:#}");
            Ok(FOUND)
        }
        None => {
            tracing::info!("stopped");
            Ok(GOOD)
        }
    }
}

fn announce(instance: &Instance, ready_file: Option<&Path>) -> anyhow::Result<()> {
    let receivers = instance
        .addresses
        .iter()
        .map(|(id, addresses)| {
            format!("{id}={}", addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
        })
        .collect::<Vec<_>>()
        .join(" ");
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, receivers, admin = %instance.admin_address, "ready");
    if let Some(file) = ready_file {
        let text = serde_json::json!({ "receivers": instance.addresses, "admin": instance.admin_address })
            .to_string();
        std::fs::write(aside(file), text).and_then(|()| std::fs::rename(aside(file), file))?;
    }
    Ok(())
}

/// The ready file is written aside and renamed, so that whoever waits for it never reads half of it.
fn aside(file: &Path) -> PathBuf {
    file.with_extension("partial")
}
