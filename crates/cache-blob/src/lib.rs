//! The short way to write a cache backend: a store of named byte strings, and everything else done
//! once.
//!
//! Implement [`BlobStore`] for a bucket, a directory or a key-value server: read a blob, write a
//! blob, say what conditions a write can have. [`BlobBackend`] makes a
//! [`CacheBackend`](peercache_api::CacheBackend) of it: names, envelopes, newest-wins, expiry,
//! read-only detection, deadlines, closing and counters. `examples/custom_backend.rs` of the
//! `peercache` package is a whole backend in 40 lines.

mod backend;
mod layout;
mod object_cache;
mod report;
mod store;
#[cfg(test)]
mod tests;
mod write;

pub use backend::{BlobBackend, BlobBackendBuilder};
pub use report::{BlobReport, Finding};
pub use store::{Blob, BlobStore, BlobStoreInfo, Condition, Conditions, Naming, Newer, Revision, Written};
