//! homeostat and its rivals in turn, case by case, and what the repetitions say together.

use serde::Serialize;

use crate::case::{self, Case};
use crate::report::{aligned, number};
use crate::run::Outcome;
use crate::system::System;

/// What a reader must know to read the table rightly.
pub const NOTES: [&str; 7] = [
    "Same harness, same payloads, same core for each; what came gzipped leaves gzipped, what came plain leaves plain.",
    "homeostat acknowledges when the sink has taken the request and, with tagged spans, the journal is on disk. The \
     Collector and rotel acknowledge what is in their memory: their latencies leave out the sink, and a crash loses it.",
    "Flat out, spans/s counts until the sink had all that was acknowledged; where CPU % is below 95, the core had time \
     left or neighbours, and a core's spans/s is what it would take alone. CPU per span includes what runs a second longer.",
    "homeostat: journal and ledger on disk, own metrics, a memory budget of 32 MiB. Collector: memory_limiter of 512 MiB \
     (spikes 128), batch, queue and retry as they come, own metrics off. rotel: as it comes; its limit is the machine.",
    "Tagged, every span carries a requirement. homeostat finds it in any text, judges windows of 5 s and keeps evidence on \
     disk. The Collector takes it out of the one named attribute by a regular expression (transform), counts it by series \
     (spanmetrics, flushed every 5 s) and throws the metrics away. rotel has nothing of the kind and is left out.",
    "The stalled sink reads and never answers, with 1,024 requests on the way: refused counts what was sent back, and what a \
     rival acknowledged meanwhile is nowhere but in its memory.",
    "Each figure is the median of the repetitions; × is how many times homeostat's; spread is from the least to the most in \
     percent of the median, of the CPU per span, else of the memory. Lost: acknowledged and not at the sink 10 s later.",
];

/// The median of some runs and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half are not above it.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of some numbers; `None` when there are none.
    pub fn of(numbers: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut numbers: Vec<f64> = numbers.collect();
        numbers.sort_by(f64::total_cmp);
        let middle = numbers.len() / 2;
        let (least, most) = (*numbers.first()?, *numbers.last()?);
        let median = if numbers.len() % 2 == 1 {
            numbers[middle]
        } else {
            (numbers[middle - 1] + numbers[middle]) / 2.0
        };
        Some(Spread { median, least, most })
    }

    fn percent(self) -> f64 {
        if self.median > 0.0 { (self.most - self.least) * 100.0 / self.median } else { 0.0 }
    }
}

/// One case of one system.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The case.
    pub case: String,
    /// What ran it.
    pub system: &'static str,
    /// Why some run has no numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Spans that it took and passed on in a second.
    pub spans_per_second: Option<Spread>,
    /// Spans that its whole core would take in a second, had it nothing else to do.
    pub core_spans_per_second: Option<Spread>,
    /// Microseconds of processor time a span.
    pub cpu_us_per_span: Option<Spread>,
    /// Of its core.
    pub cpu_percent: Option<Spread>,
    /// The most that was seen in each run.
    pub resident_mib: Option<Spread>,
    /// Half of the acknowledgements came within it.
    pub ack_ms_p50: Option<Spread>,
    /// 99 of 100 acknowledgements came within it.
    pub ack_ms_p99: Option<Spread>,
    /// Requests to be sent again, in all runs.
    pub refused: u64,
    /// Requests that failed, in all runs.
    pub failed: u64,
    /// Spans acknowledged and not at the sink, in all runs.
    pub lost: u64,
    /// How many times homeostat's processor time a span.
    pub cpu_ratio: Option<f64>,
    /// How many times homeostat's memory.
    pub resident_ratio: Option<f64>,
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What was compared, as each calls itself.
    pub versions: Vec<String>,
    /// How often each case ran on each.
    pub repetitions: usize,
    /// Case by case, homeostat first.
    pub rows: Vec<Row>,
    /// How to read it.
    pub notes: &'static [&'static str],
}

/// The cases in which rivals are compared: what a core takes, what little costs, what is resident.
pub fn cases() -> Vec<Case> {
    let names = [
        "idle",
        "http plain, untagged",
        "grpc gzip, untagged",
        "http plain, tagged",
        "grpc gzip, tagged",
        "10,000 spans/s",
        "stalled sink",
    ];
    case::cases().into_iter().filter(|case| names.contains(&case.name.as_str())).collect()
}

/// Whether a system has a part in a case.
pub fn takes_part(system: &System, case: &Case) -> bool {
    case.tagged_percent == 0 || system.kind.can_judge()
}

