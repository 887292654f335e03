//! What came of tests: for people, for programs, and for CI systems that read JUnit.

use std::fmt::Write as _;

use serde_json::json;

use super::run::Failure;
use crate::cli::TestFormat;
use crate::output;

/// One test that was run.
pub struct Told {
    /// The file.
    pub file: String,
    /// Its name.
    pub name: String,
    /// Empty when all is as expected.
    pub failures: Vec<Failure>,
}

/// Prints them.
pub fn print(all: &[Told], format: TestFormat) {
    match format {
        TestFormat::Text => print_text(all),
        TestFormat::Json => output::line(&as_json(all).to_string()),
        TestFormat::Junit => output::line(&junit(all)),
    }
}

fn print_text(all: &[Told]) {
    for told in all {
        let word = if told.failures.is_empty() { "ok  " } else { "FAIL" };
        output::line(&format!("{word} {} {}", told.file, told.name));
        told.failures.iter().for_each(|failure| output::line(&text(failure)));
    }
    let failed = all.iter().filter(|told| !told.failures.is_empty()).count();
    output::line(&format!("{} tests, {failed} failed", all.len()));
}

fn text(failure: &Failure) -> String {
    let mut text = format!(
        "     {}: {}\n       expected: {}\n            was: {}",
        failure.at, failure.what, failure.expected, failure.was
    );
    for (number, line) in failure.why.iter().enumerate() {
        let word = if number == 0 { "because" } else { "       " };
        let _ = write!(text, "\n        {word}: {line}");
    }
    text
}

fn as_json(all: &[Told]) -> serde_json::Value {
    let tests: Vec<_> = all
        .iter()
        .map(|told| {
            let failures: Vec<_> = told
                .failures
                .iter()
                .map(|failure| {
                    json!({
                        "file": &*failure.at.source, "line": failure.at.line, "what": failure.what,
                        "expected": failure.expected, "was": failure.was, "why": failure.why,
                    })
                })
                .collect();
            json!({ "file": told.file, "name": told.name, "passed": told.failures.is_empty(), "failures": failures })
        })
        .collect();
    let failed = all.iter().filter(|told| !told.failures.is_empty()).count();
    json!({ "tests": tests, "total": all.len(), "failed": failed })
}

fn junit(all: &[Told]) -> String {
    let failed = all.iter().filter(|told| !told.failures.is_empty()).count();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"homeostat\" tests=\"{}\" failures=\"{failed}\">\n",
        all.len()
    );
    for told in all {
        let (file, name) = (escaped(&told.file), escaped(&told.name));
        let _ = write!(xml, "<testcase classname=\"{file}\" name=\"{name}\">");
        for failure in &told.failures {
            let message =
                escaped(&format!("{}: expected {}, was {}", failure.what, failure.expected, failure.was));
            let _ = write!(xml, "<failure message=\"{message}\">{}</failure>", escaped(&text(failure)));
        }
        xml.push_str("</testcase>\n");
    }
    xml + "</testsuite>\n</testsuites>"
}

/// XML 1.0 §2.4; what XML cannot hold at all becomes a question mark.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(letter),
            letter if letter.is_control() => out.push('?'),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junit_says_nothing_that_xml_cannot_hold() {
        assert_eq!(escaped("a<b & \"c\"\u{1}"), "a&lt;b &amp; &quot;c&quot;?");
        let told = Told { file: "f".into(), name: "n".into(), failures: Vec::new() };
        assert!(junit(&[told]).contains("tests=\"1\" failures=\"0\""));
    }
}
