//! Takes records out of a body without decoding what stays: the bytes of what goes are left out, and the lengths of the messages
//! around it are written anew.
//!
//! The result decodes to exactly what the body decodes to without those records. A scope, a resource or a metric that loses its
//! last record goes with it; one that never had any stays as it is.

use std::ops::Range;

use super::metrics::MetricView;
use super::resource::{Resource, Scope};
use super::wire::{self, Field};
use crate::batch::Signal;

/// What may be taken out.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    /// A span or a log record, as it is encoded.
    Record(&'a [u8]),
    /// A metric with all its points; whatever is said of it, its points are asked for if it stays.
    Metric(&'a MetricView<'a>),
    /// One data point of a metric, as it is encoded.
    Point(&'a MetricView<'a>, &'a [u8]),
}

/// A body without what was taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// A request again; empty when nothing stayed.
    pub body: Vec<u8>,
    /// Records that went.
    pub dropped: u64,
    /// Records that stayed.
    pub kept: u64,
}

/// Asks `goes` about every record of a body that passed the walk, and takes out those that go; none when all of them stay, and then
/// nothing was copied.
pub fn cut<'a>(
    signal: Signal,
    body: &'a [u8],
    goes: impl FnMut(&Resource<'a>, &Scope<'a>, Part<'_>) -> bool,
) -> Option<Cut> {
    let mut cutter = Cutter { signal, body, goes, edits: Vec::new() };
    let mut sum = Sum::default();
    for field in fields(body, 0..body.len()).filter(|field| field.tag == 1) {
        sum.add(cutter.resource(&field));
    }
    if sum.bytes == 0 {
        return None;
    }
    let mut out = Vec::with_capacity(body.len() - sum.bytes);
    let mut at = 0;
    for edit in &cutter.edits {
        out.extend_from_slice(&body[at..edit.range.start]);
        if let Some(length) = edit.length {
            put_varint(length, &mut out);
        }
        at = edit.range.end;
    }
    out.extend_from_slice(&body[at..]);
    Some(Cut { body: out, dropped: sum.dropped, kept: sum.kept })
}

/// A field that holds bytes, by its place in the body.
#[derive(Clone)]
struct Place {
    tag: u32,
    /// Where its key is.
    start: usize,
    /// Where its length is.
    length: usize,
    content: Range<usize>,
}

impl Place {
    fn range(&self) -> Range<usize> {
        self.start..self.content.end
    }
}

/// The fields of the message in `range` that hold bytes.
fn fields(body: &[u8], range: Range<usize>) -> impl Iterator<Item = Place> + '_ {
    let end = range.end;
    let mut rest = body.get(range).unwrap_or_default();
    std::iter::from_fn(move || {
        loop {
            let start = end - rest.len();
            let (tag, field) = wire::next(&mut rest)?;
            if let Field::Bytes(bytes) = field {
                let content = end - rest.len() - bytes.len()..end - rest.len();
                let mut length = start;
                wire::key(body, &mut length).ok()?;
                return Some(Place { tag, start, length, content });
            }
        }
    })
}

/// What became of the records of a message, and by how many bytes its field shrinks.
#[derive(Clone, Copy, Default)]
struct Sum {
    bytes: usize,
    dropped: u64,
    kept: u64,
}

impl Sum {
    fn add(&mut self, other: Sum) {
        self.bytes += other.bytes;
        self.dropped += other.dropped;
        self.kept += other.kept;
    }
}

/// When a message goes that lost something.
#[derive(Clone, Copy)]
enum Goes {
    /// When none of the visited fields is left.
    WithoutParts,
    /// When no record is left in any of them.
    WithoutRecords,
    Never,
}

/// Bytes that go; where a length stood there is another one instead.
struct Edit {
    range: Range<usize>,
    length: Option<usize>,
}

struct Cutter<'a, F> {
    signal: Signal,
    body: &'a [u8],
    goes: F,
    /// In the order of the body, none within another.
    edits: Vec<Edit>,
}

