//! Own logs: for people on a terminal, JSON otherwise; on standard error.

use std::io::{self, IsTerminal};

use homeostat_config::Logs;
use tracing_subscriber::EnvFilter;

/// Installs the subscriber, once per process.
///
/// # Errors
/// The level or the encoding is unknown.
pub fn install(settings: &Logs) -> anyhow::Result<()> {
    let level = settings.level.clone().or_else(|| std::env::var("RUST_LOG").ok());
    let filter = EnvFilter::try_new(level.as_deref().unwrap_or("info"))
        .map_err(|error| anyhow::anyhow!("`service.telemetry.logs.level` is not understood: {error}"))?;
    let is_json = match settings.encoding.as_deref() {
        None => !io::stderr().is_terminal(),
        Some("json") => true,
        Some("console") => false,
        Some(other) => {
            anyhow::bail!("`service.telemetry.logs.encoding: {other}` is neither `console` nor `json`")
        }
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let installed = if is_json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.try_init()
    };
    installed.map_err(|error| anyhow::anyhow!("the log cannot be installed: {error}"))
}
