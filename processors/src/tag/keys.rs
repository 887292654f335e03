//! Requirement keys in decoded text: `REQ-NFR-PERF-001`, with its boundaries and its version.
//!
//! The grammar runs on decoded strings only. In raw protobuf the byte before a string is a tag or a length, and may look
//! like a letter; what runs there is the prefilter's literals.

use memchr::memmem::Finder;
use regex::Regex;

/// A key longer than this is no key.
pub const KEY_BYTES_MAX: usize = 256;
/// What is shorter than `REQ-A-001` holds none of the default grammar.
const KEY_BYTES_MIN: usize = 9;

/// One key as it stands in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// As written, without the version.
    pub written: &'a str,
    /// `1.2.0`; empty when there is none.
    pub version: &'a str,
    /// Whether underscores separate its words, so that the canonical form differs from what is written.
    pub is_underscored: bool,
}

impl Key<'_> {
    /// Whether `canonical` is this key's canonical form.
    pub fn is(&self, canonical: &str) -> bool {
        if !self.is_underscored {
            return self.written == canonical;
        }
        self.written.len() == canonical.len()
            && self.written.bytes().zip(canonical.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
    }

    /// Whether both have the same canonical form.
    pub fn is_same(&self, other: &Key<'_>) -> bool {
        match (self.is_underscored, other.is_underscored) {
            (_, false) => self.is(other.written),
            (false, true) => other.is(self.written),
            (true, true) => self.written == other.written,
        }
    }

    /// The canonical form, with hyphens, put at the end of `out`.
    pub fn canonical_into(&self, out: &mut String) {
        if self.is_underscored {
            out.extend(self.written.chars().map(|c| if c == '_' { '-' } else { c }));
        } else {
            out.push_str(self.written);
        }
    }
}

