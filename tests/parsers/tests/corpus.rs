//! The fuzz targets without a fuzzer: every input of the corpus, and a fixed number of mutations of them with a fixed seed. What
//! libFuzzer finds becomes an input of the corpus, and is tried here for ever after.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use homeostat_parsers::{TARGETS, Target};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Larger than what any of the targets limits itself to.
const BYTES_MAX: usize = 8 * 1024;

/// How many mutations of a target are tried: those that write files are slow.
fn tries(target: &str) -> usize {
    match target {
        "segment" => 300,
        "model" | "configuration" | "condition" => 1_000,
        _ => 8_000,
    }
}

type Corpus = BTreeMap<String, Vec<u8>>;

fn corpus(target: &str) -> Corpus {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let inputs = entries.map(|entry| {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        (name, std::fs::read(&path).expect("the input can be read"))
    });
    inputs.collect()
}

/// Bytes that parsers look for, and numbers at their edges.
const WORDS: [&[u8]; 16] = [
    b"\x00",
    b"\xff",
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x7f",
    b"\n",
    b"{",
    b"[",
    b"\"",
    b"(",
    b"${",
    b": ",
    b"9223372036854775808",
    b"1e999",
    b"\xc3\x28",
];

fn mutate(random: &mut SmallRng, bytes: &mut Vec<u8>, others: &[&Vec<u8>]) {
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=bytes.len());
        let length = random.random_range(0..=(bytes.len() - at).min(32));
        match random.random_range(0..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = random.random_range(0..=255_u8),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..at + length)),
            4 => {
                let piece = bytes[at..at + length].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let word = WORDS[random.random_range(0..WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            6 => {
                let other = others[random.random_range(0..others.len())];
                let from = random.random_range(0..=other.len());
                let upto = (from + 64).min(other.len());
                bytes.splice(at..at, other[from..upto].iter().copied());
            }
            _ => {
                let word = WORDS[random.random_range(0..WORDS.len())];
                let upto = (at + word.len()).min(bytes.len());
                bytes.splice(at..upto, word.iter().copied());
            }
        }
    }
    bytes.truncate(BYTES_MAX);
}

/// What went wrong, if anything did.
fn try_one(target: Target, what: &str, bytes: &[u8]) -> Option<String> {
    let broken = catch_unwind(AssertUnwindSafe(|| target.1(bytes))).is_err();
    broken.then(|| format!("{} broke its promise on {what}: b\"{}\"", target.0, bytes.escape_ascii()))
}

/// The first thing that goes wrong with a target, on `times` its usual number of mutations.
fn first_broken(target: Target, times: usize) -> Option<String> {
    let corpus = corpus(target.0);
    assert!(!corpus.is_empty(), "{} has no corpus", target.0);
    for (name, bytes) in &corpus {
        assert!(bytes.len() <= BYTES_MAX, "{}/{name} is larger than {BYTES_MAX} bytes", target.0);
        if let Some(broken) = try_one(target, name, bytes) {
            return Some(broken);
        }
    }
    let inputs: Vec<&Vec<u8>> = corpus.values().collect();
    let mut random = SmallRng::seed_from_u64(20_251_203);
    (0..tries(target.0) * times).find_map(|number| {
        let mut bytes = inputs[number % inputs.len()].clone();
        mutate(&mut random, &mut bytes, &inputs);
        try_one(target, &format!("mutation {number}"), &bytes)
    })
}

#[test]
fn every_parser_keeps_its_promises_on_its_corpus_and_its_mutations() {
    // For who looks further without a fuzzer.
    let times = std::env::var("HOMEOSTAT_MUTATIONS").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    let broken: Vec<String> = TARGETS.iter().filter_map(|target| first_broken(*target, times)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_target_has_its_fuzzer_and_its_corpus() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("fuzz has a manifest");
    for (name, _) in TARGETS {
        let source =
            std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap_or_default();
        assert!(source.contains(&format!("run(\"{name}\", data)")), "fuzz_targets/{name}.rs does not run it");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml does not build {name}");
    }
    let folders = std::fs::read_dir(fuzz.join("corpus")).expect("there is a corpus");
    for folder in folders {
        let name = folder.expect("the folder can be read").file_name().to_string_lossy().into_owned();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "corpus/{name} belongs to no target");
    }
}
