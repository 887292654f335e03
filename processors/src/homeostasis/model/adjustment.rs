//! Whether a threshold may be adjusted: by the rules that hold for thresholds in the model's file.

use std::collections::BTreeMap;

use homeostat_pipeline::finding::{Level, Threshold, ThresholdAdjusted};

use super::{Direction, LEVELS, Thresholds};
use crate::homeostasis::units::Unit;

/// The level of a word.
///
/// # Errors
/// There is none.
pub fn level_of(word: &str) -> Result<Level, String> {
    let found = LEVELS.iter().find(|(known, _)| *known == word).map(|(_, level)| *level);
    let known: Vec<&str> = LEVELS.iter().map(|(known, _)| *known).collect();
    found.ok_or_else(|| format!("`{word}` is no level; known: {}", known.join(", ")))
}

/// The word of a level.
pub fn word_of(level: Level) -> &'static str {
    LEVELS.iter().find(|(_, known)| *known == level).map_or("", |(word, _)| word)
}

/// A number and the unit that is written behind it: `450`, `0.45 s`, `95%`.
///
/// # Errors
/// There is no number.
pub fn quantity(text: &str) -> Result<(f64, Option<String>), String> {
    let text = text.trim();
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+');
    let split = text.find(|c| !is_number(c)).unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim());
    let value: f64 = number.parse().map_err(|_| format!("`{text}` is no number such as `450` or `0.45s`"))?;
    let unit = if unit == "%" { "percent" } else { unit };
    Ok((value, (!unit.is_empty()).then(|| unit.to_owned())))
}

/// What stands and what would stand, in the unit of the threshold.
///
/// # Errors
/// The level is not stated, the unit does not fit, nothing would change, or the levels would be out of order.
pub fn proposed(
    threshold: &Threshold,
    level: Level,
    value: f64,
    unit: Option<&str>,
) -> Result<(f64, f64), String> {
    let word = word_of(level);
    let Some(old) = threshold.levels.get(word).copied() else {
        let stated: Vec<&str> = threshold.levels.keys().map(String::as_str).collect();
        return Err(format!(
            "the model states no `{word}` of it (stated: {}): only what the model states can be adjusted",
            stated.join(", ")
        ));
    };
    let new = match unit {
        None => value,
        Some(written) => {
            let (from, to) = (Unit::parse(written)?, Unit::parse(&threshold.unit)?);
            from.convert(value, to).ok_or_else(|| {
                format!(
                    "`{written}` is {}, but the measure is in {}",
                    from.dimension().describe(),
                    threshold.unit
                )
            })?
        }
    };
    if !new.is_finite() {
        return Err(format!("`{new}` is no number that can be compared"));
    }
    if new == old {
        return Err(format!("`{word}` is {old} {} already", threshold.unit));
    }
    let mut levels = threshold.levels.clone();
    levels.insert(word.to_owned(), new);
    in_order(&levels, &threshold.direction)?;
    Ok((old, new))
}

fn in_order(levels: &BTreeMap<String, f64>, direction: &str) -> Result<(), String> {
    let stated: Vec<(&str, f64)> = ["target", "warning", "critical"]
        .into_iter()
        .filter_map(|word| Some((word, *levels.get(word)?)))
        .collect();
    let sign = if direction == Direction::HigherIsBetter.name() { -1.0 } else { 1.0 };
    for pair in stated.windows(2) {
        let [(first, before), (second, after)] = pair else { continue };
        if (after - before) * sign < 0.0 {
            return Err(format!(
                "the thresholds would be out of order: {first} {before}, {second} {after} (they rise where lower is better, \
                 and fall where higher is better)"
            ));
        }
    }
    match (levels.get("lower"), levels.get("upper")) {
        (Some(lower), Some(upper)) if lower > upper => {
            Err(format!("`lower` {lower} would be above `upper` {upper}"))
        }
        (Some(_) | None, _) => Ok(()),
    }
}

