//! What the YAML of `nats` says, and what is wrong with it.

use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use homeostat_pipeline::secret::Secret;
use homeostat_pipeline::settings::{At, Files, Period, Position, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::{Naming, SubjectLayout};

/// The settings of `nats`; see the module for the YAML.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Nats {
    /// The servers of one cluster; credentials in a URL are taken from it and never shown.
    pub servers: Vec<At<Secret>>,
    /// The first token or tokens of every subject.
    pub prefix: Option<At<String>>,
    /// Whether subjects have the tail to filter by.
    pub subject_layout: SubjectLayout,
    /// CloudEvents `source`.
    pub source: Option<String>,
    /// The stream to create where none covers the subjects.
    pub stream: StreamSettings,
    /// Who we are.
    pub auth: Auth,
    /// How long a connection may take to be made.
    pub connect_timeout: Period,
    /// How long an acknowledgement or an answer may take.
    pub timeout: Period,
    /// How often a silent server is asked whether it is there; two unanswered pings are a lost connection.
    pub ping_interval: Period,
    /// Events published and not yet acknowledged.
    pub in_flight: usize,
}

/// The stream to create where none covers the subjects.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StreamSettings {
    /// Its name.
    pub name: Option<At<String>>,
    /// How long it keeps events.
    pub max_age: Period,
    /// How much it keeps; 0 is without a limit.
    pub max_bytes: u64,
    /// In a cluster, on how many servers.
    pub replicas: usize,
    /// How long the server itself knows an event id again.
    pub duplicate_window: Period,
    /// Whether to create it at all.
    pub create: bool,
}

/// Credentials: `user` and `password`, or `token`, or `nkey` (the seed), or `creds_file`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// With `password`.
    pub user: Option<String>,
    /// With `user`.
    pub password: Option<Secret>,
    /// A shared token.
    pub token: Option<Secret>,
    /// The seed of an NKey (`SU…`).
    pub nkey: Option<Secret>,
    /// A file as `nsc` writes it: a JWT and its seed.
    pub creds_file: Option<At<String>>,
}

/// The user and the password of a server's URL, decoded; the password is empty where the URL has a token.
pub type UrlCredentials = Option<(String, String)>;

impl Default for Nats {
    fn default() -> Nats {
        let seconds = |seconds| Period(Duration::from_secs(seconds));
        Nats {
            servers: vec![At { at: nowhere(), value: Secret::new("nats://127.0.0.1:4222") }],
            prefix: None,
            subject_layout: SubjectLayout::default(),
            source: None,
            stream: StreamSettings::default(),
            auth: Auth::default(),
            connect_timeout: seconds(5),
            timeout: seconds(5),
            ping_interval: seconds(3),
            in_flight: 256,
        }
    }
}

impl Default for StreamSettings {
    fn default() -> StreamSettings {
        StreamSettings {
            name: None,
            max_age: Period(Duration::from_secs(7 * 86_400)),
            max_bytes: 0,
            replicas: 1,
            duplicate_window: Period(Duration::from_secs(120)),
            create: true,
        }
    }
}

impl StreamSettings {
    /// The name, `SEA_EVENTS` unless set.
    pub fn name(&self) -> &str {
        self.name.as_ref().map_or("SEA_EVENTS", |name| &name.value)
    }
}

impl Nats {
    /// How events are named.
    pub fn naming(&self) -> Naming {
        Naming {
            prefix: self.prefix.as_ref().map_or("sea", |prefix| &prefix.value).to_owned(),
            layout: self.subject_layout,
            source: self.source.clone(),
        }
    }

    /// The servers without the credentials of their URLs, and those credentials: those of the first URL that has any.
    ///
    /// # Errors
    /// Names the server by its number, for its text may hold a password.
    pub fn addresses(&self) -> Result<(Vec<ServerAddr>, UrlCredentials), Problem> {
        let mut addresses = Vec::new();
        let mut credentials = None;
        for (index, server) in self.servers.iter().enumerate() {
            let fault = || {
                let number = index + 1;
                Problem::error(
                    &server.at,
                    format!("server {number} is no NATS address (write `nats://host:4222`)"),
                )
            };
            let parsed: ServerAddr = server.value.reveal().parse().map_err(|_| fault())?;
            if parsed.host().is_empty() || !["nats", "tls"].contains(&parsed.scheme()) {
                return Err(fault());
            }
            if let Some(user) = parsed.username() {
                let password = parsed.password().unwrap_or_default();
                let (user, password) = (decoded(user), decoded(password));
                credentials.get_or_insert((user, password));
            }
            let mut bare = parsed.into_inner();
            bare.set_username("").and_then(|()| bare.set_password(None)).map_err(|()| fault())?;
            addresses.push(ServerAddr::from_url(bare).map_err(|_| fault())?);
        }
        Ok((addresses, credentials))
    }

