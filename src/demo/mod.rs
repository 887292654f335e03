//! `homeostat demo`: the whole job on embedded defaults. It starts the real pipeline on free loopback ports, drives a small shop
//! through its OTLP/gRPC port, and shows what homeostat concludes. Exit 0 only if the expected deviations opened and resolved.

mod outcome;
mod screen;
mod sender;
mod shop;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use homeostat_config::{DEMO, DEMO_MODEL, Source};
use homeostat_exporters::kg::{Graph, WALK};
use homeostat_pipeline::budget::{Budget, default_bytes};
use homeostat_pipeline::clock::{Clock, SystemClock};
use homeostat_pipeline::finding::Finding;
use homeostat_pipeline::interest::Interest;
use homeostat_pipeline::ledger::{LedgerItem, LedgerReader, verify};
use homeostat_pipeline::registry::Context;
use homeostat_pipeline::sockets::Sockets;
use homeostat_pipeline::tasks::Tasks;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::outcome::Outcome;
use self::screen::Screen;
use self::sender::Sender;
use self::shop::{Phase, Shop};
use crate::admin::recorder;
use crate::cli::{Demo, FOUND, GOOD};
use crate::configuration::{self, Configuration};
use crate::run::{Instance, runtime};
use crate::{logs, output};

const DURATION_MIN: Duration = Duration::from_secs(30);
/// The shop's services report this often.
const SLICE: Duration = Duration::from_millis(250);
/// How much longer than asked it goes on, where a slow machine needs it, before it gives up.
const GRACE: Duration = Duration::from_secs(120);

/// Runs the demo.
///
/// # Errors
/// The pipeline does not start, or refuses the shop's telemetry.
pub fn command(arguments: &Demo) -> anyhow::Result<u8> {
    ensure!(arguments.duration >= DURATION_MIN, "`--for` must be at least 30s, so that a deviation can end");
    let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
    let directory = arguments.data_dir.clone().unwrap_or_else(|| temporary.path().join("homeostat-data"));
    let configuration = Arc::new(configure(&directory)?);
    logs::install(&configuration.spec.service.telemetry.logs)?;
    let handle = recorder()?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let instance = Instance::start(Arc::clone(&configuration), handle).await?;
        // Whoever interrupts it gets an orderly end all the same: the temporary directory goes with it.
        let told = tokio::select! {
            biased;
            stopped = interrupted() => stopped.and(Err(anyhow::anyhow!("interrupted before the end"))),
            told = tell(arguments, &configuration, &instance) => told,
        };
        if arguments.keep_running && told.is_ok() {
            keep_running(&instance).await?;
        }
        instance.stop().await;
        told
    })?;
    conclude(&directory, &outcome)
}

fn configure(directory: &Path) -> anyhow::Result<Configuration> {
    let source = Source { name: "demo.yaml".to_owned(), text: DEMO.to_owned() };
    let directory = serde_json::to_string(directory)?;
    let set = [format!("service.storage.directory={directory}")];
    let embedded = BTreeMap::from([("demo_model.yml".to_owned(), DEMO_MODEL.to_owned())]);
    match configuration::from_sources(&[source], &set, PathBuf::new(), embedded) {
        Ok((configuration, _)) => Ok(configuration),
        Err(problems) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::bail!("the demo's own configuration is not valid:\n{}", problems.join("\n"))
        }
    }
}

