//! What the signals share: where their resources lie in the body, and what a resource and a scope say.

use std::ops::Range;

use super::value::{Attributes, Parts, text};
use super::wire::{self, Field};

/// Where each resource (`ResourceSpans`, `ResourceMetrics`, `ResourceLogs`) lies in the body, its key and length
/// included: any selection of these ranges, concatenated, is again a request.
pub fn resources(body: &[u8]) -> impl Iterator<Item = Range<usize>> + Clone + '_ {
    let mut rest = body;
    std::iter::from_fn(move || {
        loop {
            let start = body.len() - rest.len();
            let (tag, field) = wire::next(&mut rest)?;
            if let (1, Field::Bytes(_)) = (tag, field) {
                return Some(start..body.len() - rest.len());
            }
        }
    })
}

/// The message of the resource that lies at `range`; empty where none does.
pub(super) fn message<'a>(body: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    let mut rest = body.get(range.clone()).unwrap_or_default();
    wire::next(&mut rest).map(|(_, field)| field.bytes()).unwrap_or_default()
}

/// The last string `tag` of a message.
pub(super) fn last_text(of: &[u8], tag: u32) -> &str {
    text(Parts::of(of, tag).iter().last().unwrap_or_default())
}

/// What produced the telemetry.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    attributes: Attributes<'a>,
}

impl<'a> Resource<'a> {
    /// The resource of a `ResourceSpans`, a `ResourceMetrics` or a `ResourceLogs`: field 1 of each.
    pub(super) fn of(parent: &'a [u8]) -> Resource<'a> {
        Resource { attributes: Attributes::new(Parts::within(parent, 1, 1)) }
    }

    /// Its attributes, such as `service.name`.
    pub fn attributes(&self) -> Attributes<'a> {
        self.attributes
    }
}

/// The library that produced the telemetry.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    name: &'a [u8],
    version: &'a [u8],
    attributes: Attributes<'a>,
}

impl<'a> Scope<'a> {
    /// The scope of a `ScopeSpans`, a `ScopeMetrics` or a `ScopeLogs`: field 1 of each.
    pub(super) fn of(parent: &'a [u8]) -> Scope<'a> {
        let (mut name, mut version): (&[u8], &[u8]) = (&[], &[]);
        for part in Parts::of(parent, 1).iter() {
            let mut rest = part;
            while let Some((tag, field)) = wire::next(&mut rest) {
                match tag {
                    1 => name = field.bytes(),
                    2 => version = field.bytes(),
                    _ => {}
                }
            }
        }
        Scope { name, version, attributes: Attributes::new(Parts::within(parent, 1, 3)) }
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        text(self.name)
    }

    /// Its version.
    pub fn version(&self) -> &'a str {
        text(self.version)
    }

    /// Its attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        self.attributes
    }
}

/// From the first to the last of a message's fields with one tag, so that reading them passes over little else.
#[derive(Clone, Copy, Default)]
pub(super) struct Run {
    start: usize,
    end: usize,
}

impl Run {
    /// Takes in the field that lies at `start..end`, which is never empty.
    #[inline]
    pub(super) fn extend(&mut self, start: usize, end: usize) {
        if self.end == 0 {
            self.start = start;
        }
        self.end = end;
    }

    /// Its bytes.
    #[inline]
    pub(super) fn of(self, message: &[u8]) -> &[u8] {
        message.get(self.start..self.end).unwrap_or_default()
    }
}