impl<'a, F: FnMut(&Resource<'a>, &Scope<'a>, Part<'_>) -> bool> Cutter<'a, F> {
    fn bytes(&self, place: &Place) -> &'a [u8] {
        &self.body[place.content.clone()]
    }

    fn resource(&mut self, place: &Place) -> Sum {
        let resource = Resource::of(self.bytes(place));
        self.around(place, 2, Goes::WithoutParts, |cutter, scope| cutter.scope(&resource, scope))
    }

    fn scope(&mut self, resource: &Resource<'a>, place: &Place) -> Sum {
        let scope = Scope::of(self.bytes(place));
        self.around(place, 2, Goes::WithoutParts, |cutter, place| match cutter.signal {
            Signal::Traces | Signal::Logs => {
                let bytes = cutter.bytes(place);
                cutter.record(place, resource, &scope, Part::Record(bytes))
            }
            Signal::Metrics => cutter.metric(resource, &scope, place),
        })
    }

    fn metric(&mut self, resource: &Resource<'a>, scope: &Scope<'a>, place: &Place) -> Sum {
        let metric = MetricView::read(self.bytes(place));
        let points = metric.messages().count() as u64;
        if (self.goes)(resource, scope, Part::Metric(&metric)) {
            self.edits.push(Edit { range: place.range(), length: None });
            return Sum { bytes: place.range().len(), dropped: points, kept: 0 };
        }
        // Of several members of the oneof the last one holds, with those of its kind right before it.
        let mut live: Vec<Place> = Vec::new();
        for data in
            fields(self.body, place.content.clone()).filter(|data| matches!(data.tag, 5 | 7 | 9 | 10 | 11))
        {
            live.retain(|before| before.tag == data.tag);
            live.push(data);
        }
        let first = live.first().map_or(usize::MAX, |data| data.start);
        let tag = live.first().map_or(0, |data| data.tag);
        self.around(place, tag, Goes::WithoutRecords, |cutter, data| {
            if data.start < first {
                return Sum::default();
            }
            // It says what kind of metric it is, so it stays even when its points go.
            cutter.around(data, 1, Goes::Never, |cutter, point| {
                let bytes = cutter.bytes(point);
                cutter.record(point, resource, scope, Part::Point(&metric, bytes))
            })
        })
    }

    fn record(&mut self, place: &Place, resource: &Resource<'a>, scope: &Scope<'a>, part: Part<'_>) -> Sum {
        if (self.goes)(resource, scope, part) {
            self.edits.push(Edit { range: place.range(), length: None });
            Sum { bytes: place.range().len(), dropped: 1, kept: 0 }
        } else {
            Sum { kept: 1, ..Sum::default() }
        }
    }

    /// Visits the fields `tag` of a message and writes its length anew, or takes it out too when it has nothing left.
    fn around(
        &mut self,
        place: &Place,
        tag: u32,
        goes: Goes,
        mut visit: impl FnMut(&mut Self, &Place) -> Sum,
    ) -> Sum {
        let own = self.edits.len();
        self.edits.push(Edit { range: place.length..place.content.start, length: None });
        let mut sum = Sum::default();
        let mut parts = 0;
        for field in fields(self.body, place.content.clone()).filter(|field| field.tag == tag) {
            let part = visit(self, &field);
            parts += usize::from(part.bytes < field.range().len());
            sum.add(part);
        }
        let has_nothing = match goes {
            Goes::WithoutParts => parts == 0,
            Goes::WithoutRecords => sum.kept == 0,
            Goes::Never => false,
        };
        if sum.bytes == 0 {
            self.edits.truncate(own);
        } else if has_nothing {
            self.edits.truncate(own);
            self.edits.push(Edit { range: place.range(), length: None });
            sum.bytes = place.range().len();
        } else {
            let length = place.content.len() - sum.bytes;
            let before = place.content.start - place.length;
            self.edits[own].length = Some(length);
            sum.bytes += before - varint_bytes(length);
        }
        sum
    }
}

fn varint_bytes(number: usize) -> usize {
    let bits = (usize::BITS - number.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

fn put_varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
