//! Spans of homeostat's own requests: one for each export request that came, as the Collector names it, and one below it for each
//! exporter that it was given to.
//!
//! Off, it costs a load. On, a span is counted in memory until whoever installed the [`Tracer`] takes it from its queue, which is
//! bounded: beyond it spans are left out, and counted. Nothing that the process sends of itself is in such a span, and nothing here
//! can change what is found.

mod sampler;
mod traceparent;

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::mpsc;

pub use sampler::Sampler;
pub use traceparent::Parent;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::drops;

/// The longest text that is kept of why something failed.
const WORDS_MAX: usize = 512;

static IS_ON: AtomicBool = AtomicBool::new(false);
static TRACER: RwLock<Option<Arc<Tracer>>> = RwLock::new(None);

tokio::task_local! {
    /// The request that the task works for now.
    static CURRENT: Arc<Current>;
}

struct Current {
    tracer: Arc<Tracer>,
    parent: Parent,
}

/// What makes spans.
pub struct Tracer {
    sampler: Sampler,
    /// Ids are hashes of a number under it.
    key: [u8; 32],
    number: AtomicU64,
    queue: mpsc::Sender<Ended>,
}

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request that came.
    Server,
    /// A request that went out.
    Client,
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A word of few.
    Text(String),
    /// A number of records.
    Number(u64),
}

/// A span that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// `receiver/otlp/TraceDataReceived`, `exporter/otlp/traces`.
    pub name: String,
    /// What it is of.
    pub kind: Kind,
    /// The trace and itself.
    pub own: Parent,
    /// The span above it; none at the root.
    pub parent: Option<[u8; 8]>,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it failed; none when it did not.
    pub error: Option<String>,
}

impl Tracer {
    /// One whose spans come out of the receiver, as far as `queue_max` lets them. `key` is random.
    pub fn new(sampler: Sampler, key: [u8; 32], queue_max: usize) -> (Arc<Tracer>, mpsc::Receiver<Ended>) {
        let (queue, spans) = mpsc::channel(queue_max.max(1));
        (Arc::new(Tracer { sampler, key, number: AtomicU64::new(0), queue }), spans)
    }

    fn ids(&self) -> ([u8; 16], [u8; 8]) {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::keyed_hash(&self.key, &number.to_le_bytes());
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        trace.copy_from_slice(&hash.as_bytes()[..16]);
        span.copy_from_slice(&hash.as_bytes()[16..24]);
        (trace, span)
    }

    /// The span of a request that came with `parent`, unless the sampler leaves it out.
    fn root(self: &Arc<Tracer>, name: String, parent: Option<Parent>) -> Option<Span> {
        let (trace_id, span_id) = self.ids();
        let trace_id = parent.map_or(trace_id, |parent| parent.trace_id);
        self.sampler.takes(&trace_id, parent.map(|parent| parent.is_sampled)).then(|| {
            let own = Parent { trace_id, span_id, is_sampled: true };
            Span::new(self, name, Kind::Server, own, parent.map(|parent| parent.span_id))
        })
    }
}

/// From now on spans are made by this one; none turns them off.
pub fn install(tracer: Option<Arc<Tracer>>) {
    IS_ON.store(tracer.is_some(), Ordering::Release);
    *TRACER.write().unwrap_or_else(PoisonError::into_inner) = tracer;
}

/// The span of a request that has come with this `traceparent`; none where spans are off, or the sampler leaves this one out.
pub fn request(name: impl FnOnce() -> String, traceparent: Option<&[u8]>) -> Option<Span> {
    if !IS_ON.load(Ordering::Acquire) {
        return None;
    }
    let tracer = TRACER.read().unwrap_or_else(PoisonError::into_inner).clone()?;
    tracer.root(name(), traceparent.and_then(Parent::read))
}

/// The span of something that is done for the request of this task; none where that has none.
pub fn child(name: impl FnOnce() -> String) -> Option<Span> {
    let current = CURRENT.try_with(Arc::clone).ok()?;
    let Current { tracer, parent } = &*current;
    let own = Parent { span_id: tracer.ids().1, ..*parent };
    Some(Span::new(tracer, name(), Kind::Client, own, Some(parent.span_id)))
}

/// A span under way; it ends when it is dropped, also when nobody waits for its request any more.
pub struct Span {
    tracer: Arc<Tracer>,
    ended: Option<Ended>,
}

