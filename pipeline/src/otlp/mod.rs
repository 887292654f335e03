//! OTLP read in place: one structural walk that decides whether a body is well-formed, and borrowed views of what it
//! holds.
//!
//! [`walk`] runs once, at the receiver. The views are `Copy`, allocate nothing and cannot fail: on a body that passed
//! the walk they say exactly what `opentelemetry-proto` decodes (a property test holds them to it, duplicated and
//! reordered fields included); on any other body they end early.
//!
//! The views of data points show bounds, counts and exemplars as they are; what they mean is the business of who reads them.

mod cut;
pub mod json;
mod logs;
mod metrics;
#[cfg(test)]
mod oracle;
mod point;
mod resource;
mod schema;
mod split;
pub mod status;
mod trace;
mod value;
mod walk;
mod wire;

pub use cut::{Cut, Part, cut};
pub use logs::{LogView, ResourceLogs, ScopeLogs, resource_logs};
pub use metrics::{DataKind, MetricView, ResourceMetrics, ScopeMetrics, Temporality, resource_metrics};
pub use point::{Buckets, ExemplarView, Number, PointView};
pub use resource::{Resource, Scope, resources};
pub use split::split;
pub use trace::{EventView, LinkView, ResourceSpans, ScopeSpans, SpanView, resource_spans};
pub use value::{Attributes, AttributesIter, List, ListIter, Pair, Value};
pub use walk::{LEVELS_MAX, Malformed, walk};
