//! Requests that no client library would send: any header, any body, any method; and bytes on a bare socket.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Only ends what would never end.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What was said to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// HTTP's.
    pub status: u16,
    /// gRPC's, where there is one.
    pub code: Option<i32>,
    /// Whether it says when to come back, by `Retry-After` or RetryInfo.
    pub has_retry: bool,
    /// The content type.
    pub kind: String,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// `POST`, but for those that try another.
    pub method: Method,
    /// Where.
    pub path: String,
    /// The headers, and nothing but them.
    pub headers: Vec<(&'static str, String)>,
    /// The body as it goes onto the wire.
    pub body: Bytes,
}

impl Ask {
    /// OTLP/HTTP to `path`.
    pub fn http(path: &str, kind: &str, body: impl Into<Bytes>) -> Ask {
        Ask {
            method: Method::POST,
            path: path.to_owned(),
            headers: vec![("content-type", kind.to_owned())],
            body: body.into(),
        }
    }

    /// OTLP/gRPC to `path`; `body` has its prefix already.
    pub fn grpc(path: &str, body: impl Into<Bytes>) -> Ask {
        let headers = vec![("content-type", "application/grpc".to_owned()), ("te", "trailers".to_owned())];
        Ask { method: Method::POST, path: path.to_owned(), headers, body: body.into() }
    }

    /// The same with another header.
    pub fn with(mut self, name: &'static str, value: &str) -> Ask {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// The same with another method.
    pub fn by(mut self, method: Method) -> Ask {
        self.method = method;
        self
    }
}

/// One gRPC message: `flag`, its length, itself.
pub fn framed(flag: u8, message: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(message.len() + 5);
    body.put_u8(flag);
    body.put_u32(u32::try_from(message.len()).expect("the message is small"));
    body.extend_from_slice(message);
    body.freeze()
}

/// Asks, over HTTP/2 where `is_http2`; each time over a connection of its own, so that no answer depends on another.
pub async fn ask(to: SocketAddr, is_http2: bool, ask: Ask) -> Result<Said, String> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new())
        .http2_only(is_http2)
        .retry_canceled_requests(false)
        .build(connector);
    let mut request = Request::builder().method(ask.method).uri(format!("http://{to}{}", ask.path));
    if is_http2 {
        request = request.version(Version::HTTP_2);
    }
    for (name, value) in &ask.headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(ask.body)).map_err(|error| error.to_string())?;
    let answer = async {
        let response = client.request(request).await.map_err(|error| format!("{error:?}"))?;
        let (parts, body) = response.into_parts();
        // Who refuses early may take back the stream once the answer is out.
        let trailers =
            body.collect().await.ok().and_then(|body| body.trailers().cloned()).unwrap_or_default();
        let value = |name: &str| {
            let value = parts.headers.get(name).or_else(|| trailers.get(name));
            value.and_then(|value| value.to_str().ok()).map(ToOwned::to_owned)
        };
        Ok(Said {
            status: parts.status.as_u16(),
            code: value("grpc-status").and_then(|code| code.parse().ok()),
            has_retry: value("retry-after").or_else(|| value("grpc-status-details-bin")).is_some(),
            kind: value("content-type").unwrap_or_default(),
        })
    };
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err("no answer".to_owned()))
}

/// Writes `bytes` to a new connection and reads until the server closes it, which it must; says what was read.
pub async fn raw(to: SocketAddr, bytes: &[u8]) -> String {
    let stream = TcpStream::connect(to).await.expect("the server listens");
    let (mut reader, mut writer) = stream.into_split();
    // The server may hang up before all of it is written.
    let write = async {
        let _ = writer.write_all(bytes).await;
        writer
    };
    let read = async {
        let mut answer = Vec::new();
        let _ = reader.read_to_end(&mut answer).await;
        answer
    };
    let both = tokio::time::timeout(PATIENCE, async { tokio::join!(read, write) }).await;
    let (answer, _) = both.unwrap_or_else(|_| panic!("the connection was never closed"));
    String::from_utf8_lossy(&answer).into_owned()
}

/// The statuses of the HTTP/1.1 answers in `text`, in order.
pub fn statuses(text: &str) -> Vec<u16> {
    text.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
}
