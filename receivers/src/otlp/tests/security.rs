//! Who may send, and over what: credentials before bodies, TLS, clients' certificates, and certificates that change.

use std::path::Path;

use homeostat_pipeline::extension::{Guard, Verdict};
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::settings::{Files, Node, Problem, Value};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::super::cors::Cors;
use super::super::tls::{Acceptor, Tls};
use super::*;

struct Password;

impl Guard for Password {
    fn judge(&self, authorization: Option<&[u8]>) -> Verdict {
        match authorization {
            Some(b"Bearer busy") => {
                Verdict::Pending(Box::pin(async { Err(Refusal::busy("credentials cannot be checked now")) }))
            }
            Some(b"Bearer slow") => Verdict::Pending(Box::pin(async {
                tokio::task::yield_now().await;
                Ok(true)
            })),
            other => (other == Some(b"Bearer good")).into(),
        }
    }

    fn challenge(&self) -> &'static str {
        "Bearer"
    }
}

async fn guarded() -> Server {
    let mut receiver = open(&Budget::new(1 << 30)).await;
    for listener in &mut receiver.listeners {
        listener.guard = Some(Arc::new(Password));
    }
    run(receiver, Fake::default())
}

#[tokio::test]
async fn without_the_right_credentials_nothing_is_taken() {
    let unstruck = drops::unstruck(&[&drops::RECEIVER_UNAUTHENTICATED]);
    let server = guarded().await;
    let frame = framed(0, &spans(1));
    for wrong in [&[][..], &[("authorization", "Bearer bad")]] {
        for path in [TRACE_EXPORT, "/unknown"] {
            let headers = [&[GRPC], wrong].concat();
            assert_eq!(server.call(path, &headers, frame.clone()).await.grpc_code(), 16, "{path}");
        }
        for path in ["/v1/traces", "/unknown"] {
            let said = server.post(path, &[&[PROTOBUF], wrong].concat(), spans(1)).await;
            assert_eq!((said.status.as_u16(), said.http_details().code), (401, 16), "{path}");
            assert_eq!(said.headers["www-authenticate"], "Bearer");
        }
    }
    assert!(server.gate.seen().is_empty());
    let good = ("authorization", "Bearer good");
    assert_eq!(server.call(TRACE_EXPORT, &[GRPC, good], frame).await.grpc_code(), 0);
    assert_eq!(server.post("/v1/traces", &[PROTOBUF, good], spans(1)).await.status, StatusCode::OK);
    assert_eq!(server.gate.seen().len(), 2);
    assert_eq!(unstruck(), [""; 0]);
}