/// The story: healthy, broken, fixed; a quarter, three eighths and three eighths of the time. No phase ends before what it
/// should lead to was seen, so that a slow machine only takes longer.
async fn tell(
    arguments: &Demo,
    configuration: &Configuration,
    instance: &Instance,
) -> anyhow::Result<Outcome> {
    let clock = SystemClock;
    let screen = Screen::new(clock.now(), std::io::stdout().is_terminal());
    let grpc =
        instance.addresses.get("otlp").and_then(|addresses| addresses.first()).context("nothing listens")?;
    introduce(instance, arguments.seed);
    let sender = Sender::open(*grpc, sender_context(configuration)).await?;
    let mut shop = Shop::new(arguments.seed);
    let mut trail = Trail { reader: instance.ledger(), next: 1, outcome: Outcome::default() };
    let mut beat = interval(SLICE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = Instant::now();
    let parts = [(Phase::Healthy, 0.25), (Phase::Broken, 0.625), (Phase::Fixed, 1.0)];
    let mut last = clock.now();
    for (phase, share) in parts {
        screen.headline(clock.now(), phase.title());
        let (until, latest) = (start + arguments.duration.mul_f64(share), start + arguments.duration + GRACE);
        loop {
            beat.tick().await;
            let now = clock.now();
            sender.send(&shop.report(phase, now, now.since(last).min(4 * SLICE))).await?;
            last = now;
            trail.follow(&screen)?;
            let is_told = match phase {
                Phase::Healthy => true,
                Phase::Broken => trail.outcome.all_opened(),
                Phase::Fixed => trail.outcome.missing().is_empty(),
            };
            if Instant::now() >= latest || (Instant::now() >= until && is_told) {
                break;
            }
        }
    }
    Ok(trail.outcome)
}

fn introduce(instance: &Instance, seed: u64) {
    let addresses = instance.addresses.get("otlp").map(Vec::as_slice).unwrap_or_default();
    output::line(
        "homeostat demo: a shop of three services reports over OTLP; homeostat judges it by two requirements.",
    );
    if let [grpc, http] = addresses {
        output::line(&format!(
            "  OTLP/gRPC {grpc}   OTLP/HTTP {http}   metrics http://{}/metrics",
            instance.admin_address
        ));
    }
    output::line(&format!("  the shop's seed is {seed}; windows are 2 s"));
}

fn sender_context(configuration: &Configuration) -> Context {
    Context {
        id: "demo".to_owned(),
        clock: Arc::new(SystemClock),
        budget: Budget::new(default_bytes()),
        directory: None,
        files: configuration.files.clone(),
        interest: Arc::new(Interest::default()),
        ledger: None,
        extensions: Arc::default(),
        sockets: Sockets::default(),
        stop: CancellationToken::new(),
        tasks: Tasks::default(),
    }
}

/// Follows the ledger as it grows.
struct Trail {
    reader: LedgerReader,
    next: u64,
    outcome: Outcome,
}

impl Trail {
    fn follow(&mut self, screen: &Screen) -> anyhow::Result<()> {
        if self.reader.last() < self.next {
            return Ok(());
        }
        for item in self.reader.read_from(self.next) {
            if let LedgerItem::Entry(entry) = item? {
                screen.show(&entry.finding);
                if let Finding::Deviation(deviation) = &entry.finding {
                    self.outcome.note(deviation);
                }
                self.next = entry.sequence + 1;
            }
        }
        Ok(())
    }
}

async fn keep_running(instance: &Instance) -> anyhow::Result<()> {
    output::line("\nit goes on until you press Ctrl-C; send it telemetry of your own:");
    for (id, addresses) in &instance.addresses {
        for address in addresses {
            output::line(&format!("  {id} {address}"));
        }
    }
    interrupted().await
}

/// SIGINT or SIGTERM has come.
async fn interrupted() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// What is left: the ledger, verified, and one answer of the graph rebuilt from it.
fn conclude(directory: &Path, outcome: &Outcome) -> anyhow::Result<u8> {
    let folder = directory.join("ledger");
    let reader = LedgerReader::open(&folder)?;
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for item in reader.read_from(1) {
        if let LedgerItem::Entry(entry) = item? {
            *kinds.entry(entry.kind).or_default() += 1;
        }
    }
    output::line("\nwhat the ledger holds:");
    for (kind, count) in &kinds {
        output::line(&format!("  {count:>5}  {kind}"));
    }
    let verification = verify(&folder)?;
    let is_whole = verification.broken.is_none();
    output::line(&format!(
        "  the chain of {} entries is {}",
        verification.entries,
        if is_whole { "whole" } else { "broken" }
    ));
    output::line(
        "\nfrom the deviation to its requirement and its traces, in SPARQL over the graph rebuilt from the ledger:",
    );
    let answer = Graph::rebuild(&reader)?.query(WALK)?;
    for row in &answer.rows {
        for (column, value) in answer.columns.iter().zip(row) {
            output::line(&format!("  {column:<12} {value}"));
        }
        output::line("");
    }
    let missing = outcome.missing();
    for what in &missing {
        output::line(&format!("missing: {what}"));
    }
    let is_good = missing.is_empty() && is_whole && !answer.rows.is_empty();
    if is_good {
        output::line("both deviations opened and resolved.");
    }
    Ok(if is_good { GOOD } else { FOUND })
}
