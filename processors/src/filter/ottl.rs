//! OTTL conditions of a Collector's `filter`, written as selectors, so far as selectors can say the same.
//!
//! What OTTL means by absence is kept: there `a != "x"` holds where `a` is not there, and a severity that is not set is 0.

use homeostat_pipeline::selector::Selector;

/// What a condition is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `traces.span`.
    Span,
    /// `logs.log_record`.
    Log,
    /// `metrics.metric`.
    Metric,
    /// `metrics.datapoint`.
    Point,
}

/// The condition as a selector.
///
/// # Errors
/// What no selector says, and what to do.
pub fn selector(condition: &str, subject: Subject) -> Result<Selector, String> {
    let written = translate(condition, subject).map_err(|what| {
        format!("{what} in the condition `{condition}` is not supported (write it as a selector, as docs/selectors.md has them, under `spans`, `logs` or `metrics`)")
    })?;
    Selector::parse(&written).map_err(|error| {
        format!("the condition `{condition}` is not supported: as the selector `{written}` it has a mistake, {error}")
    })
}

#[derive(Clone, Debug, PartialEq)]
enum Token<'a> {
    /// A path, an enumeration's value, a keyword, a number.
    Word(&'a str),
    /// Text with its quotes.
    Text(&'a str),
    /// Whatever else, one or two characters.
    Mark(&'a str),
}

fn tokens(condition: &str) -> Result<Vec<Token<'_>>, String> {
    let bytes = condition.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b' ' | b'\t' | b'\n' | b'\r' => {
                at += 1;
                continue;
            }
            b'"' => {
                at += 1;
                while bytes.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                tokens.push(Token::Text(condition.get(start..at).ok_or("a text that does not end")?));
            }
            b'=' | b'!' | b'<' | b'>' if bytes.get(at + 1) == Some(&b'=') => {
                at += 2;
                tokens.push(Token::Mark(&condition[start..at]));
            }
            b'(' | b')' | b'[' | b']' | b'<' | b'>' => {
                at += 1;
                tokens.push(Token::Mark(&condition[start..at]));
            }
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') => {
                while bytes
                    .get(at)
                    .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
                {
                    at += 1;
                }
                tokens.push(Token::Word(&condition[start..at]));
            }
            _ => {
                at += condition[start..].chars().next().map_or(1, char::len_utf8);
                tokens.push(Token::Mark(&condition[start..at]));
            }
        }
    }
    Ok(tokens)
}

fn translate(condition: &str, subject: Subject) -> Result<String, String> {
    let tokens = tokens(condition)?;
    let mut written: Vec<String> = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            Token::Word(word @ ("and" | "or" | "not")) => {
                written.push((*word).to_owned());
                at += 1;
            }
            Token::Mark(mark @ ("(" | ")")) => {
                written.push((*mark).to_owned());
                at += 1;
            }
            Token::Word(path) => {
                let rest = tokens.get(at + 1..).unwrap_or_default();
                let (comparison, used) = comparison(path, rest, subject)?;
                written.push(comparison);
                at += 1 + used;
            }
            Token::Text(text) => {
                return Err(format!("{text} on the left of a comparison, where the field belongs,"));
            }
            Token::Mark(mark) => return Err(format!("`{mark}`")),
        }
    }
    Ok(written.join(" "))
}

