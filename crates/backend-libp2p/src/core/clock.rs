//! The clocks of the members: how far they are apart, and which time this node goes by.
//!
//! Entries carry the time of their writer, and signed ones cannot be changed on their way. So the
//! members of a network have to agree on a time. Of the anchors' clocks the middle one counts; of
//! two, the one that is behind. An anchor compares the machines' clocks of all anchors that it is
//! connected with, its own included; a leaf takes the time of its anchors, as they have corrected
//! it. A node says what its machine's clock shows and by how much it corrects that, when a
//! connection is made and with each answer to a ping: so nobody follows a correction that was made
//! because of itself. A machine's clock that is set while the process runs is noticed by the time
//! that has really passed.

use std::time::Duration;

use peercache_api::Timestamp;

use super::event::{Now, Role};
use super::node::Node;
use super::state::PeerClock;
use crate::wire::{ClockReading, PeerKey};

/// From so many milliseconds on, a difference is named and corrected for. A handshake takes up to 2
/// s, and less is no harm: entries are believed up to 5 minutes ahead.
pub(crate) const NAMED_MILLIS: i64 = 5_000;
/// A correction ends when less than this is left of it, and follows changes of at least half.
const LEAST_MILLIS: i64 = 2_000;
/// A clock that is further away says nothing: it was never set.
const MOST_MILLIS: i64 = 24 * 3600 * 1000;
/// An answer that took longer does not tell the time.
const SLOWEST: Duration = Duration::from_secs(2);
/// How often a peer that is busy is asked for its time all the same.
pub(super) const CLOCK_EVERY: Duration = Duration::from_secs(30);
/// Differences of peers' clocks are logged at most so often.
const LOG_EVERY: Duration = Duration::from_secs(60);

impl Node {
    /// By how many milliseconds this node corrects its machine's clock.
    pub(crate) const fn correction(&self) -> i64 {
        self.correction
    }

    /// `now` as the machine shows it, by the time that this node goes by.
    pub(super) const fn corrected(&self, now: Now) -> Now {
        Now { mono: now.mono, wall: now.wall.shifted(self.correction) }
    }

    /// What this node says of its clock.
    pub(crate) const fn clock_reading(&self, machine: Timestamp) -> ClockReading {
        ClockReading { machine, correction: self.correction }
    }

    /// The same, by the time that this node goes by.
    pub(super) fn own_clock(&self, now: Now) -> ClockReading {
        self.clock_reading(now.wall.shifted(self.correction.saturating_neg()))
    }

    /// `peer` has said what its clock shows, not longer than `took` ago.
    /// Gives `now` by the time that this node goes by from then on.
    pub(super) fn clock_read(
        &mut self,
        now: Now,
        peer: PeerKey,
        reading: ClockReading,
        took: Duration,
    ) -> Now {
        let Some(known) = self.peers.known.get_mut(&peer).filter(|_| took <= SLOWEST) else { return now };
        // It was read somewhere on the way.
        let machine = now.wall.shifted(self.correction.saturating_neg());
        let ahead = reading.machine.millis_ahead_of(machine.saturating_sub(took / 2));
        known.clock = Some(PeerClock { ahead, correction: reading.correction, read: now.mono });
        if ahead.abs() >= NAMED_MILLIS && self.may_log_clocks(now) {
            tracing::warn!(
                ?peer,
                ahead_s = ahead / 1000,
                "the clock of a peer differs from this machine's; times are corrected where the anchors agree"
            );
        }
        self.correct_clock();
        self.corrected(Now { wall: machine, ..now })
    }

    /// Compares what the machine's clock shows with the time that has really passed. One that was
    /// set is further from the others' by that much.
    pub(super) fn notice_jump(&mut self, machine: Now) {
        let at = self.passed.unwrap_or(machine.mono);
        let before = self.machine_passed.replace(at).unwrap_or(at);
        let expected = self.machine.wall.saturating_add(at.saturating_sub(before));
        let jump = machine.wall.millis_ahead_of(expected);
        self.machine = machine;
        if jump.unsigned_abs() < NAMED_MILLIS.unsigned_abs() {
            return;
        }
        tracing::warn!(ahead_s = jump / 1000, "this machine's clock was set");
        for clock in self.peers.known.values_mut().filter_map(|peer| peer.clock.as_mut()) {
            clock.ahead = clock.ahead.saturating_sub(jump);
        }
        self.correct_clock();
    }

    fn may_log_clocks(&mut self, now: Now) -> bool {
        let due = self.clocks_logged.is_none_or(|logged| now.mono >= logged + LOG_EVERY);
        if due {
            self.clocks_logged = Some(now.mono);
        }
        due
    }

    /// Takes the time of the anchors. With none connected, what was corrected stays.
    pub(super) fn correct_clock(&mut self) {
        let of_anchors = self.peers.known.values().filter_map(|peer| {
            let link = peer.link.as_ref()?;
            // As with removals: those that were dialled are what they say.
            let counts = link.hello.role == Role::Anchor && peer.dialable;
            let clock = peer.clock.filter(|_| counts)?;
            Some(match self.role {
                Role::Anchor => clock.ahead,
                Role::Leaf => clock.ahead.saturating_add(clock.correction),
            })
        });
        let mut ahead: Vec<_> =
            of_anchors.filter(|ahead| ahead.unsigned_abs() <= MOST_MILLIS.unsigned_abs()).collect();
        if ahead.is_empty() {
            return;
        }
        if self.role == Role::Anchor {
            ahead.push(0);
        }
        ahead.sort_unstable();
        let middle = ahead[(ahead.len() - 1) / 2];
        let least = if self.correction == 0 { NAMED_MILLIS } else { LEAST_MILLIS };
        let correction = if middle.abs() < least { 0 } else { middle };
        let is_news = (correction == 0) != (self.correction == 0)
            || correction.abs_diff(self.correction) >= LEAST_MILLIS.unsigned_abs() / 2;
        if is_news {
            self.correction = correction;
            match correction {
                0 => tracing::info!("this machine's clock agrees with the anchors' again"),
                _ => tracing::warn!(
                    behind_s = correction / 1000,
                    "this machine's clock is not that of the anchors; times are corrected by the difference: set the \
                     clock, by NTP for example"
                ),
            }
        }
    }
}
