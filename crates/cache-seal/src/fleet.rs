//! The fleet behind a sealed backend: leases on blinded keys, and removals told by their real
//! names.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use peercache_api::{
    CacheBackend, Error, ErrorKind, Fleet, Key, LeaseAnswer, LeaseRequest, LeaseToken, Operation,
    RemovalWatcher,
};

use crate::sealed::Sealed;
use crate::unsealing::Unsealing;

/// Leases are taken under the current secret: members that write with another one load for
/// themselves.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: CacheBackend> Fleet for Sealed<B> {
    /// # Errors
    /// Also of kind `Denied` with a read-only secret, which cannot make the value that ends a
    /// lease, and of kind `Corrupt` when what another member loaded does not verify.
    async fn lease(&self, key: &Key, request: LeaseRequest) -> Result<LeaseAnswer, Error> {
        let keys = &self.ring.current;
        let Some(fleet) = self.inner.fleet() else {
            return Err(self.error(ErrorKind::Unsupported, Operation::Lease, "the store coordinates nobody"));
        };
        if !keys.can_write() {
            return Err(self.error(
                ErrorKind::Denied,
                Operation::Lease,
                "this process has a secret that cannot make entries: nobody can wait for what it loads",
            ));
        }
        let place = keys.place(key)?;
        match fleet.lease(&place.key, request).await? {
            LeaseAnswer::Granted(token) => Ok(LeaseAnswer::Granted(token)),
            LeaseAnswer::Found(outer) => match self.open(keys, key, place, outer).await? {
                Some(entry) => Ok(LeaseAnswer::Found(entry)),
                None => Err(self.error(
                    ErrorKind::Corrupt,
                    Operation::Lease,
                    "this process has no secret that opens what another member loaded",
                )),
            },
        }
    }

    fn release(&self, key: &Key, token: LeaseToken) {
        if let (Some(fleet), Ok(place)) = (self.inner.fleet(), self.ring.current.place(key)) {
            fleet.release(&place.key, token);
        }
    }

    fn watch(&self, watcher: Weak<dyn RemovalWatcher>) {
        let Some(fleet) = self.inner.fleet() else { return };
        let unsealing = Arc::new(Unsealing {
            ring: self.ring.all().cloned().collect(),
            clock: Arc::clone(&self.clock),
            counters: Arc::clone(&self.counters),
            watcher,
        });
        let weak: Weak<dyn RemovalWatcher> =
            Arc::downgrade(&(Arc::clone(&unsealing) as Arc<dyn RemovalWatcher>));
        self.keep_watcher(unsealing);
        fleet.watch(weak);
    }
}
