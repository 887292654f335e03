//! One connection in one task: hyper, the requests it carries, and the time it may stand idle.
//!
//! The requests of an HTTP/2 connection are polled here and not spawned: at low rates a wakeup costs more than all the work,
//! and receivers scale with connections.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::{HeaderValue, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::reply::Reply;

/// What is read or written at a time.
const BUFFER_BYTES: usize = 64 * 1024;
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
const FRAME_BYTES_MAX: u32 = 64 * 1024;
/// Unread bytes that one connection, and one stream of it, can make us hold beyond the budget.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// Streams that a peer opened and took back before they were served ("rapid reset", CVE-2023-44487), and streams that we had
/// to end for its faults: beyond these it is told ENHANCE_YOUR_CALM and cut off. Floods of PING and SETTINGS are answered one
/// by one, so who does not read the answers is not read either; CONTINUATION ends at the size of a head.
const RESETS_PENDING_MAX: usize = 20;
const RESETS_FOR_FAULTS_MAX: usize = 128;
/// For a peer that was told to go.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long an HTTP/1 connection waits for one more request to say goodbye with, when its receiver gives way to another: closed
/// without a word it might close on a request that is on its way.
const LINGER: Duration = Duration::from_secs(10);

/// Longer than the listener lets anything finish.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// When a connection ends because its receiver does.
#[derive(Clone)]
pub struct Ends {
    /// The receiver gives way: the connection is to go elsewhere, and what it still brings is taken.
    pub leaving: CancellationToken,
    /// The process stops: nothing new is taken.
    pub stopping: CancellationToken,
}

/// How long connections live, and how much they carry.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Only HTTP/2, for gRPC.
    pub is_http2_only: bool,
    /// Streams of one connection.
    pub streams_max: u32,
    /// For the head of the first request.
    pub first_request: Duration,
    /// Without any request under way.
    pub idle: Duration,
    /// For the connection as a whole, and for what it still does then.
    pub age: Option<(Duration, Duration)>,
    /// A silent HTTP/2 peer is pinged after the first, and cut off after the second.
    pub ping: Option<(Duration, Duration)>,
}

/// How a connection ended, as far as it is the peer's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As connections end, the network's faults included.
    Usual,
    /// It asked nothing in time.
    Silent,
    /// What it sent is not HTTP, or more of it than anybody needs.
    Fault,
}

/// Whose fault it is that a connection broke off.
fn blame(error: &(dyn std::error::Error + 'static)) -> End {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let is_network = kind
            .is_some_and(|kind| !matches!(kind, ErrorKind::InvalidInput | ErrorKind::InvalidData))
            || error.downcast_ref::<h2::Error>().is_some_and(|error| error.is_io() || error.is_remote())
            || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
        if is_network {
            return End::Usual;
        }
        cause = error.source();
    }
    End::Fault
}

/// What the connection is doing; tells when it has been idle for too long.
struct Activity {
    /// Requests under way.
    requests: usize,
    /// The beginning, or the end of the last request.
    since: Instant,
    had_request: bool,
    is_http2: bool,
    /// The receiver gives way.
    is_leaving: bool,
}

#[derive(Clone)]
struct Watch(Arc<Mutex<Activity>>);

impl Watch {
    fn new() -> Watch {
        let activity = Activity {
            requests: 0,
            since: Instant::now(),
            had_request: false,
            is_http2: false,
            is_leaving: false,
        };
        Watch(Arc::new(Mutex::new(activity)))
    }

    fn lock(&self) -> MutexGuard<'_, Activity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, is_http2: bool) -> UnderWay {
        let mut activity = self.lock();
        activity.requests += 1;
        activity.had_request = true;
        activity.is_http2 = is_http2;
        UnderWay(self.clone())
    }

    fn leave(&self) {
        self.lock().is_leaving = true;
    }

    fn is_leaving(&self) -> bool {
        self.lock().is_leaving
    }

    /// Whether the peer is known to understand GOAWAY.
    fn speaks_http2(&self) -> bool {
        self.lock().is_http2
    }

    /// Nothing has come for too long since the beginning: there is nobody to say goodbye to.
    fn is_silent(&self, limits: &Limits) -> bool {
        let activity = self.lock();
        !activity.had_request && activity.since + limits.first_request <= Instant::now()
    }

    /// When to look again at the earliest; not in the future when it is time to close.
    fn due(&self, limits: &Limits) -> Instant {
        let activity = self.lock();
        if activity.requests > 0 {
            Instant::now() + limits.idle
        } else if activity.had_request {
            activity.since + limits.idle
        } else {
            activity.since + limits.first_request
        }
    }
}

/// One request; also when its future is dropped it is over.
struct UnderWay(Watch);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut activity = self.0.lock();
        activity.requests -= 1;
        activity.since = Instant::now();
    }
}

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where hyper puts the futures of HTTP/2 streams, in place of spawning them.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<Vec<Stream>>>);

