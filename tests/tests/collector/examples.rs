//! The Collector's own example configurations, read from its modules, unchanged: `homeostat validate` takes each, or says exactly
//! which key is not supported; those that stand by themselves run. What becomes of each is in `examples.txt`, beside the
//! Collector's own verdict.
//!
//! A file of the Collector that holds one component's block is put under the component's id, and a second configuration names
//! it in a pipeline; neither changes its text.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use homeostat_tests::client::get;
use homeostat_tests::collector::{built, sources};
use homeostat_tests::homeostat::{Homeostat, command, write};
use homeostat_tests::process::{Process, eventually, free_port};

use crate::{PAGE, fence};

/// What the test found last time; `UPDATE_EXPECTED=1 cargo test -p homeostat-tests --test collector` writes it anew.
const EXPECTED: &str = include_str!("examples.txt");

/// One example.
struct Example {
    /// Module and file, for people.
    name: String,
    /// Its YAML, under the id of its component where it is one component's.
    text: String,
    /// Section and ids that a pipeline must name; none for a whole configuration.
    parts: Option<(&'static str, Vec<String>)>,
}

/// Modules whose `testdata` holds one block a file: module, section, id.
const BLOCKS: [(&str, &str, &str); 6] = [
    ("otlpreceiver", "receivers", "otlp"),
    ("otlpexporter", "exporters", "otlp_grpc"),
    ("otlphttpexporter", "exporters", "otlp_http"),
    ("debugexporter", "exporters", "debug"),
    ("batchprocessor", "processors", "batch"),
    ("memorylimiter", "processors", "memory_limiter"),
];

/// Modules whose README has examples, and their section.
const READMES: [(&str, &str); 7] = [
    ("otlpreceiver", "receivers"),
    ("otlpexporter", "exporters"),
    ("otlphttpexporter", "exporters"),
    ("debugexporter", "exporters"),
    ("batchprocessor", "processors"),
    ("memorylimiterprocessor", "processors"),
    ("healthcheckextension", "extensions"),
];

/// Whole configurations.
const WHOLE: [(&str, &str); 4] = [
    ("collector", "examples/local/otel-config.yaml"),
    ("collector", "examples/k8s/otel-config.yaml"),
    ("builder", "test/core.otel.yaml"),
    ("otelcol", "testdata/otelcol-log-to-file.yaml"),
];

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

/// The blocks of a mapping's keys: each key with what stands under it.
fn split(text: &str) -> Vec<(String, String)> {
    let mut parts: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let key = line.split_once(':').map(|(key, _)| key);
        match (key, parts.last_mut()) {
            (Some(key), _) if !line.starts_with([' ', '#']) => {
                parts.push((key.to_owned(), format!("{line}\n")));
            }
            (_, Some((_, block))) => *block += &format!("{line}\n"),
            (_, None) => (),
        }
    }
    parts
}

/// The YAML in the fences of a page.
fn fenced(page: &str) -> Vec<String> {
    let blocks =
        page.split("```yaml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0.to_owned()));
    blocks.filter(|block| !block.contains("...")).collect()
}

/// The literal texts of a Kubernetes ConfigMap's `data`: each file's name and its text.
fn config_maps(text: &str) -> Vec<(String, String)> {
    let mut maps = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(key) = line.strip_prefix("  ").and_then(|line| line.strip_suffix(": |")) else { continue };
        let mut block = String::new();
        while let Some(line) = lines.next_if(|line| line.is_empty() || line.starts_with("    ")) {
            block += &format!("{}\n", line.strip_prefix("    ").unwrap_or(line));
        }
        maps.push((key.to_owned(), block));
    }
    maps
}

fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    for (module, file) in WHOLE {
        let (name, text) = (format!("{module}/{file}"), read(&sources(module).join(file)));
        let maps = config_maps(&text);
        if maps.is_empty() {
            examples.push(Example { name, text, parts: None });
        } else {
            let one = |(key, text)| Example { name: format!("{name} {key}"), text, parts: None };
            examples.extend(maps.into_iter().map(one));
        }
    }
    for (module, section, id) in BLOCKS {
        let folder = sources(module).join("testdata");
        let entries = std::fs::read_dir(&folder).expect("the module has examples");
        let files = entries.map(|entry| entry.expect("the folder can be read").path());
        let mut files: Vec<PathBuf> =
            files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
        files.sort();
        for path in files {
            let file = path.file_name().and_then(|name| name.to_str()).expect("its name is text");
            examples.extend(blocks(&format!("{module}/{file}"), section, id, &read(&path)));
        }
    }
    let health = read(&sources("healthcheckextension").join("testdata/config.yaml"));
    examples.extend(each("healthcheckextension/config.yaml", "extensions", &health));
    for (module, section) in READMES {
        for (index, text) in fenced(&read(&sources(module).join("README.md"))).into_iter().enumerate() {
            let ids =
                text.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(':')).map(|(id, _)| id);
            let ids = ids.filter(|id| !id.starts_with([' ', '#'])).map(ToOwned::to_owned).collect();
            let name = format!("{module}/README.md {}", index + 1);
            examples.push(Example { name, text, parts: Some((section, ids)) });
        }
    }
    examples
}

/// The examples of one file of a component's blocks: a file of several has a name over each.
fn blocks(name: &str, section: &'static str, id: &str, text: &str) -> Vec<Example> {
    if name.ends_with("invalid_configs.yaml") {
        let named = |(key, block): (String, String)| {
            let under = block.split_once('\n').map_or("", |(_, under)| under);
            let text = format!("{section}:\n  {id}/{key}:\n{}", indented(under, 2));
            Example {
                name: format!("{name} {key}"),
                text,
                parts: Some((section, vec![format!("{id}/{key}")])),
            }
        };
        return split(text).into_iter().map(named).collect();
    }
    if text.starts_with("receivers:") {
        return vec![Example { name: name.to_owned(), text: text.to_owned(), parts: None }];
    }
    let text = format!("{section}:\n  {id}:\n{}", indented(text, 4));
    vec![Example { name: name.to_owned(), text, parts: Some((section, vec![id.to_owned()])) }]
}

/// Each block of a file whose keys are ids.
fn each(name: &str, section: &'static str, text: &str) -> Vec<Example> {
    let one = |(id, block): (String, String)| Example {
        name: format!("{name} {id}"),
        text: format!("{section}:\n{}", indented(&block, 2)),
        parts: Some((section, vec![id])),
    };
    split(text).into_iter().map(one).collect()
}

/// What stands beside an example so that it is a whole configuration.
fn beside(section: &str, ids: &[String]) -> String {
    let ids = ids.join(", ");
    let (mut receivers, mut processors, mut exporters, mut extensions) = ("otlp", "", "otlp_http", "");
    match section {
        "receivers" => receivers = &ids,
        "processors" => processors = &ids,
        "exporters" => exporters = &ids,
        _ => extensions = &ids,
    }
    let mut text = String::new();
    if section != "receivers" {
        text += "receivers: { otlp: { protocols: { grpc: { endpoint: 'localhost:4317' } } } }\n";
    }
    if section != "exporters" {
        text += "exporters: { otlp_http: { endpoint: 'http://localhost:5318', sending_queue: { enabled: false } } }\n";
    }
    text + &format!(
        "service:\n  extensions: [{extensions}]\n  pipelines: {{ traces: {{ receivers: [{receivers}], processors: [{processors}], exporters: [{exporters}] }} }}\n"
    )
}

/// The variables that the examples name.
const ENVIRONMENT: [(&str, &str); 2] = [("MY_POD_IP", "127.0.0.1"), ("ProgramData", "data")];

fn output(mut command: Command) -> Output {
    command.envs(ENVIRONMENT).output().expect("the program runs")
}

