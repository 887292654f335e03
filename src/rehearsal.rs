//! A model, `tag` and `homeostasis` without engine, journal or disk: what `replay` and `test` run telemetry through. Its clock moves
//! only when it is told to, so the same telemetry gives the same deviations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use homeostat_pipeline::batch::{Batch, Compression, Content, Frame, Signal, Telemetry};
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::contract::{Analyzer as _, Processor as _};
use homeostat_pipeline::entry::{Entry, Epoch, Event, EvidenceEvent, Offset};
use homeostat_pipeline::evidence::{Row, Rows, schema};
use homeostat_pipeline::finding::{Deviation, Finding};
use homeostat_pipeline::interest::Selection;
use homeostat_pipeline::otlp::walk;
use homeostat_pipeline::settings::{Files, Position, Problem};
use homeostat_processors::homeostasis::fold::{Account, Fold, FoldSettings, Tally};
use homeostat_processors::homeostasis::model::{Model, Sources, Text};
use homeostat_processors::tag::{Tag, Tagger};

/// The id under which the model's epoch reaches the fold.
const COMPONENT: &str = "homeostasis";
const SUBJECTS_MAX: usize = 100_000;
/// Ticks are entries, one a second, as in a running pipeline.
pub const TICK: Duration = Duration::from_secs(1);
/// More ticks than this are not made of one gap; they come less often instead.
const TICKS_MAX: u64 = 1_000_000;

/// A model as a file says it.
pub struct ModelFile {
    /// The file.
    pub path: PathBuf,
    /// All of its texts, as the journal keeps them.
    text: String,
    /// What it says.
    pub model: Model,
    /// What is unusual about it.
    pub warnings: Vec<Problem>,
}

impl ModelFile {
    /// Reads a model, judged by severity rules where there are some: as `homeostasis` does.
    ///
    /// # Errors
    /// Every mistake, each with its line; `at` is the place that names the file, where there is one.
    pub fn read(
        path: &Path,
        at: Option<&Position>,
        severity_rules: Option<(&Path, Option<&Position>)>,
    ) -> anyhow::Result<ModelFile> {
        let files = Files { base: PathBuf::new(), embedded: BTreeMap::new(), parse: homeostat_config::parse };
        let text = |(path, at): (&Path, Option<&Position>)| -> anyhow::Result<Text> {
            let name = path.to_string_lossy().into_owned();
            Ok(Text { text: files.text(&name, at)?, name })
        };
        let severity_rules = severity_rules.map(text).transpose()?;
        let sources = Sources { model: text((path, at))?, severity_rules };
        match sources.read(files.parse) {
            Ok((model, warnings)) => {
                Ok(ModelFile { path: path.to_owned(), text: sources.content(), model, warnings })
            }
            Err(problems) => {
                let errors: Vec<String> =
                    problems.iter().filter(|problem| !problem.is_warning).map(ToString::to_string).collect();
                bail!("the model cannot be used:\n{}", errors.join("\n"))
            }
        }
    }
}

/// What `tag` makes of an OTLP message of so many records that has passed the walk.
///
/// # Errors
/// It refuses the message.
pub fn tag(tagger: &Tagger, signal: Signal, body: Bytes, records: u64) -> anyhow::Result<Rows> {
    let frame = Frame { content: Content::Protobuf, compression: Compression::None, bytes: body.clone() };
    let mut out = Vec::new();
    tagger
        .process(Batch::Telemetry(Telemetry { signal, frame, body, records }), &mut out)
        .map_err(|refusal| anyhow!("{refusal}"))?;
    let rows = out.into_iter().find_map(|batch| match batch {
        Batch::Evidence(rows) => Some(rows),
        Batch::Telemetry(_) | Batch::Alerts(_) => None,
    });
    Ok(rows.unwrap_or_default())
}

/// A model that telemetry runs through.
pub struct Rehearsal {
    tagger: Arc<Tagger>,
    fold: Fold,
    /// The next entry's.
    offset: u64,
    /// The last tick; none before the first.
    now: Option<Timestamp>,
    epoch: Option<Epoch>,
    found: Vec<Finding>,
    /// Every recorded step of every deviation, with the tick that found it.
    pub steps: Vec<(Timestamp, Deviation)>,
    /// What the fold wants said.
    pub notices: Vec<String>,
}

