//! What the terminal shows as it happens: each window's measures against their thresholds, and each step of a deviation.

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{Behavior, Deviation, Finding, Severity, Status};

use crate::output;

/// Columns of the plot.
const WIDTH: usize = 30;

/// What is plotted: spec node, measure, its critical threshold, its name for people, and how a value is written.
struct Gauge {
    spec_node: &'static str,
    measure: &'static str,
    critical: f64,
    title: &'static str,
    write: fn(f64) -> String,
}

const GAUGES: [Gauge; 2] = [
    Gauge {
        spec_node: "sea:auth:Login",
        measure: "p95_latency_ms",
        critical: 500.0,
        title: "login p95",
        write: |value| format!("{value:.0} ms"),
    },
    Gauge {
        spec_node: "sea:orders:Checkout",
        measure: "error_rate",
        critical: 0.05,
        title: "checkout errors",
        write: |value| format!("{:.1} %", value * 100.0),
    },
];

/// Prints; colours only where someone looks.
pub struct Screen {
    started: Timestamp,
    is_colored: bool,
}

impl Screen {
    /// A screen whose clock begins at `started`.
    pub fn new(started: Timestamp, is_colored: bool) -> Screen {
        Screen { started, is_colored }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.is_colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn at(&self, at: Timestamp) -> String {
        format!("{:6.1} s", at.since(self.started).as_secs_f64())
    }

    /// A headline of the story.
    pub fn headline(&self, at: Timestamp, text: &str) {
        output::line(&format!("\n{}  {}", self.at(at), self.paint("1", text)));
    }

    /// One finding; those that are nothing to see are passed over.
    pub fn show(&self, finding: &Finding) {
        match finding {
            Finding::Behaviors { behaviors } => behaviors.iter().for_each(|behavior| self.behavior(behavior)),
            Finding::Deviation(deviation) => self.deviation(deviation),
            Finding::Model(_) | Finding::Silence(_) | Finding::Threshold(_) | Finding::Notice(_) => {}
        }
    }

    fn behavior(&self, behavior: &Behavior) {
        for gauge in GAUGES.iter().filter(|gauge| gauge.spec_node == behavior.spec_node_id) {
            let Some(measure) = behavior.measures.get(gauge.measure) else { continue };
            let text = format!(
                "{}  {:<16}{:>9}  {}  limit {}",
                self.at(behavior.window_end),
                gauge.title,
                (gauge.write)(measure.value),
                self.plot(measure.value, gauge.critical),
                (gauge.write)(gauge.critical),
            );
            output::line(&text);
        }
    }

    /// A bar with a mark where the limit is, at two thirds of the width.
    fn plot(&self, value: f64, critical: f64) -> String {
        let limit = WIDTH * 2 / 3;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few columns"
        )]
        let filled = ((value / critical * limit as f64).round().max(0.0) as usize).min(WIDTH);
        let bar: String = (0..WIDTH)
            .map(|column| match (column < filled, column == limit) {
                (true, _) => '█',
                (false, true) => '│',
                (false, false) => '·',
            })
            .collect();
        self.paint(if value > critical { "31" } else { "32" }, &bar)
    }

    fn deviation(&self, deviation: &Deviation) {
        let color = match (deviation.status, deviation.severity) {
            (Status::Open | Status::Acknowledged, Severity::Critical) => "1;31",
            (Status::Open | Status::Acknowledged, Severity::Low | Severity::Medium | Severity::High) => {
                "1;33"
            }
            (Status::Recovering | Status::Expired, _) => "36",
            (Status::Resolved | Status::Verified, _) => "1;32",
        };
        let event = deviation.transition.event().trim_start_matches("deviation_");
        let head = format!(
            "{} {} {} {}",
            deviation.deviation_id,
            deviation.req_id,
            deviation.severity.name(),
            event
        );
        output::line(&format!(
            "{}  {} — {}",
            self.at(deviation.at),
            self.paint(color, &head),
            deviation.reason
        ));
    }
}
