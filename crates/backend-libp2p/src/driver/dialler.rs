//! When to dial whom: bootstrap addresses are dialled for ever. No I/O.

use std::time::Duration;

use libp2p::PeerId;

use crate::address::PeerAddress;

/// The first wait after a failure; it doubles with each.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest wait for somebody who was connected in the last [`RECENT`]: back soon, when the link heals.
const LONGEST_RECENT: Duration = Duration::from_secs(2);
/// How long a connection that was made has to become a link.
const HANDSHAKE: Duration = Duration::from_millis(2500);
const RECENT: Duration = Duration::from_secs(600);

/// Which bootstrap address.
pub(crate) type Target = usize;

/// The bootstrap addresses and how it went with each.
#[derive(Debug)]
pub(crate) struct Dialler {
    targets: Vec<State>,
}

#[derive(Debug)]
struct State {
    address: PeerAddress,
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
        let state = |address: PeerAddress| State {
            peer: address.peer,
            address,
            due: now,
            wait: FIRST,
            busy: false,
            linked: false,
            linked_until: None,
            trouble: None,
        };
        Self { targets: addresses.into_iter().map(state).collect() }
    }

    /// Takes note of who is connected.
    pub(crate) fn observe(&mut self, now: Duration, is_connected: impl Fn(&PeerId) -> bool, chance: f64) {
        for target in &mut self.targets {
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
        let due = self.targets.iter_mut().enumerate().filter(|(_, state)| ready(state));
        due.map(|(target, state)| {
            state.busy = true;
            (target, state.address.clone())
        })
        .collect()
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.targets.iter().filter(|state| !state.busy && !state.linked).map(|state| state.due).min()
    }

    /// A try has ended: with whom, or why not. `chance` is between 0 and 1.
    pub(crate) fn ended(
        &mut self,
        target: Target,
        now: Duration,
        result: Result<PeerId, String>,
        chance: f64,
    ) {
        let Some(state) = self.targets.get_mut(target) else { return };
        state.busy = false;
        let wait = state.wait.mul_f64(0.5 + chance / 2.0);
        // After a success there is a handshake, which may fail.
        state.due = now + if result.is_ok() { wait.max(HANDSHAKE) } else { wait };
        let recent = state.linked_until.is_some_and(|until| now.saturating_sub(until) < RECENT);
        state.wait = (state.wait * 2).min(if recent { LONGEST_RECENT } else { LONGEST });
        match result {
            Ok(peer) => state.peer = Some(peer),
            Err(why) => state.trouble = Some(why),
        }
    }

    /// Each address, and what hinders it.
    pub(crate) fn report(&self) -> impl Iterator<Item = (&PeerAddress, bool, Option<&str>)> {
        self.targets.iter().map(|state| (&state.address, state.linked, state.trouble.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialler() -> Dialler {
        Dialler::new(vec!["/ip4/10.0.0.1/tcp/9100".parse().unwrap()], Duration::ZERO)
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
            dialler.ended(0, now, Err("refused".into()), 1.0);
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
        dialler.ended(0, Duration::ZERO, Ok(peer), 1.0);
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
            dialler.ended(0, Duration::ZERO, Err("refused".into()), chance);
            dialler.next().unwrap()
        };
        assert_eq!((wait(0.0), wait(1.0)), (FIRST / 2, FIRST));
    }
}
