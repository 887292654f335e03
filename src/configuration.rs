//! From `--config` and `--set` to a specification and the settings of every component, with all that is wrong said at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use homeostat_config::{Block, Lookup, Named, Pipeline, Source, Spec, load};
use homeostat_pipeline::budget::{default_bytes, one_request_bytes};
use homeostat_pipeline::registry::{Registration, Role, Settings};
use homeostat_pipeline::settings::{Files, Node, Problem, Value, did_you_mean};

use crate::assemble::used;
use crate::components::sections;
use crate::{admin, cli, extensions, logs, output, tracer};

/// A configuration whose every part was read.
pub struct Configuration {
    /// Pipelines and service.
    pub spec: Spec,
    /// Component id → settings, of what some pipeline names.
    pub receivers: Parts,
    /// Processors and analyzers.
    pub processors: Parts,
    /// Exporters of both kinds.
    pub exporters: Parts,
    /// Extensions that are declared.
    pub extensions: Arc<extensions::Parts>,
    /// The files that the settings name. What analyzers read of them was read once, when the configuration was.
    pub files: Files,
    /// Path as written → content, of the files that are part of settings; none for one that cannot be read.
    pub contents: BTreeMap<String, Option<String>>,
    /// The files that were embedded from the first.
    embedded: BTreeMap<String, String>,
}

/// Component id → settings.
pub type Parts = BTreeMap<String, Arc<dyn Settings>>;

/// The process's environment and files.
struct Process {
    base: PathBuf,
}

impl Lookup for Process {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(self.base.join(path)).map_err(|error| error.to_string())
    }
}

