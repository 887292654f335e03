//! The process memory budget: bytes in flight are charged as they arrive and inflate; try or refuse, never wait.
//!
//! A charge starts in steps of 4 KiB and beyond 64 KiB grows in steps of 64 KiB, so a body that trickles in touches the
//! shared counter rarely and a small request does not hold the room of a large one. A peer holds at most a quarter, or one request of
//! at most half, so that the largest body that a receiver reads fits. The last tenth is for alerts, what waits for telemetry
//! backends is at most half, and what queues on disk hold of the requests under way at most a quarter, so that a dead backend
//! never blinds the judgement.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::refusal::{Cause, Refusal};

const SMALL_STEP_BYTES: u64 = 4 * 1024;
const STEP_BYTES: u64 = 64 * 1024;
const DEFAULT_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Below this nothing useful fits: one OTLP message of the default size, inflated, and its frame.
const DEFAULT_MIN_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes in flight of the whole process. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: AtomicU64,
    used: AtomicU64,
    forwarding: AtomicU64,
    backlog: AtomicU64,
    peers: Mutex<HashMap<IpAddr, u64>>,
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
    budget: Budget,
    peer: Option<IpAddr>,
    class: Class,
    bytes: u64,
    held: u64,
}

/// Bytes that wait for telemetry backends; given back when dropped. They are part of a [`Charge`] that someone else holds.
#[derive(Debug)]
pub struct Forward {
    budget: Budget,
    bytes: u64,
}

/// What the requests of queues hold while they are under way to their backends; given back when dropped.
#[derive(Debug)]
pub struct Backlog {
    /// Its bytes are part of the backlog's.
    charge: Charge,
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Budget {
        metrics::gauge!("homeostat_budget_limit_bytes").set(bytes as f64);
        Budget(Arc::new(Shared {
            limit: AtomicU64::new(bytes),
            used: AtomicU64::new(0),
            forwarding: AtomicU64::new(0),
            backlog: AtomicU64::new(0),
            peers: Mutex::default(),
        }))
    }

