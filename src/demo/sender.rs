//! Sends what the shop reports to the pipeline's real OTLP/gRPC port, through homeostat's own `otlp` exporter.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use homeostat_pipeline::batch::{Compression, Content, Frame, Signal, Telemetry};
use homeostat_pipeline::contract::TelemetryExporter;
use homeostat_pipeline::registry::{Component, Context};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::time::Instant;

/// A client of one OTLP/gRPC port.
pub struct Sender {
    exporter: Arc<dyn TelemetryExporter>,
}

impl Sender {
    /// A client of the port at `address`.
    ///
    /// # Errors
    /// The exporter does not open.
    pub async fn open(address: SocketAddr, context: Context) -> anyhow::Result<Sender> {
        let node = homeostat_config::parse("demo", &format!("endpoint: http://{address}"))?;
        let list = homeostat_exporters::list();
        let otlp = list.iter().find(|one| one.kind == "otlp").context("there is no `otlp` exporter")?;
        match (otlp.read)(&node)?.open(context).await? {
            Component::TelemetryExporter(exporter) => Ok(Sender { exporter }),
            _ => bail!("the `otlp` exporter is no exporter of telemetry"),
        }
    }

    /// Sends one request and waits for its OK.
    ///
    /// # Errors
    /// The refusal.
    pub async fn send(&self, request: &ExportTraceServiceRequest) -> anyhow::Result<()> {
        let body = Bytes::from(request.encode_to_vec());
        let records =
            request.resource_spans.iter().flat_map(|one| &one.scope_spans).map(|one| one.spans.len() as u64);
        let telemetry = Telemetry {
            signal: Signal::Traces,
            frame: Frame { content: Content::Protobuf, compression: Compression::None, bytes: body.clone() },
            body,
            records: records.sum(),
        };
        self.exporter.export(&telemetry, Instant::now() + Duration::from_secs(10)).await?;
        Ok(())
    }
}
