//! The fallback chain: several backends that answer as one, and keep answering when any is gone.
//!
//! - [`Chain`]: reads go down the tiers, a hit is promoted with the same bytes, and no failure of
//!   a tier reaches the caller. A chain is itself a [`peercache_api::CacheBackend`], so chains
//!   nest.
//! - [`Lookup`]: what was found, in which tier, how old, and why each tier before it gave nothing.
//! - [`SingleFlight`]: concurrent loads of one key run once, and a cancelled caller takes nobody
//!   along.
//! - [`Report`]: counts that add up, taken where the decision is made.
//!
//! The chain knows no particular backend.

mod builder;
mod chain;
mod invalidation;
mod lease;
mod outcome;
mod read;
mod report;
mod single_flight;
mod tier;
mod write;

pub use builder::ChainBuilder;
pub use chain::Chain;
pub use invalidation::{RemovalReport, TagReport};
pub use lease::{LEASE_TTL, LEASE_WAIT, Lease, LeaseReport, Leased};
pub use outcome::{Lookup, LookupOptions, Outcome, PutOutcome, PutResult, Skip, TierPut, TierTrace};
pub use read::PromotionReport;
pub use read::explain::{Explanation, Held, TierExplanation};
pub use report::{Report, TierReport};
pub use single_flight::{Flight, SingleFlight};
pub use tier::{BreakerOptions, BreakerReport, LatencyReport, Mode, TierOptions};
pub use write::WritePolicy;
pub use write::journal::{Journal, JournalReport, JournalSeal, MAX_JOURNAL_SEAL_BYTES};
pub use write::queue::{DroppedReport, QueueReport, WriteBehind};

#[cfg(fuzzing)]
#[doc(hidden)]
pub use write::journal::fuzzing;
