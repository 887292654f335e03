//! `health_check`: one page for probes, 200 while homeostat takes telemetry and 503 before and after.
//!
//! ```yaml
//! health_check: { endpoint: 127.0.0.1:13133, path: / }
//! ```

use axum::Router;
use axum::routing::get;
use homeostat_pipeline::settings::{At, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Ask};

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
        problems
    }

    /// Binds it and serves until `stop`.
    ///
    /// # Errors
    /// The endpoint cannot be bound; later those of the listener.
    pub fn bind(&self) -> anyhow::Result<Bound> {
        let listener = admin::listen(self.endpoint(), self.insecure)?;
        tracing::info!(address = ?listener.local_addr().ok(), path = self.path, "the health check listens");
        Ok(Bound { listener, path: self.path.clone() })
    }
}

/// A health check that listens.
pub struct Bound {
    listener: std::net::TcpListener,
    path: String,
}

impl Bound {
    /// Serves until `stop`.
    ///
    /// # Errors
    /// Those of the listener.
    pub async fn serve(self, ask: Ask, stop: CancellationToken) -> anyhow::Result<()> {
        let page = get(move || {
            let health = ask();
            async move { admin::answer(health.ready, &health.reasons) }
        });
        let router = Router::new().route(&self.path, page);
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        tokio::select! {
            served = axum::serve(listener, router) => served.map_err(Into::into),
            () = stop.cancelled() => Ok(()),
        }
    }
}
