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
use homeostat_pipeline::sockets::Sockets;
use homeostat_pipeline::steady::SteadyClock;
use homeostat_pipeline::tasks;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Ask, recorder};
use crate::api::Api;
use crate::assemble::{Assembly, Opened, Opener, assemble};
use crate::cli::{self, COULD_NOT_RUN, FOUND, GOOD};
use crate::configuration::{self, Configuration};
use crate::extensions;
use crate::logs;
use crate::receivers::Receivers;
use crate::reload::{self, FileWatch, Trigger};
use crate::tracer;

/// What of the stop's time is the receivers' to finish what they took; the rest is for the fold and the exporters.
const RECEIVERS_SHARE: f64 = 0.4;

/// A running homeostat.
pub struct Instance {
    pub(crate) engine: Arc<Engine>,
    pub(crate) configuration: Arc<Configuration>,
    pub(crate) opened: Opened,
    pub(crate) opener: Opener,
    pub(crate) sockets: Sockets,
    pub(crate) receivers: Receivers,
    pub(crate) shutdown: Duration,
    ask: Ask,
    pages: JoinSet<Page>,
    /// Extension id → ends the page of a health check.
    checks: BTreeMap<String, CancellationToken>,
    drain: CancellationToken,
    stop: CancellationToken,
    ledger: LedgerReader,
    /// Sends own spans, where they are on.
    spans: Option<tracer::Sending>,
    /// Receiver id → where it listens.
    pub addresses: BTreeMap<String, Vec<SocketAddr>>,
    /// `/metrics`, `/healthz`, `/readyz`.
    pub admin_address: SocketAddr,
}

/// How the serving of a page ended.
struct Page {
    outcome: anyhow::Result<()>,
    /// Whether it was told to.
    is_told: bool,
}

impl Instance {
    /// Opens and starts everything. The metrics recorder must be installed before.
    ///
    /// # Errors
    /// Names what cannot be started, and why; nothing runs then.
    pub async fn start(
        configuration: Arc<Configuration>,
        handle: PrometheusHandle,
    ) -> anyhow::Result<Instance> {
        let service = &configuration.spec.service;
        let metrics = &service.telemetry.metrics;
        let admin = Admin::bind(metrics, &service.telemetry.resource)?;
        let admin_address = admin.address();
        let sockets = Sockets::default();
        let checks = extensions::bind(&configuration, None, &sockets)?;
        let (stop, drain) = (CancellationToken::new(), CancellationToken::new());
        let clock: Arc<dyn Clock> = Arc::new(SteadyClock::new(SystemClock));
        let Assembly { plan, mut opened, opener } =
            assemble(&configuration, clock, sockets.clone(), stop.clone()).await?;
        let ledger = plan.store.ledger.reader();
        let own = &service.telemetry;
        let resource = tracer::resource(&own.resource);
        let spans = tracer::Sending::start(&own.traces, resource, &configuration.files, &opener).await?;
        let engine = Arc::new(Engine::start(plan)?);
        let ask: Ask = Arc::new({
            let (engine, drain) = (Arc::clone(&engine), drain.clone());
            move || health(&engine, drain.is_cancelled())
        });
        let mut receivers = Receivers::default();
        for receiver in std::mem::take(&mut opened.receivers) {
            receivers.start(receiver, &engine);
        }
        let mut pages = JoinSet::new();
        let api = Api::new(Arc::clone(&engine), ledger.clone()).router();
        let page = admin.serve(handle, Arc::clone(&ask), api, stop.clone());
        let told = stop.clone();
        pages.spawn(async move { Page { outcome: page.await, is_told: told.is_cancelled() } });
        let mut instance = Instance {
            shutdown: service.shutdown,
            addresses: receivers.addresses(),
            engine,
            configuration,
            opened,
            opener,
            sockets,
            receivers,
            ask,
            pages,
            checks: BTreeMap::new(),
            drain,
            stop,
            ledger,
            spans,
            admin_address,
        };
        for (id, check) in checks {
            instance.serve_check(id, check);
        }
        reload::succeeded();
        Ok(instance)
    }

