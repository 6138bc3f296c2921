//! Removes what new writes have superseded, after they are acknowledged.
//!
//! A put is acknowledged once its last block is linked: readers take the greatest version, so what
//! is older does no harm for the moment that it stays. Removals are different: what was removed is
//! gone when the put returns.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::store::Store;

/// Keys that are cleaned at once.
const AT_ONCE: usize = 4;

/// Starts to empty the queue of a store; `None` without a runtime, where every put cleans for
/// itself.
pub(crate) fn start(store: &Arc<Store>) -> Option<AbortHandle> {
    let runtime = Handle::try_current().ok()?;
    store.cleaning.serve();
    Some(runtime.spawn(run(Arc::clone(store))).abort_handle())
}

/// Ends with the tier, which aborts it.
async fn run(store: Arc<Store>) {
    loop {
        let taken = store.cleaning.next(AT_ONCE).await;
        for cleaned in join_all(taken.iter().map(|place| store.clean(place))).await {
            if let Err(trouble) = cleaned {
                tracing::debug!(
                    %trouble,
                    "what a write has superseded could not be removed from the IPFS node; a sweep does it"
                );
            }
        }
        store.cleaning.cleaned();
    }
}
