//! Named points at which a test can kill the process: `HOMEOSTAT_CRASH_AT=ledger.appended` or `…:3` for the third time.
//! Without the variable a point costs one load of a static.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Plan {
    name: String,
    remaining: AtomicU64,
}

static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

fn plan() -> Option<&'static Plan> {
    PLAN.get_or_init(|| {
        let text = std::env::var("HOMEOSTAT_CRASH_AT").ok()?;
        let (name, times) = match text.rsplit_once(':') {
            Some((name, times)) => (name.to_owned(), times.parse().unwrap_or(1)),
            None => (text, 1),
        };
        Some(Plan { name, remaining: AtomicU64::new(times) })
    })
    .as_ref()
}

/// Dies here, without unwinding and without flushing anything, when the environment names this point.
pub fn point(name: &str) {
    if let Some(plan) = plan()
        && plan.name == name
        && plan.remaining.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}
