//! `service.telemetry.traces`: spans of homeostat's own requests, in OpenTelemetry's declarative form, as the Collector takes it.

use std::time::Duration;

use homeostat_pipeline::secret::Secret;
use homeostat_pipeline::settings::{At, Problem};
use homeostat_pipeline::tracer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Level;

/// `service.telemetry.traces`. Nothing is traced unless it names a processor.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// `none` turns it off; the others are the same.
    pub level: Level,
    /// Which requests get a span; as their sender decided, and all where it said nothing, where it is left out.
    pub sampler: Option<Sampler>,
    /// How a sender says where its request belongs; `tracecontext`, which is always read.
    pub propagators: Vec<Propagator>,
    /// At most one.
    pub processors: Vec<Processor>,
}

/// How the sender's trace is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Propagator {
    /// W3C's `traceparent`.
    TraceContext,
}

/// One key of these.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampler {
    /// All requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_on: Option<Nothing>,
    /// None.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_off: Option<Nothing>,
    /// A share of the traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id_ratio_based: Option<Ratio>,
    /// As the sender decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_based: Option<Box<ParentBased>>,
}

/// An empty block.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// A share of the traces.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// From 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub ratio: At<f64>,
}

/// As the sender decided.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ParentBased {
    /// Where it said nothing; `always_on` where it is left out.
    pub root: Option<Sampler>,
}

/// What is done with spans.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// They are sent together.
    pub batch: Batch,
}

/// How spans are sent together. Times are in milliseconds, as in the declarative form.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// How long a span may wait for others, in ms.
    #[serde(default = "schedule_delay")]
    #[schemars(range(min = 1))]
    pub schedule_delay: u64,
    /// How long the backend has to take them, in ms.
    #[serde(default = "export_timeout")]
    #[schemars(range(min = 1))]
    pub export_timeout: u64,
    /// How many may wait; beyond it they are left out and counted.
    #[serde(default = "max_queue_size")]
    #[schemars(range(min = 1))]
    pub max_queue_size: usize,
    /// How many are sent together at most.
    #[serde(default = "max_export_batch_size")]
    #[schemars(range(min = 1))]
    pub max_export_batch_size: usize,
    /// Where they go.
    pub exporter: Exporter,
}

const fn schedule_delay() -> u64 {
    5_000
}

const fn export_timeout() -> u64 {
    30_000
}

const fn max_queue_size() -> usize {
    2_048
}

const fn max_export_batch_size() -> usize {
    512
}

/// Where spans go.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exporter {
    /// An OTLP backend.
    pub otlp: Otlp,
}

/// An OTLP backend.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// What it speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// `http://host:port`; over HTTP with a path where that is not `/v1/traces`. Never printed as it is.
    pub endpoint: At<Secret>,
    /// Sent with every request; the values are secrets.
    #[serde(default)]
    pub headers: Vec<Header>,
    /// Plain where it is left out.
    #[serde(default)]
    pub compression: Compression,
    /// An endpoint without a scheme is plain.
    #[serde(default)]
    pub insecure: bool,
    /// Who signs the backend's certificate; the system's roots where it is left out.
    #[serde(default)]
    pub certificate: Option<At<String>>,
    /// The own certificate.
    #[serde(default)]
    pub client_certificate: Option<At<String>>,
    /// Its private key.
    #[serde(default)]
    pub client_key: Option<At<String>>,
    /// The last four, as newer versions of the declarative form write them.
    #[serde(default)]
    pub tls: Tls,
}

/// How `https` is spoken.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// As `insecure` beside `tls`.
    pub insecure: bool,
    /// As `certificate`.
    pub ca_file: Option<At<String>>,
    /// As `client_certificate`.
    pub cert_file: Option<At<String>>,
    /// As `client_key`.
    pub key_file: Option<At<String>>,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Protocol {
    /// OTLP/HTTP.
    #[default]
    #[serde(rename = "http/protobuf")]
    Http,
    /// OTLP/gRPC.
    #[serde(rename = "grpc")]
    Grpc,
    /// OTLP/gRPC, as the Collector writes it.
    #[serde(rename = "grpc/protobuf")]
    GrpcProtobuf,
}

/// How requests are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
}

/// A header.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: At<Secret>,
}

impl Traces {
    /// Where spans go; none where nothing is traced.
    pub fn batch(&self) -> Option<&Batch> {
        let first = self.processors.first().filter(|_| self.level != Level::None)?;
        Some(&first.batch)
    }

    /// What decides which requests get a span.
    ///
    /// # Errors
    /// It says nothing, or two things.
    pub fn decides(&self) -> Result<tracer::Sampler, Problem> {
        self.sampler.as_ref().map_or_else(|| Ok(tracer::Sampler::default()), Sampler::read)
    }

    /// Everything wrong with it.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<_> = self.decides().err().into_iter().collect();
        if let [_, second, ..] = self.processors.as_slice() {
            let message = "there is a second processor of own traces (one place takes them: keep one)";
            problems.push(Problem::error(&second.batch.exporter.otlp.endpoint.at, message));
        }
        problems
    }
}

impl Sampler {
    fn read(&self) -> Result<tracer::Sampler, Problem> {
        match (&self.always_on, &self.always_off, &self.trace_id_ratio_based, &self.parent_based) {
            (Some(_), None, None, None) => Ok(tracer::Sampler::AlwaysOn),
            (None, Some(_), None, None) => Ok(tracer::Sampler::AlwaysOff),
            (None, None, Some(Ratio { ratio }), None) if (0.0..=1.0).contains(&ratio.value) => {
                Ok(tracer::Sampler::Ratio(ratio.value))
            }
            (None, None, Some(Ratio { ratio }), None) => {
                Err(Problem::error(&ratio.at, "a ratio is between 0 and 1"))
            }
            (None, None, None, Some(parent)) => {
                let root = parent.root.as_ref().map_or(Ok(tracer::Sampler::AlwaysOn), Sampler::read)?;
                Ok(tracer::Sampler::ParentBased(Box::new(root)))
            }
            _ => Err(Problem::somewhere(
                "`service.telemetry.traces.sampler` needs one of `always_on: {}`, `always_off: {}`, `trace_id_ratio_based` and `parent_based`",
            )),
        }
    }
}

impl Batch {
    /// How long a span may wait.
    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.schedule_delay.max(1))
    }

    /// How long the backend has.
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.export_timeout.max(1))
    }
}
