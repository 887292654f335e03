//! Why a rule fired or did not, in words: one account of the fold read aloud.

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::Quiet;
use homeostat_pipeline::settings::Period;
use homeostat_processors::homeostasis::fold::{Account, RuleAccount};

/// Where a rule stood after a window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The condition is false.
    Holds,
    /// The condition is neither true nor false, for want of this.
    Unknown(String),
    /// The condition is true, or unknown and counts as a violation; not yet for long enough.
    Pending,
    /// It fires, but this keeps it quiet.
    Quiet(Quiet),
    /// It fires.
    Fires,
}

/// Where a rule of an account stands.
pub fn standing(account: &Account, rule: &RuleAccount) -> Standing {
    match rule.verdict {
        Some(false) => Standing::Holds,
        None if !rule.counts_as_violated => Standing::Unknown(unknown(account, rule)),
        Some(true) | None if !rule.fires => Standing::Pending,
        Some(true) | None => {
            let own = rule.quiet.as_ref().map(|(quiet, _)| *quiet);
            own.or(account.quiet).map_or(Standing::Fires, Standing::Quiet)
        }
    }
}

/// What was missing.
fn unknown(account: &Account, rule: &RuleAccount) -> String {
    let missing = |name: &str| rule.numbers.iter().any(|(known, value)| known == name && value.is_none());
    if account.value.is_none() && account.samples == 0 {
        return "no samples".to_owned();
    }
    if account.value.is_none() && account.samples < account.min_samples {
        return "too few samples".to_owned();
    }
    if account.value.is_none() {
        return "no value".to_owned();
    }
    if rule.numbers.iter().any(|(name, value)| value.is_none() && name.starts_with("baseline"))
        || missing("deviation")
        || missing("zscore")
    {
        return "no baseline".to_owned();
    }
    match rule.numbers.iter().find(|(_, value)| value.is_none()) {
        Some((name, _)) => format!("no {name}"),
        None => "not a number".to_owned(),
    }
}

/// A number as people write it.
pub fn number(value: f64) -> String {
    let rounded = (value * 1e4).round() / 1e4;
    if rounded == 0.0 && value != 0.0 { format!("{value:e}") } else { format!("{rounded}") }
}

/// A value and its unit.
pub fn measured(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| format!("{} {unit}", number(value)))
}

/// The window and its numbers.
pub fn window(account: &Account) -> String {
    let labels: Vec<String> = account.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let labels = if labels.is_empty() { String::new() } else { format!(" {{{}}}", labels.join(", ")) };
    let again = if account.is_correction { ", judged again after late rows" } else { "" };
    format!(
        "{}{labels}: {} of {} samples from {} to {}, judged at {}{again}",
        account.measure,
        measured(account.value, &account.unit),
        account.samples,
        account.start,
        account.end,
        account.at
    )
}

/// What a rule made of it.
pub fn verdict(account: &Account, rule: &RuleAccount) -> String {
    let numbers: Vec<String> = rule
        .numbers
        .iter()
        .map(|(name, value)| format!("{name} {}", value.map_or_else(|| "unknown".to_owned(), number)))
        .collect();
    let condition = format!("`{}` is", rule.condition);
    let truth = match rule.verdict {
        Some(_) => "true".to_owned(),
        None => format!("unknown ({}), which the model counts as a violation", unknown(account, rule)),
    };
    let numbers = if numbers.is_empty() { String::new() } else { format!(" ({})", numbers.join(", ")) };
    let rest = match standing(account, rule) {
        Standing::Holds => format!("{condition} false{numbers}"),
        Standing::Unknown(missing) if missing == "too few samples" => format!(
            "{condition} unknown: {} samples, {} are needed{numbers}",
            account.samples, account.min_samples
        ),
        Standing::Unknown(missing) => format!("{condition} unknown: {missing}{numbers}"),
        Standing::Pending => format!("{condition} {truth}{numbers}, {}", pending(account.end, rule)),
        Standing::Quiet(Quiet::Cooldown) => {
            let until = rule.cooling_until.map_or_else(String::new, |until| format!(" until {until}"));
            format!("{condition} {truth}{numbers} and fires, but its cooldown keeps it quiet{until}")
        }
        Standing::Quiet(Quiet::Silenced) => {
            format!("{condition} {truth}{numbers} and fires, but {} keeps it quiet", by(rule, "a silence"))
        }
        Standing::Quiet(Quiet::Inhibited) => {
            let by = by(rule, "the rule that inhibits it");
            format!(
                "{condition} {truth}{numbers} and fires, but {by} fires too and keeps it quiet (`inhibited_by`)"
            )
        }
        Standing::Fires => format!("{condition} {truth}{numbers} and fires"),
    };
    format!("{} (line {}): {rest}", rule.id, rule.line)
}

