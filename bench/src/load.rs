//! The senders: as fast as acknowledgements come, or at a rate that does not depend on them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::{Buf, Bytes};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::latency::Latency;
use crate::payload::{Compression, Payloads};

/// How long a sender waits for an answer; SDKs wait this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a sender that was refused or failed waits before it sends again.
const PAUSE: Duration = Duration::from_millis(20);

/// How requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/HTTP, protobuf.
    Http,
    /// OTLP/gRPC.
    Grpc,
}

impl Protocol {
    /// Its word in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Grpc => "grpc",
        }
    }
}

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many requests on the way at once, each followed by the next.
    Closed(usize),
    /// So many requests a second, whatever is answered. Latency counts from when a request was due.
    Open(f64),
}

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Acknowledged requests.
    pub taken: u64,
    /// Bytes of the acknowledged requests' messages, as sent.
    pub taken_bytes: u64,
    /// Refused: come again later.
    pub refused: u64,
    /// Refused for good, unanswered, or cut off.
    pub failed: u64,
    /// Of the acknowledged ones.
    pub latency: Latency,
}

impl Tally {
    fn add(&mut self, outcome: Outcome, bytes: u64, took: Duration) {
        match outcome {
            Outcome::Taken => {
                self.taken += 1;
                self.taken_bytes += bytes;
                self.latency.record(took);
            }
            Outcome::Refused => self.refused += 1,
            Outcome::Failed => self.failed += 1,
        }
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Tally) {
        self.taken += other.taken;
        self.taken_bytes += other.taken_bytes;
        self.refused += other.refused;
        self.failed += other.failed;
        self.latency.merge(&other.latency);
    }
}

/// What one request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Taken,
    Refused,
    Failed,
}

/// Where and how to send.
#[derive(Clone)]
pub struct Load {
    /// The receiver.
    pub target: SocketAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// What to send.
    pub payloads: Arc<Payloads>,
    /// The number of the next sending; shared, so that no two runs send the same bytes.
    pub sequence: Arc<AtomicU64>,
}

impl Load {
    /// Sends for `lasting`, then waits for the answers that are due.
    pub async fn run(&self, pace: Pace, lasting: Duration) -> anyhow::Result<Tally> {
        let senders = match pace {
            Pace::Closed(concurrency) => concurrency,
            Pace::Open(_) => 64,
        };
        let mut links = self.links(senders).await?;
        let mut tasks = JoinSet::new();
        let due = Arc::new(AtomicU64::new(0));
        let start = Instant::now();
        let end = start + lasting;
        for link in links.drain(..) {
            let (load, due) = (self.clone(), Arc::clone(&due));
            match pace {
                Pace::Closed(_) => tasks.spawn(load.closed(link, end)),
                Pace::Open(rate) => tasks.spawn(load.open(link, due, start, rate, end)),
            };
        }
        let mut tally = Tally::default();
        while let Some(done) = tasks.join_next().await {
            tally.merge(&done.context("a sender panicked")?);
        }
        Ok(tally)
    }

    /// One for each sender: HTTP/1.1 has a connection each, eight share one of HTTP/2.
    async fn links(&self, senders: usize) -> anyhow::Result<Vec<Link>> {
        let mut links = Vec::with_capacity(senders);
        for sender in 0..senders {
            links.push(match (self.protocol, links.last()) {
                (Protocol::Grpc, Some(Link::Grpc(shared))) if sender % 8 != 0 => Link::Grpc(shared.clone()),
                (Protocol::Grpc | Protocol::Http, _) => self.connect().await?,
            });
        }
        Ok(links)
    }

    async fn connect(&self) -> anyhow::Result<Link> {
        let stream = TcpStream::connect(self.target).await;
        let stream = stream.with_context(|| format!("cannot connect to {}", self.target))?;
        stream.set_nodelay(true)?;
        Ok(match self.protocol {
            Protocol::Http => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Link::Http(sender)
            }
            Protocol::Grpc => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Link::Grpc(sender)
            }
        })
    }

    async fn closed(self, mut link: Link, end: Instant) -> Tally {
        let mut tally = Tally::default();
        loop {
            let outcome = self.send(&mut link, Instant::now(), &mut tally).await;
            if Instant::now() >= end {
                return tally;
            }
            if outcome != Outcome::Taken {
                sleep(PAUSE).await;
            }
        }
    }

    /// Takes the next request that is due; when all senders are busy, requests wait, and their latency says so.
    async fn open(
        self,
        mut link: Link,
        due: Arc<AtomicU64>,
        start: Instant,
        rate: f64,
        end: Instant,
    ) -> Tally {
        let mut tally = Tally::default();
        loop {
            let number = due.fetch_add(1, Ordering::Relaxed);
            let at = start + Duration::from_secs_f64(number as f64 / rate);
            if at >= end {
                return tally;
            }
            sleep_until(at).await;
            self.send(&mut link, at, &mut tally).await;
        }
    }

    async fn send(&self, link: &mut Link, since: Instant, tally: &mut Tally) -> Outcome {
        let message = self.payloads.sending(self.sequence.fetch_add(1, Ordering::Relaxed));
        let bytes = message.remaining() as u64;
        let prefix = match self.protocol {
            Protocol::Http => Bytes::new(),
            Protocol::Grpc => grpc_prefix(self.payloads.compression(), message.remaining() as u32),
        };
        let request = self.request(Full::new(prefix.chain(message)));
        let outcome = match timeout(PATIENCE, link.send(request)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => {
                if let Ok(new) = self.connect().await {
                    *link = new;
                }
                Outcome::Failed
            }
        };
        tally.add(outcome, bytes, since.elapsed());
        outcome
    }

    fn request(&self, body: Body) -> Request<Body> {
        let encoding = match self.payloads.compression() {
            Compression::Plain => "identity",
            Compression::Gzip => "gzip",
        };
        let builder = Request::post(match self.protocol {
            Protocol::Http => format!("http://{}/v1/traces", self.target),
            Protocol::Grpc => {
                format!("http://{}/opentelemetry.proto.collector.trace.v1.TraceService/Export", self.target)
            }
        });
        let builder = match self.protocol {
            Protocol::Http => {
                let builder = builder
                    .header("host", self.target.to_string())
                    .header("content-type", "application/x-protobuf");
                // The Collector refuses a body that is said to be as it is.
                match self.payloads.compression() {
                    Compression::Plain => builder,
                    Compression::Gzip => builder.header("content-encoding", encoding),
                }
            }
            Protocol::Grpc => builder
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("grpc-encoding", encoding),
        };
        builder.body(body).unwrap_or_else(|error| unreachable!("every part of the request is valid: {error}"))
    }
}

