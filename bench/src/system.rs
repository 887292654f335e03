//! The systems that are measured: how each is configured for a run, and started. The numbers come from the kernel alone.
//!
//! Another rival is another variant here, and a line in the list of `bench/run`.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::load::Protocol;
use crate::payload::Compression;

const MODEL: &str = include_str!("../model.yml");

/// Which program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The system that this benchmark is of.
    Homeostat,
    /// The OpenTelemetry Collector, as `bench/collector.yaml` builds it.
    Collector,
    /// rotel, as its wheel has it.
    Rotel,
}

impl Kind {
    /// Its word in the tables.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Homeostat => "homeostat",
            Kind::Collector => "Collector",
            Kind::Rotel => "rotel",
        }
    }

    /// Whether it has anything that is near to what homeostat does with a tagged span.
    pub const fn can_judge(self) -> bool {
        match self {
            Kind::Homeostat | Kind::Collector => true,
            Kind::Rotel => false,
        }
    }

    /// Whether an acknowledgement says that the sink has it, byte for byte; others acknowledge what is in their memory.
    pub const fn answers_after_the_sink(self) -> bool {
        match self {
            Kind::Homeostat => true,
            Kind::Collector | Kind::Rotel => false,
        }
    }
}

/// A program on this machine.
#[derive(Clone, Debug)]
pub struct System {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub program: PathBuf,
}

impl System {
    /// A program that is there.
    pub fn new(kind: Kind, program: &Path) -> anyhow::Result<System> {
        let program = std::fs::canonicalize(program)
            .with_context(|| format!("cannot find {} at {}", kind.name(), program.display()))?;
        Ok(System { kind, program })
    }

