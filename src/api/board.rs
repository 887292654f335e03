//! What the ledger says of deviations and silences: a projection in memory, which can be thrown away and comes out the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{
    Deviation, Finding, ModelChanged, Silence, SilenceChange, ThresholdAdjusted,
};
use homeostat_pipeline::ledger::{LedgerItem, LedgerReader};

/// At most so many deviations are known; those that ended longest ago go first.
const DEVIATIONS_MAX: usize = 10_000;
/// At most so many updates of the model are known; those that were approved longest ago go first.
const UPDATES_MAX: usize = 20_000;
/// How long a silence is listed after its end.
const SILENCES_KEPT: Duration = Duration::from_secs(86_400);

/// The projection.
#[derive(Default)]
pub struct Board {
    /// The sequence that comes next.
    next: u64,
    /// By uid.
    deviations: BTreeMap<String, Deviation>,
    /// Whether it is live, when it last changed, and its uid: who goes first comes first.
    order: BTreeSet<(bool, Timestamp, String)>,
    silences: BTreeMap<String, Silence>,
    /// The one that holds.
    model: Option<ModelChanged>,
    /// By when they were approved, and id.
    updates: BTreeMap<(Timestamp, String), ThresholdAdjusted>,
}

impl Board {
    /// Takes in what was appended since the last time. Blocking.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn catch_up(&mut self, ledger: &LedgerReader) -> std::io::Result<()> {
        let last = ledger.last();
        if self.next > last {
            return Ok(());
        }
        for item in ledger.read_from(self.next) {
            match item? {
                LedgerItem::Entry(entry) => {
                    self.next = entry.sequence + 1;
                    self.take(entry.finding);
                }
                LedgerItem::Pruned { sequence } => self.next = sequence + 1,
                LedgerItem::Gap { to, .. } => self.next = self.next.max(to),
            }
        }
        Ok(())
    }

    fn take(&mut self, finding: Finding) {
        match finding {
            Finding::Deviation(deviation) => self.deviation(*deviation),
            Finding::Silence(silence) => {
                let now = silence.at;
                self.silences.insert(silence.id.clone(), silence);
                self.silences.retain(|_, known| {
                    known.change == SilenceChange::Created || known.ends_at + SILENCES_KEPT > now
                });
            }
            Finding::Model(model) => self.model = Some(model),
            Finding::Threshold(adjusted) => {
                self.updates.insert((adjusted.approved_at, adjusted.id.clone()), adjusted);
                if self.updates.len() > UPDATES_MAX {
                    self.updates.pop_first();
                }
            }
            Finding::Behaviors { .. } | Finding::Notice(_) => {}
        }
    }

    fn deviation(&mut self, deviation: Deviation) {
        let key = |one: &Deviation| (one.status.is_live(), one.at, one.uid.clone());
        self.order.insert(key(&deviation));
        if let Some(before) = self.deviations.insert(deviation.uid.clone(), deviation.clone())
            && key(&before) != key(&deviation)
        {
            self.order.remove(&key(&before));
        }
        if self.deviations.len() > DEVIATIONS_MAX
            && let Some((_, _, uid)) = self.order.pop_first()
        {
            self.deviations.remove(&uid);
        }
    }

    /// Those that `wanted` takes: live ones first, the worst of them first, then by when they changed, newest first.
    pub fn deviations(&self, wanted: impl Fn(&Deviation) -> bool) -> Vec<&Deviation> {
        let mut found: Vec<&Deviation> = self.deviations.values().filter(|one| wanted(one)).collect();
        let key =
            |one: &Deviation| (one.status.is_live(), one.status.is_live().then_some(one.severity), one.at);
        found.sort_by(|a, b| key(b).cmp(&key(a)).then_with(|| a.uid.cmp(&b.uid)));
        found
    }

    /// The deviation with this uid, or this id for people.
    pub fn deviation_of(&self, name: &str) -> Option<&Deviation> {
        let by_id = || self.deviations.values().find(|one| one.deviation_id == name);
        self.deviations.get(name).or_else(by_id)
    }

    /// Those that hold or will hold; with `all` also those that ended within a day. By when they end, then by id.
    pub fn silences(&self, all: bool) -> Vec<&Silence> {
        let is_wanted = |one: &&Silence| all || one.change == SilenceChange::Created;
        let mut found: Vec<&Silence> = self.silences.values().filter(is_wanted).collect();
        found.sort_by(|a, b| (a.ends_at, &a.id).cmp(&(b.ends_at, &b.id)));
        found
    }

    /// The model that holds.
    pub fn model(&self) -> Option<&ModelChanged> {
        self.model.as_ref()
    }

    /// Thresholds that people adjusted, void ones too, in the order of their approval.
    pub fn updates(&self) -> Vec<&ThresholdAdjusted> {
        self.updates.values().collect()
    }

    /// The silence with this id.
    pub fn silence_of(&self, id: &str) -> Option<&Silence> {
        self.silences.get(id)
    }
}
