//! One key, one entry: what goes in comes out.

use std::time::Duration;

use peercache_api::{Class, Entry, ErrorKind, MAX_VALUE_BYTES};

use super::context::{Context, Verdict, built, expect, noise, skip_unless};

pub(super) async fn description_is_sane_and_constant(cx: &Context) -> Verdict {
    let info = &cx.info;
    expect(!info.name.is_empty(), || "the backend has no name".to_owned())?;
    let most = info.capabilities.max_value_bytes;
    expect(most <= MAX_VALUE_BYTES, || {
        format!("it declares values up to {most} bytes, an entry has at most {MAX_VALUE_BYTES}")
    })?;
    cx.get(&cx.key("any")?).await?;
    expect(cx.backend.info() == info, || format!("it was {info:?} and became {:?}", cx.backend.info()))
}

pub(super) async fn probe_is_well(cx: &Context) -> Verdict {
    let probe = cx.backend.probe().await;
    expect(probe.is_ok(), || format!("the probe of a working store failed: {probe:?}"))
}

pub(super) async fn absent_key_is_none(cx: &Context) -> Verdict {
    cx.expect_none(&cx.key("absent")?, "a key that was never written").await
}

pub(super) async fn value_and_every_field_survive(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    let key = cx.key("full")?;
    let entry = built(
        cx.builder("{\"n\":1}", cx.version(), cx.now().saturating_sub(Duration::from_millis(1234)))
            .fresh_for(Duration::from_millis(60_001))
            .stale_for(Duration::from_millis(3_600_007))
            .content_type("application/json; charset=utf-8")
            .etag("W/\"0a1b\"")
            .last_modified("Mon, 23 Nov 2026 08:00:00 GMT")
            .tag("repo:acme/rocket")
            .tag("größe")
            .build(),
    )?;
    cx.put(&key, &entry).await?;
    cx.expect_entry(&key, &entry, "an entry with every field set").await?;
    cx.expect_entry(&key, &entry, "the same entry read again").await?;
    let key = cx.key("public")?;
    let entry = built(
        Entry::builder("{}", cx.version(), cx.now())
            .fresh_for(Duration::from_secs(60))
            .class(Class::Public)
            .build(),
    )?;
    cx.put(&key, &entry).await?;
    cx.expect_entry(&key, &entry, "an entry that everybody may read").await
}

pub(super) async fn empty_value_is_a_value(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    let key = cx.key("empty")?;
    let entry = cx.entry("")?;
    cx.put(&key, &entry).await?;
    cx.expect_entry(&key, &entry, "an empty value").await
}

pub(super) async fn binary_value_survives(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    for (name, value) in [
        ("every byte", (0..=255).collect::<Vec<u8>>()),
        ("zeros", vec![0; 300]),
        ("line ends", b"\r\n\n\r\0\x1a\r\n".to_vec()),
        ("not UTF-8", vec![0xff, 0xfe, 0xc0, 0x80, 0xf5]),
    ] {
        if value.len() > cx.capabilities().max_value_bytes {
            continue;
        }
        let key = cx.key(name)?;
        let entry = cx.entry(value)?;
        cx.put(&key, &entry).await?;
        cx.expect_entry(&key, &entry, name).await?;
    }
    Ok(())
}

pub(super) async fn every_size_up_to_the_limit(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    let most = cx.capabilities().max_value_bytes;
    let mut sizes =
        vec![0, 1, 1023, 1024, 4096, 65_535, 65_536, 65_537, 1 << 20, most.saturating_sub(1), most];
    sizes.retain(|size| *size <= most);
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes {
        let key = cx.key(&format!("size/{size}"))?;
        let entry = cx.entry(noise(size as u64, size))?;
        cx.put(&key, &entry).await?;
        cx.expect_entry(&key, &entry, &format!("a value of {size} bytes")).await?;
    }
    Ok(())
}

pub(super) async fn beyond_the_limit_is_too_large(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    let most = cx.capabilities().max_value_bytes;
    skip_unless(most < MAX_VALUE_BYTES, "the backend takes every value that an entry can have")?;
    let key = cx.key("beyond")?;
    let small = cx.entry("")?;
    cx.put(&key, &small).await?;
    let large = cx.entry(noise(1, most + 1))?;
    let refused = cx.backend.put(&key, large).await;
    expect(refused.as_ref().is_err_and(|error| error.kind() == ErrorKind::TooLarge), || {
        format!("one byte more than {most} should be refused as too large, but put said {refused:?}")
    })?;
    cx.expect_entry(&key, &small, "after a refused put").await
}

pub(super) async fn read_only_refuses_writes(cx: &Context) -> Verdict {
    skip_unless(!cx.capabilities().writable, "the backend is writable")?;
    let key = cx.key("refused")?;
    for entry in [cx.entry("v")?, Entry::tombstone(cx.version(), cx.now())] {
        let refused = cx.backend.put(&key, entry).await;
        expect(refused.as_ref().is_err_and(|error| error.kind() == ErrorKind::Denied), || {
            format!("a read-only backend should answer put with `denied`, it said {refused:?}")
        })?;
    }
    cx.expect_none(&key, "after a refused put").await
}

pub(super) async fn nothing_shows_the_key(cx: &Context) -> Verdict {
    let key = cx.key("acme/hidden-repository")?;
    if cx.capabilities().writable {
        cx.put(&key, &cx.entry("v")?).await?;
    }
    cx.get(&key).await?;
    let shown = format!("{:?}", cx.backend);
    expect(!shown.contains("hidden-repository"), || {
        "the Debug output of the backend shows a key in clear".to_owned()
    })
}
