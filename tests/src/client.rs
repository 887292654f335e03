//! HTTP as tests speak it: OTLP over HTTP and gRPC with bytes that the test chose, and the admin pages.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// How long one request may take; only ends what would never end.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The paths of the three signals, gRPC's and HTTP's.
pub const TRACES: (&str, &str) =
    ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", "/v1/traces");
/// See [`TRACES`].
pub const LOGS: (&str, &str) = ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", "/v1/logs");
/// See [`TRACES`].
pub const METRICS: (&str, &str) =
    ("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", "/v1/metrics");

/// A client that keeps its connections.
pub struct Sender {
    http: Client<HttpConnector, Full<Bytes>>,
    grpc: Client<HttpConnector, Full<Bytes>>,
}

/// What was answered, as far as tests ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `grpc-status`, of headers or trailers; none over HTTP.
    pub grpc_status: Option<i32>,
    /// Whether the sender was told when to come back.
    pub has_retry: bool,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Whether the request was taken.
    pub fn is_ok(&self) -> bool {
        self.status == 200 && matches!(self.grpc_status, None | Some(0))
    }
}

impl Default for Sender {
    fn default() -> Sender {
        Sender::at(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

impl Sender {
    /// A client at one of loopback's addresses: another address is another peer.
    pub fn at(address: IpAddr) -> Sender {
        let client = |is_http2| {
            let mut connector = HttpConnector::new();
            connector.set_local_address(Some(address));
            let mut builder = Client::builder(TokioExecutor::new());
            builder.timer(TokioTimer::new()).pool_timer(TokioTimer::new());
            // A server that hangs up is an answer too: the client would go on trying by itself, without a pause.
            builder.retry_canceled_requests(false);
            builder.http2_only(is_http2).build(connector)
        };
        Sender { http: client(false), grpc: client(true) }
    }

    /// One OTLP/HTTP request; `encoding` is `identity`, `gzip` or `zstd` and says what `body` already is.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn http(
        &self,
        to: SocketAddr,
        path: &str,
        encoding: &str,
        body: Bytes,
    ) -> Result<Answer, String> {
        let request = Request::post(format!("http://{to}{path}"))
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", encoding)
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let response = timely(self.http.request(request)).await?;
        let has_retry = response.headers().contains_key("retry-after");
        let status = response.status().as_u16();
        let body = timely(response.into_body().collect()).await?.to_bytes();
        Ok(Answer { status, grpc_status: None, has_retry, body })
    }

    /// One OTLP/gRPC call.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn grpc(
        &self,
        to: SocketAddr,
        path: &str,
        encoding: &str,
        message: Bytes,
    ) -> Result<Answer, String> {
        let mut body = BytesMut::with_capacity(message.len() + 5);
        body.put_u8(u8::from(encoding != "identity"));
        body.put_u32(u32::try_from(message.len()).expect("the message is small"));
        body.extend_from_slice(&message);
        let request = Request::post(format!("http://{to}{path}"))
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-encoding", encoding)
            .body(Full::new(body.freeze()))
            .map_err(|error| error.to_string())?;
        let response = timely(self.grpc.request(request)).await?;
        grpc_answer(response).await
    }
}

async fn grpc_answer(response: Response<Incoming>) -> Result<Answer, String> {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let collected = timely(response.into_body().collect()).await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let value =
        |name: &str| headers.get(name).or_else(|| trailers.get(name)).and_then(|value| value.to_str().ok());
    let grpc_status = value("grpc-status").and_then(|value| value.parse().ok());
    // RetryInfo is the only detail that a refusal carries, so its presence is what the header's presence says.
    let has_retry = value("grpc-status-details-bin").is_some();
    Ok(Answer { status, grpc_status, has_retry, body: collected.to_bytes() })
}

async fn timely<T, E: std::fmt::Debug>(what: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(TIMEOUT, what).await {
        Ok(done) => done.map_err(|error| format!("{error:?}")),
        Err(_) => Err(format!("no answer within {TIMEOUT:?}")),
    }
}

/// `GET path`; status 0 when there was no answer.
pub async fn get(from: SocketAddr, path: &str) -> (u16, String) {
    let request =
        Request::get(format!("http://{from}{path}")).body(Full::default()).expect("the path is plain");
    let client = Sender::default().http;
    let Ok(response) = timely(client.request(request)).await else { return (0, String::new()) };
    let status = response.status().as_u16();
    let body = timely(response.into_body().collect()).await.map(http_body_util::Collected::to_bytes);
    (status, String::from_utf8_lossy(&body.unwrap_or_default()).into_owned())
}

/// `POST path` of OTLP/JSON; status 0 when there was no answer.
pub async fn post_json(to: SocketAddr, path: &str, body: &str) -> u16 {
    let request = Request::post(format!("http://{to}{path}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .expect("the path is plain");
    let client = Sender::default().http;
    timely(client.request(request)).await.map_or(0, |response| response.status().as_u16())
}
