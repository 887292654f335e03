//! Reads a request's body into one buffer: within its size, within its time, and charged to the budget before memory is
//! allocated for it. A body that arrives in one piece is that piece; nothing is copied.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::{Buf, Bytes};
use homeostat_pipeline::refusal::Refusal;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::account::Account;
use super::inflate::too_large;

/// gRPC's prefix of a message: one byte of flags, four of length.
pub const PREFIX_BYTES: usize = 5;
/// The least that is allocated for a body in several pieces.
const FIRST_BYTES: usize = 64 * 1024;

/// How fast a body has to come.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// For the whole body.
    pub longest: Duration,
    /// What a sender may lag behind the rate.
    pub grace: Duration,
    /// The rate.
    pub bytes_per_second: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { longest: Duration::from_secs(30), grace: Duration::from_secs(5), bytes_per_second: 1024 }
    }
}

impl Pace {
    /// Until when the next piece must be there, `received` bytes after the start.
    fn allowed(&self, received: usize) -> Duration {
        let earned = Duration::from_millis(received as u64 * 1000 / self.bytes_per_second.max(1));
        self.longest.min(self.grace.saturating_add(earned))
    }
}

/// How the body says where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// HTTP: by itself; `content-length` is known beforehand where it was sent.
    Whole {
        /// As the header says.
        length: Option<u64>,
    },
    /// gRPC: by the prefix of its only message.
    Grpc,
}

/// Puts the pieces of a body together. Pure but for the budget.
struct Gather<'a> {
    account: &'a mut Account,
    framing: Framing,
    /// Of the message, without a prefix.
    cap: usize,
    /// Of the whole body with its prefix, once it is known.
    expected: Option<usize>,
    /// The first piece, as long as it is the only one.
    one: Bytes,
    many: Vec<u8>,
}

impl<'a> Gather<'a> {
    fn new(framing: Framing, cap: usize, account: &'a mut Account) -> Result<Gather<'a>, Refusal> {
        let expected = match framing {
            Framing::Whole { length: Some(length) } => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > cap {
                    return Err(too_large(cap));
                }
                Some(length)
            }
            Framing::Whole { length: None } | Framing::Grpc => None,
        };
        Ok(Gather { account, framing, cap, expected, one: Bytes::new(), many: Vec::new() })
    }

    fn so_far(&self) -> &[u8] {
        if self.many.is_empty() { &self.one } else { &self.many }
    }

    fn push(&mut self, piece: Bytes) -> Result<(), Refusal> {
        let total = self.so_far().len() + piece.len();
        let most = match self.framing {
            Framing::Whole { .. } => self.cap,
            Framing::Grpc => self.cap + PREFIX_BYTES,
        };
        if self.expected.is_some_and(|expected| total > expected) {
            return Err(Refusal::malformed("the body is longer than the one message it announced"));
        }
        if total > most {
            return Err(too_large(self.cap));
        }
        if self.so_far().is_empty() {
            self.account.cover(total)?;
            self.one = piece;
        } else if !piece.is_empty() {
            self.make_room(total, most)?;
            self.many.extend_from_slice(&piece);
        }
        if self.framing == Framing::Grpc && self.expected.is_none() {
            self.read_prefix()?;
        }
        Ok(())
    }

    /// Four times what has come, but not more than will come: neither many copies nor memory for what was only announced.
    fn make_room(&mut self, total: usize, most: usize) -> Result<(), Refusal> {
        if total > self.many.capacity() {
            let target = self.expected.unwrap_or(most);
            let capacity = (self.so_far().len() * 4).max(FIRST_BYTES).min(target).max(total);
            self.account.cover(capacity)?;
            self.many.reserve_exact(capacity - self.many.len());
        }
        if self.many.is_empty() {
            self.many.extend_from_slice(&std::mem::take(&mut self.one));
        }
        Ok(())
    }

