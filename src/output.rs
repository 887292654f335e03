//! What the commands print. A reader that closes the pipe (`| head`) ends the printing quietly.

use std::io::{self, Write};

/// One line on standard output.
pub fn line(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}");
}

/// Text on standard output, at once.
pub fn raw(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// One line on standard error.
pub fn error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "homeostat: {text}");
}
