//! A value made of files, and made anew when one of them changes: certificates, tokens, passwords.
//!
//! The files are small and read in place. They are compared by content, so links that are swapped (Kubernetes' secrets) and
//! clocks do not matter. What cannot be read or made keeps the old value, with a warning: a rotation that is half done refuses
//! nobody.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often files are looked at where nothing else is said.
pub const EVERY: Duration = Duration::from_secs(5);

/// The value as of now.
pub struct Watched<T>(RwLock<Arc<T>>);

/// Makes the value of the files' contents, in the order of the paths.
pub type Make<T> = Box<dyn Fn(&[Vec<u8>]) -> anyhow::Result<T> + Send + Sync>;

impl<T> Watched<T> {
    /// The value as of now. Cheap, and never waits for a file.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn contents(paths: &[PathBuf]) -> anyhow::Result<Vec<Vec<u8>>> {
    let read =
        |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()));
    paths.iter().map(read).collect()
}

/// Makes the value, and again after each change until `stop`, or until nobody holds the value any more. Without files it is made once.
///
/// # Errors
/// The first time: a file cannot be read, or the value not made.
pub fn watch<T: Send + Sync + 'static>(
    paths: Vec<PathBuf>,
    every: Duration,
    stop: CancellationToken,
    make: Make<T>,
) -> anyhow::Result<Arc<Watched<T>>> {
    let mut seen = contents(&paths)?;
    let watched = Arc::new(Watched(RwLock::new(Arc::new(make(&seen)?))));
    if paths.is_empty() {
        return Ok(watched);
    }
    let held = Arc::downgrade(&watched);
    tokio::spawn(async move {
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let Some(shared) = held.upgrade() else { return };
            let changed = match contents(&paths) {
                Ok(now) if now == seen => continue,
                Ok(now) => make(&now).map(|value| (now, value)),
                Err(error) => Err(error),
            };
            match changed {
                Ok((now, value)) => {
                    seen = now;
                    *shared.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                    tracing::info!(file = ?paths.first(), "a changed file was taken over");
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, file = ?paths.first(), "a changed file is not usable, keeping what was");
                }
            }
        }
    });
    Ok(watched)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn becomes(watched: &Watched<String>, expected: &str) {
        while *watched.get() != expected {
            tokio::time::sleep(EVERY).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_taken_over_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let make = || -> Make<String> {
            Box::new(|texts| match std::str::from_utf8(&texts[0])? {
                "bad" => anyhow::bail!("it is bad"),
                text => Ok(text.to_owned()),
            })
        };
        let stop = CancellationToken::new();
        assert!(watch(vec![path.clone()], EVERY, stop.clone(), make()).is_err());
        std::fs::write(&path, "one").unwrap();
        let watched = watch(vec![path.clone()], EVERY, stop.clone(), make()).unwrap();
        assert_eq!(*watched.get(), "one");
        std::fs::write(&path, "two").unwrap();
        becomes(&watched, "two").await;
        for bad in [Some("bad"), None] {
            match bad {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            tokio::time::sleep(10 * EVERY).await;
            assert_eq!(*watched.get(), "two", "{bad:?}");
        }
        std::fs::write(&path, "three").unwrap();
        becomes(&watched, "three").await;
        stop.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn files_of_a_value_that_nobody_holds_are_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one").unwrap();
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let make: Make<()> = Box::new(move |_| {
            let _ = &held;
            Ok(())
        });
        let watched = watch(vec![path], EVERY, CancellationToken::new(), make).unwrap();
        tokio::time::sleep(10 * EVERY).await;
        assert_eq!(Arc::strong_count(&alive), 2, "the task looks on");
        drop(watched);
        tokio::time::sleep(2 * EVERY).await;
        assert_eq!(Arc::strong_count(&alive), 1, "the task has ended");
    }
}