    /// All of it.
    pub fn limit_bytes(&self) -> u64 {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// Another limit from now on; what is held beyond it is kept until it is given back.
    pub fn set_limit_bytes(&self, bytes: u64) {
        metrics::gauge!("homeostat_budget_limit_bytes").set(bytes as f64);
        self.0.limit.store(bytes, Ordering::Relaxed);
    }

    /// What is held now, rounded up to steps.
    pub fn used_bytes(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Sets the gauges; called once a second, never per request.
    pub fn observe(&self) {
        metrics::gauge!("homeostat_budget_used_bytes").set(self.used_bytes() as f64);
        let forwarding = self.0.forwarding.load(Ordering::Relaxed);
        metrics::gauge!("homeostat_budget_forwarding_bytes").set(forwarding as f64);
    }

    /// Takes `bytes` for `peer`; none is the process itself, which has no quarter.
    ///
    /// # Errors
    /// `Unavailable` when the budget or the peer's part of it is used up; `Rejected` when it could never fit.
    pub fn try_charge(&self, peer: Option<IpAddr>, class: Class, bytes: u64) -> Result<Charge, Refusal> {
        let mut charge = Charge { budget: self.clone(), peer, class, bytes: 0, held: 0 };
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// Lets `bytes` wait for a telemetry backend.
    ///
    /// # Errors
    /// `Unavailable` when half of the budget waits already.
    pub fn try_forward(&self, bytes: u64) -> Result<Forward, Refusal> {
        if take(&self.0.forwarding, bytes, self.limit_bytes() / 2) {
            Ok(Forward { budget: self.clone(), bytes })
        } else {
            Err(Refusal::busy("too much telemetry waits for its backends already"))
        }
    }

    /// Takes `bytes` for a request that a queue sends now.
    ///
    /// # Errors
    /// `Unavailable` when the budget is used up, or queues hold their quarter of it; `Rejected` when it could never fit.
    pub fn try_backlog(&self, bytes: u64) -> Result<Backlog, Refusal> {
        let charge = self.try_charge(None, Class::Telemetry, bytes)?;
        if take(&self.0.backlog, charge.held, self.limit_bytes() / 4) {
            Ok(Backlog { charge })
        } else {
            Err(Refusal::busy("the requests that queues send hold their quarter of the memory budget"))
        }
    }

    /// The most that one request of a peer may hold.
    pub fn one_request_bytes(&self) -> u64 {
        one_request_bytes(self.limit_bytes())
    }

    fn allowed(&self, class: Class) -> u64 {
        match class {
            Class::Telemetry => self.limit_bytes() - self.limit_bytes() / 10,
            Class::Alerts => self.limit_bytes(),
        }
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<IpAddr, u64>> {
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `own` is what the charge that grows holds already.
    fn take(&self, peer: Option<IpAddr>, class: Class, step: u64, own: u64) -> Result<(), Refusal> {
        if !take(&self.0.used, step, self.allowed(class)) {
            return Err(Refusal::busy("over the memory budget"));
        }
        let Some(peer) = peer else { return Ok(()) };
        let mut peers = self.peers();
        let held = peers.entry(peer).or_default();
        let is_alone = *held == own;
        let most = if is_alone { self.one_request_bytes() } else { self.limit_bytes() / 4 };
        if *held + step > most {
            if *held == 0 {
                peers.remove(&peer);
            }
            drop(peers);
            self.0.used.fetch_sub(step, Ordering::Relaxed);
            return Err(Refusal::busy("this peer holds its quarter of the memory budget"));
        }
        *held += step;
        Ok(())
    }

    fn give_back(&self, peer: Option<IpAddr>, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
        let Some(peer) = peer else { return };
        let mut peers = self.peers();
        if let Some(held) = peers.get_mut(&peer) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                peers.remove(&peer);
            }
        }
    }
}

/// The most that one request of a peer may hold of a budget of `limit_bytes`: half.
pub const fn one_request_bytes(limit_bytes: u64) -> u64 {
    limit_bytes / 2
}

/// Adds `bytes` when the sum stays within `limit`.
fn take(counter: &AtomicU64, bytes: u64, limit: u64) -> bool {
    let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
}

fn rounded(bytes: u64) -> u64 {
    let step = if bytes <= STEP_BYTES { SMALL_STEP_BYTES } else { STEP_BYTES };
    bytes.div_ceil(step).saturating_mul(step)
}

impl Charge {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// As [`Budget::try_charge`]; what it held it keeps.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Refusal> {
        let total = self.bytes.saturating_add(bytes);
        let wanted = rounded(total);
        let budget = &self.budget;
        let most = if self.peer.is_some() { budget.one_request_bytes() } else { budget.allowed(self.class) };
        if wanted > most {
            let reason =
                format!("{total} bytes are more than the memory budget lets one request hold ({most})");
            return Err(Refusal::rejected(Cause::TooLarge, reason));
        }
        if wanted > self.held {
            budget.take(self.peer, self.class, wanted - self.held, self.held)?;
            self.held = wanted;
        }
        self.bytes = total;
        Ok(())
    }

    /// What was asked for so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give_back(self.peer, self.held);
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.budget.0.forwarding.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.charge.budget.0.backlog.fetch_sub(self.charge.held, Ordering::Relaxed);
    }
}

/// The size of the budget unless set: a quarter of what the cgroup, else the machine, allows; between 16 and 64 MiB.
pub fn default_bytes() -> u64 {
    (machine_bytes() / 4).clamp(DEFAULT_MIN_BYTES, DEFAULT_MAX_BYTES)
}

/// What this process may use: the tightest `memory.max` of its cgroup (version 2) and those above it, else all of the machine.
pub fn machine_bytes() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let cgroup = read("/proc/self/cgroup").and_then(|text| cgroup_path(&text));
    let mut limit = read("/proc/meminfo").and_then(|text| mem_total(&text)).unwrap_or(DEFAULT_MAX_BYTES * 4);
    let mut path = cgroup.unwrap_or_default();
    loop {
        let max = read(&format!("/sys/fs/cgroup{path}/memory.max")).and_then(|text| text.trim().parse().ok());
        limit = limit.min(max.unwrap_or(u64::MAX));
        let Some(at) = path.rfind('/') else { return limit };
        path.truncate(at);
    }
}

