//! The end-to-end benchmark of homeostat: load, sink, accounting and the table. README.md has the method.

mod account;
mod case;
mod compare;
mod latency;
mod load;
mod payload;
mod report;
mod run;
mod sink;
mod spans;
mod subject;
mod system;

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
use crate::case::Case;
use crate::compare::{Comparison, Row};
use crate::latency::Latency;
use crate::report::Report;
use crate::run::{Bench, Outcome};
use crate::system::{Kind, System};

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
    /// The Collector, to be compared with
    #[arg(long, value_name = "FILE")]
    collector: Option<PathBuf>,
    /// rotel, to be compared with
    #[arg(long, value_name = "FILE")]
    rotel: Option<PathBuf>,
    /// Only the comparison with the rivals
    #[arg(long)]
    rivals_only: bool,
    /// How often each case of the comparison runs on each [default: 3, with --quick 2]
    #[arg(long, value_name = "N")]
    repetitions: Option<usize>,
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
    /// Which build it is and of when, for the title
    #[arg(long, value_name = "TEXT")]
    build: Option<String>,
    /// Replaces what stands between the two marks of this page
    #[arg(long, value_name = "FILE")]
    update: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
    Markdown,
}

/// Where the measured part of a page begins and ends.
const MARKS: [&str; 2] = ["<!-- measured -->\n", "<!-- /measured -->\n"];

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
    let systems = systems(arguments)?;
    let (cases, compared) = cases(arguments, &systems)?;
    if let Some(page) = &arguments.update {
        // A page without marks is noticed before the half hour, not after it.
        updated(&std::fs::read_to_string(page)?, "")
            .with_context(|| format!("{} has no two marks", page.display()))?;
    }
    std::fs::create_dir_all(&arguments.directory)
        .with_context(|| format!("cannot make {}", arguments.directory.display()))?;
    // What else the machine does belongs to the numbers: the first of three averages, of one minute.
    let load_before = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let (cores, runtime) = pinned()?;
    let sync_ms_p99 = sync_ms_p99(&arguments.directory)?;
    let pinned = cores.is_some();
    let lasting = Duration::from_secs_f64(seconds);
    let bench = Bench {
        directory: arguments.directory.clone(),
        cores,
        payload_bytes: PAYLOAD_BYTES,
        lasting,
        sync_ms_p99,
    };
    let mut outcomes = Vec::new();
    for case in &cases {
        outcomes.push(run(&runtime, &bench, &systems[0], case));
    }
    let subject = titled(&systems[0].version()?, arguments.build.as_deref(), &load_before);
    let mut report = Report::new(subject, seconds, pinned, sync_ms_p99, outcomes);
    if systems.len() > 1 {
        let repetitions = arguments.repetitions.unwrap_or(if arguments.quick { 2 } else { 3 }).max(1);
        report.rivals = Some(compare(&runtime, &bench, &systems, &compared, repetitions)?);
    }
    print(arguments, &report)?;
    Ok(report.is_whole())
}

/// The version, the build, and what load the machine had before.
fn titled(version: &str, build: Option<&str>, load: &str) -> String {
    let build = build.map(|build| format!("{build}, ")).unwrap_or_default();
    format!("{version} ({build}load average {} before)", load.split(' ').next().unwrap_or_default())
}

/// homeostat, and the rivals that are named.
fn systems(arguments: &Arguments) -> anyhow::Result<Vec<System>> {
    let mut systems = vec![System::new(Kind::Homeostat, &arguments.homeostat)?];
    for (kind, program) in [(Kind::Collector, &arguments.collector), (Kind::Rotel, &arguments.rotel)] {
        if let Some(program) = program {
            systems.push(System::new(kind, program)?);
        }
    }
    if arguments.rivals_only && systems.len() == 1 {
        bail!("--rivals-only needs --collector or --rotel");
    }
    Ok(systems)
}

/// The cases of homeostat alone, and those of the comparison.
fn cases(arguments: &Arguments, systems: &[System]) -> anyhow::Result<(Vec<Case>, Vec<Case>)> {
    let named = |case: &Case| case.name.contains(&arguments.only);
    let mut cases: Vec<Case> = case::cases().into_iter().filter(named).collect();
    if cases.is_empty() {
        let names: Vec<String> = case::cases().into_iter().map(|case| case.name).collect();
        bail!("no case contains \"{}\"; there are: {}", arguments.only, names.join("; "));
    }
    if arguments.rivals_only {
        cases.clear();
    }
    let is_alone = systems.len() == 1;
    Ok((cases, compare::cases().into_iter().filter(|case| !is_alone && named(case)).collect()))
}

fn run(runtime: &Runtime, bench: &Bench, system: &System, case: &Case) -> Outcome {
    let _ = writeln!(std::io::stderr(), "{}: {} …", system.kind.name(), case.name);
    let outcome = runtime.block_on(bench.run(system, case));
    if let Some(error) = &outcome.error {
        let _ = writeln!(std::io::stderr(), "{error}");
    }
    outcome
}

/// A B C A B C, case by case, so that what else the machine does falls on all of them.
fn compare(
    runtime: &Runtime,
    bench: &Bench,
    systems: &[System],
    cases: &[Case],
    repetitions: usize,
) -> anyhow::Result<Comparison> {
    let versions = systems.iter().map(System::version).collect::<anyhow::Result<_>>()?;
    let mut rows = Vec::new();
    for case in cases {
        let part: Vec<&System> = systems.iter().filter(|one| compare::takes_part(one, case)).collect();
        let mut outcomes = vec![Vec::new(); part.len()];
        for _ in 0..repetitions {
            for (system, outcomes) in part.iter().zip(&mut outcomes) {
                outcomes.push(run(runtime, bench, system, case));
            }
        }
        rows.extend(outcomes.iter().filter_map(|outcomes| Row::of(outcomes)));
    }
    Ok(Comparison::new(versions, repetitions, rows))
}

fn print(arguments: &Arguments, report: &Report) -> anyhow::Result<()> {
    let text = match arguments.format {
        Format::Text => report.text(),
        Format::Json => serde_json::to_string_pretty(report)? + "\n",
        Format::Markdown => report.markdown(),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    if let Some(page) = &arguments.update {
        let before = std::fs::read_to_string(page)?;
        let after = updated(&before, &report.markdown())
            .with_context(|| format!("{} has no two marks any more", page.display()))?;
        std::fs::write(page, after)?;
    }
    Ok(())
}

/// The page with `measured` between its marks; `None` when it has no such two.
fn updated(page: &str, measured: &str) -> Option<String> {
    let (before, rest) = page.split_once(MARKS[0])?;
    let (_, after) = rest.split_once(MARKS[1])?;
    Some(format!("{before}{}{measured}{}{after}", MARKS[0], MARKS[1]))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_says_what_was_built_and_what_else_ran() {
        assert_eq!(titled("homeostat 1", None, "0.25 1 2 3/4 5"), "homeostat 1 (load average 0.25 before)");
        assert_eq!(titled("homeostat 1", Some("dist"), "3 1 2"), "homeostat 1 (dist, load average 3 before)");
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let page = "a\n<!-- measured -->\nold\n<!-- /measured -->\nb\n";
        let expected = "a\n<!-- measured -->\nnew\n<!-- /measured -->\nb\n";
        assert_eq!(updated(page, "new\n").as_deref(), Some(expected));
        assert_eq!(updated("a\n<!-- measured -->\n", "new\n"), None);
    }
}
