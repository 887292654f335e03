//! What a reload takes over of what runs.

use homeostat_config::Source;
use homeostat_pipeline::clock::SystemClock;

use super::*;
use crate::changes::changes;
use crate::configuration::from_sources;

const BASE: &str = r#"
receivers: { otlp: { protocols: { http: { endpoint: 127.0.0.1:0 } } } }
processors:
  batch: { timeout: 100ms }
  batch/second: { timeout: 200ms }
exporters:
  otlp/a: { endpoint: "http://127.0.0.1:1" }
  otlp/b: { endpoint: "http://127.0.0.1:2" }
service:
  storage: none
  telemetry: { metrics: { endpoint: 127.0.0.1:0 } }
  pipelines:
    traces: { receivers: [otlp], processors: [batch, batch/second], exporters: [otlp/a, otlp/b] }
    logs: { receivers: [otlp], processors: [batch], exporters: [otlp/a] }
"#;

fn configuration(text: &str) -> Configuration {
    let source = Source { name: "a.yaml".to_owned(), text: text.to_owned() };
    match from_sources(&[source], &[], PathBuf::new(), BTreeMap::new()) {
        Ok((configuration, _)) => configuration,
        Err(problems) => panic!("{problems:?}"),
    }
}

/// Of the ways to the exporters, which stay the same when `from` becomes `to`?
async fn check(from: &str, to: &str, expected: [bool; 3]) {
    assert!(BASE.contains(from), "{from}");
    let (old, new) = (configuration(BASE), configuration(&BASE.replacen(from, to, 1)));
    let clock = Arc::new(SystemClock);
    let assembly = assemble(&old, clock, Sockets::default(), CancellationToken::new()).await.unwrap();
    let (before, opener) = (assembly.opened, assembly.opener);
    let changes = changes(&old, &new);
    let kept = Kept { opened: &before, changes: &changes };
    let after = opener.open_all(&new, Some(kept)).await.unwrap();
    let ways = |pipelines: Vec<Pipeline>| {
        let exporters = pipelines.into_iter().flat_map(|pipeline| pipeline.telemetry_exporters);
        exporters.map(|(_, exporter)| Arc::as_ptr(&exporter).addr()).collect::<Vec<_>>()
    };
    let (one, two) = (ways(pipelines(&old, &before)), ways(pipelines(&new, &after)));
    let is_same: Vec<bool> = one.iter().zip(&two).map(|(one, two)| one == two).collect();
    assert_eq!((is_same.as_slice(), two.len()), (expected.as_slice(), 3), "{from} → {to}");
}

#[tokio::test]
async fn what_merges_before_an_exporter_stays_unless_it_or_what_is_behind_it_changes() {
    check("traces:", "traces:", [true, true, true]).await;
    check("timeout: 100ms", "timeout: 300ms", [false, false, false]).await;
    check("timeout: 200ms", "timeout: 300ms", [false, false, true]).await;
    check("127.0.0.1:2", "127.0.0.1:3", [true, false, true]).await;
    check("[batch, batch/second]", "[batch/second]", [false, false, true]).await;
}
