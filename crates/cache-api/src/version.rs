//! Which of two writes wins: a hybrid logical clock with a node id.
//!
//! Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots in Globally Distributed
//! Databases" (2014): the wall clock where it moves, a counter where it does not, so versions made
//! by one node are strictly increasing and versions made after seeing another's are above it.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Operation};
use crate::time::{MAX_CLOCK_SKEW, Timestamp};
use crate::util::Count;

/// Who wrote a version: breaks ties between nodes whose clocks show the same millisecond.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

impl NodeId {
    /// The node id with this number.
    #[must_use]
    pub const fn from_u64(id: u64) -> Self {
        Self(id)
    }

    /// The number of this node id.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// A fresh random id; 64 bits make a clash among a fleet's short-lived runners negligible.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the operating system gives no randomness.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|error| {
            Error::new(ErrorKind::Unavailable, Operation::Open, "the operating system gave no random bytes")
                .with_source(error)
        })?;
        Ok(Self(u64::from_be_bytes(bytes)))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The version of a write. Of two writes to one key, the greater version wins on every backend.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Milliseconds since the Unix epoch: of the writer's clock, or of the greatest version that
    /// the writer had observed.
    pub wall: Timestamp,
    /// Distinguishes writes within one millisecond.
    pub counter: u32,
    /// The writer.
    pub node: NodeId,
}

impl Version {
    /// Below every version that a [`VersionClock`] makes.
    pub const ZERO: Self = Self { wall: Timestamp::EPOCH, counter: 0, node: NodeId(0) };

    /// The greatest version below this one; none is below [`Version::ZERO`].
    #[must_use]
    pub const fn just_below(self) -> Self {
        let Self { wall, counter, node } = self;
        if node.as_u64() > 0 {
            return Self { node: NodeId::from_u64(node.as_u64() - 1), ..self };
        }
        let node = NodeId::from_u64(u64::MAX);
        if counter > 0 {
            return Self { wall, counter: counter - 1, node };
        }
        match wall.as_millis() {
            0 => Self::ZERO,
            millis => Self { wall: Timestamp::from_millis(millis - 1), counter: u32::MAX, node },
        }
    }

    /// Whether this version claims a time that is more than [`MAX_CLOCK_SKEW`] ahead of `now`.
    #[must_use]
    pub fn is_from_future(self, now: Timestamp) -> bool {
        self.wall > now.saturating_add(MAX_CLOCK_SKEW)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}+{}@{:?}", self.wall, self.counter, self.node)
    }
}

/// Makes versions. One per process; cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct VersionClock {
    node: NodeId,
    last: Mutex<(Timestamp, u32)>,
    corrections: Count,
}

impl VersionClock {
    /// A clock that writes as `node`.
    #[must_use]
    pub const fn new(node: NodeId) -> Self {
        Self { node, last: Mutex::new((Timestamp::EPOCH, 0)), corrections: Count::new() }
    }

    /// The node that this clock writes as.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// A version greater than every one that this clock made or observed before.
    ///
    /// This holds when the wall clock is set back by [`MAX_CLOCK_SKEW`] or less: the counter then
    /// keeps the order. When it is set back further, the versions made before are from the future
    /// and are not used, and versions continue from `now`; see [`VersionClock::corrections`].
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Version {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 > now.saturating_add(MAX_CLOCK_SKEW) {
            self.corrections.add(1);
            *last = (now, 0);
        } else if now > last.0 {
            *last = (now, 0);
        } else if last.1 == u32::MAX {
            *last = (Timestamp::from_millis(last.0.as_millis() + 1), 0);
        } else {
            last.1 += 1;
        }
        Version { wall: last.0, counter: last.1, node: self.node }
    }

    /// How often the wall clock was found set back so far that versions went on from an earlier
    /// time. What this process wrote in between is not used by anybody, itself included.
    #[must_use]
    pub fn corrections(&self) -> u64 {
        self.corrections.get()
    }

    /// Takes note of a version seen elsewhere, so that the next one made here is above it.
    ///
    /// Returns `false`, and ignores it, when it lies more than [`MAX_CLOCK_SKEW`] in the future:
    /// otherwise one wrong clock would drag every node along.
    pub fn observe(&self, seen: Version, now: Timestamp) -> bool {
        if seen.is_from_future(now) {
            return false;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (*last).max((seen.wall, seen.counter));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    proptest! {
        #[test]
        fn versions_strictly_increase_whatever_the_wall_clock_does(walls in prop::collection::vec(0_u64..50, 1..100)) {
            let clock = VersionClock::new(NodeId::from_u64(1));
            let made: Vec<_> = walls.iter().map(|wall| clock.next(Timestamp::from_millis(*wall))).collect();
            prop_assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn clock_set_back_beyond_the_skew_makes_versions_of_now() {
        let clock = VersionClock::new(NodeId::from_u64(1));
        let ahead = NOW.saturating_add(Duration::from_secs(3600));
        let before = clock.next(ahead);
        let after = clock.next(NOW);
        assert!(before.is_from_future(NOW) && !after.is_from_future(NOW));
        assert_eq!((after.wall, clock.corrections()), (NOW, 1));
        assert!(clock.next(NOW) > after, "and they increase again");
        let near = clock.next(NOW.saturating_sub(MAX_CLOCK_SKEW));
        assert!(near > after, "a smaller step keeps the order");
        assert_eq!(clock.corrections(), 1);
    }

    #[test]
    fn just_below_is_the_next_smaller_version() {
        let version = |wall, counter, node| Version {
            wall: Timestamp::from_millis(wall),
            counter,
            node: NodeId::from_u64(node),
        };
        let max = u64::MAX;
        for (of, below) in [
            (version(5, 3, 7), version(5, 3, 6)),
            (version(5, 3, 0), version(5, 2, max)),
            (version(5, 0, 0), version(4, u32::MAX, max)),
            (Version::ZERO, Version::ZERO),
        ] {
            assert_eq!(of.just_below(), below);
        }
    }

    #[test]
    fn a_version_made_after_observing_another_is_above_it() {
        let clock = VersionClock::new(NodeId::from_u64(1));
        let seen = Version {
            wall: NOW.saturating_add(Duration::from_secs(60)),
            counter: 9,
            node: NodeId::from_u64(u64::MAX),
        };
        assert!(clock.observe(seen, NOW));
        assert!(clock.next(NOW) > seen);
    }

    #[test]
    fn a_version_from_the_far_future_is_not_believed() {
        let clock = VersionClock::new(NodeId::from_u64(1));
        let seen =
            Version { wall: NOW.saturating_add(MAX_CLOCK_SKEW + Duration::from_millis(1)), ..Version::ZERO };
        assert!(!clock.observe(seen, NOW));
        assert_eq!(clock.next(NOW).wall, NOW);
    }

    #[test]
    fn the_counter_overflows_into_the_next_millisecond() {
        let clock = VersionClock::new(NodeId::from_u64(1));
        let full = Version { wall: NOW, counter: u32::MAX, node: NodeId::from_u64(2) };
        assert!(clock.observe(full, NOW));
        assert!(clock.next(NOW) > full);
    }
}
