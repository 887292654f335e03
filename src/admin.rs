//! The admin listener: `/metrics` in Prometheus form, `/healthz`, `/readyz` and `/debug/drops`, and what `api` serves; port 8888 of the
//! loopback by default.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use homeostat_config::{Level, Metrics};
use homeostat_pipeline::clock::{Clock, SystemClock, Timestamp};
use homeostat_pipeline::drops;
use homeostat_pipeline::engine::Health;
use metrics::Unit;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

use crate::callers;
use crate::tracer;

/// The page that says what every metric means; its rows are also the HELP lines.
const PAGE: &str = include_str!("../docs/metrics.md");

/// Has the Collector's buckets, so that its dashboards find them.
const BATCH_SIZES: &str = "otelcol_processor_batch_batch_send_size";
const BATCH_SIZE_BUCKETS: [f64; 22] = [
    10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1e3, 2e3, 3e3, 4e3, 5e3, 6e3, 7e3, 8e3, 9e3, 1e4,
    2e4, 3e4, 5e4, 1e5,
];

/// How long connections may take to end when the process stops.
const DRAIN: Duration = Duration::from_secs(1);

/// Where the health comes from.
pub type Ask = Arc<dyn Fn() -> Health + Send + Sync>;

/// Installs the recorder of the process's metrics, once.
///
/// # Errors
/// There is one already.
pub fn recorder() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(BATCH_SIZES.to_owned()), &BATCH_SIZE_BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .context("cannot install the metrics recorder")?;
    for [name, kind, _, meaning] in rows(PAGE) {
        match kind {
            "counter" if !FRACTIONAL.contains(&name) => {
                metrics::describe_counter!(name.to_owned(), Unit::Count, meaning.to_owned())
            }
            "histogram" => metrics::describe_histogram!(name.to_owned(), meaning.to_owned()),
            _ => metrics::describe_gauge!(name.to_owned(), meaning.to_owned()),
        }
    }
    Ok(handle)
}

/// The rows of the page's tables: name, kind, labels, meaning.
fn rows(page: &'static str) -> impl Iterator<Item = [&'static str; 4]> {
    page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        match cells.as_slice() {
            [name, kind, labels, meaning, ..] => Some([name.trim_end_matches('`'), *kind, *labels, *meaning]),
            _ => None,
        }
    })
}

/// A listener that is bound but not yet served.
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    /// The labels of `target_info`; none where no metrics are served.
    info: Option<Vec<(String, String)>>,
}

/// The address that `endpoint` names; anything but loopback needs `insecure`, for these pages have no credentials.
///
/// # Errors
/// What to write instead.
pub fn address(endpoint: &str, insecure: bool) -> Result<SocketAddr, String> {
    let host = endpoint.replacen("localhost", "127.0.0.1", 1);
    let Ok(address) = host.parse::<SocketAddr>() else {
        return Err(format!("`{endpoint}` is no address (write for example `127.0.0.1:8888`)"));
    };
    if !address.ip().is_loopback() && !insecure {
        return Err(format!(
            "`{endpoint}` can be reached from other machines without authentication: bind to 127.0.0.1, or write `insecure: true` beside it"
        ));
    }
    Ok(address)
}

