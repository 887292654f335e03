//! What people write: times, selectors, conditions, models, configurations.

use std::sync::LazyLock;

use homeostat_config::{Lookup, Source};
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::selector::Selector;
use homeostat_pipeline::settings::parse_period;
use homeostat_processors::homeostasis::condition::{Facts, Parsed, Subjects};
use homeostat_processors::homeostasis::model::{Expectation, Model};
use homeostat_processors::homeostasis::units::Unit;
use homeostat_receivers::otlp::read_grpc_timeout;

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Durations, instants, gRPC's timeouts, units.
pub fn times(data: &[u8]) {
    let _ = read_grpc_timeout(data);
    let Some(text) = text(data) else { return };
    let _ = (parse_period(text), Unit::parse(text));
    if let Ok(at) = Timestamp::parse(text) {
        assert_eq!(Timestamp::parse(&at.to_string()), Ok(at), "{text}");
    }
}

/// A selector that is read is read again from its own source, and says the same literals.
pub fn selector(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(selector) = Selector::parse(text) {
        let again = Selector::parse(selector.source()).expect("a selector's own source is read");
        assert_eq!(again.literals(), selector.literals(), "{text}");
    }
}

static SHIPPED: LazyLock<Model> = LazyLock::new(|| {
    let node =
        homeostat_config::parse("model.yml", homeostat_config::MODEL).expect("the shipped model is YAML");
    Model::read(&node, "hash").expect("the shipped model loads").0
});

fn expectations() -> impl Iterator<Item = &'static Expectation> {
    SHIPPED.requirements.values().flat_map(|requirement| requirement.expectations.values()).take(3)
}

/// A condition that compiles is judged the same by columns and by subject, and needs no more than its grammar allows.
pub fn condition(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(parsed) = Parsed::new(text) else { return };
    let _ = parsed.direction();
    for expected in expectations() {
        let mut lookbacks = Vec::new();
        let Ok((condition, _)) = parsed.compile(expected, &mut lookbacks) else { continue };
        let before: Vec<Option<f64>> = (0..lookbacks.len()).map(|at| (at != 1).then_some(250.0)).collect();
        let values = [None, Some(0.0), Some(-0.0), Some(499.5), Some(500.0), Some(1e300), Some(-1.0)];
        let facts: Vec<Facts<'_>> =
            values.map(|value| Facts { value, count: 7, expected, lookbacks: &before }).into();
        let judged = Subjects::new(&facts).judge(&condition, 0..facts.len());
        let one_by_one: Vec<Option<bool>> = facts.iter().map(|facts| condition.holds(facts)).collect();
        assert_eq!(judged, one_by_one, "{text}");
    }
}

/// A model: its mistakes are values with a place.
pub fn model(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(node) = homeostat_config::parse("model.yml", text) else { return };
    match Model::read(&node, &Model::hash_of(text)) {
        Ok((model, _)) => drop((model.interest(), model.summary())),
        Err(problems) => assert!(!problems.is_empty(), "refused without a word: {text}"),
    }
}

/// Nothing is there but `HOME`, and no file.
struct Nothing;

impl Lookup for Nothing {
    fn env(&self, name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root: [x, \"${env:HOME}\"]".to_owned())
    }

    fn file(&self, path: &str) -> Result<String, String> {
        Err(format!("there is no {path}"))
    }
}

/// A configuration, and an assignment behind its first line.
pub fn configuration(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let source = |text: &str| Source { name: "a.yaml".to_owned(), text: text.to_owned() };
    let _ = homeostat_config::load(&[source(text)], &[], &Nothing);
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let _ = homeostat_config::load(&[source(rest), source(rest)], &[first.to_owned()], &Nothing);
}
