//! `health_check`: one page for probes, 200 while homeostat takes telemetry and 503 before and after.
//!
//! ```yaml
//! health_check: { endpoint: 127.0.0.1:13133, path: / }
//! health_check/words: { endpoint: 127.0.0.1:13134, response_body: { healthy: "I'm good", unhealthy: "I'm bad" } }
//! ```

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use homeostat_pipeline::settings::{At, Problem};
use homeostat_pipeline::sockets::Sockets;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Bound;
use crate::admin::{self, Ask};

/// Keys of the Collector's extension that are not supported, and what to do without them.
pub const UNSUPPORTED: &[(&str, &str)] = &[
    ("tls", "probes come over loopback or from the cluster: put a proxy in front"),
    ("auth", "probes have no credentials"),
    ("cors", "no browser asks it"),
    ("http", "the second version's page is at `endpoint` and `path`"),
    ("grpc", "probes are answered over HTTP"),
    ("use_v2", "there is one version"),
    ("component_health", "the page says whether telemetry is taken, which is what a probe asks"),
    ("include_metadata", "nothing in homeostat reads request metadata"),
    ("response_headers", "answers carry no other headers"),
];

/// Its settings.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// host:port; 127.0.0.1:13133 where it is left out.
    endpoint: Option<At<String>>,
    /// Where the page is; `/` where it is left out.
    #[serde(default = "root")]
    path: String,
    /// Lets `endpoint` be other than loopback.
    #[serde(default)]
    insecure: bool,
    /// What the page says, instead of the status in JSON.
    response_body: Option<ResponseBody>,
    /// The Collector's check of exporters, long without effect there too.
    check_collector_pipeline: Option<CheckCollectorPipeline>,
}

/// The page's text.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResponseBody {
    /// With 200.
    healthy: String,
    /// With 503.
    unhealthy: String,
}

/// As the Collector writes it. Only what is off is taken.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckCollectorPipeline {
    /// Must be false.
    enabled: At<bool>,
    /// Not used.
    #[serde(default, rename = "interval")]
    _interval: Option<String>,
    /// Not used.
    #[serde(default, rename = "exporter_failure_threshold")]
    _exporter_failure_threshold: Option<i64>,
}

fn root() -> String {
    "/".to_owned()
}

impl HealthCheck {
    fn endpoint(&self) -> &str {
        self.endpoint.as_ref().map_or("127.0.0.1:13133", |endpoint| &endpoint.value)
    }

    /// What is wrong with it.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(why) = admin::address(self.endpoint(), self.insecure) {
            let at = self.endpoint.as_ref().map(|endpoint| endpoint.at.clone());
            problems.push(Problem { at, is_warning: false, message: why });
        }
        if !self.path.starts_with('/') || self.path.contains(['{', '}', '*', ':']) {
            problems
                .push(Problem::somewhere("`path` of `health_check` must begin with `/` and be a plain path"));
        }
        if let Some(check) = self.check_collector_pipeline.as_ref().filter(|check| check.enabled.value) {
            problems.push(Problem::error(
                &check.enabled.at,
                "`check_collector_pipeline` is not supported here (a backend that is down is said to the senders): remove it",
            ));
        }
        problems
    }

    /// Binds it, for the extension with this id.
    ///
    /// # Errors
    /// The endpoint cannot be bound.
    pub fn bind(&self, id: &str, sockets: &Sockets) -> anyhow::Result<Bound> {
        let socket = super::listen(id, self.endpoint(), self.insecure, sockets)?;
        tracing::info!(address = ?socket.local_addr().ok(), path = self.path, "the health check listens");
        let (path, words) = (self.path.clone(), self.response_body.clone());
        let router = move |ask: Ask| {
            let page = move || {
                let health = ask();
                let words = words.clone();
                async move {
                    match words {
                        Some(words) if health.ready => (StatusCode::OK, words.healthy).into_response(),
                        Some(words) => (StatusCode::SERVICE_UNAVAILABLE, words.unhealthy).into_response(),
                        None => admin::answer(health.ready, &health.reasons).into_response(),
                    }
                }
            };
            Router::new().route(&path, get(page))
        };
        Ok(Bound { socket, router: Box::new(router) })
    }
}
