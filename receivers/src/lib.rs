//! The receivers of homeostat. Each speaks one protocol; this list is all that makes one known.

use homeostat_pipeline::registry::Registration;

pub mod otlp;

/// Every kind of receiver.
pub fn list() -> Vec<Registration> {
    vec![otlp::registration()]
}
