//! What is measured: the table of the design's budgets, each with the load that it is about.

use crate::load::Protocol;
use crate::payload::Compression;

/// One row of the result.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name, which `--only` looks into.
    pub name: String,
    /// In and out.
    pub protocol: Protocol,
    /// In; out is the same frame.
    pub compression: Compression,
    /// Of a hundred spans, how many carry a requirement.
    pub tagged_percent: u64,
    /// Spans in a request.
    pub batch: u64,
    /// How it is driven.
    pub drive: Drive,
    /// What it is held to.
    pub budgets: Vec<Budget>,
}

/// How a case is driven.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Drive {
    /// As fast as acknowledgements come, so many requests on the way.
    Flat(usize),
    /// So many spans a second.
    Rate(f64),
    /// Half of what it reaches flat out.
    Half,
    /// Not at all.
    Idle,
    /// Far more than it can take, the sink taking nothing.
    Stalled,
}

/// A limit of the design.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Of what.
    pub of: Quantity,
    /// At most.
    pub limit: f64,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Microseconds of processor time a span.
    CpuPerSpan,
    /// Percent of one core.
    CpuPercent,
    /// The most resident memory seen, in MiB.
    Resident,
    /// 99 of 100 acknowledgements within so many milliseconds over one `fdatasync`.
    Acknowledgement,
}

impl Quantity {
    /// What it is called in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Quantity::CpuPerSpan => "CPU per span, µs",
            Quantity::CpuPercent => "CPU, % of a core",
            Quantity::Resident => "resident, MiB",
            Quantity::Acknowledgement => "acknowledgement p99 over fdatasync p99, ms",
        }
    }
}

/// What a tagged span may add to [`Quantity::CpuPerSpan`], in microseconds.
pub const TAGGED_BUDGET: f64 = 0.6;

/// How many requests are on the way when it is driven flat out.
pub const CONCURRENCY: usize = 32;

/// Every case, in the order in which they run.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![Case { drive: Drive::Idle, ..case("idle", &[(Quantity::Resident, 24.0)]) }];
    for tagged_percent in [0, 1, 100] {
        for protocol in [Protocol::Http, Protocol::Grpc] {
            for compression in [Compression::Plain, Compression::Gzip] {
                cases.push(flat(protocol, compression, tagged_percent));
            }
        }
    }
    cases.push(Case {
        batch: 100,
        drive: Drive::Rate(10_000.0),
        ..case("10,000 spans/s", &[(Quantity::CpuPercent, 4.0), (Quantity::Resident, 40.0)])
    });
    cases.push(Case {
        tagged_percent: 100,
        drive: Drive::Half,
        ..case("half load, tagged", &[(Quantity::Acknowledgement, 10.0)])
    });
    cases.push(Case { drive: Drive::Stalled, ..case("stalled sink", &[(Quantity::Resident, 80.0)]) });
    cases
}

fn case(name: &str, budgets: &[(Quantity, f64)]) -> Case {
    Case {
        name: name.to_owned(),
        protocol: Protocol::Grpc,
        compression: Compression::Plain,
        tagged_percent: 0,
        batch: 500,
        drive: Drive::Flat(CONCURRENCY),
        budgets: budgets.iter().map(|(of, limit)| Budget { of: *of, limit: *limit }).collect(),
    }
}

fn flat(protocol: Protocol, compression: Compression, tagged_percent: u64) -> Case {
    let tagged = match tagged_percent {
        0 => "untagged".to_owned(),
        100 => "tagged".to_owned(),
        percent => format!("{percent} % tagged"),
    };
    let name = format!("{} {}, {tagged}", protocol.name(), compression.name());
    let budget = match (protocol, compression, tagged_percent) {
        (Protocol::Http, Compression::Plain, 0) => &[(Quantity::CpuPerSpan, 0.5)][..],
        (Protocol::Grpc, Compression::Gzip, 0) => &[(Quantity::CpuPerSpan, 0.9)],
        (Protocol::Http | Protocol::Grpc, Compression::Plain | Compression::Gzip, _) => &[],
    };
    Case { protocol, compression, tagged_percent, ..case(&name, budget) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_in_is_measured_untagged_a_little_and_fully_tagged() {
        let names: Vec<String> = cases().into_iter().map(|case| case.name).collect();
        assert_eq!(
            names,
            [
                "idle",
                "http plain, untagged",
                "http gzip, untagged",
                "grpc plain, untagged",
                "grpc gzip, untagged",
                "http plain, 1 % tagged",
                "http gzip, 1 % tagged",
                "grpc plain, 1 % tagged",
                "grpc gzip, 1 % tagged",
                "http plain, tagged",
                "http gzip, tagged",
                "grpc plain, tagged",
                "grpc gzip, tagged",
                "10,000 spans/s",
                "half load, tagged",
                "stalled sink",
            ]
        );
    }

    #[test]
    fn every_budget_of_the_design_has_its_case() {
        let budgets: Vec<(String, Quantity, f64)> = cases()
            .into_iter()
            .flat_map(|case| {
                case.budgets.clone().into_iter().map(move |b| (case.name.clone(), b.of, b.limit))
            })
            .collect();
        assert_eq!(
            budgets,
            [
                ("idle".into(), Quantity::Resident, 24.0),
                ("http plain, untagged".into(), Quantity::CpuPerSpan, 0.5),
                ("grpc gzip, untagged".into(), Quantity::CpuPerSpan, 0.9),
                ("10,000 spans/s".into(), Quantity::CpuPercent, 4.0),
                ("10,000 spans/s".into(), Quantity::Resident, 40.0),
                ("half load, tagged".into(), Quantity::Acknowledgement, 10.0),
                ("stalled sink".into(), Quantity::Resident, 80.0),
            ]
        );
    }
}
