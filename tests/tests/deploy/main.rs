//! What `deploy/` ships, as far as a machine without a container engine can tell: every file parses, every homeostat configuration in
//! it is valid with exactly the variables that are declared beside it, and ports, paths, names and metrics agree.

mod chart;
mod docker;
mod kubernetes;
mod package;
mod prometheus;
mod render;
mod systemd;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use homeostat_config::parse;
use homeostat_pipeline::settings::{Node, Value as Yaml};
use homeostat_tests::homeostat::{command, write};
use homeostat_tests::process::Process;
use serde_json::{Map, Value};

/// Where `service.storage.directory` is wherever homeostat is deployed.
const DATA: &str = "/var/lib/homeostat";
/// Where the configuration is.
const CONFIGURATION: &str = "/etc/homeostat/homeostat.yaml";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a folder of the workspace")
        .to_path_buf()
}

/// A file of the tree.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

/// YAML as JSON, by homeostat's own parser: one document, no key twice.
fn yaml(name: &str, text: &str) -> Value {
    json(&parse(name, text).unwrap_or_else(|problem| panic!("{problem}\n{text}")))
}

/// The documents of a file with several.
fn documents(name: &str, text: &str) -> Vec<Value> {
    let parts = text.split("\n---\n").map(|part| yaml(name, part));
    parts.filter(|document| !document.is_null()).collect()
}

fn json(node: &Node) -> Value {
    match &node.value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::from(*value),
        Yaml::Integer(value) => serde_json::json!(value),
        Yaml::Float(value) => Value::from(*value),
        Yaml::Text(text) => Value::from(text.as_str()),
        Yaml::List(nodes) => nodes.iter().map(json).collect(),
        Yaml::Map(fields) => {
            let fields = fields.iter().map(|field| (field.key.clone(), json(&field.node)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
    }
}

/// The text at a JSON pointer.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no text at {pointer} of {value:#}"))
}

/// The list at a JSON pointer.
fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found.unwrap_or_else(|| panic!("no list at {pointer} of {value:#}"))
}

/// The element of a list whose `name` is this.
fn named<'a>(list: &'a [Value], name: &str) -> &'a Value {
    let found = list.iter().find(|element| element["name"] == name);
    found.unwrap_or_else(|| panic!("nothing is called {name} in {list:#?}"))
}

type Environment = BTreeMap<String, String>;

/// `homeostat validate` with exactly this environment says that the configuration is valid, and warns of nothing.
async fn check_configuration(what: &str, configuration: &str, model: &str, environment: &Environment) {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    write(folder.path(), "homeostat.yaml", configuration);
    write(folder.path(), "model.yml", model);
    let mut validate = command(folder.path(), &["validate", "--config", "homeostat.yaml"]);
    validate.env_clear().envs(environment);
    let mut process = Process::spawn("homeostat validate", validate);
    let status = process.exit().await;
    let output = process.all_output().await;
    assert!(status.success(), "{what}: {output}");
    assert_eq!(output, "the configuration is valid", "{what}");
}

/// Where a homeostat configuration listens: OTLP's two protocols and the admin pages, those that there are.
struct Listening {
    endpoints: BTreeMap<&'static str, String>,
}

impl Listening {
    /// Of a configuration; what is not loopback must say `insecure: true`.
    fn of(configuration: &Value) -> Listening {
        let mut endpoints = BTreeMap::new();
        for (name, pointer) in [
            ("otlp-grpc", "/receivers/otlp/protocols/grpc"),
            ("otlp-http", "/receivers/otlp/protocols/http"),
            ("metrics", "/service/telemetry/metrics"),
        ] {
            let Some(block) = configuration.pointer(pointer) else { continue };
            let endpoint = text(block, "/endpoint");
            let is_open = !endpoint.starts_with("127.0.0.1:");
            assert_eq!(block["insecure"] == true, is_open, "{pointer} listens at {endpoint}");
            endpoints.insert(name, endpoint.to_owned());
        }
        Listening { endpoints }
    }

    /// Name → port.
    fn ports(&self) -> BTreeMap<&'static str, u64> {
        let port = |endpoint: &String| endpoint.rsplit(':').next()?.parse().ok();
        self.endpoints
            .iter()
            .map(|(name, endpoint)| {
                (*name, port(endpoint).unwrap_or_else(|| panic!("{endpoint} has no port")))
            })
            .collect()
    }
}

/// An image has a tag, not `latest`, and no host of a registry: which one it comes from is the user's to say.
fn check_image(image: &str) {
    let (path, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{image} has no tag"));
    assert!(!tag.is_empty() && tag != "latest" && !tag.contains('/'), "{image} moves");
    let first = path.split_once('/').map_or("", |(first, _)| first);
    assert!(!first.contains(['.', ':']) && first != "localhost", "{image} names a registry");
}

/// The version of everything that is built here.
fn version() -> String {
    let manifest = read("Cargo.toml");
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = \""));
    line.expect("the workspace has a version").trim_end_matches('"').to_owned()
}

#[test]
fn every_file_of_deploy_is_one_that_a_test_knows() {
    let mut found = BTreeSet::new();
    let mut folders = vec![root().join("deploy")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("deploy/ is there").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                let path = path.strip_prefix(root().join("deploy")).expect("it is below it");
                found.insert(path.display().to_string());
            }
        }
    }
    // A new file comes with the test that reads it, and with its line here.
    let known = [
        "Dockerfile",
        "Dockerfile.dockerignore",
        "compose.yaml",
        "compose/collector.yaml",
        "compose/homeostat.yaml",
        "compose/nats.conf",
        "debian/build",
        "debian/conffiles",
        "debian/control",
        "debian/copyright",
        "debian/environment",
        "debian/homeostat.8",
        "debian/homeostat.yaml",
        "debian/postinst",
        "debian/postrm",
        "debian/prerm",
        "docker/homeostat.yaml",
        "docker/probe",
        "grafana/homeostat.json",
        "helm/homeostat/.helmignore",
        "helm/homeostat/Chart.yaml",
        "helm/homeostat/templates/NOTES.txt",
        "helm/homeostat/templates/_helpers.tpl",
        "helm/homeostat/templates/configmap.yaml",
        "helm/homeostat/templates/networkpolicy.yaml",
        "helm/homeostat/templates/service.yaml",
        "helm/homeostat/templates/serviceaccount.yaml",
        "helm/homeostat/templates/sidecar.yaml",
        "helm/homeostat/templates/statefulset.yaml",
        "helm/homeostat/values.schema.json",
        "helm/homeostat/values.yaml",
        "kubernetes/gateway.yaml",
        "kubernetes/sidecar.yaml",
        "prometheus/rules.yaml",
        "systemd/homeostat.service",
    ];
    let known: BTreeSet<String> = known.into_iter().map(ToOwned::to_owned).collect();
    assert_eq!(found, known);
}
