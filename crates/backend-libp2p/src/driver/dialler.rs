//! When to dial whom: bootstrap addresses are dialled for ever, and what multicast DNS finds while
//! it is there. No I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::PeerId;

use super::bootstrap::BootstrapReport;
use crate::address::PeerAddress;

/// The first wait after a failure; it doubles with each.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest wait for what multicast DNS found: other programs are among it, which will never be
/// members.
const LONGEST_FOUND: Duration = Duration::from_secs(300);
/// The most of these at one time: anyone in the local network can make them up.
#[cfg(any(feature = "mdns", test))]
const MOST_FOUND: usize = 64;
/// The longest wait for somebody who was connected in the last [`RECENT`]: back soon, when the link
/// heals.
const LONGEST_RECENT: Duration = Duration::from_secs(2);
/// How long a connection that was made has to become a link.
const HANDSHAKE: Duration = Duration::from_millis(2500);
const RECENT: Duration = Duration::from_secs(600);

/// Which address. The number is given once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Target(u64);

/// The addresses to dial and how it went with each.
#[derive(Debug, Default)]
pub(crate) struct Dialler {
    targets: BTreeMap<Target, State>,
    next: u64,
}

#[derive(Debug)]
struct State {
    address: PeerAddress,
    /// Multicast DNS found it, and it goes when that is over.
    found: bool,
    /// Who answered there last, or is expected to.
    peer: Option<PeerId>,
    due: Duration,
    wait: Duration,
    /// Resolving or dialling.
    busy: bool,
    linked: bool,
    linked_until: Option<Duration>,
    trouble: Option<String>,
}

impl Dialler {
    pub(crate) fn new(addresses: Vec<PeerAddress>, now: Duration) -> Self {
        let mut dialler = Self::default();
        addresses.into_iter().for_each(|address| dialler.add(address, false, now));
        dialler
    }

    fn add(&mut self, address: PeerAddress, found: bool, now: Duration) {
        let state = State {
            peer: address.peer,
            address,
            found,
            due: now,
            wait: FIRST,
            busy: false,
            linked: false,
            linked_until: None,
            trouble: None,
        };
        self.targets.insert(Target(self.next), state);
        self.next += 1;
    }

    /// Multicast DNS found somebody at `address`.
    #[cfg(any(feature = "mdns", test))]
    pub(crate) fn found(&mut self, address: PeerAddress, now: Duration) {
        let known = self.targets.values().any(|state| state.address == address);
        let found = self.targets.values().filter(|state| state.found).count();
        if !known && found < MOST_FOUND {
            self.add(address, true, now);
        }
    }

    /// Multicast DNS has heard nothing of `address` for as long as its records last.
    #[cfg(any(feature = "mdns", test))]
    pub(crate) fn vanished(&mut self, address: &PeerAddress) {
        self.targets.retain(|_, state| !state.found || state.address != *address);
    }

    /// Takes note of who is connected.
    pub(crate) fn observe(&mut self, now: Duration, is_connected: impl Fn(&PeerId) -> bool, chance: f64) {
        for target in self.targets.values_mut() {
            let linked = target.peer.as_ref().is_some_and(&is_connected);
            if target.linked && !linked {
                // Not at once: many lose one anchor at the same time.
                (target.wait, target.due) = (FIRST, now + FIRST.mul_f64(chance));
                target.linked_until = Some(now);
            }
            if linked {
                (target.wait, target.trouble) = (FIRST, None);
            }
            target.linked = linked;
        }
    }

    /// Those to be dialled now. Each is busy until [`Dialler::ended`].
    pub(crate) fn due(&mut self, now: Duration) -> Vec<(Target, PeerAddress)> {
        let ready = |state: &&mut State| !state.busy && !state.linked && state.due <= now;
        let due = self.targets.iter_mut().filter(|(_, state)| ready(state));
        due.map(|(target, state)| {
            state.busy = true;
            (*target, state.address.clone())
        })
        .collect()
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.targets.values().filter(|state| !state.busy && !state.linked).map(|state| state.due).min()
    }

    /// A try has ended: with whom, or why not. `chance` is between 0 and 1.
    pub(crate) fn ended(
        &mut self,
        target: Target,
        now: Duration,
        result: Result<PeerId, String>,
        chance: f64,
    ) {
        let Some(state) = self.targets.get_mut(&target) else { return };
        state.busy = false;
        let wait = state.wait.mul_f64(0.5 + chance / 2.0);
        // After a success there is a handshake, which may fail.
        state.due = now + if result.is_ok() { wait.max(HANDSHAKE) } else { wait };
        let recent = state.linked_until.is_some_and(|until| now.saturating_sub(until) < RECENT);
        let longest = if state.found { LONGEST_FOUND } else { LONGEST };
        state.wait = (state.wait * 2).min(if recent { LONGEST_RECENT } else { longest });
        match result {
            Ok(peer) => state.peer = Some(peer),
            Err(why) => state.trouble = Some(why),
        }
    }

    /// Who answered there was connected with, and the handshake failed.
    pub(crate) fn refused(&mut self, target: Target, why: String) {
        if let Some(state) = self.targets.get_mut(&target).filter(|state| !state.linked) {
            state.trouble = Some(why);
        }
    }

