//! Why a batch was not taken, and the one table that says so to each kind of sender.

use std::time::Duration;

/// Why a batch was not taken: try later, or never.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The same batch may be sent again, not before `retry_after`.
    #[error("{reason}; try again in {retry_after:?}")]
    Unavailable {
        /// When the sender should come back, jittered by whoever made the refusal: 1–30 s.
        retry_after: Duration,
        /// For the answer's message and the log.
        reason: String,
    },
    /// The same batch must not be sent again.
    #[error("{reason}")]
    Rejected {
        /// What is wrong with it, as the table's rows tell it apart.
        cause: Cause,
        /// For the answer's message and the log.
        reason: String,
    },
}

/// The rows of reference/delivery.md's table that end in "never".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The body cannot be decoded.
    Malformed,
    /// The body is larger than the limit, on the wire or inflated.
    TooLarge,
    /// No or wrong credentials.
    Unauthenticated,
    /// Nothing is served at this path, or nothing takes this signal.
    Unknown,
    /// An encoding or content type that is not spoken here.
    Unsupported,
    /// A backend refused it for good, whatever its reason.
    Backend,
}

/// The gRPC status codes that refusals map to; the numbers are gRPC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum GrpcCode {
    /// INVALID_ARGUMENT.
    InvalidArgument = 3,
    /// RESOURCE_EXHAUSTED; without RetryInfo clients do not retry it.
    ResourceExhausted = 8,
    /// UNIMPLEMENTED.
    Unimplemented = 12,
    /// UNAVAILABLE, always with RetryInfo.
    Unavailable = 14,
    /// UNAUTHENTICATED.
    Unauthenticated = 16,
}

/// How a refusal is said: one row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// To an OTLP/gRPC sender.
    pub grpc: GrpcCode,
    /// To an OTLP/HTTP sender.
    pub http: u16,
    /// To a webhook; Alertmanager and Datadog drop what gets a 4xx.
    pub webhook: u16,
    /// For RetryInfo and Retry-After.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Something is full or not there: come back in one second or more.
    pub fn busy(reason: impl Into<String>) -> Refusal {
        Refusal::Unavailable { retry_after: Duration::from_secs(1), reason: reason.into() }
    }

    /// The batch will never be taken.
    pub fn rejected(cause: Cause, reason: impl Into<String>) -> Refusal {
        Refusal::Rejected { cause, reason: reason.into() }
    }

    /// The body cannot be decoded.
    pub fn malformed(reason: impl Into<String>) -> Refusal {
        Refusal::rejected(Cause::Malformed, reason)
    }

    /// Whether the same batch may be sent again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Refusal::Unavailable { .. })
    }

    /// The table of reference/delivery.md.
    pub fn answer(&self) -> Answer {
        let never = |grpc, http| Answer { grpc, http, webhook: http, retry_after: None };
        match self {
            Refusal::Unavailable { retry_after, .. } => Answer {
                grpc: GrpcCode::Unavailable,
                http: 503,
                webhook: 503,
                retry_after: Some((*retry_after).clamp(Duration::from_secs(1), Duration::from_secs(30))),
            },
            Refusal::Rejected { cause, .. } => match cause {
                Cause::Malformed | Cause::Backend => never(GrpcCode::InvalidArgument, 400),
                Cause::TooLarge => never(GrpcCode::ResourceExhausted, 413),
                Cause::Unauthenticated => never(GrpcCode::Unauthenticated, 401),
                Cause::Unknown => never(GrpcCode::Unimplemented, 404),
                Cause::Unsupported => never(GrpcCode::Unimplemented, 415),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_said_so_that_every_sender_comes_back() {
        let answer = Refusal::busy("the journal is full").answer();
        assert_eq!((answer.grpc, answer.http, answer.webhook), (GrpcCode::Unavailable, 503, 503));
        assert_eq!(answer.retry_after, Some(Duration::from_secs(1)));
    }

    #[test]
    fn the_time_to_come_back_is_between_one_and_thirty_seconds() {
        for (asked, said) in [(0, 1), (7, 7), (300, 30)] {
            let refusal =
                Refusal::Unavailable { retry_after: Duration::from_secs(asked), reason: String::new() };
            assert_eq!(refusal.answer().retry_after, Some(Duration::from_secs(said)));
        }
    }

    #[test]
    fn what_is_refused_for_good_carries_no_time_to_come_back() {
        for (cause, grpc, http) in [
            (Cause::Malformed, GrpcCode::InvalidArgument, 400),
            (Cause::TooLarge, GrpcCode::ResourceExhausted, 413),
            (Cause::Unauthenticated, GrpcCode::Unauthenticated, 401),
            (Cause::Unknown, GrpcCode::Unimplemented, 404),
            (Cause::Unsupported, GrpcCode::Unimplemented, 415),
            (Cause::Backend, GrpcCode::InvalidArgument, 400),
        ] {
            let answer = Refusal::rejected(cause, "x").answer();
            assert_eq!((answer.grpc, answer.http, answer.retry_after), (grpc, http, None), "{cause:?}");
        }
    }
}
