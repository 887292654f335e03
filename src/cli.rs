//! The command line. Exit codes: 0 good, 1 found something, 2 could not run.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use homeostat_pipeline::settings::parse_period;

use crate::{
    components, demo, deviations, explain, ledger, model, output, print_config, replay, run, schema, silence,
    test, validate,
};

/// Where a running homeostat answers unless it is told otherwise.
const ADMIN: &str = "http://127.0.0.1:8888";

/// All is well.
pub const GOOD: u8 = 0;
/// The command ran and found what it looks for: a broken chain, an invalid configuration, a demo that missed.
pub const FOUND: u8 = 1;
/// The command could not run.
pub const COULD_NOT_RUN: u8 = 2;

#[derive(Parser)]
#[command(
    name = "homeostat",
    version,
    about = "Watches from telemetry whether a running system still behaves as its requirements say"
)]
#[command(after_help = "Exit codes: 0 good, 1 found something, 2 could not run.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the pipelines of a configuration until SIGTERM or SIGINT
    Run(Run),
    /// Says everything that is wrong with a configuration; opens no socket
    Validate(Validate),
    /// Prints the merged configuration with references replaced and secrets redacted
    PrintConfig(PrintConfig),
    /// Lists the components that a configuration may name
    Components {
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Prints JSON Schemas for editors and consumers; without a name, lists them
    Schema(Schema),
    /// Reads the ledger of a data directory
    #[command(subcommand)]
    Ledger(Ledger),
    /// Checks, compares and shows homeostasis models
    #[command(subcommand)]
    Model(model::Command),
    /// Replays recorded telemetry through a homeostasis model; exit 1 when something fires
    Replay(Replay),
    /// Runs unit tests of a homeostasis model; exit 1 when an expectation is not met
    Test(Test),
    /// Says why a deviation was found, or why none was
    Explain(Explain),
    /// Lists, shows and acknowledges deviations
    #[command(subcommand)]
    Deviations(Deviations),
    /// Keeps deviations from being told for a while
    #[command(subcommand)]
    Silence(Silences),
    /// Runs the whole job on embedded defaults: a small shop, a slow login, rising errors, and the fix
    Demo(Demo),
}

/// Which configuration.
#[derive(Args, Clone)]
pub struct Configuration {
    /// A configuration file; later ones are laid over earlier ones
    #[arg(long = "config", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// One more assignment, laid over the files: `--set service.memory_mib=32`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// `homeostat run`.
#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    pub configuration: Configuration,
    /// Writes the addresses that are bound to this file, as JSON, once everything is ready
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// `homeostat validate`.
#[derive(Args)]
pub struct Validate {
    #[command(flatten)]
    pub configuration: Configuration,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `homeostat print-config`.
#[derive(Args)]
pub struct PrintConfig {
    #[command(flatten)]
    pub configuration: Configuration,
    /// Prints what is left out too, as it holds
    #[arg(long)]
    pub defaults: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Language::Yaml)]
    pub format: Language,
}

/// `homeostat schema`.
#[derive(Args)]
pub struct Schema {
    /// `config`, `event NAME` or `finding KIND`, as the list has them
    #[arg(value_name = "NAME", num_args = 0..=2)]
    pub name: Vec<String>,
    /// Writes every schema below this folder, one file each
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    pub directory: Option<PathBuf>,
    /// How to print the list
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `homeostat ledger …`.
#[derive(Subcommand)]
pub enum Ledger {
    /// Recomputes every hash of the chain; exit 1 when an entry was edited, removed, inserted or swapped
    Verify {
        /// The data directory (`service.storage.directory`)
        directory: PathBuf,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Prints every entry as one line of JSON
    Export {
        /// The data directory (`service.storage.directory`)
        directory: PathBuf,
        /// The first sequence to print
        #[arg(long, default_value_t = 1)]
        from: u64,
    },
    /// Replays the journal from its start and compares every finding with the ledger; exit 1 when one differs
    Replay {
        /// The data directory of a homeostat that is not running
        directory: PathBuf,
        #[command(flatten)]
        configuration: Configuration,
    },
}

/// `homeostat replay`.
#[derive(Args)]
pub struct Replay {
    /// The homeostasis model
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Another model: prints what differs between the two on the same recording
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// The severity rules that the models are judged with (`severity_rules:` of `homeostasis`)
    #[arg(long, value_name = "FILE")]
    pub severity_rules: Option<PathBuf>,
    /// Recorded OTLP, as the Collector's `file` exporter writes it, in order; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Reads the files side by side, by time, instead of one after the other
    #[arg(long)]
    pub merge: bool,
    /// How far the clock stays behind the newest record, up to 9m, for recordings that are out of order
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_period)]
    pub lateness: Duration,
    /// The signal of protobuf frames, where it cannot be seen
    #[arg(long, value_enum)]
    pub signal: Option<SignalName>,
    /// Threads that read and tag beside the one that folds, and that one; as many as there are cores when it is left out
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Says on standard error how long it took
    #[arg(long)]
    pub timing: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// A signal of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SignalName {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
}

