//! The fallback chain: several backends that answer as one, and keep answering when any is gone.
//!
//! - [`Chain`]: reads go down the tiers, a hit is carried up with the same bytes, and no failure of
//!   a tier reaches the caller. A chain is itself a [`peercache_api::CacheBackend`], so chains nest.
//! - [`Lookup`]: what was found, in which tier, how old, and why each tier before it gave nothing.
//! - [`SingleFlight`]: concurrent loads of one key run once, and a cancelled caller loses nobody.
//! - [`Report`]: counts that add up, taken where the decision is made.
//!
//! The chain knows no particular backend.

mod behind;
mod breaker;
mod breaker_probe;
mod budget;
mod chain;
mod explain;
mod flight;
mod journal;
mod lookup;
mod missed;
mod policy;
mod promote;
mod race;
mod read;
mod recent;
mod report;
mod stats;
mod tags;
mod tier;
mod write;

pub use behind::{BehindReport, DroppedReport};
pub use breaker::{BreakerOptions, BreakerReport};
pub use chain::{Chain, ChainBuilder};
pub use explain::{Explanation, Held, TierExplanation};
pub use flight::{Flight, SingleFlight};
pub use journal::{Journal, JournalSeal, MAX_JOURNAL_SEAL_BYTES};
pub use lookup::{Lookup, Outcome, PutOutcome, PutResult, Skip, TierPut, TierTrace};
pub use policy::{WriteBehind, WritePolicy};
pub use report::{JournalReport, LatencyReport, PromotionReport, Report, TierReport};
pub use tags::TagReport;
pub use tier::{Mode, TierOptions};

#[cfg(fuzzing)]
#[doc(hidden)]
pub use journal::fuzzing;
