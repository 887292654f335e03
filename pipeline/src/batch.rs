//! What flows between components: telemetry as its bytes, alerts, and evidence.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::entry::Alert;
use crate::evidence::Rows;

/// The three signals of OTLP that homeostat takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// `ExportTraceServiceRequest`; its records are spans.
    Traces,
    /// `ExportMetricsServiceRequest`; its records are data points.
    Metrics,
    /// `ExportLogsServiceRequest`; its records are log records.
    Logs,
}

impl Signal {
    /// Every signal, in the order of the specification.
    pub const ALL: [Signal; 3] = [Signal::Traces, Signal::Metrics, Signal::Logs];

    /// `traces`, `metrics` or `logs`: the word in YAML, in paths and in labels.
    pub const fn name(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
        }
    }

    /// What its records are called in metric names: `spans`, `metric_points`, `log_records`, as in the Collector.
    pub const fn records(self) -> &'static str {
        match self {
            Signal::Traces => "spans",
            Signal::Metrics => "metric_points",
            Signal::Logs => "log_records",
        }
    }
}

/// How a frame's bytes encode the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// `application/x-protobuf`, `application/grpc`.
    Protobuf,
    /// `application/json` (OTLP/JSON).
    Json,
}

/// How a frame's bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// As they are.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// The token of `content-encoding` and `grpc-encoding`; `identity` for none.
    pub const fn token(self) -> &'static str {
        match self {
            Compression::None => "identity",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }
}

/// A message exactly as it came: compressed or not, without gRPC's five-byte prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// How the bytes encode the message once inflated.
    pub content: Content,
    /// How they are compressed.
    pub compression: Compression,
    /// The bytes; cloning them clones a reference count.
    pub bytes: Bytes,
}

/// One OTLP export request of one signal, kept as its bytes. The body has passed [`crate::otlp::walk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Which of the three requests it is.
    pub signal: Signal,
    /// As it came; what a telemetry exporter forwards.
    pub frame: Frame,
    /// The inflated protobuf message; the same bytes as the frame's where that is plain protobuf.
    pub body: Bytes,
    /// Spans, data points or log records in it, counted by the walk.
    pub records: u64,
}

impl Telemetry {
    /// BLAKE3-128 of signal and inflated body: what makes a repeat of this request recognisable.
    pub fn hash(&self) -> RequestHash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.signal.name().as_bytes());
        hasher.update(&[0]);
        hasher.update(&self.body);
        let mut hash = [0; 16];
        hasher.finalize_xof().fill(&mut hash);
        RequestHash(hash)
    }
}

/// The identity of a request: the first 16 bytes of BLAKE3 over signal, NUL, inflated body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestHash(pub [u8; 16]);

/// What flows between components.
#[derive(Clone, Debug)]
pub enum Batch {
    /// One OTLP request.
    Telemetry(Telemetry),
    /// The alerts of one webhook call.
    Alerts(Vec<Alert>),
    /// What a processor found in telemetry.
    Evidence(Rows),
}
