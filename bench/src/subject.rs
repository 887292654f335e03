//! The system under test: started on its own core with a generated configuration, and stopped.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::account::{Account, Cores};
use crate::load::Protocol;
use crate::system::{self, Kind, System, Wiring};

/// How long a start may take; a cold, loaded machine is slow.
const START: Duration = Duration::from_secs(60);
/// How long a stop may take before it is killed.
const STOP: Duration = Duration::from_secs(20);

/// What one run needs.
pub struct Setup<'a> {
    /// The program.
    pub system: &'a System,
    /// Where it keeps its data; a new folder in it is made and removed.
    pub directory: &'a Path,
    /// `None` where nothing is pinned.
    pub cores: Option<&'a Cores>,
    /// What it is to do.
    pub wiring: Wiring,
}

/// A running system.
pub struct Subject {
    child: Child,
    folder: tempfile::TempDir,
    /// What it uses.
    pub account: Account,
    listening: Listening,
}

#[derive(Clone, Copy)]
struct Listening {
    grpc: SocketAddr,
    http: SocketAddr,
}

#[derive(Deserialize)]
struct Ready {
    receivers: BTreeMap<String, Vec<SocketAddr>>,
}

impl Subject {
    /// Starts it and waits until it is ready.
    pub async fn start(setup: &Setup<'_>) -> anyhow::Result<Subject> {
        let kind = setup.system.kind;
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(setup.directory);
        let folder =
            folder.with_context(|| format!("cannot make a folder in {}", setup.directory.display()))?;
        for (name, text) in system::files(kind, &setup.wiring) {
            std::fs::write(folder.path().join(name), text)?;
        }
        let output = File::create(folder.path().join("output"))?;
        let program = &setup.system.program;
        let mut command = Cores::command(setup.cores, program);
        command
            .args(system::arguments(kind, &setup.wiring))
            .current_dir(folder.path())
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let expected = Listening { grpc: setup.wiring.grpc, http: setup.wiring.http };
        let account = Account::new(child.id());
        // From here on, whatever goes wrong, it is killed when this is dropped.
        let mut subject = Subject { child, account, listening: expected, folder };
        subject.listening = subject.ready(kind).await?;
        Ok(subject)
    }

    /// Where it takes a protocol.
    pub fn address(&self, protocol: Protocol) -> SocketAddr {
        match protocol {
            Protocol::Grpc => self.listening.grpc,
            Protocol::Http => self.listening.http,
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

    async fn ready(&mut self, kind: Kind) -> anyhow::Result<Listening> {
        let deadline = Instant::now() + START;
        loop {
            let listening = match kind {
                Kind::Homeostat => said(self.folder.path())?,
                Kind::Collector | Kind::Rotel => answers(self.listening).await.then_some(self.listening),
            };
            if let Some(listening) = listening {
                return Ok(listening);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended before it was ready ({status}):\n{}", output(self.folder.path()));
            }
            if Instant::now() > deadline {
                bail!("it was not ready within {START:?}:\n{}", output(self.folder.path()));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What homeostat's ready file says; it is written before it is whole, perhaps: then the next look finds more.
fn said(folder: &Path) -> anyhow::Result<Option<Listening>> {
    let Ok(text) = std::fs::read_to_string(folder.join("ready.json")) else { return Ok(None) };
    let Ok(ready) = serde_json::from_str::<Ready>(&text) else { return Ok(None) };
    let addresses = ready.receivers.get("otlp").map(Vec::as_slice);
    let Some([grpc, http]) = addresses else { bail!("it says that it listens at {addresses:?}") };
    Ok(Some(Listening { grpc: *grpc, http: *http }))
}

/// A rival is ready when both of its ports take a connection.
async fn answers(listening: Listening) -> bool {
    TcpStream::connect(listening.grpc).await.is_ok() && TcpStream::connect(listening.http).await.is_ok()
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
    use crate::payload::Compression;

    async fn check(kind: Kind) {
        let directory = tempfile::tempdir().expect("a folder");
        let system = System { kind, program: "/bin/false".into() };
        let (grpc, http) = system::free_ports().expect("free ports");
        let wiring = Wiring {
            sink: ([127, 0, 0, 1], 1).into(),
            forward: Protocol::Grpc,
            compression: Compression::Plain,
            is_tagged: false,
            grpc,
            http,
        };
        let setup = Setup { system: &system, directory: directory.path(), cores: None, wiring };
        let error = Subject::start(&setup).await.err().expect("false is nothing to measure");
        assert!(error.to_string().starts_with("it ended before it was ready (exit status: 1)"), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_ends_at_once_is_reported_with_its_status() {
        for kind in [Kind::Homeostat, Kind::Collector, Kind::Rotel] {
            check(kind).await;
        }
    }
}
