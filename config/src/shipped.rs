//! The configurations and models that come with the binary; a test validates each.

/// Embedded only: OTLP in, the graph and a file out, no server needed.
pub const QUICKSTART: &str = include_str!("../quickstart.yaml");
/// The gateway: NATS, Postgres, the graph, and a Collector behind it.
pub const GATEWAY: &str = include_str!("../gateway.yaml");
/// The sidecar: tags and forwards, judges nothing.
pub const SIDECAR: &str = include_str!("../sidecar.yaml");
/// The seed's model: three requirements.
pub const MODEL: &str = include_str!("../homeostasis_model.yml");
/// What `homeostat demo` runs.
pub const DEMO: &str = include_str!("../demo.yaml");
/// The demo's model, with windows of seconds.
pub const DEMO_MODEL: &str = include_str!("../demo_model.yml");
