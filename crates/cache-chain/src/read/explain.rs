//! What a read of a key would do, tier by tier, and why.

use std::fmt;
use std::time::Duration;

use peercache_api::{Entry, EntryKind, Freshness, Key, Timestamp};
use serde::Serialize;

use super::budget::Budget;
use super::scan::{Scan, Sources};
use crate::outcome::{Outcome, Skip};
use crate::tier::{BreakerReport, Call};

/// What a read of one key would do now. Contains neither the key nor any value.
///
/// `Display` prints one line for each tier and one for the outcome.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// What the read would give.
    pub outcome: Outcome,
    /// The tier that would give it.
    pub tier: Option<String>,
    /// The most that the read would wait for all tiers together, in milliseconds. None: no limit
    /// but the tiers' deadlines.
    pub budget_ms: Option<u64>,
    /// The tiers, in reading order.
    pub tiers: Vec<TierExplanation>,
}

/// One tier's part in an [`Explanation`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TierExplanation {
    /// The backend's name.
    pub name: String,
    /// `local` or `shared`.
    pub scope: &'static str,
    /// `read-write`, `read-only` or `write-only`.
    pub mode: &'static str,
    /// Whether its breaker lets a read pass, and if not, why.
    pub breaker: BreakerReport,
    /// The longest that the read would wait for it, in milliseconds, if the tiers above it take as
    /// long as they usually do. None if it would not be asked.
    pub deadline_ms: Option<u64>,
    /// What it took to answer lately, at the median, in milliseconds. None if too little is known.
    pub usual_ms: Option<f64>,
    /// What it holds under the key. None if it holds nothing, or that is not known.
    pub holds: Option<Held>,
    /// What waits to be written to it under the key, which a read sees before it asks any shared
    /// tier.
    pub waits: Option<Held>,
    /// What the read would do with it: `hit`, or why it would go on, or why it would not get here.
    pub decision: String,
}

/// What a tier holds under a key.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Held {
    /// `value` or `tombstone`.
    pub kind: &'static str,
    /// Milliseconds since it was written, by its version.
    pub version_age_ms: u64,
    /// `fresh`, `stale` or `expired`, with this tier's cap on lifetimes.
    pub freshness: &'static str,
    /// When it ceases to be fresh, in milliseconds since the Unix epoch.
    pub fresh_until_ms: u64,
    /// When it ceases to be stale.
    pub stale_until_ms: u64,
    /// Bytes of its value.
    pub bytes: usize,
    /// How many tags it has.
    pub tags: usize,
}

/// Says tier by tier what a read of `key` within `total` would do and why.
pub(crate) async fn explain(sources: &Sources, key: &Key, total: Duration) -> Explanation {
    let mut scan = Scan::new(sources, key);
    let mut budget = Budget::new(&sources.slots, &*sources.clock, total, Duration::ZERO);
    let mut tiers = Vec::with_capacity(sources.slots.len());
    for index in 0..sources.slots.len() {
        tiers.push(explain_tier(sources, index, key, &mut budget, &mut scan).await);
    }
    let (outcome, answer) = match (scan.found, scan.stale) {
        (Some(found), _) => (Outcome::Hit, Some(found.0)),
        (None, Some(stale)) => (Outcome::Stale, Some(stale.0)),
        (None, None) => (Outcome::Miss, None),
    };
    Explanation {
        outcome,
        tier: answer.map(|index| sources.slots[index].tier.name().to_owned()),
        budget_ms: (total < Duration::MAX).then(|| millis(total)),
        tiers,
    }
}

