//! Byte strings of which at least one stands in every request that can yield a row. Searched in raw protobuf, before anything
//! is decoded; a hit means only that it is worth looking.

use std::ops::Range;

use homeostat_pipeline::interest::Selection;
use memchr::memmem::Finder;

/// What every requirement key begins with, as far as the prefilter is concerned.
#[derive(Debug)]
enum KeyLiteral {
    /// `REQ-` or `REQ_`: one search and a look at the next byte cost half of two searches.
    Req(Finder<'static>),
    /// A pattern's own.
    Other(Finder<'static>),
}

/// The searchers of one signal, built once.
#[derive(Debug)]
pub struct Prefilter {
    /// None: something has no literal, so that everything hits.
    searchers: Option<Searchers>,
}

#[derive(Debug)]
struct Searchers {
    key: KeyLiteral,
    /// Names under which flows stand.
    flows: Vec<Finder<'static>>,
    /// What the model's selectors cannot do without.
    selectors: Vec<Finder<'static>>,
}

impl Prefilter {
    /// `pattern` is the literal of a pattern that replaces the default grammar; `Some("")` when it has none.
    pub fn new<'a>(
        pattern: Option<&str>,
        flows: impl Iterator<Item = &'a str>,
        selections: &[Selection],
    ) -> Prefilter {
        let key = match pattern {
            None => KeyLiteral::Req(Finder::new("REQ")),
            Some("") => return Prefilter { searchers: None },
            Some(literal) => KeyLiteral::Other(Finder::new(literal).into_owned()),
        };
        let flows: Vec<Vec<u8>> = flows.map(|name| name.as_bytes().to_vec()).collect();
        let mut literals = Vec::new();
        for selection in selections {
            let Some(those) = selection.selector.literals() else {
                return Prefilter { searchers: None };
            };
            literals.extend(those);
        }
        literals.sort_by_key(Vec::len);
        let mut needed: Vec<Vec<u8>> = Vec::new();
        for literal in literals {
            // Where a longer one stands, a shorter one in it stands too.
            let mut shorter = needed.iter().chain(&flows);
            if !shorter.any(|known| Finder::new(known).find(&literal).is_some()) {
                needed.push(literal);
            }
        }
        let finders = |texts: Vec<Vec<u8>>| texts.iter().map(|text| Finder::new(text).into_owned()).collect();
        Prefilter { searchers: Some(Searchers { key, flows: finders(flows), selectors: finders(needed) }) }
    }

    /// Whether everything hits.
    #[cfg(test)]
    pub fn is_off(&self) -> bool {
        self.searchers.is_none()
    }

    /// Whether `bytes` may hold something.
    #[inline]
    pub fn hits(&self, bytes: &[u8]) -> bool {
        match &self.searchers {
            None => true,
            Some(searchers) => searchers.vocabulary(bytes) || searchers.selection(bytes),
        }
    }

    /// Before which byte of `bytes` nothing can be; none when nothing can be anywhere.
    pub fn first(&self, bytes: &[u8]) -> Option<usize> {
        let Some(searchers) = &self.searchers else { return Some(0) };
        let mut first = searchers.key(bytes);
        for finder in searchers.flows.iter().chain(&searchers.selectors) {
            // What comes later than the first is not looked for.
            let within = first.map_or(bytes, |at| &bytes[..(at + finder.needle().len()).min(bytes.len())]);
            first = finder.find(within).into_iter().chain(first).min();
        }
        first
    }

    /// A search through `body` in one go.
    pub fn cursor<'f, 'b>(&'f self, body: &'b [u8]) -> Cursor<'f, 'b> {
        let literals = self.searchers.as_ref().map_or(0, |all| 1 + all.flows.len() + all.selectors.len());
        Cursor { searchers: self.searchers.as_ref(), body, found: vec![Found { from: 0, next: 0 }; literals] }
    }

    /// Whether `bytes` may hold a key or the name of a flow.
    pub fn hits_vocabulary(&self, bytes: &[u8]) -> bool {
        self.searchers.as_ref().is_none_or(|searchers| searchers.vocabulary(bytes))
    }
}

/// Looks at the parts of one body in the order in which they lie there: what was found behind one part is not looked for
/// again in the next, so that each literal passes over each byte about once. Answers what [`Prefilter::hits`] would.
#[derive(Debug)]
pub struct Cursor<'f, 'b> {
    searchers: Option<&'f Searchers>,
    body: &'b [u8],
    /// By literal: the key's, then the flows', then the selectors'.
    found: Vec<Found>,
}

/// Where a literal stands next.
#[derive(Clone, Copy, Debug)]
struct Found {
    /// It was looked for from here; beyond `next` nothing is known yet.
    from: usize,
    /// Where it stands, at or after `from`; the body's end where it stands nowhere. With `next == from == 0` nobody has looked.
    next: usize,
}

impl Cursor<'_, '_> {
    /// Where `part` lies in the body.
    fn range(&self, part: &[u8]) -> Range<usize> {
        let start = part.as_ptr().addr().wrapping_sub(self.body.as_ptr().addr()).min(self.body.len());
        start..(start + part.len()).min(self.body.len())
    }

    /// Whether `part`, a slice of the body, may hold something.
    #[inline]
    pub fn hits(&mut self, part: &[u8]) -> bool {
        let range = self.range(part);
        self.searchers.is_none() || (0..self.found.len()).any(|literal| self.has(literal, &range))
    }

    /// Whether `part`, a slice of the body, may hold a key.
    #[inline]
    pub fn hits_key(&mut self, part: &[u8]) -> bool {
        let range = self.range(part);
        self.searchers.is_none() || self.has(0, &range)
    }

