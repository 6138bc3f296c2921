//! The S3 tier of peercache: a bucket of AWS, or of any store that speaks the protocol, shared by a
//! fleet.
//!
//! [`S3`] is a [`CacheBackend`](peercache_api::CacheBackend). `docs/reference/s3.md` describes the
//! objects, how the newest write wins, what each operation costs, and the permissions that it
//! needs.
//!
//! ```no_run
//! # async fn example() -> Result<(), peercache_api::Error> {
//! use peercache_s3::S3;
//!
//! // Region and credentials as the AWS SDK finds them: environment, profile, role.
//! let bucket = S3::builder("team-cache").prefix("ci").open().await?;
//!
//! // A store of your own.
//! let own = S3::builder("team-cache")
//!     .endpoint("https://s3.example.net")
//!     .access_key("KEY", "SECRET", None)
//!     .open()
//!     .await?;
//! println!("{:?}", own.report().requests);
//! # drop(bucket);
//! # Ok(())
//! # }
//! ```

mod bucket;
mod builder;
mod connect;
mod credentials;
#[cfg(test)]
mod fake;
mod lifecycle;
mod report;
mod request_error;
mod s3;
#[cfg(test)]
mod tests;
mod throttle;

pub use builder::S3Builder;
pub use lifecycle::{LifecycleDays, LifecycleFilter, LifecycleRule};
pub use peercache_blob::Finding;
pub use report::{Requests, S3Report};
pub use s3::S3;
