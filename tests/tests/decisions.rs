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

#[tokio::test(flavor = "multi_thread")]
async fn an_adjusted_threshold_judges_holds_after_a_kill_and_is_void_when_the_file_says_otherwise() {
    const REQ: &str = "REQ-NFR-PERF-001";
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let folder = folder.path();
    write(folder, "config.yaml", CONFIG);
    // Requests take 900 ms, of which nobody is told below 2000 ms.
    let model = latency_model([REQ.to_owned()], "1h").replace("critical: 500", "critical: 2000");
    write(folder, "model.yml", &model);
    let homeostat = Homeostat::start(folder).await;
    let slow = Slow::begin(&homeostat, REQ);
    eventually("a window is judged", async || {
        let (_, trail) = run(folder, &["ledger", "export", "data"]).await;
        trail.contains("behavior_observed").then_some(())
    })
    .await;
    let none = json(folder, &homeostat, &["deviations", "list", "--status", "all"]).await;
    assert_eq!(none, serde_json::json!([]));

    let what = ["model", "adjust", REQ, "p95_latency_ms", "critical", "0.5s"];
    let why = ["--reason", "users leave", "--author", "ada"];
    let made = json(folder, &homeostat, &[&what[..], &why].concat()).await;
    assert_eq!((&made["old"], &made["new"]), (&2000.0.into(), &500.0.into()), "{made}");
    let open = until(folder, &homeostat, "open", None).await;
    assert_eq!(open["threshold_value"], 500.0, "{open}");
    drop(slow);
    homeostat.kill();

    let homeostat = Homeostat::start(folder).await;
    homeostat.is_ready().await;
    let admin = format!("http://{}", homeostat.admin);
    for (arguments, says) in [
        ([REQ, "p95_latency_ms", "critical", "300"], "out of order: warning 400, critical 300"),
        ([REQ, "p95_latency", "critical", "600"], "(did you mean \"p95_latency_ms\"?)"),
        (["REQ-NFR-PERF-002", "p95_latency_ms", "critical", "600"], "no requirement `REQ-NFR-PERF-002`"),
        ([REQ, "p95_latency_ms", "worst", "600"], "`worst` is no level"),
    ] {
        let all = [&["model", "adjust"], &arguments[..], &why, &["--admin", &admin]].concat();
        let (code, output) = run(folder, &all).await;
        assert!(code == 2 && output.contains(says), "{arguments:?}: {code} {output}");
    }
    let later = ["model", "adjust", REQ, "p95_latency_ms", "warning", "450", "--effective", "2199-01-01"];
    let next = json(folder, &homeostat, &[&later[..], &why].concat()).await;
    assert_eq!(next["effective_date"], "2199-01-01T00:00:00Z", "{next}");
    let past = ["model", "adjust", REQ, "p95_latency_ms", "critical", "600", "--effective", "2020-01-01"];
    let (code, output) = run(folder, &[&past[..], &why, &["--admin", &admin]].concat()).await;
    assert!(code == 2 && output.contains("is past"), "{output}");
    let before = ["model", "adjust", REQ, "p95_latency_ms", "critical", "600"];
    let (code, output) = run(folder, &[&before[..], &why, &["--admin", &admin]].concat()).await;
    assert!(code == 2 && output.contains("of the same measure takes effect later"), "{output}");
    homeostat.stop().await;

    write(folder, "model.yml", &model.replace("critical: 2000", "critical: 1000"));
    let homeostat = Homeostat::start(folder).await;
    let listed = eventually("the adjustment is void", async || {
        let all = json(folder, &homeostat, &["model", "updates"]).await;
        (all[0]["change"] == "void").then_some(all)
    })
    .await;
    let because = listed[0]["void_because"].as_str().unwrap_or_default();
    assert!(because.contains("1000 ms would hold"), "{listed}");
    assert_eq!(listed[1]["change"], "approved", "its number is still the file's: {listed}");
    homeostat.stop().await;

    let (code, yaml) =
        run(folder, &["model", "updates", "--format", "seed-yaml", "--directory", "data"]).await;
    assert_eq!(code, 0, "{yaml}");
    let form = "    update_type: \"threshold_adjustment\"\n    req_id: \"REQ-NFR-PERF-001\"\n\n    changes:\n      thresholds:\n        \
                p95_latency_ms:\n          warning:\n            old: 400\n            new: 450\n            reason: \"users leave\"\n\n    \
                approved_by: \"ada\"\n    effective_date: \"2199-01-01T00:00:00Z\"";
    assert!(yaml.starts_with("homeostasis_updates:\n  - update_id: \"HM-") && yaml.contains(form), "{yaml}");
    let (code, text) = run(folder, &["model", "updates", "--directory", "data"]).await;
    assert!(code == 0 && text.contains("void: it changes 2000 ms"), "{text}");
    let (code, _) = run(folder, &["ledger", "verify", "data"]).await;
    assert_eq!(code, 0);
}
