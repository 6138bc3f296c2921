//! Multicast DNS: whoever is found is dialled like a bootstrap address, for as long as its records
//! last.
//!
//! All programs with libp2p answer under one name, so others than nodes of this network are found
//! too, and anybody in the local network can say anything. What is found has to prove itself like
//! everyone else.

use libp2p::mdns::Event;
use libp2p::{Multiaddr, PeerId};

use super::{SwarmTask, without_peer};
use crate::address::{Host, PeerAddress, may_dial};

impl SwarmTask {
    pub(super) fn on_mdns(&mut self, event: Event) {
        let now = self.origin.elapsed();
        match event {
            Event::Discovered(found) => {
                for address in found.iter().filter_map(usable) {
                    if address.peer != Some(self.me) && !self.is_own(&address) {
                        tracing::debug!(%address, "found by multicast DNS");
                        self.dialler.found(address, now);
                    }
                }
            }
            Event::Expired(gone) => {
                gone.iter().filter_map(usable).for_each(|address| self.dialler.vanished(&address));
            }
        }
        self.tell_targets();
    }
}

/// An address that may be dialled, with the name of who is expected there.
fn usable((peer, address): &(PeerId, Multiaddr)) -> Option<PeerAddress> {
    let address = PeerAddress::from_multiaddr(&without_peer(address))?;
    let may = matches!(address.host, Host::Ip(ip) if may_dial(ip) && !ip.is_loopback());
    may.then_some(PeerAddress { peer: Some(*peer), ..address })
}
