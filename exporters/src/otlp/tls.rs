//! How the exporter connects: plain for `http`, TLS for `https`, with certificates that are read again when they change. A
//! connection keeps what it began with.
//!
//! Deliberately absent: trusting whoever answers (`insecure_skip_verify`).

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Context as _;
use homeostat_pipeline::settings::{At, Files, Period, Problem};
use homeostat_pipeline::watch::{self, Watched, watch};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto, version};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::CONNECT_TIMEOUT;
use super::settings::period_or;

/// `tls:` of an exporter, in the Collector's form.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// An endpoint without a scheme is plain.
    pub insecure: bool,
    /// Must be off.
    pub insecure_skip_verify: bool,
    /// Who signs the backend's certificate; the system's roots where it is left out.
    pub ca_file: Option<At<String>>,
    /// The exporter's own certificate.
    pub cert_file: Option<At<String>>,
    /// Its private key.
    pub key_file: Option<At<String>>,
    /// The name that the backend's certificate must have; the endpoint's host where it is left out.
    pub server_name_override: Option<At<String>>,
    /// The oldest version that is spoken; 1.2 where it is left out.
    pub min_version: Option<At<Version>>,
    /// The newest version that is spoken; 1.3 where it is left out.
    pub max_version: Option<At<Version>>,
    /// How often the files are looked at; 5 s where it is left out.
    pub reload_interval: Option<Period>,
}

/// A version of TLS, as the Collector writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum Version {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V13,
}

impl Tls {
    /// The versions to offer; none when the oldest is newer than the newest.
    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let min = self.min_version.as_ref().map_or(Version::V12, |version| version.value);
        let max = self.max_version.as_ref().map_or(Version::V13, |version| version.value);
        let known = [(Version::V13, &version::TLS13), (Version::V12, &version::TLS12)];
        known
            .into_iter()
            .filter(|(version, _)| (min..=max).contains(version))
            .map(|(_, known)| known)
            .collect()
    }

    fn named(&self) -> impl Iterator<Item = &At<String>> {
        [&self.ca_file, &self.cert_file, &self.key_file].into_iter().flatten()
    }

    fn make(&self) -> impl Fn(&[Vec<u8>]) -> anyhow::Result<ClientConfig> + Send + Sync + use<> {
        let (has_ca, has_certificate) = (self.ca_file.is_some(), self.cert_file.is_some());
        let versions = self.versions();
        move |texts| {
            let (ca, own) = texts.split_at(usize::from(has_ca));
            config(&versions, ca.first().map(Vec::as_slice), if has_certificate { own } else { &[] })
        }
    }

    /// Everything wrong with the settings and the files.
    pub fn problems(&self, files: &Files) -> Vec<Problem> {
        if self.insecure_skip_verify {
            return vec![Problem::somewhere(
                "`insecure_skip_verify` is not supported here: write who signs the backend's certificate into `ca_file`",
            )];
        }
        if let (Some(min), []) = (&self.min_version, self.versions().as_slice()) {
            return vec![Problem::error(
                &min.at,
                "`min_version` is newer than `max_version`: leave one of them out",
            )];
        }
        if let (Some(file), None) | (None, Some(file)) = (&self.cert_file, &self.key_file) {
            return vec![Problem::error(&file.at, "`cert_file` and `key_file` belong together: write both")];
        }
        if let Some(name) = &self.server_name_override
            && ServerName::try_from(name.value.as_str()).is_err()
        {
            return vec![Problem::error(&name.at, "`server_name_override` is no host's name")];
        }
        let mut texts = Vec::new();
        for file in self.named() {
            match files.text(&file.value, Some(&file.at)) {
                Ok(text) => texts.push(text.into_bytes()),
                Err(problem) => return vec![problem],
            }
        }
        let Some(first) = self.named().next() else { return Vec::new() };
        let made = self.make()(&texts);
        made.err().map(|error| Problem::error(&first.at, format!("`tls`: {error:#}"))).into_iter().collect()
    }
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|_| anyhow::anyhow!("it is not PEM"))?;
    anyhow::ensure!(!certificates.is_empty(), "there is no certificate in it");
    Ok(certificates)
}

fn roots(ca: Option<&[u8]>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            for root in certificates(pem).context("the file of `ca_file`")? {
                roots.add(root).context("the file of `ca_file`")?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            anyhow::ensure!(!roots.is_empty(), "this machine has no root certificates: write `ca_file`");
        }
    }
    Ok(roots)
}

/// Of the roots, and of certificate and key where there are any.
fn config(
    versions: &[&'static SupportedProtocolVersion],
    ca: Option<&[u8]>,
    own: &[Vec<u8>],
) -> anyhow::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_protocol_versions(versions)?
        .with_root_certificates(roots(ca)?);
    let [certificate, key] = own else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(certificate).context("the file of `cert_file`")?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| anyhow::anyhow!("there is no private key in the file of `key_file`"))?;
    builder.with_client_auth_cert(chain, key).context("certificate and key")
}

/// Connects, plain or with TLS.
#[derive(Clone)]
pub struct Connector {
    http: HttpConnector,
    tls: Option<Arc<Watched<ClientConfig>>>,
    name: Option<ServerName<'static>>,
}

impl Connector {
    /// One that never speaks TLS.
    pub fn plain(http: HttpConnector) -> Connector {
        Connector { http, tls: None, name: None }
    }

    /// One that speaks TLS and `protocol` (ALPN) to `https`.
    ///
    /// # Errors
    /// A file cannot be read, or is not what it should be.
    pub fn secure(
        mut http: HttpConnector,
        tls: &Tls,
        protocol: &'static [u8],
        files: &Files,
        stop: CancellationToken,
    ) -> anyhow::Result<Connector> {
        http.enforce_http(false);
        let paths = tls.named().map(|file| files.resolve(Path::new(&file.value))).collect();
        let make = tls.make();
        let make = move |texts: &[Vec<u8>]| {
            let mut config = make(texts)?;
            config.alpn_protocols = vec![protocol.to_vec()];
            Ok(config)
        };
        let every = period_or(tls.reload_interval, watch::EVERY);
        let config = watch(paths, every, stop, Box::new(make)).context("`tls`")?;
        let name = match &tls.server_name_override {
            Some(name) => Some(ServerName::try_from(name.value.clone()).context("`server_name_override`")?),
            None => None,
        };
        Ok(Connector { http, tls: Some(config), name })
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.http.poll_ready(context).map_err(io::Error::other)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.tls.clone().filter(|_| uri.scheme() == Some(&http::uri::Scheme::HTTPS));
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = self.name.clone();
        let connecting = self.http.call(uri);
        Box::pin(async move {
            let stream = connecting.await.map_err(io::Error::other)?;
            let Some(tls) = tls else { return Ok(Stream::Plain(stream)) };
            let name = match name {
                Some(name) => name,
                None => ServerName::try_from(host).map_err(io::Error::other)?,
            };
            let handshake = TlsConnector::from(tls.get()).connect(name, stream.into_inner());
            match timeout(CONNECT_TIMEOUT, handshake).await {
                Ok(stream) => Ok(Stream::Tls(Box::new(TokioIo::new(stream?)))),
                Err(_) => Err(io::Error::other("the TLS handshake took too long")),
            }
        })
    }
}

/// A connection.
pub enum Stream {
    /// Plain.
    Plain(TokioIo<TcpStream>),
    /// With TLS.
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Stream::Plain(stream) => stream.connected(),
            Stream::Tls(stream) => stream.inner().get_ref().0.connected(),
        }
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }
}
