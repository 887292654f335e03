//! From settings to components, in the order of the start: exporters, analyzers, processors, receivers. A reload opens only what
//! has changed, and takes the rest from what runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use futures::FutureExt;
use homeostat_config::Service;
use homeostat_pipeline::budget::Budget;
use homeostat_pipeline::clock::Clock;
use homeostat_pipeline::contract::{FindingExporter, Processor, Receiver, TelemetryExporter};
use homeostat_pipeline::engine::{AnalyzerSlot, EngineSettings, Pipeline, Plan};
use homeostat_pipeline::entry::Epoch;
use homeostat_pipeline::extension::Extensions;
use homeostat_pipeline::interest::Interest;
use homeostat_pipeline::merging::Merging;
use homeostat_pipeline::registry::{Component, Context, Role, Settings};
use homeostat_pipeline::settings::{At, Files};
use homeostat_pipeline::sockets::Sockets;
use homeostat_pipeline::storage::{StorageSettings, Store};
use homeostat_pipeline::tasks::Tasks;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::changes::Changes;
use crate::configuration::Configuration;
use crate::extensions;
use crate::living::Living;

/// Space that is left to others on the journal's disk.
const FREE_BYTES_MIN: u64 = 512 << 20;

/// Everything opened, nothing running.
pub struct Assembly {
    /// For the engine.
    pub plan: Plan,
    /// What the pipelines are made of.
    pub opened: Opened,
    /// Opens the components of another configuration later.
    pub opener: Opener,
}

/// The components of a configuration, opened, each once.
#[derive(Default)]
pub struct Opened {
    /// Authenticators.
    pub extensions: Arc<Extensions>,
    /// Exporter id → exporter.
    pub telemetry: BTreeMap<String, Arc<dyn TelemetryExporter>>,
    /// Exporter id → exporter.
    pub finding: BTreeMap<String, Arc<dyn FindingExporter>>,
    /// Processor id → processor.
    pub processors: BTreeMap<String, Arc<dyn Processor>>,
    /// What merges before the telemetry exporters of the pipelines.
    pub mergings: BTreeMap<Place, Arc<Merging>>,
    /// Bound, and not yet running; those that run already are not here.
    pub receivers: Vec<OpenedReceiver>,
}

/// Where requests are merged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pipeline: String,
    processor: String,
    exporter: String,
}

impl Place {
    fn new(pipeline: &homeostat_config::Pipeline, processor: &At<String>, exporter: &str) -> Place {
        let (pipeline, processor) = (pipeline.name.clone(), processor.value.clone());
        Place { pipeline, processor, exporter: exporter.to_owned() }
    }
}

/// A receiver that is bound.
pub struct OpenedReceiver {
    /// Its id.
    pub id: String,
    /// Itself.
    pub receiver: Box<dyn Receiver>,
    /// Its background tasks end when this is dropped.
    pub life: DropGuard,
}

/// What stays from the configuration before.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    /// What runs.
    pub opened: &'a Opened,
    /// What may not be taken of it.
    pub changes: &'a Changes,
}

/// `service.storage` as the store takes it.
pub fn storage(service: &Service) -> StorageSettings {
    let storage = service.storage.clone().unwrap_or_default();
    StorageSettings {
        directory: service.storage.as_ref().map(|storage| PathBuf::from(&storage.directory)),
        journal_age_max: storage.journal.max_age.0,
        journal_bytes_max: storage.journal.max_mib << 20,
        free_bytes_min: FREE_BYTES_MIN,
        behavior_age_max: storage.keep_behaviors.0,
    }
}

/// Opens the store, and every component that a pipeline names.
///
/// # Errors
/// Names the component that cannot be opened, and why.
pub async fn assemble(
    configuration: &Configuration,
    clock: Arc<dyn Clock>,
    sockets: Sockets,
    stop: CancellationToken,
) -> anyhow::Result<Assembly> {
    let service = &configuration.spec.service;
    let storage_settings = storage(service);
    let store = tokio::task::spawn_blocking(move || Store::open(&storage_settings)).await??;
    if service.storage.is_none() {
        tracing::warn!("`service.storage: none`: what was answered OK does not survive the process");
    }
    let budget = Budget::new(configuration.memory_bytes());
    let base = Context {
        id: String::new(),
        clock: Arc::clone(&clock),
        budget: budget.clone(),
        directory: None,
        files: configuration.files.clone(),
        interest: Arc::new(Interest::default()),
        ledger: Some(Arc::new(store.ledger.reader())),
        extensions: Arc::default(),
        sockets,
        stop,
        tasks: Tasks::default(),
    };
    let opener = Opener { base, components: store.components.clone() };
    let opened = opener.open_all(configuration, None).await?;
    say_stranded(configuration, opener.components.as_deref());
    let analyzers = analyzers(configuration, &opener)?;
    let settings =
        EngineSettings { behavior_age_max: storage(service).behavior_age_max, ..EngineSettings::default() };
    let pipelines = pipelines(configuration, &opened);
    let finding_exporters = opened.finding.clone().into_iter().collect();
    let plan = Plan { store, clock, budget, analyzers, finding_exporters, pipelines, settings };
    Ok(Assembly { plan, opened, opener })
}

