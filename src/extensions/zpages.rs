//! `zpages`: what runs, for people, at the Collector's paths: `/debug/servicez`, `/debug/pipelinez` and `/debug/extensionz`, in
//! JSON.
//!
//! ```yaml
//! zpages: { endpoint: "localhost:55679" }
//! ```
//!
//! Deliberately absent: `/debug/tracez` (sampled spans of the program's own work) and `/debug/featurez` (there are no gates).

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use homeostat_config::{Pipeline, Spec};
use homeostat_pipeline::clock::{Clock, SystemClock};
use homeostat_pipeline::settings::{At, Problem};
use homeostat_pipeline::sockets::Sockets;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Bound;
use crate::admin::{self, Ask};

/// Its settings.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Zpages {
    /// host:port; localhost:55679 where it is left out.
    endpoint: Option<At<String>>,
    /// Lets `endpoint` be other than loopback.
    #[serde(default)]
    insecure: bool,
}

impl Zpages {
    fn endpoint(&self) -> &str {
        self.endpoint.as_ref().map_or("localhost:55679", |endpoint| &endpoint.value)
    }

    /// What is wrong with it.
    pub fn problems(&self) -> Vec<Problem> {
        let why = admin::address(self.endpoint(), self.insecure).err();
        let at = self.endpoint.as_ref().map(|endpoint| endpoint.at.clone());
        why.into_iter().map(|message| Problem { at: at.clone(), is_warning: false, message }).collect()
    }

    /// Binds it. The pages show what `spec` says.
    ///
    /// # Errors
    /// The endpoint cannot be bound.
    pub fn bind(&self, id: &str, spec: &Spec, sockets: &Sockets) -> anyhow::Result<Bound> {
        let socket = super::listen(id, self.endpoint(), self.insecure, sockets)?;
        tracing::info!(address = ?socket.local_addr().ok(), "zpages listen");
        let (pipelines, extensions) = (Arc::new(pipelines(spec)), Arc::new(extensions(spec)));
        let started = SystemClock.now();
        let router = move |ask: Ask| {
            let service = move || {
                let health = ask();
                let value = json!({
                    "version": env!("CARGO_PKG_VERSION"),
                    "started": started.to_string(),
                    "live": health.live,
                    "ready": health.ready,
                    "reasons": health.reasons,
                });
                async move { Json(value) }
            };
            Router::new()
                .route("/debug/servicez", get(service))
                .route("/debug/pipelinez", get(async move || Json((*pipelines).clone())))
                .route("/debug/extensionz", get(async move || Json((*extensions).clone())))
        };
        Ok(Bound { socket, router: Box::new(router) })
    }
}

fn pipelines(spec: &Spec) -> Value {
    let ids = |ids: &[At<String>]| ids.iter().map(|id| id.value.clone()).collect::<Vec<_>>();
    let one = |pipeline: &Pipeline| {
        json!({
            "name": pipeline.name,
            "signals": pipeline.signals.iter().map(|signal| signal.name()).collect::<Vec<_>>(),
            "receivers": ids(&pipeline.receivers),
            "processors": ids(&pipeline.processors),
            "exporters": ids(&pipeline.exporters),
        })
    };
    json!({ "pipelines": spec.service.pipelines.iter().map(one).collect::<Vec<_>>() })
}

fn extensions(spec: &Spec) -> Value {
    json!({ "extensions": spec.service.extensions.iter().map(|id| id.value.clone()).collect::<Vec<_>>() })
}
