//! `homeostat validate`: everything that is wrong with a configuration, without opening a socket.

use homeostat_pipeline::settings::Problem;

use crate::cli::{self, FOUND, Format, GOOD};
use crate::{configuration, output};

/// Prints every problem; exit 1 when one is an error.
///
/// # Errors
/// None: mistakes are what it looks for.
pub fn command(arguments: &cli::Validate) -> anyhow::Result<u8> {
    let (code, problems) = match configuration::read(&arguments.configuration) {
        Ok((_, warnings)) => (GOOD, warnings),
        Err(problems) => (FOUND, problems),
    };
    match arguments.format {
        Format::Json => {
            let problems: Vec<_> = problems.iter().map(as_json).collect();
            output::line(&serde_json::json!({ "valid": code == GOOD, "problems": problems }).to_string());
        }
        Format::Text => {
            for problem in &problems {
                let word = if problem.is_warning { "warning" } else { "error" };
                output::line(&format!("{word}: {problem}"));
            }
            output::line(if code == GOOD {
                "the configuration is valid"
            } else {
                "the configuration is not valid"
            });
        }
    }
    Ok(code)
}

/// A problem for programs.
pub fn as_json(problem: &Problem) -> serde_json::Value {
    let place = problem
        .at
        .as_ref()
        .map(|at| serde_json::json!({ "file": &*at.source, "line": at.line, "column": at.column }));
    let severity = if problem.is_warning { "warning" } else { "error" };
    serde_json::json!({ "severity": severity, "message": problem.message, "at": place })
}
