//! What a silence applies to, in Alertmanager's syntax: `req="REQ-NFR-PERF-001", severity=~"high|critical", service.name!="web"`.
//!
//! Regular expressions match the whole value. A label that a deviation lacks is empty. Names may hold dots and dashes, for the
//! labels of the model do; Alertmanager would have such names quoted, and quoted names are taken too.

use std::collections::BTreeMap;
use std::fmt;

use regex::{Regex, RegexBuilder};

/// At most so many of one silence.
const MATCHERS_MAX: usize = 64;
/// At most so long is the text of all of them.
const TEXT_BYTES_MAX: usize = 8 << 10;
/// What one compiled expression may take.
const REGEX_BYTES_MAX: usize = 256 << 10;

/// One condition on one label.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    operator: Operator,
    value: String,
    /// For `=~` and `!~`.
    regex: Option<Regex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Matches,
    MatchesNot,
}

impl Operator {
    const ALL: [Operator; 4] = [Operator::Matches, Operator::MatchesNot, Operator::NotEqual, Operator::Equal];

    const fn sign(self) -> &'static str {
        match self {
            Operator::Equal => "=",
            Operator::NotEqual => "!=",
            Operator::Matches => "=~",
            Operator::MatchesNot => "!~",
        }
    }
}

impl Matcher {
    /// Reads a list: matchers with commas between, in braces or without.
    ///
    /// # Errors
    /// What does not fit, in words: the list is empty or too long, a matcher is no matcher, or all of them match a deviation
    /// without labels, so that everything would be silenced.
    pub fn parse_all(text: &str) -> Result<Vec<Matcher>, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!(
                "the matchers have {} bytes, at most {TEXT_BYTES_MAX} are taken",
                text.len()
            ));
        }
        let trimmed = text.trim();
        let trimmed = trimmed.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(trimmed);
        let mut rest = trimmed.trim();
        let mut matchers = Vec::new();
        while !rest.is_empty() {
            let (matcher, after) = Matcher::read(rest)?;
            matchers.push(matcher);
            rest = match after.strip_prefix(',') {
                Some(next) => next.trim_start(),
                None if after.is_empty() => after,
                None => return Err(format!("expected `,` or the end before `{}`", start(after))),
            };
        }
        if matchers.is_empty() {
            return Err("a silence needs at least one matcher, as in `req=\"REQ-NFR-PERF-001\"`".to_owned());
        }
        if matchers.len() > MATCHERS_MAX {
            return Err(format!("there are {} matchers, at most {MATCHERS_MAX} are taken", matchers.len()));
        }
        if matchers.iter().all(|matcher| matcher.matches("")) {
            return Err(
                "all matchers match an empty label, so everything would be silenced (name a `req` or another label)"
                    .to_owned(),
            );
        }
        Ok(matchers)
    }

    /// One matcher from the start of `text`, and what comes after it.
    fn read(text: &str) -> Result<(Matcher, &str), String> {
        let (name, rest) = if text.starts_with('"') { quoted(text)? } else { bare(text, is_name) };
        let rest = rest.trim_start();
        if name.is_empty() {
            return Err(format!("expected the name of a label before `{}`", start(text)));
        }
        let found = Operator::ALL.into_iter().find_map(|each| Some((each, rest.strip_prefix(each.sign())?)));
        let Some((operator, rest)) = found else {
            return Err(format!("expected `=`, `!=`, `=~` or `!~` after `{name}`"));
        };
        let rest = rest.trim_start();
        let (value, rest) = if rest.starts_with('"') { quoted(rest)? } else { bare(rest, is_value) };
        let regex = match operator {
            Operator::Equal | Operator::NotEqual => None,
            Operator::Matches | Operator::MatchesNot => {
                let whole = RegexBuilder::new(&format!("^(?s:{value})$")).size_limit(REGEX_BYTES_MAX).build();
                Some(whole.map_err(|error| format!("`{value}` is no regular expression: {error}"))?)
            }
        };
        Ok((Matcher { name, operator, value, regex }, rest.trim_start()))
    }

    fn matches(&self, value: &str) -> bool {
        let is_match = self.regex.as_ref().is_some_and(|regex| regex.is_match(value));
        match self.operator {
            Operator::Equal => self.value == value,
            Operator::NotEqual => self.value != value,
            Operator::Matches => is_match,
            Operator::MatchesNot => !is_match,
        }
    }

    /// Whether these labels have what it asks for.
    pub fn is_met(&self, labels: &BTreeMap<&str, &str>) -> bool {
        self.matches(labels.get(self.name.as_str()).copied().unwrap_or_default())
    }
}

