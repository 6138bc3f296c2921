//! Counts what the caller saw, to hold the report to it.

use peercache_chain::{Lookup, Outcome, Report, Skip};

use crate::world::index_of;

/// What lookups showed of one tier.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    hits: u64,
    stale: u64,
    misses: u64,
    errors: u64,
    timeouts: u64,
    skipped: u64,
}

/// What the caller saw.
#[derive(Debug)]
pub(crate) struct Tally {
    hits: u64,
    stale: u64,
    misses: u64,
    dropped: u64,
    puts: u64,
    tiers: Vec<Seen>,
}

impl Tally {
    pub(crate) fn new(tiers: usize) -> Self {
        Self { hits: 0, stale: 0, misses: 0, dropped: 0, puts: 0, tiers: vec![Seen::default(); tiers] }
    }

    pub(crate) fn put(&mut self) {
        self.puts += 1;
    }

    pub(crate) fn dropped_lookup(&mut self) {
        self.dropped += 1;
    }

    pub(crate) fn lookup(&mut self, lookup: &Lookup) {
        match lookup.outcome {
            Outcome::Hit => {
                self.hits += 1;
                if let Some(tier) = &lookup.tier {
                    self.tiers[index_of(tier)].hits += 1;
                }
            }
            Outcome::Stale => self.stale += 1,
            Outcome::Miss => self.misses += 1,
        }
        for trace in &lookup.trace {
            let seen = &mut self.tiers[index_of(&trace.tier)];
            let count = match trace.skip {
                Skip::Absent
                | Skip::Expired
                | Skip::Removed
                | Skip::Superseded
                | Skip::Tagged
                | Skip::FromFuture => &mut seen.misses,
                Skip::Stale => &mut seen.stale,
                Skip::Failed(_) => &mut seen.errors,
                Skip::TimedOut(_) => &mut seen.timeouts,
                _ => &mut seen.skipped,
            };
            *count += 1;
        }
    }

    /// Whether the report says what the caller saw; `settled` when nothing runs in the background.
    pub(crate) fn check(&self, report: &Report, settled: bool) -> Result<(), String> {
        let lookups = self.hits + self.stale + self.misses + self.dropped;
        expect("lookups", lookups, report.lookups)?;
        expect("hits", self.hits, report.hits)?;
        expect("stale", self.stale, report.stale)?;
        expect("misses", self.misses, report.misses)?;
        expect("cancelled", self.dropped, report.cancelled)?;
        expect("puts", self.puts, report.puts)?;
        for (seen, tier) in self.tiers.iter().zip(&report.tiers) {
            // The caller does not see what a lookup that it dropped had met before.
            let pairs = [
                ("hits", seen.hits, tier.hits, 0),
                ("stale", seen.stale, tier.stale, self.dropped),
                ("misses", seen.misses, tier.misses, self.dropped),
                ("errors", seen.errors, tier.errors, self.dropped),
                ("timeouts", seen.timeouts, tier.timeouts, self.dropped),
                // A spare is a call that no lookup needed after all: its trace does not show it.
                ("skipped", seen.skipped, tier.skipped - tier.spare, self.dropped),
            ];
            for (what, seen, reported, unseen) in pairs {
                if !(seen..=seen + unseen).contains(&reported) {
                    return Err(format!(
                        "{}: the caller saw {seen} {what}, the report says {reported}",
                        tier.name
                    ));
                }
            }
        }
        if settled { Self::check_sums(report, false) } else { Ok(()) }
    }

    /// Whether a report adds up within itself. In a chain that is `probed`, because it is a tier of
    /// another with a breaker of its own, a read may be under way at any time.
    pub(crate) fn check_sums(report: &Report, probed: bool) -> Result<(), String> {
        let Report { lookups, hits, stale, misses, cancelled, .. } = *report;
        expect("outcomes", lookups, hits + stale + misses + cancelled)?;
        let mut reach = lookups;
        for tier in &report.tiers {
            let ends = tier.hits + tier.stale + tier.misses + tier.errors + tier.timeouts;
            expect("outcomes of a tier", tier.lookups, ends + tier.skipped + tier.cancelled)?;
            if !probed {
                expect("lookups that reached a tier", reach, tier.lookups - tier.spare)?;
                reach -= tier.hits + tier.cancelled;
            }
        }
        let sum = |of: fn(&peercache_chain::TierReport) -> u64| report.tiers.iter().map(of).sum::<u64>();
        expect("hits of all tiers", hits, sum(|tier| tier.hits))?;
        expect("dropped in some tier", cancelled, sum(|tier| tier.cancelled))?;
        Self::check_writes(report)
    }

    /// Whether every write is accounted for: in a local tier by how it ended there, in a shared one
    /// by how it left the queue, and every call to a tier by whoever made it.
    fn check_writes(report: &Report) -> Result<(), String> {
        // What neither a put into a local tier nor a promotion accounts for was an attempt of a
        // queue.
        let promotions = report.promotions.stored + report.promotions.errors;
        let (mut calls, mut others) = (0, promotions);
        let (mut fewest, mut most) = (0, 0);
        for tier in &report.tiers {
            calls += tier.stored + tier.put_errors + tier.put_timeouts + tier.put_cancelled;
            let Some(queue) = &tier.queue else {
                calls += tier.put_skipped;
                others += report.puts;
                continue;
            };
            expect("writes that were queued", report.puts, queue.queued)?;
            let dropped = queue.dropped.total();
            let ended = queue.delivered + queue.coalesced + dropped + queue.journalled;
            expect(
                "writes in a queue",
                queue.queued + queue.promoted + queue.replayed,
                ended + queue.waiting,
            )?;
            // A write that was delivered or refused was tried; one that was dropped otherwise, or
            // replaced by a newer one, perhaps; none is tried for the first time twice.
            fewest += queue.delivered + queue.dropped.refused + queue.retried;
            most += queue.queued + queue.promoted + queue.replayed + queue.retried;
        }
        match calls.checked_sub(others) {
            Some(attempts) if (fewest..=most).contains(&attempts) => Ok(()),
            _ => Err(format!(
                "writes of all tiers: {calls} calls, {others} of them puts into local tiers and promotions, so \
                 the queues should have made {fewest} to {most}"
            )),
        }
    }
}

fn expect(what: &str, expected: u64, reported: u64) -> Result<(), String> {
    match expected == reported {
        true => Ok(()),
        false => Err(format!("{what}: expected {expected}, the report says {reported}")),
    }
}
