//! `basicauth`: user names and passwords (RFC 7617), for receivers to check and for exporters to send.
//!
//! ```yaml
//! basicauth/server: { htpasswd: { file: .htpasswd, inline: "me:${env:PASSWORD}" } }
//! basicauth/client: { client_auth: { username: me, password: "${env:PASSWORD}" } }
//! ```
//!
//! Lines are `user:password`, in plain text or hashed as `htpasswd` does it ([`password`]); what of them was found right is
//! remembered ([`mod@users`]), so that a slow hash is not paid for with each request.

mod password;
mod users;

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use homeostat_pipeline::extension::{Authenticator, Credentials, Guard, Verdict};
use homeostat_pipeline::secret::Secret;
use homeostat_pipeline::settings::{At, Files, Problem};
use homeostat_pipeline::watch::{EVERY, Watched, watch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use users::{Checks, Users};

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

fn users(inline: Option<&Secret>, file: Option<&str>) -> anyhow::Result<Users> {
    Users::read(&[inline.map_or("", Secret::reveal), file.unwrap_or_default()])
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
                if let Err(error) = users(inline, text.as_deref()) {
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
                users(inline.as_ref(), text.map_err(|_| anyhow::anyhow!("it is no text"))?)
            };
            let users = watch(paths, EVERY, stop, Box::new(make))?;
            authenticator.guard = Some(Arc::new(Door { users, checks: Checks::default() }));
        }
        if let Some(client) = &self.client_auth {
            let pair = Secret::new(format!("{}:{}", client.username.value, client.password.value.reveal()));
            authenticator.credentials = Some(Arc::new(Client(header(pair.reveal()))));
        }
        Ok(authenticator)
    }
}

struct Door {
    users: Arc<Watched<Users>>,
    checks: Checks,
}

impl Guard for Door {
    fn judge(&self, authorization: Option<&[u8]>) -> Verdict {
        self.users.get().judge(authorization, &self.checks)
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
        assert!(guard.judge(Some(sent.reveal().as_bytes())).known().await.is_ok());
        assert!(guard.judge(None).known().await.is_err());
    }

    #[tokio::test]
    async fn a_changed_file_forgets_who_was_right() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(".htpasswd");
        let line = |hash: &str| format!("me:{hash}\n");
        // By htpasswd and by crypt(3).
        let (of_password, of_hunter2) = (
            "$2y$05$nC6nErr9XZJuMJ57WyCob.EuZEjylDt2KaHfbfOtyb.EgL1I2jCVa",
            "$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.",
        );
        std::fs::write(&file, line(of_password)).unwrap();
        let make =
            |texts: &[Vec<u8>]| users(None, texts.first().map(|text| std::str::from_utf8(text)).transpose()?);
        let stop = CancellationToken::new();
        let every = std::time::Duration::from_millis(5);
        let watched = watch(vec![file.clone()], every, stop.clone(), Box::new(make)).unwrap();
        let door = Door { users: watched, checks: Checks::default() };
        let password = header("me:password");
        let asks = async || door.judge(Some(password.reveal().as_bytes())).known().await.is_ok();
        assert!(asks().await && asks().await);
        std::fs::write(&file, line(of_hunter2)).unwrap();
        while asks().await {
            tokio::task::yield_now().await;
        }
        assert!(door.judge(Some(header("me:hunter2").reveal().as_bytes())).known().await.is_ok());
        stop.cancel();
    }
}
