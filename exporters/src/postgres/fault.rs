//! What a failed statement means: try the batch again, take it apart, or call someone.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// Why a transaction did not commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A row of the batch is the reason: without it the rest commits.
    Row(String),
    /// The server, or the way to it: the same batch, later.
    Later(String),
    /// The same batch, later, but only after somebody has put it right.
    Act(String),
}

impl Fault {
    /// The fault that `error` is, by its SQLSTATE.
    pub fn of(error: &Error) -> Fault {
        let Some(said) = error.as_db_error() else { return Fault::Later(spoken(error)) };
        let detail = said.detail().map(|detail| format!("; {detail}")).unwrap_or_default();
        let text = format!("{}{detail} (SQLSTATE {})", said.message(), said.code().code());
        match kind(said.code()) {
            Kind::Row => Fault::Row(text),
            Kind::Later => Fault::Later(text),
            Kind::Act => Fault::Act(text),
        }
    }

    /// The reason, whatever follows from it.
    pub fn reason(&self) -> &str {
        match self {
            Fault::Row(reason) | Fault::Later(reason) | Fault::Act(reason) => reason,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::of(&error)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Row,
    Later,
    Act,
}

/// 22 data, 23 integrity, 54 program limit (a row too big for an index): the row. 08 connection, 40 serialisation, 53 resources,
/// 55P03 lock, 57 intervention, among them the statement timeout: later. What is left (permissions, missing tables, passwords,
/// corruption) nobody but a person ends, and it is tried again all the same.
fn kind(code: &SqlState) -> Kind {
    let code = code.code();
    match code.get(..2).unwrap_or_default() {
        "22" | "23" | "54" => Kind::Row,
        "08" | "40" | "53" | "57" => Kind::Later,
        _ if code == "55P03" => Kind::Later,
        _ => Kind::Act,
    }
}

/// An error with its causes, in one line.
pub fn spoken(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_say_what_to_do() {
        for (code, expected) in [
            ("22P02", Kind::Row),
            ("22021", Kind::Row),
            ("23505", Kind::Row),
            ("23514", Kind::Row),
            ("54000", Kind::Row),
            ("08006", Kind::Later),
            ("40001", Kind::Later),
            ("40P01", Kind::Later),
            ("53300", Kind::Later),
            ("55P03", Kind::Later),
            ("57014", Kind::Later),
            ("57P01", Kind::Later),
            ("57P03", Kind::Later),
            ("28P01", Kind::Act),
            ("42501", Kind::Act),
            ("42P01", Kind::Act),
            ("25006", Kind::Act),
            ("XX001", Kind::Act),
        ] {
            assert_eq!(kind(&SqlState::from_code(code)), expected, "{code}");
        }
    }
}
