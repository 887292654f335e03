//! Every file of `tests/scenarios/` is a test: what it claims comes true, and comes out the same from any checkpoint.

use std::path::{Path, PathBuf};

use homeostat_tests::scenario::{Bench, compare, load};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// Places in a journal of `length` entries: both ends, and some between.
fn splits(length: usize) -> Vec<usize> {
    (0..=8).map(|eighth| eighth * length.saturating_sub(1) / 8).collect()
}

async fn check(path: &Path) -> anyhow::Result<String> {
    let scenario = load(path)?;
    let bench = Bench::open(scenario.model()).await?;
    let journal = bench.journal(&scenario)?;
    let findings = bench.fold(&journal, None).await?;
    let mut report = compare(&scenario, &findings);
    let whole = serde_json::to_string(&findings)?;
    for split in splits(journal.len()) {
        if serde_json::to_string(&bench.fold(&journal, Some(split)).await?)? != whole {
            report.push_str(&format!("a checkpoint after {split} entries changes the findings\n"));
        }
    }
    Ok(report)
}

#[tokio::test]
async fn every_scenario_comes_out_as_it_claims_from_any_checkpoint() {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("there are scenarios")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    assert!(paths.len() >= 12, "the scenarios are gone: {paths:?}");
    let only = std::env::var("SCENARIO").unwrap_or_default();
    let mut failed = String::new();
    for path in paths.iter().filter(|path| path.to_string_lossy().contains(&only)) {
        match check(path).await {
            Ok(report) if report.is_empty() => {}
            Ok(report) => failed.push_str(&format!("\n{}\n{report}", path.display())),
            Err(error) => failed.push_str(&format!("\n{}\n{error:#}\n", path.display())),
        }
    }
    assert!(failed.is_empty(), "{failed}");
}