impl Span {
    fn new(tracer: &Arc<Tracer>, name: String, kind: Kind, own: Parent, parent: Option<[u8; 8]>) -> Span {
        let start = SystemClock.now();
        let (attributes, error) = (Vec::new(), None);
        let ended = Ended { name, kind, own, parent, start, end: start, attributes, error };
        Span { tracer: Arc::clone(tracer), ended: Some(ended) }
    }

    /// Says more of it.
    pub fn text(&mut self, key: &'static str, text: impl Into<String>) {
        self.say(key, Value::Text(text.into()));
    }

    /// Says more of it.
    pub fn number(&mut self, key: &'static str, number: u64) {
        self.say(key, Value::Number(number));
    }

    fn say(&mut self, key: &'static str, value: Value) {
        if let Some(ended) = &mut self.ended {
            ended.attributes.push((key, value));
        }
    }

    /// It failed, and why.
    pub fn fail(&mut self, why: &impl ToString) {
        let mut why = why.to_string();
        why.truncate(why.floor_char_boundary(WORDS_MAX));
        if let Some(ended) = &mut self.ended {
            ended.error = Some(why);
        }
    }

    /// What is done in `work` is done for this request.
    pub async fn of<T>(&self, work: impl Future<Output = T>) -> T {
        match &self.ended {
            Some(Ended { own, .. }) => {
                let current = Current { tracer: Arc::clone(&self.tracer), parent: *own };
                CURRENT.scope(Arc::new(current), work).await
            }
            None => work.await,
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(ended) = self.ended.take() else { return };
        let ended = Ended { end: SystemClock.now(), ..ended };
        if self.tracer.queue.try_send(ended).is_err() {
            drops::TRACER_FULL.count(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: Parent = Parent { trace_id: [7; 16], span_id: [8; 8], is_sampled: true };

    #[tokio::test]
    async fn a_request_continues_its_senders_trace_and_what_is_done_for_it_stands_below() {
        let (tracer, mut spans) = Tracer::new(Sampler::default(), [1; 32], 10);
        assert!(child(|| "exporter".to_owned()).is_none(), "no request, no span");
        let mut request = tracer.root("receiver".to_owned(), Some(SENDER)).unwrap();
        request
            .of(async {
                let mut export = child(|| "exporter".to_owned()).unwrap();
                export.number("items.sent", 3);
                export.fail(&"no");
            })
            .await;
        request.text("transport", "grpc");
        drop(request);
        let (export, request) = (spans.recv().await.unwrap(), spans.recv().await.unwrap());
        assert_eq!(
            (request.name.as_str(), request.kind, request.parent),
            ("receiver", Kind::Server, Some([8; 8]))
        );
        assert_eq!((export.name.as_str(), export.kind), ("exporter", Kind::Client));
        assert_eq!(export.parent, Some(request.own.span_id));
        assert_eq!((export.own.trace_id, request.own.trace_id), ([7; 16], [7; 16]));
        assert_ne!(export.own.span_id, request.own.span_id);
        assert_eq!((export.error.as_deref(), request.error), (Some("no"), None));
        assert_eq!(export.attributes, [("items.sent", Value::Number(3))]);
        assert_eq!(request.attributes, [("transport", Value::Text("grpc".to_owned()))]);
    }

    #[tokio::test]
    async fn beyond_the_queue_spans_are_left_out_and_counted() {
        let unstruck = drops::unstruck(&[&drops::TRACER_FULL]);
        let (tracer, mut spans) = Tracer::new(Sampler::default(), [1; 32], 1);
        let names = ["one", "two"];
        names.iter().for_each(|name| drop(tracer.root((*name).to_owned(), None)));
        assert_eq!(spans.recv().await.unwrap().name, "one");
        assert!(spans.try_recv().is_err());
        assert_eq!(unstruck(), [""; 0]);
    }

    #[test]
    fn what_a_sender_does_not_sample_is_not_sampled_here() {
        let (tracer, _spans) = Tracer::new(Sampler::default(), [1; 32], 1);
        assert!(tracer.root(String::new(), Some(Parent { is_sampled: false, ..SENDER })).is_none());
        assert!(tracer.root(String::new(), None).is_some());
    }
}
