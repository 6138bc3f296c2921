//! The Storacha tier of peercache: a space of a UCAN upload service, as a
//! [`CacheBackend`](peercache_api::CacheBackend).
//!
//! The hosted service of 2025 is closed. This speaks its protocol to a service that is hosted
//! elsewhere or by oneself; there is no default address. `docs/reference/storacha.md` describes
//! what is stored, what each operation costs, and who can see what.
//!
//! ```no_run
//! # fn example(token: &str) -> Result<(), peercache_api::Error> {
//! use peercache_storacha::{Storacha, Token};
//!
//! let space = Storacha::builder(Token::parse(token)?)
//!     .service("https://up.example.org", "did:web:up.example.org")
//!     .open()?;
//! println!("{:?}", space.report().counts);
//! # Ok(())
//! # }
//! ```

mod builder;
mod client;
mod compaction;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod hostile;
mod layout;
mod report;
mod request_error;
mod slots;
mod storacha;
mod store;
mod token;
mod ucan;

pub use builder::{Preset, StorachaBuilder};
pub use report::{StorachaCounts, StorachaReport};
pub use storacha::Storacha;
pub use token::{Grant, Token};