/// Which texts are keys.
#[derive(Clone, Debug)]
pub enum Grammar {
    /// `REQ`, words `[A-Z][A-Z0-9]*`, a number of three or more digits, perhaps a version.
    Any(Finder<'static>),
    /// The same, but exactly a type `F | NFR | DATA | BR` and one domain `[A-Z]{2,10}`.
    Aisdlc(Finder<'static>),
    /// Whatever the pattern matches: its group `key` if it has one, else all of it; its group `version`.
    Pattern(Regex),
}

impl Grammar {
    /// The default.
    pub fn any() -> Grammar {
        Grammar::Any(Finder::new("REQ"))
    }

    /// `profile: aisdlc`.
    pub fn aisdlc() -> Grammar {
        Grammar::Aisdlc(Finder::new("REQ"))
    }

    /// Calls `found` with each key of `text`, in order; a key that occurs twice is found twice.
    pub fn scan<'a>(&self, text: &'a str, mut found: impl FnMut(Key<'a>)) {
        let (finder, is_aisdlc) = match self {
            Grammar::Any(finder) => (finder, false),
            Grammar::Aisdlc(finder) => (finder, true),
            Grammar::Pattern(pattern) => return scan_pattern(pattern, text, found),
        };
        let bytes = text.as_bytes();
        let mut from = 0;
        while bytes.len() - from >= KEY_BYTES_MIN {
            let rest = &bytes[from..];
            // An attribute that holds a key usually holds nothing else.
            let at = if rest.starts_with(b"REQ") { Some(0) } else { finder.find(rest) };
            let Some(at) = at.map(|at| at + from) else { return };
            from = at + 3;
            if let Some((key, end)) = key_at(text, at) {
                from = end;
                if !is_aisdlc || is_in_aisdlc(key.written) {
                    found(key);
                }
            }
        }
    }
}

fn scan_pattern<'a>(pattern: &Regex, text: &'a str, mut found: impl FnMut(Key<'a>)) {
    for groups in pattern.captures_iter(text) {
        let key = groups.name("key").or_else(|| groups.get(0)).map_or("", |group| group.as_str());
        if !key.is_empty() && key.len() <= KEY_BYTES_MAX {
            let version = groups.name("version").map_or("", |group| group.as_str());
            found(Key { written: key, version, is_underscored: false });
        }
    }
}

/// The key whose `REQ` stands at `at`, and where it ends, its version included.
fn key_at(text: &str, at: usize) -> Option<(Key<'_>, usize)> {
    let bytes = text.as_bytes();
    let separator = *bytes.get(at + 3)?;
    if (separator != b'-' && separator != b'_') || is_joined_before(text, at) {
        return None;
    }
    let mut end = at + 4;
    let mut words = 0;
    loop {
        let start = end;
        let is_number = bytes.get(end).is_some_and(u8::is_ascii_digit);
        while bytes.get(end).is_some_and(|b| b.is_ascii_digit() || (!is_number && b.is_ascii_uppercase())) {
            end += 1;
        }
        if is_number {
            if words == 0 || end - start < 3 || is_joined_after(text, end) {
                return None;
            }
            break;
        }
        // Or `REQ_REQ_REQ_…` would be read to its end from each of its beginnings.
        if end == start || bytes.get(end) != Some(&separator) || end - at > KEY_BYTES_MAX {
            return None;
        }
        words += 1;
        end += 1;
    }
    if end - at > KEY_BYTES_MAX {
        return None;
    }
    let version = version_at(text, end);
    let key = Key { written: &text[at..end], version, is_underscored: separator == b'_' };
    Some((key, end + if version.is_empty() { 0 } else { version.len() + 1 }))
}

/// No letter, digit or hyphen may stand before a key.
fn is_joined_before(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_some_and(|c| c == '-' || c.is_alphanumeric())
}

/// No letter or digit may stand after a key or a version.
fn is_joined_after(text: &str, end: usize) -> bool {
    text[end..].chars().next().is_some_and(char::is_alphanumeric)
}

/// The `1.2.0` of a `.1.2.0` at `at`; empty when there is none. Each part has at most nine digits.
fn version_at(text: &str, at: usize) -> &str {
    let bytes = text.as_bytes();
    let mut end = at;
    for _ in 0..3 {
        if bytes.get(end) != Some(&b'.') {
            return "";
        }
        let digits = bytes[end + 1..].iter().take(10).take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || digits > 9 {
            return "";
        }
        end += 1 + digits;
    }
    if is_joined_after(text, end) { "" } else { &text[at + 1..end] }
}

/// `REQ-{F|NFR|DATA|BR}-{[A-Z]{2,10}}-{number}`, the form of a key already being known.
fn is_in_aisdlc(key: &str) -> bool {
    let mut parts = key.split(['-', '_']).skip(1);
    let kind = parts.next().unwrap_or_default();
    let domain = parts.next().unwrap_or_default();
    matches!(kind, "F" | "NFR" | "DATA" | "BR")
        && (2..=10).contains(&domain.len())
        && domain.bytes().all(|b| b.is_ascii_uppercase())
        && parts.next().is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
}

/// Text that every match of `pattern` begins with, when that can be told by looking at it: the plain characters before the
/// first that means something to a regular expression. Empty when it cannot be told.
pub fn literal_of(pattern: &str) -> &str {
    let named = ["(?<key>", "(?P<key>", "(?<version>", "(?P<version>"];
    let flags = pattern.matches("(?").count();
    let groups: usize = named.iter().map(|group| pattern.matches(group).count()).sum();
    let noncapturing = pattern.matches("(?:").count();
    if pattern.contains('|') || flags != groups + noncapturing {
        return "";
    }
    let body = pattern.strip_prefix("\\b").unwrap_or(pattern);
    let may_be_missing = [")?", ")*", "){"].iter().any(|quantifier| pattern.contains(quantifier));
    let body = match named[..2].iter().find_map(|group| body.strip_prefix(group)) {
        Some(rest) if !may_be_missing => rest,
        Some(_) | None => body,
    };
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '/' | '#' | '=' | '@');
    let end = body.find(|c| !is_plain(c)).unwrap_or(body.len());
    // What a quantifier follows may be missing.
    let keep = if body[end..].starts_with(['?', '*', '{']) { end.saturating_sub(1) } else { end };
    &body[..keep]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        assert_eq!(scan(&Grammar::any(), text), owned(expected), "{text}");
    }