/// Says which queues on disk nobody sends, because no pipeline names their exporter any more.
fn say_stranded(configuration: &Configuration, components: Option<&Path>) {
    let ids = used(configuration, |pipeline| &pipeline.exporters).into_iter();
    let is_queued = |id: &&str| configuration.exporters.get(*id).is_some_and(|part| part.is_exclusive());
    let named: Vec<PathBuf> = ids.filter(is_queued).map(folder).collect();
    let folders = components.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten();
    for entry in folders.flatten().filter(|entry| !named.contains(&entry.file_name().into())) {
        let folder = entry.path();
        let requests = homeostat_exporters::otlp::waiting_requests(&folder);
        if requests > 0 {
            let folder = folder.display().to_string();
            tracing::warn!(
                requests,
                folder,
                "requests wait in the queue of an exporter that has none now: name it in a pipeline with `sending_queue`, or remove the folder"
            );
        }
    }
}

/// Below `components/`, where the component `id` keeps what it has.
fn folder(id: &str) -> PathBuf {
    id.replace('/', "-").into()
}

/// The pipelines, of what is opened.
pub fn pipelines(configuration: &Configuration, opened: &Opened) -> Vec<Pipeline> {
    let pipelines = configuration.spec.service.pipelines.iter();
    pipelines
        .map(|pipeline| Pipeline {
            name: pipeline.name.clone(),
            signals: pipeline.signals.clone(),
            receivers: pipeline.receivers.iter().map(|id| id.value.clone()).collect(),
            processors: named(&pipeline.processors, &opened.processors),
            telemetry_exporters: merged(pipeline, opened),
            judges: configuration.judges(pipeline),
        })
        .collect()
}

fn named<T: Clone>(ids: &[At<String>], opened: &BTreeMap<String, T>) -> Vec<(String, T)> {
    ids.iter().filter_map(|id| opened.get(&id.value).map(|one| (id.value.clone(), one.clone()))).collect()
}

/// The pipeline's exporters behind what merges before them.
fn merged(
    pipeline: &homeostat_config::Pipeline,
    opened: &Opened,
) -> Vec<(String, Arc<dyn TelemetryExporter>)> {
    let mut exporters = named(&pipeline.exporters, &opened.telemetry);
    for (id, exporter) in &mut exporters {
        let first = pipeline.processors.iter().find_map(|processor| {
            let merging = opened.mergings.get(&Place::new(pipeline, processor, id))?;
            Some(Arc::clone(merging) as Arc<dyn TelemetryExporter>)
        });
        if let Some(first) = first {
            *exporter = first;
        }
    }
    exporters
}

/// What merges, one for each pipeline, each of its processors that wants it, and each exporter. One that would be the same is
/// taken from `before`: requests that wait there meet those that come, and who took what is not forgotten.
fn mergings(
    configuration: &Configuration,
    opened: &Opened,
    before: Option<&Opened>,
    budget: &Budget,
) -> BTreeMap<Place, Arc<Merging>> {
    let mut mergings = BTreeMap::new();
    for pipeline in &configuration.spec.service.pipelines {
        for (id, mut exporter) in named(&pipeline.exporters, &opened.telemetry) {
            // From the last to the first, so that the first one in the YAML is also the first that a request meets.
            for processor in pipeline.processors.iter().rev() {
                let merging = configuration.processors.get(&processor.value).and_then(|part| part.merging());
                let Some(limits) = merging else { continue };
                let place = Place::new(pipeline, processor, &id);
                let same = before
                    .and_then(|before| before.mergings.get(&place))
                    .filter(|merging| merging.leads_to(&exporter, &limits));
                let merging = same.map_or_else(
                    || Arc::new(Merging::new(&processor.value, &id, &exporter, &limits, budget)),
                    Arc::clone,
                );
                exporter = Arc::clone(&merging) as Arc<dyn TelemetryExporter>;
                mergings.insert(place, merging);
            }
        }
    }
    mergings
}

