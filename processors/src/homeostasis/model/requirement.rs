//! One requirement: its thresholds and baselines become expectations, in one unit and one direction for each measure.

use std::collections::BTreeMap;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{Level, RequirementSource};
use homeostat_pipeline::settings::{Field, Node, Position, Problem, Value};

use super::definitions::{self, Definitions};
use super::direction::{self, Hints};
use super::place::{Block, Reader};
use super::read::Severities;
use super::rules::{self, Draft};
use super::{
    Baseline, Class, Defaults, Direction, Expectation, LEVELS, Measure, Requirement, SeverityTable,
    Statistic, Thresholds, fed, foreign, telemetry,
};
use crate::homeostasis::units::Unit;

const KNOWN: [&str; 11] = [
    "title",
    "type",
    "spec_node",
    "traces_to",
    "effective_from",
    "measures",
    "thresholds",
    "baseline",
    "deviation_rules",
    "telemetry",
    "judge_by_thresholds",
];
const LATER: [&str; 1] = ["objective"];

/// What the model states of one measure, before units and direction are settled.
#[derive(Debug)]
pub(super) struct Stated {
    pub(super) at: Position,
    levels: BTreeMap<Level, (f64, Position)>,
    unit: Option<(Unit, Position)>,
    direction: Option<(Direction, Position)>,
    source: Option<RequirementSource>,
    baseline: Option<Baseline>,
    /// Whether it is judged by its thresholds where no rule is about it; none where nothing is stated.
    judge_by_thresholds: Option<bool>,
    /// Whether thresholds or a baseline name it, so that it is one of the requirement's own.
    pub(super) is_own: bool,
}

/// The measures of one requirement by name.
pub(super) type Measures = BTreeMap<String, Stated>;

fn stated<'a>(measures: &'a mut Measures, name: &str, at: &Position) -> &'a mut Stated {
    measures.entry(name.to_owned()).or_insert_with(|| Stated {
        at: at.clone(),
        levels: BTreeMap::new(),
        unit: None,
        direction: None,
        source: None,
        baseline: None,
        judge_by_thresholds: None,
        is_own: false,
    })
}

/// What the model says of all requirements.
pub(super) struct Outer<'a> {
    pub(super) defaults: &'a Defaults,
    pub(super) severities: &'a Severities,
    pub(super) measures: &'a Definitions,
    pub(super) table: &'a SeverityTable,
}

/// Reads what stands under one requirement key.
pub(super) fn read(field: &Field, outer: &Outer<'_>, reader: &mut Reader) -> Requirement {
    let key = canonical(&field.key);
    let block = reader.block(&field.node, &key, &KNOWN, &LATER);
    let definitions = definitions::read(block, outer.measures, reader);
    let mut measures = Measures::new();
    thresholds(block, &mut measures, reader);
    baselines(block, &mut measures, reader);
    let mut drafts = rules::drafts(block, &measures, outer.severities, reader);
    for draft in &drafts {
        stated(&mut measures, &draft.measure, &draft.at);
    }
    let selections = telemetry::selections(block, &key, &measures, reader);
    for (at, selection) in &selections {
        stated(&mut measures, &selection.measure, at);
    }
    let foreign = match block.get("telemetry") {
        Some(node) => {
            let block = reader.block(node, "`telemetry`", &["otlp", "datadog", "prometheus"], &[]);
            foreign::read(block, &measures, reader)
        }
        None => Vec::new(),
    };
    let expectations: BTreeMap<String, Expectation> = measures
        .iter()
        .filter_map(|(name, stated)| {
            let measure = Measure::parse(name);
            let measure = match definitions.get(name) {
                Some(definition) => definition.apply(measure, reader)?,
                None => measure,
            };
            Some((name.clone(), expectation(measure, stated, &drafts, reader)?))
        })
        .collect();
    let by_thresholds =
        reader.take(block, "judge_by_thresholds").unwrap_or(outer.defaults.judge_by_thresholds);
    let unruled = expectations.values().filter(|expected| {
        measures
            .get(&expected.measure.name)
            .is_some_and(|stated| stated.judge_by_thresholds.unwrap_or(by_thresholds))
    });
    let implicit = rules::implicit(unruled, &drafts, &measures, outer.table, reader);
    drafts.extend(implicit);
    let (rules, lookbacks) = rules::compile(drafts, &expectations, outer, reader);
    let defined = expectations.keys().filter_map(|name| Some((name, definitions.get(name)?)));
    let defined: Vec<_> = defined.flat_map(|(name, definition)| definition.selections(&key, name)).collect();
    let selections: Vec<_> = selections.into_iter().map(|(_, selection)| selection).chain(defined).collect();
    fed::check(&measures, &expectations, &selections, reader);
    Requirement {
        title: reader.word(block, "title"),
        requirement_type: reader.take(block, "type"),
        spec_node: spec_node(block, reader),
        traces_to: traces_to(block, reader),
        effective_from: effective_from(block, reader),
        selections,
        foreign,
        key,
        expectations,
        rules,
        lookbacks,
        at: field.at.clone(),
    }
}