impl Admin {
    /// Binds the endpoint, as [`address`] understands it.
    ///
    /// # Errors
    /// The endpoint is no address, is taken, or is not loopback.
    pub fn bind(metrics: &Metrics, resource: &BTreeMap<String, Option<String>>) -> anyhow::Result<Admin> {
        let address = address(&metrics.listens_at().value, metrics.insecure)
            .map_err(|why| anyhow::anyhow!("`service.telemetry.metrics.endpoint`: {why}"))?;
        let listener = TcpListener::bind(address).with_context(|| {
            format!("cannot listen on {address} (`service.telemetry.metrics.endpoint`; is another homeostat running?)")
        })?;
        listener.set_nonblocking(true)?;
        let info = (metrics.level != Level::None).then(|| target_info(resource));
        Ok(Admin { address: listener.local_addr()?, listener, info })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`.
    ///
    /// # Errors
    /// Those of the listener.
    pub async fn serve(
        self,
        handle: PrometheusHandle,
        ask: Ask,
        api: Router,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let pages = Pages { handle, ask, started: SystemClock.now() };
        let mut router = Router::new();
        if let Some(info) = self.info {
            metrics::gauge!("target_info", &info).set(1.0);
            router = router.route("/metrics", get(metrics_page));
        }
        let router = router
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/debug/drops", get(debug_drops))
            .with_state(pages)
            .merge(api)
            .layer(middleware::from_fn(callers::of_this_host))
            .into_make_service_with_connect_info::<SocketAddr>();
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let cut = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            served = serving => served.context("the admin listener failed"),
            () = cut => Ok(()),
        }
    }
}

/// Who this is: the Collector's names in Prometheus's spelling; an attribute that is null is left out.
fn target_info(resource: &BTreeMap<String, Option<String>>) -> Vec<(String, String)> {
    let spelt = |key: String| key.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    tracer::resource(resource).into_iter().map(|(key, value)| (spelt(key), value)).collect()
}

#[derive(Clone)]
struct Pages {
    handle: PrometheusHandle,
    ask: Ask,
    started: Timestamp,
}

async fn metrics_page(State(pages): State<Pages>) -> impl IntoResponse {
    crate::process::observe(pages.started, SystemClock.now());
    drops::observe();
    pages.handle.run_upkeep();
    let page = as_counters(pages.handle.render());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page)
}

/// Counters of the Collector that are no whole numbers; the recorder's counters are, so they are its gauges.
const FRACTIONAL: [&str; 2] = ["otelcol_process_cpu_seconds", "otelcol_process_uptime"];

/// The page with the Collector's types.
fn as_counters(page: String) -> String {
    FRACTIONAL.iter().fold(page, |page, name| {
        page.replacen(&format!("# TYPE {name} gauge"), &format!("# TYPE {name} counter"), 1)
    })
}

async fn healthz(State(pages): State<Pages>) -> impl IntoResponse {
    let health = (pages.ask)();
    answer(health.live, &health.reasons)
}

async fn readyz(State(pages): State<Pages>) -> impl IntoResponse {
    let health = (pages.ask)();
    answer(health.ready, &health.reasons)
}

/// What was left out: JSON for programs, a table for people.
async fn debug_drops(uri: Uri, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_json = accept.contains("application/json") || uri.query() == Some("format=json");
    if is_json {
        return Json(serde_json::json!({ "drops": drops::lines() })).into_response();
    }
    let mut text = String::new();
    for line in drops::lines() {
        let last = line.last.map_or_else(String::new, |last| last.to_string());
        let place = format!("{}/{}", line.place, line.reason);
        let drops::Line { count, unit, example, about, .. } = line;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{count:>12} {unit:<12} {place:<28} {last:<30} {example:<32} {about}");
    }
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// What a probe hears.
pub fn answer(is_good: bool, reasons: &[String]) -> impl IntoResponse + use<> {
    let status = if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if is_good { "ok" } else { "not ok" };
    (status, Json(serde_json::json!({ "status": word, "reasons": reasons })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_gives_the_help_of_every_metric() {
        let rows: Vec<_> = rows(PAGE).collect();
        assert!(rows.len() > 10, "docs/metrics.md has {} rows", rows.len());
        for [name, kind, _, meaning] in rows {
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{name} is a {kind}");
            assert!(!meaning.is_empty(), "{name} means nothing");
        }
    }

    #[test]
    fn the_page_explains_every_reason_to_leave_something_out() {
        let listed: Vec<String> = PAGE
            .split("| place | reason | unit | meaning |")
            .nth(1)
            .unwrap_or_default()
            .lines()
            .filter(|line| line.starts_with("| ") && !line.starts_with("| ---"))
            .map(ToOwned::to_owned)
            .collect();
        let known: Vec<String> = drops::ALL
            .iter()
            .map(|reason| {
                format!("| {} | `{}` | {} | {} |", reason.place, reason.name, reason.unit, reason.about)
            })
            .collect();
        assert_eq!(listed, known, "docs/metrics.md and pipeline/src/drops.rs list the same");
    }

    #[test]
    fn only_loopback_is_bound_without_being_asked() {
        assert!(address("127.0.0.1:0", false).is_ok() && address("localhost:0", false).is_ok());
        assert!(address("0.0.0.0:0", false).is_err_and(|error| error.contains("insecure: true")));
        assert!(address("0.0.0.0:0", true).is_ok() && address("nowhere", false).is_err());
    }

    #[test]
    fn the_resource_becomes_labels_and_null_leaves_one_out() {
        let resource = [("service.version", None), ("host.name", Some("a".to_owned()))];
        let resource = resource.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(target_info(&resource), [pair("host_name", "a"), pair("service_name", "homeostat")]);
    }
}
