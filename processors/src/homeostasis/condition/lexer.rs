//! Text of a condition to tokens, each with its column.

use super::Fault;

/// A piece of a condition. Words are lower case.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// `5`, `0.5`, `1e-3`.
    Number(f64),
    /// `value`, `threshold.critical`, `and`, `minutes`.
    Word(String),
    /// `(`, `>=`, `and` written `&&` …, in one spelling each.
    Sign(&'static str),
    /// After the last.
    End,
}

impl Token {
    /// For messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Number(number) => format!("`{number}`"),
            Token::Word(word) => format!("`{word}`"),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end".to_owned(),
        }
    }
}

/// Longest first; what is written and what it means.
const SIGNS: [(&str, &str); 22] = [
    ("&&", "and"),
    ("||", "or"),
    (">=", ">="),
    ("<=", "<="),
    ("==", "=="),
    ("!=", "!="),
    ("≥", ">="),
    ("≤", "<="),
    (">", ">"),
    ("<", "<"),
    ("!", "not"),
    ("+", "+"),
    ("-", "-"),
    ("−", "-"),
    ("*", "*"),
    ("/", "/"),
    ("%", "%"),
    ("(", "("),
    (")", ")"),
    ("[", "["),
    ("]", "]"),
    (",", ","),
];

/// The tokens of `text` and their columns, counted in characters from 1; the last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Fault> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut column = 1;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_whitespace() {
            first.len_utf8()
        } else {
            let (token, length) = token(rest, first, column)?;
            found.push((column, token));
            length
        };
        let (read, tail) = rest.split_at(length);
        column += read.chars().count();
        rest = tail;
    }
    found.push((column, Token::End));
    Ok(found)
}

fn token(rest: &str, first: char, column: usize) -> Result<(Token, usize), Fault> {
    if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
        return number(rest, column);
    }
    if first.is_alphabetic() || first == '_' {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).unwrap_or(rest.len());
        return Ok((Token::Word(rest[..end].to_lowercase()), end));
    }
    if let Some((written, meant)) = SIGNS.iter().find(|(written, _)| rest.starts_with(written)) {
        return Ok((Token::Sign(meant), written.len()));
    }
    let remedy = match first {
        '=' => " (equality is `==`)",
        '&' => " (write `and`)",
        '|' => " (write `or`)",
        '"' | '\'' => " (conditions hold numbers, no text)",
        _ => "",
    };
    Err(Fault::new(column, format!("`{first}` means nothing here{remedy}")))
}

fn number(rest: &str, column: usize) -> Result<(Token, usize), Fault> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let mut end = digits(rest);
    if rest[end..].starts_with('.') {
        end += 1 + digits(&rest[end + 1..]);
    }
    if let Some(tail) = rest[end..].strip_prefix(['e', 'E']) {
        let sign = usize::from(tail.starts_with(['+', '-']));
        let exponent = digits(&tail[sign..]);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    if rest[end..].starts_with(['.', '_']) {
        return Err(Fault::new(column, "a number has one point and no separators (write `1000.5`)"));
    }
    let value: f64 = rest[..end].parse().unwrap_or(f64::NAN);
    if !value.is_finite() {
        return Err(Fault::new(column, format!("`{}` is no number that can be compared", &rest[..end])));
    }
    Ok((Token::Number(value), end))
}
