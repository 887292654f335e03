//! The system under test: started on its own core with a generated configuration, and stopped.
//!
//! Another system is another configuration and another way to learn its addresses; both are functions of [`Setup`].

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::account::{Account, Cores};
use crate::load::Protocol;

/// How long a start may take; a cold, loaded machine is slow.
const START: Duration = Duration::from_secs(60);
/// How long a stop may take before it is killed.
const STOP: Duration = Duration::from_secs(20);

/// What one run needs.
pub struct Setup<'a> {
    /// The program.
    pub program: &'a Path,
    /// Where it keeps its data; a new folder in it is made and removed.
    pub directory: &'a Path,
    /// `None` where nothing is pinned.
    pub cores: Option<&'a Cores>,
    /// The backend that it forwards to.
    pub sink: SocketAddr,
    /// How it forwards.
    pub forward: Protocol,
}

/// A running homeostat.
pub struct Subject {
    child: Child,
    folder: tempfile::TempDir,
    /// What it uses.
    pub account: Account,
    grpc: SocketAddr,
    http: SocketAddr,
}

#[derive(Deserialize)]
struct Ready {
    receivers: BTreeMap<String, Vec<SocketAddr>>,
}

const MODEL: &str = include_str!("../model.yml");

/// Everything switched on: what the budgets of the design are for.
fn configuration(sink: SocketAddr, forward: Protocol) -> String {
    let protocol = match forward {
        Protocol::Grpc => "grpc",
        Protocol::Http => "http/protobuf",
    };
    format!(
        "receivers:
  otlp:
    protocols:
      grpc: {{ endpoint: 127.0.0.1:0 }}
      http: {{ endpoint: 127.0.0.1:0 }}
processors:
  tag: {{}}
  homeostasis: {{ model: model.yml }}
exporters:
  otlp/sink: {{ endpoint: \"http://{sink}\", protocol: {protocol} }}
service:
  memory_mib: 32
  storage: {{ directory: data }}
  telemetry: {{ metrics: {{ endpoint: 127.0.0.1:0 }} }}
  pipelines:
    feedback:
      receivers: [otlp]
      processors: [tag, homeostasis]
      exporters: [otlp/sink]
"
    )
}

impl Subject {
    /// Starts it and waits until it is ready.
    pub async fn start(setup: &Setup<'_>) -> anyhow::Result<Subject> {
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(setup.directory);
        let folder =
            folder.with_context(|| format!("cannot make a folder in {}", setup.directory.display()))?;
        std::fs::write(folder.path().join("config.yaml"), configuration(setup.sink, setup.forward))?;
        std::fs::write(folder.path().join("model.yml"), MODEL)?;
        let output = File::create(folder.path().join("output"))?;
        let mut command = Cores::command(setup.cores, setup.program);
        command
            .args(["run", "--config", "config.yaml", "--ready-file", "ready.json"])
            .current_dir(folder.path())
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command.spawn();
        let mut child = child.with_context(|| format!("cannot run {}", setup.program.display()))?;
        let ready = match ready(&mut child, folder.path()).await {
            Ok(ready) => ready,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        let account = Account::new(child.id());
        let addresses = ready.receivers.get("otlp").map(Vec::as_slice);
        let Some([grpc, http]) = addresses else { bail!("it says that it listens at {addresses:?}") };
        Ok(Subject { child, account, grpc: *grpc, http: *http, folder })
    }

    /// Where it takes a protocol.
    pub fn address(&self, protocol: Protocol) -> SocketAddr {
        match protocol {
            Protocol::Grpc => self.grpc,
            Protocol::Http => self.http,
        }
    }

    /// SIGTERM; killed when that does not help in time.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        // The shell's own kill: the program of that name is not on every machine.
        let _ = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
        let deadline = Instant::now() + STOP;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("it did not stop within {STOP:?}:\n{}", output(self.folder.path()));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn ready(child: &mut Child, folder: &Path) -> anyhow::Result<Ready> {
    let file: PathBuf = folder.join("ready.json");
    let deadline = Instant::now() + START;
    loop {
        // It is written before it is whole, perhaps: then the next look finds more.
        if let Ok(text) = std::fs::read_to_string(&file)
            && let Ok(ready) = serde_json::from_str(&text)
        {
            return Ok(ready);
        }
        if let Some(status) = child.try_wait()? {
            bail!("it ended before it was ready ({status}):\n{}", output(folder));
        }
        if Instant::now() > deadline {
            bail!("it was not ready within {START:?}:\n{}", output(folder));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The last lines that it wrote.
fn output(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("output")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_ends_at_once_is_reported_with_its_status() {
        let directory = tempfile::tempdir().expect("a folder");
        let setup = Setup {
            program: Path::new("/bin/false"),
            directory: directory.path(),
            cores: None,
            sink: ([127, 0, 0, 1], 1).into(),
            forward: Protocol::Grpc,
        };
        let error = Subject::start(&setup).await.err().expect("false is not homeostat");
        assert!(error.to_string().starts_with("it ended before it was ready (exit status: 1)"), "{error}");
    }
}
