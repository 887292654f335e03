//! The schema of the configuration and the loader agree: on every configuration that is shipped or shown, and on what becomes of
//! them when a value is replaced or a key added.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use homeostat_config::{parse, write_json};
use homeostat_pipeline::settings::{Field, Node, Position, Value as Yaml};
use jsonschema::Validator;

use super::*;

const SECTIONS: [&str; 4] = ["receivers", "processors", "exporters", "extensions"];

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.ends_with("target") {
            files(&path, out);
        } else if path
            .extension()
            .is_some_and(|end| ["yaml", "yml", "md", "rs"].iter().any(|one| end == *one))
        {
            out.push(path);
        }
    }
}

/// The YAML blocks of a page, or of the `//!` lines of a source.
fn blocks(path: &Path, text: &str) -> Vec<String> {
    let page = match path.extension().and_then(|end| end.to_str()) {
        Some("md") => text.to_owned(),
        Some("rs") => text
            .lines()
            .filter_map(|line| line.strip_prefix("//!"))
            .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
            .collect(),
        _ => return vec![text.to_owned()],
    };
    page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
}

fn field(key: &str, node: Node) -> Field {
    Field { key: key.to_owned(), at: node.at.clone(), node }
}

fn node(value: Yaml) -> Node {
    Node { at: Position { source: Arc::from("test"), line: 1, column: 1 }, value }
}

/// The block as a whole configuration, when it is one or a part of one.
fn whole(tree: Node, crate_section: Option<&str>) -> Option<Node> {
    let Yaml::Map(fields) = &tree.value else { return None };
    let is_section = |field: &Field| SECTIONS.contains(&field.key.as_str()) || field.key == "service";
    let mut whole =
        if fields.iter().all(is_section) { fields.clone() } else { vec![field(crate_section?, tree)] };
    if whole.iter().all(|field| field.key != "service") {
        whole.push(field(
            "service",
            parse("test", "pipelines: { x: { receivers: [otlp], exporters: [kg] } }").unwrap(),
        ));
    }
    // A page may show a part of `service`.
    let service = whole.iter_mut().find(|field| field.key == "service")?;
    if service.node.get("pipelines").is_none() {
        let Yaml::Map(fields) = &mut service.node.value else { return None };
        fields.push(field("pipelines", parse("test", "x: { receivers: [otlp], exporters: [kg] }").unwrap()));
    }
    Some(node(Yaml::Map(whole)))
}

/// Every configuration of the tree, with where it stands.
fn shipped() -> Vec<(String, Node)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    for (folder, section) in [
        ("config", None),
        ("deploy", None),
        ("docs", None),
        ("receivers/src", Some("receivers")),
        ("processors/src", Some("processors")),
        ("exporters/src", Some("exporters")),
        ("src/extensions", Some("extensions")),
    ] {
        let mut paths = Vec::new();
        files(&root.join(folder), &mut paths);
        for path in paths {
            let text = std::fs::read_to_string(&path).unwrap();
            for block in blocks(&path, &text) {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                if let Some(node) = parse(&name, &block).ok().and_then(|tree| whole(tree, section)) {
                    all.push((name, node));
                }
            }
        }
    }
    all
}

/// Whether the components' settings and `service:` can be read; what they mean together is not asked.
fn loads(tree: &Node) -> bool {
    let root = Path::new("");
    let text = homeostat_config::write(tree);
    let source = homeostat_config::Source { name: "test".to_owned(), text };
    let Ok((spec, problems)) = homeostat_config::load(&[source], &[], &Keep) else { return false };
    // A part of a configuration names what stands elsewhere.
    if !problems.iter().all(|problem| problem.message.contains("is not declared")) {
        return false;
    }
    let [(_, receivers), (_, processors), (_, exporters)] = sections();
    let read = |list: &[homeostat_pipeline::registry::Registration], named: &[homeostat_config::Named]| {
        named
            .iter()
            .all(|one| list.iter().any(|kind| kind.kind == one.kind && (kind.read)(&one.node).is_ok()))
    };
    let mut problems = Vec::new();
    let files =
        homeostat_pipeline::settings::Files { base: root.into(), embedded: Default::default(), parse };
    extensions::settings(&spec, &files, &mut problems);
    let known = extensions::list();
    spec.service.telemetry.traces.problems().is_empty()
        && read(&receivers, &spec.receivers)
        && read(&processors, &spec.processors)
        && read(&exporters, &spec.exporters)
        && spec
            .extensions
            .iter()
            .all(|one| known.iter().any(|kind| kind.kind == one.kind && (kind.show)(&one.node).is_ok()))
}

/// Nothing is looked up: `write` has doubled every dollar sign.
struct Keep;

