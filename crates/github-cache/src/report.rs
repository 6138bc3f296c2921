//! The one report, from which every number of the server comes.

use std::collections::BTreeMap;

use peercache::CacheReport;
use serde::Serialize;
use serde_json::Value;

use crate::history::Sample;
use crate::ledger::{Booked, LedgerReport};
use crate::stats::ProxyStats;
use crate::validator::RuleCheck;

/// What `/-/stats` answers.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StatsReport {
    /// Since when it counts: `2026-11-30T12:00:00Z`.
    pub since: String,
    /// What the proxy saved.
    pub saved: SavedReport,
    /// What does not work as intended, a line for each tier that is not asked.
    pub degraded: Vec<String>,
    /// The proxy's own counters.
    pub proxy: ProxyStats,
    /// Who spent what.
    pub ledger: LedgerReport,
    /// How well derived entity tags fit, by the prefix of the token: `ghs`, `ghp`, ...,
    /// `anonymous`, `other`.
    pub entity_tags: BTreeMap<&'static str, RuleCheck>,
    /// Those of the cache below it.
    pub cache: CacheReport,
    /// What was saved minute by minute: the latest three hours in which something was asked.
    pub history: Vec<Sample>,
}

/// How many requests a rate limit was spared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SavedReport {
    /// Calls of clients to the API.
    pub asked: u64,
    /// Of these, answered without a request upstream.
    pub not_sent: u64,
    /// Requests upstream that count against a rate limit.
    pub charged: u64,
    /// `asked` less `charged` and those that were answered with a failure; 0 where that is less.
    pub saved: u64,
}

impl SavedReport {
    pub(crate) fn of(stats: &ProxyStats, booked: &Booked) -> Self {
        let not_sent = stats.fresh + stats.shared + stats.coalesced;
        let saved = u64::try_from(booked.saved).unwrap_or_default();
        Self { asked: booked.asked, not_sent, charged: booked.charged, saved }
    }

    /// The share of `asked` that was saved, in whole percent.
    pub(crate) fn percent(&self) -> u64 {
        (self.saved * 100).checked_div(self.asked).unwrap_or_default()
    }
}

/// What does not work as it should, and why: a line for each tier that is not asked, for a disk
/// tier that was left out, for each address of a peer that nobody answers at while no peer is
/// connected, for IPFS nodes that do not share, for what an anchor could not store, and for clocks
/// that differ.
pub(crate) fn degraded(cache: &CacheReport) -> Vec<String> {
    let tiers = cache.chain.tiers.iter().filter(|tier| tier.breaker.state != "closed").map(|tier| {
        let cause = tier.breaker.last_cause.as_deref().unwrap_or("no cause is known");
        format!("{} is not asked (breaker {}): {cause}", tier.name, tier.breaker.state)
    });
    tiers.chain(degraded_backends(&cache.backends)).collect()
}

fn degraded_backends(backends: &BTreeMap<String, Value>) -> impl Iterator<Item = String> {
    let peers = backends.get("peers").filter(|peers| peers["connected"] == 0);
    let targets = peers.and_then(|peers| peers["bootstrap"].as_array()).into_iter().flatten().map(|target| {
        let address = target["address"].as_str().unwrap_or("?");
        format!("no peer at {address}: {}", target["trouble"].as_str().unwrap_or("being dialled"))
    });
    let disk = backends.get("disk").and_then(|disk| disk["left_out"].as_str());
    let disk = disk.map(|reason| format!("the disk tier is left out: {reason}"));
    let all = backends.get("peers");
    let not_kept = all.and_then(|peers| peers["kept"]["not_kept"].as_u64()).filter(|count| *count > 0);
    let not_kept = not_kept.map(|count| format!("{count} entries of this anchor are in its memory alone"));
    let unshared = backends.get("ipfs").and_then(|ipfs| ipfs["sync_error"].as_str());
    let unshared = unshared.map(|reason| format!("IPFS nodes do not share: {reason}"));
    targets.chain(disk).chain(unshared).chain(not_kept).chain(all.into_iter().flat_map(clocks))
}

