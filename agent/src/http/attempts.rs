//! How often an address may be wrong about a token.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::seats::network;

/// Wrong tokens from one address, or one IPv6 /64 network, before further ones are refused unseen.
pub(super) const FAILURES_MAX: u32 = 10;
/// A wrong token is forgotten after this time.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(6);
/// Addresses that are remembered; one more takes the place of the one that is forgotten first.
const ADDRESSES_MAX: usize = 1_024;
/// How often the journal is told at most.
const SAID_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Failures {
    /// When all failures of an address are forgotten: each failure moves it by [`FORGOTTEN_AFTER`].
    clean: HashMap<IpAddr, Instant>,
    said: Option<Instant>,
}

/// The failures of all addresses.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Failures>);

impl Attempts {
    /// How long an address has to wait before another token of it is looked at.
    pub(super) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let debt = failures.clean.get(&network(address))?.saturating_duration_since(now);
        debt.checked_sub(FORGOTTEN_AFTER * (FAILURES_MAX - 1)).filter(|wait| !wait.is_zero())
    }

    /// Notes a wrong token. Returns whether the journal is to be told that this address is refused now.
    pub(super) fn failed(&self, address: IpAddr, now: Instant) -> bool {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        if failures.clean.len() >= ADDRESSES_MAX && !failures.clean.contains_key(&address) {
            failures.clean.retain(|_, clean| *clean > now);
            let first = failures.clean.iter().min_by_key(|(_, clean)| **clean).map(|(address, _)| *address);
            if let Some(first) = first.filter(|_| failures.clean.len() >= ADDRESSES_MAX) {
                failures.clean.remove(&first);
            }
        }
        let clean = failures.clean.entry(address).or_insert(now);
        *clean = (*clean).max(now) + FORGOTTEN_AFTER;
        let refused = clean.saturating_duration_since(now) > FORGOTTEN_AFTER * (FAILURES_MAX - 1);
        let quiet = failures.said.is_some_and(|said| now.saturating_duration_since(said) < SAID_EVERY);
        if !refused || quiet {
            return false;
        }
        failures.said = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn after_ten_wrong_tokens_an_address_waits_and_others_do_not() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 1..FAILURES_MAX {
            assert!(!attempts.failed(one, now));
            assert_eq!(attempts.wait(one, now), None);
        }
        assert!(attempts.failed(one, now), "nobody is told");
        assert_eq!(attempts.wait(one, now), Some(FORGOTTEN_AFTER));
        assert_eq!(attempts.wait(other, now), None);
        let later = now + FORGOTTEN_AFTER;
        assert_eq!(attempts.wait(one, later), None);
        assert!(!attempts.failed(one, later), "the journal is told each time");
        assert_eq!(attempts.wait(one, later), Some(FORGOTTEN_AFTER));
        assert_eq!(attempts.wait(one, now + FORGOTTEN_AFTER * 20), None);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for host in 0..FAILURES_MAX {
            attempts.failed(address(&format!("2001:db8::{host:x}")), now);
        }
        assert!(attempts.wait(address("2001:db8::ffff"), now).is_some());
        assert!(attempts.wait(address("2001:db8:0:1::1"), now).is_none());
    }

    #[test]
    fn only_so_many_addresses_are_remembered() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let blocked = address("192.0.2.1");
        for _ in 0..FAILURES_MAX {
            attempts.failed(blocked, now);
        }
        for n in 0..2 * ADDRESSES_MAX as u32 {
            attempts.failed(IpAddr::V4((0x0a00_0000 + n).into()), now);
        }
        assert_eq!(attempts.0.lock().unwrap().clean.len(), ADDRESSES_MAX);
        assert!(attempts.wait(blocked, now).is_some(), "the worst was forgotten");
        attempts.failed(address("192.0.2.9"), now + FORGOTTEN_AFTER * 20);
        assert_eq!(attempts.0.lock().unwrap().clean.len(), 1, "those that are over stay");
    }
}
