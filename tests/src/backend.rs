//! An OTLP backend that keeps every frame as it came, over gRPC and HTTP on one port, and can be told to refuse, to be slow and
//! to stall.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, combinators::WithTrailers};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The path, gRPC's or HTTP's.
    pub path: String,
    /// `grpc-encoding` or `content-encoding`; `identity` when neither is there.
    pub encoding: String,
    /// The frame: over gRPC without its five-byte prefix.
    pub frame: Bytes,
}

/// The backend; it ends when dropped.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

#[derive(Default)]
struct State {
    received: Mutex<Vec<Received>>,
    is_refusing: AtomicBool,
    pace: watch::Sender<Pace>,
    turn: tokio::sync::Mutex<()>,
}

/// How fast requests are answered. One that is given up before its turn is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    #[default]
    Free,
    /// One after the other, each after this time.
    Each(Duration),
    /// Not at all.
    Stalled,
}

impl State {
    /// Waits until it is the turn of one request.
    async fn turn(&self) {
        let mut pace = self.pace.subscribe();
        loop {
            let now = *pace.borrow_and_update();
            let turn = async {
                match now {
                    Pace::Free => (),
                    Pace::Each(time) => {
                        let _turn = self.turn.lock().await;
                        tokio::time::sleep(time).await;
                    }
                    Pace::Stalled => std::future::pending().await,
                }
            };
            tokio::select! {
                () = turn => return,
                // The sender is in the same state and cannot be gone.
                _ = pace.changed() => (),
            }
        }
    }
}

type Body = WithTrailers<Full<Bytes>, std::future::Ready<Option<Result<HeaderMap, Infallible>>>>;

impl Backend {
    /// Listens on a free port.
    pub async fn start() -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let state = Arc::new(State::default());
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&serving);
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(Arc::clone(&state), request));
                    // A client that goes away is its own business.
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Backend { address, state, task: task.abort_handle() }
    }

    /// All that came and was taken, in order.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All that came since the last call, in order.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut *self.state.received.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers at this pace from now on, those that wait already too.
    pub fn pace(&self, pace: Pace) {
        self.state.pace.send_replace(pace);
    }

    /// While true, everything is answered with 503 / UNAVAILABLE and not kept.
    pub fn refuse(&self, is_refusing: bool) {
        self.state.is_refusing.store(is_refusing, Ordering::Release);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let is_grpc = request
        .headers()
        .get("content-type")
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    let path = request.uri().path().to_owned();
    let header =
        |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    let encoding = header(if is_grpc { "grpc-encoding" } else { "content-encoding" });
    let Ok(body) = request.into_body().collect().await else { return Ok(plain(400)) };
    state.turn().await;
    let is_refusing = state.is_refusing.load(Ordering::Acquire);
    if !is_refusing {
        let body = body.to_bytes();
        let frame = if is_grpc { body.slice(5.min(body.len())..) } else { body };
        let encoding = encoding.unwrap_or_else(|| "identity".to_owned());
        state.received.lock().unwrap_or_else(PoisonError::into_inner).push(Received {
            path,
            encoding,
            frame,
        });
    }
    Ok(if is_grpc {
        grpc(if is_refusing { "14" } else { "0" })
    } else {
        plain(if is_refusing { 503 } else { 200 })
    })
}

fn plain(status: u16) -> Response<Body> {
    let builder = Response::builder().status(status).header("content-type", "application/x-protobuf");
    builder.body(Full::default().with_trailers(std::future::ready(None))).expect("the response is plain")
}

/// An empty message with its five-byte prefix, then the status in the trailers.
fn grpc(status: &'static str) -> Response<Body> {
    let trailers =
        HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status))]);
    let message = Full::new(Bytes::from_static(&[0, 0, 0, 0, 0]));
    let body = message.with_trailers(std::future::ready(Some(Ok(trailers))));
    Response::builder().header("content-type", "application/grpc").body(body).expect("the response is plain")
}
