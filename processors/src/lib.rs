//! The processors and analyzers of homeostat: one file or folder each, and this list.

pub mod batch;
pub mod filter;
pub mod homeostasis;
pub mod memory_limiter;
pub mod tag;

use homeostat_pipeline::registry::Registration;

/// Every processor and analyzer there is, in the order of `homeostat components`.
pub fn list() -> Vec<Registration> {
    vec![
        Registration::new::<memory_limiter::MemoryLimiter>(
            "memory_limiter",
            "sets the process's memory budget, in the Collector's form",
        ),
        Registration::new::<batch::Batch>(
            "batch",
            "merges concurrent requests before the telemetry exporters, in the Collector's form",
        ),
        Registration::new::<tag::Tag>(
            "tag",
            "finds requirement keys, sea.* attributes and the model's selectors in telemetry, and makes rows of evidence of them",
        ),
        Registration::reading::<filter::Filter>(
            "filter",
            "drops the records that a selector matches, after they were judged and before they are forwarded",
            filter::read_block,
        ),
        Registration::new::<homeostasis::Homeostasis>(
            "homeostasis",
            "judges evidence by the homeostasis model: behaviors of spec nodes, deviations from requirements and their lives",
        ),
    ]
}
