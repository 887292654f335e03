//! A reload: all or nothing, and without dropping a connection or a window. First it is known what differs, then everything that is
//! new is opened, then changed models are journalled, and only then does the running instance change, which cannot fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use homeostat_pipeline::clock::{Clock, SystemClock};
use homeostat_pipeline::settings::Problem;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::assemble::{Kept, Opened, epochs, pipelines};
use crate::changes::{Change, Changes, changes};
use crate::cli;
use crate::configuration::{self, Configuration};
use crate::extensions;
use crate::run::Instance;

/// Why a reload is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// SIGHUP: the whole configuration is read again.
    Signal,
    /// A file that is watched changed: only the models are read again, for nobody said that the configuration is done.
    Files,
}

/// What was opened for the new configuration.
struct Ready {
    opened: Opened,
    checks: Vec<(String, extensions::Bound)>,
}

/// Reloads, and says in log and metrics what came of it. Dropped half way it leaves an instance that can only be stopped.
pub async fn reload(instance: &mut Instance, trigger: Trigger, arguments: &cli::Configuration) {
    let read = match trigger {
        Trigger::Signal => configuration::read(arguments),
        Trigger::Files => instance.configuration().with_new_models().map(|new| (new, Vec::new())),
    };
    let outcome = match read {
        Ok((new, warnings)) => {
            for warning in &warnings {
                tracing::warn!("{warning}");
            }
            instance.reload(Arc::new(new)).await
        }
        Err(problems) => Err(problems),
    };
    match outcome {
        Ok(changes) => {
            let word = if changes.is_empty() { "unchanged" } else { "applied" };
            count(word);
            succeeded();
            tracing::info!(changes = %changes, "the configuration was reloaded");
        }
        Err(problems) => {
            count("refused");
            metrics::gauge!("homeostat_config_last_reload_successful").set(0.0);
            for problem in problems.iter().filter(|problem| !problem.is_warning) {
                tracing::error!("{problem}");
            }
            tracing::error!("the reload is refused, and what ran before goes on unchanged");
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("homeostat_config_reloads_total", "outcome" => outcome).increment(1);
}

/// The configuration that runs is the one that was asked for, as of now.
pub fn succeeded() {
    metrics::gauge!("homeostat_config_last_reload_successful").set(1.0);
    let seconds = SystemClock.now().as_nanos() as f64 / 1e9;
    metrics::gauge!("homeostat_config_last_reload_success_timestamp_seconds").set(seconds);
}

impl Instance {
    /// Goes over to `new`, or stays as it is.
    ///
    /// # Errors
    /// Everything that is in the way.
    pub async fn reload(&mut self, new: Arc<Configuration>) -> Result<Changes, Vec<Problem>> {
        let changes = changes(&self.configuration, &new);
        if !changes.restart.is_empty() {
            return Err(changes.restart);
        }
        // Two instances of one sink must not write at the same time, and what a new one reads while it opens must be all that
        // the old one wrote.
        let is_moving =
            |id: &&str| matches!(changes.exporters.get(*id), Some(Change::Changed | Change::Removed));
        let moving: Vec<&str> = self.opened.finding.keys().map(String::as_str).filter(is_moving).collect();
        self.engine.pause_delivery(&moving).await;
        let ready = self.make_ready(&new, &changes).await;
        match ready {
            Ok(ready) => {
                self.swap(&new, &changes, ready);
                Ok(changes)
            }
            Err(error) => {
                for id in moving {
                    if let Some(exporter) = self.opened.finding.get(id) {
                        self.engine.deliver(id, Arc::clone(exporter));
                    }
                }
                Err(vec![Problem::somewhere(format!("{error:#}"))])
            }
        }
    }

    /// Everything that can fail.
    async fn make_ready(&self, new: &Configuration, changes: &Changes) -> anyhow::Result<Ready> {
        let gone = |by_id: &BTreeMap<String, Change>| {
            let ids = by_id.iter().filter(|(_, change)| **change != Change::Added);
            ids.map(|(id, _)| id.clone()).collect::<Vec<_>>()
        };
        let shown = extensions::shown(&self.configuration);
        let offered = [gone(&changes.receivers), gone(&changes.extensions), shown].concat();
        self.sockets.offer(&offered.iter().map(String::as_str).collect::<Vec<_>>());
        let ready = self.open(new, changes).await;
        self.sockets.offer(&[]);
        let ready = ready?;
        let is_refused = |refusal| anyhow::anyhow!("the new model cannot be journalled: {refusal}");
        self.engine.journal_epochs(epochs(new)?).await.map_err(is_refused)?;
        Ok(ready)
    }

    async fn open(&self, new: &Configuration, changes: &Changes) -> anyhow::Result<Ready> {
        let opened = self.opener.open_all(new, Some(Kept { opened: &self.opened, changes })).await?;
        let checks = extensions::bind(new, Some(changes), &self.sockets)?;
        Ok(Ready { opened, checks })
    }

    /// Nothing of this can fail.
    fn swap(&mut self, new: &Arc<Configuration>, changes: &Changes, ready: Ready) {
        let Ready { mut opened, checks } = ready;
        if new.memory_bytes() != self.opener.budget().limit_bytes() {
            self.opener.budget().set_limit_bytes(new.memory_bytes());
        }
        self.engine.rewire(&pipelines(new, &opened));
        for (id, change) in &changes.exporters {
            match change {
                Change::Removed => self.engine.forget_delivery(id),
                // A telemetry exporter is in the pipelines.
                Change::Added | Change::Changed => {
                    if let Some(exporter) = opened.finding.get(id) {
                        self.engine.deliver(id, Arc::clone(exporter));
                    }
                }
            }
        }
        for receiver in std::mem::take(&mut opened.receivers) {
            self.receivers.start(receiver, &self.engine);
        }
        let removed = |by_id: &BTreeMap<String, Change>| {
            let ids = by_id.iter().filter(|(_, change)| **change == Change::Removed);
            ids.map(|(id, _)| id.clone()).collect::<Vec<_>>()
        };
        for id in removed(&changes.receivers) {
            self.receivers.retire(&id);
        }
        for (id, check) in checks {
            self.serve_check(id, check);
        }
        for id in removed(&changes.extensions) {
            self.end_check(&id);
        }
        self.opened = opened;
        self.shutdown = new.spec.service.shutdown;
        self.addresses = self.receivers.addresses();
        self.configuration = Arc::clone(new);
    }
}

/// Looks at the files that components want watched.
pub struct FileWatch {
    interval: Option<Interval>,
    seen: BTreeMap<String, Option<String>>,
}

impl FileWatch {
    /// Those of a configuration, as it has read them.
    pub fn of(configuration: &Configuration) -> FileWatch {
        let timer = |every: Duration| {
            let mut interval = interval(every);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let seen = configuration.watched_contents();
        // What changed while the configuration was being read is a change too.
        let seen = seen.into_keys().map(|path| {
            let content = configuration.contents.get(&path).cloned().flatten();
            (path, content)
        });
        FileWatch { interval: configuration.watch_every().map(timer), seen: seen.collect() }
    }

    /// Resolves when one of them has another content than when this looked last. A content that was refused is so seen once.
    pub async fn changed(&mut self, configuration: &Configuration) {
        let Some(interval) = &mut self.interval else { return std::future::pending().await };
        loop {
            interval.tick().await;
            let now = configuration.watched_contents();
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }
}