    /// Whether the literal stands in `range`, all of it.
    fn has(&mut self, literal: usize, range: &Range<usize>) -> bool {
        let Some(searchers) = self.searchers else { return true };
        if range.is_empty() {
            return false;
        }
        let Found { from, next } = self.found[literal];
        let is_known = (from..=next).contains(&range.start) && next > 0;
        let next = if is_known {
            next
        } else {
            let next = searchers.find(literal, &self.body[range.start..]);
            let next = next.map_or(self.body.len(), |at| at + range.start);
            self.found[literal] = Found { from: range.start, next };
            next
        };
        next + searchers.literal_bytes(literal) <= range.end
    }
}

impl Searchers {
    /// How long a literal of a [`Cursor`] is.
    fn literal_bytes(&self, literal: usize) -> usize {
        match (literal, &self.key) {
            (0, KeyLiteral::Req(_)) => 4,
            (0, KeyLiteral::Other(finder)) => finder.needle().len(),
            (other, _) => self.other(other).map_or(0, |finder| finder.needle().len()),
        }
    }

    /// Where a literal of a [`Cursor`] stands first.
    fn find(&self, literal: usize, bytes: &[u8]) -> Option<usize> {
        if literal == 0 { self.key(bytes) } else { self.other(literal)?.find(bytes) }
    }

    fn other(&self, literal: usize) -> Option<&Finder<'static>> {
        self.flows.iter().chain(&self.selectors).nth(literal - 1)
    }

    fn key(&self, bytes: &[u8]) -> Option<usize> {
        match &self.key {
            KeyLiteral::Other(finder) => finder.find(bytes),
            KeyLiteral::Req(finder) => {
                let mut from = 0;
                while let Some(at) = finder.find(&bytes[from..]) {
                    if matches!(bytes.get(from + at + 3), Some(b'-' | b'_')) {
                        return Some(from + at);
                    }
                    from += at + 3;
                }
                None
            }
        }
    }

    #[inline]
    fn vocabulary(&self, bytes: &[u8]) -> bool {
        self.key(bytes).is_some() || self.flows.iter().any(|finder| finder.find(bytes).is_some())
    }

    #[inline]
    fn selection(&self, bytes: &[u8]) -> bool {
        self.selectors.iter().any(|finder| finder.find(bytes).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use homeostat_pipeline::batch::Signal;
    use homeostat_pipeline::selector::Selector;

    fn prefilter(pattern: Option<&str>, selectors: &[&str]) -> Prefilter {
        let selections: Vec<Selection> = selectors
            .iter()
            .map(|text| Selection {
                signal: Signal::Traces,
                req: "REQ-F-A-001".to_owned(),
                measure: "count".to_owned(),
                selector: Selector::parse(text).unwrap(),
                takes_keyed: false,
            })
            .collect();
        Prefilter::new(pattern, ["sea.flow", "app.flow"].into_iter(), &selections)
    }

    #[test]
    fn keys_flows_and_selectors_hit_and_nothing_else_does() {
        let filter = prefilter(None, &[r#"name == "GET /cart""#, r#"attributes["sea.flow"] == "Order""#]);
        for (bytes, first) in [
            ("x REQ-F", Some(2)),
            ("REQUEST REQ_F", Some(8)),
            ("REQUEST REQ", None),
            ("a sea.flow", Some(2)),
            ("REQ_ sea.flow", Some(0)),
            ("sea.flow REQ_", Some(0)),
            ("app.flow sea.flow", Some(0)),
            ("GET /cart", Some(0)),
            ("sea.domain GET /car", None),
            ("", None),
        ] {
            assert_eq!(filter.first(bytes.as_bytes()), first, "{bytes}");
            assert_eq!(filter.hits(bytes.as_bytes()), first.is_some(), "{bytes}");
        }
        assert!(!filter.is_off());
        assert!(!filter.hits_vocabulary(b"GET /cart"));
        assert!(filter.hits_vocabulary(b"sea.flow"));
    }

    #[test]
    fn a_cursor_answers_for_each_part_what_a_search_of_the_part_would() {
        let filter = prefilter(None, &[r#"name == "GET /cart""#]);
        let body = b"REQ-F sea.fl|ow REQ|_X|sea.flow|nothing|app.flowREQ-|GET /cartGET /car|t";
        for width in 1..=body.len() {
            let mut cursor = filter.cursor(body);
            for part in body.chunks(width) {
                assert_eq!(cursor.hits(part), filter.hits(part), "{}", part.escape_ascii());
                let has_key =
                    filter.first(part).is_some() && filter.searchers.as_ref().unwrap().key(part).is_some();
                assert_eq!(cursor.hits_key(part), has_key, "{}", part.escape_ascii());
            }
            for part in body.rchunks(width) {
                assert_eq!(cursor.hits(part), filter.hits(part), "backwards, {}", part.escape_ascii());
            }
        }
        let off = prefilter(Some(""), &[]);
        assert!(off.cursor(b"x").hits(b"") && off.cursor(b"x").hits_key(b""));
    }

    #[test]
    fn what_has_no_literal_makes_everything_hit() {
        for filter in [prefilter(None, &["kind == SERVER"]), prefilter(Some(""), &[])] {
            assert!(filter.is_off());
            assert!(filter.hits(b""));
            assert_eq!(filter.first(b"x"), Some(0));
        }
        let filter = prefilter(Some("SHOP-"), &[]);
        assert!(filter.hits(b"xSHOP-1"));
        assert!(!filter.hits(b"REQ-F-A-001"));
    }
}
