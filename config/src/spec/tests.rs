//! A specification is read whole, or every mistake is said with its place.

use super::*;
use crate::{Lookup, Source, load};

struct Nothing;
impl Lookup for Nothing {
    fn env(&self, _name: &str) -> Option<String> {
        None
    }
    fn file(&self, _path: &str) -> Result<String, String> {
        Err("there are no files here".to_owned())
    }
}

fn source(name: &str, text: &str) -> Source {
    Source { name: name.to_owned(), text: text.to_owned() }
}

fn check(text: &str, expected: &[&str]) {
    let problems = match load(&[source("a.yaml", text)], &[], &Nothing) {
        Ok((_, problems)) | Err(problems) => problems,
    };
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(shown, expected, "{text}");
}

const GOOD: &str = "receivers: {otlp: {}}\nexporters: {nats: {}}\nservice:\n  pipelines:\n    traces/x: {receivers: [otlp], exporters: [nats]}\n";

#[test]
fn a_pipeline_takes_the_signal_of_its_name_else_all() {
    let (spec, problems) = load(&[source("a.yaml", GOOD)], &[], &Nothing).expect("it is YAML");
    assert_eq!(problems, []);
    assert_eq!(spec.service.pipelines[0].signals, [Signal::Traces]);
    assert_eq!(signals("feedback"), Signal::ALL);
}

#[test]
fn several_files_are_laid_over_one_another() {
    let over = source("b.yaml", "service: {storage: none, memory_mib: 3}");
    let (spec, problems) =
        load(&[source("a.yaml", GOOD), over], &["service.shutdown=3s".to_owned()], &Nothing)
            .expect("it is YAML");
    assert_eq!(problems, []);
    assert!(spec.service.storage.is_none());
    assert_eq!(spec.service.memory_bytes, Some(3 << 20));
    assert_eq!(spec.service.shutdown, Duration::from_secs(3));
}

#[test]
fn mistakes_name_the_place_and_the_nearest_name() {
    check(
        "receiver: {}\nservice: {pipelines: {}}",
        &[
            "a.yaml:1:1: unknown key `receiver` (did you mean \"receivers\"?); known: receivers, processors, exporters, extensions, service",
            "a.yaml:2:22: there is no pipeline (write at least one)",
        ],
    );
    check(
        "receivers: {otlp: {}}\nexporters: {nats: {}}\nservice:\n  pipelines:\n    traces: {receivers: [otpl], exporters: [nats]}\n",
        &["a.yaml:5:26: receiver `otpl` is not declared under `receivers:` (did you mean \"otlp\"?)"],
    );
    check(
        "receivers: {otlp: {}}\nservice:\n  pipelines:\n    traces: {receivers: [otlp], exportes: [nats]}\n",
        &[
            "a.yaml:4:33: unknown key `exportes` (did you mean \"exporters\"?); known: `receivers`, `processors`, `exporters`",
        ],
    );
    check("a: 1\nb", &["a.yaml:3:1: this is not YAML: simple key expected"]);
    check("", &["a.yaml:1:1: there is no `service:` section (it names the pipelines)"]);
    check(
        "secret",
        &[
            "a.yaml:1:1: text is not a mapping",
            "a.yaml:1:1: there is no `service:` section (it names the pipelines)",
        ],
    );
}

#[test]
fn one_mistake_does_not_hide_another() {
    let service = "service:\n  memory_mib: 0\n  shutdown: 0s\n  storage: { directory: '', journal: { max_mib: 0 } }\n  telemetry: { metrics: { insecure: \"${env:NOT_SET}\" } }\n  pipelines: { '': 3 }\n";
    check(
        &format!("receivers: 3\n{service}"),
        &[
            "a.yaml:6:37: the environment variable `NOT_SET` is not set (set it, or write `${env:NOT_SET:-default}`)",
            "a.yaml:1:12: a number is not a mapping",
            "a.yaml:3:15: `memory_mib` must be at least 1",
            "a.yaml:4:13: `shutdown` must be more than 0, such as `10s`",
            "a.yaml:5:25: `directory` is empty (write a folder, or `storage: none` to run without disk)",
            "a.yaml:5:49: `max_mib` must be at least 1 (to run without disk write `storage: none`)",
            "a.yaml:7:16: a pipeline has no name (write for example `traces` or `feedback`)",
            "a.yaml:7:20: a number is not a mapping",
        ],
    );
}
