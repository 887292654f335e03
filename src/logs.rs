//! Own logs: for people on a terminal, JSON otherwise; on standard error.

use std::io::{self, IsTerminal};

use homeostat_config::Logs;
use homeostat_pipeline::settings::Problem;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The NATS client reports every attempt of its own to connect, some as errors, and the migrations name source files; what
/// matters of both their exporters say.
const QUIET: &str = "async_nats=off,refinery_core=warn";

/// What is wrong with the settings.
pub fn check(settings: &Logs) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(level) = &settings.level
        && let Err(why) = filter(&level.value)
    {
        problems.push(Problem::error(&level.at, why));
    }
    if let Some(encoding) = &settings.encoding
        && !["console", "json"].contains(&encoding.value.as_str())
    {
        let message = format!("`{}` is neither `console` nor `json`", encoding.value);
        problems.push(Problem::error(&encoding.at, message));
    }
    problems
}

/// A level, or a filter as in `RUST_LOG`: `info,homeostat_exporters=debug`.
fn filter(text: &str) -> Result<EnvFilter, String> {
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric());
    // The empty text would be a level too: `error`.
    let level = text.parse::<LevelFilter>().ok().filter(|_| !text.is_empty());
    let filter = match level {
        Some(level) if level != LevelFilter::OFF && level <= LevelFilter::INFO => {
            EnvFilter::try_new(format!("{text},{QUIET}"))
        }
        None if is_word => {
            return Err(format!(
                "`{text}` is no level (write `debug`, `info`, `warn` or `error`, or a filter such as `info,homeostat_exporters=debug`)"
            ));
        }
        Some(_) | None => EnvFilter::try_new(text),
    };
    filter.map_err(|error| format!("`{text}` is no filter of logs: {error}"))
}

/// Installs the subscriber, once per process.
///
/// # Errors
/// The level or the encoding is unknown, or `RUST_LOG` is wrong.
pub fn install(settings: &Logs) -> anyhow::Result<()> {
    if let Some(problem) = check(settings).into_iter().next() {
        return Err(problem.into());
    }
    let filter = match (&settings.level, std::env::var("RUST_LOG")) {
        (Some(level), _) => filter(&level.value),
        (None, Ok(text)) if !text.is_empty() => filter(&text).map_err(|why| format!("RUST_LOG: {why}")),
        (None, _) => filter("info"),
    }
    .map_err(anyhow::Error::msg)?;
    let is_json = match settings.encoding.as_ref().map(|encoding| encoding.value.as_str()) {
        None => !io::stderr().is_terminal(),
        Some(encoding) => encoding == "json",
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let installed = if is_json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.try_init()
    };
    installed.map_err(|error| anyhow::anyhow!("the log cannot be installed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_known_word_or_a_filter() {
        for good in
            ["debug", "info", "WARN", "off", "info,homeostat_exporters=debug", "homeostat_exporters=debug"]
        {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["loud", "", "a=loud"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_clients_own_chatter_is_not_logged_unless_asked_for() {
        assert!(filter("info").is_ok_and(|filter| filter.to_string().contains("async_nats=off")));
        assert!(filter("debug").is_ok_and(|filter| !filter.to_string().contains("async_nats")));
    }
}