/// What keeps a rule quiet, by its name where that is known.
fn by(rule: &RuleAccount, otherwise: &str) -> String {
    rule.quiet.as_ref().map_or_else(|| otherwise.to_owned(), |(_, by)| by.clone())
}

fn pending(end: Timestamp, rule: &RuleAccount) -> String {
    let since = rule.violated_since.unwrap_or(end);
    format!(
        "but pending: for {} since {since}, and it must be more than {}",
        Period(end.since(since)),
        Period(rule.holds_for)
    )
}

/// The whole of an account: a line for the window and one for each rule.
pub fn lines(account: &Account) -> Vec<String> {
    let rules = account.rules.iter().map(|rule| format!("  {}", verdict(account, rule)));
    std::iter::once(window(account)).chain(rules).collect()
}

#[cfg(test)]
mod tests {
    use homeostat_pipeline::finding::Severity;
    use homeostat_processors::homeostasis::fold::Phase;

    use super::*;

    /// One rule on a measure of which nothing is known, and whether that counts as a violation.
    fn account(counts_as_violated: bool, fires: bool) -> Account {
        let at = Timestamp::from_millis(60_000);
        let rule = RuleAccount {
            id: "slow".to_owned(),
            severity: Severity::High,
            condition: "value > 500".to_owned(),
            line: 7,
            numbers: Vec::new(),
            verdict: None,
            counts_as_violated,
            violated_since: counts_as_violated.then_some(Timestamp::ZERO),
            holds_for: std::time::Duration::from_secs(120),
            fires,
            cooling_until: None,
            quiet: None,
        };
        Account {
            at,
            start: Timestamp::ZERO,
            end: at,
            req: "REQ-A-001".to_owned(),
            labels: std::collections::BTreeMap::new(),
            measure: "p95_latency_ms".to_owned(),
            unit: "ms".to_owned(),
            value: None,
            samples: 2,
            min_samples: 20,
            is_correction: false,
            rules: vec![rule],
            phase: Phase::Quiet,
            quiet: None,
            severity: Severity::Low,
        }
    }

    #[track_caller]
    fn check(counts_as_violated: bool, fires: bool, standing_is: &Standing, words: &str) {
        let account = account(counts_as_violated, fires);
        assert_eq!(standing(&account, &account.rules[0]), *standing_is);
        let said = verdict(&account, &account.rules[0]);
        assert_eq!(said, format!("slow (line 7): `value > 500` is unknown{words}"));
    }

    #[test]
    fn what_is_unknown_and_counts_as_a_violation_is_told_as_one() {
        let counts = " (too few samples), which the model counts as a violation";
        let unknown = Standing::Unknown("too few samples".to_owned());
        check(false, false, &unknown, ": 2 samples, 20 are needed");
        check(true, true, &Standing::Fires, &format!("{counts} and fires"));
        let pending = "but pending: for 1m since 1970-01-01T00:00:00Z, and it must be more than 2m";
        check(true, false, &Standing::Pending, &format!("{counts}, {pending}"));
    }
}
