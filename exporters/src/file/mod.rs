//! `file` writes files: findings as JSON lines, or the telemetry itself as a recording.
//!
//! ```yaml
//! exporters:
//!   file: { path: stdout }                      # findings, to standard output; or `-`
//!   file/trail:
//!     path: findings.jsonl                      # from the configuration's folder
//!     rotation: { max_megabytes: 100, max_backups: 100 }
//!   file/recording:
//!     of: telemetry                             # findings, when it is left out
//!     path: telemetry.jsonl
//!     format: json                              # or proto
//!     compression: zstd                         # none, when it is left out
//! ```
//!
//! **Findings.** A line is `{"chain", "sequence", "time", "cause", "kind", "previous", "hash", "body"}`, the body as the ledger keeps
//! it. Each sequence is written once: what the file ends with is read at open, so a repeat after a restart adds nothing. A full file
//! is renamed to `findings-{last sequence}.jsonl` before the next line. Standard output has no memory: after a restart it may repeat.
//!
//! **Telemetry.** Each request becomes what the Collector's `file` exporter writes: a line of OTLP/JSON; with `format: proto` four
//! bytes of length, big end first, and the request; with a `compression` such a frame around the compressed line or request. A full
//! file is renamed to `telemetry-{number}.jsonl`, so that the files sorted by name are sorted by age. A request is taken when the
//! operating system has all of it: that outlives the process, but not a loss of power.

mod findings;
mod lines;
mod rolling;
mod telemetry;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use homeostat_pipeline::registry::{Component, Context, Role, Settings};
use homeostat_pipeline::settings::{At, Files, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use lines::Lines;
use rolling::Rolling;
use telemetry::{Form, Recorder, Target};

/// The settings of `file`; see the module for the YAML.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// What it writes.
    #[serde(default)]
    pub of: Of,
    /// Where to; `stdout` and `-` are standard output.
    pub path: At<String>,
    /// When a file is full, and how many full ones stay.
    #[serde(default)]
    pub rotation: Rotation,
    /// How a request is written; only of telemetry.
    #[serde(default)]
    pub format: Option<At<Format>>,
    /// How each request is compressed; only of telemetry.
    #[serde(default)]
    pub compression: Option<At<Compression>>,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// The ledger's entries, as JSON lines.
    #[default]
    Findings,
    /// The requests that came in, as a recording.
    Telemetry,
}

/// How a request is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// OTLP/JSON.
    #[default]
    Json,
    /// Protobuf.
    Proto,
}

/// How a request is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// RFC 8878.
    Zstd,
}

/// As in the Collector's file exporter.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// A file of this many MiB is full.
    pub max_megabytes: u64,
    /// Full files that stay; 0 keeps all of them.
    pub max_backups: usize,
}

impl Default for Rotation {
    fn default() -> Rotation {
        Rotation { max_megabytes: 100, max_backups: 100 }
    }
}

impl File {
    fn is_stdout(&self) -> bool {
        matches!(self.path.value.as_str(), "stdout" | "-")
    }

    fn form(&self) -> Form {
        Form {
            format: self.format.as_ref().map_or(Format::default(), |format| format.value),
            compression: self.compression.as_ref().map(|compression| compression.value),
        }
    }

    fn findings(&self, rolling: impl FnOnce() -> anyhow::Result<Rolling>) -> anyhow::Result<Component> {
        let sink = if self.is_stdout() {
            findings::Sink::Stdout { last: 0 }
        } else {
            findings::Sink::File(Lines::over(rolling()?)?)
        };
        Ok(Component::FindingExporter(Arc::new(findings::Exporter::new(sink))))
    }

    fn telemetry(&self, rolling: impl FnOnce() -> anyhow::Result<Rolling>) -> anyhow::Result<Component> {
        let form = self.form();
        let target = if self.is_stdout() {
            Target::Stdout
        } else {
            Target::File(Recorder::over(rolling()?, form.is_framed())?)
        };
        Ok(Component::TelemetryExporter(Arc::new(telemetry::Exporter::new(form, target))))
    }
}

#[async_trait]
impl Settings for File {
    fn role(&self) -> Role {
        match self.of {
            Of::Findings => Role::FindingExporter,
            Of::Telemetry => Role::TelemetryExporter,
        }
    }

    fn check(&self, _files: &Files) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.path.value.is_empty() {
            problems.push(Problem::error(&self.path.at, "`path` is empty (write a file name, or `stdout`)"));
        }
        if self.rotation.max_megabytes == 0 {
            problems.push(Problem::error(
                &self.path.at,
                "`rotation.max_megabytes` is 0, so every line would be a file of its own (leave it out for 100)",
            ));
        }
        if self.of == Of::Findings {
            let format = self.format.as_ref().map(|format| (&format.at, "format"));
            let compression = self.compression.as_ref().map(|compression| (&compression.at, "compression"));
            for (at, key) in [format, compression].into_iter().flatten() {
                let message = format!(
                    "`{key}` is of telemetry, and this file gets findings (add `of: telemetry`, or leave it out)"
                );
                problems.push(Problem::error(at, message));
            }
        }
        problems
    }

    /// What records knows where its file ends; a second writer would not.
    fn is_exclusive(&self) -> bool {
        self.of == Of::Telemetry && !self.is_stdout()
    }

    async fn open(&self, context: Context) -> anyhow::Result<Component> {
        let rolling = || {
            let path: PathBuf = context.files.resolve(self.path.value.as_ref());
            Rolling::open(&path, self.rotation.max_megabytes << 20, self.rotation.max_backups).with_context(
                || format!("cannot open `{}` for the exporter `{}`", path.display(), context.id),
            )
        };
        match self.of {
            Of::Findings => self.findings(rolling),
            Of::Telemetry => self.telemetry(rolling),
        }
    }
}
