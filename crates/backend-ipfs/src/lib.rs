//! The IPFS tier of peercache: one Kubo node's own files, shared by many runners, and several nodes
//! that share with each other.
//!
//! [`Ipfs`] is a [`CacheBackend`](peercache_api::CacheBackend) over the RPC of a node.
//! `docs/reference/ipfs.md` describes the files, how the newest write wins, what each operation
//! costs, and who can see what.
//!
//! ```no_run
//! # async fn example() -> Result<(), peercache_api::Error> {
//! use peercache_ipfs::Ipfs;
//!
//! let node = Ipfs::builder("/ip4/127.0.0.1/tcp/5001").prefix("team").allow_private(true).open()?;
//! println!("{:?}", node.report().counts);
//! # Ok(())
//! # }
//! ```
//!
//! # Design notes
//!
//! Two clients can send the calls; both sit behind one private trait, in one module.
//! `ipfs-api-backend-hyper` opens a connection for each call, knows neither https nor
//! `Authorization`, and cannot see the trailer in which Kubo reports an error after it has answered
//! 200. So the default is `ipfs-api-prelude`, the same project's description of the RPC, over
//! `reqwest`, which does all four and is faster (`cargo xtask bench ipfs` prints both).
//! [`IpfsClientKind::PerCall`] chooses the other one.

mod builder;
mod cleaner;
mod endpoint;
mod eviction;
mod ipfs;
mod layout;
mod report;
mod rpc;
mod store;
mod superseded_keys;
mod sync;

pub use builder::{IpfsBuilder, IpfsClientKind};
pub use eviction::Swept;
pub use ipfs::{Collected, Ipfs};
pub use report::{IpfsCounts, IpfsReport, SyncCounts};
