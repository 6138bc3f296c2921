//! What goes wrong how often, and when.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use peercache_api::{ErrorKind, Operation};

use super::dice::Dice;
use super::fault::Fault;

/// What happens to the calls of one kind.
#[derive(Clone, Debug, Default)]
struct Odds {
    /// Faults and their probabilities; at most one of them happens to a call.
    faults: Vec<(f64, Fault)>,
    latency: Option<(f64, RangeInclusive<Duration>)>,
    /// What happens to the first calls, whatever the probabilities say.
    script: Vec<Option<Fault>>,
}

/// What a [`Chaos`](super::Chaos) does to its calls: faults with probabilities, scripts, outages.
///
/// For each call, in this order: an outage or read-only phase decides first, then the script of the
/// operation while it lasts, then chance. Latency comes on top of whatever happens, outages
/// excepted.
///
/// ```
/// use std::time::Duration;
/// use peercache_api::{ErrorKind, Operation};
/// use peercache_testkit::chaos::{Fault, Plan};
///
/// let plan = Plan::none()
///     .with(Operation::Get, 0.05, Fault::BitFlip)
///     .with(Operation::Put, 0.1, Fault::FailAfter(ErrorKind::Timeout))
///     .latency(Operation::Get, 0.5, Duration::from_millis(1)..=Duration::from_millis(20))
///     .script(Operation::Put, [None, Some(Fault::Lost)])
///     .down(100..200);
/// # let _ = plan;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Plan {
    get: Odds,
    put: Odds,
    lease: Odds,
    probe: Odds,
    close: Odds,
    down: Vec<Range<u64>>,
    read_only: Vec<Range<u64>>,
    undetected: bool,
}

/// What happens to one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Decision {
    pub(super) delay: Duration,
    pub(super) fault: Option<Fault>,
}

