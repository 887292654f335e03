//! `homeostat test`: unit tests of a model, in the spirit of `promtool test rules`.
//!
//! Series of values go as real telemetry through `tag` and the fold, under a clock that only the test moves.

mod file;
mod report;
mod run;
mod series;
mod telemetry;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use regex::Regex;

use crate::cli::{self, FOUND, GOOD};
use report::Told;

/// Runs every test of the files; exit 1 when an expectation is not met.
///
/// # Errors
/// A file or its model cannot be read, or no test is left to run.
pub fn command(arguments: &cli::Test) -> anyhow::Result<u8> {
    let only =
        arguments.run.as_deref().map(Regex::new).transpose().context("`--run` is no regular expression")?;
    let mut all = Vec::new();
    for path in files(&arguments.files)? {
        let file = file::load(&path)?;
        let model = file.model(&path)?;
        for test in &file.tests {
            let name = &test.name.value;
            if only.as_ref().is_some_and(|only| !only.is_match(name)) {
                continue;
            }
            let failures = run::run(test, &model).with_context(|| format!("{}: `{name}`", path.display()))?;
            all.push(Told { file: path.display().to_string(), name: name.clone(), failures });
        }
    }
    if all.is_empty() {
        bail!("there is no test to run (look at `--run` and the files)");
    }
    report::print(&all, arguments.format);
    Ok(if all.iter().all(|told| told.failures.is_empty()) { GOOD } else { FOUND })
}

