//! The process's own figures under the Collector's names, read from `/proc/self`.

use homeostat_pipeline::clock::Timestamp;
use metrics::{counter, gauge};

/// Linux reports CPU time in hundredths of a second to user space, whatever the kernel's own tick.
const TICKS_PER_SECOND: f64 = 100.0;

/// Sets the gauges; `started` is when the process began.
pub fn observe(started: Timestamp, now: Timestamp) {
    gauge!("otelcol_process_uptime").set(now.since(started).as_secs_f64());
    if let Some(bytes) = resident_bytes() {
        #[expect(clippy::cast_precision_loss, reason = "no machine has 2^53 bytes")]
        gauge!("otelcol_process_memory_rss").set(bytes as f64);
    }
    if let Some(milliseconds) = cpu_milliseconds() {
        counter!("homeostat_process_cpu_milliseconds_total").absolute(milliseconds);
        #[expect(clippy::cast_precision_loss, reason = "2^53 ms of CPU time are 285,000 years")]
        gauge!("otelcol_process_cpu_seconds").set(milliseconds as f64 / 1e3);
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "CPU time is positive and small")]
fn cpu_milliseconds() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name may hold spaces; the fields after the last parenthesis start with the third, so utime is the 12th of them.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let user: f64 = fields.get(11)?.parse().ok()?;
    let system: f64 = fields.get(12)?.parse().ok()?;
    Some(((user + system) * 1e3 / TICKS_PER_SECOND) as u64)
}
