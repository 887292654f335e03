//! Which way is adverse: stated; else by the order of the thresholds; else by the rules' operators; else by the measure's
//! name. Two of these that contradict each other are an error, for one of them is a mistake.

use homeostat_pipeline::finding::Level;
use homeostat_pipeline::settings::Position;

use super::place::Reader;
use super::{Direction, Measure, Thresholds};

/// What the model says about the direction of one measure.
pub(super) struct Hints<'a> {
    pub(super) measure: &'a Measure,
    /// `direction:`, and where.
    pub(super) stated: Option<(Direction, Position)>,
    pub(super) thresholds: &'a Thresholds,
    /// What the operators of each rule say; rules that say nothing are left out.
    pub(super) rules: &'a [Direction],
    /// Whether something is judged by it: then it must be known.
    pub(super) is_judged: bool,
    /// Where the measure stands.
    pub(super) at: &'a Position,
}

/// The direction, in which contradictions are reported; lower is better where nothing is judged and nothing is known.
pub(super) fn resolve(hints: &Hints<'_>, reader: &mut Reader) -> Direction {
    let name = &hints.measure.name;
    let stated = hints.stated.as_ref().map(|(direction, _)| ("`direction`", *direction));
    let order = order(hints.thresholds).map(|direction| ("the order of its thresholds", direction));
    let by_name = hints.measure.direction().map(|direction| ("its name", direction));
    let by_rules = hints
        .rules
        .first()
        .filter(|first| hints.rules.iter().all(|rule| rule == *first))
        .filter(|_| stated.is_none() && order.is_none())
        .map(|direction| ("the operators of its rules", *direction));
    let known: Vec<_> = [stated, order, by_rules, by_name].into_iter().flatten().collect();
    let Some((first, direction)) = known.first().copied() else {
        if hints.is_judged {
            let message = format!(
                "nothing says which way is adverse for {name} (state `direction: lower_is_better` or `direction: \
                 higher_is_better` under `thresholds`)"
            );
            reader.error(hints.at, message);
        }
        return Direction::LowerIsBetter;
    };
    if let Some((second, other)) = known.iter().find(|(_, other)| *other != direction) {
        let at = hints.stated.as_ref().map_or(hints.at, |(_, at)| at);
        let message = format!(
            "{first} of {name} says {}, {second} says {} (correct the one that is wrong)",
            direction.name(),
            other.name(),
        )
        .replace("its name of", "the name of")
        .replace("the order of its thresholds of", "the order of the thresholds of")
        .replace("the operators of its rules of", "what the rules compare of");
        reader.error(at, message);
    }
    direction
}

/// What the order of target, warning and critical says; none when it says nothing or contradicts itself.
fn order(thresholds: &Thresholds) -> Option<Direction> {
    let levels = [thresholds.target, thresholds.warning, thresholds.critical];
    let levels: Vec<f64> = levels.into_iter().flatten().collect();
    let rises = levels.windows(2).any(|pair| pair[0] < pair[1]);
    let falls = levels.windows(2).any(|pair| pair[0] > pair[1]);
    match (rises, falls) {
        (true, false) => Some(Direction::LowerIsBetter),
        (false, true) => Some(Direction::HigherIsBetter),
        (true, true) | (false, false) => None,
    }
}

/// Reports levels that stand in no order, and a band whose ends are exchanged.
pub(super) fn check_order(
    measure: &Measure,
    thresholds: &Thresholds,
    place: impl Fn(Level) -> Position,
    reader: &mut Reader,
) {
    let named = [
        ("target", thresholds.target, Level::Target),
        ("warning", thresholds.warning, Level::Warning),
        ("critical", thresholds.critical, Level::Critical),
    ];
    let stated: Vec<_> =
        named.into_iter().filter_map(|(word, value, level)| Some((word, value?, level))).collect();
    if let [first, second, third] = stated.as_slice()
        && (second.1 - first.1) * (third.1 - second.1) < 0.0
    {
        let message = format!(
            "the thresholds of {} are out of order: {} {}, {} {}, {} {} (they rise where lower is better, and fall where \
             higher is better)",
            measure.name, first.0, first.1, second.0, second.1, third.0, third.1,
        );
        reader.error(&place(Level::Warning), message);
    }
    if let (Some(lower), Some(upper)) = (thresholds.lower, thresholds.upper)
        && lower > upper
    {
        let message = format!("`lower` {lower} of {} is above `upper` {upper} (exchange them)", measure.name);
        reader.error(&place(Level::Lower), message);
    }
}
