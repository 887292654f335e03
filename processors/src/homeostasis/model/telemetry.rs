//! `telemetry.otlp`: telemetry that carries no key but belongs to the requirement.

use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::interest::Selection;
use homeostat_pipeline::selector::Selector;
use homeostat_pipeline::settings::{Node, Position};
use serde::Deserialize;

use super::measure::Measure;
use super::place::{Block, Reader};
use super::requirement::{Measures, list, names_of_own};

/// What a selector selects.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    #[serde(alias = "traces")]
    Span,
    #[serde(alias = "logs")]
    Log,
    #[serde(alias = "metrics")]
    Metric,
}

/// The selectors of one requirement, each with its place.
pub(super) fn selections(
    block: Block<'_>,
    req: &str,
    measures: &Measures,
    reader: &mut Reader,
) -> Vec<(Position, Selection)> {
    let Some(node) = block.get("telemetry") else { return Vec::new() };
    let block = reader.any_block(node, "`telemetry`");
    let Some(node) = block.get("otlp") else { return Vec::new() };
    list(node, "`otlp`", reader)
        .iter()
        .filter_map(|node| Some((node.at.clone(), selection(node, req, measures, reader)?)))
        .collect()
}

fn selection(node: &Node, req: &str, measures: &Measures, reader: &mut Reader) -> Option<Selection> {
    let block = reader.block(node, "the selector", &["signal", "name", "where", "as"], &[]);
    let signal = signal(block, reader);
    let measure = measure(block, measures, reader);
    let selector = selector(block, reader);
    let (signal, measure, selector) = (signal?, measure?, selector?);
    // A log record with the key gives its numbers by itself, and a point with it is named by the selector.
    let takes_keyed = signal == Signal::Traces && !Measure::parse(&measure).takes_ordinary();
    Some(Selection { signal, req: req.to_owned(), measure, selector, takes_keyed })
}

fn signal(block: Block<'_>, reader: &mut Reader) -> Option<Signal> {
    let Some(node) = block.get("signal") else {
        reader
            .error(block.at, "the selector does not say what it selects (add `signal`: span, log or metric)");
        return None;
    };
    reader.read(node).map(|record| signal_of(&record))
}

/// Whose records they are.
pub(super) const fn signal_of(record: &Record) -> Signal {
    match record {
        Record::Span => Signal::Traces,
        Record::Log => Signal::Logs,
        Record::Metric => Signal::Metrics,
    }
}

fn measure(block: Block<'_>, measures: &Measures, reader: &mut Reader) -> Option<String> {
    if block.get("as").is_some() {
        return reader.take(block, "as");
    }
    match names_of_own(measures).as_slice() {
        [only] => Some((*only).to_owned()),
        names => {
            let names = names.join(", ");
            reader.error(
                block.at,
                format!("the selector does not say which measure it feeds (add `as`: {names})"),
            );
            None
        }
    }
}

/// `name` and `where` together.
fn selector(block: Block<'_>, reader: &mut Reader) -> Option<Selector> {
    let name: Option<String> = reader.take(block, "name");
    let condition: Option<String> = reader.take(block, "where");
    let place = block.get("where").or_else(|| block.get("name")).map_or(block.at, |node| &node.at);
    if name.as_ref().is_some_and(|name| name.contains(['"', '\\'])) {
        reader.error(place, "`name` holds a quote or a backslash: write it in `where`");
        return None;
    }
    let mut message = None;
    // Each is read on its own, so that a column counts in what was written.
    let parts = [name.map(|name| format!("name == \"{name}\"")), condition];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    for part in &parts {
        if let Err(error) = Selector::parse(part) {
            message = Some(error.to_string());
        }
    }
    let text = match parts.as_slice() {
        [] => {
            reader.error(block.at, "the selector selects everything (add `name` or `where`)");
            return None;
        }
        [one] => one.clone(),
        [name, condition, ..] => format!("{name} and ({condition})"),
    };
    match (message, Selector::parse(&text)) {
        (None, Ok(selector)) => Some(selector),
        (Some(message), _) => {
            reader.error(place, message);
            None
        }
        (None, Err(error)) => {
            reader.error(place, error.to_string());
            None
        }
    }
}
