//! Scenarios: telemetry at times under a manual clock, and the deviations that must come of it. Real OTLP requests go through the
//! walk, the real `tag`, the real evidence schema and the real analyzer; only sockets and disks are left out.

mod file;
mod request;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use homeostat_pipeline::batch::{Batch, Compression, Content, Frame, Telemetry};
use homeostat_pipeline::budget::Budget;
use homeostat_pipeline::checkpoint::KeyedState;
use homeostat_pipeline::clock::{ManualClock, Timestamp};
use homeostat_pipeline::contract::{Analyzer, Processor};
use homeostat_pipeline::entry::{Decision, Entry, Epoch, Event, EvidenceEvent, Offset, Request};
use homeostat_pipeline::evidence::schema;
use homeostat_pipeline::finding::{Behavior, Deviation, Finding};
use homeostat_pipeline::interest::Interest;
use homeostat_pipeline::otlp::walk;
use homeostat_pipeline::registry::{Component, Context, Settings};
use homeostat_pipeline::settings::{Files, parse_period, read};
use homeostat_pipeline::sockets::Sockets;
use homeostat_pipeline::tasks::Tasks;

pub use file::{Decided, Expected, ExpectedBehavior, Scenario};

use crate::schema::check_finding;

/// Windows are aligned to the epoch; so is the start of every scenario, to the hour.
const START: i64 = 1_764_770_400;
const MODEL_FILE: &str = "model.yml";

/// Reads a scenario.
///
/// # Errors
/// What does not fit, with its place.
pub fn load(path: &Path) -> anyhow::Result<Scenario> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let node = homeostat_config::parse(&name, &text).map_err(|problem| anyhow::anyhow!("{problem}"))?;
    read(&node).map_err(|problem| anyhow::anyhow!("{problem}"))
}

/// An instant of the scenario.
pub fn at(since_start: Duration) -> Timestamp {
    Timestamp::from_millis(START * 1_000) + since_start
}

/// As a listener would have journalled it.
fn decision(decided: &Decided) -> anyhow::Result<Decision> {
    let mut subject = BTreeMap::new();
    for (key, text) in &decided.about {
        let text = match text.strip_prefix('+') {
            Some(period) => at(parse_period(period).map_err(anyhow::Error::msg)?).to_string(),
            None => text.clone(),
        };
        subject.insert(key.clone(), text);
    }
    Ok(Decision { kind: decided.kind.clone(), author: decided.by.clone(), subject })
}

/// The components of a scenario: one pipeline `[tag, homeostasis]`.
pub struct Bench {
    tag: Arc<dyn Processor>,
    homeostasis: Box<dyn Settings>,
    context: Context,
    epoch: Epoch,
}

fn settings(kind: &str, yaml: &str) -> anyhow::Result<Box<dyn Settings>> {
    let list = homeostat_processors::list();
    let registration =
        list.iter().find(|registration| registration.kind == kind).context("it is in the list")?;
    let node = homeostat_config::parse(kind, yaml).map_err(|problem| anyhow::anyhow!("{problem}"))?;
    (registration.read)(&node).map_err(|problem| anyhow::anyhow!("{problem}"))
}

impl Bench {
    /// Opens the components with the scenario's model.
    ///
    /// # Errors
    /// The model is wrong.
    pub async fn open(model: &str) -> anyhow::Result<Bench> {
        let files = Files {
            base: PathBuf::new(),
            embedded: BTreeMap::from([(MODEL_FILE.to_owned(), model.to_owned())]),
            parse: homeostat_config::parse,
        };
        let homeostasis = settings("homeostasis", &format!("{{ model: {MODEL_FILE} }}"))?;
        let problem = |problem| anyhow::anyhow!("{problem}");
        let interest = homeostasis.interest(&files).map_err(problem)?;
        let epoch =
            homeostasis.epoch("homeostasis", &files).map_err(problem)?.context("a model is an epoch")?;
        let mut context = Context {
            id: "tag".to_owned(),
            clock: Arc::new(ManualClock::at(at(Duration::ZERO))),
            budget: Budget::new(1 << 20),
            directory: None,
            files,
            interest: Arc::new(interest),
            ledger: None,
            extensions: Arc::default(),
            sockets: Sockets::default(),
            stop: tokio_util::sync::CancellationToken::new(),
            tasks: Tasks::default(),
        };
        let Component::Processor(tag) = settings("tag", "{}")?.open(context.clone()).await? else {
            anyhow::bail!("`tag` is a processor");
        };
        "homeostasis".clone_into(&mut context.id);
        context.interest = Arc::new(Interest::default());
        Ok(Bench { tag, homeostasis, context, epoch })
    }

    async fn analyzer(&self) -> anyhow::Result<Box<dyn Analyzer>> {
        match self.homeostasis.open(self.context.clone()).await? {
            Component::Analyzer(analyzer) => Ok(analyzer),
            Component::Receiver(_)
            | Component::Processor(_)
            | Component::TelemetryExporter(_)
            | Component::FindingExporter(_) => anyhow::bail!("`homeostasis` is an analyzer"),
        }
    }