/// Hyphens, and no version: `REQ_NFR_PERF_001.1.2.0` is `REQ-NFR-PERF-001`.
pub(super) fn canonical(key: &str) -> String {
    let key = if key.starts_with("REQ_") { key.replace('_', "-") } else { key.to_owned() };
    let mut parts = key.split('.');
    let head = parts.next().unwrap_or_default();
    let version: Vec<&str> = parts.collect();
    let is_version = version.len() == 3
        && version.iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()));
    if is_version && key.starts_with("REQ-") { head.to_owned() } else { key }
}

fn spec_node(block: Block<'_>, reader: &mut Reader) -> Option<String> {
    let node = block.get("spec_node")?;
    let text: String = reader.read(node)?;
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() != 3 || parts[0] != "sea" || parts[1].is_empty() || parts[2].is_empty() {
        let message =
            format!("`{text}` is no spec node (write `sea:context:flow`, such as `sea:auth:Login`)");
        reader.error(&node.at, message);
        return None;
    }
    Some(text)
}

fn traces_to(block: Block<'_>, reader: &mut Reader) -> BTreeMap<String, Vec<String>> {
    let Some(node) = block.get("traces_to") else { return BTreeMap::new() };
    let chain = ["adr", "prd", "sds"];
    let block = reader.block(node, "`traces_to`", &chain, &[]);
    chain
        .into_iter()
        .filter_map(|kind| {
            let ids = reader.words(block, kind)?.into_iter().map(|(_, id)| id).collect();
            Some((kind.to_owned(), ids))
        })
        .collect()
}

fn effective_from(block: Block<'_>, reader: &mut Reader) -> Option<Timestamp> {
    let node = block.get("effective_from")?;
    let text: String = reader.read(node)?;
    Timestamp::parse(&text)
        .map_err(|_| {
            let message = format!("`{text}` is no instant (write for example `2025-12-04T00:00:00Z`)");
            reader.error(&node.at, message);
        })
        .ok()
}

fn thresholds(block: Block<'_>, measures: &mut Measures, reader: &mut Reader) {
    let Some(node) = block.get("thresholds") else { return };
    let known = [
        "target",
        "warning",
        "critical",
        "lower",
        "upper",
        "unit",
        "direction",
        "source",
        "judge_by_thresholds",
    ];
    for field in reader.any_block(node, "`thresholds`").fields {
        let block = reader.block(&field.node, &format!("the thresholds of {}", field.key), &known, &[]);
        let stated = stated(measures, &field.key, &field.at);
        stated.is_own = true;
        for (word, level) in LEVELS {
            if let Some(node) = block.get(word)
                && let Some(number) = reader.number(node)
            {
                stated.levels.insert(level, (number, node.at.clone()));
            }
        }
        stated.unit = unit(block, reader);
        stated.direction =
            block.get("direction").and_then(|node| Some((reader.read(node)?, node.at.clone())));
        stated.source = source(block, reader);
        stated.judge_by_thresholds = reader.take(block, "judge_by_thresholds");
        if stated.levels.is_empty()
            && !block.fields.iter().any(|field| LEVELS.iter().any(|(word, _)| *word == field.key))
        {
            let message = format!("{} has no level (state for example `critical`)", field.key);
            reader.error(&field.at, message);
        }
    }
}

