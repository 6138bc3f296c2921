//! What was done to which call, to look at and to compare.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use peercache_api::Operation;

use super::fault::Fault;

/// The most calls that a trace holds; the oldest are forgotten first, and counted.
pub const MAX_TRACE_EVENTS: usize = 4096;

/// One call and what was decided about it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// What was called.
    pub operation: Operation,
    /// The fingerprint of the key ([`peercache_api::Key::fingerprint`]), for a get or a put.
    pub key: Option<String>,
    /// How often this had been done to this key before.
    pub number: u64,
    /// By how much it was delayed.
    pub delay: Duration,
    /// What went wrong, if anything.
    pub fault: Option<Fault>,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_deref().unwrap_or("-");
        write!(f, "{} {key} #{}", self.operation, self.number)?;
        if !self.delay.is_zero() {
            write!(f, ", delayed by {:?}", self.delay)?;
        }
        match self.fault {
            Some(fault) => write!(f, ": {fault}"),
            None => Ok(()),
        }
    }
}

/// The latest calls, up to [`MAX_TRACE_EVENTS`], in the order in which they arrived.
///
/// Two runs with the same seed and the same calls have equal traces. Where calls for different keys
/// arrive in an order of their own, compare [`Trace::by_key`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    events: VecDeque<Event>,
    forgotten: u64,
}

impl Trace {
    pub(super) fn push(&mut self, event: Event) {
        if self.events.len() == MAX_TRACE_EVENTS {
            self.events.pop_front();
            self.forgotten += 1;
        }
        self.events.push_back(event);
    }

    /// The calls, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }

    /// How many calls came before the oldest one here.
    #[must_use]
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// How many calls went wrong in a way that `which` accepts.
    pub fn count(&self, which: impl Fn(Fault) -> bool) -> usize {
        self.events.iter().filter_map(|event| event.fault).filter(|fault| which(*fault)).count()
    }

    /// The same calls ordered by key, operation and number: independent of how the calls for
    /// different keys were interleaved.
    #[must_use]
    pub fn by_key(mut self) -> Self {
        self.events.make_contiguous().sort_by(|left, right| {
            let place = |event: &Event| (event.operation.as_str(), event.number);
            left.key.cmp(&right.key).then_with(|| place(left).cmp(&place(right)))
        });
        self
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.forgotten > 0 {
            writeln!(f, "({} calls before these)", self.forgotten)?;
        }
        self.events.iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(key: &str, number: u64) -> Event {
        let (key, fault) = (Some(key.to_owned()), (number == 1).then_some(Fault::Hang));
        Event { operation: Operation::Get, key, number, delay: Duration::ZERO, fault }
    }

    #[test]
    fn the_oldest_are_forgotten_and_counted() {
        let mut trace = Trace::default();
        (0..MAX_TRACE_EVENTS as u64 + 3).for_each(|number| trace.push(event("k", number)));
        assert_eq!(trace.events().count(), MAX_TRACE_EVENTS);
        assert_eq!((trace.forgotten(), trace.events().next().unwrap().number), (3, 3));
    }

    #[test]
    fn by_key_is_the_same_for_every_interleaving() {
        let calls = |order: &[(&str, u64)]| {
            let mut trace = Trace::default();
            order.iter().for_each(|(key, number)| trace.push(event(key, *number)));
            trace
        };
        let (left, right) = (calls(&[("a", 0), ("b", 0), ("a", 1)]), calls(&[("b", 0), ("a", 0), ("a", 1)]));
        assert_ne!(left, right);
        assert_eq!(left.clone().by_key(), right.by_key());
        assert_eq!(left.to_string(), "get a #0\nget b #0\nget a #1: hangs\n");
        assert_eq!(left.count(|fault| fault == Fault::Hang), 1);
    }
}
