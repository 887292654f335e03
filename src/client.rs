//! What the commands ask a running homeostat: JSON over the admin listener, and tables of what comes back.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client as Http;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use hyper::Method;

/// How long an answer may take; a decision waits for its commit.
const PATIENCE: Duration = Duration::from_secs(30);
/// At most so many bytes of an answer are read.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A running homeostat.
pub struct Client {
    admin: String,
}

impl Client {
    /// The one whose admin listener is at `admin`, such as `http://127.0.0.1:8888`.
    ///
    /// # Errors
    /// It is no such address.
    pub fn new(admin: &str) -> anyhow::Result<Client> {
        let address = admin.trim_end_matches('/');
        if !address.starts_with("http://") {
            bail!("`{admin}` is no admin address (write for example `http://127.0.0.1:8888`)");
        }
        Ok(Client { admin: address.to_owned() })
    }

    /// Asks, and reads the answer.
    ///
    /// # Errors
    /// Nobody answers, or the answer is no: then the error is its reason.
    pub fn ask<B: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> anyhow::Result<A> {
        let uri: Uri = format!("{}{path}", self.admin).parse().context("the admin address is no URI")?;
        let bytes = match body {
            Some(body) => Bytes::from(serde_json::to_vec(body)?),
            None => Bytes::new(),
        };
        let mut request = Request::builder().method(method).uri(uri);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(bytes))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asked = runtime.block_on(async { tokio::time::timeout(PATIENCE, answer(request)).await });
        let (status, bytes) = asked
            .with_context(|| format!("{} did not answer within {PATIENCE:?}", self.admin))?
            .with_context(|| {
                format!(
                    "cannot ask {} (is homeostat running? name its admin listener by `--admin`)",
                    self.admin
                )
            })?;
        if status == 200 || status == 201 {
            return serde_json::from_slice(&bytes).context("the answer is not what this version reads");
        }
        let said: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match said["error"].as_str() {
            Some(reason) => bail!("{reason}"),
            None => bail!("{} answered {status}", self.admin),
        }
    }
}

async fn answer(request: Request<Full<Bytes>>) -> anyhow::Result<(u16, Bytes)> {
    let http = Http::builder(TokioExecutor::new()).build_http();
    let response = http.request(request).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    Ok((status, body.map_err(|error| anyhow::anyhow!(error))?.to_bytes()))
}

/// A part of a path or a query.
pub fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Columns as wide as their widest cell.
pub fn table<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_path_is_encoded() {
        assert_eq!(encoded("DEV-20251124-001"), "DEV-20251124-001");
        assert_eq!(encoded("a b/ü?&="), "a%20b%2F%C3%BC%3F%26%3D");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["A", "BB"], ["CCC", "D"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), ["A    BB", "CCC  D"]);
    }
}