impl homeostat_config::Lookup for Keep {
    fn env(&self, _name: &str) -> Option<String> {
        None
    }
    fn file(&self, _path: &str) -> Result<String, String> {
        Err("no file".to_owned())
    }
}

/// The tree as JSON, with the texts as they are.
fn json(tree: &Node) -> Value {
    let text = write_json(tree).to_string().replace("$$", "$");
    serde_json::from_str(&text).unwrap()
}

fn validator() -> Validator {
    jsonschema::draft202012::new(&configuration()).unwrap()
}

#[test]
fn every_configuration_that_is_shipped_or_shown_is_valid() {
    let validator = validator();
    let all = shipped();
    for (name, tree) in &all {
        let value = json(tree);
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}\n{value:#}");
    }
    assert!(all.len() >= 20, "only {} configurations were found", all.len());
}

/// Every place of the tree with `change` done to it, one at a time.
fn changed(tree: &Node, change: &dyn Fn(&Node) -> Option<Yaml>) -> Vec<Node> {
    let mut all: Vec<Node> =
        change(tree).map(|value| Node { at: tree.at.clone(), value }).into_iter().collect();
    match &tree.value {
        Yaml::Map(fields) => {
            for (index, one) in fields.iter().enumerate() {
                for node in changed(&one.node, change) {
                    let mut fields = fields.clone();
                    fields[index].node = node;
                    all.push(Node { at: tree.at.clone(), value: Yaml::Map(fields) });
                }
            }
        }
        Yaml::List(nodes) => {
            for (index, one) in nodes.iter().enumerate() {
                for node in changed(one, change) {
                    let mut nodes = nodes.clone();
                    nodes[index] = node;
                    all.push(Node { at: tree.at.clone(), value: Yaml::List(nodes) });
                }
            }
        }
        Yaml::Null | Yaml::Bool(_) | Yaml::Integer(_) | Yaml::Float(_) | Yaml::Text(_) => {}
    }
    all
}

#[test]
fn the_schema_refuses_what_the_loader_refuses_and_nothing_else() {
    let validator = validator();
    let (mut refused, mut taken) = (0, 0);
    let texts = ["word", "30s", "7", "-1", "true", "${env:NAME}"];
    let mut values: Vec<Yaml> = texts.iter().map(|text| Yaml::Text((*text).to_owned())).collect();
    values.extend([
        Yaml::Null,
        Yaml::Bool(true),
        Yaml::Integer(7),
        Yaml::Integer(-1),
        Yaml::Float(7.5),
        Yaml::List(Vec::new()),
        Yaml::List(vec![node(Yaml::Map(Vec::new()))]),
        Yaml::Map(Vec::new()),
        Yaml::Map(vec![field("zz_unknown", node(Yaml::Null))]),
    ]);
    let mut disagree = Vec::new();
    for (name, tree) in shipped() {
        let mut mutants = changed(&tree, &|one| match &one.value {
            Yaml::Map(fields) => {
                let more = field("zz_unknown", node(Yaml::Text("word".to_owned())));
                Some(Yaml::Map(fields.iter().cloned().chain([more]).collect()))
            }
            _ => None,
        });
        for value in &values {
            mutants.extend(changed(&tree, &|_| Some(value.clone())));
        }
        for mutant in mutants {
            let value = json(&mutant);
            let (valid, loads) = (validator.is_valid(&value), loads(&mutant));
            if valid {
                taken += 1
            } else {
                refused += 1
            }
            // A reference is text until it is resolved, and what comes of it the loader judges.
            let is_reference = valid && value.to_string().contains("${");
            if valid != loads && !is_reference {
                disagree.push(format!("{name}: schema {valid}, loader {loads}: {value}"));
            }
        }
    }
    disagree.sort();
    disagree.dedup();
    assert!(disagree.is_empty(), "{} of them: {:#?}", disagree.len(), &disagree[..disagree.len().min(12)]);
    assert!(refused > 1000 && taken > 100, "{refused} refused, {taken} taken");
}

#[test]
fn names_are_found_as_people_write_them() {
    assert_eq!(spelt("event sea.event.deviation_detected.v1"), "event deviation_detected");
    assert_eq!(spelt("event x.y.event.coverage_gap.v1.>"), "event coverage_gap");
    assert!(is_named("event coverage_gap", "event") && !is_named("event coverage_gap", "even"));
    let documents = documents();
    let ids: std::collections::BTreeSet<String> =
        documents.iter().map(|one| one.schema["$id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), documents.len());
    assert_eq!(documents.len(), 22);
    for one in &documents {
        assert!(jsonschema::draft202012::meta::is_valid(&one.schema), "{}", one.name);
    }
}
