//! Tasks in the background that have something to finish when the process stops, and that it waits for.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What those that are told that their time is over have left to say where they are.
pub const LAST: Duration = Duration::from_millis(500);

/// All of them. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
    over: CancellationToken,
}

impl Tasks {
    /// Runs `task`; the stop of the process waits for its end.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Cancelled when the process stops: nobody brings anything more, and what can be finished is.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Cancelled when the time for that is over, [`LAST`] before the task is cut off.
    pub fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// Tells all of them that the process stops, and waits for them: until `deadline`, and then [`LAST`].
    pub async fn finish(&self, deadline: Instant) {
        self.stopping.cancel();
        self.tracker.close();
        if timeout_at(deadline, self.tracker.wait()).await.is_ok() {
            return;
        }
        self.over.cancel();
        if timeout(LAST, self.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = self.tracker.len(), "some background tasks did not end in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a stop takes that leaves 5 s to a task that ends `told` after it was told, or at once when its time is over.
    async fn check(told: Duration, heeds: bool, expected: Duration) {
        let (tasks, start) = (Tasks::default(), Instant::now());
        let own = tasks.clone();
        tasks.spawn(async move {
            own.stopping().cancelled().await;
            let over = async {
                own.over().cancelled().await;
                if !heeds {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(told) => {}
                () = over => {}
            }
        });
        tasks.finish(start + Duration::from_secs(5)).await;
        assert_eq!(start.elapsed(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_what_ends_in_time_and_no_longer_for_what_does_not() {
        check(Duration::from_secs(2), true, Duration::from_secs(2)).await;
        check(Duration::from_secs(60), true, Duration::from_secs(5)).await;
        check(Duration::from_secs(60), false, Duration::from_secs(5) + LAST).await;
        Tasks::default().finish(Instant::now()).await;
    }
}
