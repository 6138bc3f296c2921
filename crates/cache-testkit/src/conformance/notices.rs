//! Notices of removals, where the backend coordinates a fleet and the harness opens several
//! members.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use peercache_api::{CacheBackend, Entry, Key, RemovalWatcher, Version};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::context::{Context, Stop, Verdict, expect, skip_unless};

/// How long one notice is waited for before another removal is made: members find each other
/// meanwhile.
const NOTICE: Duration = Duration::from_millis(500);
/// How many removals are made in the end.
const ATTEMPTS: usize = 20;

/// Keeps the versions of the removals of one key that it was told of. Members hear of every
/// key of their fleet, and a notice of an earlier case may still be on its way.
#[derive(Debug)]
struct Watcher {
    key: [u8; 32],
    told: Mutex<VecDeque<(Version, bool)>>,
    changed: Notify,
}

impl RemovalWatcher for Watcher {
    fn removed(&self, key: &[u8; 32], tombstone: &Entry) {
        if *key != self.key {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.push_back((tombstone.version(), tombstone.is_tombstone()));
        drop(told);
        self.changed.notify_one();
    }
}

impl Watcher {
    fn of(backend: &dyn CacheBackend, key: &Key) -> Verdict<Arc<Self>> {
        let watcher =
            Arc::new(Self { key: *key.digest(), told: Mutex::new(VecDeque::new()), changed: Notify::new() });
        let weak: Weak<dyn RemovalWatcher> =
            Arc::downgrade(&(Arc::clone(&watcher) as Arc<dyn RemovalWatcher>));
        match backend.fleet() {
            Some(fleet) => fleet.watch(weak),
            None => return Err(Stop::Fail("the fleet was there before and is not any more".to_owned())),
        }
        Ok(watcher)
    }

    async fn next(&self) -> Option<(Version, bool)> {
        let next = async {
            loop {
                let changed = self.changed.notified();
                let first = self.told.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                match first {
                    Some(first) => return first,
                    None => changed.await,
                }
            }
        };
        timeout(NOTICE, next).await.ok()
    }
}

pub(super) async fn removal_reaches_the_other_members(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    skip_unless(cx.backend.fleet().is_some(), "the backend coordinates no fleet")?;
    let other = cx.another_member().await?;
    let key = cx.key("k")?;
    let (own, others) = (Watcher::of(&*cx.backend, &key)?, Watcher::of(&*other, &key)?);
    cx.put(&key, &cx.entry("v")?).await?;
    let mut made = Vec::new();
    let mut told = None;
    for _ in 0..ATTEMPTS {
        // Notices are best effort, and members may not have found each other yet.
        let version = cx.version();
        made.push(version);
        cx.put(&key, &Entry::tombstone(version, cx.now())).await?;
        told = others.next().await;
        if told.is_some() {
            break;
        }
    }
    let Some((version, tombstone)) = told else {
        return Err(Stop::Fail(format!("{ATTEMPTS} removals, and another member was told of none")));
    };
    expect(tombstone && made.contains(&version), || {
        format!("the other member was told of {version:?}, which is none of the removals {made:?}")
    })?;
    let back = own.told.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    expect(back.is_none(), || format!("a member was told of its own removal {back:?}"))?;
    let closed = other.close().await;
    expect(closed.is_ok(), || format!("closing the other member failed: {closed:?}"))
}