    /// The options of the connection, credentials included.
    ///
    /// # Errors
    /// The credentials file cannot be read or is none.
    pub fn options(&self, files: &Files, url: UrlCredentials) -> Result<ConnectOptions, Problem> {
        let mut options = ConnectOptions::new()
            .name("homeostat")
            .retry_on_initial_connect()
            .connection_timeout(self.connect_timeout.0)
            .request_timeout(Some(self.timeout.0))
            .ping_interval(self.ping_interval.0);
        let auth = &self.auth;
        let user = auth.user.clone().map(|user| (user, auth.password.clone()));
        if let Some((user, password)) = user {
            let password = password.map(|password| password.reveal().to_owned()).unwrap_or_default();
            options = options.user_and_password(user, password);
        } else if let Some((user, password)) = url {
            // As other clients have it: a URL with a name and no password is a token.
            options = if password.is_empty() {
                options.token(user)
            } else {
                options.user_and_password(user, password)
            };
        }
        if let Some(token) = &auth.token {
            options = options.token(token.reveal().to_owned());
        }
        if let Some(seed) = &auth.nkey {
            options = options.nkey(seed.reveal().to_owned());
        }
        if let Some(file) = &auth.creds_file {
            let text = files.text(&file.value, Some(&file.at))?;
            options = options.credentials(&text).map_err(|_| {
                let message = format!(
                    "`{}` is no NATS credentials file (make one with `nsc generate creds`)",
                    file.value
                );
                Problem::error(&file.at, message)
            })?;
        }
        Ok(options)
    }

    /// All that is wrong.
    pub fn problems(&self, files: &Files) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.servers.is_empty() {
            problems.push(Problem::somewhere(
                "`nats` has no `servers` (write `servers: [\"nats://host:4222\"]`)",
            ));
        }
        match self.addresses() {
            Err(problem) => problems.push(problem),
            Ok((_, credentials)) => problems.extend(self.options(files, credentials).err()),
        }
        if let Some(prefix) = &self.prefix
            && !prefix.value.split('.').all(is_token)
        {
            let message = format!(
                "the prefix `{}` is no subject (letters, digits, `_`, `-` between full stops)",
                prefix.value
            );
            problems.push(Problem::error(&prefix.at, message));
        }
        if let Some(name) = &self.stream.name
            && !is_token(&name.value)
        {
            let message = format!("`{}` is no name for a stream (letters, digits, `_`, `-`)", name.value);
            problems.push(Problem::error(&name.at, message));
        }
        problems.extend(self.quantities().into_iter().map(Problem::somewhere));
        problems
    }

    fn quantities(&self) -> Vec<&'static str> {
        let (auth, stream) = (&self.auth, &self.stream);
        let ways =
            [auth.user.is_some(), auth.token.is_some(), auth.nkey.is_some(), auth.creds_file.is_some()];
        let periods = [self.connect_timeout, self.timeout, self.ping_interval];
        [
            (
                ways.iter().filter(|is_set| **is_set).count() > 1,
                "`nats` has more than one way to authenticate (keep one of user, token, nkey, creds_file)",
            ),
            (
                auth.user.is_some() != auth.password.is_some(),
                "`auth.user` and `auth.password` of `nats` belong together",
            ),
            (
                auth.nkey.as_ref().is_some_and(|seed| !is_user_seed(seed.reveal())),
                "`auth.nkey` of `nats` is no user's seed (it begins with `SU` and has 58 characters)",
            ),
            (
                periods.iter().any(|period| period.0.is_zero()),
                "`connect_timeout`, `timeout` and `ping_interval` of `nats` must be above 0",
            ),
            (!(1..=4096).contains(&self.in_flight), "`in_flight` of `nats` must be from 1 to 4096"),
            (!(1..=5).contains(&stream.replicas), "`stream.replicas` of `nats` must be from 1 to 5"),
            (
                !stream.max_age.0.is_zero() && stream.duplicate_window.0 > stream.max_age.0,
                "`stream.duplicate_window` of `nats` is longer than `stream.max_age` (the server refuses that)",
            ),
        ]
        .into_iter()
        .filter_map(|(is_wrong, message)| is_wrong.then_some(message))
        .collect()
    }
}

