//! What the seeds have met together: a world in which nothing is ever raced, dropped or refused
//! would show nothing about that.

use std::collections::BTreeMap;

use peercache_chain::{Report, TierReport};

use crate::scenario::World;

/// How often each thing that can happen happened.
#[derive(Debug, Default)]
pub(crate) struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// Adds what the chain of one run reports.
    pub(crate) fn add(&mut self, report: &Report, world: World) {
        let chain = [
            ("hits", report.hits),
            ("stale answers", report.stale),
            ("misses", report.misses),
            ("lookups that were dropped", report.cancelled),
            ("promotions", report.promotions.stored),
            ("promotions that failed", report.promotions.errors),
        ];
        chain.into_iter().for_each(|(what, times)| self.count(what, times));
        for tier in &report.tiers {
            self.add_tier(tier);
            match &tier.queue {
                Some(queue) => {
                    let counts = [
                        ("writes delivered", queue.delivered),
                        ("writes replaced while they waited", queue.coalesced),
                        ("writes tried again", queue.retried),
                        ("writes dropped: no room", queue.dropped.queue_full),
                        ("writes dropped: too old", queue.dropped.too_old),
                        ("writes dropped: refused", queue.dropped.refused),
                        ("writes dropped: closed", queue.dropped.shutdown),
                    ];
                    counts.into_iter().for_each(|(what, times)| self.count(what, times));
                }
                // Only writers that wait can be dropped while they do.
                None => self.count("puts that were dropped", tier.put_cancelled),
            }
            if world != World::Local {
                let more = [
                    ("overtaken", tier.overtaken),
                    ("asked in vain", tier.spare),
                    ("removed with their tags", tier.tagged),
                ];
                more.into_iter().for_each(|(what, times)| self.count(what, times));
            }
        }
    }

    fn add_tier(&mut self, tier: &TierReport) {
        let tier = [
            ("errors", tier.errors),
            ("timeouts", tier.timeouts),
            ("not asked: its breaker was open", tier.open),
            ("damaged entries", tier.corrupt),
            ("entries from the future", tier.from_future),
            ("superseded entries", tier.superseded),
            ("puts that failed", tier.put_errors),
            ("puts that timed out", tier.put_timeouts),
            ("puts that were skipped", tier.put_skipped),
            ("breakers that opened", tier.breaker.openings),
        ];
        tier.into_iter().for_each(|(what, times)| self.count(what, times));
    }

    fn count(&mut self, what: &'static str, times: u64) {
        *self.0.entry(what).or_default() += times;
    }

    /// What never happened.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        self.0.iter().filter(|(_, times)| **times == 0).map(|(what, _)| *what).collect()
    }
}