/// The ids that some pipeline names, each once.
pub fn used<'a>(
    configuration: &'a Configuration,
    ids: impl Fn(&'a homeostat_config::Pipeline) -> &'a [At<String>],
) -> Vec<&'a str> {
    let mut used = Vec::new();
    for pipeline in &configuration.spec.service.pipelines {
        for id in ids(pipeline) {
            if !used.contains(&id.value.as_str()) {
                used.push(id.value.as_str());
            }
        }
    }
    used
}

/// Opens components.
pub struct Opener {
    base: Context,
    components: Option<PathBuf>,
}

impl Opener {
    /// The process's budget.
    pub fn budget(&self) -> &Budget {
        &self.base.budget
    }

    /// The background tasks of all components.
    pub fn tasks(&self) -> &Tasks {
        &self.base.tasks
    }

    /// Opens what the pipelines of `configuration` name and `kept` does not have.
    ///
    /// # Errors
    /// Names the component that cannot be opened, and why; what was opened before it is closed.
    pub async fn open_all(
        &self,
        configuration: &Configuration,
        kept: Option<Kept<'_>>,
    ) -> anyhow::Result<Opened> {
        let extensions = extensions::open(configuration, kept, &self.base.stop)?;
        let base = Context {
            files: configuration.files.clone(),
            interest: Arc::new(interest(configuration)?),
            extensions: Arc::new(extensions),
            ..self.base.clone()
        };
        let opener = Opener { base, components: self.components.clone() };
        let mut opened = Opened { extensions: opener.base.extensions.clone(), ..Opened::default() };
        opener.open_exporters(configuration, kept, &mut opened).await?;
        opener.open_processors(configuration, kept, &mut opened).await?;
        opener.open_receivers(configuration, kept, &mut opened).await?;
        opened.mergings = mergings(configuration, &opened, kept.map(|kept| kept.opened), self.budget());
        Ok(opened)
    }

    fn context(&self, id: &str) -> Context {
        let directory = self.components.as_ref().map(|components| components.join(folder(id)));
        let stop = self.base.stop.child_token();
        Context { id: id.to_owned(), directory, stop, ..self.base.clone() }
    }

    /// The component, and what its background tasks live by.
    async fn open(&self, id: &str, settings: &dyn Settings) -> anyhow::Result<(Component, DropGuard)> {
        let context = self.context(id);
        let life = context.stop.clone().drop_guard();
        let component = settings.open(context).await.with_context(|| format!("cannot start `{id}`"))?;
        Ok((component, life))
    }

    /// An exporter that no pipeline names; it lives as long as the process.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn telemetry_exporter(
        &self,
        id: &str,
        settings: &dyn Settings,
        files: &Files,
    ) -> anyhow::Result<Arc<dyn TelemetryExporter>> {
        let context = Context { id: id.to_owned(), files: files.clone(), ..self.base.clone() };
        match settings.open(context).await.with_context(|| format!("cannot start `{id}`"))? {
            Component::TelemetryExporter(exporter) => Ok(exporter),
            Component::Receiver(_)
            | Component::Processor(_)
            | Component::Analyzer(_)
            | Component::FindingExporter(_) => bail!("`{id}` opened as something that is no exporter"),
        }
    }

    async fn open_exporters(
        &self,
        configuration: &Configuration,
        kept: Option<Kept<'_>>,
        opened: &mut Opened,
    ) -> anyhow::Result<()> {
        for id in used(configuration, |pipeline| &pipeline.exporters) {
            let kept = kept.filter(|kept| !kept.changes.exporters.contains_key(id)).map(|kept| kept.opened);
            if let Some(exporter) = kept.and_then(|kept| kept.telemetry.get(id)) {
                opened.telemetry.insert(id.to_owned(), Arc::clone(exporter));
                continue;
            }
            if let Some(exporter) = kept.and_then(|kept| kept.finding.get(id)) {
                opened.finding.insert(id.to_owned(), Arc::clone(exporter));
                continue;
            }
            let Some(settings) = configuration.exporters.get(id) else { continue };
            let (component, life) = self.open(id, settings.as_ref()).await?;
            match component {
                Component::TelemetryExporter(exporter) => {
                    opened.telemetry.insert(id.to_owned(), Arc::new(Living::new(exporter, life)));
                }
                Component::FindingExporter(exporter) => {
                    opened.finding.insert(id.to_owned(), Arc::new(Living::new(exporter, life)));
                }
                Component::Receiver(_) | Component::Processor(_) | Component::Analyzer(_) => {
                    bail!("`{id}` opened as something that is no exporter")
                }
            }
        }
        Ok(())
    }

    async fn open_processors(
        &self,
        configuration: &Configuration,
        kept: Option<Kept<'_>>,
        opened: &mut Opened,
    ) -> anyhow::Result<()> {
        for id in used(configuration, |pipeline| &pipeline.processors) {
            let Some(settings) = configuration.processors.get(id) else { continue };
            if settings.role() == Role::Analyzer {
                continue;
            }
            let kept = kept.filter(|kept| !kept.changes.processors.contains_key(id));
            if let Some(processor) = kept.and_then(|kept| kept.opened.processors.get(id)) {
                opened.processors.insert(id.to_owned(), Arc::clone(processor));
                continue;
            }
            // A pure function has nothing in the background.
            match self.open(id, settings.as_ref()).await?.0 {
                Component::Processor(processor) => opened.processors.insert(id.to_owned(), processor),
                Component::Receiver(_)
                | Component::Analyzer(_)
                | Component::TelemetryExporter(_)
                | Component::FindingExporter(_) => bail!("`{id}` opened as something that is no processor"),
            };
        }
        Ok(())
    }

    async fn open_receivers(
        &self,
        configuration: &Configuration,
        kept: Option<Kept<'_>>,
        opened: &mut Opened,
    ) -> anyhow::Result<()> {
        for id in used(configuration, |pipeline| &pipeline.receivers) {
            if kept.is_some_and(|kept| !kept.changes.receivers.contains_key(id)) {
                continue;
            }
            let Some(settings) = configuration.receivers.get(id) else { continue };
            let (component, life) = self.open(id, settings.as_ref()).await?;
            match component {
                Component::Receiver(receiver) => {
                    opened.receivers.push(OpenedReceiver { id: id.to_owned(), receiver, life });
                }
                Component::Processor(_)
                | Component::Analyzer(_)
                | Component::TelemetryExporter(_)
                | Component::FindingExporter(_) => bail!("`{id}` opened as something that is no receiver"),
            }
        }
        Ok(())
    }
}