/// Writes an example and says which arguments name it.
fn configurations(folder: &Path, example: &Example) -> Vec<String> {
    write(folder, "example.yaml", &example.text);
    let mut arguments = vec!["--config".to_owned(), "example.yaml".to_owned()];
    if let Some((section, ids)) = &example.parts {
        write(folder, "beside.yaml", &beside(section, ids));
        arguments.extend(["--config".to_owned(), "beside.yaml".to_owned()]);
    }
    arguments
}

/// The verdict of `homeostat validate`: each problem's text, and where it is.
fn verdict(folder: &Path, arguments: &[String]) -> (bool, Vec<String>) {
    let mut words: Vec<&str> = vec!["validate"];
    words.extend(arguments.iter().map(String::as_str));
    words.extend(["--format", "json"]);
    let said = output(command(folder, &words)).stdout;
    let said: serde_json::Value = serde_json::from_slice(&said).expect("it says JSON");
    let problems = said["problems"].as_array().expect("there is a list").iter().map(|problem| {
        let (severity, message) = (&problem["severity"], &problem["message"]);
        let place = match problem["at"]["line"].as_u64() {
            Some(line) => format!("{}:{line}", problem["at"]["file"].as_str().unwrap_or_default()),
            None => "somewhere".to_owned(),
        };
        format!(
            "{}: {place}: {}",
            severity.as_str().unwrap_or_default(),
            claim(message.as_str().unwrap_or_default())
        )
    });
    (said["valid"] == true, problems.collect())
}

/// What a message says of the example: which key is meant is not part of it, nor are the keys that there are besides.
fn claim(message: &str) -> &str {
    let end = ["; known:", " (did you mean"].iter().filter_map(|word| message.find(word)).min();
    &message[..end.unwrap_or(message.len())]
}

fn collector_takes(folder: &Path, arguments: &[String]) -> bool {
    let mut command = Command::new(built("otelcol"));
    command.arg("validate").args(arguments).current_dir(folder);
    output(command).status.success()
}