impl fmt::Display for Matcher {
    /// As it is written: the value always quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        if self.name.chars().all(is_name) {
            write!(f, "{}{}\"{value}\"", self.name, self.operator.sign())
        } else {
            let name = self.name.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            write!(f, "\"{name}\"{}\"{value}\"", self.operator.sign())
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | ':' | '/')
}

fn is_value(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, ',' | '"' | '{' | '}')
}

fn bare(text: &str, fits: fn(char) -> bool) -> (String, &str) {
    let end = text.find(|c| !fits(c)).unwrap_or(text.len());
    (text[..end].to_owned(), &text[end..])
}

/// Text in double quotes, with `\"`, `\\` and `\n` as Alertmanager has them; another backslash stands for itself, as regular
/// expressions want it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => out.push(c),
                Some((_, 'n')) => out.push('\n'),
                Some((_, c)) => out.extend(['\\', c]),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err(format!("the text that begins with `{}` has no closing quote", start(text)))
}

/// Enough of a text to find it.
fn start(text: &str) -> String {
    text.chars().take(24).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [(&str, &str); 4] = [
        ("req", "REQ-NFR-PERF-001"),
        ("severity", "high"),
        ("service.name", "auth"),
        ("rule", "p95_latency_ms-high"),
    ];

    #[track_caller]
    fn check(text: &str, is_met: bool, shown: &str) {
        let matchers = Matcher::parse_all(text).expect("it is a list of matchers");
        let labels = BTreeMap::from(LABELS);
        assert_eq!(matchers.iter().all(|matcher| matcher.is_met(&labels)), is_met, "{text}");
        let all: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        assert_eq!(all.join(","), shown);
        let again = Matcher::parse_all(&all.join(",")).expect("what is shown can be read");
        assert_eq!(again.iter().map(ToString::to_string).collect::<Vec<_>>(), all);
    }

    #[track_caller]
    fn refused(text: &str, why: &str) {
        let error = Matcher::parse_all(text).expect_err("it is refused");
        assert!(error.contains(why), "{text}: {error}");
    }

    #[test]
    fn matchers_are_those_of_alertmanager() {
        check(r#"req="REQ-NFR-PERF-001""#, true, r#"req="REQ-NFR-PERF-001""#);
        check("req=REQ-NFR-PERF-001", true, r#"req="REQ-NFR-PERF-001""#);
        check(
            r#"{req=~"REQ-NFR-.*", severity!="critical"}"#,
            true,
            r#"req=~"REQ-NFR-.*",severity!="critical""#,
        );
        check(r#"req=~"REQ-NFR""#, false, r#"req=~"REQ-NFR""#);
        check(r#"severity=~"low|high""#, true, r#"severity=~"low|high""#);
        check(r#"req=~"R.*",severity!~"low|high""#, false, r#"req=~"R.*",severity!~"low|high""#);
        check(r#"service.name = "auth" , "#, true, r#"service.name="auth""#);
        check(r#""service.name"="web""#, false, r#"service.name="web""#);
        check(r#"req=~"REQ.+", zone!="eu""#, true, r#"req=~"REQ.+",zone!="eu""#);
        check(r#"rule=~"p\d\d_.*""#, true, r#"rule=~"p\\d\\d_.*""#);
        check(r#"rule="a\"b\\c""#, false, r#"rule="a\"b\\c""#);
    }

    #[test]
    fn what_would_silence_everything_or_nothing_is_refused_in_words() {
        refused("", "at least one matcher");
        refused("{}", "at least one matcher");
        refused(r#"req!="x""#, "everything would be silenced");
        refused(r#"req=~".*""#, "everything would be silenced");
        refused("req", "expected `=`");
        refused(r#"="x""#, "the name of a label");
        refused(r#"req="x" severity="y""#, "expected `,`");
        refused(r#"req="x"#, "no closing quote");
        refused(r#"req=~"(""#, "no regular expression");
        refused(r#"req=~"((a{1000}){1000}){1000}""#, "no regular expression");
        refused(&format!("req=\"{}\"", "x".repeat(9_000)), "at most 8192");
    }
}
