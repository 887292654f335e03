//! What is counted of a queue. What was sent counts under the Collector's names, as it does without one.

use homeostat_pipeline::batch::Signal;
use metrics::{Counter, counter};

/// Of one signal.
pub struct OfSignal {
    /// Records that the backend took.
    pub sent: Counter,
    /// Records that it never will take.
    pub failed: Counter,
    /// Records of requests that the queue did not take.
    pub enqueue_failed: Counter,
}

/// Of one exporter.
pub struct Meters {
    signals: [OfSignal; 3],
}

impl Meters {
    /// For the exporter `id`.
    pub fn new(id: &str) -> Meters {
        let label = || id.to_owned();
        Meters {
            signals: Signal::ALL.map(|signal| match signal {
                Signal::Traces => OfSignal {
                    sent: counter!("otelcol_exporter_sent_spans", "exporter" => label()),
                    failed: counter!("otelcol_exporter_send_failed_spans", "exporter" => label()),
                    enqueue_failed: counter!("otelcol_exporter_enqueue_failed_spans", "exporter" => label()),
                },
                Signal::Metrics => OfSignal {
                    sent: counter!("otelcol_exporter_sent_metric_points", "exporter" => label()),
                    failed: counter!("otelcol_exporter_send_failed_metric_points", "exporter" => label()),
                    enqueue_failed: counter!("otelcol_exporter_enqueue_failed_metric_points", "exporter" => label()),
                },
                Signal::Logs => OfSignal {
                    sent: counter!("otelcol_exporter_sent_log_records", "exporter" => label()),
                    failed: counter!("otelcol_exporter_send_failed_log_records", "exporter" => label()),
                    enqueue_failed: counter!("otelcol_exporter_enqueue_failed_log_records", "exporter" => label()),
                },
            }),
        }
    }

    /// Those of `signal`.
    pub fn of(&self, signal: Signal) -> &OfSignal {
        match signal {
            Signal::Traces => &self.signals[0],
            Signal::Metrics => &self.signals[1],
            Signal::Logs => &self.signals[2],
        }
    }
}