/// What can go wrong.
const EVERY: [Operation; 5] =
    [Operation::Get, Operation::Put, Operation::Lease, Operation::Probe, Operation::Close];

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Plan {
    /// Nothing goes wrong: the wrapper changes nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// A store on a bad day, that never lies: calls fail now and then, half of them are slow (up to
    /// 30 ms), some writes are done although they are reported as failed.
    pub fn flaky() -> Self {
        [Operation::Get, Operation::Put, Operation::Lease, Operation::Probe].into_iter().fold(
            Self::none(),
            |plan, operation| {
                plan.with(operation, 0.1, Fault::Fail(ErrorKind::Unavailable))
                    .with(operation, 0.05, Fault::Fail(ErrorKind::Timeout))
                    .with(operation, 0.05, Fault::Fail(ErrorKind::RateLimited))
                    .with(operation, 0.05, Fault::FailAfter(ErrorKind::Timeout))
                    .latency(operation, 0.5, ms(1)..=ms(30))
            },
        )
    }

    /// Everything that this module can do, mixed: about every second call goes wrong, and any call
    /// may be slow (up to 3 s) or never end.
    pub fn hostile() -> Self {
        let lies = [
            Fault::Truncated,
            Fault::BitFlip,
            Fault::OtherKey,
            Fault::StretchedExpiry,
            Fault::OlderVersion,
            Fault::FromFuture,
        ];
        let bad_writes = [Fault::Lost, Fault::Torn, Fault::Duplicate, Fault::LateRetry];
        let refusals = [
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::RateLimited,
            ErrorKind::Denied,
            ErrorKind::Corrupt,
            ErrorKind::TooLarge,
            ErrorKind::Unsupported,
        ];
        let mut plan = Self::none();
        for operation in EVERY {
            for kind in refusals {
                plan = plan.with(operation, 0.02, Fault::Fail(kind));
            }
            plan = plan
                .with(operation, 0.03, Fault::FailAfter(ErrorKind::Unavailable))
                .with(operation, 0.02, Fault::Hang)
                .with(operation, 0.02, Fault::Stall)
                .latency(operation, 0.3, ms(1)..=ms(3000));
        }
        let plan = lies.into_iter().fold(plan, |plan, lie| plan.with(Operation::Get, 0.05, lie));
        bad_writes.into_iter().fold(plan, |plan, fault| plan.with(Operation::Put, 0.06, fault))
    }

    /// Well, but unreachable for the calls with these numbers; see [`Plan::down`].
    pub fn outage(calls: Range<u64>) -> Self {
        Self::none().down(calls)
    }

    /// Panics in every call, closing included.
    pub fn panicking() -> Self {
        EVERY.into_iter().fold(Self::none(), |plan, operation| plan.with(operation, 1.0, Fault::Panic))
    }

    /// Takes every call and answers none, closing included.
    pub fn tarpit() -> Self {
        EVERY.into_iter().fold(Self::none(), |plan, operation| plan.with(operation, 1.0, Fault::Hang))
    }

    /// Lets `fault` happen to calls of `operation` with this probability, 0 to 1. Of all the faults
    /// of an operation at most one happens to a call.
    ///
    /// # Panics
    /// When the fault does not apply to the operation, or the probabilities of the operation add up
    /// to more than 1.
    pub fn with(mut self, operation: Operation, probability: f64, fault: Fault) -> Self {
        assert!(fault.applies_to(operation), "{operation} cannot go wrong like this: {fault}");
        let odds = self.odds_mut(operation);
        odds.faults.push((probability, fault));
        let sum: f64 = odds.faults.iter().map(|(probability, _)| probability).sum();
        // Sums of decimal fractions are off by a little.
        assert!(
            probability >= 0.0 && sum <= 1.0 + 1e-9,
            "probabilities lie between 0 and 1, those of {operation} together too; with {fault} at {probability} \
             they are {sum}"
        );
        self
    }

    /// Delays calls of `operation` with this probability, by a time within `range`; a range of one
    /// value is a fixed delay. Waits on tokio's clock. A second call replaces the first.
    ///
    /// # Panics
    /// When the probability lies outside 0 to 1, or the range is empty.
    pub fn latency(
        mut self,
        operation: Operation,
        probability: f64,
        range: RangeInclusive<Duration>,
    ) -> Self {
        assert!((0.0..=1.0).contains(&probability), "a probability lies between 0 and 1, not {probability}");
        assert!(!range.is_empty(), "a range of latencies goes from the least to the most: {range:?}");
        self.odds_mut(operation).latency = Some((probability, range));
        self
    }

    /// Says what happens to the first calls of `operation`, one step per call in the order in which
    /// they arrive; `None` lets one pass. Chance takes over afterwards. Appends to an earlier
    /// script.
    ///
    /// # Panics
    /// When a fault does not apply to the operation.
    pub fn script(mut self, operation: Operation, steps: impl IntoIterator<Item = Option<Fault>>) -> Self {
        let script = &mut self.odds_mut(operation).script;
        script.extend(steps);
        for fault in script.iter().flatten() {
            assert!(fault.applies_to(operation), "{operation} cannot go wrong like this: {fault}");
        }
        self
    }

    /// Makes the store unreachable for the calls with these numbers: gets, puts, leases and probes
    /// in the order in which they arrive, from 0. Closing is not among them: it is a matter of this
    /// process.
    pub fn down(mut self, calls: Range<u64>) -> Self {
        self.down.push(calls);
        self
    }

    /// Refuses puts as `Denied` while the number of the call, as in [`Plan::down`], lies in
    /// `calls`.
    pub fn read_only(mut self, calls: Range<u64>) -> Self {
        self.read_only.push(calls);
        self
    }

    /// Lets the lies of reads through to the caller as well-formed entries, as a store could that
    /// writes checksums of its own: only a layer that seals can notice.
    pub fn undetected(mut self) -> Self {
        self.undetected = true;
        self
    }

    pub(super) const fn is_undetected(&self) -> bool {
        self.undetected
    }

    /// Whether a fault may happen that takes earlier puts.
    pub(super) fn needs_past(&self) -> bool {
        [&self.get, &self.put].into_iter().any(|odds| {
            let scripted = odds.script.iter().flatten();
            odds.faults.iter().map(|(_, fault)| fault).chain(scripted).any(|fault| fault.needs_past())
        })
    }

    /// What happens to a call of `operation`, the `nth` of its kind and the `arrival`-th of all.
    pub(super) fn decide(
        &self,
        operation: Operation,
        nth: u64,
        arrival: Option<u64>,
        dice: &mut Dice,
    ) -> Decision {
        // Each is rolled whether it is needed or not, so that a script or an outage changes nothing
        // else.
        let (fault_roll, latency_roll) = (dice.unit(), dice.unit());
        let odds = self.odds(operation);
        let within = |windows: &[Range<u64>]| {
            arrival.is_some_and(|arrival| windows.iter().any(|window| window.contains(&arrival)))
        };
        if within(&self.down) {
            return Decision { delay: Duration::ZERO, fault: Some(Fault::Fail(ErrorKind::Unavailable)) };
        }
        let delay = match &odds.latency {
            Some((probability, range)) if latency_roll < *probability => dice.between(range),
            _ => Duration::ZERO,
        };
        let scripted = usize::try_from(nth).ok().and_then(|nth| odds.script.get(nth));
        let fault = if operation == Operation::Put && within(&self.read_only) {
            Some(Fault::Fail(ErrorKind::Denied))
        } else if let Some(step) = scripted {
            *step
        } else {
            pick(&odds.faults, fault_roll)
        };
        Decision { delay, fault }
    }

    fn odds(&self, operation: Operation) -> &Odds {
        match operation {
            Operation::Get => &self.get,
            Operation::Put => &self.put,
            Operation::Lease => &self.lease,
            Operation::Probe => &self.probe,
            _ => &self.close,
        }
    }

    fn odds_mut(&mut self, operation: Operation) -> &mut Odds {
        match operation {
            Operation::Get => &mut self.get,
            Operation::Put => &mut self.put,
            Operation::Lease => &mut self.lease,
            Operation::Probe => &mut self.probe,
            Operation::Close => &mut self.close,
            other => {
                panic!("a backend has no operation `{other}`: get, put, lease, probe and close can go wrong")
            }
        }
    }
}

