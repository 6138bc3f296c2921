//! Loaders that load: a circle of keys that wait for each other is found before it is waited for.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peercache_api::Key;

tokio::task_local! {
    /// The keys whose loaders this task is inside of, innermost first.
    static LOADING: Arc<Stack>;
}

/// A loader that runs, and the one that it runs in.
#[derive(Debug)]
struct Stack {
    /// Which cache; keys of others are not concerned.
    cache: usize,
    key: Key,
    outer: Option<Arc<Stack>>,
}

/// Which keys the loaders of a cache wait for: an edge for each caller that runs inside of a
/// loader. Bounded by the callers that there are.
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<Vec<(Key, Key)>>);

/// Ends a wait.
#[derive(Debug)]
pub(super) struct Waiting {
    waits: Arc<Waits>,
    edge: (Key, Key),
}

/// Waiting for that key would never end.
#[derive(Debug)]
pub(super) struct Circle;

impl Waits {
    /// Says that the loader which this task is inside of, if it is inside of one, is going to wait
    /// for `key`. Loaders are followed within a task, and through other tasks that wait for them in
    /// this cache; a task that a loader spawned is not known to belong to it.
    ///
    /// # Errors
    /// [`Circle`] when `key` waits for this loader, directly or through others.
    pub(super) fn enter(self: &Arc<Self>, key: &Key) -> Result<Option<Waiting>, Circle> {
        let Some(own) = self.own() else { return Ok(None) };
        if own.contains(key) {
            return Err(Circle);
        }
        let Some(innermost) = self.innermost() else { return Ok(None) };
        let mut edges = self.lock();
        let mut reached = HashSet::from([key.clone()]);
        let mut open = vec![key.clone()];
        while let Some(from) = open.pop() {
            for (_, to) in edges.iter().filter(|(waits, _)| *waits == from) {
                if own.contains(to) {
                    return Err(Circle);
                }
                if reached.insert(to.clone()) {
                    open.push(to.clone());
                }
            }
        }
        let edge = (innermost, key.clone());
        edges.push(edge.clone());
        drop(edges);
        Ok(Some(Waiting { waits: Arc::clone(self), edge }))
    }

    /// `load`, known as the loader of `key` while it runs.
    pub(super) async fn inside<T>(self: &Arc<Self>, key: &Key, load: impl Future<Output = T>) -> T {
        let outer = LOADING.try_with(Arc::clone).ok();
        let stack = Stack { cache: self.id(), key: key.clone(), outer };
        LOADING.scope(Arc::new(stack), load).await
    }

    /// The keys of this cache that this task is loading; `None` when it loads nothing.
    fn own(self: &Arc<Self>) -> Option<HashSet<Key>> {
        LOADING
            .try_with(|stack| {
                let mut keys = HashSet::new();
                let mut next = Some(stack);
                while let Some(loading) = next {
                    if loading.cache == self.id() {
                        keys.insert(loading.key.clone());
                    }
                    next = loading.outer.as_ref();
                }
                keys
            })
            .ok()
    }

    fn innermost(self: &Arc<Self>) -> Option<Key> {
        LOADING
            .try_with(|stack| {
                let mut next = Some(stack);
                while let Some(loading) = next {
                    if loading.cache == self.id() {
                        return Some(loading.key.clone());
                    }
                    next = loading.outer.as_ref();
                }
                None
            })
            .ok()
            .flatten()
    }

    /// Tells caches apart for as long as they live.
    fn id(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Key, Key)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut edges = self.waits.lock();
        if let Some(at) = edges.iter().position(|edge| *edge == self.edge) {
            edges.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new(name).unwrap()
    }

    #[tokio::test]
    async fn a_loader_that_waits_for_its_own_key_is_a_circle() {
        let waits = Arc::new(Waits::default());
        assert!(waits.enter(&key("a")).unwrap().is_none(), "outside of a loader nothing is noted");
        waits
            .inside(&key("a"), async {
                assert!(waits.enter(&key("a")).is_err());
                let inner = waits.enter(&key("b")).unwrap();
                assert!(inner.is_some());
                waits.inside(&key("b"), async { assert!(waits.enter(&key("a")).is_err()) }).await;
                let other = Arc::new(Waits::default());
                assert!(other.enter(&key("a")).unwrap().is_none(), "another cache has other keys");
                drop(inner);
                assert!(waits.lock().is_empty());
            })
            .await;
    }

    #[tokio::test]
    async fn two_loaders_that_wait_for_each_other_are_a_circle() {
        let waits = Arc::new(Waits::default());
        let first = waits.inside(&key("a"), async { waits.enter(&key("b")) }).await.unwrap();
        let middle = waits.inside(&key("b"), async { waits.enter(&key("c")) }).await.unwrap();
        assert!(waits.inside(&key("c"), async { waits.enter(&key("a")) }).await.is_err());
        drop((first, middle));
        assert!(waits.inside(&key("c"), async { waits.enter(&key("a")) }).await.is_ok());
    }
}
