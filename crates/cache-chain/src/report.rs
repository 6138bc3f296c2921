//! The report: one serialisable picture that the command line, metrics and status pages all read.

use peercache_api::util::Count;
use serde::Serialize;

use crate::invalidation::{RemovalReport, TagReport};
use crate::lease::LeaseReport;
use crate::read::PromotionReport;
use crate::tier::{BreakerReport, LatencyReport};
use crate::write::journal::JournalReport;
use crate::write::queue::QueueReport;
use crate::write::slot::Slot;

/// A chain's counters since it was built.
///
/// `lookups` is `hits + stale + misses + cancelled`, and for each tier
/// `hits + stale + misses + errors + timeouts + skipped + cancelled`. A lookup that an upper tier
/// answers does not reach the tiers below it, except as [`spare`](TierReport::spare).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Reads of the chain.
    pub lookups: u64,
    /// Reads answered by a fresh value.
    pub hits: u64,
    /// Reads answered by a stale value.
    pub stale: u64,
    /// Reads that found nothing.
    pub misses: u64,
    /// Reads whose caller went away before the answer.
    pub cancelled: u64,
    /// Writes, tombstones included.
    pub puts: u64,
    /// Writes that at least one tier took.
    pub puts_stored: u64,
    /// Copies promoted to faster tiers.
    pub promotions: PromotionReport,
    /// Tags invalidated and looked up.
    pub tags: TagReport,
    /// What is kept on disk for shared tiers; none without a journal.
    pub journal: Option<JournalReport>,
    /// Removals received from other machines.
    pub removals: RemovalReport,
    /// Loads coordinated with other machines.
    pub leases: LeaseReport,
    /// The tiers, in reading order.
    pub tiers: Vec<TierReport>,
}

/// One tier's counters.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TierReport {
    /// The backend's name.
    pub name: String,
    /// `local` or `shared`.
    pub scope: &'static str,
    /// `read-write`, `read-only` or `write-only`.
    pub mode: &'static str,
    /// Reads that reached this tier.
    pub lookups: u64,
    /// Fresh values found and used.
    pub hits: u64,
    /// Stale values found.
    pub stale: u64,
    /// Reads that found nothing usable: absent, expired, removed, superseded or from the future.
    pub misses: u64,
    /// Reads that failed.
    pub errors: u64,
    /// Reads that took longer than the deadline.
    pub timeouts: u64,
    /// Reads that went on without this tier's answer, or did not need it after all: its mode keeps
    /// them away, or one of the next four.
    pub skipped: u64,
    /// Of the skipped: its breaker was open.
    pub open: u64,
    /// Of the skipped: it usually takes longer than the read had left.
    pub too_slow: u64,
    /// Of the skipped: it was slower than usual, and a tier raced against it answered first.
    pub overtaken: u64,
    /// Of the skipped: asked of it ahead of its turn, in a race that a tier before it then won.
    /// Only these reach a tier although a tier before it answered.
    pub spare: u64,
    /// Reads whose caller went away before the answer.
    pub cancelled: u64,
    /// Of the errors: entries that were damaged or belonged to another key.
    pub corrupt: u64,
    /// Of the misses: entries that claimed to come from the future.
    pub from_future: u64,
    /// Of the misses: entries older than a removal or a value seen further up.
    pub superseded: u64,
    /// Of the misses: entries removed by one of their tags.
    pub tagged: u64,
    /// Bytes of values read by hits.
    pub bytes_read: u64,
    /// Time that reads took, whatever their end.
    pub get_latency: LatencyReport,
    /// Writes that it took, promotions included.
    pub stored: u64,
    /// Writes that failed.
    pub put_errors: u64,
    /// Writes that took longer than the deadline.
    pub put_timeouts: u64,
    /// Writes that it does not take: too large, or not allowed by the mode.
    pub put_skipped: u64,
    /// Writes whose caller went away before the answer.
    pub put_cancelled: u64,
    /// Bytes of values written.
    pub bytes_written: u64,
    /// Time that writes took, whatever their end.
    pub put_latency: LatencyReport,
    /// What waits to be written to it; none for a local tier, or one that is not written.
    pub queue: Option<QueueReport>,
    /// Whether the tier is used, and if not, why.
    pub breaker: BreakerReport,
    /// The latest failure, in one line.
    pub last_error: Option<String>,
}

/// What a tier has counted so far.
pub(crate) fn tier_report(slot: &Slot) -> TierReport {
    let tier = &slot.tier;
    let stats = &tier.stats;
    let passed =
        [&stats.not_allowed, &stats.open, &stats.too_slow, &stats.overtaken, &stats.spare].map(Count::get);
    let [_, open, too_slow, overtaken, spare] = passed;
    let skipped = passed.iter().sum();
    let answered =
        [&stats.hits, &stats.stale, &stats.misses, &stats.errors, &stats.timeouts, &stats.cancelled];
    let answered = answered.map(Count::get);
    let [hits, stale, misses, errors, timeouts, cancelled] = answered;
    TierReport {
        name: tier.name().to_owned(),
        scope: if tier.is_local() { "local" } else { "shared" },
        mode: tier.mode.as_str(),
        lookups: answered.iter().sum::<u64>() + skipped,
        hits,
        stale,
        misses,
        errors,
        timeouts,
        skipped,
        open,
        too_slow,
        overtaken,
        spare,
        cancelled,
        corrupt: stats.corrupt.get(),
        from_future: stats.from_future.get(),
        superseded: stats.superseded.get(),
        tagged: stats.tagged.get(),
        bytes_read: stats.bytes_read.get(),
        get_latency: stats.get_latency.report(),
        stored: stats.stored.get(),
        put_errors: stats.put_errors.get(),
        put_timeouts: stats.put_timeouts.get(),
        put_skipped: stats.put_skipped.get(),
        put_cancelled: stats.put_cancelled.get(),
        bytes_written: stats.bytes_written.get(),
        put_latency: stats.put_latency.report(),
        queue: slot.queue.as_ref().map(|queue| queue.report()),
        breaker: tier.breaker.report(),
        last_error: stats.last_error().map(|error| error.to_string()),
    }
}