async fn explain_tier(
    sources: &Sources,
    index: usize,
    key: &Key,
    budget: &mut Budget<'_>,
    scan: &mut Scan<'_>,
) -> TierExplanation {
    let (slot, clock) = (&sources.slots[index], &sources.clock);
    let tier = &slot.tier;
    let usual = tier.latency.percentiles(clock.monotonic()).map(|usual| usual.p50);
    let allowed = tier.reads() && tier.breaker.allow();
    let answered = scan.found.is_some();
    let too_slow = !tier.is_volatile() && budget.is_too_slow(index);
    let waited = match scan.waiting() {
        // To look again at each of those that a read would race changes nothing.
        Some(waiting) if !answered && !tier.is_local() => scan.weigh_waiting(index, waiting).await,
        _ => false,
    };
    let asked = allowed && !answered && !waited && !too_slow;
    let deadline = asked.then(|| budget.allowance(index));
    if asked {
        budget.spend(usual.unwrap_or_default());
    }
    let mut explanation = TierExplanation {
        name: tier.name().to_owned(),
        scope: if tier.is_local() { "local" } else { "shared" },
        mode: tier.mode.as_str(),
        breaker: tier.breaker.report(),
        deadline_ms: deadline.map(millis),
        usual_ms: usual.map(|usual| usual.as_secs_f64() * 1000.0),
        holds: None,
        waits: None,
        decision: String::new(),
    };
    let call = if allowed { Some(tier.peek(key).await) } else { None };
    let now = clock.now();
    if let Some(Call::Done(Some(entry))) = &call {
        explanation.holds = Some(held(entry, now));
    }
    explanation.waits = slot.pending(key).map(|entry| held(&entry, now));
    explanation.decision = match call {
        _ if waited => "hit: it waits to be written to a shared tier".to_owned(),
        _ if !tier.reads() => reason(&Skip::Mode),
        None => reason(&Skip::Open),
        Some(_) if answered => "not reached: a tier above answers".to_owned(),
        Some(_) if too_slow => reason(&Skip::TooSlow),
        Some(call) => {
            let skip = scan.weigh(index, call).await;
            skip.map_or_else(|| "hit".to_owned(), |skip| reason(&skip))
        }
    };
    explanation
}

fn held(entry: &Entry, now: Timestamp) -> Held {
    let meta = entry.metadata();
    Held {
        kind: match meta.kind {
            EntryKind::Value => "value",
            EntryKind::Tombstone => "tombstone",
        },
        version_age_ms: millis(now.saturating_since(meta.version.wall)),
        freshness: match entry.freshness(now) {
            Freshness::Fresh => "fresh",
            Freshness::Stale => "stale",
            Freshness::Expired => "expired",
        },
        fresh_until_ms: meta.created.saturating_add(meta.fresh_for).as_millis(),
        stale_until_ms: entry.expires().as_millis(),
        bytes: entry.value().len(),
        tags: meta.tags.len(),
    }
}

/// Why a read goes on, in words.
fn reason(skip: &Skip) -> String {
    match skip {
        Skip::Absent => "absent".to_owned(),
        Skip::Expired => "expired".to_owned(),
        Skip::Stale => "stale: served only if no tier below has something fresh".to_owned(),
        Skip::Removed => "removed: hides what is older below".to_owned(),
        Skip::Tagged => "removed with one of its tags".to_owned(),
        Skip::Superseded => {
            "superseded by what a tier above holds, by a write that this one missed, or by a removal"
                .to_owned()
        }
        Skip::FromFuture => "passed over: it claims to come from the future".to_owned(),
        Skip::Failed(error) => format!("failed: {error}"),
        Skip::TimedOut(deadline) => format!("no answer within {} ms", deadline.as_millis()),
        Skip::Mode => "not asked: its mode does not allow reading".to_owned(),
        Skip::Open => "not asked: its breaker is open".to_owned(),
        Skip::TooSlow => "not asked: it usually takes longer than the read has left".to_owned(),
        Skip::Overtaken => "overtaken by a tier raced against it".to_owned(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, tier) in (1_usize..).zip(&self.tiers) {
            writeln!(f, "{place}. {tier}")?;
        }
        match (self.outcome, self.tier.as_deref().unwrap_or_default()) {
            (Outcome::Hit, tier) => write!(f, "=> hit in {tier}"),
            (Outcome::Stale, tier) => write!(f, "=> stale, from {tier}"),
            (Outcome::Miss, _) => f.write_str("=> miss"),
        }
    }
}

impl fmt::Display for TierExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {}, breaker {}", self.name, self.scope, self.mode, self.breaker.state)?;
        if let Some(deadline) = self.deadline_ms {
            write!(f, ", waits at most {deadline} ms")?;
        }
        if let Some(usual) = self.usual_ms {
            write!(f, ", usually {usual:.1} ms")?;
        }
        write!(f, "): {}", self.decision)?;
        if let Some(held) = &self.holds {
            write!(f, "; holds {held}")?;
        }
        if let Some(waits) = &self.waits {
            write!(f, "; {waits} waits to be written to it")?;
        }
        Ok(())
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { freshness, kind, bytes, tags, version_age_ms, fresh_until_ms, stale_until_ms } = self;
        write!(
            f,
            "a {freshness} {kind} of {bytes} bytes, {tags} tags, written {version_age_ms} ms ago, fresh \
             until {fresh_until_ms}, stale until {stale_until_ms}"
        )
    }
}
