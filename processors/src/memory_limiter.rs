//! `memory_limiter` as the Collector has it: here it sets the process's memory budget, which refuses instead of dropping.
//!
//! ```yaml
//! processors:
//!   memory_limiter: { limit_mib: 64, check_interval: 1s }
//! ```
//!
//! `limit_mib` bounds the bytes in flight of the whole process, as `service.memory_mib` does; where both are written, or several
//! pipelines have one, the smallest holds. `limit_percentage` is a part of what the cgroup, else the machine, allows; where both
//! are there, `limit_mib` holds. The budget is charged as bytes arrive, so there is nothing to check at intervals: `check_interval`
//! and the spike limits are accepted and change nothing.

use std::sync::Arc;

use async_trait::async_trait;
use homeostat_pipeline::batch::Batch;
use homeostat_pipeline::budget::machine_bytes;
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
    #[serde(default)]
    pub limit_mib: Option<At<u64>>,
    /// The same in percent of what the cgroup, else the machine, allows.
    #[serde(default)]
    pub limit_percentage: Option<At<u64>>,
    /// Accepted, for a Collector's block has it; must be below the limit.
    #[serde(default)]
    pub spike_limit_mib: Option<At<u64>>,
    /// Accepted, for a Collector's block has it; must be below the limit.
    #[serde(default)]
    pub spike_limit_percentage: Option<At<u64>>,
    /// Accepted, for a Collector's block has it.
    #[serde(default)]
    pub check_interval: Option<Period>,
}

impl MemoryLimiter {
    /// What is wrong with one pair of limits of which the limit is at most `most`.
    fn check_pair(
        names: [&str; 2],
        [limit, spike]: [Option<&At<u64>>; 2],
        most: u64,
        problems: &mut Vec<Problem>,
    ) {
        let [limit_name, spike_name] = names;
        if let Some(limit) = limit.filter(|limit| limit.value == 0 || limit.value > most) {
            let most = if most == u64::MAX { String::new() } else { format!(" and at most {most}") };
            problems.push(Problem::error(&limit.at, format!("`{limit_name}` must be at least 1{most}")));
        }
        if let (Some(limit), Some(spike)) = (limit, spike)
            && spike.value >= limit.value
        {
            let message = format!("`{spike_name}` must be smaller than `{limit_name}`");
            problems.push(Problem::error(&spike.at, message));
        }
    }
}

#[async_trait]
impl Settings for MemoryLimiter {
    fn role(&self) -> Role {
        Role::Processor
    }

    fn check(&self, _files: &Files) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.limit_mib.is_none() && self.limit_percentage.is_none() {
            problems.push(Problem::somewhere("`memory_limiter` needs `limit_mib` or `limit_percentage`"));
        }
        let mib = [self.limit_mib.as_ref(), self.spike_limit_mib.as_ref()];
        Self::check_pair(["limit_mib", "spike_limit_mib"], mib, u64::MAX, &mut problems);
        let percent = [self.limit_percentage.as_ref(), self.spike_limit_percentage.as_ref()];
        Self::check_pair(["limit_percentage", "spike_limit_percentage"], percent, 100, &mut problems);
        problems
    }

    fn memory_bytes(&self) -> Option<u64> {
        let part = |percent: u64| machine_bytes() / 100 * percent;
        match (&self.limit_mib, &self.limit_percentage) {
            (Some(mib), _) => Some(mib.value.saturating_mul(1 << 20)),
            (None, Some(percent)) => Some(part(percent.value.min(100))),
            (None, None) => None,
        }
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
        check("{limit_percentage: 80, spike_limit_percentage: 15}", Ok(machine_bytes() / 100 * 80));
        check("{limit_percentage: 80, limit_mib: 32}", Ok(32 << 20));
        check("{limit_percentage: 101}", Err("at most 100"));
        check("{limit_percentage: 50, spike_limit_percentage: 50}", Err("smaller than"));
        check("{limit_percent: 80}", Err("did you mean \"limit_percentage\""));
        check("{check_interval: 1s}", Err("needs `limit_mib` or `limit_percentage`"));
    }
}
