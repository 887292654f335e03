//! What one request holds of the process's memory budget. Charged before memory is allocated (the budget rounds up to its
//! steps), given back when the request is answered; try or refuse, never wait.

use std::net::IpAddr;

use homeostat_pipeline::budget::{Budget, Charge, Class};
use homeostat_pipeline::refusal::Refusal;

/// One request's part of the budget.
pub struct Account {
    budget: Budget,
    peer: IpAddr,
    charge: Option<Charge>,
    held_bytes: usize,
}

impl Account {
    /// Nothing is charged yet.
    pub fn new(budget: Budget, peer: IpAddr) -> Account {
        Account { budget, peer, charge: None, held_bytes: 0 }
    }

    /// Makes sure that at least `bytes` are held. What is held is only given back as a whole.
    ///
    /// # Errors
    /// Those of the budget; what was held before stays held.
    pub fn cover(&mut self, bytes: usize) -> Result<(), Refusal> {
        if bytes > self.held_bytes {
            let more = (bytes - self.held_bytes) as u64;
            match &mut self.charge {
                Some(charge) => charge.grow(more)?,
                None => {
                    self.charge = Some(self.budget.try_charge(Some(self.peer), Class::Telemetry, more)?)
                }
            }
            self.held_bytes = bytes;
        }
        Ok(())
    }

    /// Bytes held now.
    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// An account of a budget that nothing in a test exhausts.
    pub fn roomy() -> Account {
        Account::new(Budget::new(4 << 30), Ipv4Addr::LOCALHOST.into())
    }

    #[test]
    fn the_most_that_was_asked_is_held_until_the_request_is_over() {
        let budget = Budget::new(64 << 20);
        let mut account = Account::new(budget.clone(), Ipv4Addr::LOCALHOST.into());
        for (asked, held) in [(0, 0), (100_000, 100_000), (7, 100_000), (300_000, 300_000)] {
            assert_eq!(account.cover(asked), Ok(()));
            assert_eq!(account.held_bytes(), held, "after {asked}");
        }
        assert!(budget.used_bytes() >= 300_000);
        drop(account);
        assert_eq!(budget.used_bytes(), 0);
    }
}