    fn read_prefix(&mut self) -> Result<(), Refusal> {
        let Some(mut length) = self.so_far().get(1..PREFIX_BYTES) else { return Ok(()) };
        let length = length.get_u32() as usize;
        if length > self.cap {
            return Err(too_large(self.cap));
        }
        let expected = PREFIX_BYTES + length;
        if self.so_far().len() > expected {
            return Err(Refusal::malformed("a unary request holds one message, this one holds more"));
        }
        self.expected = Some(expected);
        Ok(())
    }

    fn finish(self) -> Result<Bytes, Refusal> {
        let has = self.so_far().len();
        let whole = match self.framing {
            Framing::Whole { length: None } => true,
            Framing::Whole { length: Some(_) } | Framing::Grpc => self.expected == Some(has),
        };
        if !whole {
            return Err(Refusal::malformed("the body ends before its message does"));
        }
        Ok(if self.many.is_empty() { self.one } else { self.many.into() })
    }
}

/// Reads `body` to its end; for gRPC the prefix stays in front.
///
/// # Errors
/// Too large, too slow, over the memory budget, broken off, or not what its framing says.
pub async fn read<B>(
    body: &mut B,
    framing: Framing,
    cap: usize,
    pace: Pace,
    account: &mut Account,
) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + 'static,
{
    let mut gather = Gather::new(framing, cap, account)?;
    let start = Instant::now();
    let mut received = 0;
    loop {
        let next = timeout_at(start + pace.allowed(received), body.frame()).await;
        match next {
            Err(_) => return Err(Refusal::busy("the body came too slowly")),
            Ok(None) => return gather.finish(),
            Ok(Some(Err(error))) => return Err(broken(&error)),
            Ok(Some(Ok(frame))) => {
                if let Ok(piece) = frame.into_data() {
                    received += piece.len();
                    gather.push(piece)?;
                }
            }
        }
    }
}

/// A body that cannot be read on: the network's fault, unless its chunks (RFC 9112, section 7.1) are none.
fn broken(error: &(dyn std::error::Error + 'static)) -> Refusal {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if matches!(kind, Some(ErrorKind::InvalidInput | ErrorKind::InvalidData)) {
            return Refusal::malformed(format!("the body's chunks cannot be read: {error}"));
        }
        cause = error.source();
    }
    Refusal::busy(format!("the body broke off: {error}"))
}

