//! One request on its way, in as many parts as the peer wants: what of it was taken is not sent again while it is tried, and
//! what the parts came to is one outcome.

use std::collections::VecDeque;
use std::time::Duration;

use homeostat_pipeline::budget::{Budget, Charge, Class};
use homeostat_pipeline::contract::Taken;
use homeostat_pipeline::otlp::{split, walk};
use homeostat_pipeline::refusal::{Cause, Refusal};
use metrics::{Counter, counter};
use tokio::time::Instant;

use super::answer::Outcome;
use super::client::Client;
use super::parcel::Parcel;

/// A message that is refused as too large although it is no larger than this is refused for another reason.
const HALVED_BYTES_MIN: usize = 64 * 1024;

/// What cutting needs of the exporter.
pub struct Knife {
    /// The largest inflated message that the peer takes; none where only the peer knows.
    bytes_max: Option<usize>,
    budget: Option<Budget>,
    splits: Counter,
}

impl Knife {
    /// For the exporter `id`. What it cuts is charged to `budget`; without one, whoever sends has what [`Knife::bytes`] says.
    pub fn new(id: &str, bytes_max: Option<usize>, budget: Option<Budget>) -> Knife {
        let splits = counter!("homeostat_exporter_split_requests_total", "exporter" => id.to_owned());
        Knife { bytes_max, budget, splits }
    }

    /// What cutting a message of `body_bytes` takes at the most: the message itself and its parts. 0 for one that is never cut.
    pub fn bytes(&self, body_bytes: usize) -> u64 {
        let is_whole = body_bytes <= self.bytes_max.unwrap_or(usize::MAX).min(HALVED_BYTES_MIN);
        if is_whole { 0 } else { 2 * body_bytes as u64 }
    }

    fn charge(&self, bytes: usize) -> Result<Option<Charge>, Refusal> {
        let Some(budget) = &self.budget else { return Ok(None) };
        budget.try_charge(None, Class::Telemetry, bytes as u64).map(Some)
    }
}

/// When an attempt is over.
#[derive(Clone, Copy)]
pub enum Patience {
    /// All of them together.
    Until(Instant),
    /// Each.
    Each(Duration),
}

impl Patience {
    fn deadline(self) -> Instant {
        match self {
            Patience::Until(deadline) => deadline,
            Patience::Each(timeout) => Instant::now() + timeout,
        }
    }
}

/// How far it came.
pub enum Advance {
    /// To its end: taken, perhaps in part, or refused for good as a whole.
    Done(Result<Taken, (Cause, String)>),
    /// What is left may be sent again.
    Later {
        /// When, if the backend says so.
        after: Option<Duration>,
        /// For people.
        reason: String,
    },
}

/// What became of the first part that there was then.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// It was cut into parts of so many bytes.
    Cut(usize),
    /// It stays whole.
    Whole,
    /// It was taken, or refused for good.
    Done,
}

/// How far a request came of which something is done, and something is not.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    steps: Vec<Step>,
    is_taken: bool,
    taken: Taken,
    refused: Option<(Cause, String)>,
}

struct Part {
    parcel: Parcel,
    /// Cutting it was tried, and it stayed whole.
    is_atomic: bool,
}

/// A request and what became of it so far.
pub struct Sending {
    parts: VecDeque<Part>,
    is_cut: bool,
    trail: Trail,
    /// Parts are copies, where they are not slices.
    charges: Vec<Charge>,
}

impl Sending {
    /// Nothing of it is sent yet.
    pub fn new(parcel: Parcel) -> Sending {
        Sending {
            parts: VecDeque::from([Part { parcel, is_atomic: false }]),
            is_cut: false,
            trail: Trail::default(),
            charges: Vec::new(),
        }
    }

    /// As far as it came before.
    ///
    /// # Errors
    /// There is no memory for its parts.
    pub fn resume(parcel: &Parcel, trail: &Trail, knife: &Knife) -> Result<Sending, Refusal> {
        let mut sending = Sending::new(parcel.clone());
        for step in &trail.steps {
            match step {
                Step::Cut(bytes_max) => {
                    if !sending.cut(knife, *bytes_max)? {
                        return Ok(Sending::new(parcel.clone()));
                    }
                }
                Step::Whole => {
                    if let Some(part) = sending.parts.front_mut() {
                        part.is_atomic = true;
                    }
                }
                Step::Done => {
                    sending.parts.pop_front();
                }
            }
        }
        sending.trail = trail.clone();
        Ok(sending)
    }

    /// How far it came, where that is neither nowhere nor the end.
    pub fn trail(&self) -> Option<Trail> {
        let is_begun = self.trail.steps.iter().any(|step| matches!(step, Step::Done));
        (is_begun && !self.parts.is_empty()).then(|| self.trail.clone())
    }

