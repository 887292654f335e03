//! The checkpoint: one key per window, pane and subject, of which only the touched are written; and one for the rest.
//!
//! | key | value |
//! | --- | --- |
//! | `f` | [`Rest`], JSON |
//! | `m` | the epoch (the model's text), JSON |
//! | `s` subject | subject with its episodes, JSON |
//! | `w` end start | whether rows came since it was judged |
//! | `p` end start subject | the pane, binary |
//! | `q` id | a silence, JSON |
//! | `a` requirement `/` measure | its adjusted thresholds, JSON |

use anyhow::Context;
use homeostat_pipeline::checkpoint::KeyedState;
use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::entry::Epoch;
use serde::{Deserialize, Serialize};

use super::Fold;
use super::ids::Days;
use super::inhibition::Inhibition;
use super::pane::Pane;
use super::points::Take;
use super::ruled::Slot;
use super::subject::Subject;
use super::window::{Span, Window};

/// The format of all values; another number is refused.
const VERSION: u32 = 5;

/// What is small and written every time.
#[derive(Serialize, Deserialize)]
struct Rest {
    version: u32,
    now: Timestamp,
    closed_through: Timestamp,
    slots: Vec<(String, String, u32)>,
    next_subject: u64,
    is_overflowed: bool,
    overflow_told: bool,
    days: Days,
    /// Of adjustments.
    updates: Days,
}

/// Order-preserving: times before 1970 come first.
fn time_bytes(at: Timestamp) -> [u8; 8] {
    (at.as_nanos().cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn time_of(bytes: [u8; 8]) -> Timestamp {
    Timestamp::from_nanos((u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed())
}

fn window_key(span: Span) -> Vec<u8> {
    [&b"w"[..], &time_bytes(span.end), &time_bytes(span.start)].concat()
}

fn pane_key(span: Span, subject: u64) -> Vec<u8> {
    [&b"p"[..], &time_bytes(span.end), &time_bytes(span.start), &subject.to_be_bytes()].concat()
}

fn subject_key(number: u64) -> Vec<u8> {
    [&b"s"[..], &number.to_be_bytes()].concat()
}

/// The eight bytes of `key` from `at`.
fn part(key: &[u8], at: usize) -> anyhow::Result<[u8; 8]> {
    let part = key.get(at..at + 8).context("a key of the checkpoint is too short")?;
    Ok(part.try_into()?)
}

fn span_of(key: &[u8]) -> anyhow::Result<Span> {
    Ok(Span { end: time_of(part(key, 1)?), start: time_of(part(key, 9)?) })
}

impl Fold {
    pub(super) fn write(&mut self, state: &mut dyn KeyedState) -> anyhow::Result<()> {
        for (span, subject) in std::mem::take(&mut self.gone) {
            match subject {
                Some(subject) => state.remove(&pane_key(span, subject))?,
                None => state.remove(&window_key(span))?,
            }
        }
        for (span, window) in &mut self.windows {
            write_window(*span, window, state)?;
        }
        let (touched, removed) = self.subjects.take_touched();
        for (number, subject) in touched {
            state.put(&subject_key(number), &serde_json::to_vec(subject)?)?;
        }
        for number in removed {
            state.remove(&subject_key(number))?;
        }
        self.silences.write(state)?;
        self.adjustments.write(state)?;
        if let Some(epoch) = self.epoch.as_ref().filter(|_| self.epoch_is_touched) {
            state.put(b"m", &serde_json::to_vec(epoch)?)?;
        }
        self.epoch_is_touched = false;
        let rest = Rest {
            version: VERSION,
            now: self.now,
            closed_through: self.closed_through,
            slots: self
                .slots
                .iter()
                .map(|slot| (slot.measure.clone(), slot.unit.clone(), slot.take.number()))
                .collect(),
            next_subject: self.subjects.next,
            is_overflowed: self.subjects.is_overflowed,
            overflow_told: self.overflow_told,
            days: self.days.clone(),
            updates: self.adjustments.days.clone(),
        };
        state.put(b"f", &serde_json::to_vec(&rest)?)
    }

    pub(super) fn read(&mut self, state: &dyn KeyedState) -> anyhow::Result<()> {
        let Some(rest) = state.get(b"f")? else { return Ok(()) };
        let rest: Rest = serde_json::from_slice(&rest).context("the checkpoint of the fold is damaged")?;
        anyhow::ensure!(
            rest.version == VERSION,
            "the checkpoint has version {}, this program reads {VERSION}",
            rest.version
        );
        self.now = rest.now;
        self.closed_through = rest.closed_through;
        self.slots = rest
            .slots
            .into_iter()
            .map(|(measure, unit, take)| Slot { measure, unit, take: Take::of(take) })
            .collect();
        self.days = rest.days;
        self.adjustments.days = rest.updates;
        self.overflow_told = rest.overflow_told;
        if let Some(epoch) = state.get(b"m")? {
            self.restore_model(serde_json::from_slice(&epoch).context("the checkpointed model is damaged")?)?;
        }
        self.silences.read(state)?;
        self.adjustments.read(state)?;
        self.judge_by_adjustments();
        state.scan(b"s", &mut |key, value| {
            let mut subject: Subject = serde_json::from_slice(value).context("a subject is damaged")?;
            subject.is_stored = true;
            self.subjects.put(u64::from_be_bytes(part(key, 1)?), subject);
            Ok(())
        })?;
        self.subjects.next = rest.next_subject;
        self.subjects.is_overflowed = rest.is_overflowed;
        state.scan(b"w", &mut |key, value| {
            let [is_fresh] = <[u8; 1]>::try_from(value)?.map(|flag| flag != 0);
            let window = Window::restored(is_fresh);
            self.windows.insert(span_of(key)?, window);
            Ok(())
        })?;
        state.scan(b"p", &mut |key, value| {
            let window = self.windows.get_mut(&span_of(key)?).context("a pane has no window")?;
            let number = u64::from_be_bytes(part(key, 17)?);
            window.put(number, Pane::decode(value)?);
            self.subjects.hold(number);
            Ok(())
        })?;
        if let Some(ruled) = &self.ruled {
            self.subjects.await_restored(ruled);
            self.inhibition = Inhibition::new(ruled, &self.subjects);
        }
        Ok(())
    }

    fn restore_model(&mut self, epoch: Epoch) -> anyhow::Result<()> {
        let ruled = super::epoch::read(&self.settings, &epoch).map_err(|problems| {
            let errors: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("the checkpointed model cannot be read: {}", errors.join("; "))
        })?;
        self.ruled = Some(ruled);
        self.epoch = Some(epoch);
        Ok(())
    }
}

fn write_window(span: Span, window: &mut Window, state: &mut dyn KeyedState) -> anyhow::Result<()> {
    // Whatever touches a pane touches its window: most windows only wait for corrections.
    if window.is_stored && !window.is_touched {
        return Ok(());
    }
    state.put(&window_key(span), &[u8::from(window.is_fresh)])?;
    window.is_touched = false;
    window.is_stored = true;
    for (subject, pane) in window.panes_mut() {
        if pane.is_touched || !pane.is_stored {
            pane.is_touched = false;
            pane.is_stored = true;
            state.put(&pane_key(span, *subject), &pane.encode())?;
        }
    }
    Ok(())
}
