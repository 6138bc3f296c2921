//! Several writes of one key: the newest wins, whatever the order in which they arrive.

use std::time::Duration;

use peercache_api::{Entry, MAX_CLOCK_SKEW, NodeId, Version};

use super::context::{Context, Verdict, expect};

pub(super) async fn newer_version_overwrites(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    let key = cx.key("k")?;
    for value in ["a long first value", "", "second", "third, with a longer value than all before"] {
        let entry = cx.entry(value)?;
        cx.put(&key, &entry).await?;
        cx.expect_entry(&key, &entry, "after a newer put").await?;
    }
    Ok(())
}

pub(super) async fn older_version_loses(cx: &Context) -> Verdict {
    cx.needs_ordered_writes()?;
    let key = cx.key("k")?;
    let (older, newer) = (cx.entry("older")?, cx.entry("newer")?);
    cx.put(&key, &newer).await?;
    cx.put(&key, &older).await?;
    cx.expect_entry(&key, &newer, "after an older put, which succeeds and changes nothing").await
}

pub(super) async fn counter_and_node_break_ties(cx: &Context) -> Verdict {
    cx.needs_ordered_writes()?;
    let wall = cx.now();
    let version = |counter, node| Version { wall, counter, node: NodeId::from_u64(node) };
    // Numbers whose order differs between signed and unsigned comparison, and between byte orders.
    let ascending = [
        version(0, 1),
        version(0, 256),
        version(0, u64::MAX),
        version(1, 0),
        version(255, 3),
        version(256, 2),
        version(u32::MAX, 0),
        version(u32::MAX, u64::MAX),
    ];
    for (index, pair) in ascending.windows(2).enumerate() {
        for (order, [first, second]) in [("up", [pair[0], pair[1]]), ("down", [pair[1], pair[0]])] {
            let key = cx.key(&format!("{order}/{index}"))?;
            cx.put(&key, &cx.entry_at(format!("{first:?}"), first)?).await?;
            cx.put(&key, &cx.entry_at(format!("{second:?}"), second)?).await?;
            let winner = cx.entry_at(format!("{:?}", pair[1]), pair[1])?;
            let found = cx.get(&key).await?;
            expect(found.as_ref().map(Entry::version) == Some(winner.version()), || {
                format!("{first:?} then {second:?}: expected the greater version, found {found:?}")
            })?;
        }
    }
    Ok(())
}

pub(super) async fn same_version_twice_changes_nothing(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    let key = cx.key("k")?;
    let entry = cx.entry("once")?;
    cx.put(&key, &entry).await?;
    cx.put(&key, &entry).await?;
    cx.expect_entry(&key, &entry, "after the same put twice").await
}

pub(super) async fn entry_from_the_future_never_wins(cx: &Context) -> Verdict {
    cx.needs_ordered_writes()?;
    let ahead = cx.now().saturating_add(MAX_CLOCK_SKEW + Duration::from_secs(3600));
    let future = cx.entry_at("future", Version { wall: ahead, ..cx.version() })?;
    let honest = cx.entry("honest")?;

    let key = cx.key("honest first")?;
    cx.put(&key, &honest).await?;
    cx.put(&key, &future).await?;
    cx.expect_entry(&key, &honest, "an entry from the future must not replace an honest one").await?;

    let key = cx.key("future first")?;
    cx.put(&key, &future).await?;
    let found = cx.get(&key).await?;
    expect(found.is_none() || found.as_ref() == Some(&future), || {
        format!("expected the entry from the future or nothing, found {found:?}")
    })?;
    cx.put(&key, &honest).await?;
    cx.expect_entry(&key, &honest, "an honest entry must replace one from the future").await
}

pub(super) async fn tombstone_hides_and_newer_put_revives(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    let key = cx.key("k")?;
    cx.put(&key, &cx.entry("alive")?).await?;
    let tombstone = Entry::tombstone(cx.version(), cx.now());
    cx.put(&key, &tombstone).await?;
    cx.expect_entry(&key, &tombstone, "after a removal, get returns the tombstone").await?;
    let revived = cx.entry("revived")?;
    cx.put(&key, &revived).await?;
    cx.expect_entry(&key, &revived, "a put that is newer than the tombstone").await
}

pub(super) async fn tombstone_stops_older_puts(cx: &Context) -> Verdict {
    cx.needs_ordered_writes()?;
    let key = cx.key("k")?;
    let dead = cx.entry("dead")?;
    let late = cx.entry("written before the removal, arrives after it")?;
    let tombstone = Entry::tombstone(cx.version(), cx.now());
    cx.put(&key, &dead).await?;
    cx.put(&key, &tombstone).await?;
    cx.put(&key, &late).await?;
    cx.expect_entry(&key, &tombstone, "a late older put must not raise the dead").await?;
    cx.put(&key, &dead).await?;
    cx.expect_entry(&key, &tombstone, "nor the very entry that was removed").await
}

pub(super) async fn tombstone_on_an_absent_key(cx: &Context) -> Verdict {
    cx.needs_ordered_writes()?;
    let key = cx.key("k")?;
    let never_seen = cx.entry("another machine's")?;
    let tombstone = Entry::tombstone(cx.version(), cx.now());
    cx.put(&key, &tombstone).await?;
    cx.expect_entry(&key, &tombstone, "a tombstone where nothing was").await?;
    cx.put(&key, &never_seen).await?;
    cx.expect_entry(&key, &tombstone, "what it buries arrives only afterwards").await
}
