//! How fast a peer answers, and whether it answers at all.

use std::time::Duration;

/// Before anything is known: the time after which a second peer is asked.
const UNKNOWN: Duration = Duration::from_millis(25);
/// A second peer is asked no sooner.
const SOONEST: Duration = Duration::from_millis(1);
/// So many timeouts in a row make a peer unwell.
const MOST_TIMEOUTS: u32 = 3;
/// How long an unwell peer is left alone: at first so long, then twice as long each time, at most a
/// minute.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);

/// The pace of one peer. Mean and deviation are kept as RFC 6298 does it for TCP.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    mean: Option<Duration>,
    deviation: Duration,
    timeouts: u32,
    left_alone: Duration,
    until: Option<Duration>,
}

impl Pace {
    pub(super) fn answered(&mut self, took: Duration) {
        match self.mean {
            None => (self.mean, self.deviation) = (Some(took), took / 2),
            Some(mean) => {
                self.deviation = (self.deviation * 3 + mean.abs_diff(took)) / 4;
                self.mean = Some((mean * 7 + took) / 8);
            }
        }
        self.well();
    }

    /// It gave a sign of life.
    pub(super) fn well(&mut self) {
        (self.timeouts, self.until, self.left_alone) = (0, None, Duration::ZERO);
    }

    /// It did not answer in time.
    pub(super) fn missed(&mut self, now: Duration) {
        self.timeouts += 1;
        if self.timeouts >= MOST_TIMEOUTS {
            self.left_alone = (self.left_alone * 2).clamp(SHORTEST, LONGEST);
            self.until = Some(now + self.left_alone);
        }
    }

    /// It has too much to do.
    pub(super) fn busy(&mut self, until: Duration) {
        self.until = Some(self.until.map_or(until, |known| known.max(until)));
    }

    pub(super) fn is_well(&self, now: Duration) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// After how long a second peer is asked: twice what nearly all answers take.
    pub(super) fn hedge_after(&self) -> Duration {
        self.mean.map_or(UNKNOWN, |mean| (2 * (mean + 2 * self.deviation)).max(SOONEST))
    }

    pub(super) const fn mean(&self) -> Option<Duration> {
        self.mean
    }
}
