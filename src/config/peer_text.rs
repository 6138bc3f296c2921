//! Whether a text is what the peers' crate takes for an address or a name. A build without peers
//! does not know what an address is, and says elsewhere that it uses none.

#[cfg(feature = "libp2p")]
use peercache_libp2p::{PeerAddress, PeerName};

/// What is wrong with a text, and what would be right.
pub(super) struct Wrong {
    pub(super) problem: String,
    pub(super) remedy: String,
}

#[cfg(feature = "libp2p")]
pub(super) fn address(text: &str) -> Result<(), Wrong> {
    text.parse::<PeerAddress>().map(drop).map_err(|error| wrong(&error))
}

#[cfg(feature = "libp2p")]
pub(super) fn peer(text: &str) -> Result<(), Wrong> {
    text.parse::<PeerName>().map(drop).map_err(|error| wrong(&error))
}

#[cfg(feature = "libp2p")]
fn wrong(error: &peercache_api::Error) -> Wrong {
    let remedy = error.help().unwrap_or("see docs/reference/settings.md").to_owned();
    Wrong { problem: error.message().to_owned(), remedy }
}

#[cfg(not(feature = "libp2p"))]
#[allow(clippy::unnecessary_wraps, reason = "as with the feature")]
pub(super) fn address(_: &str) -> Result<(), Wrong> {
    Ok(())
}

#[cfg(not(feature = "libp2p"))]
#[allow(clippy::unnecessary_wraps, reason = "as with the feature")]
pub(super) fn peer(_: &str) -> Result<(), Wrong> {
    Ok(())
}
