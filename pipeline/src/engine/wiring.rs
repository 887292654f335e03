//! Which way the batches of a receiver go, as of now. A reload swaps the whole of it; what began on the old one ends there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use super::forward::{Memory, Outlet};
use super::plan::Pipeline;
use super::stage::Stage;
use crate::batch::{Batch, Signal};
use crate::contract::{Processor, TelemetryExporter};
use crate::refusal::Refusal;

/// Exporters whose deliveries of one request are told apart.
const BITS: usize = 64;

/// What becomes of a receiver's batches in one pipeline.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) signals: Vec<Signal>,
    pub(super) processors: Vec<Arc<Stage>>,
    pub(super) outlets: Vec<Arc<Outlet>>,
    pub(super) judges: bool,
}

impl Route {
    /// The batch through the processors, in order.
    pub(super) fn process(&self, batch: Batch) -> Result<Vec<Batch>, Refusal> {
        let mut batches = vec![batch];
        let mut next = Vec::new();
        for processor in &self.processors {
            for batch in batches.drain(..) {
                processor.process(batch, &mut next)?;
            }
            std::mem::swap(&mut batches, &mut next);
        }
        Ok(batches)
    }
}

/// Receiver id → its part of the pipelines, in YAML order.
type Routes = BTreeMap<String, Arc<[Route]>>;

/// The routes that hold now, and those that receivers which no pipeline names any more had last: what their connections still
/// bring goes that way until they have ended.
#[derive(Default)]
struct Ways {
    now: Routes,
    leaving: Routes,
}

/// The ways, and whose the bits are.
#[derive(Default)]
pub(super) struct Wiring {
    ways: RwLock<Ways>,
    outlets: Mutex<Outlets>,
}

/// Exporter id, and which instance: a pipeline that merges before an exporter has one of its own.
type Way = (String, usize);

fn way(id: &str, exporter: &Arc<dyn TelemetryExporter>) -> Way {
    (id.to_owned(), Arc::as_ptr(exporter).addr())
}

/// One outlet for each instance of an exporter, however many pipelines have it.
#[derive(Default)]
struct Outlets {
    now: BTreeMap<Way, Arc<Outlet>>,
    /// By bit; a bit is free when no request under way can bring its owner's outcome any more.
    owners: Vec<Weak<Outlet>>,
}

impl Wiring {
    /// The routes of one receiver, none when it has ended: a read lock that is taken for a write only by a reload, a look-up among
    /// a few names, and a reference count.
    pub(super) fn of(&self, receiver: &str) -> Option<Arc<[Route]>> {
        let ways = self.ways.read().unwrap_or_else(PoisonError::into_inner);
        ways.now.get(receiver).or_else(|| ways.leaving.get(receiver)).cloned()
    }

    /// A receiver that no pipeline names any more has ended, and with it its way.
    pub(super) fn left(&self, receiver: &str) {
        let gone = self.ways.write().unwrap_or_else(PoisonError::into_inner).leaving.remove(receiver);
        // What ends with its exporters does so outside the lock.
        drop(gone);
    }

    /// From now on requests take these ways. An exporter that is the same instance stays the same outlet: it is not asked again
    /// for what it has taken. Another instance is another backend, and is.
    pub(super) fn set(&self, pipelines: &[Pipeline], memory: &Memory) {
        let mut outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = BTreeMap::new();
        for (id, exporter) in pipelines.iter().flat_map(|pipeline| &pipeline.telemetry_exporters) {
            now.entry(way(id, exporter)).or_insert_with(|| outlets.outlet(id, exporter, memory));
        }
        let routes = routes(pipelines, &now);
        outlets.now = now;
        let mut ways = self.ways.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut ways.now, routes);
        let Ways { now, leaving } = &mut *ways;
        leaving.extend(before);
        leaving.retain(|receiver, _| !now.contains_key(receiver));
    }
}

impl Outlets {
    fn outlet(&mut self, id: &str, exporter: &Arc<dyn TelemetryExporter>, memory: &Memory) -> Arc<Outlet> {
        if let Some(same) = self.now.get(&way(id, exporter)).filter(|outlet| outlet.leads_to(exporter)) {
            return Arc::clone(same);
        }
        let free = self.owners.iter().position(|owner| owner.strong_count() == 0);
        let number = free.unwrap_or(self.owners.len());
        // Exporters beyond the 64th are not remembered.
        let bit = if number < BITS { 1 << number } else { 0 };
        let outlet = Arc::new(Outlet::new(id, bit, Arc::clone(exporter)));
        if free.is_some() {
            memory.forget(bit);
        }
        match self.owners.get_mut(number) {
            Some(owner) => *owner = Arc::downgrade(&outlet),
            None if number < BITS => self.owners.push(Arc::downgrade(&outlet)),
            None => {}
        }
        outlet
    }
}

fn routes<'a>(pipelines: &'a [Pipeline], outlets: &BTreeMap<Way, Arc<Outlet>>) -> Routes {
    let mut stages: BTreeMap<&str, Arc<Stage>> = BTreeMap::new();
    let mut stage = |id: &'a str, processor: &Arc<dyn Processor>| {
        let new = || Arc::new(Stage::new(id, processor.clone()));
        stages.entry(id).or_insert_with(new).clone()
    };
    let mut routes: BTreeMap<String, Vec<Route>> = BTreeMap::new();
    for pipeline in pipelines {
        let route = Route {
            signals: pipeline.signals.clone(),
            processors: pipeline.processors.iter().map(|(id, processor)| stage(id, processor)).collect(),
            outlets: pipeline
                .telemetry_exporters
                .iter()
                .filter_map(|(id, exporter)| outlets.get(&way(id, exporter)).cloned())
                .collect(),
            judges: pipeline.judges,
        };
        for receiver in &pipeline.receivers {
            routes.entry(receiver.clone()).or_default().push(route.clone());
        }
    }
    routes.into_iter().map(|(receiver, routes)| (receiver, routes.into())).collect()
}