/// The analyzers among the processors, in the order of the pipeline that holds them.
pub fn analyzer_ids(configuration: &Configuration) -> Vec<&str> {
    used(configuration, |pipeline| &pipeline.processors)
        .into_iter()
        .filter(|id| configuration.processors.get(*id).is_some_and(|part| part.role() == Role::Analyzer))
        .collect()
}

/// The fold opens its analyzers itself, more than once when one of them panics.
pub fn analyzers_of(configuration: &Configuration, context: &Context) -> anyhow::Result<Vec<AnalyzerSlot>> {
    let opener = Opener { base: context.clone(), components: None };
    analyzers(configuration, &opener)
}

fn analyzers(configuration: &Configuration, opener: &Opener) -> anyhow::Result<Vec<AnalyzerSlot>> {
    let mut slots = Vec::new();
    for id in analyzer_ids(configuration) {
        let Some(settings) = configuration.processors.get(id) else { continue };
        let epoch = settings.epoch(id, &configuration.files)?;
        let (settings, context) = (Arc::clone(settings), opener.context(id));
        let open = Box::new(move || match settings.open(context.clone()).now_or_never() {
            Some(Ok(Component::Analyzer(analyzer))) => Ok(analyzer),
            Some(Ok(_)) => bail!("`{}` opened as something that is no analyzer", context.id),
            Some(Err(error)) => Err(error.context(format!("cannot start `{}`", context.id))),
            None => bail!("`{}` waits for something while it opens; an analyzer must not", context.id),
        });
        slots.push(AnalyzerSlot { id: id.to_owned(), epoch, open });
    }
    Ok(slots)
}

/// What the analyzers judge by.
///
/// # Errors
/// A model is wrong; a configuration that was checked has none.
pub fn epochs(configuration: &Configuration) -> anyhow::Result<Vec<Epoch>> {
    let mut epochs = Vec::new();
    for id in analyzer_ids(configuration) {
        if let Some(settings) = configuration.processors.get(id) {
            epochs.extend(settings.epoch(id, &configuration.files)?);
        }
    }
    Ok(epochs)
}

/// What the analyzers want found.
///
/// # Errors
/// As [`epochs`].
pub fn interest(configuration: &Configuration) -> anyhow::Result<Interest> {
    let mut interest = Interest::default();
    for id in analyzer_ids(configuration) {
        if let Some(settings) = configuration.processors.get(id) {
            interest.merge(settings.interest(&configuration.files)?);
        }
    }
    Ok(interest)
}

#[cfg(test)]
mod tests;
