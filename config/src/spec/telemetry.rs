//! `service.telemetry`: what homeostat says of itself, in the Collector's form.

use std::collections::BTreeMap;

use homeostat_pipeline::settings::{At, Position};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::traces::Traces;

/// `service.telemetry`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// The admin listener: `/metrics`, `/healthz`, `/readyz`.
    pub metrics: Metrics,
    /// Own logs.
    pub logs: Logs,
    /// Own traces.
    pub traces: Traces,
    /// What is said of this instance: `service.name` and the like, as labels of the metric `target_info`.
    pub resource: BTreeMap<String, Option<String>>,
}

/// `service.telemetry.metrics`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// host:port.
    pub endpoint: At<String>,
    /// Lets `endpoint` be other than loopback.
    pub insecure: bool,
    /// As in the Collector; `none` serves no `/metrics`, the others serve all of it.
    pub level: Level,
    /// The Collector's form of `endpoint`: at most one, which pulls.
    pub readers: Vec<Reader>,
}

/// How much is said; every metric is cheap, so it is all or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// No metrics.
    None,
    /// All.
    Basic,
    /// All.
    #[default]
    Normal,
    /// All.
    Detailed,
}

/// One of `service.telemetry.metrics.readers`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reader {
    /// Prometheus comes for the metrics; readers that push (`periodic`) are not supported.
    pub pull: Pull,
}

/// One that is asked.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// By whom.
    pub exporter: PullExporter,
}

/// Who asks.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PullExporter {
    /// Prometheus.
    pub prometheus: Prometheus,
}

/// Where Prometheus asks. Names have no `_total` and no unit beyond their own, as by the Collector's default.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prometheus {
    /// `0.0.0.0` needs `insecure: true` beside `readers`.
    #[serde(default = "localhost")]
    pub host: At<String>,
    /// The port.
    pub port: u16,
}

fn localhost() -> At<String> {
    unsaid("localhost")
}

fn unsaid(value: &str) -> At<String> {
    let at = Position { source: std::sync::Arc::from("<default>"), line: 1, column: 1 };
    At { at, value: value.to_owned() }
}

impl Default for Metrics {
    fn default() -> Metrics {
        let endpoint = unsaid("127.0.0.1:8888");
        Metrics { endpoint, insecure: false, level: Level::default(), readers: Vec::new() }
    }
}

impl Metrics {
    /// Where to listen: what the reader says, else `endpoint`.
    pub fn listens_at(&self) -> At<String> {
        let Some(reader) = self.readers.first() else { return self.endpoint.clone() };
        let Prometheus { host, port } = &reader.pull.exporter.prometheus;
        let (left, right) = if host.value.contains(':') { ("[", "]") } else { ("", "") };
        At { at: host.at.clone(), value: format!("{left}{}{right}:{port}", host.value) }
    }
}

/// `service.telemetry.logs`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// `debug`, `info`, `warn` or `error`; a filter as in `RUST_LOG` too.
    pub level: Option<At<String>>,
    /// `console` or `json`; by default the first on a terminal, else the second.
    pub encoding: Option<At<String>>,
}