    /// Serves a health check in place of the one that had its id.
    pub(crate) fn serve_check(&mut self, id: String, check: extensions::Bound) {
        let told = self.stop.child_token();
        let page = check.serve(Arc::clone(&self.ask), told.clone());
        if let Some(old) = self.checks.insert(id, told.clone()) {
            old.cancel();
        }
        self.pages.spawn(async move { Page { outcome: page.await, is_told: told.is_cancelled() } });
    }

    /// Ends a health check, if this is one.
    pub(crate) fn end_check(&mut self, id: &str) {
        if let Some(old) = self.checks.remove(id) {
            old.cancel();
        }
    }

    /// What runs.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// What was found so far.
    pub fn ledger(&self) -> LedgerReader {
        self.ledger.clone()
    }

    /// Ends when something that should run for ever ended: says what.
    pub async fn failed(&mut self) -> anyhow::Error {
        let pages = async {
            while let Some(ended) = self.pages.join_next().await {
                match ended {
                    Ok(Page { is_told: true, .. }) => {}
                    Ok(Page { outcome: Err(error), .. }) => return error,
                    Ok(Page { .. }) => return anyhow::anyhow!("the admin listener ended by itself"),
                    Err(error) => return anyhow::Error::new(error).context("the admin listener panicked"),
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            failure = self.receivers.failed() => failure,
            failure = pages => failure,
        }
    }

    /// Stops in order, within `service.shutdown`: receivers finish what they took, the fold writes its checkpoint, the
    /// exporters and their queues get the rest of the time.
    pub async fn stop(mut self) {
        let start = Instant::now();
        self.drain.cancel();
        self.engine.stop_taking();
        self.receivers.stop(start + self.shutdown.mul_f64(RECEIVERS_SHARE)).await;
        self.engine.stop(start + self.shutdown).await;
        if let Some(spans) = self.spans.take() {
            spans.stop(start + self.shutdown).await;
        }
        self.opener.tasks().finish(start + self.shutdown.saturating_sub(tasks::LAST)).await;
        self.stop.cancel();
        while self.pages.join_next().await.is_some() {}
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

/// Runs until SIGTERM or SIGINT; SIGHUP reloads.
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
    let code = runtime.block_on(serve(Arc::new(configuration), handle, arguments));
    runtime.shutdown_timeout(Duration::from_millis(500));
    code
}

async fn serve(
    configuration: Arc<Configuration>,
    handle: PrometheusHandle,
    arguments: &cli::Run,
) -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    // One that comes while everything starts is answered afterwards.
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let ready_file = arguments.ready_file.as_deref();
    let mut watch = FileWatch::of(&configuration);
    let mut instance = tokio::select! {
        started = Instance::start(configuration, handle) => started?,
        // Nothing was acknowledged yet, and what is on disk is read again.
        _ = terminate.recv() => return Ok(GOOD),
        _ = interrupt.recv() => return Ok(GOOD),
    };
    announce(&instance);
    write_ready(&instance, ready_file)?;
    let failure = loop {
        let running = Arc::clone(&instance.configuration);
        let trigger = tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            failure = instance.failed() => break Some(failure),
            _ = hangup.recv() => Trigger::Signal,
            () = watch.changed(&running) => Trigger::Files,
        };
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            () = reload::reload(&mut instance, trigger, &arguments.configuration) => {}
        }
        if !Arc::ptr_eq(&running, &instance.configuration) {
            watch = FileWatch::of(&instance.configuration);
            if let Err(error) = write_ready(&instance, ready_file) {
                tracing::warn!("the ready file cannot be written: {error:#}");
            }
        }
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

fn announce(instance: &Instance) {
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
}

fn write_ready(instance: &Instance, ready_file: Option<&Path>) -> anyhow::Result<()> {
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