    /// The journal that the scenario leaves: the model, what is sent when it is sent, and a tick every second.
    ///
    /// # Errors
    /// A request cannot be made or is refused.
    pub fn journal(&self, scenario: &Scenario) -> anyhow::Result<Vec<Entry>> {
        let mut events = vec![(at(Duration::ZERO), Event::Epoch(self.epoch.clone()))];
        for (number, sent) in scenario.sendings().iter().enumerate() {
            let when = at(sent.at);
            if let Some(model) = &sent.model {
                let problem = |problem| anyhow::anyhow!("{problem}");
                let mut context = self.context.clone();
                context.files.embedded.insert(MODEL_FILE.to_owned(), model.clone());
                let epoch = self.homeostasis.epoch("homeostasis", &context.files).map_err(problem)?;
                events.push((when, Event::Epoch(epoch.context("a model is an epoch")?)));
            }
            if let Some(decided) = &sent.decision {
                events.push((when, Event::Decision(decision(decided)?)));
            }
            for (signal, body) in request::requests(sent, when, number) {
                events.extend(self.evidence(signal, body)?.map(|event| (when, event)));
            }
        }
        let seconds = scenario.until().as_secs();
        events.extend((0..=seconds).map(|second| (at(Duration::from_secs(second)), Event::Tick)));
        // Stable: what is sent at the instant of a tick comes before it.
        events.sort_by_key(|(time, _)| *time);
        Ok((0..)
            .zip(events)
            .map(|(offset, (time, event))| Entry { offset: Offset(offset), time, event })
            .collect())
    }

    /// Walk, tag, schema.
    fn evidence(
        &self,
        signal: homeostat_pipeline::batch::Signal,
        body: bytes::Bytes,
    ) -> anyhow::Result<Option<Event>> {
        let records = walk(signal, &body).map_err(|malformed| anyhow::anyhow!("{malformed}"))?;
        let frame = Frame { content: Content::Protobuf, compression: Compression::None, bytes: body.clone() };
        let telemetry = Telemetry { signal, frame, body, records };
        let hash = telemetry.hash();
        let mut out = Vec::new();
        self.tag.process(Batch::Telemetry(telemetry), &mut out)?;
        for batch in out {
            match batch {
                Batch::Evidence(mut rows) if !rows.is_empty() => {
                    let source = rows.intern("otlp");
                    rows.rows_mut().iter_mut().for_each(|row| row.source = source);
                    let requests = vec![Request { hash, rows: u32::try_from(rows.len())? }];
                    let batch = schema::build(&[&rows])?;
                    return Ok(Some(Event::Evidence(EvidenceEvent { requests, batch })));
                }
                Batch::Evidence(_) | Batch::Telemetry(_) | Batch::Alerts(_) => {}
            }
        }
        Ok(None)
    }

    /// Folds the journal, and holds what is found to its schema; with `split`, a checkpoint is written after so many entries and another analyzer goes on from it.
    ///
    /// # Errors
    /// Those of the checkpoint.
    pub async fn fold(&self, journal: &[Entry], split: Option<usize>) -> anyhow::Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut analyzer = self.analyzer().await?;
        for (number, entry) in journal.iter().enumerate() {
            if split == Some(number) {
                let mut state = Memory::default();
                analyzer.checkpoint(&mut state)?;
                analyzer = self.analyzer().await?;
                analyzer.restore(&state)?;
            }
            analyzer.apply(entry, &mut findings);
        }
        findings.iter().for_each(check_finding);
        Ok(findings)
    }
}

#[derive(Default)]
struct Memory(BTreeMap<Vec<u8>, Vec<u8>>);

impl KeyedState for Memory {
    fn get(&self, key: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }
    fn put(&mut self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        self.0.insert(key.to_owned(), value.to_owned());
        Ok(())
    }
    fn remove(&mut self, key: &[u8]) -> anyhow::Result<()> {
        self.0.remove(key);
        Ok(())
    }
    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.0
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .try_for_each(|(key, value)| visit(key, value))
    }
}

/// The deviations of findings, in order.
pub fn deviations(findings: &[Finding]) -> Vec<Deviation> {
    findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Deviation(deviation) => Some((**deviation).clone()),
            Finding::Behaviors { .. }
            | Finding::Model(_)
            | Finding::Silence(_)
            | Finding::Threshold(_)
            | Finding::Notice(_) => None,
        })
        .collect()
}

/// The behaviors of findings, in order.
pub fn behaviors(findings: &[Finding]) -> Vec<Behavior> {
    findings
        .iter()
        .flat_map(|finding| match finding {
            Finding::Behaviors { behaviors } => behaviors.clone(),
            Finding::Deviation(_)
            | Finding::Model(_)
            | Finding::Silence(_)
            | Finding::Threshold(_)
            | Finding::Notice(_) => Vec::new(),
        })
        .collect()
}

/// What differs between what a scenario expects and what came; empty when nothing does.
pub fn compare(scenario: &Scenario, findings: &[Finding]) -> String {
    let mut report = String::new();
    let got = deviations(findings);
    let mut uids: BTreeMap<&str, &str> = BTreeMap::new();
    for (number, (expected, deviation)) in scenario.expect.iter().zip(&got).enumerate() {
        let mut faults = expected.faults(deviation);
        if let Some(name) = &expected.deviation {
            let known = uids.entry(name).or_insert(&deviation.uid);
            if *known != deviation.uid {
                faults.push(format!("{name} has another uid than before"));
            }
        }
        for fault in faults {
            let _ = writeln!(report, "step {}: {fault}", number + 1);
        }
    }
    let distinct: std::collections::BTreeSet<&&str> = uids.values().collect();
    if distinct.len() != uids.len() {
        report.push_str("two deviations of the scenario have one uid\n");
    }
    let all = behaviors(findings);
    for expected in &scenario.behaviors {
        if !all.iter().any(|behavior| expected.is(behavior)) {
            let _ = writeln!(report, "no behavior is {expected:?}");
        }
    }
    if got.len() != scenario.expect.len() {
        let _ = writeln!(report, "{} steps were expected, {} came", scenario.expect.len(), got.len());
    }
    if !report.is_empty() {
        for deviation in &got {
            let _ = writeln!(report, "came: {}", file::shown(deviation));
        }
    }
    report
}