impl Streams {
    fn take(&self) -> Vec<Stream> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(stream));
    }
}

fn builder(limits: &Limits, streams: Streams) -> Builder<Streams> {
    let mut builder = Builder::new(streams);
    if limits.is_http2_only {
        builder = builder.http2_only();
    }
    // The time for a head is the watch's, which costs no timer per request.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_FOR_FAULTS_MAX)
        .max_send_buf_size(BUFFER_BYTES);
    if let Some((after, within)) = limits.ping {
        builder.http2().keep_alive_interval(after).keep_alive_timeout(within);
    }
    builder
}

/// The answer; where the connection is to end and speaks HTTP/1, it says so.
async fn answered(
    is_http2: bool,
    under_way: UnderWay,
    answer: impl Future<Output = Response<Reply>>,
) -> Result<Response<Reply>, Infallible> {
    let mut response = answer.await;
    if !is_http2 && under_way.0.is_leaving() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    drop(under_way);
    Ok(response)
}

/// Serves the connection until it ends, grows too old or idle, or its receiver ends; then says goodbye, finishes what it took, and
/// returns. Errors of a connection concern only its peer, who sees them too.
pub async fn serve<S, F, A>(stream: S, limits: Limits, ends: Ends, answer: F) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A + Send,
    A: Future<Output = Response<Reply>> + Send + 'static,
{
    let watch = Watch::new();
    let streams = Streams::default();
    let builder = builder(&limits, streams.clone());
    let begin = watch.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let is_http2 = request.version() == Version::HTTP_2;
        answered(is_http2, begin.begin(is_http2), answer(request))
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut running = FuturesUnordered::new();
    let oldest = limits.age.map(|(age, _)| Instant::now() + age);
    let mut timer = pin!(sleep_until(earliest(watch.due(&limits), oldest)));
    let (mut leaving, mut stopping) = (pin!(ends.leaving.cancelled()), pin!(ends.stopping.cancelled()));
    let (mut gives_way, mut has_said_goodbye) = (false, false);
    loop {
        tokio::select! {
            biased;
            result = poll_fn(|context| {
                let polled = poll_all(connection.as_mut(), &streams, &mut running, context);
                if polled.is_pending() && gives_way && !has_said_goodbye && watch.speaks_http2() {
                    has_said_goodbye = true;
                    connection.as_mut().graceful_shutdown();
                    return poll_all(connection.as_mut(), &streams, &mut running, context);
                }
                polled
            }) => {
                let Err(error) = result else { return End::Usual };
                tracing::debug!(error = &*error, "an OTLP connection broke off");
                return blame(&*error);
            }
            () = &mut stopping, if !has_said_goodbye => {
                // The listener sets the time for what is still under way.
                has_said_goodbye = true;
                connection.as_mut().graceful_shutdown();
                timer.as_mut().reset(Instant::now() + FOR_EVER);
            }
            () = &mut leaving, if !gives_way && !has_said_goodbye => {
                gives_way = true;
                watch.leave();
                timer.as_mut().reset(Instant::now() + LINGER);
            }
            () = &mut timer => {
                let now = Instant::now();
                if gives_way {
                    if !has_said_goodbye {
                        has_said_goodbye = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    timer.as_mut().reset(now + FOR_EVER);
                    continue;
                }
                if has_said_goodbye {
                    return End::Usual;
                }
                if watch.is_silent(&limits) {
                    return End::Silent;
                }
                let is_old = oldest.is_some_and(|oldest| oldest <= now);
                if is_old || watch.due(&limits) <= now {
                    has_said_goodbye = true;
                    connection.as_mut().graceful_shutdown();
                    let grace = limits.age.filter(|_| is_old).map_or(FAREWELL, |(_, grace)| grace);
                    timer.as_mut().reset(now + grace);
                } else {
                    timer.as_mut().reset(earliest(watch.due(&limits), oldest));
                }
            }
        }
    }
}

fn earliest(due: Instant, oldest: Option<Instant>) -> Instant {
    oldest.map_or(due, |oldest| oldest.min(due))
}

/// Polls the connection and its streams until none of them gets on: what a stream answers is on the wire in the same poll.
fn poll_all<C: Future>(
    mut connection: Pin<&mut C>,
    streams: &Streams,
    running: &mut FuturesUnordered<Stream>,
    context: &mut Context<'_>,
) -> Poll<C::Output> {
    loop {
        if let Poll::Ready(result) = connection.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        running.extend(streams.take());
        let mut has_ended = false;
        while let Poll::Ready(Some(())) = running.poll_next_unpin(context) {
            has_ended = true;
        }
        if !has_ended {
            return Poll::Pending;
        }
    }
}
