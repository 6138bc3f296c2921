//! Fresh, stale, expired: what is still returned and what is not.

use std::time::Duration;

use peercache_api::{Entry, Version};

use super::context::{Context, Stop, Verdict, built, expect, skip_unless};
use super::harness::Time;

const FRESH: Duration = Duration::from_secs(60);
const STALE: Duration = Duration::from_secs(60);

/// An entry that was created `ago` and is fresh, then stale, for a minute each.
fn aged(cx: &Context, value: &'static str, version: Version, ago: Duration) -> Verdict<Entry> {
    let created = cx.now().saturating_sub(ago);
    built(cx.builder(value, version, created).fresh_for(FRESH).stale_for(STALE).build())
}

fn needs_expiry(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    skip_unless(cx.capabilities().native_expiry, "the backend leaves expiry to its caller")
}

pub(super) async fn stale_entry_is_returned(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    let key = cx.key("k")?;
    let entry = aged(cx, "stale", cx.version(), FRESH + Duration::from_secs(5))?;
    cx.put(&key, &entry).await?;
    cx.expect_entry(&key, &entry, "a stale entry, which is the caller's to judge").await
}

pub(super) async fn entry_born_expired_is_not_returned(cx: &Context) -> Verdict {
    needs_expiry(cx)?;
    let key = cx.key("k")?;
    let entry = aged(cx, "expired", cx.version(), FRESH + STALE + Duration::from_secs(1))?;
    cx.put(&key, &entry).await?;
    cx.expect_none(&key, "an entry that was created long ago and has expired").await
}

pub(super) async fn expired_newer_write_still_wins(cx: &Context) -> Verdict {
    needs_expiry(cx)?;
    cx.needs_ordered_writes()?;
    let key = cx.key("k")?;
    cx.put(&key, &cx.entry("older, alive")?).await?;
    cx.put(&key, &aged(cx, "newer, expired", cx.version(), FRESH + STALE)?).await?;
    cx.expect_none(&key, "a newer write that has expired hides an older one that has not").await
}

pub(super) async fn entry_expires_as_time_passes(cx: &Context) -> Verdict {
    needs_expiry(cx)?;
    let Time::Manual(clock) = &cx.time else {
        return Err(Stop::Skip("time must pass, and the clock is not a ManualClock".to_owned()));
    };
    let key = cx.key("k")?;
    let entry = aged(cx, "mortal", cx.version(), Duration::ZERO)?;
    cx.put(&key, &entry).await?;
    cx.expect_entry(&key, &entry, "while fresh").await?;
    clock.advance(FRESH);
    cx.expect_entry(&key, &entry, "once stale").await?;
    clock.advance(STALE.saturating_sub(Duration::from_millis(1)));
    cx.expect_entry(&key, &entry, "a millisecond before it expires").await?;
    clock.advance(Duration::from_millis(1));
    cx.expect_none(&key, "once expired").await?;
    cx.expect_none(&key, "still expired").await
}

pub(super) async fn expired_entry_can_be_replaced(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    let key = cx.key("k")?;
    cx.put(&key, &aged(cx, "expired", cx.version(), FRESH + STALE)?).await?;
    cx.get(&key).await?;
    let entry = cx.entry("alive")?;
    cx.put(&key, &entry).await?;
    let found = cx.get(&key).await?;
    expect(found.as_ref() == Some(&entry), || {
        format!("a newer put over an expired entry: expected {entry:?}, found {found:?}")
    })
}
