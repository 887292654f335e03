//! What analyzers want `tag` to find in telemetry that carries no key of its own.

use std::collections::BTreeSet;

use crate::batch::Signal;
use crate::selector::Selector;

/// The union of what the analyzers of a pipeline want.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interest {
    /// Records that belong to a requirement by selector (`telemetry.otlp` of the model).
    pub selections: Vec<Selection>,
    /// Numeric fields of log records that feed a measure, such as `latency_ms`.
    pub log_fields: BTreeSet<String>,
    /// Attribute names that rules group by, beside `service.name` and `environment`, which are columns.
    pub labels: BTreeSet<String>,
}

impl Interest {
    /// Adds another analyzer's interest.
    pub fn merge(&mut self, other: Interest) {
        self.selections.extend(other.selections);
        self.log_fields.extend(other.log_fields);
        self.labels.extend(other.labels);
    }
}

/// One selector of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Which signal's records it looks at.
    pub signal: Signal,
    /// The canonical requirement key that a selected record belongs to.
    pub req: String,
    /// The measure that a selected record feeds (`as:`).
    pub measure: String,
    /// Which records.
    pub selector: Selector,
    /// Whether a record that carries the requirement's key is selected too: its ordinary row does not feed this measure.
    pub takes_keyed: bool,
}
