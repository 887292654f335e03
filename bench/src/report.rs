//! The table for people, and the same as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::case::TAGGED_BUDGET;
use crate::compare::Comparison;
use crate::run::{Outcome, Reached};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was measured.
    pub subject: String,
    /// How long each case was.
    pub seconds: f64,
    /// Whether load and subject had cores of their own.
    pub pinned: bool,
    /// The 99th percentile of one `fdatasync`, in milliseconds.
    pub sync_ms_p99: f64,
    /// In the order in which they ran.
    pub cases: Vec<Outcome>,
    /// What a fully tagged span takes more than an untagged one, by the way it came in.
    pub added_per_tagged_span: Vec<Reached>,
    /// The rivals, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rivals: Option<Comparison>,
}

impl Report {
    /// What follows from the cases together.
    pub fn new(subject: String, seconds: f64, pinned: bool, sync_ms_p99: f64, cases: Vec<Outcome>) -> Report {
        let added_per_tagged_span = ["http plain", "http gzip", "grpc plain", "grpc gzip"]
            .into_iter()
            .filter_map(|way| {
                let cost = |tagged: &str| {
                    let case = cases.iter().find(|outcome| outcome.case == format!("{way}, {tagged}"))?;
                    case.cpu_us_per_span
                };
                let reached = cost("tagged")? - cost("untagged")?;
                Some(Reached { quantity: way, budget: TAGGED_BUDGET, reached })
            })
            .collect();
        Report { subject, seconds, pinned, sync_ms_p99, cases, added_per_tagged_span, rivals: None }
    }

    /// Whether everything could be measured.
    pub fn is_whole(&self) -> bool {
        self.cases.iter().all(|outcome| outcome.error.is_none())
            && self.rivals.as_ref().is_none_or(Comparison::is_whole)
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = self.title() + "\n";
        for table in self.own_tables() {
            let _ = write!(text, "\n{table}");
        }
        if let Some(rivals) = &self.rivals {
            let _ = write!(text, "\n{}\n\n{}\n", rivals_title(rivals), rivals.table());
            for note in rivals.notes {
                let _ = writeln!(text, "- {note}");
            }
        }
        for error in self.errors() {
            let _ = write!(text, "\n{error}\n");
        }
        text
    }

    /// For a page: what `bench/README.md` has between its two marks.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}:\n", self.title());
        for table in self.own_tables() {
            let _ = write!(text, "\n```\n{table}```\n");
        }
        if let Some(rivals) = &self.rivals {
            let _ = write!(text, "\n{}:\n\n```\n{}```\n\n", rivals_title(rivals), rivals.table());
            for note in rivals.notes {
                let _ = writeln!(text, "- {note}");
            }
        }
        for error in self.errors() {
            let _ = write!(text, "\n{error}\n");
        }
        text
    }

    fn title(&self) -> String {
        format!(
            "{}, {} s a case, {}; one fdatasync takes {:.2} ms (p99)",
            self.subject,
            self.seconds,
            if self.pinned { "pinned" } else { "NOT pinned: the numbers mean little" },
            self.sync_ms_p99
        )
    }

    fn errors(&self) -> Vec<String> {
        let own = self.cases.iter().filter_map(|outcome| {
            let error = outcome.error.as_ref()?;
            Some(format!("{}: could not be measured: {error}", outcome.case))
        });
        own.chain(self.rivals.iter().flat_map(Comparison::errors)).collect()
    }

    /// What was measured, and what it was held to.
    fn own_tables(&self) -> Vec<String> {
        let mut rows = vec![
            [
                "case",
                "spans/s",
                "CPU µs/span",
                "CPU %",
                "RSS MiB",
                "ack p50 ms",
                "ack p99 ms",
                "refused",
                "failed",
            ]
            .map(str::to_owned),
        ];
        rows.extend(self.cases.iter().filter(|outcome| outcome.error.is_none()).map(|outcome| {
            [
                outcome.case.clone(),
                format!("{:.0}", outcome.spans_per_second),
                number(outcome.cpu_us_per_span),
                format!("{:.1}", outcome.cpu_percent),
                format!("{:.1}", outcome.resident_mib),
                number(outcome.ack_ms_p50),
                number(outcome.ack_ms_p99),
                outcome.refused.to_string(),
                outcome.failed.to_string(),
            ]
        }));
        let mut budgets = vec![["case", "budget of", "reached", "budget", "ratio"].map(str::to_owned)];
        let cases = self.cases.iter().flat_map(|outcome| {
            outcome.budgets.iter().map(|reached| (outcome.case.as_str(), reached.quantity, reached))
        });
        let added = self
            .added_per_tagged_span
            .iter()
            .map(|reached| (reached.quantity, "added per tagged span, µs", reached));
        budgets.extend(cases.chain(added).map(|(case, quantity, reached)| {
            [
                case.to_owned(),
                quantity.to_owned(),
                format!("{:.2}", reached.reached),
                reached.budget.to_string(),
                format!("{:.2}", reached.reached / reached.budget),
            ]
        }));
        let tables = [aligned(&rows), aligned(&budgets)];
        tables.into_iter().filter(|table| table.lines().count() > 1).collect()
    }
}

