//! `bearertokenauth`: one token, for receivers to check and for exporters to send.
//!
//! ```yaml
//! bearertokenauth: { token: "${env:TOKEN}" }
//! bearertokenauth/file: { filename: token.txt, scheme: Bearer }
//! ```
//!
//! A file may hold several tokens, a line each: receivers take every one, exporters send the first. So a token is rotated by
//! writing the new one above the old one.

use std::path::Path;
use std::sync::Arc;

use homeostat_pipeline::extension::{Authenticator, Credentials, Guard, Verdict, is_same};
use homeostat_pipeline::secret::Secret;
use homeostat_pipeline::settings::{At, Files, Problem};
use homeostat_pipeline::watch::{EVERY, Watched, watch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// Its settings.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bearer {
    /// Before the token, with a space; `Bearer` where it is left out.
    #[serde(default = "bearer")]
    scheme: String,
    /// The token itself.
    token: Option<At<Secret>>,
    /// The file that holds it; read again when it changes.
    filename: Option<At<String>>,
}

fn bearer() -> String {
    "Bearer".to_owned()
}

/// The values of the header, the first for sending.
struct Tokens(Vec<Secret>);

fn tokens(scheme: &str, text: &str) -> anyhow::Result<Tokens> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let header = |token: &str| {
        Secret::new(if scheme.is_empty() { token.to_owned() } else { format!("{scheme} {token}") })
    };
    let tokens: Vec<Secret> = lines.map(header).collect();
    anyhow::ensure!(!tokens.is_empty(), "there is no token in it");
    anyhow::ensure!(
        tokens.iter().all(|token| token.reveal().bytes().all(|byte| (0x20..0x7f).contains(&byte))),
        "a token has letters that no header can have"
    );
    Ok(Tokens(tokens))
}

impl Bearer {
    /// What is wrong with it.
    pub fn problems(&self, files: &Files) -> Vec<Problem> {
        let problem = match (&self.token, &self.filename) {
            (Some(token), None) => tokens(&self.scheme, token.value.reveal())
                .err()
                .map(|error| Problem::error(&token.at, format!("`token`: {error}"))),
            (None, Some(file)) => match files.text(&file.value, Some(&file.at)) {
                Ok(text) => tokens(&self.scheme, &text)
                    .err()
                    .map(|error| Problem::error(&file.at, format!("`{}`: {error}", file.value))),
                Err(problem) => Some(problem),
            },
            (None, None) | (Some(_), Some(_)) => {
                Some(Problem::somewhere("`bearertokenauth` needs one of `token` and `filename`"))
            }
        };
        problem.into_iter().collect()
    }

    /// Opens it.
    ///
    /// # Errors
    /// The file cannot be read or holds no token.
    pub fn open(&self, files: &Files, stop: CancellationToken) -> anyhow::Result<Authenticator> {
        let scheme = self.scheme.clone();
        let inline = self.token.as_ref().map(|token| token.value.clone());
        let paths = self.filename.iter().map(|file| files.resolve(Path::new(&file.value))).collect();
        let make = move |texts: &[Vec<u8>]| match (&inline, texts.first()) {
            (Some(token), _) => tokens(&scheme, token.reveal()),
            (None, Some(text)) => {
                tokens(&scheme, std::str::from_utf8(text).map_err(|_| anyhow::anyhow!("it is no text"))?)
            }
            (None, None) => anyhow::bail!("there is no token"),
        };
        let header = Arc::new(Header(watch(paths, EVERY, stop, Box::new(make))?));
        Ok(Authenticator { guard: Some(header.clone()), credentials: Some(header) })
    }
}

struct Header(Arc<Watched<Tokens>>);

impl Guard for Header {
    fn judge(&self, authorization: Option<&[u8]>) -> Verdict {
        let given = authorization.unwrap_or_default();
        let tokens = self.0.get();
        let is_good = |is_good, token: &Secret| is_same(given, token.reveal().as_bytes()) | is_good;
        tokens.0.iter().fold(false, is_good).into()
    }

    fn challenge(&self) -> &'static str {
        "Bearer"
    }
}

impl Credentials for Header {
    fn authorization(&self) -> Secret {
        self.0.get().0.first().cloned().unwrap_or_else(|| Secret::new(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_token_and_the_first_is_sent() {
        let read = tokens("Bearer", "\n new \nold\n").unwrap();
        let shown: Vec<&str> = read.0.iter().map(Secret::reveal).collect();
        assert_eq!(shown, ["Bearer new", "Bearer old"]);
        assert_eq!(tokens("", "x").unwrap().0[0].reveal(), "x");
        for bad in ["", " \n", "a\u{7f}b", "Ü"] {
            assert!(tokens("Bearer", bad).is_err_and(|error| !error.to_string().contains("Ü")), "{bad}");
        }
    }

    #[tokio::test]
    async fn only_the_whole_token_is_admitted() {
        let authenticator = Bearer {
            scheme: bearer(),
            token: Some(At {
                at: homeostat_pipeline::settings::Position { source: "x".into(), line: 1, column: 1 },
                value: Secret::new("hunter2"),
            }),
            filename: None,
        };
        let files = Files { base: ".".into(), embedded: Default::default(), parse: homeostat_config::parse };
        assert_eq!(authenticator.problems(&files), []);
        assert!(!format!("{authenticator:?}").contains("hunter2"));
        let opened = authenticator.open(&files, CancellationToken::new()).unwrap();
        let (guard, credentials) = (opened.guard.unwrap(), opened.credentials.unwrap());
        assert_eq!(credentials.authorization().reveal(), "Bearer hunter2");
        assert!(guard.judge(Some(b"Bearer hunter2")).known().await.is_ok());
        for wrong in [
            None,
            Some(&b""[..]),
            Some(b"hunter2"),
            Some(b"Bearer hunter"),
            Some(b"Bearer hunter22"),
            Some(b"bearer hunter2"),
        ] {
            assert!(guard.judge(wrong).known().await.is_err(), "{wrong:?}");
        }
    }
}