impl Row {
    /// What the runs of one case on one system say together.
    pub fn of(outcomes: &[Outcome]) -> Option<Row> {
        let first = outcomes.first()?;
        let good: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.error.is_none()).collect();
        let of = |get: &dyn Fn(&Outcome) -> Option<f64>| Spread::of(good.iter().filter_map(|one| get(one)));
        let sum = |get: &dyn Fn(&Outcome) -> u64| good.iter().map(|one| get(one)).sum();
        Some(Row {
            case: first.case.clone(),
            system: first.system,
            error: outcomes.iter().find_map(|outcome| outcome.error.clone()),
            spans_per_second: of(&|one| (one.spans_per_second > 0.0).then_some(one.spans_per_second)),
            core_spans_per_second: of(&|one| one.core_spans_per_second),
            cpu_us_per_span: of(&|one| one.cpu_us_per_span),
            cpu_percent: of(&|one| Some(one.cpu_percent)),
            resident_mib: of(&|one| Some(one.resident_mib)),
            ack_ms_p50: of(&|one| one.ack_ms_p50),
            ack_ms_p99: of(&|one| one.ack_ms_p99),
            refused: sum(&|one| one.refused),
            failed: sum(&|one| one.failed),
            lost: sum(&|one| one.lost),
            cpu_ratio: None,
            resident_ratio: None,
        })
    }

    fn spread_percent(&self) -> Option<f64> {
        Some(self.cpu_us_per_span.or(self.resident_mib)?.percent())
    }

    fn cells(&self) -> [String; 15] {
        let median = |spread: Option<Spread>| spread.map(|spread| spread.median);
        let rounded = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
        };
        [
            self.case.clone(),
            self.system.to_owned(),
            rounded(median(self.spans_per_second), 0),
            rounded(median(self.core_spans_per_second), 0),
            number(median(self.cpu_us_per_span)),
            rounded(self.cpu_ratio, 1),
            rounded(median(self.cpu_percent), 1),
            rounded(median(self.resident_mib), 1),
            rounded(self.resident_ratio, 1),
            number(median(self.ack_ms_p50)),
            number(median(self.ack_ms_p99)),
            self.refused.to_string(),
            self.failed.to_string(),
            self.lost.to_string(),
            rounded(self.spread_percent(), 0),
        ]
    }
}

impl Comparison {
    /// Sets every row against homeostat's of the same case.
    pub fn new(versions: Vec<String>, repetitions: usize, mut rows: Vec<Row>) -> Comparison {
        let ours: Vec<Row> = rows.iter().filter(|row| row.system == "homeostat").cloned().collect();
        for row in &mut rows {
            let Some(mine) = ours.iter().find(|mine| mine.case == row.case) else { continue };
            let ratio = |theirs: Option<Spread>, mine: Option<Spread>| {
                mine.filter(|mine| mine.median > 0.0).and_then(|mine| Some(theirs?.median / mine.median))
            };
            // Processor time per span says nothing where hardly any was taken.
            row.cpu_ratio = ratio(row.cpu_us_per_span, mine.cpu_us_per_span);
            row.resident_ratio = ratio(row.resident_mib, mine.resident_mib);
        }
        Comparison { versions, repetitions, rows, notes: &NOTES }
    }

    /// Whether every run has its numbers.
    pub fn is_whole(&self) -> bool {
        self.rows.iter().all(|row| row.error.is_none())
    }

    /// The rows for people.
    pub fn table(&self) -> String {
        let head = [
            "case",
            "system",
            "spans/s",
            "a core's",
            "CPU µs/span",
            "×",
            "CPU %",
            "RSS MiB",
            "×",
            "ack p50 ms",
            "ack p99 ms",
            "refused",
            "failed",
            "lost",
            "spread %",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.rows.iter().filter(|row| row.cpu_percent.is_some()).map(Row::cells));
        aligned(&rows)
    }

    /// What is missing, a sentence each.
    pub fn errors(&self) -> Vec<String> {
        let missing = self.rows.iter().filter_map(|row| {
            let error = row.error.as_ref()?;
            Some(format!("{}, {}: could not be measured: {error}", row.case, row.system))
        });
        missing.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(system: &'static str, cpu: f64, resident: f64) -> Outcome {
        Outcome {
            case: "http plain, untagged".into(),
            system,
            spans_per_second: 9e5 / cpu,
            core_spans_per_second: Some(1e6 / cpu),
            cpu_us_per_span: Some(cpu),
            cpu_percent: 99.0,
            resident_mib: resident,
            ack_ms_p50: Some(1.0),
            ack_ms_p99: Some(2.0),
            ..Outcome::default()
        }
    }

    #[test]
    fn the_median_lies_between_the_least_and_the_most() {
        let of = |numbers: &[f64]| Spread::of(numbers.iter().copied());
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(of(&[3.0, 1.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(of(&[]), None);
        assert!((of(&[3.0, 1.0, 2.0]).expect("there are three").percent() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn a_rival_is_set_against_homeostat_of_the_same_case() {
        let failed = Outcome { error: Some("it ended".into()), ..outcome("rotel", 1.0, 1.0) };
        let rows = vec![
            Row::of(&[outcome("homeostat", 0.5, 40.0), outcome("homeostat", 0.6, 44.0)]).expect("a row"),
            Row::of(&[outcome("Collector", 5.5, 420.0)]).expect("a row"),
            Row::of(&[failed]).expect("a row"),
        ];
        let comparison = Comparison::new(vec![], 2, rows);
        let expected = "\
case                  system     spans/s  a core's  CPU µs/span     ×  CPU %  RSS MiB     ×  ack p50 ms  ack p99 ms  refused  failed  lost  spread %
http plain, untagged  homeostat  1650000   1833333         0.55   1.0   99.0     42.0   1.0        1.00        2.00        0       0     0        18
http plain, untagged  Collector   163636    181818         5.50  10.0   99.0    420.0  10.0        1.00        2.00        0       0     0         0
";
        assert_eq!(comparison.table(), expected);
        assert!(!comparison.is_whole());
        assert_eq!(comparison.errors(), ["http plain, untagged, rotel: could not be measured: it ended"]);
    }

    #[test]
    fn every_compared_case_is_one_of_the_benchmark() {
        assert_eq!(cases().len(), 7);
    }
}