    /// Each address, and what hinders it.
    pub(crate) fn report(&self) -> impl Iterator<Item = BootstrapReport> {
        self.targets.values().map(|state| BootstrapReport {
            address: state.address.to_string(),
            found: state.found,
            connected: state.linked,
            trouble: state.trouble.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only one.
    const TARGET: Target = Target(0);

    fn dialler() -> Dialler {
        Dialler::new(vec!["/ip4/10.0.0.1/tcp/9100".parse().unwrap()], Duration::ZERO)
    }

    /// An address with the name of whoever is expected there.
    fn named(last: u8) -> PeerAddress {
        PeerAddress {
            peer: Some(PeerId::random()),
            ..format!("/ip4/10.0.0.{last}/tcp/9100").parse().unwrap()
        }
    }

    /// Lets every try fail for `total`; the waits between them.
    fn fail(dialler: &mut Dialler, from: Duration, total: Duration) -> Vec<Duration> {
        let (mut now, mut waits) = (from, Vec::new());
        while now < from + total {
            let due = dialler.next().unwrap();
            waits.push(due.saturating_sub(now));
            now = now.max(due);
            assert_eq!(dialler.due(now).len(), 1);
            assert_eq!(dialler.next(), None, "it is busy");
            dialler.ended(TARGET, now, Err("refused".into()), 1.0);
        }
        waits
    }

    #[test]
    fn nobody_there_is_tried_for_ever_at_longer_and_longer_intervals() {
        let waits = fail(&mut dialler(), Duration::ZERO, Duration::from_secs(3600));
        let millis: Vec<_> = waits.iter().take(9).map(Duration::as_millis).collect();
        assert_eq!(millis, [0, 250, 500, 1000, 2000, 4000, 8000, 16000, 30000]);
        assert!(waits.iter().all(|wait| *wait <= LONGEST) && waits.len() > 120);
    }

    #[test]
    fn who_was_connected_is_tried_every_two_seconds_for_ten_minutes() {
        let mut dialler = dialler();
        let (peer, gone) = (PeerId::random(), Duration::from_secs(60));
        assert_eq!(dialler.due(Duration::ZERO).len(), 1);
        dialler.ended(TARGET, Duration::ZERO, Ok(peer), 1.0);
        dialler.observe(Duration::ZERO, |connected| *connected == peer, 1.0);
        assert_eq!(dialler.next(), None);
        dialler.observe(gone, |_| false, 1.0);
        let waits = fail(&mut dialler, gone, RECENT - Duration::from_secs(2));
        assert!(waits.iter().all(|wait| *wait <= LONGEST_RECENT));
        let later = fail(&mut dialler, gone + RECENT, Duration::from_secs(600));
        assert_eq!(later.last(), Some(&LONGEST));
    }

    #[test]
    fn waits_are_spread() {
        let wait = |chance| {
            let mut dialler = dialler();
            dialler.due(Duration::ZERO);
            dialler.ended(TARGET, Duration::ZERO, Err("refused".into()), chance);
            dialler.next().unwrap()
        };
        assert_eq!((wait(0.0), wait(1.0)), (FIRST / 2, FIRST));
    }

    #[test]
    fn who_refuses_says_why_until_he_is_connected_and_is_tried_again_later() {
        let mut dialler = dialler();
        let peer = PeerId::random();
        let trouble = |dialler: &Dialler| dialler.report().next().unwrap().trouble;
        dialler.due(Duration::ZERO);
        dialler.ended(TARGET, Duration::ZERO, Ok(peer), 1.0);
        dialler.refused(TARGET, "another version".into());
        assert_eq!(trouble(&dialler).as_deref(), Some("another version"));
        assert_eq!(dialler.next(), Some(HANDSHAKE));
        dialler.observe(HANDSHAKE, |connected| *connected == peer, 1.0);
        assert_eq!(trouble(&dialler), None);
        // A second connection, which was not needed, says nothing of the first.
        dialler.refused(TARGET, "it has another connection".into());
        assert_eq!(trouble(&dialler), None);
    }

    #[test]
    fn what_is_found_is_dialled_like_what_was_given_until_it_vanishes() {
        let mut dialler = dialler();
        let (address, now) = (named(2), Duration::from_secs(5));
        dialler.found(address.clone(), now);
        dialler.found(address.clone(), now);
        let due: Vec<_> = dialler.due(now).into_iter().map(|(_, address)| address).collect();
        assert_eq!(due, ["/ip4/10.0.0.1/tcp/9100".parse().unwrap(), address.clone()]);
        assert_eq!(dialler.report().map(|it| it.found).collect::<Vec<_>>(), [false, true]);
        dialler.vanished(&address);
        dialler.vanished(&"/ip4/10.0.0.1/tcp/9100".parse().unwrap());
        assert_eq!(dialler.report().count(), 1, "what was given stays");
        // A try that ends after that.
        dialler.ended(Target(1), now, Err("refused".into()), 1.0);
        dialler.refused(Target(1), "refused".into());
        dialler.found(address, now);
        assert_eq!(dialler.due(now).len(), 1, "and is new when it comes back");
    }

    #[test]
    fn what_is_found_is_bounded_and_tried_less_and_less() {
        let mut dialler = Dialler::default();
        (0..=u8::MAX).for_each(|last| dialler.found(named(last), Duration::ZERO));
        assert_eq!(dialler.report().count(), MOST_FOUND);
        let mut dialler = Dialler::default();
        dialler.found(named(1), Duration::ZERO);
        let waits = fail(&mut dialler, Duration::ZERO, Duration::from_secs(3600));
        assert_eq!(waits.last(), Some(&LONGEST_FOUND));
    }
}
