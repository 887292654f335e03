//! What `docs/model.md` shows, held to the code.

use super::super::place::ASKED;
use super::*;

fn models() -> Vec<&'static str> {
    let page = include_str!("../../../../../docs/model.md");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.contains("homeostasis_model:\n")).collect()
}

#[test]
fn every_key_of_the_schema_has_an_example_on_the_page() {
    ASKED.take();
    for model in [EXTENDED, super::keys::FLOWS].into_iter().chain(models()) {
        read(model).unwrap_or_else(|problems| panic!("{problems:#?}"));
    }
    let kinds: Vec<String> = ASKED.take().into_keys().collect();
    for model in models() {
        read(model).unwrap_or_else(|problems| panic!("{problems:#?}"));
    }
    let had = ASKED.take();
    for kind in kinds {
        let shown = had.get(&kind).cloned().unwrap_or_default();
        let missing: Vec<&str> = kind.split(' ').filter(|key| !shown.contains(*key)).collect();
        assert_eq!(missing, Vec::<&str>::new(), "no example in docs/model.md, of the keys {kind}");
    }
}

#[test]
fn the_models_of_the_documentation_load_without_a_warning() {
    let models = models();
    assert_eq!(models.len(), 7);
    for model in models {
        let mut found = warnings(model);
        // Said of every model with flows.
        found.retain(|warning| !warning.contains("nothing judges by it yet"));
        assert_eq!(found, Vec::<String>::new());
    }
}

#[test]
fn the_conditions_of_the_documentation_compile() {
    let page = include_str!("../../../../../docs/model.md");
    let table = page.split("| condition | fires |").nth(1).unwrap_or_default();
    let rows: Vec<&str> = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with("| `"))
        .filter_map(|line| line.split('`').nth(1))
        .collect();
    assert_eq!(rows.len(), 7);
    let body = "thresholds: { p95_latency_ms: { warning: 400, critical: 500, lower: 10, upper: 600 } }\n\
                baseline: { p95_latency_ms: { median: 235, mean: 240, stddev: 30 } }\ndeviation_rules:\n";
    for condition in rows {
        let rule = format!("- {{ condition: \"{condition}\", severity: low }}");
        assert_eq!(warnings(&one(&format!("{body}{rule}"))), Vec::<String>::new(), "{condition}");
    }
}