/// One comparison, and how many tokens behind its path it takes.
fn comparison(path: &str, rest: &[Token<'_>], subject: Subject) -> Result<(String, usize), String> {
    if let Some(Token::Mark("(")) = rest.first() {
        return Err(format!("the function `{path}`"));
    }
    let mut keys = Vec::new();
    let mut used = 0;
    while let [Token::Mark("["), Token::Text(key), Token::Mark("]"), ..] = &rest[used..] {
        keys.push(*key);
        used += 3;
    }
    let field = field(path, &keys, subject).ok_or_else(|| format!("`{path}`"))?;
    let [Token::Mark(operator @ ("==" | "!=" | "<" | "<=" | ">" | ">=")), value, ..] = &rest[used..] else {
        return Err(format!("`{path}` without a comparison behind it"));
    };
    let value = match value {
        Token::Word(word) => literal(&field, word).ok_or_else(|| format!("`{word}`"))?,
        Token::Text(text) if *text == "\"\"" && is_absent_when_empty(&field) => "null".to_owned(),
        Token::Text(text) => (*text).to_owned(),
        Token::Mark(mark) => return Err(format!("`{mark}`")),
    };
    Ok((compared(&field, operator, &value), used + 2))
}

fn compared(field: &str, operator: &str, value: &str) -> String {
    if value == "null" {
        return format!("{field} {operator} null");
    }
    if field == "severity_number"
        && let Ok(number) = value.parse::<i64>()
    {
        let holds_of_none = match operator {
            "==" => number == 0,
            "!=" => number != 0,
            "<" => 0 < number,
            "<=" => 0 <= number,
            ">" => 0 > number,
            _ => 0 >= number,
        };
        return if holds_of_none {
            format!("({field} == null or {field} {operator} {value})")
        } else {
            format!("({field} != null and {field} {operator} {value})")
        };
    }
    match operator {
        "!=" => format!("not ({field} == {value})"),
        _ => format!("{field} {operator} {value}"),
    }
}

/// Texts of which protobuf does not say whether they are there.
fn is_absent_when_empty(field: &str) -> bool {
    matches!(field, "name" | "severity_text" | "scope.name" | "scope.version")
}

/// A path as the field of a selector.
fn field(path: &str, keys: &[&str], subject: Subject) -> Option<String> {
    let own = match subject {
        Subject::Span => "span.",
        Subject::Log => "log.",
        Subject::Metric => "metric.",
        Subject::Point => "datapoint.",
    };
    let path = path.strip_prefix(own).unwrap_or(path);
    let plain = match (subject, path) {
        (Subject::Span, "name" | "kind") | (Subject::Log, "severity_number" | "severity_text" | "body") => {
            Some(path)
        }
        (Subject::Span, "status.code") => Some("status"),
        (Subject::Log, "event_name") | (Subject::Metric, "name") | (Subject::Point, "metric.name") => {
            Some("name")
        }
        (_, "instrumentation_scope.name" | "scope.name") => Some("scope.name"),
        (_, "instrumentation_scope.version" | "scope.version") => Some("scope.version"),
        _ => None,
    };
    let named = match (subject, path) {
        (Subject::Span | Subject::Log | Subject::Point, "attributes") => Some("attributes"),
        (_, "resource.attributes") => Some("resource"),
        (_, "instrumentation_scope.attributes" | "scope.attributes") => Some("scope"),
        _ => None,
    };
    match (plain, named, keys) {
        (Some(plain), _, []) => Some(plain.to_owned()),
        (Some("body"), _, keys) => {
            Some(keys.iter().fold("body".to_owned(), |path, key| format!("{path}[{key}]")))
        }
        (_, Some(named), [key]) => Some(format!("{named}[{key}]")),
        _ => None,
    }
}

/// A number, a word or an enumeration's value as the literal of a selector.
fn literal(field: &str, word: &str) -> Option<String> {
    if word == "nil" {
        return Some("null".to_owned());
    }
    match field {
        "kind" => match word.strip_prefix("SPAN_KIND_")? {
            "UNSPECIFIED" => Some("null".to_owned()),
            kind => Some(kind.to_owned()),
        },
        "status" => match word {
            "0" => Some("UNSET".to_owned()),
            "1" => Some("OK".to_owned()),
            "2" => Some("ERROR".to_owned()),
            word => word.strip_prefix("STATUS_CODE_").map(ToOwned::to_owned),
        },
        "severity_number" => match word.strip_prefix("SEVERITY_NUMBER_") {
            Some(name) => severity(name).map(|number| number.to_string()),
            None => word.parse::<i64>().ok().map(|number| number.to_string()),
        },
        _ if matches!(word, "true" | "false") || word.parse::<f64>().is_ok() => Some(word.to_owned()),
        _ => None,
    }
}

fn severity(name: &str) -> Option<u8> {
    let class = name.trim_end_matches(['2', '3', '4']);
    let step = match name.strip_prefix(class)? {
        "" => 0,
        "2" => 1,
        "3" => 2,
        "4" => 3,
        _ => return None,
    };
    let first = match class {
        "UNSPECIFIED" => return (step == 0).then_some(0),
        "TRACE" => 1,
        "DEBUG" => 5,
        "INFO" => 9,
        "WARN" => 13,
        "ERROR" => 17,
        "FATAL" => 21,
        _ => return None,
    };
    Some(first + step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(subject: Subject, condition: &str, expected: &str) {
        assert_eq!(
            selector(condition, subject).map(|selector| selector.to_string()),
            Ok(expected.to_owned())
        );
    }

    #[track_caller]
    fn refuses(subject: Subject, condition: &str, says: &str) {
        let message = selector(condition, subject).expect_err("no selector says this");
        assert!(message.contains(says), "{message}");
    }

    #[test]
    fn conditions_that_selectors_can_say_become_selectors() {
        use Subject::{Log, Metric, Point, Span};
        check(
            Span,
            r#"attributes["container.name"] == "app_1""#,
            r#"attributes["container.name"] == "app_1""#,
        );
        check(Span, r#"resource.attributes["host"] != "a""#, r#"not (resource["host"] == "a")"#);
        check(
            Span,
            r#"attributes["a"] != nil and not (name == "x")"#,
            r#"attributes["a"] != null and not ( name == "x" )"#,
        );
        check(
            Span,
            "kind == SPAN_KIND_SERVER or status.code == STATUS_CODE_ERROR",
            "kind == SERVER or status == ERROR",
        );
        check(Span, r#"span.kind != SPAN_KIND_UNSPECIFIED"#, "kind != null");
        check(Span, r#"instrumentation_scope.name == """#, "scope.name == null");
        check(Span, r#"attributes["n"] >= 500"#, r#"attributes["n"] >= 500"#);
        check(
            Log,
            "severity_number < SEVERITY_NUMBER_WARN",
            "(severity_number == null or severity_number < 13)",
        );
        check(
            Log,
            "log.severity_number >= SEVERITY_NUMBER_ERROR2",
            "(severity_number != null and severity_number >= 18)",
        );
        check(Log, r#"body["a"]["b"] == true"#, r#"body["a"]["b"] == true"#);
        check(
            Metric,
            r#"name == "gen" and resource.attributes["c"] == "red""#,
            r#"name == "gen" and resource["c"] == "red""#,
        );
        check(
            Point,
            r#"metric.name == "m" and datapoint.attributes["a"] == "b""#,
            r#"name == "m" and attributes["a"] == "b""#,
        );
    }

    #[test]
    fn what_no_selector_says_is_named() {
        use Subject::{Log, Metric, Span};
        refuses(Log, r#"IsMatch(body, "drop.*")"#, "the function `IsMatch`");
        refuses(Metric, "type == METRIC_DATA_TYPE_SUM", "`type`");
        refuses(Metric, r#"attributes["a"] == 1"#, "`attributes`");
        refuses(Span, r#""x" == name"#, "where the field belongs");
        refuses(Span, "end_time_unix_nano - start_time_unix_nano > 5", "`end_time_unix_nano`");
        refuses(Span, "true", "`true`");
        refuses(Span, r#"name == "x"#, "does not end");
        refuses(Span, "name == x", "`x`");
        refuses(Span, r#"name == "x" and"#, "has a mistake");
        refuses(Span, "attributes[\"a\"][\"b\"] == 1", "`attributes`");
    }
}
