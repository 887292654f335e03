//! From text to a condition: a lexer and a descent, both bounded.

use super::{Condition, Field, Literal, Operator, SelectorError, Status};
use crate::evidence::Kind;
use crate::settings::did_you_mean;

/// Longer selectors are refused.
const SELECTOR_BYTES_MAX: usize = 4096;
/// Parentheses and `not` deeper than this are refused.
const DEPTH_MAX: usize = 32;

const FIELDS: [&str; 9] = [
    "kind",
    "name",
    "status",
    "severity",
    "severity_number",
    "severity_text",
    "body",
    "attributes",
    "resource",
];
const SCOPE: [&str; 2] = ["scope.name", "scope.version"];
const KINDS: [(&str, Kind); 5] = [
    ("SERVER", Kind::Server),
    ("CLIENT", Kind::Client),
    ("INTERNAL", Kind::Internal),
    ("PRODUCER", Kind::Producer),
    ("CONSUMER", Kind::Consumer),
];
const STATUSES: [(&str, Status); 3] =
    [("OK", Status::Ok), ("ERROR", Status::Error), ("UNSET", Status::Unset)];
const SEVERITIES: [(&str, i64); 6] =
    [("TRACE", 1), ("DEBUG", 2), ("INFO", 3), ("WARN", 4), ("ERROR", 5), ("FATAL", 6)];

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Operator(Operator),
    Open,
    Close,
    OpenBracket,
    CloseBracket,
    And,
    Or,
    Not,
    End,
}

/// Reads a whole selector.
pub(super) fn parse(text: &str) -> Result<Condition, SelectorError> {
    if text.len() > SELECTOR_BYTES_MAX {
        return Err(fault(1, format!("the selector is longer than {SELECTOR_BYTES_MAX} bytes")));
    }
    let mut parser = Parser { tokens: lex(text)?, next: 0, depth: 0 };
    let condition = parser.or()?;
    if *parser.peek() != Token::End {
        return Err(parser.fault("expected `and`, `or` or the end"));
    }
    Ok(condition)
}

fn fault(column: usize, message: impl Into<String>) -> SelectorError {
    SelectorError { column, message: message.into() }
}

fn lex(text: &str) -> Result<Vec<(usize, Token)>, SelectorError> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let next = chars.get(at + 1).copied();
        let (token, len) = match chars[at] {
            c if c.is_whitespace() => {
                at += 1;
                continue;
            }
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '[' => (Token::OpenBracket, 1),
            ']' => (Token::CloseBracket, 1),
            '=' if next == Some('=') => (Token::Operator(Operator::Equal), 2),
            '=' => return Err(fault(at + 1, "`=` is no comparison (did you mean \"==\"?)")),
            '!' if next == Some('=') => (Token::Operator(Operator::Unequal), 2),
            '!' => (Token::Not, 1),
            '<' if next == Some('=') => (Token::Operator(Operator::LessOrEqual), 2),
            '<' => (Token::Operator(Operator::Less), 1),
            '>' if next == Some('=') => (Token::Operator(Operator::GreaterOrEqual), 2),
            '>' => (Token::Operator(Operator::Greater), 1),
            '&' if next == Some('&') => (Token::And, 2),
            '|' if next == Some('|') => (Token::Or, 2),
            quote @ ('"' | '\'') => lex_text(&chars, at, quote)?,
            c if c.is_ascii_digit() || (c == '-' && next.is_some_and(|c| c.is_ascii_digit())) => {
                lex_number(&chars, at)?
            }
            c if c.is_alphabetic() || c == '_' => lex_word(&chars, at),
            c => return Err(fault(at + 1, format!("unexpected `{c}`"))),
        };
        tokens.push((at + 1, token));
        at += len;
    }
    tokens.push((chars.len() + 1, Token::End));
    Ok(tokens)
}

fn lex_text(chars: &[char], at: usize, quote: char) -> Result<(Token, usize), SelectorError> {
    let mut text = String::new();
    let mut end = at + 1;
    while let Some(&c) = chars.get(end) {
        match c {
            c if c == quote => return Ok((Token::Text(text), end + 1 - at)),
            '\\' => {
                end += 1;
                text.push(match chars.get(end) {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some(&c @ ('\\' | '"' | '\'')) => c,
                    _ => return Err(fault(end, "only \\\\, \\\", \\', \\n and \\t can be escaped")),
                });
            }
            c => text.push(c),
        }
        end += 1;
    }
    Err(fault(at + 1, format!("the text has no closing {quote}")))
}

