//! A real `homeostat run`, as a test starts, kills and stops it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use serde::Deserialize;

use crate::client::get;
use crate::process::{Process, eventually, homeostat_binary};

/// A running homeostat, its configuration and its data in one folder.
pub struct Homeostat {
    /// The child, for signals and output.
    pub process: Process,
    /// OTLP/gRPC.
    pub grpc: SocketAddr,
    /// OTLP/HTTP.
    pub http: SocketAddr,
    /// `/metrics`, `/healthz`, `/readyz`.
    pub admin: SocketAddr,
}

#[derive(Deserialize)]
struct Ready {
    receivers: BTreeMap<String, Vec<SocketAddr>>,
    admin: SocketAddr,
}

/// `homeostat` with `arguments`, in `folder`.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(homeostat_binary());
    command.args(arguments).current_dir(folder).env_remove("RUST_LOG").env_remove("HOMEOSTAT_CRASH_AT");
    command
}

/// Writes `text` to `name` in `folder`.
pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    path
}

impl Homeostat {
    /// Runs the `config.yaml` of `folder` and waits until it is ready.
    pub async fn start(folder: &Path) -> Homeostat {
        match Homeostat::try_start(folder, &[]).await {
            Ok(homeostat) => homeostat,
            Err(output) => panic!("homeostat ended before it was ready:\n{output}"),
        }
    }

    /// The same with environment variables.
    ///
    /// # Errors
    /// It ended before it was ready; the text is its output.
    pub async fn try_start(folder: &Path, environment: &[(&str, &str)]) -> Result<Homeostat, String> {
        let ready_file = folder.join("ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let mut command = command(folder, &["run", "--config", "config.yaml", "--ready-file", "ready.json"]);
        command.envs(environment.iter().copied());
        let mut process = Process::spawn("homeostat", command);
        let ready = eventually("homeostat is ready", async || {
            if let Ok(text) = std::fs::read_to_string(&ready_file) {
                return Some(Ok(serde_json::from_str::<Ready>(&text).expect("the ready file is JSON")));
            }
            process.ended().map(|status| Err(format!("{status}\n{}", process.output())))
        })
        .await?;
        let [grpc, http] = ready.receivers["otlp"].as_slice() else {
            panic!("otlp listens at {:?}", ready.receivers)
        };
        Ok(Homeostat { grpc: *grpc, http: *http, admin: ready.admin, process })
    }

    /// The metrics page.
    pub async fn metrics(&self) -> String {
        get(self.admin, "/metrics").await.1
    }

    /// The sum of all samples of the metric `name`; 0 when there is none yet.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = self.metrics().await;
        let is_sample = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        };
        page.lines().filter(is_sample).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until `/readyz` says yes.
    pub async fn is_ready(&self) {
        eventually("/readyz says yes", async || (get(self.admin, "/readyz").await.0 == 200).then_some(()))
            .await;
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(mut self) -> (ExitStatus, String) {
        self.process.signal("TERM");
        let status = self.process.exit().await;
        (status, self.process.output())
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.process.kill();
    }
}
