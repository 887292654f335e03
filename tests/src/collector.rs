//! The OpenTelemetry Collector and telemetrygen, as `tests/collector/build` makes them of their own modules.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::homeostat::write;
use crate::process::Process;

/// What the Collector says when it takes telemetry.
const READY: &str = "Everything is ready";

/// A running Collector.
pub struct Collector {
    /// The child, for signals and output.
    pub process: Process,
}

impl Collector {
    /// Writes `configuration` to `{name}.yaml` in `folder`, runs a Collector with it and waits until it is ready. Its own
    /// metrics page is off, so that several stand beside one another.
    pub async fn start(folder: &Path, name: &str, configuration: &str) -> Collector {
        let own = "service: { telemetry: { metrics: { level: none } } }\n";
        let (file, own) =
            (write(folder, &format!("{name}.yaml"), configuration), write(folder, "own-telemetry.yaml", own));
        let mut command = Command::new(built("otelcol"));
        command.arg("--config").arg(file).arg("--config").arg(own).current_dir(folder);
        let mut process = Process::spawn(name, command);
        if let Err(output) = process.line(READY).await {
            panic!("{output}");
        }
        Collector { process }
    }
}

/// A program of `target/collector/bin`.
pub fn built(name: &str) -> PathBuf {
    let file = target().join("bin").join(name);
    assert!(file.is_file(), "there is no {} (run tests/collector/build)", file.display());
    file
}

/// The source of one of the Collector's modules, by the last part of its name.
pub fn sources(module: &str) -> PathBuf {
    let folder = target().join("sources").join(module);
    assert!(folder.is_dir(), "there is no {} (run tests/collector/build)", folder.display());
    folder
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/collector")
}
