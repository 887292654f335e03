//! What the commands print. A reader that closes the pipe (`| head`) ends the printing quietly.

use std::io::{self, Write};

/// One line on standard output.
pub fn line(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}");
}

/// One line on standard error.
pub fn error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "homeostat: {text}");
}