    /// What it says that it is: the first line of `--version`.
    pub fn version(&self) -> anyhow::Result<String> {
        let output = Command::new(&self.program).arg("--version").output();
        let output = output.with_context(|| format!("cannot run {}", self.program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        match text.lines().next() {
            Some(line) if output.status.success() => Ok(line.trim().to_owned()),
            Some(_) | None => bail!("{} --version says nothing", self.program.display()),
        }
    }
}

/// What a configuration depends on.
#[derive(Clone, Copy, Debug)]
pub struct Wiring {
    /// The backend that it forwards to.
    pub sink: SocketAddr,
    /// How it forwards.
    pub forward: Protocol,
    /// How it compresses what it forwards: as what came in.
    pub compression: Compression,
    /// Whether the spans carry requirements, so that a rival has something to do with them.
    pub is_tagged: bool,
    /// Where a rival is to listen for gRPC; homeostat chooses itself and says.
    pub grpc: SocketAddr,
    /// Where a rival is to listen for HTTP.
    pub http: SocketAddr,
}

/// The files that a system finds in its folder, by name.
pub fn files(kind: Kind, wiring: &Wiring) -> Vec<(&'static str, String)> {
    match kind {
        Kind::Homeostat => vec![("config.yaml", homeostat(wiring)), ("model.yml", MODEL.to_owned())],
        Kind::Collector => vec![("config.yaml", collector(wiring))],
        Kind::Rotel => Vec::new(),
    }
}

/// What it is started with.
pub fn arguments(kind: Kind, wiring: &Wiring) -> Vec<String> {
    match kind {
        Kind::Homeostat => {
            ["run", "--config", "config.yaml", "--ready-file", "ready.json"].map(String::from).into()
        }
        Kind::Collector => ["--config", "config.yaml"].map(String::from).into(),
        Kind::Rotel => rotel(wiring),
    }
}

/// Everything switched on: what the budgets of the design are for.
fn homeostat(wiring: &Wiring) -> String {
    let protocol = match wiring.forward {
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
",
        sink = wiring.sink
    )
}

/// What its documentation recommends: a memory limiter first, batches of its default size, a queue, retries. With tagged
/// spans the nearest to ours: the key found by a regular expression, and metrics of it by series, thrown away.
fn collector(wiring: &Wiring) -> String {
    let Wiring { sink, grpc, http, .. } = wiring;
    let compression = match wiring.compression {
        Compression::Plain => "none",
        Compression::Gzip => "gzip",
    };
    let (exporter, settings) = match wiring.forward {
        Protocol::Grpc => ("otlp", format!("endpoint: \"{sink}\", tls: {{ insecure: true }}")),
        Protocol::Http => ("otlphttp", format!("endpoint: \"http://{sink}\"")),
    };
    let (processors, exporters, judging) = if wiring.is_tagged {
        ("[memory_limiter, transform, batch]", format!("[{exporter}, spanmetrics]"), JUDGING)
    } else {
        ("[memory_limiter, batch]", format!("[{exporter}]"), "")
    };
    let (metrics, nop) = if wiring.is_tagged {
        ("    metrics: { receivers: [spanmetrics], exporters: [nop] }\n", "  nop: {}\n")
    } else {
        ("", "")
    };
    let transform = if wiring.is_tagged { TRANSFORM } else { "" };
    format!(
        "receivers:
  otlp:
    protocols:
      grpc: {{ endpoint: {grpc}, max_recv_msg_size_mib: 16 }}
      http: {{ endpoint: {http} }}
processors:
  memory_limiter: {{ check_interval: 1s, limit_mib: 512, spike_limit_mib: 128 }}
  batch: {{}}
{transform}{judging}exporters:
  {exporter}: {{ {settings}, compression: {compression} }}
{nop}service:
  telemetry: {{ logs: {{ level: warn }}, metrics: {{ level: none }} }}
  pipelines:
    traces: {{ receivers: [otlp], processors: {processors}, exporters: {exporters} }}
{metrics}"
    )
}

const TRANSFORM: &str = r#"  transform:
    error_mode: ignore
    trace_statements:
      - context: span
        statements:
          - merge_maps(attributes, ExtractPatterns(attributes["req"], "(?P<requirement>REQ-[A-Z]+-[A-Z]+-[0-9]+)"), "upsert") where attributes["req"] != nil
"#;

const JUDGING: &str = "connectors:
  spanmetrics:
    histogram: { exponential: { max_size: 160 } }
    dimensions: [{ name: requirement }]
    metrics_flush_interval: 5s
";

/// Its defaults, but for the limit of a message, so that ours fit.
fn rotel(wiring: &Wiring) -> Vec<String> {
    let protocol = match wiring.forward {
        Protocol::Grpc => "grpc",
        Protocol::Http => "http",
    };
    let compression = match wiring.compression {
        Compression::Plain => "none",
        Compression::Gzip => "gzip",
    };
    [
        "start",
        "--otlp-grpc-endpoint",
        &wiring.grpc.to_string(),
        "--otlp-http-endpoint",
        &wiring.http.to_string(),
        "--otlp-grpc-max-recv-msg-size-mib",
        "16",
        "--exporter",
        "otlp",
        "--otlp-exporter-endpoint",
        &format!("http://{}", wiring.sink),
        "--otlp-exporter-protocol",
        protocol,
        "--otlp-exporter-compression",
        compression,
    ]
    .map(String::from)
    .into()
}

/// Two ports that were free a moment ago, for a system that cannot say which it took.
pub fn free_ports() -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let (one, other) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((one.local_addr()?, other.local_addr()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wiring(forward: Protocol, compression: Compression, is_tagged: bool) -> Wiring {
        let at = |port| ([127, 0, 0, 1], port).into();
        Wiring { sink: at(1), forward, compression, is_tagged, grpc: at(2), http: at(3) }
    }

    #[test]
    fn the_collector_judges_only_what_is_tagged() {
        let plain = collector(&wiring(Protocol::Http, Compression::Plain, false));
        assert!(
            plain.contains("otlphttp: { endpoint: \"http://127.0.0.1:1\", compression: none }"),
            "{plain}"
        );
        assert!(plain.contains("processors: [memory_limiter, batch], exporters: [otlphttp]"), "{plain}");
        assert!(!plain.contains("spanmetrics") && !plain.contains("transform"), "{plain}");
        let tagged = collector(&wiring(Protocol::Grpc, Compression::Gzip, true));
        assert!(
            tagged
                .contains("otlp: { endpoint: \"127.0.0.1:1\", tls: { insecure: true }, compression: gzip }")
        );
        assert!(
            tagged.contains("[memory_limiter, transform, batch], exporters: [otlp, spanmetrics]"),
            "{tagged}"
        );
        assert!(tagged.contains("metrics: { receivers: [spanmetrics], exporters: [nop] }"), "{tagged}");
    }

    #[test]
    fn rotel_forwards_as_it_received() {
        let arguments = rotel(&wiring(Protocol::Http, Compression::Gzip, false)).join(" ");
        assert!(
            arguments.contains("--otlp-exporter-protocol http --otlp-exporter-compression gzip"),
            "{arguments}"
        );
        assert!(arguments.contains("--otlp-grpc-endpoint 127.0.0.1:2"), "{arguments}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = System::new(Kind::Rotel, Path::new("/nowhere/rotel")).expect_err("it is not there");
        assert_eq!(format!("{error}"), "cannot find rotel at /nowhere/rotel");
    }
}
