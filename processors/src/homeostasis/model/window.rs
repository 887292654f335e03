//! `defaults.window`, and the panes that windows and the functions of windows in conditions are made of.

use std::collections::BTreeMap;
use std::time::Duration;

use homeostat_pipeline::settings::Node;

use super::place::Reader;
use super::{Requirement, Window};
use crate::homeostasis::condition::{Aggregate, VALUES_MAX};

/// Panes that one subject may have in its longest window.
const PANES_MAX: u128 = 512;

/// Reads `window`.
pub(super) fn read(node: &Node, reader: &mut Reader) -> Window {
    let known = ["kind", "size", "slide", "allowed_lateness", "correction", "min_samples"];
    let block = reader.block(node, "`window`", &known, &[]);
    let standard = Window::default();
    let size = reader.period(block, "size").unwrap_or(standard.size);
    if let Some(node) = block.get("size")
        && !(Duration::from_millis(100)..=Duration::from_secs(86_400)).contains(&size)
    {
        reader.error(&node.at, "a window is between 100 ms and 1 day long");
    }
    let slide = reader.period(block, "slide");
    let every = match (block.get("kind").map(|kind| (kind, kind.as_text())), slide) {
        (None | Some((_, Some("tumbling"))), None) => size,
        (None | Some((_, Some("tumbling"))), Some(_)) => {
            let at = block.get("slide").map_or(block.at, |node| &node.at);
            reader.error(at, "only sliding windows have a `slide` (write `kind: sliding`)");
            size
        }
        (Some((_, Some("sliding"))), Some(slide)) => {
            let at = block.get("slide").map_or(block.at, |node| &node.at);
            let divides = !slide.is_zero() && size.as_nanos().is_multiple_of(slide.as_nanos());
            if slide < Duration::from_millis(100) || slide > size || !divides {
                reader.error(at, "`slide` is a part of `size` without a remainder, and at least 100 ms");
                size
            } else {
                slide
            }
        }
        (Some((kind, Some("sliding"))), None) => {
            reader.error(&kind.at, "a sliding window says how often one ends (add `slide`, such as `1m`)");
            size
        }
        (Some((kind, _)), _) => {
            let message = format!("{} is no kind of window (write `tumbling` or `sliding`)", kind.describe());
            reader.error(&kind.at, message);
            size
        }
    };
    let mut within_a_week = |key: &str, standard: Duration| {
        let length = reader.period(block, key).unwrap_or(standard);
        if let Some(node) = block.get(key)
            && length > Duration::from_secs(7 * 86_400)
        {
            reader.error(&node.at, format!("`{key}` is at most a week"));
        }
        length
    };
    Window {
        size,
        every,
        allowed_lateness: within_a_week("allowed_lateness", standard.allowed_lateness),
        correction: within_a_week("correction", standard.correction),
        min_samples: reader.take(block, "min_samples").unwrap_or(standard.min_samples),
    }
}

/// The length of a pane: the longest of which every window, and every function of a window of which panes are kept, is a
/// multiple.
pub fn pane_of(window: &Window, requirements: &BTreeMap<String, Requirement>) -> Duration {
    let lookbacks = requirements.values().flat_map(|requirement| requirement.lookbacks.values().flatten());
    let lengths = lookbacks.map(|lookback| lookback.window).filter(|length| *length <= VALUES_MAX);
    lengths.fold(window.every, divisor)
}

/// The greatest length of which both are multiples; the other where one is zero.
fn divisor(one: Duration, other: Duration) -> Duration {
    let (mut one, mut other) = (one.as_nanos(), other.as_nanos());
    while other != 0 {
        (one, other) = (other, one % other);
    }
    Duration::from_nanos(u64::try_from(one).unwrap_or(u64::MAX))
}

/// Refuses rules whose windows would have to be cut into too many panes.
pub(super) fn check(window: &Window, requirements: &BTreeMap<String, Requirement>, reader: &mut Reader) {
    let pane = pane_of(window, requirements);
    let lookbacks = requirements.values().flat_map(|requirement| {
        let all = requirement.lookbacks.iter();
        all.flat_map(move |(measure, lookbacks)| {
            lookbacks.iter().map(move |one| (requirement, measure, *one))
        })
    });
    for (requirement, measure, lookback) in lookbacks.filter(|(.., lookback)| lookback.window <= VALUES_MAX) {
        let length = match lookback.aggregate {
            Aggregate::Previous => window.size + window.every,
            Aggregate::Quantile(_)
            | Aggregate::Mean
            | Aggregate::Count
            | Aggregate::Rate
            | Aggregate::Missing
            | Aggregate::Changed => lookback.window,
        };
        if length.as_nanos() / pane.as_nanos().max(1) > PANES_MAX {
            let at = requirement.rules_of(measure).next().map_or(&requirement.at, |rule| &rule.at);
            let message = format!(
                "`{lookback}` and the other windows of the model have only {} s in common, so that it would be more than \
                 {PANES_MAX} panes long (use multiples of a longer time)",
                pane.as_secs_f64()
            );
            reader.error(at, message);
        }
    }
    if window.size.as_nanos() / pane.as_nanos().max(1) > PANES_MAX {
        let message = format!(
            "the windows of the model have only {} s in common, so that one would be more than {PANES_MAX} panes long (use \
             multiples of a longer time)",
            pane.as_secs_f64()
        );
        let at = requirements.values().next().map(|requirement| requirement.at.clone());
        if let Some(at) = at {
            reader.error(&at, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pane_divides_every_length() {
        let seconds = Duration::from_secs;
        for (one, other, expected) in
            [(300, 60, 60), (300, 90, 30), (60, 3_600, 60), (300, 0, 300), (7, 5, 1), (300, 300, 300)]
        {
            assert_eq!(divisor(seconds(one), seconds(other)), seconds(expected), "{one} and {other}");
        }
    }
}
