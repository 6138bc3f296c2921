//! Connects to the other nodes again. A node that was restarted is connected to nobody, and Kubo's
//! own peering takes long to notice.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::sleep;

use super::shared::Shared;
use crate::report::add;
use crate::rpc::Trouble;

/// A node that was not heard for so long is connected to again.
const SILENT: Duration = Duration::from_secs(8);
/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// Connections that are made at once.
const AT_ONCE: usize = 8;

/// Connects to the nodes that are not heard any more, once in a while.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        sleep(SILENT).await;
        connect(&shared, SILENT).await;
    }
}

/// Asks our own node who it is.
pub(super) async fn learn_own_identity(shared: &Shared) -> Result<(), Trouble> {
    let identity = shared.store.node.identity().await?;
    shared.peers.set_own(identity.id, identity.addresses.unwrap_or_default());
    Ok(())
}

/// Where our own node is reached.
pub(super) async fn own_addresses(shared: &Shared) -> Result<Vec<String>, Trouble> {
    if let Some(addresses) = shared.peers.own_addresses() {
        return Ok(addresses);
    }
    learn_own_identity(shared).await?;
    Ok(shared.peers.own_addresses().unwrap_or_default())
}

/// Connects to every node that is known.
pub(super) async fn reconnect_all(shared: &Shared) {
    connect(shared, Duration::ZERO).await;
}

async fn connect(shared: &Shared, silent: Duration) {
    stream::iter(shared.peers.silent(silent))
        .for_each_concurrent(AT_ONCE, |address| async move {
            match shared.store.node.connect(&address, CONNECT).await {
                Ok(()) => add(&shared.counters.connected, 1),
                Err(trouble) => tracing::debug!(%trouble, "no connection to another IPFS node"),
            }
        })
        .await;
}