    /// The first part is done with.
    fn pop(&mut self) -> Option<Part> {
        self.trail.steps.push(Step::Done);
        self.parts.pop_front()
    }

    /// It was tried to cut the first part.
    fn keep_whole(&mut self, part: Part) {
        self.trail.steps.push(Step::Whole);
        self.parts.push_front(Part { is_atomic: true, ..part });
    }

    /// Sends part after part until the end, or until one must wait.
    pub async fn advance(&mut self, client: &Client, knife: &Knife, patience: Patience) -> Advance {
        while let Some(part) = self.parts.front() {
            if let Some(bytes_max) = knife.bytes_max
                && part.parcel.body_bytes > bytes_max
                && !part.is_atomic
            {
                match self.cut(knife, bytes_max) {
                    Ok(_) => continue,
                    Err(refusal) => return over_budget(&refusal),
                }
            }
            match client.send(&part.parcel, patience.deadline()).await {
                Outcome::Taken(taken) => {
                    self.trail.is_taken = true;
                    self.trail.taken.rejected += taken.rejected;
                    self.say(&taken.message);
                    self.pop();
                }
                Outcome::Later { after, reason } => return Advance::Later { after, reason },
                Outcome::Never { cause: Cause::TooLarge, reason } => {
                    if let Err(refusal) = self.halve(knife, reason) {
                        return over_budget(&refusal);
                    }
                }
                Outcome::Never { cause, reason } => self.refuse(cause, reason),
            }
        }
        let Trail { is_taken, taken, refused, .. } = &mut self.trail;
        Advance::Done(match (refused.take(), *is_taken) {
            (Some(refused), false) => Err(refused),
            (None, _) | (Some(_), true) => Ok(std::mem::take(taken)),
        })
    }

    /// The peer says that the first part is too large, and nothing of what it would take.
    fn halve(&mut self, knife: &Knife, reason: String) -> Result<(), Refusal> {
        let Some(part) = self.parts.front() else { return Ok(()) };
        let bytes = part.parcel.body_bytes;
        if bytes > HALVED_BYTES_MIN && !part.is_atomic && self.cut(knife, bytes / 2)? {
            return Ok(());
        }
        // Small enough for everybody: it is a quota, and the other parts would hear the same.
        let is_hopeless = bytes <= HALVED_BYTES_MIN && self.is_cut && !self.trail.is_taken;
        self.refuse(Cause::TooLarge, reason.clone());
        while is_hopeless && !self.parts.is_empty() {
            self.refuse(Cause::TooLarge, reason.clone());
        }
        Ok(())
    }

    /// Replaces the first part by smaller ones; says whether there are.
    fn cut(&mut self, knife: &Knife, bytes_max: usize) -> Result<bool, Refusal> {
        let Some(part) = self.parts.pop_front() else { return Ok(false) };
        let Parcel { signal, body_bytes, .. } = part.parcel;
        let charge = match knife.charge(body_bytes) {
            Ok(charge) => charge,
            Err(refusal) => {
                // What could never fit is sent whole.
                if !refusal.is_retryable() {
                    self.keep_whole(part);
                    return Ok(false);
                }
                self.parts.push_front(part);
                return Err(refusal);
            }
        };
        let pieces = part.parcel.body().map(|body| split(signal, &body, bytes_max)).unwrap_or_default();
        if pieces.len() < 2 {
            self.keep_whole(part);
            return Ok(false);
        }
        self.trail.steps.push(Step::Cut(bytes_max));
        for piece in pieces.into_iter().rev() {
            let records = walk(signal, &piece).unwrap_or(0);
            self.parts.push_front(Part { parcel: Parcel::plain(signal, piece, records), is_atomic: false });
        }
        if !self.is_cut {
            knife.splits.increment(1);
        }
        self.is_cut = true;
        self.charges.extend(charge);
        Ok(true)
    }

    /// The first part will never be taken.
    fn refuse(&mut self, cause: Cause, reason: String) {
        let Some(part) = self.pop() else { return };
        self.trail.taken.rejected += part.parcel.records;
        self.say(&reason);
        self.trail.refused.get_or_insert((cause, reason));
    }

    /// Partial successes add their words, each once.
    fn say(&mut self, words: &str) {
        let said = &mut self.trail.taken.message;
        if words.is_empty() || said.contains(words) {
            return;
        }
        if !said.is_empty() {
            said.push_str("; ");
        }
        said.push_str(words);
        said.truncate(said.floor_char_boundary(1024));
    }
}

fn over_budget(refusal: &Refusal) -> Advance {
    Advance::Later { after: refusal.answer().retry_after, reason: refusal.to_string() }
}
