//! Named points at which a test can kill the process: `HOMEOSTAT_CRASH_AT=ledger.appended` or `…:3` for the third time.
//! Without the variable a point costs one load of a static.
//!
//! | point | where it dies |
//! | --- | --- |
//! | `journal.synced` | a group commit is on disk, nobody was answered |
//! | `ledger.before_append` | findings are concluded, none is appended |
//! | `ledger.appended` | they are on disk, no cursor and no checkpoint knows of them |
//! | `checkpoint.before_commit` | the transaction is written, not committed |
//! | `checkpoint.after_commit` | it is committed |
//! | `spool.synced` | requests of an exporter's queue are on disk, nobody was answered |
//! | `spool.cursor_saved` | it is on disk how far that queue was sent |
//! | `recovery.replaying` | while the journal is replayed after a start |

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
