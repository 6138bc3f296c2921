//! Real servers for tests, on free loopback ports, and a proxy that puts faults before one.
//!
//! - [`SeaweedFs`] is an S3 store that checks signatures.
//! - [`Moto`] is a second, independent implementation of S3 that follows the answers of AWS closely
//!   and checks no signature: a test of credentials says nothing there.
//! - [`Kubo`] is an IPFS node, alone or in a private swarm.
//! - [`StorachaService`] is the upload service of Storacha, in memory.
//! - [`FaultProxy`] stands before any of them, and logs every request.
//!
//! A server is ended by its process id when its value is dropped, also by a panic. Where its
//! program is missing, the test says so and is skipped; with `PEERCACHE_TEST_REQUIRE=all`, as in
//! CI, it fails.
//!
//! ```no_run
//! # async fn test() -> Result<(), peercache_testkit::servers::ServerError> {
//! use peercache_testkit::servers::{FaultProxy, Mode, SeaweedFs};
//!
//! let Some(server) = SeaweedFs::start().await? else { return Ok(()) };
//! let proxy = FaultProxy::start(server.address()).await?;
//! // ... a client of `proxy.endpoint()`, with `server.credentials()` and `server.bucket()` ...
//! proxy.set(Mode::Tarpit);
//! # Ok(())
//! # }
//! ```

mod error;
mod fault;
mod http;
mod kubo;
mod log;
mod moto;
mod part;
mod process;
mod redis;
mod seaweedfs;
mod slow;
mod storacha;

pub use error::ServerError;
pub use fault::{Answer, FaultProxy, Mode};
pub use kubo::{Kubo, KuboOptions};
pub use log::{Log, Seen};
pub use moto::Moto;
pub use redis::{RedisCluster, RedisSentinel, RedisServer};
pub use seaweedfs::SeaweedFs;
pub use storacha::StorachaService;

/// The bucket that every server starts with.
const BUCKET: &str = "peercache-test";

/// What a client of an S3 server signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The access key's id.
    pub id: &'static str,
    /// The access key's secret.
    pub secret: &'static str,
}
