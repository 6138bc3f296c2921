//! How the dials of an address that was given, or found, went.

use serde::Serialize;

/// One address that is dialled until somebody is connected there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BootstrapReport {
    /// As it was given, or found.
    pub address: String,
    /// Whether multicast DNS found it, and nobody gave it.
    pub found: bool,
    /// Whether who was found there is connected.
    pub connected: bool,
    /// Why the last try failed: nobody answered, or the one that did and this node refused one
    /// another. In words, without secrets. `None` while it is connected or was not tried yet.
    pub trouble: Option<String>,
}