fn nowhere() -> Position {
    Position { source: "<default>".into(), line: 1, column: 1 }
}

/// Base 32 of a prefix byte, a type byte, 32 bytes and a checksum of 2; a user's begins with `SU`.
fn is_user_seed(text: &str) -> bool {
    text.len() == 58
        && text.starts_with("SU")
        && text.bytes().all(|c| c.is_ascii_uppercase() || (b'2'..=b'7').contains(&c))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-')
}

/// Undoes the percent encoding of a URL's user part; what is no encoding stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = |index: usize| tail.get(index).and_then(|c| char::from(*c).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_servers(servers: &[&str]) -> Nats {
        let servers = servers.iter().map(|url| At { at: nowhere(), value: Secret::new(*url) }).collect();
        Nats { servers, ..Nats::default() }
    }

    fn files() -> Files {
        let parse = |_: &str, _: &str| Err(Problem::somewhere("no YAML here"));
        Files { base: ".".into(), embedded: [("bad.creds".to_owned(), "no".to_owned())].into(), parse }
    }

    fn check(change: impl FnOnce(&mut Nats), expected: &str) {
        let mut nats = Nats::default();
        change(&mut nats);
        let problems: Vec<String> =
            nats.problems(&files()).into_iter().map(|problem| problem.message).collect();
        match expected {
            "" => assert_eq!(problems, Vec::<String>::new()),
            _ => assert!(problems.iter().any(|message| message.contains(expected)), "{problems:?}"),
        }
    }

    #[test]
    fn credentials_leave_the_url_and_are_never_shown() {
        let nats = with_servers(&["nats://al%40ice:s%3Acret@one:4222", "two"]);
        let (addresses, credentials) = nats.addresses().unwrap();
        let shown = format!("{nats:?} {addresses:?}");
        assert!(!shown.contains("cret") && !shown.contains("ice"), "{shown}");
        assert_eq!(credentials, Some(("al@ice".to_owned(), "s:cret".to_owned())));
        assert_eq!((addresses[1].host(), addresses[1].port()), ("two", 4222));
    }

    #[test]
    fn what_is_no_server_is_named_by_its_number_only() {
        for bad in ["http://user:secret@host", "nats://", "nats://user:secret@host:port"] {
            let problem = with_servers(&["ok", bad]).addresses().unwrap_err();
            assert!(problem.message.contains("server 2") && !problem.message.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_said() {
        let at = |text: &str| Some(At { at: nowhere(), value: text.to_owned() });
        check(|_| (), "");
        check(|nats| nats.servers.clear(), "no `servers`");
        check(|nats| nats.prefix = at("sea.prod"), "");
        check(|nats| nats.prefix = at("sea.>"), "is no subject");
        check(|nats| nats.stream.name = at("SEA.EVENTS"), "no name for a stream");
        check(|nats| nats.auth.user = Some("x".to_owned()), "belong together");
        check(|nats| nats.auth.creds_file = at("bad.creds"), "no NATS credentials file");
        check(|nats| nats.auth.creds_file = at("missing.creds"), "cannot read");
        check(|nats| nats.auth.nkey = Some(Secret::new("secret")), "no user's seed");
        let seed = format!("SU{}", "A2".repeat(28));
        check(|nats| nats.auth.nkey = Some(Secret::new(seed.as_str())), "");
        check(|nats| nats.in_flight = 0, "`in_flight`");
        check(|nats| nats.timeout = Period(Duration::ZERO), "above 0");
        check(|nats| nats.stream.max_age = Period(Duration::from_secs(60)), "longer than `stream.max_age`");
        check(
            |nats| {
                nats.auth.token = Some(Secret::new("a"));
                nats.auth.nkey = Some(Secret::new("b"));
            },
            "more than one way",
        );
    }
}