fn unit(block: Block<'_>, reader: &mut Reader) -> Option<(Unit, Position)> {
    let node = block.get("unit")?;
    let text: String = reader.read(node)?;
    match Unit::parse(&text) {
        Ok(unit) => Some((unit, node.at.clone())),
        Err(message) => {
            reader.error(&node.at, message);
            None
        }
    }
}

fn source(block: Block<'_>, reader: &mut Reader) -> Option<RequirementSource> {
    let node = block.get("source")?;
    let block = reader.block(node, "`source`", &["doc", "line", "text"], &[]);
    let Some(doc) = reader.take(block, "doc") else {
        if block.get("doc").is_none() {
            reader.error(&node.at, "`source` names no document (add `doc`)");
        }
        return None;
    };
    Some(RequirementSource { doc, line: reader.take(block, "line"), text: reader.take(block, "text") })
}

fn baselines(block: Block<'_>, measures: &mut Measures, reader: &mut Reader) {
    let Some(node) = block.get("baseline") else { return };
    for field in reader.any_block(node, "`baseline`").fields {
        match field.key.as_str() {
            // What the numbers rest on: for people.
            "sample_period" | "last_updated" => continue,
            "learn" => {
                reader.warning(&field.at, "`learn` of `baseline` is not used yet: baselines stay as stated");
                continue;
            }
            _ => {}
        }
        let baseline = match &field.node.value {
            Value::Map(_) => statistics(field, reader),
            Value::Integer(_) | Value::Float(_) => reader
                .number(&field.node)
                .map(|number| Baseline { center: Some(number), ..Baseline::default() }),
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) => {
                let message =
                    format!("the baseline of {} is a number, or a mapping of statistics", field.key);
                reader.error(&field.node.at, message);
                None
            }
        };
        let stated = stated(measures, &field.key, &field.at);
        stated.is_own = true;
        stated.baseline = baseline;
    }
}

fn statistics(field: &Field, reader: &mut Reader) -> Option<Baseline> {
    let known = [
        "mean",
        "median",
        "mad",
        "p50",
        "p95",
        "p99",
        "stddev",
        "min",
        "max",
        "sample_size",
        "sample_period_days",
        "last_updated",
        "seasonality",
    ];
    let what = format!("the baseline of {}", field.key);
    let block = reader.block(&field.node, &what, &known, &[]);
    let seasonality = reader.take(block, "seasonality").unwrap_or_default();
    let mut number = |key: &str| block.get(key).and_then(|node| reader.number(node));
    let mut baseline = Baseline {
        center: None,
        p50: number("p50"),
        p95: number("p95"),
        p99: number("p99"),
        mean: number("mean"),
        median: number("median"),
        mad: number("mad"),
        stddev: number("stddev"),
        seasonality,
    };
    for (key, spread) in [("mad", baseline.mad), ("stddev", baseline.stddev)] {
        if spread.is_some_and(|spread| spread < 0.0) {
            reader.error(&field.node.at, format!("`{key}` of {what} is below zero"));
        }
    }
    let own = match Measure::parse(&field.key).statistic {
        Statistic::Quantile(0.5) => baseline.p50,
        Statistic::Quantile(0.95) => baseline.p95,
        Statistic::Quantile(0.99) => baseline.p99,
        Statistic::Mean => baseline.mean,
        Statistic::Quantile(_)
        | Statistic::Min
        | Statistic::Max
        | Statistic::Sum
        | Statistic::ErrorRate
        | Statistic::SuccessRate
        | Statistic::Rate
        | Statistic::Count
        | Statistic::ErrorCount
        | Statistic::Uptime
        | Statistic::Downtime
        | Statistic::Ratio => None,
    };
    baseline.center = own.or(baseline.median).or(baseline.mean);
    Some(baseline)
}