impl Thresholds {
    /// The same with another number for a level.
    #[must_use]
    pub fn with(self, level: Level, value: f64) -> Thresholds {
        let mut next = self;
        let place = match level {
            Level::Target => &mut next.target,
            Level::Warning => &mut next.warning,
            Level::Critical => &mut next.critical,
            Level::Lower => &mut next.lower,
            Level::Upper => &mut next.upper,
        };
        *place = Some(value);
        next
    }
}

/// The updates as the seed's file writes them. Void ones do not belong there: the seed has no word for them.
pub fn seed_yaml<'a>(updates: impl Iterator<Item = &'a ThresholdAdjusted>) -> String {
    let all: String = updates.map(one_update).collect();
    if all.is_empty() {
        "homeostasis_updates: []\n".to_owned()
    } else {
        format!("homeostasis_updates:\n{all}")
    }
}

fn one_update(update: &ThresholdAdjusted) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let measure =
        if update.measure.chars().all(is_plain) { update.measure.clone() } else { quoted(&update.measure) };
    format!(
        "  - update_id: {}\n    timestamp: \"{}\"\n    update_type: \"threshold_adjustment\"\n    req_id: {}\n\n    changes:\n      \
         thresholds:\n        {measure}:\n          {}:\n            old: {}\n            new: {}\n            reason: {}\n\n    \
         approved_by: {}\n    effective_date: \"{}\"\n",
        quoted(&update.update_id),
        update.approved_at,
        quoted(&update.req_id),
        word_of(update.level),
        update.old,
        update.new,
        quoted(&update.reason),
        quoted(&update.approved_by),
        update.effective_date,
    )
}

/// Text in double quotes: JSON's are YAML's too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        direction: Direction,
        levels: &[(&str, f64)],
        level: &str,
        value: &str,
        expected: Result<(f64, f64), &str>,
    ) {
        let threshold = Threshold {
            unit: "ms".to_owned(),
            direction: direction.name().to_owned(),
            levels: levels.iter().map(|(word, value)| ((*word).to_owned(), *value)).collect(),
            source: None,
        };
        let found = quantity(value)
            .and_then(|(value, unit)| proposed(&threshold, level_of(level)?, value, unit.as_deref()));
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{level} {value}"),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{level} {value}: {found}"),
            (found, expected) => panic!("{level} {value}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn an_adjustment_is_held_to_what_thresholds_in_the_file_are_held_to() {
        use Direction::{HigherIsBetter, LowerIsBetter};
        let latency = [("target", 250.0), ("warning", 400.0), ("critical", 500.0)];
        check(LowerIsBetter, &latency, "warning", "350", Ok((400.0, 350.0)));
        check(LowerIsBetter, &latency, "critical", "0.45s", Ok((500.0, 450.0)));
        check(LowerIsBetter, &latency, "critical", "450 milliseconds", Ok((500.0, 450.0)));
        check(LowerIsBetter, &latency, "critical", "300", Err("out of order: warning 400, critical 300"));
        check(LowerIsBetter, &latency, "target", "450", Err("out of order: target 450, warning 400"));
        check(LowerIsBetter, &latency, "critical", "500", Err("is 500 ms already"));
        check(LowerIsBetter, &latency, "critical", "5 MiB", Err("`MiB` is"));
        check(LowerIsBetter, &latency, "critical", "5 lightyears", Err("lightyears"));
        check(LowerIsBetter, &latency, "critical", "fast", Err("is no number"));
        check(
            LowerIsBetter,
            &latency,
            "criticl",
            "450",
            Err("`criticl` is no level; known: target, warning"),
        );
        check(
            LowerIsBetter,
            &latency,
            "upper",
            "450",
            Err("states no `upper` of it (stated: critical, target, warning)"),
        );
        check(LowerIsBetter, &[("critical", 500.0)], "critical", "1", Ok((500.0, 1.0)));
        check(HigherIsBetter, &[("warning", 99.9), ("critical", 99.0)], "critical", "99.5", Ok((99.0, 99.5)));
        check(
            HigherIsBetter,
            &[("warning", 99.9), ("critical", 99.0)],
            "critical",
            "99.95",
            Err("out of order"),
        );
        check(LowerIsBetter, &[("lower", 1.0), ("upper", 5.0)], "lower", "6", Err("above `upper` 5"));
    }
}
