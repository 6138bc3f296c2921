//! The chain against scripted tiers. Time stands still unless a test moves it, so nothing sleeps.
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

#[path = "chain/behind.rs"]
mod behind;
#[path = "chain/behind_reads.rs"]
mod behind_reads;
#[path = "chain/breaker.rs"]
mod breaker;
#[path = "chain/budget.rs"]
mod budget;
#[path = "chain/closing.rs"]
mod closing;
#[path = "chain/conformance.rs"]
mod conformance;
#[path = "chain/explain.rs"]
mod explain;
#[path = "chain/faults.rs"]
mod faults;
#[path = "chain/flights.rs"]
mod flights;
#[path = "chain/journal.rs"]
mod journal;
#[path = "chain/model.rs"]
mod model;
#[path = "chain/nesting.rs"]
mod nesting;
#[path = "chain/policy.rs"]
mod policy;
#[path = "chain/promotion.rs"]
mod promotion;
#[path = "chain/race.rs"]
mod race;
#[path = "chain/reads.rs"]
mod reads;
#[path = "chain/support.rs"]
mod support;
#[path = "chain/tags.rs"]
mod tags;
#[path = "chain/writes.rs"]
mod writes;
