//! What merging costs a record: 16 senders with 50 spans of about 450 bytes each, as 16 requests and as one.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::future::join_all;
use homeostat_pipeline::batch::{Compression, Content, Frame, Signal, Telemetry};
use homeostat_pipeline::budget::Budget;
use homeostat_pipeline::contract::{Taken, TelemetryExporter};
use homeostat_pipeline::merging::{Limits, Merging};
use homeostat_pipeline::refusal::Refusal;
use tokio::time::Instant;

const SENDERS: u64 = 16;
const RECORDS: u64 = 50;

struct Sink;

#[async_trait]
impl TelemetryExporter for Sink {
    async fn export(&self, telemetry: &Telemetry, _deadline: Instant) -> Result<Taken, Refusal> {
        black_box(telemetry.body.len());
        Ok(Taken::default())
    }

    fn is_queued(&self) -> bool {
        false
    }
}

fn request() -> Telemetry {
    let body = Bytes::from(vec![7; 450 * RECORDS as usize]);
    let frame = Frame { content: Content::Protobuf, compression: Compression::None, bytes: body.clone() };
    Telemetry { signal: Signal::Traces, frame, body, records: RECORDS }
}

fn merging(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let sink: Arc<dyn TelemetryExporter> = Arc::new(Sink);
    let limits =
        Limits { timeout: Duration::from_secs(1), records_enough: SENDERS * RECORDS, records_max: None };
    let merged: Arc<dyn TelemetryExporter> =
        Arc::new(Merging::new("batch", "otlp", &sink, &limits, &Budget::new(64 << 20)));
    let request = request();
    let mut group = c.benchmark_group("merging");
    group.throughput(Throughput::Elements(SENDERS * RECORDS));
    for (name, exporter) in [("plain", &sink), ("merged", &merged)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let deadline = Instant::now() + Duration::from_secs(9);
                    let sends = (0..SENDERS).map(|_| exporter.export(&request, deadline));
                    let outcomes = join_all(sends).await;
                    assert!(outcomes.iter().all(Result::is_ok));
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, merging);
criterion_main!(benches);