fn rivals_title(rivals: &Comparison) -> String {
    format!("In turn, {} times each: {}", rivals.repetitions, rivals.versions.join("; "))
}

pub(crate) fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
}

/// Columns of equal width; the first is text and stands left, and so does one whose cells are not numbers.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let is_text = |column: usize| {
        rows.iter().skip(1).any(|row| row[column].parse::<f64>().is_err() && row[column] != "–")
    };
    let texts: [bool; N] = std::array::from_fn(|column| column == 0 || is_text(column));
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), is_text) in row.iter().zip(widths).zip(texts) {
            let _ = if is_text { write!(line, "{cell:<width$}  ") } else { write!(line, "{cell:>width$}  ") };
        }
        text += line.trim_end();
        text += "\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(case: &str, cpu: f64) -> Outcome {
        Outcome {
            case: case.into(),
            cpu_us_per_span: Some(cpu),
            spans_per_second: 1_234_567.8,
            ack_ms_p50: Some(0.5),
            ack_ms_p99: Some(2.25),
            ..Outcome::default()
        }
    }

    fn report() -> Report {
        let budget = Reached { quantity: "CPU per span, µs", budget: 0.5, reached: 0.25 };
        let untagged = Outcome { budgets: vec![budget], ..outcome("http plain, untagged", 0.25) };
        let broken = Outcome { case: "idle".into(), error: Some("it ended".into()), ..Outcome::default() };
        Report::new(
            "homeostat".into(),
            10.0,
            true,
            0.75,
            vec![untagged, outcome("http plain, tagged", 0.75), broken],
        )
    }

    #[test]
    fn the_table_has_the_budgets_beside_what_was_reached() {
        let expected = "\
homeostat, 10 s a case, pinned; one fdatasync takes 0.75 ms (p99)

case                  spans/s  CPU µs/span  CPU %  RSS MiB  ack p50 ms  ack p99 ms  refused  failed
http plain, untagged  1234568         0.25    0.0      0.0        0.50        2.25        0       0
http plain, tagged    1234568         0.75    0.0      0.0        0.50        2.25        0       0

case                  budget of                  reached  budget  ratio
http plain, untagged  CPU per span, µs              0.25     0.5   0.50
http plain            added per tagged span, µs     0.50     0.6   0.83

idle: could not be measured: it ended
";
        assert_eq!(report().text(), expected);
    }

    #[test]
    fn json_has_what_the_table_has() {
        let json = serde_json::to_value(report()).expect("a report is JSON");
        assert_eq!(json["cases"][0]["budgets"][0]["reached"], 0.25);
        assert_eq!(json["cases"][2]["error"], "it ended");
        assert_eq!(json["added_per_tagged_span"][0]["reached"], 0.5);
    }
}