#[test]
fn every_example_loads_or_the_key_that_is_not_supported_is_named() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let mut found = String::new();
    for example in examples() {
        let arguments = configurations(folder.path(), &example);
        let (is_valid, problems) = verdict(folder.path(), &arguments);
        let word = |is_valid| if is_valid { "valid" } else { "not valid" };
        let collector = word(collector_takes(folder.path(), &arguments));
        let _ = writeln!(found, "{}\n  Collector: {collector}; homeostat: {}", example.name, word(is_valid));
        for problem in &problems {
            let _ = writeln!(found, "  {problem}");
        }
        let has_place = |problem: &String| !problem.starts_with("error: somewhere");
        assert!(is_valid || problems.iter().any(has_place), "{}: {problems:?}", example.name);
    }
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/collector/examples.txt");
        std::fs::write(file, &found).expect("the file can be written");
        return;
    }
    let differences: Vec<String> = found
        .lines()
        .filter(|line| !EXPECTED.lines().any(|expected| expected == *line))
        .map(|line| format!("+ {line}"))
        .chain(
            EXPECTED
                .lines()
                .filter(|line| !found.lines().any(|found| found == *line))
                .map(|line| format!("- {line}")),
        )
        .collect();
    assert!(
        found == EXPECTED,
        "run this test with UPDATE_EXPECTED=1 and review the difference:\n{}",
        differences.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_examples_that_load_run_with_nothing_changed_but_ports() {
    let mut running = 0;
    for example in examples().iter().filter(|example| example.parts.is_none()) {
        let name = &example.name;
        let folder = tempfile::tempdir().expect("there is a temporary directory");
        if !verdict(folder.path(), &configurations(folder.path(), example)).0 {
            continue;
        }
        running += 1;
        write(folder.path(), "example.yaml", &example.text);
        let mut arguments = vec!["run", "--config", "example.yaml", "--ready-file", "ready.json"];
        let pages = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let pages_set = format!("extensions.zpages.endpoint={pages}");
        for set in [
            "receivers.otlp.protocols.grpc.endpoint=127.0.0.1:0",
            "receivers.otlp.protocols.http.endpoint=127.0.0.1:0",
            "service.telemetry.metrics.endpoint=127.0.0.1:0",
            &pages_set,
        ] {
            arguments.extend(["--set", set]);
        }
        let mut command = command(folder.path(), &arguments);
        command.envs(ENVIRONMENT);
        let mut process = Process::spawn("homeostat", command);
        let ready = folder.path().join("ready.json");
        let is_ready = eventually("it is ready", async || {
            if ready.exists() { Some(true) } else { process.ended().map(|_| false) }
        })
        .await;
        assert!(is_ready, "{name}:\n{}", process.output());
        let (status, page) = get(pages, "/debug/pipelinez").await;
        assert!(status == 200 && page.contains("\"receivers\":[\"otlp\"]"), "{name}: {status} {page}");
        process.signal("TERM");
        assert!(process.exit().await.success(), "{name}:\n{}", process.output());
    }
    assert!(running > 0, "none of the Collector's whole examples loads");
}

/// A configuration in which only `block`, of the component's own keys, stands.
fn with_block(component: &str, block: &str) -> String {
    let (mut http, mut exporter, mut extensions) = (String::new(), String::new(), String::new());
    match component {
        "receiver" => http = block.to_owned(),
        "exporter" => exporter = format!(", {block}"),
        other => extensions = format!("{other}: {{ {block} }}"),
    }
    format!(
        "receivers: {{ otlp: {{ protocols: {{ http: {{ {http} }} }} }} }}\nexporters: {{ otlp_http: {{ endpoint: 'http://localhost:1'{exporter} }} }}\nextensions: {{ {extensions} }}\nservice: {{ pipelines: {{ traces: {{ receivers: [otlp], exporters: [otlp_http] }} }} }}\n"
    )
}

#[test]
fn the_page_names_keys_that_are_refused_and_shows_configurations_that_are_valid() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let arguments = ["--config".to_owned(), "example.yaml".to_owned()];
    let mut rows = 0;
    for row in PAGE.lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let ["", component @ ("receiver" | "exporter" | "health_check" | "zpages"), key, _, ""] =
            cells.as_slice()
        else {
            continue;
        };
        let key = key.trim_matches('`');
        write(folder.path(), "example.yaml", &with_block(component, &format!("{key}: {{}}")));
        let (is_valid, problems) = verdict(folder.path(), &arguments);
        assert!(!is_valid && problems.len() == 1, "{component} {key}: {problems:?}");
        let named =
            problems[0].starts_with("error: example.yaml:") && problems[0].contains(&format!("`{key}`"));
        assert!(named && problems[0].contains("remove it"), "{component} {key}: {problems:?}");
        rows += 1;
    }
    assert!(rows > 10, "the table has {rows} rows");
    write(folder.path(), "example.yaml", fence("homeostat: behind a Collector"));
    assert_eq!(verdict(folder.path(), &arguments), (true, Vec::new()));
    for title in ["Collector: without a queue", "Collector: with batch and a queue"] {
        write(folder.path(), "example.yaml", fence(title));
        assert!(collector_takes(folder.path(), &arguments), "{title}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_of_the_collector_says_its_own_words() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let page = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = format!(
        "
receivers: {{ otlp: {{ protocols: {{ grpc: {{ endpoint: '127.0.0.1:0' }}, http: {{ endpoint: '127.0.0.1:0' }} }} }} }}
exporters: {{ otlp_http: {{ endpoint: 'http://127.0.0.1:1' }} }}
extensions:
  health_check: {{ endpoint: '{page}', path: /health/status, response_body: {{ healthy: I'm good, unhealthy: I'm bad }} }}
service:
  extensions: [health_check]
  storage: none
  telemetry: {{ metrics: {{ endpoint: '127.0.0.1:0' }} }}
  pipelines: {{ traces: {{ receivers: [otlp], exporters: [otlp_http] }} }}
"
    );
    write(folder.path(), "config.yaml", &text);
    let homeostat = Homeostat::start(folder.path()).await;
    homeostat.is_ready().await;
    assert_eq!(get(page, "/health/status").await, (200, "I'm good".to_owned()));
}