/// `homeostat test`.
#[derive(Args)]
pub struct Test {
    /// Files of tests; of a folder its `*_test.yml` and `*_test.yaml`
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Runs only the tests whose name it matches
    #[arg(long, value_name = "REGEX")]
    pub run: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t = TestFormat::Text)]
    pub format: TestFormat,
}

/// `homeostat explain`.
#[derive(Args)]
pub struct Explain {
    /// The deviation, by its id (`DEV-…`) or uid
    #[arg(value_name = "DEVIATION", conflicts_with = "not")]
    pub deviation: Option<String>,
    /// Why no deviation from this requirement was found …
    #[arg(long, value_name = "REQ", requires = "at")]
    pub not: Option<String>,
    /// … at this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// The data directory (`service.storage.directory`)
    #[arg(long, value_name = "DIR", default_value = "homeostat-data")]
    pub directory: PathBuf,
    /// The analyzer's `subjects_max`, where the configuration sets it
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub subjects_max: usize,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Which running homeostat.
#[derive(Args)]
pub struct From {
    /// The admin listener of a running homeostat
    #[arg(long, value_name = "URL", default_value = ADMIN)]
    pub admin: String,
    /// Reads the ledger of this data directory instead; homeostat need not run
    #[arg(long, value_name = "DIR", conflicts_with = "admin")]
    pub directory: Option<PathBuf>,
}

/// Who decides, and where.
#[derive(Args)]
pub struct By {
    /// The admin listener of a running homeostat
    #[arg(long, value_name = "URL", default_value = ADMIN)]
    pub admin: String,
    /// Who decides; `$USER` by default
    #[arg(long, value_name = "NAME")]
    pub author: Option<String>,
}

impl By {
    /// Who decides.
    ///
    /// # Errors
    /// Nobody says.
    pub fn author(&self) -> anyhow::Result<String> {
        let named = self.author.clone().or_else(|| std::env::var("USER").ok());
        let named = named.filter(|name| !name.trim().is_empty());
        named.context("who decides? (name yourself by `--author`, for `$USER` is not set)")
    }
}

/// `homeostat deviations …`.
#[derive(Subcommand)]
pub enum Deviations {
    /// Lists deviations, the worst that lives first
    List {
        /// `live`, `all`, or one status: open, acknowledged, recovering, resolved, verified, expired
        #[arg(long, default_value = "live")]
        status: String,
        /// Only of this requirement
        #[arg(long, value_name = "KEY")]
        req: Option<String>,
        #[command(flatten)]
        from: From,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Shows one deviation whole
    Show {
        /// `DEV-20251203-001`, or its uid
        id: String,
        #[command(flatten)]
        from: From,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Says that a live deviation was seen
    Ack {
        /// `DEV-20251203-001`, or its uid
        id: String,
        /// What others should know
        #[arg(long, default_value = "")]
        comment: String,
        #[command(flatten)]
        by: By,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

/// `homeostat silence …`.
#[derive(Subcommand)]
pub enum Silences {
    /// Silences what all matchers match, and prints the silence's id
    Add {
        /// `req=REQ-NFR-PERF-001`, `'severity=~"high|medium"'`, `service.name!=web`
        #[arg(required = true, value_name = "MATCHER")]
        matchers: Vec<String>,
        /// How long, from now
        #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
        period: String,
        /// Why
        #[arg(long, default_value = "")]
        comment: String,
        #[command(flatten)]
        by: By,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Lists silences
    List {
        /// Those that ended within a day, too
        #[arg(long)]
        all: bool,
        /// The admin listener of a running homeostat
        #[arg(long, value_name = "URL", default_value = ADMIN)]
        admin: String,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Ends a silence now
    Expire {
        /// As `silence add` printed it
        id: String,
        #[command(flatten)]
        by: By,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

/// `homeostat demo`.
#[derive(Args)]
pub struct Demo {
    /// How long the whole takes, from 30 s
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = parse_period)]
    pub duration: Duration,
    /// The seed of the shop's randomness
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Keeps journal, ledger and checkpoints here; a temporary directory by default
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Goes on after the end, until SIGINT, so that you can send telemetry of your own
    #[arg(long)]
    pub keep_running: bool,
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How the outcome of tests is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TestFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For CI systems.
    Junit,
}

/// What a configuration is printed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// As it is written.
    Yaml,
    /// For programs.
    Json,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { COULD_NOT_RUN } else { GOOD };
            // A closed pipe is no reason to fail.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let outcome = match cli.command {
        Command::Run(arguments) => run::command(&arguments),
        Command::Validate(arguments) => validate::command(&arguments),
        Command::PrintConfig(arguments) => print_config::command(&arguments),
        Command::Components { format } => components::command(format),
        Command::Schema(arguments) => schema::command(&arguments),
        Command::Ledger(command) => ledger::command(&command),
        Command::Model(command) => model::command(&command),
        Command::Replay(arguments) => replay::command(&arguments),
        Command::Test(arguments) => test::command(&arguments),
        Command::Explain(arguments) => explain::command(&arguments),
        Command::Deviations(command) => deviations::command(&command),
        Command::Silence(command) => silence::command(&command),
        Command::Demo(arguments) => demo::command(&arguments),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::error(&format!("{error:#}"));
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}