    fn owned(keys: &[(&str, &str)]) -> Vec<(String, String)> {
        keys.iter().map(|(key, version)| ((*key).to_owned(), (*version).to_owned())).collect()
    }

    fn scan(grammar: &Grammar, text: &str) -> Vec<(String, String)> {
        let mut keys = Vec::new();
        grammar.scan(text, |key| {
            let mut canonical = String::new();
            key.canonical_into(&mut canonical);
            assert!(key.is(&canonical), "{key:?} is {canonical}");
            keys.push((canonical, key.version.to_owned()));
        });
        keys
    }

    #[test]
    fn the_keys_of_the_vocabulary_are_found() {
        check("REQ-NFR-PERF-001", &[("REQ-NFR-PERF-001", "")]);
        check("REQ-RUNTIME-001", &[("REQ-RUNTIME-001", "")]);
        check("REQ-F-PERF-FIX-001", &[("REQ-F-PERF-FIX-001", "")]);
        check("REQ_NFR_PERF_001_Violated", &[("REQ-NFR-PERF-001", "")]);
        check("REQ-F-API2-001", &[("REQ-F-API2-001", "")]);
        check("REQ-NFR-PERF-0012", &[("REQ-NFR-PERF-0012", "")]);
        check("REQ-NFR-PERF-001.1.2.0", &[("REQ-NFR-PERF-001", "1.2.0")]);
        check("REQ-NFR-PERF-001.10.22.303.4", &[("REQ-NFR-PERF-001", "10.22.303")]);
        check("req:REQ-BR-CART-002,REQ-DATA-X-003", &[("REQ-BR-CART-002", ""), ("REQ-DATA-X-003", "")]);
        check("see REQ-F-AUTH-001.", &[("REQ-F-AUTH-001", "")]);
        check("REQ-F-AUTH-001.5", &[("REQ-F-AUTH-001", "")]);
        check("REQ-F-AUTH-001.1.2.x", &[("REQ-F-AUTH-001", "")]);
        check("REQ-F-AUTH-001.1.2.3x", &[("REQ-F-AUTH-001", "")]);
        check("über_REQ-F-AUTH-001–ok", &[("REQ-F-AUTH-001", "")]);
        check("REQUEST REQ- REQ-F-AUTH-001-tail", &[("REQ-F-AUTH-001", "")]);
    }