/// From so many milliseconds on, a difference of clocks is named.
const NAMED_MILLIS: u64 = 5_000;

/// The clocks that differ from the fleet's, of this machine and of members.
fn clocks(peers: &Value) -> Vec<String> {
    let side = |millis: i64, ahead, behind| {
        format!("{} s {}", millis.unsigned_abs() / 1000, if millis > 0 { ahead } else { behind })
    };
    if let Some(correction) = peers["clock_correction_ms"].as_i64().filter(|millis| *millis != 0) {
        let apart = side(correction, "behind", "ahead of");
        return vec![format!("this machine's clock is {apart} the anchors', and corrected: set it")];
    }
    let members = peers["members"].as_array().into_iter().flatten();
    let apart = members.filter_map(|member| {
        let ahead = member["clock_ahead_ms"].as_i64()?;
        (ahead.unsigned_abs() >= NAMED_MILLIS).then(|| {
            let apart = side(ahead, "ahead", "behind");
            format!("the clock of peer {} is {apart}: set it", member["name"].as_str().unwrap_or("?"))
        })
    });
    apart.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_is_what_the_ledger_says_and_never_below_zero() {
        let stats = ProxyStats { fresh: 50, shared: 10, coalesced: 5, ..ProxyStats::default() };
        let booked = Booked { asked: 100, sent: 35, charged: 20, saved: 80, ..Booked::default() };
        let saved = SavedReport::of(&stats, &booked);
        assert_eq!(saved, SavedReport { asked: 100, not_sent: 65, charged: 20, saved: 80 });
        assert_eq!(saved.percent(), 80);
        assert_eq!(SavedReport::default().percent(), 0);
        let spent = SavedReport::of(&stats, &Booked { saved: -3, ..booked });
        assert_eq!(spent.saved, 0);
    }

    #[test]
    fn clocks_that_differ_are_degraded() {
        let degraded = |peers: Value| {
            let backends = BTreeMap::from([("peers".to_owned(), peers)]);
            degraded_backends(&backends).collect::<Vec<_>>()
        };
        let behind = serde_json::json!({ "connected": 1, "clock_correction_ms": 600_400, "members": [] });
        assert_eq!(
            degraded(behind),
            ["this machine's clock is 600 s behind the anchors', and corrected: set it"]
        );
        let ahead = serde_json::json!({ "connected": 1, "clock_correction_ms": -600_400, "members": [] });
        assert_eq!(
            degraded(ahead),
            ["this machine's clock is 600 s ahead of the anchors', and corrected: set it"]
        );
        let other = serde_json::json!({ "connected": 3, "clock_correction_ms": 0, "members": [
            { "name": "one", "clock_ahead_ms": -600_000 }, { "name": "two", "clock_ahead_ms": 4_999 },
            { "name": "three", "clock_ahead_ms": null },
        ] });
        assert_eq!(degraded(other), ["the clock of peer one is 600 s behind: set it"]);
    }

    #[test]
    fn peers_that_are_alone_and_a_disk_that_was_left_out_are_degraded() {
        let backends = serde_json::json!({
            "disk": { "left_out": "the disk is full" },
            "ipfs": { "sync_error": "the node runs without pubsub" },
            "peers": { "connected": 0, "bootstrap": [
                { "address": "/dns4/a/tcp/1", "trouble": "no such host" },
                { "address": "/dns4/b/tcp/1", "trouble": null },
            ] },
        });
        let backends = serde_json::from_value(backends).unwrap();
        let expected = [
            "no peer at /dns4/a/tcp/1: no such host",
            "no peer at /dns4/b/tcp/1: being dialled",
            "the disk tier is left out: the disk is full",
            "IPFS nodes do not share: the node runs without pubsub",
        ];
        assert_eq!(degraded_backends(&backends).collect::<Vec<_>>(), expected);
        assert_eq!(degraded_backends(&BTreeMap::new()).count(), 0);
    }
}
