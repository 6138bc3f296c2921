//! Which anchors own a key: rendezvous hashing over the live ones.
//!
//! Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998). Keyed, so that
//! nobody outside the group can choose keys that all fall on one anchor. When an anchor comes or
//! goes, only the keys that it owns move.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::wire::{KeyId, PeerKey};

/// On how many anchors an entry is stored.
pub(crate) const REPLICAS: usize = 2;

/// The live anchors.
#[derive(Debug)]
pub(super) struct Ring {
    placement: [u8; 16],
    /// In order of their keys.
    anchors: Vec<PeerKey>,
}

impl Ring {
    pub(super) const fn new(placement: [u8; 16]) -> Self {
        Self { placement, anchors: Vec::new() }
    }

    /// Takes these anchors from now on, in order of their keys. Says whether anything changed.
    pub(super) fn replace(&mut self, anchors: Vec<PeerKey>) -> bool {
        debug_assert!(anchors.is_sorted());
        let changed = self.anchors != anchors;
        self.anchors = anchors;
        changed
    }

    pub(super) fn anchors(&self) -> &[PeerKey] {
        &self.anchors
    }

    pub(super) fn contains(&self, peer: PeerKey) -> bool {
        self.anchors.binary_search(&peer).is_ok()
    }

    /// The first `N` anchors for `key`, the best first; fewer where there are fewer.
    pub(super) fn ranked<const N: usize>(&self, key: KeyId) -> Ranked<N> {
        let mut best = [(0, PeerKey([0; 32])); N];
        let mut count = 0;
        for &peer in &self.anchors {
            let score = self.score(key, peer);
            if count < N {
                count += 1;
            } else if score <= best[N - 1].0 {
                continue;
            }
            let mut place = count - 1;
            while place > 0 && best[place - 1].0 < score {
                best[place] = best[place - 1];
                place -= 1;
            }
            best[place] = (score, peer);
        }
        Ranked { peers: best.map(|(_, peer)| peer), count }
    }

    /// Who stores `key`.
    pub(super) fn owners(&self, key: KeyId) -> Ranked<REPLICAS> {
        self.ranked(key)
    }

    fn score(&self, key: KeyId, peer: PeerKey) -> u64 {
        let mut hash = SipHasher13::new_with_key(&self.placement);
        hash.write(&key.0);
        hash.write(&peer.0);
        hash.finish()
    }
}

/// Up to `N` anchors, the best first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranked<const N: usize> {
    peers: [PeerKey; N],
    count: usize,
}

impl<const N: usize> std::ops::Deref for Ranked<N> {
    type Target = [PeerKey];

    fn deref(&self) -> &[PeerKey] {
        &self.peers[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> KeyId {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        KeyId(key)
    }

    fn ring(count: u8) -> Ring {
        let mut ring = Ring::new([3; 16]);
        ring.replace((0..count).map(|number| PeerKey([number; 32])).collect());
        ring
    }

    #[test]
    fn an_empty_ring_and_a_small_one_give_what_there_is() {
        assert!(ring(0).owners(key(1)).is_empty());
        assert_eq!(ring(1).owners(key(1)).len(), 1);
        assert_eq!(ring(5).owners(key(1)).len(), 2);
    }

    #[test]
    fn keys_spread_evenly() {
        let ring = ring(10);
        let mut counts = [0u32; 10];
        for number in 0..20_000 {
            counts[usize::from(ring.owners(key(number))[0].0[0])] += 1;
        }
        assert!(counts.iter().all(|count| (1_700..2_300).contains(count)), "{counts:?}");
    }

    #[test]
    fn an_anchor_that_goes_moves_only_its_own_keys() {
        let (all, mut fewer) = (ring(10), ring(10));
        fewer.replace(all.anchors()[1..].to_vec());
        for number in 0..5_000 {
            let (before, after) = (all.ranked::<3>(key(number)), fewer.owners(key(number)));
            let stay: Vec<_> = before.iter().filter(|peer| peer.0[0] != 0).take(2).collect();
            assert_eq!(stay, after.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn another_group_places_otherwise() {
        let (one, mut other) = (ring(10), Ring::new([4; 16]));
        other.replace(one.anchors().to_vec());
        let same = (0..1_000).filter(|number| one.owners(key(*number))[0] == other.owners(key(*number))[0]);
        assert!(same.count() < 200);
    }
}
