//! The local tiers of peercache: [`Memory`], bounded in bytes, and [`Disk`], a directory that
//! survives the process and is shared by all processes of the machine.
//!
//! ```
//! # #[cfg(feature = "memory")]
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! use peercache_api::{CacheBackend, Clock, Entry, Key, NodeId, SystemClock, VersionClock};
//! use peercache_local::Memory;
//!
//! let memory = Memory::with_capacity(64 * 1024 * 1024);
//! let (key, now) = (Key::new("greeting")?, SystemClock::new().now());
//! let versions = VersionClock::new(NodeId::random());
//! let entry = Entry::builder("hello", versions.next(now), now)
//!     .fresh_for(std::time::Duration::from_secs(60))
//!     .build()?;
//! memory.put(&key, entry.clone()).await?;
//! assert_eq!(memory.get(&key).await?, Some(entry));
//! # Ok::<(), peercache_api::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "disk")]
mod disk;
#[cfg(feature = "memory")]
mod memory;

#[cfg(feature = "disk")]
pub use disk::{Disk, DiskBuilder, DiskPage, DiskPosition, DiskStats};
#[cfg(feature = "memory")]
pub use memory::{Memory, MemoryBuilder, MemoryStats};