fn lex_number(chars: &[char], at: usize) -> Result<(Token, usize), SelectorError> {
    let is_part = |at: usize| {
        chars.get(at).is_some_and(|c| {
            c.is_ascii_alphanumeric()
                || *c == '.'
                || (*c == '-' || *c == '+') && matches!(chars[at - 1], 'e' | 'E')
        })
    };
    let mut end = at + 1;
    while is_part(end) {
        end += 1;
    }
    let number: String = chars[at..end].iter().collect();
    let token = match (number.parse::<i64>(), number.parse::<f64>()) {
        (Ok(integer), _) => Token::Integer(integer),
        (Err(_), Ok(float)) if float.is_finite() => Token::Float(float),
        _ => return Err(fault(at + 1, format!("`{number}` is no number"))),
    };
    Ok((token, end - at))
}

fn lex_word(chars: &[char], at: usize) -> (Token, usize) {
    let len = chars[at..].iter().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '.')).count();
    let word: String = chars[at..at + len].iter().collect();
    let token = match word.as_str() {
        "and" | "AND" => Token::And,
        "or" | "OR" => Token::Or,
        "not" | "NOT" => Token::Not,
        _ => Token::Word(word),
    };
    (token, len)
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn column(&self) -> usize {
        self.tokens[self.next].0
    }

    fn fault(&self, message: impl Into<String>) -> SelectorError {
        fault(self.column(), message)
    }

    /// The end is never passed.
    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn takes(&mut self, token: &Token) -> bool {
        let is_it = self.peek() == token;
        if is_it {
            self.take();
        }
        is_it
    }

    fn or(&mut self) -> Result<Condition, SelectorError> {
        let mut any = vec![self.and()?];
        while self.takes(&Token::Or) {
            any.push(self.and()?);
        }
        Ok(if any.len() == 1 { any.remove(0) } else { Condition::Or(any) })
    }

    fn and(&mut self) -> Result<Condition, SelectorError> {
        let mut all = vec![self.not()?];
        while self.takes(&Token::And) {
            all.push(self.not()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::And(all) })
    }

    fn not(&mut self) -> Result<Condition, SelectorError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.fault(format!("the selector nests deeper than {DEPTH_MAX}")));
        }
        let condition = if self.takes(&Token::Not) {
            Condition::Not(Box::new(self.not()?))
        } else if self.takes(&Token::Open) {
            let condition = self.or()?;
            if !self.takes(&Token::Close) {
                return Err(self.fault("expected `)`"));
            }
            condition
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn comparison(&mut self) -> Result<Condition, SelectorError> {
        let field = self.field()?;
        let at = self.column();
        let Token::Operator(operator) = self.take() else {
            let all = "expected a comparison: ==, !=, <, <=, >, >= (`!= null` asks whether it is there)";
            return Err(fault(at, all));
        };
        let value = self.column();
        let literal = self.literal(&field)?;
        let is_equality = matches!(operator, Operator::Equal | Operator::Unequal);
        let has_order = match literal {
            Literal::Integer(_) | Literal::Float(_) => true,
            Literal::Null | Literal::Text(_) | Literal::Bool(_) | Literal::Kind(_) | Literal::Status(_) => {
                false
            }
        };
        if !is_equality && !has_order {
            return Err(fault(value, "only numbers and severities are less or greater (use == or !=)"));
        }
        Ok(Condition::Compare(field, operator, literal))
    }

    fn field(&mut self) -> Result<Field, SelectorError> {
        let at = self.column();
        let Token::Word(word) = self.take() else {
            let examples =
                "expected a field such as `name` or `attributes[\"…\"]` (the value stands on the right)";
            return Err(fault(at, examples));
        };
        Ok(match word.as_str() {
            "kind" => Field::Kind,
            "name" => Field::Name,
            "status" => Field::Status,
            "severity" => Field::Severity,
            "severity_number" => Field::SeverityNumber,
            "severity_text" => Field::SeverityText,
            "scope.name" => Field::ScopeName,
            "scope.version" => Field::ScopeVersion,
            "body" => Field::Body(self.path()?),
            "attributes" => Field::Attribute(self.key()?),
            "resource" | "resource.attributes" => Field::Resource(self.key()?),
            "scope" | "scope.attributes" => Field::Scope(self.key()?),
            _ => {
                let near = did_you_mean(&word, FIELDS.into_iter().chain(SCOPE).chain(["scope"]));
                return Err(fault(at, format!("unknown field `{word}`{near}")));
            }
        })
    }

    fn path(&mut self) -> Result<Vec<String>, SelectorError> {
        let mut path = Vec::new();
        while *self.peek() == Token::OpenBracket {
            path.push(self.key()?);
        }
        Ok(path)
    }

    fn key(&mut self) -> Result<String, SelectorError> {
        let is_open = self.takes(&Token::OpenBracket);
        let column = self.column();
        let missing =
            || fault(column, "expected a name in brackets and quotes, as in `attributes[\"sea.flow\"]`");
        if !is_open {
            return Err(missing());
        }
        let Token::Text(key) = self.take() else { return Err(missing()) };
        if key.is_empty() {
            return Err(missing());
        }
        if !self.takes(&Token::CloseBracket) {
            return Err(self.fault("expected `]`"));
        }
        Ok(key)
    }

    fn literal(&mut self, field: &Field) -> Result<Literal, SelectorError> {
        let at = self.column();
        let token = self.take();
        let null = Token::Word("null".to_owned());
        if token == null || token == Token::Word("nil".to_owned()) {
            return Ok(Literal::Null);
        }
        match field {
            Field::Kind => Ok(Literal::Kind(word(at, &token, "SPAN_KIND_", "kind", &KINDS)?)),
            Field::Status => Ok(Literal::Status(word(at, &token, "STATUS_CODE_", "status", &STATUSES)?)),
            Field::Severity if matches!(token, Token::Integer(_)) => {
                Err(fault(at, "a severity is a word such as ERROR (`severity_number` takes numbers)"))
            }
            Field::Severity => {
                Ok(Literal::Integer(word(at, &token, "SEVERITY_NUMBER_", "severity", &SEVERITIES)?))
            }
            Field::SeverityNumber => {
                let Token::Integer(number) = token else {
                    return Err(fault(at, "a severity number is a number from 1 to 24 (17 is ERROR)"));
                };
                Ok(Literal::Integer(number))
            }
            Field::Name | Field::SeverityText | Field::ScopeName | Field::ScopeVersion => {
                let Token::Text(text) = token else {
                    return Err(fault(at, "expected text in quotes, or null"));
                };
                Ok(Literal::Text(text))
            }
            Field::Body(_) | Field::Attribute(_) | Field::Resource(_) | Field::Scope(_) => {
                value(token).map_err(|message| fault(at, message))
            }
        }
    }
}

