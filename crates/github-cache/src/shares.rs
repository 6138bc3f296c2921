//! Who a client is to the transport, and how many places of a kind each may hold.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Dead entries are swept when the map has grown to this many, and again at twice what was left.
const SWEEP_AT: usize = 256;

/// Whose connection it is, as far as bounds are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ClientAddress {
    /// An IPv4 address, or the /64 network of an IPv6 address: one host has that many to choose
    /// from.
    Ip(IpAddr),
    /// A user of this machine, over a unix socket.
    User(u32),
    /// The caller's own process.
    InProcess,
}

impl ClientAddress {
    pub(crate) fn of(address: IpAddr) -> Self {
        Self::Ip(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
            v4 => v4,
        })
    }
}

/// Places of one kind, of which each client address gets a share.
#[derive(Debug)]
pub(crate) struct Shares {
    each: usize,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    clients: HashMap<ClientAddress, Weak<Semaphore>>,
    sweep_at: usize,
}

impl Shares {
    pub(crate) fn new(each: usize) -> Self {
        Self { each: each.max(1), open: Mutex::new(Open { clients: HashMap::new(), sweep_at: SWEEP_AT }) }
    }

    /// A place of this client's share, if one is free.
    pub(crate) fn try_enter(&self, client: ClientAddress) -> Option<OwnedSemaphorePermit> {
        self.share(client).try_acquire_owned().ok()
    }

    /// Waits for a place of this client's share. Cancel-safe.
    pub(crate) async fn enter(&self, client: ClientAddress) -> Option<OwnedSemaphorePermit> {
        self.share(client).acquire_owned().await.ok()
    }

    fn share(&self, client: ClientAddress) -> Arc<Semaphore> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = open.clients.get(&client).and_then(Weak::upgrade) {
            return share;
        }
        if open.clients.len() >= open.sweep_at {
            open.clients.retain(|_, share| share.strong_count() > 0);
            open.sweep_at = SWEEP_AT.max(2 * open.clients.len());
        }
        let share = Arc::new(Semaphore::new(self.each));
        open.clients.insert(client, Arc::downgrade(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> ClientAddress {
        ClientAddress::of(text.parse().unwrap())
    }

    #[test]
    fn share_of_one_address_is_bounded_and_others_have_theirs() {
        let shares = Shares::new(2);
        let held: Vec<_> = (0..2).map(|_| shares.try_enter(ip("10.0.0.1")).unwrap()).collect();
        assert!(shares.try_enter(ip("10.0.0.1")).is_none());
        assert!(shares.try_enter(ip("::ffff:10.0.0.1")).is_none(), "the same host");
        assert!(shares.try_enter(ip("10.0.0.2")).is_some());
        assert!(shares.try_enter(ClientAddress::User(0)).is_some());
        drop(held);
        assert!(shares.try_enter(ip("10.0.0.1")).is_some());
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff:1"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
    }

    #[test]
    fn addresses_that_left_are_forgotten() {
        let shares = Shares::new(1);
        for n in 0..10_000_u32 {
            let place = shares.try_enter(ClientAddress::User(n));
            assert!(place.is_some());
        }
        assert!(shares.open.lock().unwrap().clients.len() <= SWEEP_AT);
    }
}