fn expectation(
    measure: Measure,
    stated: &Stated,
    drafts: &[Draft],
    reader: &mut Reader,
) -> Option<Expectation> {
    let hints: Vec<&Draft> = drafts.iter().filter(|draft| draft.measure == measure.name).collect();
    if measure.is_monthly && !measure.statistic.is_counted() && measure.statistic != Statistic::Sum {
        let message = format!(
            "{} has a calendar month as its window, over which only counts, shares, sums, uptime and downtime are measured",
            measure.name
        );
        reader.error(&stated.at, message);
        return None;
    }
    let (unit, written) = settle_unit(&measure, stated, !hints.is_empty(), reader)?;
    let convert = |number: f64| written.convert(number, unit).filter(|number| number.is_finite());
    let level = |level: Level| stated.levels.get(&level).and_then(|(number, _)| convert(*number));
    let thresholds = Thresholds {
        target: level(Level::Target),
        warning: level(Level::Warning),
        critical: level(Level::Critical),
        lower: level(Level::Lower),
        upper: level(Level::Upper),
    };
    let place =
        |level: Level| stated.levels.get(&level).map_or_else(|| stated.at.clone(), |(_, at)| at.clone());
    direction::check_order(&measure, &thresholds, place, reader);
    let rules: Vec<Direction> = hints.iter().filter_map(|draft| draft.condition.direction()).collect();
    let direction = direction::resolve(
        &Hints {
            measure: &measure,
            stated: stated.direction.clone(),
            thresholds: &thresholds,
            rules: &rules,
            is_judged: !stated.levels.is_empty() || !hints.is_empty(),
            at: &stated.at,
        },
        reader,
    );
    let baseline = stated.baseline.map(|baseline| {
        let number = |number: Option<f64>| number.and_then(convert);
        Baseline {
            center: number(baseline.center),
            p50: number(baseline.p50),
            p95: number(baseline.p95),
            p99: number(baseline.p99),
            mean: number(baseline.mean),
            median: number(baseline.median),
            mad: number(baseline.mad),
            stddev: number(baseline.stddev),
            seasonality: baseline.seasonality,
        }
    });
    let source = stated.source.clone();
    Some(Expectation { measure, unit, direction, thresholds, baseline, source })
}

/// The unit of the measure, and the unit in which the model's numbers are written.
fn settle_unit(
    measure: &Measure,
    stated: &Stated,
    is_judged: bool,
    reader: &mut Reader,
) -> Option<(Unit, Unit)> {
    let name = &measure.name;
    let implied = measure.unit.or(measure.statistic.unit());
    match (&stated.unit, implied) {
        (Some((written, at)), Some(own)) if written.dimension() != own.dimension() => {
            let message = format!(
                "`{written}` is {}, but {name} is {}",
                written.dimension().describe(),
                own.dimension().describe(),
            );
            reader.error(at, message);
            None
        }
        (Some((written, at)), Some(_)) => {
            let own = measure.unit.unwrap_or(*written);
            if own != *written {
                let message =
                    format!("the thresholds of {name} are in `{written}` and are converted to `{own}`");
                reader.problems.push(Problem::warning(at, message));
            }
            Some((own, *written))
        }
        (Some((written, _)), None) => Some((*written, *written)),
        (None, Some(own)) => Some((own, own)),
        (None, None) => {
            let needs_unit = matches!(measure.class, Class::Latency | Class::Availability);
            if needs_unit && (is_judged || !stated.levels.is_empty()) {
                let message = format!(
                    "{name} has no unit (state `unit` under `thresholds`, or say it in the name: `{name}_ms`, \
                     `{name}_percentage`)"
                );
                reader.error(&stated.at, message);
                return None;
            }
            Some((Unit::COUNT, Unit::COUNT))
        }
    }
}

/// The measures that thresholds or a baseline name.
pub(super) fn names_of_own(measures: &Measures) -> Vec<&str> {
    measures.iter().filter(|(_, stated)| stated.is_own).map(|(name, _)| name.as_str()).collect()
}

/// The nodes of a list, or a problem.
pub(super) fn list<'a>(node: &'a Node, what: &str, reader: &mut Reader) -> &'a [Node] {
    match &node.value {
        Value::List(nodes) => nodes,
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::Map(_) => {
            reader.error(&node.at, format!("{what} is a list (write `- …` before each)"));
            &[]
        }
    }
}