/// Prefix, head, tail.
type Body = Full<bytes::buf::Chain<Bytes, crate::payload::Sending>>;

enum Link {
    Http(http1::SendRequest<Body>),
    Grpc(http2::SendRequest<Body>),
}

impl Link {
    async fn send(&mut self, request: Request<Body>) -> Result<Outcome, hyper::Error> {
        match self {
            Link::Http(sender) => {
                sender.ready().await?;
                http_outcome(sender.send_request(request).await?).await
            }
            Link::Grpc(sender) => {
                sender.ready().await?;
                grpc_outcome(sender.send_request(request).await?).await
            }
        }
    }
}

/// The flag and the length of a message.
fn grpc_prefix(compression: Compression, length: u32) -> Bytes {
    let flag = match compression {
        Compression::Plain => 0,
        Compression::Gzip => 1,
    };
    let [a, b, c, d] = length.to_be_bytes();
    Bytes::copy_from_slice(&[flag, a, b, c, d])
}

async fn http_outcome(response: Response<Incoming>) -> Result<Outcome, hyper::Error> {
    let status = response.status().as_u16();
    response.into_body().collect().await?;
    Ok(match status {
        200 => Outcome::Taken,
        429 | 502 | 503 | 504 => Outcome::Refused,
        _ => Outcome::Failed,
    })
}

async fn grpc_outcome(response: Response<Incoming>) -> Result<Outcome, hyper::Error> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await?;
    Ok(grpc_status(body.trailers().unwrap_or(&parts.headers)))
}

/// 0 is OK; 14 and, from servers that limit, 8 are to be sent again.
fn grpc_status(headers: &HeaderMap) -> Outcome {
    match headers.get("grpc-status").map(http::HeaderValue::as_bytes) {
        Some(b"0") => Outcome::Taken,
        Some(b"8" | b"14") => Outcome::Refused,
        Some(_) | None => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Shape;
    use crate::sink::Sink;

    async fn check(protocol: Protocol, compression: Compression) {
        let sink = Sink::start(true).await.expect("a free port");
        let shape =
            Shape { compression, tagged_percent: 1, batch: 50, bytes: 200_000, from: 1, over: 1_000_000_000 };
        let payloads = Arc::new(Payloads::new(shape));
        let sequence = Arc::new(AtomicU64::new(0));
        let load = Load { target: sink.address, protocol, payloads, sequence };
        let closed = load.run(Pace::Closed(9), Duration::from_millis(50)).await.expect("the sink listens");
        assert!(closed.taken > 0);
        assert_eq!((closed.failed, closed.refused), (0, 0));
        assert_eq!((sink.requests(), sink.bytes()), (closed.taken, closed.taken_bytes));
        assert_eq!(sink.spans(), closed.taken * 50);
        let open = load.run(Pace::Open(200.0), Duration::from_millis(100)).await.expect("the sink listens");
        assert_eq!((open.taken, open.failed), (20, 0), "as many as the rate says, however slow the machine");
        assert!(open.latency.quantile_ms(0.99).is_some());
    }

    #[tokio::test]
    async fn what_senders_count_is_what_the_sink_took() {
        for compression in [Compression::Plain, Compression::Gzip] {
            check(Protocol::Http, compression).await;
            check(Protocol::Grpc, compression).await;
        }
    }

    #[test]
    fn only_status_zero_is_an_acknowledgement() {
        for (status, expected) in
            [("0", Outcome::Taken), ("14", Outcome::Refused), ("8", Outcome::Refused), ("3", Outcome::Failed)]
        {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                http::HeaderValue::from_static(status),
            )]);
            assert_eq!(grpc_status(&headers), expected, "{status}");
        }
        assert_eq!(grpc_status(&HeaderMap::new()), Outcome::Failed);
    }
}
