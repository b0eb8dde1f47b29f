//! Connection limits, in total and per address. Further connections are limited to health and metrics.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maximum open connections, each for TCP and for the Unix socket.
pub(super) const CONNECTIONS_MAX: usize = 256;
/// Maximum of these from one address, or from one IPv6 /64 network.
pub(super) const CONNECTIONS_PER_ADDRESS_MAX: usize = 128;
/// Further connections, limited to health and metrics; beyond these the oldest of them is closed.
pub(super) const RESERVE_MAX: usize = 32;

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The connections of one listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Arc<Mutex<Taken>>);

/// A connection's slot; released when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    address: Option<IpAddr>,
}

impl Seats {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot for a connection from `address`, if available.
    pub(super) fn acquire(&self, address: Option<IpAddr>) -> Option<Seat> {
        let address = address.map(network);
        let mut taken = self.lock();
        let count = address.and_then(|address| taken.by_address.get(&address)).copied().unwrap_or(0);
        if taken.all >= CONNECTIONS_MAX || count >= CONNECTIONS_PER_ADDRESS_MAX {
            return None;
        }
        taken.all += 1;
        if let Some(address) = address {
            taken.by_address.insert(address, count + 1);
        }
        drop(taken);
        Some(Seat { seats: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.all -= 1;
        let Some(address) = self.address else { return };
        let left = taken.by_address.get(&address).map_or(0, |count| count - 1);
        if left == 0 {
            taken.by_address.remove(&address);
        } else {
            taken.by_address.insert(address, left);
        }
    }
}

/// One IPv6 host may use all addresses of its network.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_in_all_and_by_address() {
        let seats = Seats::default();
        let take = |address: &str| seats.acquire(Some(address.parse().unwrap()));
        let one: Vec<_> = (0..CONNECTIONS_PER_ADDRESS_MAX).map(|_| take("192.0.2.1").unwrap()).collect();
        assert!(take("192.0.2.1").is_none());
        assert!(take("::ffff:192.0.2.1").is_none());
        let half: Vec<_> =
            (0..CONNECTIONS_PER_ADDRESS_MAX).map(|n| take(&format!("2001:db8::{n:x}")).unwrap()).collect();
        assert!(take("2001:db8::ffff").is_none());
        assert!(take("192.0.2.2").is_none() && seats.acquire(None).is_none());
        drop((one, half));
        assert!(seats.lock().all == 0 && seats.lock().by_address.is_empty());
        let unix: Vec<_> = (0..CONNECTIONS_MAX).map(|_| seats.acquire(None).unwrap()).collect();
        assert!(seats.acquire(None).is_none());
        drop(unix);
    }
}
