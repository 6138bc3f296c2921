//! The Redis tier of peercache: one server of Redis or Valkey, a cluster, or Sentinel.
//!
//! [`Redis`] is a [`CacheBackend`](peercache_api::CacheBackend) with a
//! [`Fleet`](peercache_api::Fleet). `docs/how-to/redis.md` says how to set it up.
//!
//! ```no_run
//! # async fn example() -> Result<(), peercache_api::Error> {
//! use peercache_redis::Redis;
//!
//! let tier = Redis::builder("rediss://ci:PASSWORD@cache.example/0").prefix("team-ci").open()?;
//! println!("{} commands", tier.report().commands);
//! # Ok(())
//! # }
//! ```

mod backend;
mod fleet;
mod keys;
mod known_keys;
mod link;
mod report;
mod request_error;
mod server;
mod url;

pub use backend::{Redis, RedisBuilder};
pub use peercache_blob::Finding;
pub use report::RedisReport;
