//! The end-to-end benchmark of homeostat: load, sink, accounting and the table. README.md has the method.

mod account;
mod case;
mod latency;
mod load;
mod payload;
mod report;
mod run;
mod sink;
mod subject;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::account::Cores;
use crate::latency::Latency;
use crate::report::Report;
use crate::run::Bench;

/// Inflated bytes of the distinct payloads: more than any cache holds.
const PAYLOAD_BYTES: usize = 64 << 20;

/// Measures homeostat end to end. Exit codes: 0 everything was measured, 1 some case could not be, 2 could not run.
#[derive(Parser)]
#[command(name = "homeostat-bench")]
struct Arguments {
    /// The program under test
    #[arg(long, value_name = "FILE")]
    homeostat: PathBuf,
    /// Where it keeps its data while it is measured; on the disk whose fdatasync matters
    #[arg(long, value_name = "DIRECTORY")]
    directory: PathBuf,
    /// How long each case is measured [default: 10, with --quick 3]
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// Shorter, to see whether it works
    #[arg(long)]
    quick: bool,
    /// Only the cases whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "homeostat-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether everything could be measured.
fn measure(arguments: &Arguments) -> anyhow::Result<bool> {
    let seconds = arguments.seconds.unwrap_or(if arguments.quick { 3.0 } else { 10.0 });
    if !(0.1..=3600.0).contains(&seconds) {
        bail!("--seconds must be between 0.1 and 3600");
    }
    let cases: Vec<_> =
        case::cases().into_iter().filter(|case| case.name.contains(&arguments.only)).collect();
    if cases.is_empty() {
        let names: Vec<String> = case::cases().into_iter().map(|case| case.name).collect();
        bail!("no case contains \"{}\"; there are: {}", arguments.only, names.join("; "));
    }
    std::fs::create_dir_all(&arguments.directory)
        .with_context(|| format!("cannot make {}", arguments.directory.display()))?;
    let program = std::fs::canonicalize(&arguments.homeostat)
        .with_context(|| format!("cannot find {}", arguments.homeostat.display()))?;
    let (cores, runtime) = pinned()?;
    let sync_ms_p99 = sync_ms_p99(&arguments.directory)?;
    let pinned = cores.is_some();
    let lasting = Duration::from_secs_f64(seconds);
    let bench = Bench {
        program,
        directory: arguments.directory.clone(),
        cores,
        payload_bytes: PAYLOAD_BYTES,
        lasting,
        sync_ms_p99,
    };
    let mut outcomes = Vec::new();
    for case in &cases {
        let _ = writeln!(std::io::stderr(), "{} …", case.name);
        outcomes.push(runtime.block_on(bench.run(case)));
    }
    let is_whole = outcomes.iter().all(|outcome| outcome.error.is_none());
    let report = Report::new("homeostat".to_owned(), seconds, pinned, sync_ms_p99, outcomes);
    let text = match arguments.format {
        Format::Text => report.table(),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(is_whole)
}

/// Divides the cores before any thread is started, and makes a runtime for the load's.
fn pinned() -> anyhow::Result<(Option<Cores>, Runtime)> {
    let cores = match Cores::divide()? {
        Some(cores) => cores.take_load().map(|()| cores).inspect_err(|error| {
            let _ = writeln!(std::io::stderr(), "homeostat-bench: nothing is pinned: {error:#}");
        }),
        None => bail!("one core is not enough: load and sink need one of their own"),
    }
    .ok();
    let mut builder = match &cores {
        Some(cores) if cores.load_count > 1 => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(cores.load_count);
            builder
        }
        Some(_) | None => Builder::new_current_thread(),
    };
    Ok((cores, builder.enable_all().build()?))
}

/// What durability costs here at least: 64 KiB appended and synced, two hundred times.
fn sync_ms_p99(directory: &Path) -> anyhow::Result<f64> {
    let path = directory.join("fdatasync");
    let mut file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut latency = Latency::default();
    for _ in 0..200 {
        file.write_all(&[0x5a; 64 << 10])?;
        let begin = Instant::now();
        file.sync_data()?;
        latency.record(begin.elapsed());
    }
    drop(file);
    std::fs::remove_file(&path)?;
    latency.quantile_ms(0.99).context("nothing was synced")
}
