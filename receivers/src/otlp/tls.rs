//! TLS at a listener: certificates from files, read again when they change. A connection keeps the certificate that it began
//! with, so nothing is dropped.
//!
//! ```yaml
//! otlp:
//!   protocols:
//!     grpc:
//!       tls: { cert_file: server.pem, key_file: server.key, client_ca_file: clients.pem, reload_interval: 1m }
//! ```

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use homeostat_pipeline::settings::{At, Files, Period, Problem};
use homeostat_pipeline::watch::{self, Watched, watch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, crypto, version};
use tokio_util::sync::CancellationToken;

use super::settings::period_or;

/// `tls:` of a protocol, in the Collector's form.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The server's certificate and what leads to its root, in PEM.
    cert_file: At<String>,
    /// Its private key, in PEM.
    key_file: At<String>,
    /// Clients must show a certificate of one of these, where it is written.
    client_ca_file: Option<At<String>>,
    /// 1.2 where it is left out.
    #[serde(default)]
    min_version: Version,
    /// How often the files are looked at; 5 s where it is left out.
    reload_interval: Option<Period>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Version {
    /// RFC 5246.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}

impl Version {
    fn and_later(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Version::Tls12 => vec![&version::TLS13, &version::TLS12],
            Version::Tls13 => vec![&version::TLS13],
        }
    }
}

/// What a listener accepts TLS with.
pub type Acceptor = Arc<Watched<ServerConfig>>;

impl Tls {
    fn named(&self) -> impl Iterator<Item = &At<String>> {
        [&self.cert_file, &self.key_file].into_iter().chain(&self.client_ca_file)
    }

    /// What is wrong with the files.
    pub fn problem(&self, files: &Files) -> Option<Problem> {
        let mut texts = Vec::new();
        for file in self.named() {
            match files.text(&file.value, Some(&file.at)) {
                Ok(text) => texts.push(text.into_bytes()),
                Err(problem) => return Some(problem),
            }
        }
        let made = config(&texts, self.min_version, &[]);
        made.err().map(|error| Problem::error(&self.cert_file.at, format!("`tls`: {error:#}")))
    }

    /// Reads the files; speaks `protocols` (ALPN).
    ///
    /// # Errors
    /// A file cannot be read, or is not what it should be.
    pub fn open(
        &self,
        files: &Files,
        protocols: &'static [&'static [u8]],
        stop: CancellationToken,
    ) -> anyhow::Result<Acceptor> {
        let paths = self.named().map(|file| files.resolve(Path::new(&file.value))).collect();
        let version = self.min_version;
        let make = move |texts: &[Vec<u8>]| config(texts, version, protocols);
        watch(paths, period_or(self.reload_interval, watch::EVERY), stop, Box::new(make)).context("`tls`")
    }
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|_| anyhow::anyhow!("it is not PEM"))?;
    anyhow::ensure!(!certificates.is_empty(), "there is no certificate in it");
    Ok(certificates)
}

/// Of certificate, key and, where there is one, the clients' roots.
fn config(texts: &[Vec<u8>], min_version: Version, protocols: &[&[u8]]) -> anyhow::Result<ServerConfig> {
    let [certificate, key, clients @ ..] = texts else { anyhow::bail!("a certificate and a key are needed") };
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&min_version.and_later())?;
    let builder = match clients.first() {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(pem).context("the file of `client_ca_file`")? {
                roots.add(root).context("the file of `client_ca_file`")?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.context("the file of `client_ca_file`")?)
        }
    };
    let chain = certificates(certificate).context("the file of `cert_file`")?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| anyhow::anyhow!("there is no private key in the file of `key_file`"))?;
    let mut config = builder.with_single_cert(chain, key).context("certificate and key")?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}
