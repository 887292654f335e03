//! What the YAML of `postgres` says, and what is wrong with it.

use std::time::Duration;

use homeostat_pipeline::secret::Secret;
use homeostat_pipeline::settings::{At, Period, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// The settings of `postgres`; see the module for the YAML.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// `postgres://user:password@host:5432/database`, or `key=value` pairs as libpq has them.
    pub url: At<Secret>,
    /// Where the tables are; made when it is not there.
    #[serde(default)]
    pub schema: Option<At<String>>,
    /// How long a connection may take to be made.
    #[serde(default = "five_seconds")]
    pub connect_timeout: Period,
    /// How long the server may work on one statement.
    #[serde(default = "five_seconds")]
    pub statement_timeout: Period,
}

fn five_seconds() -> Period {
    Period(Duration::from_secs(5))
}

impl Postgres {
    /// The schema, `homeostat` unless set.
    pub fn schema(&self) -> &str {
        self.schema.as_ref().map_or("homeostat", |schema| &schema.value)
    }

    /// The connection's parameters.
    ///
    /// # Errors
    /// Says what to write; never what is written, for it may hold a password.
    pub fn config(&self) -> Result<Config, Problem> {
        let mut config: Config = self.url.value.reveal().parse().map_err(|_| {
            let message = "the `url` of `postgres` cannot be read (write `postgres://user:password@host:5432/database`; \
                           `sslmode` may be `disable` or `prefer`)";
            Problem::error(&self.url.at, message)
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(Problem::error(&self.url.at, "the `url` of `postgres` names no host"));
        }
        if !matches!(config.get_ssl_mode(), SslMode::Disable | SslMode::Prefer) {
            let message =
                "TLS to Postgres is not spoken yet (write `sslmode=prefer`, and keep the way there private)";
            return Err(Problem::error(&self.url.at, message));
        }
        config.connect_timeout(self.connect_timeout.0);
        config.keepalives_idle(Duration::from_secs(30));
        if config.get_application_name().is_none() {
            config.application_name("homeostat");
        }
        Ok(config)
    }

    /// All that is wrong.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.config().err().into_iter().collect();
        if let Some(schema) = &self.schema
            && !is_identifier(&schema.value)
        {
            let message =
                format!("`{}` is no schema (lower-case letters, digits, `_`; at most 63)", schema.value);
            problems.push(Problem::error(&schema.at, message));
        }
        if self.connect_timeout.0.is_zero() || self.statement_timeout.0 < Duration::from_millis(1) {
            let message = "`connect_timeout` and `statement_timeout` of `postgres` must be above 0";
            problems.push(Problem::error(&self.url.at, message));
        }
        problems
    }
}

/// A name that needs no quotes and is no schema of Postgres itself.
fn is_identifier(name: &str) -> bool {
    let is_first = |c: char| c.is_ascii_lowercase() || c == '_';
    name.len() <= 63
        && name.starts_with(is_first)
        && name.chars().all(|c| is_first(c) || c.is_ascii_digit())
        && !name.starts_with("pg_")
}

/// `host:port/database`, for logs and refusals.
pub fn peer(config: &Config) -> String {
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        })
        .chain(config.get_hostaddrs().iter().map(ToString::to_string))
        .take(1)
        .collect();
    let port = config.get_ports().first().copied().unwrap_or(5432);
    format!("{}:{port}/{}", hosts.join(""), config.get_dbname().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str, schema: Option<&str>) -> Postgres {
        let at = homeostat_pipeline::settings::Position { source: "test".into(), line: 1, column: 1 };
        Postgres {
            url: At { at: at.clone(), value: Secret::new(url) },
            schema: schema.map(|schema| At { at, value: schema.to_owned() }),
            connect_timeout: five_seconds(),
            statement_timeout: five_seconds(),
        }
    }

    fn check(url: &str, schema: Option<&str>, expected: &str) {
        let settings = settings(url, schema);
        let said: Vec<String> = settings.problems().into_iter().map(|problem| problem.message).collect();
        assert!(!format!("{said:?} {settings:?}").contains("hunter2"), "a secret was shown: {said:?}");
        match expected {
            "" => assert_eq!(said, Vec::<String>::new()),
            _ => assert!(said.iter().any(|message| message.contains(expected)), "{said:?}"),
        }
    }

    #[test]
    fn what_cannot_work_is_said_without_the_password() {
        let good = "postgres://me:hunter2@db:5433/shop";
        check(good, None, "");
        check("host=db user=me password=hunter2 dbname=shop", Some("feedback_2"), "");
        check("postgres://me:hunter2@db:port/shop", None, "cannot be read");
        check("postgres://me:hunter2@db/shop?sslmode=verify-full", None, "cannot be read");
        check("postgres://me:hunter2@db/shop?sslmode=require", None, "TLS to Postgres");
        check("user=me password=hunter2", None, "names no host");
        for schema in ["", "Homeostat", "a-b", "pg_x", "1a"] {
            check(good, Some(schema), "is no schema");
        }
    }

    #[test]
    fn a_peer_is_named_without_credentials() {
        let config = settings("postgres://me:hunter2@db:5433/shop", None).config().unwrap();
        assert_eq!(peer(&config), "db:5433/shop");
    }
}