fn pick(faults: &[(f64, Fault)], roll: f64) -> Option<Fault> {
    let mut below = 0.0;
    faults.iter().find_map(|(probability, fault)| {
        below += probability;
        (roll < below).then_some(*fault)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(plan: &Plan, operation: Operation, nth: u64, arrival: u64) -> Option<Fault> {
        let mut dice = Dice::new(3, operation, None, nth);
        plan.decide(operation, nth, Some(arrival), &mut dice).fault
    }

    #[test]
    fn faults_happen_about_as_often_as_asked() {
        let plan = Plan::none().with(Operation::Get, 0.2, Fault::Hang).with(
            Operation::Get,
            0.3,
            Fault::Fail(ErrorKind::Timeout),
        );
        let faults: Vec<_> = (0..2000).map(|nth| decide(&plan, Operation::Get, nth, nth)).collect();
        let count = |fault| faults.iter().filter(|found| **found == fault).count();
        assert!((330..470).contains(&count(Some(Fault::Hang))), "{}", count(Some(Fault::Hang)));
        assert!((900..1100).contains(&count(None)), "{}", count(None));
        assert!((0..2000).all(|nth| decide(&plan, Operation::Put, nth, nth).is_none()));
    }

    #[test]
    fn outage_before_read_only_before_script_before_chance() {
        let plan =
            Plan::tarpit().script(Operation::Put, [None, Some(Fault::Lost)]).read_only(1..3).down(2..3);
        let put = |nth, arrival| decide(&plan, Operation::Put, nth, arrival);
        assert_eq!(put(0, 0), None);
        assert_eq!(put(1, 1), Some(Fault::Fail(ErrorKind::Denied)));
        assert_eq!(put(1, 2), Some(Fault::Fail(ErrorKind::Unavailable)));
        assert_eq!(put(1, 3), Some(Fault::Lost));
        assert_eq!(put(2, 4), Some(Fault::Hang));
        assert_eq!(decide(&plan, Operation::Get, 0, 1), Some(Fault::Hang));
        assert_eq!(decide(&plan, Operation::Get, 0, 2), Some(Fault::Fail(ErrorKind::Unavailable)));
    }

    #[test]
    #[should_panic(expected = "put cannot go wrong like this: has a bit flipped")]
    fn a_fault_that_does_not_apply_is_refused() {
        let _ = Plan::none().with(Operation::Put, 0.1, Fault::BitFlip);
    }

    #[test]
    #[should_panic(expected = "those of get together too; with hangs at 0.6 they are 1.2")]
    fn probabilities_above_one_are_refused() {
        let _ = Plan::none().with(Operation::Get, 0.6, Fault::Hang).with(Operation::Get, 0.6, Fault::Hang);
    }

    #[test]
    #[should_panic(expected = "a backend has no operation `decode`")]
    fn operations_that_a_backend_has_not_are_refused() {
        let _ = Plan::none().script(Operation::Decode, []);
    }
}