/// Reads what the arguments name. Warnings come beside it.
///
/// # Errors
/// Every mistake that was found, each with its place.
pub fn read(arguments: &cli::Configuration) -> Result<(Configuration, Vec<Problem>), Vec<Problem>> {
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    for path in &arguments.files {
        match std::fs::read_to_string(path) {
            Ok(text) => sources.push(Source { name: path.display().to_string(), text }),
            Err(error) => {
                problems.push(Problem::somewhere(format!(
                    "cannot read the configuration `{}`: {error}",
                    path.display()
                )));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let base = arguments.files.first().and_then(|path| path.parent()).unwrap_or(Path::new("")).to_path_buf();
    from_sources(&sources, &arguments.set, base, BTreeMap::new())
}

/// The same, from texts; `embedded` files come before those on disk.
///
/// # Errors
/// As [`read`]; warnings are among them.
pub fn from_sources(
    sources: &[Source],
    assignments: &[String],
    base: PathBuf,
    embedded: BTreeMap<String, String>,
) -> Result<(Configuration, Vec<Problem>), Vec<Problem>> {
    let (spec, mut problems) = load(sources, assignments, &Process { base: base.clone() })?;
    let mut files = Files { base, embedded: embedded.clone(), parse: homeostat_config::parse };
    let [(_, receivers), (_, processors), (_, exporters)] = sections();
    let receivers = settings(Block::Receivers, &receivers, &spec.receivers, &mut files, &mut problems);
    let processors = settings(Block::Processors, &processors, &spec.processors, &mut files, &mut problems);
    let exporters = settings(Block::Exporters, &exporters, &spec.exporters, &mut files, &mut problems);
    let extensions = extensions::settings(&spec, &files, &mut problems);
    let outline = extensions::outline(&spec, &extensions);
    for part in receivers.values().chain(exporters.values()) {
        let wrong = |(side, auth)| outline.check(side, auth).err();
        problems.extend(part.authenticators().into_iter().filter_map(wrong));
    }
    let own = &spec.service.telemetry;
    problems.extend(logs::check(&own.logs));
    problems.extend(tracer::problems(&own.traces, &files));
    let endpoint = own.metrics.listens_at();
    if let Err(why) = admin::address(&endpoint.value, own.metrics.insecure) {
        problems.push(Problem::error(&endpoint.at, why));
    }
    if let [_, second, ..] = own.metrics.readers.as_slice() {
        let message = "there is a second reader of the metrics (one place serves them: keep one)";
        problems.push(Problem::error(&second.pull.exporter.prometheus.host.at, message));
    }
    let parts = [&receivers, &processors, &exporters].into_iter().flat_map(|parts| parts.values());
    let contents = parts.flat_map(|part| contents(part.as_ref(), &files)).collect();
    let extensions = Arc::new(extensions);
    let configuration =
        Configuration { spec, receivers, processors, exporters, extensions, files, contents, embedded };
    pipelines(&configuration, &mut problems);
    too_large(&configuration, &mut problems);
    problems.sort();
    problems.dedup();
    if problems.iter().all(|problem| problem.is_warning) {
        Ok((configuration, problems))
    } else {
        Err(problems)
    }
}

/// Prints on standard error what is wrong.
pub fn report(problems: &[Problem]) {
    for problem in problems {
        let warning = if problem.is_warning { "warning: " } else { "" };
        output::error(&format!("{warning}{problem}"));
    }
}

/// Whether a problem has been found already within the node: a reference that could not be replaced.
fn is_unresolved(node: &Node, problems: &[Problem]) -> bool {
    let is_here = problems.iter().any(|problem| problem.at.as_ref() == Some(&node.at));
    match &node.value {
        Value::List(nodes) => nodes.iter().any(|node| is_unresolved(node, problems)),
        Value::Map(fields) => fields.iter().any(|field| is_unresolved(&field.node, problems)),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => false,
        Value::Text(_) => is_here,
    }
}

/// An analyzer's files are read once, so that what is checked, what is looked for and what is journalled are the same model.
fn snapshot(settings: &dyn Settings, files: &mut Files) {
    if settings.role() != Role::Analyzer {
        return;
    }
    for path in settings.files() {
        // What cannot be read is said by the check.
        if let Ok(text) = files.text(path, None) {
            files.embedded.insert(path.to_owned(), text);
        }
    }
}

fn contents<'a>(
    settings: &'a dyn Settings,
    files: &'a Files,
) -> impl Iterator<Item = (String, Option<String>)> + 'a {
    settings.files().into_iter().map(|path| (path.to_owned(), files.text(path, None).ok()))
}

fn settings(
    block: Block,
    known: &[Registration],
    declared: &[Named],
    files: &mut Files,
    problems: &mut Vec<Problem>,
) -> Parts {
    let mut parts = Parts::new();
    for named in declared {
        let Some(registration) = known.iter().find(|registration| registration.kind == named.kind) else {
            let near = did_you_mean(&named.kind, known.iter().map(|registration| registration.kind));
            let message = format!("unknown {} type `{}`{near}", block.noun(), named.kind);
            problems.push(Problem::error(&named.at, message));
            continue;
        };
        if is_unresolved(&named.node, problems) {
            continue;
        }
        match (registration.read)(&named.node) {
            Ok(settings) => {
                snapshot(settings.as_ref(), files);
                problems.extend(
                    settings.check(files).into_iter().map(|problem| Problem {
                        at: problem.at.or_else(|| Some(named.at.clone())),
                        ..problem
                    }),
                );
                parts.insert(named.id.clone(), Arc::from(settings));
            }
            Err(problem) => problems.push(problem),
        }
    }
    parts
}

/// Receivers that read requests which the memory budget can never hold.
fn too_large(configuration: &Configuration, problems: &mut Vec<Problem>) {
    let limit = configuration.memory_bytes();
    for named in &configuration.spec.receivers {
        let bytes = configuration.receivers.get(&named.id).and_then(|part| part.request_bytes_max());
        if let Some(bytes) = bytes.filter(|bytes| *bytes > one_request_bytes(limit)) {
            let message = format!(
                "receiver `{}` reads requests of up to {} KiB, and one request may hold half of the memory budget, {} KiB: larger ones are refused (raise `service.memory_mib`, or lower the receiver's limit)",
                named.id,
                bytes.div_ceil(1024),
                one_request_bytes(limit) / 1024
            );
            problems.push(Problem::warning(&named.at, message));
        }
    }
}

/// Whether the components stand where they may stand.
fn pipelines(configuration: &Configuration, problems: &mut Vec<Problem>) {
    let judging: Vec<&Pipeline> = configuration
        .spec
        .service
        .pipelines
        .iter()
        .filter(|pipeline| configuration.judges(pipeline))
        .collect();
    if let [first, second, ..] = judging.as_slice() {
        let message = format!(
            "pipeline `{}` holds an analyzer, and so does `{}` (one pipeline judges; send the signals of both there)",
            second.name, first.name
        );
        problems.push(Problem::error(&second.at, message));
    }
    for pipeline in &configuration.spec.service.pipelines {
        processor_order(configuration, pipeline, problems);
        never_fed(configuration, pipeline, problems);
        // What could not be read may be the analyzer.
        let is_read = pipeline.processors.iter().all(|id| configuration.processors.contains_key(&id.value));
        if configuration.judges(pipeline) || !is_read {
            continue;
        }
        for id in &pipeline.exporters {
            if configuration.exporters.get(&id.value).is_some_and(|part| part.role() == Role::FindingExporter)
            {
                let message = format!(
                    "exporter `{}` gets findings, and pipeline `{}` makes none (add an analyzer such as `homeostasis` to its processors)",
                    id.value, pipeline.name
                );
                problems.push(Problem::error(&id.at, message));
            }
        }
    }
}

/// Requirements that select a signal which their pipeline does not take.
fn never_fed(configuration: &Configuration, pipeline: &Pipeline, problems: &mut Vec<Problem>) {
    let mut missing: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for id in &pipeline.processors {
        let Some(settings) = configuration.processors.get(&id.value) else { continue };
        // What is wrong with the model has been said.
        let Ok(interest) = settings.interest(&configuration.files) else { continue };
        for selection in interest.selections {
            if !pipeline.signals.contains(&selection.signal) {
                missing.entry(selection.signal.name()).or_default().insert(selection.req);
            }
        }
    }
    for (signal, requirements) in missing {
        let requirements: Vec<String> = requirements.iter().map(|req| format!("`{req}`")).collect();
        let message = format!(
            "pipeline `{}` takes no {signal}, and {} select {signal}: that is never found (give the pipeline a name that is no signal, such as `feedback`, and it takes all)",
            pipeline.name,
            requirements.join(", ")
        );
        problems.push(Problem::warning(&pipeline.at, message));
    }
}

fn processor_order(configuration: &Configuration, pipeline: &Pipeline, problems: &mut Vec<Problem>) {
    let mut analyzer = None;
    let mut tag = None;
    let mut filter = None;
    for id in &pipeline.processors {
        let kind = id.value.split_once('/').map_or(id.value.as_str(), |(kind, _)| kind);
        match configuration.processors.get(&id.value).map(|part| part.role()) {
            Some(Role::Analyzer) => analyzer = Some(&id.value),
            Some(_) => {
                if let Some(analyzer) = analyzer {
                    let message = format!(
                        "processor `{}` comes after the analyzer `{analyzer}` (put it before)",
                        id.value
                    );
                    problems.push(Problem::error(&id.at, message));
                }
            }
            None => {}
        }
        match (kind, filter) {
            ("filter", _) => filter = Some(&id.value),
            ("redact" | "tag" | "correlate", Some(filter)) => {
                let message = format!(
                    "processor `{}` comes after `{filter}` (put it before: what is filtered out is judged, and only not forwarded)",
                    id.value
                );
                problems.push(Problem::error(&id.at, message));
            }
            _ => {}
        }
        match (kind, tag) {
            ("tag", Some(tag)) => {
                let message = format!(
                    "processor `{}` comes after `{tag}`: a pipeline is tagged once (put what both look for into one, as `keys` and `aliases`)",
                    id.value
                );
                problems.push(Problem::error(&id.at, message));
            }
            ("tag", None) => tag = Some(&id.value),
            ("redact", Some(tag)) => {
                let message = format!("processor `{}` comes after `{tag}` (redact before tagging)", id.value);
                problems.push(Problem::error(&id.at, message));
            }
            _ => {}
        }
    }
    if let (Some(analyzer), None) = (analyzer, tag) {
        let message = format!(
            "pipeline `{}` judges by `{analyzer}` but nothing finds evidence for it (add `tag` before it)",
            pipeline.name
        );
        problems.push(Problem::warning(&pipeline.at, message));
    }
}

impl Configuration {
    /// The memory budget: the smallest bound that the service or a processor in use sets, else the default.
    pub fn memory_bytes(&self) -> u64 {
        let pipelines = self.spec.service.pipelines.iter();
        let limiters = pipelines.flat_map(|pipeline| &pipeline.processors);
        let limits = limiters.filter_map(|id| self.processors.get(&id.value)?.memory_bytes());
        self.spec.service.memory_bytes.into_iter().chain(limits).min().unwrap_or_else(default_bytes)
    }

    /// The processors that a pipeline names and whose files are looked at without being told.
    fn watched(&self) -> impl Iterator<Item = (&Arc<dyn Settings>, Duration)> {
        let ids = used(self, |pipeline| &pipeline.processors).into_iter();
        ids.filter_map(|id| {
            let part = self.processors.get(id)?;
            Some((part, part.watch_every()?))
        })
    }

    /// How often files are to be looked at; none when no component wants it.
    pub fn watch_every(&self) -> Option<Duration> {
        self.watched().map(|(_, every)| every).min()
    }

    /// The content, as of now, of the files that are watched.
    pub fn watched_contents(&self) -> BTreeMap<String, Option<String>> {
        let files = Files { embedded: self.embedded.clone(), ..self.files.clone() };
        self.watched().flat_map(|(part, _)| contents(part.as_ref(), &files)).collect()
    }

    /// The same configuration with the files of its analyzers as they are now.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn with_new_models(&self) -> Result<Configuration, Vec<Problem>> {
        let mut files = Files { embedded: self.embedded.clone(), ..self.files.clone() };
        let mut again = self.contents.clone();
        let mut problems = Vec::new();
        for part in self.processors.values().filter(|part| part.role() == Role::Analyzer) {
            snapshot(part.as_ref(), &mut files);
            problems.extend(part.check(&files).into_iter().filter(|problem| !problem.is_warning));
            again.extend(contents(part.as_ref(), &files));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Configuration {
            spec: self.spec.clone(),
            receivers: self.receivers.clone(),
            processors: self.processors.clone(),
            exporters: self.exporters.clone(),
            extensions: Arc::clone(&self.extensions),
            files,
            contents: again,
            embedded: self.embedded.clone(),
        })
    }

    /// Whether the pipeline holds an analyzer.
    pub fn judges(&self, pipeline: &Pipeline) -> bool {
        pipeline
            .processors
            .iter()
            .any(|id| self.processors.get(&id.value).is_some_and(|part| part.role() == Role::Analyzer))
    }
}