/// Reads away what is left of a refused body, within bounds: an HTTP/1.1 client that is still writing would otherwise see a
/// reset connection in place of its answer, and send the same again.
pub async fn discard<B>(body: &mut B, bytes_max: usize, longest: Duration)
where
    B: Body<Data = Bytes> + Unpin,
{
    let until = Instant::now() + longest;
    let mut discarded = 0;
    while discarded < bytes_max {
        match timeout_at(until, body.frame()).await {
            Ok(Some(Ok(frame))) => discarded += frame.data_ref().map_or(0, Bytes::len),
            Ok(Some(Err(_)) | None) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{StreamExt, stream};
    use homeostat_pipeline::refusal::Cause;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use proptest::prelude::*;

    use super::super::account::tests::roomy;
    use super::*;

    const CAP: usize = 1000;

    fn gather(framing: Framing, pieces: &[&[u8]]) -> Result<Vec<u8>, Refusal> {
        let mut account = roomy();
        let mut gather = Gather::new(framing, CAP, &mut account)?;
        for piece in pieces {
            gather.push(Bytes::copy_from_slice(piece))?;
        }
        gather.finish().map(Vec::from)
    }

    fn cause(result: Result<Vec<u8>, Refusal>) -> Option<Cause> {
        match result {
            Err(Refusal::Rejected { cause, .. }) => Some(cause),
            Ok(_) | Err(Refusal::Unavailable { .. }) => None,
        }
    }

    fn message(length: usize) -> Vec<u8> {
        let mut message = vec![0];
        message.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        message.resize(PREFIX_BYTES + length, 7);
        message
    }

    #[test]
    fn one_piece_is_not_copied() {
        let piece = Bytes::from(message(100));
        let mut account = roomy();
        let mut gather = Gather::new(Framing::Grpc, CAP, &mut account).unwrap();
        gather.push(piece.clone()).unwrap();
        assert_eq!(gather.finish().unwrap().as_ptr(), piece.as_ptr());
    }

    #[test]
    fn a_grpc_body_is_exactly_one_message() {
        let whole = message(CAP);
        assert_eq!(gather(Framing::Grpc, &[&whole]).as_ref(), Ok(&whole));
        assert_eq!(cause(gather(Framing::Grpc, &[])), Some(Cause::Malformed));
        assert_eq!(cause(gather(Framing::Grpc, &[&whole[..3]])), Some(Cause::Malformed));
        assert_eq!(cause(gather(Framing::Grpc, &[&whole[..whole.len() - 1]])), Some(Cause::Malformed));
        assert_eq!(cause(gather(Framing::Grpc, &[&message(9), &message(9)])), Some(Cause::Malformed));
        assert_eq!(
            cause(gather(Framing::Grpc, &[&[message(9), message(9)].concat()])),
            Some(Cause::Malformed)
        );
        assert_eq!(cause(gather(Framing::Grpc, &[&message(CAP + 1)[..PREFIX_BYTES]])), Some(Cause::TooLarge));
    }

    #[test]
    fn an_http_body_is_refused_by_its_length_or_where_it_passes_the_cap() {
        let announced = |length| Framing::Whole { length: Some(length) };
        let unknown = Framing::Whole { length: None };
        assert_eq!(cause(gather(announced(CAP as u64 + 1), &[])), Some(Cause::TooLarge));
        assert_eq!(gather(announced(CAP as u64), &[&[1; CAP]]), Ok(vec![1; CAP]));
        assert_eq!(gather(unknown, &[&[1; 600], &[1; 400]]), Ok(vec![1; CAP]));
        assert_eq!(cause(gather(unknown, &[&[1; 600], &[1; 401]])), Some(Cause::TooLarge));
        assert_eq!(gather(unknown, &[]), Ok(vec![]));
        assert_eq!(gather(announced(0), &[]), Ok(vec![]));
    }

    #[test]
    fn memory_follows_what_came_and_not_what_was_announced() {
        let mut account = roomy();
        let mut gather = Gather::new(Framing::Grpc, 1 << 30, &mut account).unwrap();
        gather.push(Bytes::copy_from_slice(&message(1 << 20)[..5])).unwrap();
        gather.push(Bytes::from(vec![0; 16_000])).unwrap();
        drop(gather);
        assert_eq!(account.held_bytes(), FIRST_BYTES);
    }

    proptest! {
        #[test]
        fn pieces_come_together_however_they_were_cut(length in 0..CAP, cuts in proptest::collection::vec(0..CAP, 0..9)) {
            let whole = message(length);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(whole.len())).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &whole[pair[0]..pair[1]]).collect();
            prop_assert_eq!(gather(Framing::Grpc, &pieces), Ok(whole));
        }
    }

    async fn read_slowly(gap: Duration, pieces: usize, bytes: usize) -> (Result<usize, Refusal>, Duration) {
        let source = stream::iter(0..pieces).then(|_| async move {
            tokio::time::sleep(gap).await;
            Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; bytes])))
        });
        let start = Instant::now();
        let mut body = StreamBody::new(Box::pin(source));
        let framing = Framing::Whole { length: None };
        let read = read(&mut body, framing, 1 << 20, Pace::default(), &mut roomy()).await;
        (read.map(|body| body.len()), start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_cut_off_and_a_steady_one_is_not() {
        let second = Duration::from_secs(1);
        assert_eq!(read_slowly(second, 20, 2_000).await.0, Ok(40_000));
        let (read, after) = read_slowly(second, 100, 10).await;
        assert!(read.is_err_and(|refusal| refusal.is_retryable()));
        assert!(after >= 5 * second && after < 7 * second, "{after:?}");
        let (read, after) = read_slowly(second, 100, 2_000).await;
        assert!(read.is_err_and(|refusal| refusal.is_retryable()));
        assert!(after >= 30 * second && after < 31 * second, "{after:?}");
    }
}
