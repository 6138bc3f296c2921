//! Sealed entries: nobody without the secret can read, forge, move or stretch what a fleet stores,
//! wherever it stores it.
//!
//! - [`Sealed`] is a backend around any other one. Values are encrypted with XAES-256-GCM, a fresh
//!   key for each; keys are blinded with HMAC-SHA-256; each entry is signed with Ed25519.
//! - [`Secret`] is what a fleet shares, in a full form and in a read-only form for those who must
//!   not write, such as jobs of untrusted pull requests.
//! - [`Keyring`] holds a current secret and former ones, for rotation.
//! - [`LocalSeal`] seals bytes that stay on this machine, for those who may write.
//!
//! `docs/design/sealing.md` has the threat model and what is not protected,
//! `docs/reference/sealed-format.md` the bytes.
//!
//! ```
//! use std::time::Duration;
//! use peercache_api::{CacheBackend, Clock, Entry, ErrorKind, Key, NodeId};
//! use peercache_api::{SystemClock, VersionClock};
//! use peercache_local::Memory;
//! use peercache_seal::{Sealed, Secret};
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//!
//! let secret = Secret::generate()?;
//! let shared = std::sync::Arc::new(Memory::with_capacity(1 << 20));
//! let writer = Sealed::new(secret.clone(), shared.clone());
//! let reader = Sealed::new(secret.read_only(), shared.clone());
//!
//! let (key, now) = (Key::new("repos/acme/rocket")?, SystemClock::new().now());
//! let versions = VersionClock::new(NodeId::random()?);
//! let entry = Entry::builder("{}", versions.next(now), now);
//! let entry = entry.fresh_for(Duration::from_secs(60)).build()?;
//! writer.put(&key, entry.clone()).await?;
//!
//! assert_eq!(reader.get(&key).await?, Some(entry.clone()));
//! assert_eq!(reader.put(&key, entry).await.unwrap_err().kind(), ErrorKind::Denied);
//! assert_eq!(shared.get(&key).await?, None, "the store does not even know the key");
//! # Ok::<(), peercache_api::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod canary;
mod compress;
mod fleet;
mod format;
mod hex;
mod keyring;
mod keys;
mod local;
mod sealed;
mod secret;
mod stats;
mod unsealing;
mod xaes;

pub use canary::{CANARY_LIFETIME, Canary};
pub use format::MAX_OVERHEAD_BYTES;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use format::fuzzing;
pub use keyring::{Keyring, MAX_OLD_SECRETS};
pub use local::{LOCAL_SEAL_BYTES, LocalSeal};
pub use sealed::{Sealed, SealedBuilder};
pub use secret::{KeyId, MIN_PASSPHRASE_CHARS, MIN_PASSPHRASE_GUESSES_LOG10, Rights, Secret};
pub use stats::{Rejection, SealStats};
