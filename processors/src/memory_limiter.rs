//! `memory_limiter` as the Collector has it: here it sets the process's memory budget, which refuses instead of dropping.
//!
//! ```yaml
//! processors:
//!   memory_limiter: { limit_mib: 64, check_interval: 1s }
//! ```
//!
//! `limit_mib` bounds the bytes in flight of the whole process, as `service.memory_mib` does; where both are written, or several
//! pipelines have one, the smallest holds. The budget is charged as bytes arrive, so there is nothing to check at intervals:
//! `check_interval` and `spike_limit_mib` are accepted and change nothing. A percentage is not supported, for the default is one already.

use std::sync::Arc;

use async_trait::async_trait;
use homeostat_pipeline::batch::Batch;
use homeostat_pipeline::contract::Processor;
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::{Component, Context, Role, Settings};
use homeostat_pipeline::settings::{At, Files, Period, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The settings of `memory_limiter`; see the module for the YAML.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryLimiter {
    /// Bytes in flight of the whole process, in MiB.
    pub limit_mib: At<u64>,
    /// Accepted, for a Collector's block has it; must be below the limit.
    #[serde(default)]
    pub spike_limit_mib: Option<At<u64>>,
    /// Accepted, for a Collector's block has it.
    #[serde(default)]
    pub check_interval: Option<Period>,
}

#[async_trait]
impl Settings for MemoryLimiter {
    fn role(&self) -> Role {
        Role::Processor
    }

    fn check(&self, _files: &Files) -> Vec<Problem> {
        let limit = self.limit_mib.value;
        let mut problems = Vec::new();
        if limit == 0 {
            problems.push(Problem::error(&self.limit_mib.at, "`limit_mib` must be at least 1"));
        }
        if let Some(spike) = &self.spike_limit_mib
            && spike.value >= limit
        {
            problems.push(Problem::error(&spike.at, "`spike_limit_mib` must be smaller than `limit_mib`"));
        }
        problems
    }

    fn memory_bytes(&self) -> Option<u64> {
        Some(self.limit_mib.value.saturating_mul(1 << 20))
    }

    async fn open(&self, _context: Context) -> anyhow::Result<Component> {
        Ok(Component::Processor(Arc::new(Passed)))
    }
}

/// The budget does the work, where the bytes arrive.
struct Passed;

impl Processor for Passed {
    fn process(&self, batch: Batch, out: &mut Vec<Batch>) -> Result<(), Refusal> {
        out.push(batch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use homeostat_pipeline::settings::read;

    use super::*;

    fn check(text: &str, expected: Result<u64, &str>) {
        let node = homeostat_config::parse("a.yaml", text).expect("the text is YAML");
        let files = Files { base: "".into(), embedded: BTreeMap::new(), parse: homeostat_config::parse };
        let settings = read::<MemoryLimiter>(&node);
        let problem = match &settings {
            Ok(settings) => settings.check(&files).into_iter().next(),
            Err(problem) => Some(problem.clone()),
        };
        match (expected, problem) {
            (Ok(bytes), None) => {
                assert_eq!(settings.ok().and_then(|settings| settings.memory_bytes()), Some(bytes))
            }
            (Err(says), Some(problem)) => assert!(problem.message.contains(says), "{problem}"),
            (expected, problem) => panic!("{text}: {problem:?} where {expected:?} was expected"),
        }
    }

    #[test]
    fn a_collectors_block_sets_the_budget_or_says_what_is_wrong() {
        check("{limit_mib: 64, spike_limit_mib: 16, check_interval: 1s}", Ok(64 << 20));
        check("{limit_mib: 0}", Err("at least 1"));
        check("{limit_mib: 16, spike_limit_mib: 16}", Err("smaller than"));
        check("{limit_percentage: 80}", Err("unknown key `limit_percentage`"));
        check("{}", Err("`limit_mib` is missing"));
    }
}
