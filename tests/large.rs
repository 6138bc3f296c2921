//! Values of any size: what is put in comes out, or is a miss; never a byte that was not put in.
#![cfg(feature = "memory")]
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

#[cfg(all(feature = "disk", feature = "s3", target_os = "linux"))]
#[path = "large/bucket.rs"]
mod bucket;
#[path = "large/damage.rs"]
mod damage;
#[path = "large/life.rs"]
mod life;
#[path = "large/loading.rs"]
mod loading;
#[cfg(all(feature = "disk", target_os = "linux"))]
#[path = "large/memory_use.rs"]
mod memory_use;
#[cfg(all(feature = "disk", feature = "seal", target_os = "linux"))]
#[path = "large/sealed_chaos.rs"]
mod sealed_chaos;
#[path = "large/sizes.rs"]
mod sizes;
#[path = "large/support.rs"]
mod support;
#[path = "large/writing.rs"]
mod writing;
