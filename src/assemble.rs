//! From settings to running components, in the order of the start: exporters, analyzers, processors, receivers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use futures::FutureExt;
use homeostat_config::Service;
use homeostat_pipeline::budget::Budget;
use homeostat_pipeline::clock::Clock;
use homeostat_pipeline::contract::{FindingExporter, Processor, Receiver, TelemetryExporter};
use homeostat_pipeline::engine::{AnalyzerSlot, EngineSettings, Pipeline, Plan};
use homeostat_pipeline::interest::Interest;
use homeostat_pipeline::registry::{Component, Context, Role, Settings};
use homeostat_pipeline::storage::{StorageSettings, Store};
use tokio_util::sync::CancellationToken;

use crate::configuration::Configuration;
use crate::extensions;

/// Space that is left to others on the journal's disk.
const FREE_BYTES_MIN: u64 = 512 << 20;

/// Everything opened, nothing running.
pub struct Assembly {
    /// For the engine.
    pub plan: Plan,
    /// Component id and receiver, bound.
    pub receivers: Vec<(String, Box<dyn Receiver>)>,
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

/// Opens every component that a pipeline names.
///
/// # Errors
/// Names the component that cannot be opened, and why.
pub async fn assemble(
    configuration: &Configuration,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> anyhow::Result<Assembly> {
    let service = &configuration.spec.service;
    let store = Store::open(&storage(service))?;
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
        extensions: Arc::new(extensions::open(
            &configuration.spec,
            &configuration.extensions,
            &configuration.files,
            &stop,
        )?),
        stop,
    };
    let mut opener = Opener { base, components: store.components.clone() };
    let exporters = open_exporters(configuration, &opener).await?;
    let analyzers = analyzers(configuration, &opener)?;
    opener.base.interest = Arc::new(interest(configuration)?);
    let processors = open_processors(configuration, &opener).await?;
    let receivers = open_receivers(configuration, &opener).await?;
    let settings =
        EngineSettings { behavior_age_max: storage(service).behavior_age_max, ..EngineSettings::default() };
    let pipelines = service
        .pipelines
        .iter()
        .map(|pipeline| Pipeline {
            name: pipeline.name.clone(),
            signals: pipeline.signals.clone(),
            receivers: pipeline.receivers.iter().map(|id| id.value.clone()).collect(),
            processors: named(&pipeline.processors, &processors),
            telemetry_exporters: named(&pipeline.exporters, &exporters.telemetry),
            judges: configuration.judges(pipeline),
        })
        .collect();
    let finding_exporters = exporters.finding.into_iter().collect();
    let plan = Plan { store, clock, budget, analyzers, finding_exporters, pipelines, settings };
    Ok(Assembly { plan, receivers })
}

fn named<T: Clone>(
    ids: &[homeostat_pipeline::settings::At<String>],
    opened: &BTreeMap<String, T>,
) -> Vec<(String, T)> {
    ids.iter().filter_map(|id| opened.get(&id.value).map(|one| (id.value.clone(), one.clone()))).collect()
}

struct Opener {
    base: Context,
    components: Option<PathBuf>,
}

impl Opener {
    fn context(&self, id: &str) -> Context {
        let directory = self.components.as_ref().map(|folder| folder.join(id.replace('/', "-")));
        Context { id: id.to_owned(), directory, ..self.base.clone() }
    }

    async fn open(&self, id: &str, settings: &dyn Settings) -> anyhow::Result<Component> {
        settings.open(self.context(id)).await.with_context(|| format!("cannot start `{id}`"))
    }
}

/// The ids that some pipeline names, each once.
fn used<'a>(
    configuration: &'a Configuration,
    ids: impl Fn(&'a homeostat_config::Pipeline) -> &'a [homeostat_pipeline::settings::At<String>],
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

struct Exporters {
    telemetry: BTreeMap<String, Arc<dyn TelemetryExporter>>,
    finding: BTreeMap<String, Arc<dyn FindingExporter>>,
}

async fn open_exporters(configuration: &Configuration, opener: &Opener) -> anyhow::Result<Exporters> {
    let mut exporters = Exporters { telemetry: BTreeMap::new(), finding: BTreeMap::new() };
    for id in used(configuration, |pipeline| &pipeline.exporters) {
        let Some(settings) = configuration.exporters.get(id) else { continue };
        match opener.open(id, settings.as_ref()).await? {
            Component::TelemetryExporter(exporter) => {
                exporters.telemetry.insert(id.to_owned(), exporter);
            }
            Component::FindingExporter(exporter) => {
                exporters.finding.insert(id.to_owned(), exporter);
            }
            Component::Receiver(_) | Component::Processor(_) | Component::Analyzer(_) => {
                bail!("`{id}` opened as something that is no exporter")
            }
        }
    }
    Ok(exporters)
}

/// The analyzers among the processors, in the order of the pipeline that holds them.
fn analyzer_ids(configuration: &Configuration) -> Vec<&str> {
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

fn interest(configuration: &Configuration) -> anyhow::Result<Interest> {
    let mut interest = Interest::default();
    for id in analyzer_ids(configuration) {
        if let Some(settings) = configuration.processors.get(id) {
            interest.merge(settings.interest(&configuration.files)?);
        }
    }
    Ok(interest)
}

async fn open_processors(
    configuration: &Configuration,
    opener: &Opener,
) -> anyhow::Result<BTreeMap<String, Arc<dyn Processor>>> {
    let mut processors = BTreeMap::new();
    for id in used(configuration, |pipeline| &pipeline.processors) {
        let Some(settings) = configuration.processors.get(id) else { continue };
        if settings.role() == Role::Analyzer {
            continue;
        }
        match opener.open(id, settings.as_ref()).await? {
            Component::Processor(processor) => processors.insert(id.to_owned(), processor),
            Component::Receiver(_)
            | Component::Analyzer(_)
            | Component::TelemetryExporter(_)
            | Component::FindingExporter(_) => bail!("`{id}` opened as something that is no processor"),
        };
    }
    Ok(processors)
}

async fn open_receivers(
    configuration: &Configuration,
    opener: &Opener,
) -> anyhow::Result<Vec<(String, Box<dyn Receiver>)>> {
    let mut receivers = Vec::new();
    for id in used(configuration, |pipeline| &pipeline.receivers) {
        let Some(settings) = configuration.receivers.get(id) else { continue };
        match opener.open(id, settings.as_ref()).await? {
            Component::Receiver(receiver) => receivers.push((id.to_owned(), receiver)),
            Component::Processor(_)
            | Component::Analyzer(_)
            | Component::TelemetryExporter(_)
            | Component::FindingExporter(_) => bail!("`{id}` opened as something that is no receiver"),
        }
    }
    Ok(receivers)
}
