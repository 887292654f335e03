//! What people decide by the commands of a real process, and that it holds after `kill -9`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use homeostat_tests::client::{Sender, TRACES};
use homeostat_tests::homeostat::{Homeostat, command, write};
use homeostat_tests::process::{Process, eventually};
use homeostat_tests::telemetry::{Spans, now, traces};
use homeostat_tests::world::latency_model;
use serde_json::Value;

const CONFIG: &str = r#"
receivers: { otlp: { protocols: { grpc: { endpoint: 127.0.0.1:0 }, http: { endpoint: 127.0.0.1:0 } } } }
processors: { tag: {}, homeostasis: { model: model.yml } }
exporters: { kg: {} }
service:
  storage: { directory: data }
  telemetry: { metrics: { endpoint: 127.0.0.1:0 } }
  pipelines: { traces: { receivers: [otlp], processors: [tag, homeostasis], exporters: [kg] } }
"#;

/// Runs a command against the process; says its exit code and all it printed.
async fn run(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let mut process = Process::spawn("homeostat", command(folder, arguments));
    let status = process.exit().await;
    (status.code().unwrap_or(-1), process.all_output().await)
}

/// The same for one that must succeed with JSON.
async fn json(folder: &Path, homeostat: &Homeostat, arguments: &[&str]) -> Value {
    let admin = format!("http://{}", homeostat.admin);
    let all = [arguments, &["--admin", &admin, "--format", "json"]].concat();
    let (code, output) = run(folder, &all).await;
    assert_eq!(code, 0, "{arguments:?}: {output}");
    serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"))
}

/// Sends a slow request again and again, wherever the process listens, until it is dropped.
struct Slow(Arc<AtomicBool>);

impl Slow {
    fn begin(homeostat: &Homeostat, req: &'static str) -> Slow {
        let goes_on = Arc::new(AtomicBool::new(true));
        let (http, sender) = (homeostat.http, Sender::default());
        let is_wanted = Arc::clone(&goes_on);
        tokio::spawn(async move {
            while is_wanted.load(Ordering::Acquire) {
                let spans = Spans {
                    count: 3,
                    req: req.to_owned(),
                    node: ("auth", "Login"),
                    duration: Duration::from_millis(900),
                    is_error: false,
                };
                let _ = sender.http(http, TRACES.1, "identity", traces(&spans, now())).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Slow(goes_on)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Waits until the only deviation is in this status and kept quiet like this.
async fn until(folder: &Path, homeostat: &Homeostat, status: &str, quiet: Option<&str>) -> Value {
    eventually(&format!("the deviation is {status} and {quiet:?}"), async || {
        let all = json(folder, homeostat, &["deviations", "list", "--status", "all"]).await;
        let one = all.as_array()?.first()?.clone();
        (one["status"] == status && one["quiet"].as_str() == quiet).then_some(one)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_and_a_silence_hold_after_a_kill() {
    const REQ: &str = "REQ-NFR-PERF-001";
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let folder = folder.path();
    write(folder, "config.yaml", CONFIG);
    write(folder, "model.yml", &latency_model([REQ.to_owned()], "1h"));
    let homeostat = Homeostat::start(folder).await;
    let slow = Slow::begin(&homeostat, REQ);
    let open = until(folder, &homeostat, "open", None).await;
    let id = open["deviation_id"].as_str().expect("it has an id").to_owned();

    let by = ["--author", "ada"];
    let seen =
        json(folder, &homeostat, &[&["deviations", "ack", &id, "--comment", "on it"][..], &by].concat())
            .await;
    assert_eq!(
        (&seen["status"], &seen["acknowledgement"]["author"]),
        (&"acknowledged".into(), &"ada".into())
    );
    let made = json(
        folder,
        &homeostat,
        &[&["silence", "add", "req=REQ-NFR-PERF-001", "--for", "1h"][..], &by].concat(),
    )
    .await;
    let silence = made["id"].as_str().expect("it has an id").to_owned();
    until(folder, &homeostat, "acknowledged", Some("silenced")).await;

    drop(slow);
    homeostat.kill();
    let homeostat = Homeostat::start(folder).await;
    homeostat.is_ready().await;
    let slow = Slow::begin(&homeostat, REQ);
    let listed = json(folder, &homeostat, &["silence", "list"]).await;
    assert_eq!(listed[0]["id"], silence.as_str());
    let still = until(folder, &homeostat, "acknowledged", Some("silenced")).await;
    assert_eq!(still["deviation_id"], id.as_str());

    let ended = json(folder, &homeostat, &[&["silence", "expire", &silence][..], &by].concat()).await;
    assert_eq!(ended["expired_by"], "ada");
    let told = until(folder, &homeostat, "acknowledged", None).await;
    assert_eq!(told["transition"], "updated", "{told}");
    drop(slow);

    // Whoever is wrong hears why, and nothing is recorded.
    let admin = format!("http://{}", homeostat.admin);
    for (arguments, why) in [
        (&["silence", "expire", &silence, "--author", "ada"][..], "is over already"),
        (&["silence", "add", "req!=x", "--author", "ada"], "everything would be silenced"),
        (&["deviations", "ack", "DEV-1", "--author", "ada"], "there is no deviation `DEV-1`"),
        (&["deviations", "list", "--status", "odd"], "unknown status `odd`"),
    ] {
        let (code, output) = run(folder, &[arguments, &["--admin", &admin]].concat()).await;
        assert!(code == 2 && output.contains(why), "{arguments:?}: {code} {output}");
    }
    homeostat.stop().await;

    let (code, output) = run(folder, &["deviations", "show", &id, "--directory", "data"]).await;
    assert!(code == 0 && output.contains("ada at "), "{output}");
    let (_, trail) = run(folder, &["ledger", "export", "data"]).await;
    let kinds: Vec<String> = trail
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["kind"].as_str().map(str::to_owned))
        .filter(|kind| kind.starts_with("silence") || kind == "deviation_acknowledged")
        .collect();
    assert_eq!(kinds, ["deviation_acknowledged", "silence_created", "silence_expired"]);
    let distinct: BTreeSet<&str> = trail.lines().collect();
    assert_eq!(distinct.len(), trail.lines().count());
    let (code, _) = run(folder, &["ledger", "verify", "data"]).await;
    assert_eq!(code, 0);
}