/// The files that the arguments name: files, folders (their `*_test.yml` and `*_test.yaml`), and patterns with `*` in the last
/// part, for shells that leave them alone.
fn files(arguments: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for argument in arguments {
        let name = argument.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (folder, patterns) = if argument.is_dir() {
            (argument.as_path(), vec!["*_test.yml".to_owned(), "*_test.yaml".to_owned()])
        } else if name.contains('*') && !argument.exists() {
            (argument.parent().unwrap_or(Path::new("")), vec![name])
        } else {
            files.push(argument.clone());
            continue;
        };
        let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let entries = std::fs::read_dir(here).with_context(|| format!("cannot read `{}`", here.display()))?;
        let mut found: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                patterns.iter().any(|pattern| fits(pattern, &name))
            })
            .map(|entry| folder.join(entry.file_name()))
            .collect();
        if found.is_empty() {
            bail!(
                "no file fits `{}` (tests in a folder end in `_test.yml` or `_test.yaml`)",
                argument.display()
            );
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// Whether a name fits a pattern in which `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|left| {
            (0..=left.len()).filter(|at| left.is_char_boundary(*at)).any(|at| fits(rest, &left[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, yaml: &str) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let model = homeostat_config::MODEL;
        std::fs::write(folder.path().join("model.yml"), model).expect("written");
        let path = folder.path().join(name);
        std::fs::write(&path, format!("model: model.yml\ntests:\n{yaml}")).expect("written");
        let file = file::load(&path).unwrap_or_else(|error| panic!("{error:#}"));
        let model = file.model(&path).expect("the model is right");
        let run = |test| run::run(test, &model).expect("it runs");
        let failures = file.tests.iter().flat_map(run);
        failures
            .map(|failure| {
                format!("{}: {}: {} {:?}", failure.what, failure.expected, failure.was, failure.why)
            })
            .collect()
    }

    #[test]
    fn what_is_expected_comes_true_and_what_is_not_is_told_with_its_reason() {
        let story = "  - name: login
    input: [{ req: REQ-NFR-PERF-001, measure: p95_latency_ms, values: '100x9 900x20' }]
    expect:\n";
        let right = "      - { at: 9m, req: REQ-NFR-PERF-001, none: true }
      - { at: 25m, req: REQ-NFR-PERF-001, status: open, severity: critical, value: 900 }\n";
        assert_eq!(check("a_test.yml", &format!("{story}{right}")), Vec::<String>::new());
        let wrong = "      - { at: 9m, req: REQ-NFR-PERF-001, status: open }
      - { at: 25m, req: REQ-NFR-PERF-001, none: true }
      - { at: 25m, req: REQ-F-AUTH-001, status: open }\n";
        let told = check("b_test.yml", &format!("{story}{wrong}"));
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("status open: no deviation") && told[0].contains("is false"), "{}", told[0]);
        assert!(told[1].contains("p95_latency_ms open") && told[1].contains("fires"), "{}", told[1]);
        assert!(told[2].contains("judged were REQ-NFR-PERF-001"), "{}", told[2]);
    }

    #[test]
    fn spans_logs_and_gaps_are_telemetry_like_any_other() {
        let told = check(
            "c_test.yml",
            "  - name: spans
    input: [{ req: REQ-NFR-PERF-001, signal: span, count: 30, values: '900x10' }]
    expect:
      - { at: 15m, req: REQ-NFR-PERF-001, measure: p95_latency_ms, status: open, value: 900 }
  - name: too few
    input: [{ req: REQ-NFR-PERF-001, signal: span, count: 1, values: '900x10' }]
    expect:
      - { at: 15m, req: REQ-NFR-PERF-001, status: open }
",
        );
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("unknown: 5 samples, 20 are needed"), "{}", told[0]);
    }

    /// The tests that ship and those of the documentation, against the model that ships.
    #[test]
    fn what_ships_comes_true() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("homeostasis_model.yml"), homeostat_config::MODEL)
            .expect("written");
        let page = include_str!("../../docs/replay.md");
        let block = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
        let path = folder.path().join("homeostasis_model_test.yml");
        for text in [include_str!("../../config/homeostasis_model_test.yml"), block.expect("a block")] {
            std::fs::write(&path, text).expect("written");
            let file = file::load(&path).unwrap_or_else(|error| panic!("{error:#}"));
            let model = file.model(&path).expect("the model is right");
            for test in &file.tests {
                let failures = run::run(test, &model).expect("it runs");
                assert!(failures.is_empty(), "{}: {failures:#?}", test.name.value);
            }
        }
    }

    #[test]
    fn a_pattern_fits_what_it_stands_for() {
        for (pattern, name, expected) in [
            ("*_test.yml", "a_test.yml", true),
            ("*_test.yml", "a_test.yaml", false),
            ("a*b*c", "a-b-b-c", true),
            ("a", "ab", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_the_model_does_not_know_is_a_mistake_and_not_an_expectation() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("model.yml"), homeostat_config::MODEL).expect("written");
        let path = folder.path().join("x.yml");
        for (input, expect, words) in [
            (
                "req: REQ-NFR-PERF-001, measure: p95_latency_s",
                "req: REQ-NFR-PERF-001",
                "(did you mean \"p95_latency_ms\"?)",
            ),
            (
                "req: REQ-NFR-PERF-001, measure: p95_latency_ms",
                "req: REQ-NFR-PERF-02",
                "(did you mean \"REQ-NFR-PERF-001\"?)",
            ),
        ] {
            let yaml = format!(
                "model: model.yml\ntests:\n  - {{ name: a, input: [{{ {input}, values: '1' }}], expect: [{{ at: 1m, {expect}, none: true }}] }}"
            );
            std::fs::write(&path, yaml).expect("written");
            let file = file::load(&path).expect("it loads");
            let model = file.model(&path).expect("the model is right");
            let error = run::run(&file.tests[0], &model).expect_err("a mistake").to_string();
            assert!(error.contains(words) && error.contains(":3:"), "{error}");
        }
    }

    #[test]
    fn severity_rules_decide_what_a_measure_without_rules_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write("model.yml", "REQ-A-001:\n  thresholds: { p95_latency_ms: { critical: 500, warning: 400 } }\n");
        let rules = "severity_rules: { critical: { conditions: [\"value >= threshold.critical\"], actions: [log_only] } }";
        write("rules.yml", rules);
        let story = "tests:\n  - { name: a, interval: 10s, input: [{ req: REQ-A-001, signal: span, values: '900x180' }],\n      \
                     expect: [{ at: 20m, req: REQ-A-001, status: open, severity: critical }] }";
        let actions = |with: &str| {
            let path = folder.path().join("a_test.yml");
            std::fs::write(&path, format!("model: model.yml\n{with}{story}")).expect("written");
            let file = file::load(&path).unwrap_or_else(|error| panic!("{error:#}"));
            let model = file.model(&path).unwrap_or_else(|error| panic!("{error:#}"));
            let rules = &model.model.requirements["REQ-A-001"].rules;
            let actions =
                rules.iter().find(|rule| rule.severity.name() == "critical").map(|rule| rule.actions.clone());
            (run::run(&file.tests[0], &model).expect("it runs").len(), actions.unwrap_or_default())
        };
        assert_eq!(actions("severity_rules: rules.yml\n"), (0, vec!["log_only".to_owned()]));
        assert!(!actions("").1.contains(&"log_only".to_owned()));
    }

    #[test]
    fn mistakes_have_their_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.yml");
        for (yaml, words) in [
            (
                "model: m\ntests:\n  - { name: a, input: [{ req: R, measure: m, values: '1xx' }], expect: [] }",
                ":3:",
            ),
            (
                "model: m\ntests:\n  - { name: a, input: [], expect: [{ at: 1m, req: R }] }",
                "nothing is expected",
            ),
            ("model: m\ntests:\n  - { name: a, inptu: [], expect: [] }", "did you mean \"input\"?"),
            ("model: m\ntests:\n  - { name: a, input: [{ values: '1' }], expect: [] }", "needs a `measure`"),
        ] {
            std::fs::write(&path, yaml).expect("written");
            let error = file::load(&path).expect_err("a mistake").to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