    #[test]
    fn what_only_looks_like_a_key_is_nothing() {
        for text in [
            "",
            "REQ",
            "REQ-",
            "XREQ-NFR-PERF-001",
            "9REQ-NFR-PERF-001",
            "-REQ-NFR-PERF-001",
            "éREQ-NFR-PERF-001",
            "REQ-001",
            "REQ-NFR-PERF-01",
            "REQ-NFR-PERF-001x",
            "REQ-NFR-PERF-001é",
            "REQ-NFR_PERF-001",
            "REQ-nfr-PERF-001",
            "REQ--PERF-001",
            "REQ-1F-PERF-001",
            "req-nfr-perf-001",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn a_key_has_a_longest_length() {
        let longest = format!("REQ-{}-001", "A".repeat(KEY_BYTES_MAX - 8));
        check(&longest, &[(&longest, "")]);
        check(&format!("{longest}2"), &[]);
        check(&format!("REQ-{}001", "A-".repeat(KEY_BYTES_MAX)), &[]);
    }

    #[test]
    fn the_aisdlc_profile_takes_its_four_types_and_one_domain() {
        let grammar = Grammar::aisdlc();
        for (text, is_key) in [
            ("REQ-NFR-PERF-001", true),
            ("REQ_DATA_STORE_123", true),
            ("REQ-BR-AB-001.1.0.0", true),
            ("REQ-RUNTIME-001", false),
            ("REQ-F-PERF-FIX-001", false),
            ("REQ-F-API2-001", false),
            ("REQ-X-PERF-001", false),
            ("REQ-F-A-001", false),
            ("REQ-F-ABCDEFGHIJK-001", false),
        ] {
            assert_eq!(!scan(&grammar, text).is_empty(), is_key, "{text}");
        }
    }

    #[test]
    fn a_pattern_replaces_the_grammar() {
        let grammar = Grammar::Pattern(Regex::new(r"\b(?<key>SHOP-\d+)(?:@(?<version>\d+))?").unwrap());
        assert_eq!(
            scan(&grammar, "SHOP-12@3 and SHOP-9, REQ-F-A-001"),
            owned(&[("SHOP-12", "3"), ("SHOP-9", "")])
        );
        assert_eq!(
            scan(&Grammar::Pattern(Regex::new(r"T\d").unwrap()), "T1T2"),
            owned(&[("T1", ""), ("T2", "")])
        );
    }

    #[test]
    fn the_literal_of_a_pattern_is_what_all_of_its_matches_begin_with() {
        for (pattern, literal) in [
            (r"SHOP-\d+", "SHOP-"),
            (r"\bSHOP-\d+", "SHOP-"),
            (r"SHOPS?-\d+", "SHOP"),
            (r"[A-Z]+-\d+", ""),
            (r"SHOP-\d+|CART-\d+", ""),
            (r"(?i)shop-\d+", ""),
            (r"JIRA-(?<version>\d)", "JIRA-"),
            (r"\b(?<key>SHOP-\d+)", "SHOP-"),
            (r"(?<key>SHOP)?-\d+", ""),
            (r"(?i)shop-(?<version>\d+)", ""),
            (r"ABC{0,3}", "AB"),
            (r"ABC+", "ABC"),
        ] {
            assert_eq!(literal_of(pattern), literal, "{pattern}");
        }
    }

    /// The vocabulary's sentence as a slow search: every start, every end, longest first.
    fn oracle(text: &str) -> Vec<(String, String)> {
        let key =
            Regex::new(r"^REQ(?:(?:-[A-Z][A-Z0-9]*)+-[0-9]{3,}|(?:_[A-Z][A-Z0-9]*)+_[0-9]{3,})$").unwrap();
        let version = Regex::new(r"^\.([0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9})$").unwrap();
        let chars: Vec<char> = text.chars().collect();
        let is_free = |at: usize| chars.get(at).is_none_or(|c| !c.is_alphanumeric());
        let slice = |from: usize, to: usize| chars[from..to].iter().collect::<String>();
        let (mut found, mut start) = (Vec::new(), 0);
        while start < chars.len() {
            let is_open = start == 0 || (chars[start - 1] != '-' && is_free(start - 1));
            let end = (start + 1..=chars.len())
                .rev()
                .find(|&end| is_open && is_free(end) && key.is_match(&slice(start, end)));
            let Some(end) = end else {
                start += 1;
                continue;
            };
            let versioned = (end + 1..=chars.len())
                .rev()
                .find(|&stop| is_free(stop) && version.is_match(&slice(end, stop)));
            found.push((
                slice(start, end).replace('_', "-"),
                versioned.map(|stop| slice(end + 1, stop)).unwrap_or_default(),
            ));
            start = versioned.unwrap_or(end);
        }
        found
    }

    proptest! {
        #[test]
        fn the_scanner_agrees_with_the_sentence(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "REQ", "REQ-", "REQ_", "-", "_", ".", ",", " ", "F", "NFR", "PERF2", "0", "001", "12", "1234", "x", "é",
                    ".1.2.3", "REQ-F-A-001", "REQ_B_002", "REQ-F-A-", ".1",
                ]),
                0..12,
            ),
        ) {
            let text = pieces.concat();
            prop_assert_eq!(scan(&Grammar::any(), &text), oracle(&text), "{}", text);
        }

        #[test]
        fn no_text_makes_the_scanner_panic(text in "\\PC{0,40}(REQ[-_])?\\PC{0,40}") {
            prop_assert_eq!(scan(&Grammar::any(), &text), oracle(&text));
        }
    }
}
