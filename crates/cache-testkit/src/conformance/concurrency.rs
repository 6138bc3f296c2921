//! Many callers at once, and callers that go away.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use peercache_api::{CacheBackend, Entry, Key, Version};
use tokio::task::JoinSet;

use super::context::{Context, Stop, Verdict, expect, noise};

const WRITERS: u32 = 16;
const READERS: usize = 4;

/// A value that belongs to `version` and no other, of a length that depends on it too.
fn value_of(cx: &Context, version: Version) -> Vec<u8> {
    let most = cx.capabilities().max_value_bytes;
    let seed = version.wall.as_millis() ^ u64::from(version.counter).rotate_left(40);
    noise(seed, (2000 + 997 * (version.counter as usize % 100)).min(most))
}

fn entry_of(cx: &Context, version: Version) -> Verdict<Entry> {
    cx.entry_at(value_of(cx, version), version)
}

fn expect_whole(cx: &Context, entry: &Entry) -> Verdict {
    expect(entry.value()[..] == value_of(cx, entry.version())[..], || {
        format!("the value of {entry:?} is not the one that was put with this version")
    })
}

/// Starts one put per entry, in an order in which the greatest version is neither first nor last.
fn write_all(backend: &Arc<dyn CacheBackend>, key: &Key, mut entries: Vec<Entry>) -> JoinSet<Verdict> {
    let third = entries.len() / 3;
    entries.rotate_left(third);
    let mut writers = JoinSet::new();
    for entry in entries {
        let (backend, key) = (Arc::clone(backend), key.clone());
        writers.spawn(async move {
            tokio::task::yield_now().await;
            let shown = format!("{entry:?}");
            backend
                .put(&key, entry)
                .await
                .map_err(|error| Stop::Fail(format!("a concurrent put of {shown} was refused: {error}")))
        });
    }
    writers
}

async fn all(mut tasks: JoinSet<Verdict>) -> Verdict {
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| Stop::Fail(format!("a concurrent call broke: {error}")))??;
    }
    Ok(())
}

pub(super) async fn concurrent_writers_leave_the_greatest_version(cx: &Context) -> Verdict {
    cx.needs_ordered_writes()?;
    for round in 0..8 {
        let key = cx.key(&format!("round/{round}"))?;
        let entries = (0..WRITERS).map(|_| entry_of(cx, cx.version())).collect::<Verdict<Vec<_>>>()?;
        let greatest = entries.iter().max_by_key(|entry| entry.version()).cloned();
        all(write_all(&cx.backend, &key, entries)).await?;
        let found = cx.get(&key).await?;
        if let Some(found) = &found {
            expect_whole(cx, found)?;
        }
        expect(found == greatest, || {
            format!("after {WRITERS} concurrent puts: expected {greatest:?}, found {found:?}")
        })?;
    }
    Ok(())
}

pub(super) async fn concurrent_writers_on_many_keys(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    let mut writers = JoinSet::new();
    let mut written = Vec::new();
    for n in 0..WRITERS * 4 {
        let key = cx.key(&format!("n/{n}"))?;
        let entry = entry_of(cx, cx.version())?;
        written.push((key.clone(), entry.clone()));
        let backend = Arc::clone(&cx.backend);
        writers.spawn(async move {
            backend
                .put(&key, entry)
                .await
                .map_err(|error| Stop::Fail(format!("a concurrent put was refused: {error}")))
        });
    }
    all(writers).await?;
    for (key, entry) in &written {
        cx.expect_entry(key, entry, "one of many keys that were written at once").await?;
    }
    Ok(())
}

pub(super) async fn readers_see_only_whole_values(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    let key = cx.key("k")?;
    cx.put(&key, &entry_of(cx, cx.version())?).await?;
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (backend, key, done) = (Arc::clone(&cx.backend), key.clone(), Arc::clone(&done));
        readers.spawn(async move {
            let mut seen = Vec::new();
            loop {
                // Looked at before the read, so each reader reads at least once after the last
                // write.
                let last = done.load(Ordering::SeqCst);
                match backend.get(&key).await {
                    Ok(Some(entry)) if seen.last() != Some(&entry) => seen.push(entry),
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        return Err(Stop::Fail("an entry vanished while it was being replaced".to_owned()));
                    }
                    Err(error) => {
                        return Err(Stop::Fail(format!("a get during concurrent puts failed: {error}")));
                    }
                }
                if last {
                    return Ok(seen);
                }
                tokio::task::yield_now().await;
            }
        });
    }
    for _ in 0..4 {
        let entries = (0..WRITERS).map(|_| entry_of(cx, cx.version())).collect::<Verdict<Vec<_>>>()?;
        all(write_all(&cx.backend, &key, entries)).await?;
    }
    done.store(true, Ordering::SeqCst);
    while let Some(ended) = readers.join_next().await {
        let seen = ended.map_err(|error| Stop::Fail(format!("a reader broke: {error}")))??;
        for entry in seen {
            expect_whole(cx, &entry)?;
        }
    }
    Ok(())
}

/// Polls `future` at most `polls` times and drops it.
async fn start_and_drop<F: Future>(future: F, polls: usize) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let ready = std::future::poll_fn(|task| Poll::Ready(future.as_mut().poll(task).is_ready())).await;
        if ready {
            return;
        }
        tokio::task::yield_now().await;
    }
}

pub(super) async fn cancelled_put_is_whole_or_absent(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    for polls in 0..6 {
        let key = cx.key(&format!("polls/{polls}"))?;
        let old = entry_of(cx, cx.version())?;
        let new = entry_of(cx, cx.version())?;
        cx.put(&key, &old).await?;
        start_and_drop(cx.backend.put(&key, new.clone()), polls).await;
        // What was begun may still end in the background, so look more than once.
        for _ in 0..10 {
            let found = cx.get(&key).await?;
            expect(found.as_ref() == Some(&old) || found.as_ref() == Some(&new), || {
                format!(
                    "a put dropped after {polls} polls must leave the old or the new entry whole, found {found:?}"
                )
            })?;
            tokio::task::yield_now().await;
        }
        if cx.capabilities().ordered_writes {
            let last = entry_of(cx, cx.version())?;
            cx.put(&key, &last).await?;
            cx.expect_entry(&key, &last, "a put after one that was cancelled").await?;
        }
    }
    Ok(())
}
