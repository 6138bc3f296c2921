//! Closing, and what is still there after opening again.

use peercache_api::{CacheBackend, Entry, Error, ErrorKind};

use super::context::{Context, Stop, Verdict, expect, noise, skip_unless};

fn refused<T: std::fmt::Debug>(answer: &Result<T, Error>, what: &str) -> Verdict {
    expect(answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable), || {
        format!("{what} after close should be refused as unavailable, it said {answer:?}")
    })
}

async fn expect_closed(backend: &dyn CacheBackend, cx: &Context) -> Verdict {
    let key = cx.key("k")?;
    refused(&backend.get(&key).await, "get")?;
    if cx.capabilities().writable {
        refused(&backend.put(&key, cx.entry("late")?).await, "put")?;
    }
    refused(&backend.probe().await, "probe")
}

pub(super) async fn close_twice_then_refuse(cx: &Context) -> Verdict {
    if cx.capabilities().writable {
        cx.put(&cx.key("k")?, &cx.entry("v")?).await?;
    }
    for time in ["first", "second"] {
        let closed = cx.backend.close().await;
        expect(closed.is_ok(), || format!("the {time} close failed: {closed:?}"))?;
        expect_closed(&*cx.backend, cx).await?;
    }
    Ok(())
}

pub(super) async fn acknowledged_entries_survive_reopening(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    skip_unless(cx.capabilities().durable, "the backend forgets when its process ends")?;
    let most = cx.capabilities().max_value_bytes;
    let mut written = Vec::new();
    for size in [0, 1, 5000, 100_000, 1_000_000] {
        let key = cx.key(&format!("size/{size}"))?;
        let entry = cx.entry(noise(size as u64, size.min(most)))?;
        cx.put(&key, &entry).await?;
        written.push((key, entry));
    }
    let buried = cx.key("buried")?;
    cx.put(&buried, &cx.entry("alive")?).await?;
    let tombstone = Entry::tombstone(cx.version(), cx.now());
    cx.put(&buried, &tombstone).await?;
    written.push((buried, tombstone));

    let again = cx.reopen().await?;
    for (index, (key, entry)) in written.iter().enumerate() {
        let found = again.get(key).await;
        expect(found.as_ref().is_ok_and(|found| found.as_ref() == Some(entry)), || {
            format!("entry {index} after reopening: expected {entry:?}, found {found:?}")
        })?;
    }
    again.close().await.map_err(|error| Stop::Fail(format!("closing the reopened store failed: {error}")))
}
