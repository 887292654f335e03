//! The rules of the tree: doors, directions, file length, YAML in documentation, metric names, words that must not be committed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use homeostat_config::parse;
use homeostat_pipeline::registry::Registration;
use homeostat_pipeline::settings::{Problem, Value};

const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a folder of the workspace")
        .to_path_buf()
}

/// Every committed file below `folder` whose name ends in one of `endings`, as (path from the root, content).
fn files(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", ".git", "__pycache__", "homeostat-data", "node_modules"]
                    .contains(&name.as_str())
                {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending))
                && let Ok(text) = fs::read_to_string(&path)
            {
                let path = path.strip_prefix(&root).expect("it is below the root").display().to_string();
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

fn rust() -> Vec<(String, String)> {
    files("", &[".rs"])
}

/// A crate of ours → the crates of ours that it may depend on, for what ships.
const DIRECTIONS: [(&str, &[&str]); 6] = [
    ("pipeline", &[]),
    ("config", &["pipeline"]),
    ("receivers", &["pipeline"]),
    ("processors", &["pipeline"]),
    ("exporters", &["pipeline"]),
    ("bench", &[]),
];

#[test]
fn dependencies_of_our_crates_point_one_way() {
    for (folder, allowed) in DIRECTIONS {
        let manifest =
            fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("every crate has a manifest");
        let shipped = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for line in shipped.lines().filter(|line| line.starts_with("homeostat-")) {
            let named =
                line.trim_start_matches("homeostat-").split(['.', ' ', '=']).next().unwrap_or_default();
            assert!(
                allowed.contains(&named),
                "{folder}/Cargo.toml depends on homeostat-{named}, which it must not know"
            );
        }
    }
}

/// A heavy dependency as source names it → the only folders of what ships that may name it.
const DOORS: [(&str, &[&str]); 12] = [
    ("tonic", &["receivers/src/otlp", "exporters/src/otlp"]),
    ("datafusion_common", &["processors/src/homeostasis"]),
    ("datafusion_expr", &["processors/src/homeostasis"]),
    ("datafusion_physical_expr", &["processors/src/homeostasis"]),
    (
        "arrow",
        &[
            "pipeline/src/evidence",
            "pipeline/src/entry.rs",
            "pipeline/src/journal",
            "processors/src/homeostasis",
        ],
    ),
    ("async_nats", &["exporters/src/nats"]),
    ("tokio_postgres", &["exporters/src/postgres"]),
    ("refinery", &["exporters/src/postgres"]),
    ("oxigraph", &["exporters/src/kg"]),
    ("redb", &["pipeline/src/checkpoint"]),
    ("saphyr_parser", &["config/src"]),
    ("prost", &["receivers/src/otlp", "exporters/src/otlp", "src/demo", "src/tracer"]),
];

#[test]
fn heavy_dependencies_have_one_door() {
    for folder in ["src", "pipeline/src", "receivers/src", "processors/src", "exporters/src", "config/src"] {
        for (path, text) in files(folder, &[".rs"]) {
            let is_test = path.contains("test") || path.contains("oracle");
            for (name, doors) in DOORS {
                let uses =
                    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().lines().any(|line| {
                        !line.trim_start().starts_with("//")
                            && (line.contains(&format!("use {name}::"))
                                || line.contains(&format!("{name}::")))
                            && !line.contains(&format!("_{name}::"))
                            && !line.contains(&format!("opentelemetry_proto::{name}::"))
                    });
                let may = doors.iter().any(|door| path.starts_with(door));
                assert!(!uses || may || is_test, "{path} uses {name}, whose door is {doors:?}");
            }
        }
    }
}

#[test]
fn no_file_is_longer_than_a_newcomer_can_hold() {
    let long: Vec<String> = rust()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert!(
        long.is_empty(),
        "past {LINES_MAX} lines a file has parts and becomes a folder:\n{}",
        long.join("\n")
    );
}

#[test]
fn every_file_says_in_a_sentence_what_it_is() {
    for (path, text) in rust() {
        assert!(text.starts_with("//! "), "{path} begins without a sentence (`//! …`)");
    }
}

#[test]
fn the_metrics_page_and_the_source_name_the_same_metrics() {
    let page = fs::read_to_string(root().join("docs/metrics.md")).expect("docs/metrics.md is there");
    let listed: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('`').next())
        .map(ToOwned::to_owned)
        .collect();
    let mut named = BTreeMap::new();
    for folder in ["src", "pipeline/src", "receivers/src", "processors/src", "exporters/src"] {
        for (path, text) in files(folder, &[".rs"]) {
            let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for word in shipped.split('"').filter(|word| {
                word.starts_with("otelcol_") || word.starts_with("homeostat_") || *word == "target_info"
            }) {
                if word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                    && !word.ends_with('_')
                {
                    named.insert(word.to_owned(), path.clone());
                }
            }
        }
    }
    for (name, path) in &named {
        let is_crate = ["config", "pipeline", "receivers", "processors", "exporters"]
            .iter()
            .any(|own| name == &format!("homeostat_{own}"));
        assert!(
            is_crate || listed.contains(name),
            "{path} emits {name}, which docs/metrics.md does not explain"
        );
    }
    for name in &listed {
        assert!(named.contains_key(name), "docs/metrics.md explains {name}, which nothing emits");
    }
}

/// Loads one block: component ids and their settings, alone or under their section.
fn check_block(path: &str, block: &str, lists: &[Registration]) -> Result<(), Problem> {
    let node = parse(path, block)?;
    let section = ["receivers", "processors", "exporters"].iter().find_map(|section| node.get(section));
    let Value::Map(fields) = &section.unwrap_or(&node).value else { return Ok(()) };
    for field in fields {
        let kind = field.key.split('/').next().unwrap_or_default();
        match lists.iter().find(|registration| registration.kind == kind) {
            Some(registration) => drop((registration.read)(&field.node)?),
            None => return Err(Problem::error(&field.at, format!("`{kind}` is no component"))),
        }
    }
    Ok(())
}

#[test]
fn yaml_in_the_documentation_of_components_loads() {
    let mut checked = 0;
    for (folder, list) in [
        ("receivers/src", homeostat_receivers::list as fn() -> Vec<Registration>),
        ("processors/src", homeostat_processors::list),
        ("exporters/src", homeostat_exporters::list),
    ] {
        for (path, text) in files(folder, &[".rs"]) {
            let documentation: String = text
                .lines()
                .filter_map(|line| line.strip_prefix("//!"))
                .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
                .collect();
            for block in documentation.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next())
            {
                if let Err(problem) = check_block(&path, block, &list()) {
                    panic!("the YAML at the top of {path} does not load: {problem}");
                }
                checked += 1;
            }
        }
    }
    assert!(checked >= 6, "only {checked} components show their YAML");
}

#[test]
fn nothing_of_this_machine_is_committed() {
    // Written in pieces, so that this file does not hold them.
    let words = [
        ["/work", "/main"].concat(),
        ["farm", "-studio"].concat(),
        [".lib", "rary/"].concat(),
        ["index.", "crates.io"].concat(),
        ["files.", "pythonhosted"].concat(),
        ["registry.", "npmjs"].concat(),
    ];
    for (path, text) in files("", &[".rs", ".md", ".toml", ".yaml", ".yml", ".py", ".sql", "run", ".rq"]) {
        for word in &words {
            assert!(!text.contains(word), "{path} holds `{word}`");
        }
    }
}
