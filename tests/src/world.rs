//! A whole world for a whole-program test: NATS, Postgres, a SPARQL endpoint and an OTLP backend, all real, and the folder in
//! which homeostat runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use crate::backend::Backend;
use crate::homeostat::write;
use crate::messages::{Event, stored};
use crate::nats::Nats;
use crate::postgres::{Database, Postgres};
use crate::process::eventually;
use crate::sparql::Sparql;

/// Everything around homeostat.
pub struct World {
    /// The folder of `config.yaml`, `model.yml` and `data`.
    pub folder: TempDir,
    /// Real.
    pub nats: Nats,
    /// Real.
    pub postgres: Arc<Postgres>,
    /// A database of its own.
    pub database: Database,
    /// The graph.
    pub sparql: Sparql,
    /// Where telemetry goes.
    pub backend: Backend,
}

/// What one sink says of one deviation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// Its uid.
    pub uid: String,
    /// Its requirement.
    pub req: String,
    /// Its last version.
    pub version: i64,
}

impl World {
    /// Starts the servers and writes the configuration; `model` is the homeostasis model.
    pub async fn start(model: &str) -> World {
        World::start_with(model, Postgres::shared().await).await
    }

    /// The same with a Postgres of the test's own, to be stopped and started.
    pub async fn start_with(model: &str, postgres: Arc<Postgres>) -> World {
        let folder = tempfile::tempdir().expect("there is a temporary directory");
        let database = postgres.database().await;
        let (nats, sparql, backend) = (Nats::start().await, Sparql::start().await, Backend::start().await);
        let world = World { folder, nats, postgres, database, sparql, backend };
        write(world.folder.path(), "model.yml", model);
        write(world.folder.path(), "config.yaml", &world.configuration());
        world
    }

    /// The folder that homeostat runs in.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn configuration(&self) -> String {
        format!(
            r#"
receivers:
  otlp: {{ protocols: {{ grpc: {{ endpoint: 127.0.0.1:0 }}, http: {{ endpoint: 127.0.0.1:0 }} }} }}
processors:
  tag: {{}}
  homeostasis: {{ model: model.yml }}
exporters:
  nats: {{ servers: ["{nats}"] }}
  kg: {{ endpoint: "http://{sparql}" }}
  postgres: {{ url: "{postgres}" }}
  otlp/backend: {{ endpoint: "http://{backend}" }}
service:
  storage: {{ directory: data }}
  telemetry: {{ metrics: {{ endpoint: 127.0.0.1:0 }} }}
  pipelines:
    feedback:
      receivers: [otlp]
      processors: [tag, homeostasis]
      exporters: [nats, kg, postgres, otlp/backend]
"#,
            nats = self.nats.url(),
            sparql = self.sparql.address,
            postgres = self.database.url(),
            backend = self.backend.address,
        )
    }

    /// All events of the stream.
    pub async fn events(&self) -> Vec<Event> {
        stored(&self.nats.client().await).await
    }

    /// Waits until the stream holds, for each requirement of `reqs`, an event of this name.
    pub async fn until(&self, name: &str, reqs: &BTreeSet<String>) -> Vec<Event> {
        let kind = format!("sea.event.{name}.v1");
        eventually(&format!("{name} of {reqs:?}"), async || {
            let events = self.events().await;
            let of_kind = events.iter().filter(|event| event.body["type"] == kind.as_str());
            let seen: BTreeSet<String> = of_kind.map(|event| event.text("req_id")).collect();
            reqs.is_subset(&seen).then_some(events)
        })
        .await
    }

    /// The deviations as NATS has them; panics when an event was stored twice.
    pub async fn in_nats(&self) -> BTreeSet<Seen> {
        let mut last: BTreeMap<String, Seen> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for event in self.events().await {
            assert!(ids.insert(event.id.clone()), "the event {} is stored twice", event.id);
            let version = event.data()["version"].as_i64();
            if let (true, Some(version)) = (
                event.body["type"].as_str().is_some_and(|kind| kind.starts_with("sea.event.deviation_")),
                version,
            ) {
                let (uid, req) = (event.text("uid"), event.text("req_id"));
                last.insert(uid.clone(), Seen { uid, req, version });
            }
        }
        last.into_values().collect()
    }

    /// The deviations as Postgres has them.
    pub async fn in_postgres(&self) -> BTreeSet<Seen> {
        let client = self.database.client().await;
        let rows = client.query("SELECT uid::text, req_id, version::bigint FROM deviation", &[]).await;
        let rows = rows.unwrap_or_default();
        rows.iter().map(|row| Seen { uid: row.get(0), req: row.get(1), version: row.get(2) }).collect()
    }

    /// The deviations as the graph has them.
    pub fn in_graph(&self) -> BTreeSet<Seen> {
        let query = "PREFIX homeo: <https://homeostat.dev/ns#> PREFIX dcterms: <http://purl.org/dc/terms/>
            SELECT ?node ?req ?version WHERE { GRAPH ?g {
              ?node a homeo:Deviation ; homeo:version ?version ; homeo:violates ?violated .
              ?violated dcterms:identifier ?req } }";
        let field = |row: &BTreeMap<String, String>, name: &str| row.get(name).cloned().unwrap_or_default();
        let rows = self.sparql.select(query);
        rows.iter()
            .map(|row| Seen {
                uid: field(row, "node").rsplit(':').next().unwrap_or_default().to_owned(),
                req: field(row, "req"),
                version: field(row, "version").parse().unwrap_or(-1),
            })
            .collect()
    }

    /// Waits until the three sinks say the same deviations, and says them.
    #[expect(clippy::print_stdout, reason = "a test that fails here shows how the sinks came closer")]
    pub async fn agreed(&self) -> BTreeSet<Seen> {
        let mut last = String::new();
        eventually("the sinks say the same deviations", async || {
            let (nats, postgres, graph) = (self.in_nats().await, self.in_postgres().await, self.in_graph());
            let now = format!("nats {nats:?}\npostgres {postgres:?}\ngraph {graph:?}");
            if now != last {
                println!("{now}");
                last = now;
            }
            (!nats.is_empty() && nats == postgres && nats == graph).then_some(nats)
        })
        .await
    }
}

/// A model in which any span of a key that is slower than 500 ms opens a deviation, with windows of one second.
pub fn latency_model(reqs: impl IntoIterator<Item = String>, keep_firing_for: &str) -> String {
    let mut text = format!(
        "homeostasis_model:\n  version: \"1.0\"\n  defaults:\n    window: {{ kind: tumbling, size: 1s, allowed_lateness: 500ms, correction: 15m, min_samples: 1 }}\n    cooldown: 0s\n    keep_firing_for: {keep_firing_for}\n    verify_for: 1h\n  requirements:\n"
    );
    for req in reqs {
        let _ = write!(
            text,
            "    {req}:\n      title: \"answers fast\"\n      type: performance\n      thresholds:\n        p95_latency_ms: {{ target: 250, warning: 400, critical: 500, unit: milliseconds }}\n      deviation_rules:\n        - {{ id: slow, metric: p95_latency_ms, condition: \"value > threshold.critical\", severity: critical, action: generate_intent }}\n"
        );
    }
    text
}