impl Rehearsal {
    /// Opens a model; `selections` are looked for beside its own.
    ///
    /// # Errors
    /// None that a model which was read can have.
    pub fn open(file: &ModelFile, selections: Vec<Selection>) -> anyhow::Result<Rehearsal> {
        let mut interest = file.model.interest();
        interest.selections.extend(selections);
        let tagger = Arc::new(Tag::default().tagger(&interest)?);
        let mut fold = Fold::new(FoldSettings {
            id: COMPONENT.to_owned(),
            tenant: String::new(),
            subjects_max: SUBJECTS_MAX,
            parse: homeostat_config::parse,
        });
        fold.keep_accounts();
        let hash = file.model.hash.clone();
        let epoch = Epoch { component: COMPONENT.to_owned(), hash, content: file.text.clone() };
        Ok(Rehearsal {
            tagger,
            fold,
            offset: 0,
            now: None,
            epoch: Some(epoch),
            found: Vec::new(),
            steps: Vec::new(),
            notices: Vec::new(),
        })
    }

    /// Its `tag`, for who makes rows in other threads.
    pub fn tagger(&self) -> Arc<Tagger> {
        Arc::clone(&self.tagger)
    }

    /// What its `tag` makes of an OTLP message.
    ///
    /// # Errors
    /// The message is malformed.
    pub fn tag(&self, signal: Signal, body: Bytes) -> anyhow::Result<Rows> {
        let records = walk(signal, &body).map_err(|malformed| anyhow!("{malformed}"))?;
        tag(&self.tagger, signal, body, records)
    }

    /// Ticks every second up to and with the last one before or at `to`; the first call begins there.
    pub fn tick_to(&mut self, to: Timestamp) {
        let to = to.floor(TICK);
        let Some(now) = self.now else {
            self.now = Some(to);
            if let Some(epoch) = self.epoch.take() {
                self.apply(Event::Epoch(epoch), to);
            }
            self.apply(Event::Tick, to);
            return;
        };
        let stride = TICK * u32::try_from(1 + to.since(now).as_secs() / TICKS_MAX).unwrap_or(u32::MAX);
        let mut at = now;
        while at < to {
            at = (at + stride).min(to);
            self.now = Some(at);
            self.apply(Event::Tick, at);
        }
    }

    /// Folds rows; each tick of `clock` comes before the first row that moves the clock past it. How rows come together in calls
    /// changes nothing.
    ///
    /// # Errors
    /// The rows do not fit into columns.
    pub fn fold(
        &mut self,
        groups: &[&Rows],
        clock: &mut dyn FnMut(&Row) -> Option<Timestamp>,
    ) -> anyhow::Result<()> {
        if groups.iter().all(|group| group.is_empty()) {
            return Ok(());
        }
        let batch = schema::build(groups).context("the evidence does not fit into columns")?;
        let mut start = 0;
        for (place, row) in groups.iter().flat_map(|group| group.rows()).enumerate() {
            let Some(at) = clock(row).map(|at| at.floor(TICK)) else { continue };
            if self.now.is_some_and(|now| at <= now) {
                continue;
            }
            // What has no time and comes before all that has one is folded with it: there is no model before the first tick.
            if self.now.is_some() {
                let batch = batch.slice(start, place - start);
                self.evidence(EvidenceEvent { requests: Vec::new(), batch });
                start = place;
            }
            self.tick_to(at);
        }
        let left = batch.num_rows() - start;
        self.evidence(EvidenceEvent { requests: Vec::new(), batch: batch.slice(start, left) });
        Ok(())
    }

    fn evidence(&mut self, event: EvidenceEvent) {
        if event.batch.num_rows() > 0 {
            let now = self.now.unwrap_or(Timestamp::ZERO);
            self.apply(Event::Evidence(event), now);
        }
    }

    fn apply(&mut self, event: Event, time: Timestamp) {
        let entry = Entry { offset: Offset(self.offset), time, event };
        self.offset += 1;
        self.fold.apply(&entry, &mut self.found);
        for finding in self.found.drain(..) {
            match finding {
                Finding::Deviation(deviation) => self.steps.push((time, *deviation)),
                Finding::Notice(notice) => self.notices.push(notice.message),
                Finding::Behaviors { .. }
                | Finding::Model(_)
                | Finding::Silence(_)
                | Finding::Threshold(_) => {}
            }
        }
    }

    /// The judgements since the last call.
    pub fn accounts(&mut self) -> Vec<Account> {
        self.fold.take_accounts()
    }

    /// What became of rows.
    pub fn tally(&self) -> Tally {
        self.fold.tally()
    }
}
