//! The exporters of homeostat: one file or folder each; [`list`] is the list.

pub mod debug;
pub mod file;
pub mod kg;
pub mod nats;
pub mod otlp;
pub mod postgres;

use homeostat_pipeline::registry::Registration;

/// Every exporter, in the order in which `homeostat components` shows them.
pub fn list() -> Vec<Registration> {
    let [otlp, otlphttp] = otlp::registrations();
    // The Collector's newer names of the two.
    let (otlp_grpc, otlp_http) = (
        otlp.renamed("otlp_grpc", "the Collector's newer name of `otlp`"),
        otlphttp.renamed("otlp_http", "the Collector's newer name of `otlphttp`"),
    );
    vec![
        otlp,
        otlp_grpc,
        otlphttp,
        otlp_http,
        Registration::new::<debug::Debug>(
            "debug",
            "shows telemetry in the log or on standard output, in the Collector's form",
        ),
        Registration::new::<file::File>(
            "file",
            "writes findings as JSON lines, or records telemetry, to a file or to standard output",
        ),
        Registration::new::<kg::Kg>("kg", "keeps the knowledge graph, embedded or at a SPARQL 1.1 endpoint"),
        Registration::new::<nats::Nats>("nats", "publishes findings to NATS JetStream as CloudEvents"),
        Registration::new::<postgres::Postgres>(
            "postgres",
            "keeps findings and the ledger's chain in Postgres",
        ),
    ]
}
