//! OTLP read in place: one structural walk that decides whether a body is well-formed, and borrowed views of what it
//! holds.
//!
//! [`walk`] runs once, at the receiver. The views are `Copy`, allocate nothing and cannot fail: on a body that passed
//! the walk they say exactly what `opentelemetry-proto` decodes (a property test holds them to it, duplicated and
//! reordered fields included); on any other body they end early.
//!
//! Views of metrics are deliberately absent until something reads them; the walk covers all three signals.

mod logs;
#[cfg(test)]
mod oracle;
mod resource;
mod schema;
pub mod status;
mod trace;
mod value;
mod walk;
mod wire;

pub use logs::{LogView, ResourceLogs, ScopeLogs, resource_logs};
pub use resource::{Resource, Scope, resources};
pub use trace::{EventView, LinkView, ResourceSpans, ScopeSpans, SpanView, resource_spans};
pub use value::{Attributes, AttributesIter, List, ListIter, Value};
pub use walk::{LEVELS_MAX, Malformed, walk};
