//! A homeostat with a backend, as every test here has one: what it counts, what it holds, and whether it still works.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use homeostat_pipeline::finding::Finding;
use homeostat_pipeline::ledger::{LedgerItem, LedgerReader};
use homeostat_tests::backend::Backend;
use homeostat_tests::client::{Sender, TRACES};
use homeostat_tests::homeostat::{Homeostat, write};
use homeostat_tests::process::eventually;
use homeostat_tests::telemetry::{Spans, now, traces};
use homeostat_tests::world::latency_model;
use tempfile::TempDir;

/// How many times one test may ask whether all is well.
const KEYS: usize = 16;
/// The bytes in flight that the site may hold.
pub const BUDGET_MIB: u64 = 64;
/// Buffers of connections, pages that the allocator keeps, code that was not touched before.
const SLACK_MIB: u64 = 64;

/// How long one try to send a fresh event may take; only ends a client that waits for nothing.
const TRY: Duration = Duration::from_secs(20);

const CONFIGURATION: &str = r#"
receivers:
  otlp:
    protocols:
      grpc: { endpoint: 127.0.0.1:0, GRPC }
      http: { endpoint: 127.0.0.1:0, HTTP }
processors: { tag: {}, homeostasis: { model: model.yml } }
exporters: { otlp/backend: { endpoint: "http://BACKEND" } }
extensions: { bearertokenauth: { token: sesame } }
service:
  memory_mib: BUDGET
  storage: { directory: data }
  telemetry: { metrics: { endpoint: 127.0.0.1:0 } }
  extensions: [bearertokenauth]
  pipelines: { feedback: { receivers: [otlp], processors: [tag, homeostasis], exporters: [otlp/backend] } }
"#;

/// A running homeostat in a folder of its own.
pub struct Site {
    folder: TempDir,
    backend: Backend,
    /// The process.
    pub homeostat: Homeostat,
    fresh: AtomicUsize,
    idle_kib: u64,
    budget_mib: u64,
}

fn key(number: usize) -> String {
    format!("REQ-NFR-FRESH-{number:03}")
}

impl Site {
    /// Starts one with default settings.
    pub async fn start() -> Site {
        Site::start_with("", "", BUDGET_MIB).await
    }

    /// Starts one with more settings of its listeners, as they stand in a YAML flow mapping.
    pub async fn start_with(grpc: &str, http: &str, budget_mib: u64) -> Site {
        let folder = tempfile::tempdir().expect("there is a temporary directory");
        let backend = Backend::start().await;
        let text = CONFIGURATION
            .replace("GRPC", grpc)
            .replace("HTTP", http)
            .replace("BACKEND", &backend.address.to_string())
            .replace("BUDGET", &budget_mib.to_string());
        write(folder.path(), "config.yaml", &text);
        write(folder.path(), "model.yml", &latency_model((0..KEYS).map(key), "1h"));
        let homeostat = Homeostat::start(folder.path()).await;
        let mut site =
            Site { folder, backend, homeostat, fresh: AtomicUsize::new(0), idle_kib: 0, budget_mib };
        // What works is also what is in memory when nothing bad happens.
        if !grpc.contains("auth") {
            site.works().await;
        }
        site.idle_kib = site.peak_kib();
        site
    }

    /// OTLP/gRPC.
    pub fn grpc(&self) -> SocketAddr {
        self.homeostat.grpc
    }

    /// OTLP/HTTP.
    pub fn http(&self) -> SocketAddr {
        self.homeostat.http
    }

    fn status_kib(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.homeostat.process.id());
        let status = std::fs::read_to_string(path).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says it");
        line.trim().trim_end_matches("kB").trim().parse().expect("it is a number")
    }

    /// The most that was ever resident.
    pub fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// (transport, outcome) → requests answered so.
    pub async fn outcomes(&self) -> BTreeMap<(String, String), u64> {
        self.counted("homeostat_receiver_requests_total", "outcome").await
    }

    /// (transport, reason) → connections cut for it.
    pub async fn cut(&self) -> BTreeMap<(String, String), u64> {
        self.counted("homeostat_receiver_connections_cut_total", "reason").await
    }

    async fn counted(&self, name: &str, label: &str) -> BTreeMap<(String, String), u64> {
        let page = self.homeostat.metrics().await;
        let lines = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        let of = |labels: &str, label: &str| {
            let rest = labels.split_once(&format!("{label}=\""))?.1;
            Some(rest.split('"').next()?.to_owned())
        };
        let samples = lines.filter_map(|line| {
            let (labels, value) = line.rsplit_once("} ")?;
            let at = (of(labels, "transport")?, of(labels, label)?);
            Some((at, value.parse().ok()?))
        });
        samples.filter(|(_, count)| *count > 0).collect()
    }

    /// How many connections were cut for `reason` over `transport`.
    pub async fn cut_for(&self, transport: &str, reason: &str) -> u64 {
        self.cut().await.get(&(transport.to_owned(), reason.to_owned())).copied().unwrap_or(0)
    }

    /// A fresh event is taken, forwarded and judged.
    pub async fn works(&self) {
        let number = self.fresh.fetch_add(1, Ordering::Relaxed);
        assert!(number < KEYS, "the model has no more keys");
        let slow = Spans {
            count: 1,
            req: key(number),
            node: ("shop", "Work"),
            duration: Duration::from_millis(900),
            is_error: false,
        };
        let body = traces(&slow, now());
        eventually("a fresh event is taken", async || {
            // A new client each time: one whose connection was turned away may wait for ever for another.
            let sender = Sender::default();
            let send = async {
                if number.is_multiple_of(2) {
                    sender.grpc(self.grpc(), TRACES.0, "identity", body.clone()).await
                } else {
                    sender.http(self.http(), TRACES.1, "identity", body.clone()).await
                }
            };
            let sent = tokio::time::timeout(TRY, send).await;
            matches!(sent, Ok(Ok(answer)) if answer.is_ok()).then_some(())
        })
        .await;
        assert!(
            self.backend.received().iter().any(|received| received.frame == body),
            "a fresh event was taken and not forwarded"
        );
        let ledger = self.folder.path().join("data/ledger");
        eventually("a fresh event is judged", async || {
            let reader = LedgerReader::open(&ledger).ok()?;
            let is_it = |item| match item {
                Ok(LedgerItem::Entry(entry)) => match entry.finding {
                    Finding::Deviation(deviation) => deviation.req_id == key(number),
                    _ => false,
                },
                _ => false,
            };
            reader.read_from(1).any(is_it).then_some(())
        })
        .await;
    }

    /// After everything: nothing panicked, memory stayed within its bound, the budget was given back, and it works.
    #[expect(clippy::print_stdout, reason = "the figures of a run are what its reader wants")]
    pub async fn is_well(&self, what: &str) {
        let (peak_kib, now_kib) = (self.peak_kib(), self.status_kib("VmRSS:"));
        println!(
            "{what}: resident at first {} KiB, at most {peak_kib} KiB, now {now_kib} KiB",
            self.idle_kib
        );
        let bound_kib = self.idle_kib + (self.budget_mib + SLACK_MIB) * 1024;
        assert!(peak_kib <= bound_kib, "{what}: {peak_kib} KiB were resident, {bound_kib} KiB are allowed");
        self.works().await;
        eventually("the budget is given back", async || {
            (self.homeostat.metric("homeostat_budget_used_bytes").await < 1024.0 * 1024.0).then_some(())
        })
        .await;
        let output = self.homeostat.process.output();
        assert!(!output.contains("panic"), "{what}: something panicked:\n{output}");
    }
}
