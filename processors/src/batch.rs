//! `batch` as the Collector has it: here concurrent requests are merged before the pipeline's telemetry exporters.
//!
//! ```yaml
//! processors:
//!   batch: { timeout: 200ms, send_batch_size: 8192, send_batch_max_size: 0 }
//! ```
//!
//! Each sender still waits until a backend took its records, so `batch` changes how often a backend is called and not what OK
//! means: what `homeostat_pipeline::merging` says. `timeout` is what a request waits for others, at most 2 s; 0 for it or for
//! `send_batch_size` merges nothing, as in the Collector nothing waits then. `send_batch_max_size` bounds what is merged and splits
//! nothing. Client metadata is not carried through homeostat, so `metadata_keys` is an error and its limit means nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use homeostat_pipeline::batch::Batch as Flowing;
use homeostat_pipeline::contract::Processor;
use homeostat_pipeline::merging::{Limits, WAIT_MAX};
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::{Component, Context, Role, Settings};
use homeostat_pipeline::settings::{At, Files, Period, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const TIMEOUT: Duration = Duration::from_millis(200);
const SEND_BATCH_SIZE: u64 = 8192;

/// The settings of `batch`; see the module for the YAML.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// A request waits so long for others; 200 ms unless set.
    #[serde(default)]
    pub timeout: Option<At<Period>>,
    /// So many records go at once; 8192 unless set.
    #[serde(default)]
    pub send_batch_size: Option<At<u64>>,
    /// A merged request has at most so many records; 0, which is the default, bounds nothing.
    #[serde(default)]
    pub send_batch_max_size: Option<At<u64>>,
    /// Not supported.
    #[serde(default)]
    pub metadata_keys: Vec<At<String>>,
    /// Accepted, for a Collector's block has it; bounds what `metadata_keys` tells apart.
    #[serde(default)]
    pub metadata_cardinality_limit: Option<At<u64>>,
}

impl Batch {
    fn timeout(&self) -> Duration {
        self.timeout.as_ref().map_or(TIMEOUT, |timeout| timeout.value.0)
    }

    fn enough(&self) -> u64 {
        self.send_batch_size.as_ref().map_or(SEND_BATCH_SIZE, |size| size.value)
    }
}

#[async_trait]
impl Settings for Batch {
    fn role(&self) -> Role {
        Role::Processor
    }

    fn check(&self, _files: &Files) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(max) = &self.send_batch_max_size
            && max.value > 0
            && max.value < self.enough()
        {
            let message = format!(
                "`send_batch_max_size` must be at least `send_batch_size`, which is {}, or 0 for no bound",
                self.enough()
            );
            problems.push(Problem::error(&max.at, message));
        }
        if let Some(timeout) = &self.timeout
            && timeout.value.0 > WAIT_MAX
        {
            let message = format!(
                "`timeout` is more than {} s, which is all that a request waits here, for its sender waits with it (write `{}s` or less)",
                WAIT_MAX.as_secs(),
                WAIT_MAX.as_secs()
            );
            problems.push(Problem::warning(&timeout.at, message));
        }
        if let Some(key) = self.metadata_keys.first() {
            let message = "`metadata_keys` is not supported: homeostat carries no client metadata through (leave it out; give each tenant a receiver and a pipeline of its own)";
            problems.push(Problem::error(&key.at, message));
        }
        problems
    }

    fn merging(&self) -> Option<Limits> {
        let limits = Limits {
            timeout: self.timeout(),
            records_enough: self.enough(),
            records_max: self.send_batch_max_size.as_ref().map(|max| max.value).filter(|max| *max > 0),
        };
        (limits.timeout > Duration::ZERO && limits.records_enough > 0).then_some(limits)
    }

    async fn open(&self, _context: Context) -> anyhow::Result<Component> {
        Ok(Component::Processor(Arc::new(Passed)))
    }
}

/// Merging happens where the exporters are.
struct Passed;

impl Processor for Passed {
    fn process(&self, batch: Flowing, out: &mut Vec<Flowing>) -> Result<(), Refusal> {
        out.push(batch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use homeostat_pipeline::settings::read;

    use super::*;

    /// Timeout in ms, enough, at most.
    type Merged = (u64, u64, Option<u64>);

    #[track_caller]
    fn check(text: &str, expected: Result<Option<Merged>, &str>) {
        let node = homeostat_config::parse("a.yaml", text).expect("the text is YAML");
        let files = Files { base: "".into(), embedded: BTreeMap::new(), parse: homeostat_config::parse };
        let settings = read::<Batch>(&node);
        let problem = match &settings {
            Ok(settings) => settings.check(&files).into_iter().next(),
            Err(problem) => Some(problem.clone()),
        };
        match (expected, problem) {
            (Ok(expected), None) => {
                let limits = settings.ok().and_then(|settings| settings.merging()).map(|limits| {
                    (limits.timeout.as_millis() as u64, limits.records_enough, limits.records_max)
                });
                assert_eq!(limits, expected, "{text}");
            }
            (Err(says), Some(problem)) => assert!(problem.message.contains(says), "{problem}"),
            (expected, problem) => panic!("{text}: {problem:?} where {expected:?} was expected"),
        }
    }

    #[test]
    fn a_collectors_block_says_how_requests_are_merged_or_what_is_wrong() {
        check("{}", Ok(Some((200, 8192, None))));
        check(
            "{timeout: 1s, send_batch_size: 100, send_batch_max_size: 150, metadata_cardinality_limit: 10}",
            Ok(Some((1000, 100, Some(150)))),
        );
        check("{timeout: 0s}", Ok(None));
        check("{send_batch_size: 0}", Ok(None));
        check("{send_batch_max_size: 0}", Ok(Some((200, 8192, None))));
        check("{send_batch_max_size: 100}", Err("at least `send_batch_size`, which is 8192"));
        check("{timeout: 10s}", Err("more than 2 s"));
        check("{metadata_keys: [tenant]}", Err("`metadata_keys` is not supported"));
        check("{send_batch_sice: 10}", Err("did you mean \"send_batch_size\""));
    }
}