fn value(token: Token) -> Result<Literal, String> {
    match token {
        Token::Text(text) => Ok(Literal::Text(text)),
        Token::Integer(number) => Ok(Literal::Integer(number)),
        Token::Float(number) => Ok(Literal::Float(number)),
        Token::Word(word) if word == "true" => Ok(Literal::Bool(true)),
        Token::Word(word) if word == "false" => Ok(Literal::Bool(false)),
        Token::Word(word) => Err(format!("`{word}` is no value (write \"{word}\" in quotes)")),
        Token::Operator(_)
        | Token::Open
        | Token::Close
        | Token::OpenBracket
        | Token::CloseBracket
        | Token::And
        | Token::Or
        | Token::Not
        | Token::End => Err("expected text in quotes, a number, true, false or null".to_owned()),
    }
}

/// A word of a closed list, quoted or not, in either case, with OTLP's prefix or without.
fn word<T: Copy>(
    at: usize,
    token: &Token,
    prefix: &str,
    what: &str,
    words: &[(&str, T)],
) -> Result<T, SelectorError> {
    let known = || words.iter().map(|(name, _)| *name);
    let (Token::Word(text) | Token::Text(text)) = token else {
        return Err(fault(at, format!("expected a {what}: {}", known().collect::<Vec<_>>().join(", "))));
    };
    let upper = text.to_uppercase();
    let name = upper.strip_prefix(prefix).unwrap_or(&upper);
    words.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or_else(|| {
        let near = did_you_mean(name, known());
        fault(at, format!("unknown {what} `{text}`{near}; known: {}", known().collect::<Vec<_>>().join(", ")))
    })
}