/// The path of version 2 in `/proc/self/cgroup`, without a slash at the end.
fn cgroup_path(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(|path| path.trim_end_matches('/').to_owned())
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn mem_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIB: u64 = 1024;
    const PEER: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[test]
    fn the_last_tenth_is_for_alerts() {
        let budget = Budget::new(1000 * KIB);
        let telemetry = budget.try_charge(None, Class::Telemetry, 896 * KIB).unwrap();
        assert!(budget.try_charge(None, Class::Telemetry, 8 * KIB).unwrap_err().is_retryable());
        let alerts = budget.try_charge(None, Class::Alerts, 64 * KIB).unwrap();
        drop((telemetry, alerts));
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn one_peer_holds_at_most_a_quarter() {
        let budget = Budget::new(1024 * KIB);
        let held = budget.try_charge(PEER, Class::Telemetry, 192 * KIB).unwrap();
        assert!(budget.try_charge(PEER, Class::Telemetry, 128 * KIB).unwrap_err().is_retryable());
        assert_eq!(budget.used_bytes(), 192 * KIB, "a refused charge holds nothing");
        assert!(budget.try_charge(Some([10, 0, 0, 1].into()), Class::Telemetry, 128 * KIB).is_ok());
        drop(held);
        assert!(budget.try_charge(PEER, Class::Telemetry, 256 * KIB).is_ok());
        assert!(budget.peers().is_empty(), "a peer that holds nothing is forgotten");
    }

    #[test]
    fn what_can_never_fit_is_not_told_to_come_again() {
        let budget = Budget::new(1024 * KIB);
        assert!(!budget.try_charge(PEER, Class::Telemetry, 600 * KIB).unwrap_err().is_retryable());
    }

    #[test]
    fn the_largest_body_fits_beside_nothing_else_of_its_peer() {
        const MIB: u64 = 1024 * KIB;
        let budget = Budget::new(DEFAULT_MAX_BYTES);
        let mut body = budget.try_charge(PEER, Class::Telemetry, 64 * KIB).unwrap();
        for _ in 0..20 {
            body.grow(MIB).unwrap();
        }
        let other = budget.try_charge(PEER, Class::Telemetry, KIB).unwrap_err();
        assert!(other.is_retryable(), "when the large one is done there is room: {other}");
        assert!(budget.try_charge(Some([10, 0, 0, 1].into()), Class::Telemetry, 16 * MIB).is_ok());
        drop(body);
        let small = budget.try_charge(PEER, Class::Telemetry, KIB).unwrap();
        let large = budget.try_charge(PEER, Class::Telemetry, 20 * MIB).unwrap_err();
        assert!(large.is_retryable(), "when the small one is done there is room: {large}");
        drop(small);
        assert!(budget.try_charge(PEER, Class::Telemetry, 20 * MIB).is_ok());
    }

    #[test]
    fn a_charge_grows_by_steps_and_keeps_what_it_has_when_refused() {
        let budget = Budget::new(1024 * KIB);
        let mut charge = budget.try_charge(PEER, Class::Telemetry, 10).unwrap();
        assert_eq!(budget.used_bytes(), 4 * KIB);
        charge.grow(65 * KIB).unwrap();
        assert_eq!((charge.bytes(), budget.used_bytes()), (65 * KIB + 10, 128 * KIB));
        charge.grow(KIB).unwrap();
        assert_eq!(budget.used_bytes(), 128 * KIB);
        assert!(charge.grow(500 * KIB).is_err());
        assert_eq!(budget.used_bytes(), 128 * KIB);
    }

    #[test]
    fn waiting_forwards_hold_at_most_half() {
        let budget = Budget::new(1024 * KIB);
        let first = budget.try_forward(500 * KIB).unwrap();
        assert!(budget.try_forward(13 * KIB).unwrap_err().is_retryable());
        drop(first);
        assert!(budget.try_forward(512 * KIB).is_ok());
    }

    #[test]
    fn queues_hold_at_most_a_quarter() {
        let budget = Budget::new(1024 * KIB);
        let first = budget.try_backlog(192 * KIB).unwrap();
        assert!(budget.try_backlog(65 * KIB).unwrap_err().is_retryable());
        let second = budget.try_backlog(64 * KIB).unwrap();
        assert!(budget.try_charge(None, Class::Telemetry, 640 * KIB).is_ok());
        drop((first, second));
        assert_eq!(budget.used_bytes(), 0);
        assert!(budget.try_backlog(256 * KIB).is_ok());
        assert!(!budget.try_backlog(1024 * KIB).unwrap_err().is_retryable());
    }

    #[test]
    fn what_the_system_says_about_memory_is_understood() {
        assert_eq!(mem_total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 * 1024 * KIB));
        assert_eq!(cgroup_path("1:name=x:/y\n0::/a/b\n"), Some("/a/b".to_owned()));
        assert_eq!(cgroup_path("0::/\n"), Some(String::new()));
        assert!((DEFAULT_MIN_BYTES..=DEFAULT_MAX_BYTES).contains(&default_bytes()));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Charge { peer: u8, alerts: bool, bytes: u64 },
        Grow { which: usize, bytes: u64 },
        Drop { which: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..4, any::<bool>(), 0u64..400_000).prop_map(|(peer, alerts, bytes)| Step::Charge {
                peer,
                alerts,
                bytes
            }),
            (any::<usize>(), 0u64..200_000).prop_map(|(which, bytes)| Step::Grow { which, bytes }),
            any::<usize>().prop_map(|which| Step::Drop { which }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn whatever_happens_the_limits_hold_and_all_is_given_back(steps in proptest::collection::vec(step(), 1..200)) {
            let budget = Budget::new(2_000_000);
            let mut held: Vec<Charge> = Vec::new();
            for step in steps {
                match step {
                    Step::Charge { peer, alerts, bytes } => {
                        let class = if alerts { Class::Alerts } else { Class::Telemetry };
                        let peer = (peer > 0).then(|| IpAddr::from([10, 0, 0, peer]));
                        let before = budget.used_bytes();
                        if let Ok(charge) = budget.try_charge(peer, class, bytes) {
                            prop_assert!(alerts || budget.used_bytes() <= 1_800_000);
                            held.push(charge);
                        } else {
                            prop_assert_eq!(budget.used_bytes(), before);
                        }
                    }
                    Step::Grow { which, bytes } if !held.is_empty() => {
                        let which = which % held.len();
                        let _ = held[which].grow(bytes);
                    }
                    Step::Drop { which } if !held.is_empty() => drop(held.swap_remove(which % held.len())),
                    Step::Grow { .. } | Step::Drop { .. } => {}
                }
                prop_assert!(budget.used_bytes() <= 2_000_000);
                prop_assert_eq!(budget.used_bytes(), held.iter().map(|charge| charge.held).sum::<u64>());
                for peer in 1..4u8 {
                    let peer = IpAddr::from([10, 0, 0, peer]);
                    let each: Vec<u64> = held.iter().filter(|c| c.peer == Some(peer)).map(|c| c.held).collect();
                    let own: u64 = each.iter().sum();
                    prop_assert!(own <= 1_000_000);
                    // One may have grown while it was alone; empty ones hold no room.
                    let holding = each.iter().filter(|bytes| **bytes > 0).count();
                    prop_assert!(own <= 500_000 || holding <= 1, "{each:?}");
                    prop_assert_eq!(budget.peers().get(&peer).copied().unwrap_or(0), own);
                }
            }
            held.clear();
            prop_assert_eq!(budget.used_bytes(), 0);
            prop_assert!(budget.peers().is_empty());
        }
    }
}