#[tokio::test]
async fn credentials_that_cannot_be_checked_now_are_to_come_again() {
    let server = guarded().await;
    let busy = ("authorization", "Bearer busy");
    assert_eq!(server.call(TRACE_EXPORT, &[GRPC, busy], framed(0, &spans(1))).await.grpc_code(), 14);
    let said = server.post("/v1/traces", &[PROTOBUF, busy], spans(1)).await;
    assert_eq!((said.status.as_u16(), said.http_details().code), (503, 14));
    assert!(said.headers.contains_key("retry-after") && !said.headers.contains_key("www-authenticate"));
    assert!(server.gate.seen().is_empty());
    let slow = ("authorization", "Bearer slow");
    assert_eq!(server.post("/v1/traces", &[PROTOBUF, slow], spans(1)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_stranger_is_answered_before_the_body_is_sent() {
    let server = guarded().await;
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n\
                content-length: 1000000\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    assert_eq!(server.budget.used_bytes(), 0);
}

/// A root, and what it signs.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for localhost and its key.
    fn signs(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn serve_from(&self, folder: &Path) {
        let (certificate, key) = self.signs();
        std::fs::write(folder.join("key.pem"), key).unwrap();
        std::fs::write(folder.join("cert.pem"), certificate).unwrap();
    }
}

fn tls(more: &[(&str, &str)]) -> Tls {
    let at = || anywhere().unwrap().at;
    let fields =
        [("cert_file", "cert.pem"), ("key_file", "key.pem")].iter().chain(more).map(|(key, value)| {
            let node = Node { at: at(), value: Value::Text((*value).to_owned()) };
            homeostat_pipeline::settings::Field { key: (*key).to_owned(), at: at(), node }
        });
    read(&Node { at: at(), value: Value::Map(fields.collect()) }).unwrap()
}

fn files(folder: &Path) -> Files {
    let parse = |_: &str, _: &str| Err(Problem::somewhere("no YAML here"));
    Files { base: folder.to_owned(), embedded: std::collections::BTreeMap::new(), parse }
}

fn acceptor(folder: &Path, more: &[(&str, &str)]) -> Acceptor {
    tls(more).open(&files(folder), &[b"h2", b"http/1.1"], CancellationToken::new()).unwrap()
}

async fn secure(acceptor: Acceptor) -> Server {
    let mut receiver = open(&Budget::new(1 << 30)).await;
    for listener in &mut receiver.listeners {
        listener.tls = Some(acceptor.clone());
    }
    run(receiver, Fake::default())
}

/// Connects as who trusts `authority`, and shows `own`.
async fn connect(
    to: SocketAddr,
    authority: &Authority,
    own: Option<&(String, String)>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
    };
    let stream = TcpStream::connect(to).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

type Client1 = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

async fn http1(stream: TlsStream<TcpStream>) -> Client1 {
    let (client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The status of a good request; none when the connection is not taken.
async fn try_send(client: &mut Client1) -> Option<u16> {
    let request = Request::post("/v1/traces").header(PROTOBUF.0, PROTOBUF.1).header("host", "localhost");
    let request = request.body(Full::new(Bytes::from(spans(1)))).unwrap();
    let response = client.send_request(request).await.ok()?;
    let status = response.status().as_u16();
    response.into_body().collect().await.ok()?;
    Some(status)
}

#[tokio::test]
async fn both_protocols_are_spoken_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.serve_from(folder.path());
    let server = secure(acceptor(folder.path(), &[("min_version", "1.3")])).await;
    let mut client = http1(connect(server.http, &authority, None).await.unwrap()).await;
    assert_eq!(try_send(&mut client).await, Some(200));
    let stream = TokioIo::new(connect(server.grpc, &authority, None).await.unwrap());
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("https://localhost{TRACE_EXPORT}");
    let request =
        Request::post(uri).header(GRPC.0, GRPC.1).body(Full::new(Bytes::from(framed(0, &spans(1)))));
    let answer = client.send_request(request.unwrap()).await.unwrap();
    let trailers = answer.into_body().collect().await.unwrap().trailers().cloned().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(server.gate.seen().len(), 2);
    assert!(connect(server.http, &stranger, None).await.is_err());
    // Plain HTTP at a port of TLS is no request.
    let client =
        hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    assert!(client.get(format!("http://{}/", server.http).parse().unwrap()).await.is_err());
}

#[tokio::test]
async fn a_client_without_a_certificate_of_ours_is_not_heard() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, clients) = (Authority::new(), Authority::new());
    authority.serve_from(folder.path());
    std::fs::write(folder.path().join("clients.pem"), &clients.pem).unwrap();
    let server = secure(acceptor(folder.path(), &[("client_ca_file", "clients.pem")])).await;
    for own in [None, Some(authority.signs())] {
        // In TLS 1.3 a client learns of the refusal only when it reads.
        if let Ok(stream) = connect(server.http, &authority, own.as_ref()).await {
            assert_eq!(try_send(&mut http1(stream).await).await, None);
        }
    }
    assert!(server.gate.seen().is_empty());
    let own = clients.signs();
    let mut client = http1(connect(server.http, &authority, Some(&own)).await.unwrap()).await;
    assert_eq!(try_send(&mut client).await, Some(200));
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_drops_no_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    old.serve_from(folder.path());
    let server = secure(acceptor(folder.path(), &[("reload_interval", "10ms")])).await;
    let mut client = http1(connect(server.http, &old, None).await.unwrap()).await;
    assert_eq!(try_send(&mut client).await, Some(200));
    new.serve_from(folder.path());
    let is_shown = async {
        while connect(server.http, &new, None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_shown).await.expect("the new certificate is shown");
    assert!(connect(server.http, &old, None).await.is_err());
    assert_eq!(try_send(&mut client).await, Some(200));
}

#[test]
fn files_that_are_no_certificates_are_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let problem = |more| tls(more).problem(&files(folder.path())).map(|problem| problem.to_string());
    assert!(problem(&[]).is_some_and(|text| text.contains("cert.pem")));
    let authority = Authority::new();
    authority.serve_from(folder.path());
    assert_eq!(problem(&[]), None);
    std::fs::write(folder.path().join("bad.pem"), "no certificate").unwrap();
    assert!(problem(&[("client_ca_file", "bad.pem")]).is_some_and(|text| text.contains("client_ca_file")));
    std::fs::write(folder.path().join("key.pem"), Authority::new().signs().1).unwrap();
    assert!(problem(&[]).is_some_and(|text| text.contains("certificate and key")));
}

#[tokio::test]
async fn a_browser_asks_without_credentials_and_sends_with_them() {
    let origin = At { at: anywhere().unwrap().at, value: "https://*.shop".to_owned() };
    let cors = Cors { allowed_origins: vec![origin], ..Cors::default() };
    let mut receiver = open(&Budget::new(1 << 30)).await;
    let http = Http { endpoint: anywhere(), cors: Some(cors), ..Http::default() };
    let old = std::mem::replace(&mut receiver.listeners[1], http.open(&context()).await.unwrap());
    receiver.listeners[1].limits = old.limits;
    receiver.listeners[1].guard = Some(Arc::new(Password));
    let server = run(receiver, Fake::default());
    let preflight = async |origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        let uri = format!("http://{}/v1/traces", server.http);
        send(&client(false), "OPTIONS", uri, &headers, Vec::new()).await
    };
    let asked = preflight("https://web.shop").await;
    assert_eq!(asked.status, StatusCode::NO_CONTENT);
    assert_eq!(asked.headers["access-control-allow-origin"], "https://web.shop");
    let stranger = preflight("https://web.shop.evil").await;
    assert!(!stranger.headers.contains_key("access-control-allow-origin"), "{:?}", stranger.headers);
    let from = ("origin", "https://web.shop");
    let refused = server.post("/v1/traces", &[PROTOBUF, from], spans(1)).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.headers["access-control-allow-origin"], "https://web.shop");
    let good = ("authorization", "Bearer good");
    let taken = server.post("/v1/traces", &[PROTOBUF, from, good], spans(1)).await;
    assert_eq!((taken.status, server.gate.seen().len()), (StatusCode::OK, 1));
    assert_eq!(taken.headers["access-control-allow-origin"], "https://web.shop");
    let plain = start(Fake::default()).await.post("/v1/traces", &[PROTOBUF, from], spans(1)).await;
    assert!(!plain.headers.contains_key("access-control-allow-origin"), "it is off by default");
}
