//! The backend: takes OTLP over HTTP and gRPC on one port, counts what it took, or stalls.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::spans;

/// A running backend.
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    requests: AtomicU64,
    bytes: AtomicU64,
    spans: AtomicU64,
    counts_spans: bool,
    is_stalled: AtomicBool,
}

impl Sink {
    /// Listens on a free port. It inflates and looks into what it takes only when it is to count spans.
    pub async fn start(counts_spans: bool) -> anyhow::Result<Sink> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { counts_spans, ..State::default() });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(Sink { address, state, accepting })
    }

    /// Requests taken so far.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// Bytes of their messages, without gRPC's prefixes.
    pub fn bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::Relaxed)
    }

    /// Spans in them, when it counts those.
    pub fn spans(&self) -> u64 {
        self.state.spans.load(Ordering::Relaxed)
    }

    /// From now on it reads requests and never answers.
    pub fn stall(&self) {
        self.state.is_stalled.store(true, Ordering::Relaxed);
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let mut builder = Builder::new(TokioExecutor::new());
            let windows = 4 << 20;
            builder
                .http2()
                .max_concurrent_streams(1024)
                .initial_stream_window_size(windows)
                .initial_connection_window_size(4 * windows);
            let service = service_fn(|request| answer(Arc::clone(&state), request));
            // The other end closes, or is killed; neither matters here.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let is_grpc = is_grpc(request.headers());
    let is_gzip = ["content-encoding", "grpc-encoding"]
        .iter()
        .any(|name| request.headers().get(*name).is_some_and(|encoding| encoding == "gzip"));
    let mut body = request.into_body();
    let (mut length, mut message) = (0, BytesMut::new());
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                length += frame.data_ref().map_or(0, Buf::remaining) as u64;
                if let (true, Some(data)) = (state.counts_spans, frame.data_ref()) {
                    message.extend_from_slice(data);
                }
            }
            Err(_) => {
                let mut cut = Response::new(Empty::new().boxed());
                *cut.status_mut() = StatusCode::BAD_REQUEST;
                return Ok(cut);
            }
        }
    }
    if state.is_stalled.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    if state.counts_spans {
        // What cannot be read counts as nothing, and is missed at the end.
        state.spans.fetch_add(spans_of(&message, is_grpc, is_gzip).unwrap_or(0), Ordering::Relaxed);
    }
    state.requests.fetch_add(1, Ordering::Relaxed);
    state.bytes.fetch_add(length.saturating_sub(if is_grpc { 5 } else { 0 }), Ordering::Relaxed);
    Ok(if is_grpc { grpc_ok() } else { http_ok() })
}

/// gRPC's prefix says whether that message is compressed after all.
fn spans_of(message: &[u8], is_grpc: bool, is_gzip: bool) -> Option<u64> {
    if !is_grpc {
        return spans::count(message, is_gzip);
    }
    let (prefix, message) = message.split_at_checked(5)?;
    spans::count(message, is_gzip && prefix[0] == 1)
}

/// Whether a message comes by gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Full success is an empty message.
fn http_ok() -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(Empty::new().boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    response
}

fn grpc_ok() -> Response<BoxBody<Bytes, Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let message = Full::new(Bytes::from_static(&[0; 5]));
    let mut response = Response::new(message.with_trailers(async { Some(Ok(trailers)) }).boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
