//! `basicauth`: user names and passwords (RFC 7617), for receivers to check and for exporters to send.
//!
//! ```yaml
//! basicauth/server: { htpasswd: { file: .htpasswd, inline: "me:${env:PASSWORD}" } }
//! basicauth/client: { client_auth: { username: me, password: "${env:PASSWORD}" } }
//! ```
//!
//! Lines are `user:password` in plain text. Deliberately absent: hashed passwords, because a hash that is slow enough to be
//! worth having costs more per request than all that homeostat does with it; keep the file as you keep a key.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use homeostat_pipeline::extension::{Authenticator, Credentials, Guard, is_same};
use homeostat_pipeline::secret::Secret;
use homeostat_pipeline::settings::{At, Files, Problem};
use homeostat_pipeline::watch::{EVERY, Watched, watch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// Its settings.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct Basic {
    /// For receivers.
    pub htpasswd: Option<Htpasswd>,
    /// For exporters.
    pub client_auth: Option<ClientAuth>,
}

/// Who may send.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Htpasswd {
    /// Read again when it changes.
    file: Option<At<String>>,
    /// Beside those of the file.
    inline: Option<At<Secret>>,
}

/// Who is sending.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAuth {
    /// Has no colon in it.
    username: At<String>,
    /// Sent as it is.
    password: At<Secret>,
}

/// The header's value for `user:password`.
fn header(pair: &str) -> Secret {
    Secret::new(format!("Basic {}", STANDARD.encode(pair)))
}

/// The header's value of each line.
fn users(text: &str) -> anyhow::Result<Vec<Secret>> {
    let mut users = Vec::new();
    for (at, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = at + 1;
        let Some((user, password)) =
            line.split_once(':').filter(|(user, password)| !user.is_empty() && !password.is_empty())
        else {
            anyhow::bail!("line {number} is not `user:password`");
        };
        let is_hashed = ["$2", "$apr1$", "$5$", "$6$", "{SHA}"].iter().any(|mark| password.starts_with(mark));
        anyhow::ensure!(
            !is_hashed,
            "the password of `{user}` in line {number} is hashed: write it in plain text"
        );
        users.push(header(line));
    }
    Ok(users)
}

fn all_users(inline: Option<&Secret>, file: Option<&str>) -> anyhow::Result<Vec<Secret>> {
    let mut all = users(inline.map_or("", Secret::reveal))?;
    all.extend(users(file.unwrap_or_default())?);
    anyhow::ensure!(!all.is_empty(), "there is no `user:password` in it");
    Ok(all)
}

impl Basic {
    /// What is wrong with it.
    pub fn problems(&self, files: &Files) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.htpasswd.is_none() && self.client_auth.is_none() {
            problems.push(Problem::somewhere(
                "`basicauth` needs `htpasswd` (for receivers) or `client_auth` (for exporters)",
            ));
        }
        if let Some(client) = &self.client_auth
            && (client.username.value.is_empty() || client.username.value.contains(':'))
        {
            problems.push(Problem::error(
                &client.username.at,
                "`username` must be there, and have no colon in it",
            ));
        }
        let Some(htpasswd) = &self.htpasswd else { return problems };
        let at =
            htpasswd.file.as_ref().map(|file| &file.at).or(htpasswd.inline.as_ref().map(|inline| &inline.at));
        let read = htpasswd.file.as_ref().map(|file| files.text(&file.value, Some(&file.at))).transpose();
        match read {
            Ok(text) => {
                let inline = htpasswd.inline.as_ref().map(|inline| &inline.value);
                if let Err(error) = all_users(inline, text.as_deref()) {
                    problems.push(Problem {
                        at: at.cloned(),
                        is_warning: false,
                        message: format!("`htpasswd`: {error}"),
                    });
                }
            }
            Err(problem) => problems.push(problem),
        }
        problems
    }

    /// Opens it.
    ///
    /// # Errors
    /// The file cannot be read or holds nobody.
    pub fn open(&self, files: &Files, stop: CancellationToken) -> anyhow::Result<Authenticator> {
        let mut authenticator = Authenticator::default();
        if let Some(htpasswd) = &self.htpasswd {
            let inline = htpasswd.inline.as_ref().map(|inline| inline.value.clone());
            let paths = htpasswd.file.iter().map(|file| files.resolve(Path::new(&file.value))).collect();
            let make = move |texts: &[Vec<u8>]| {
                let text = texts.first().map(|text| std::str::from_utf8(text)).transpose();
                all_users(inline.as_ref(), text.map_err(|_| anyhow::anyhow!("it is no text"))?)
            };
            authenticator.guard = Some(Arc::new(Users(watch(paths, EVERY, stop, Box::new(make))?)));
        }
        if let Some(client) = &self.client_auth {
            let pair = Secret::new(format!("{}:{}", client.username.value, client.password.value.reveal()));
            authenticator.credentials = Some(Arc::new(Client(header(pair.reveal()))));
        }
        Ok(authenticator)
    }
}

struct Users(Arc<Watched<Vec<Secret>>>);

impl Guard for Users {
    fn admits(&self, authorization: Option<&[u8]>) -> bool {
        let Some((scheme, rest)) = authorization.and_then(|value| value.split_at_checked(6)) else {
            return false;
        };
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return false;
        }
        let given = [b"Basic ", rest.trim_ascii()].concat();
        self.0.get().iter().fold(false, |is_good, user| is_same(&given, user.reveal().as_bytes()) | is_good)
    }

    fn challenge(&self) -> &'static str {
        "Basic realm=\"homeostat\""
    }
}

struct Client(Secret);

impl Credentials for Client {
    fn authorization(&self) -> Secret {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_pairs_in_plain_text_and_are_never_quoted() {
        assert_eq!(users("# us\nme:a:b\n\nyou:x").unwrap(), [header("me:a:b"), header("you:x")]);
        for bad in ["hunter2", ":hunter2", "me:", "me:$2y$10$hunter2", "me:{SHA}hunter2"] {
            let error = users(bad).unwrap_err().to_string();
            assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
        }
        assert!(all_users(None, Some("#\n")).is_err());
    }

    #[tokio::test]
    async fn who_is_sent_is_who_is_admitted() {
        let node = homeostat_config::parse(
            "x",
            "{htpasswd: {inline: \"me:hunter2\"}, client_auth: {username: me, password: hunter2}}",
        )
        .unwrap();
        let basic: Basic = homeostat_pipeline::settings::read(&node).unwrap();
        assert!(!format!("{basic:?}").contains("hunter2"));
        let files = Files { base: ".".into(), embedded: Default::default(), parse: homeostat_config::parse };
        assert_eq!(basic.problems(&files), []);
        let opened = basic.open(&files, CancellationToken::new()).unwrap();
        let (guard, sent) = (opened.guard.unwrap(), opened.credentials.unwrap().authorization());
        // RFC 4648 of `me:hunter2`.
        assert_eq!(sent.reveal(), "Basic bWU6aHVudGVyMg==");
        assert!(
            guard.admits(Some(sent.reveal().as_bytes())) && guard.admits(Some(b"basic bWU6aHVudGVyMg=="))
        );
        for wrong in [
            None,
            Some(&b"Basic"[..]),
            Some(b"Basic "),
            Some(b"Bearer bWU6aHVudGVyMg=="),
            Some(b"Basic bWU6aHVudGVyMw=="),
        ] {
            assert!(!guard.admits(wrong), "{wrong:?}");
        }
    }
}
